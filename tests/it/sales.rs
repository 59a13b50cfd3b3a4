//! Looking things up: sales, products, stock, locations.

use crate::support::api::{Api, Reply};
use crate::support::eventually;
use crate::support::process::Blend;
use crate::support::shop::{OTHER, PLAIN, SERVICE, Shop, WEIGHED, catalogue};
use crate::support::tills::Tills;
use blend::http::Role;
use serde_json::json;
use std::path::Path;
use uuid::Uuid;

#[tokio::test]
async fn d30_a_sale_is_found_the_moment_it_was_answered() {
    let shop = Shop::open().await;
    let mut ids = Vec::new();
    for _ in 0..200 {
        let id = shop.sell(&[(PLAIN, "1"), (SERVICE, "1")]).await.sale();
        let sale = shop.till.get(&format!("/api/v1/ventas/{id}")).await;
        assert_eq!((sale.status, &sale.json["id"]), (200, &json!(id)));
        let state = sale.json["estado"].as_str().unwrap();
        assert!(["procesando", "registrada"].contains(&state), "{state}");
        ids.push(id);
    }
    for id in ids {
        eventually("the sale is booked", async || {
            let sale = shop.till.get(&format!("/api/v1/ventas/{id}")).await;
            assert_eq!(sale.status, 200);
            (sale.json["estado"] == "registrada").then_some(())
        })
        .await;
    }
    assert_eq!(shop.close().await.sales.len(), 200);
}

/// On a disk in memory the ledger is often done with a sale before the till has its answer.
#[tokio::test]
async fn every_sale_is_said_to_be_booked_however_fast_the_ledger_is() {
    let memory = Path::new("/dev/shm");
    let disk = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let shop = Shop::open_on(Blend::on(&disk.path().join("data")), &catalogue(1_000_000), &[]).await;
    let tills = Tills::default();
    tokio::join!(tills.sell(&shop, 16), async {
        tills.sold_more(1_500).await;
        tills.stop();
    });
    shop.settled().await;
    tills.assert_found(&shop).await;
    let actors = shop.till.get("/ops/actors").await;
    let waiting = |actor: &serde_json::Value| actor["observed"]["waiting_for_ledger"].as_u64();
    let waiting: Vec<_> = actors.json["actors"].as_array().unwrap().iter().filter_map(waiting).collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|sales| *sales == 0), "{waiting:?}");
    tills.assert_exact(&shop.close().await, 1_000_000);
}

#[tokio::test]
async fn a_sale_is_shown_as_it_was_sold() {
    let shop = Shop::open().await;
    let sold = shop.sell(&[(WEIGHED, "0.333"), (PLAIN, "2")]).await;
    let path = format!("/api/v1/ventas/{}", sold.sale());
    let check = |sale: &Reply| {
        assert_eq!(
            (sale.raw("total"), sale.json["metodo_pago"].as_str()),
            ("533.02".into(), Some("efectivo"))
        );
        assert_eq!(
            (&sale.json["fecha"], &sale.json["tienda_id"]),
            (&sold.json["fecha"], &json!(shop.tenant))
        );
        assert_eq!(sale.json["detalles"].as_array().unwrap().len(), 2);
        let line = |field: &str| sale.raw(&format!("detalles.0.{field}"));
        assert_eq!((line("id"), line("producto_sku")), ("1".into(), "\"P41\"".into()));
        assert_eq!(
            (line("producto_nombre"), line("cantidad")),
            ("\"Producto 41, grande\"".into(), "0.333".into())
        );
        assert_eq!((line("precio_unitario"), line("subtotal")), ("999.99".into(), "333.00".into()));
        assert_eq!(sale.raw("detalles.1.subtotal"), "200.02");
    };
    check(&shop.till.get(&path).await);
    shop.settled().await;
    // Now from the ledger, and after the price has changed.
    let dearer = catalogue(1_000).replace(",999.99,", ",1999.99,");
    shop.blend.import(shop.tenant, dearer, &[]).await.done();
    check(&shop.till.get(&path).await);
    shop.close().await;
}

#[tokio::test]
async fn a_sale_is_voided_once_by_whoever_may_and_its_units_come_back() {
    let mut shop = Shop::open().await;
    let neighbour = shop.neighbour().await;
    let mut sales = Vec::new();
    for key in ["a", "b"] {
        let basket = shop.basket(&[(WEIGHED, "0.333"), (PLAIN, "2"), (SERVICE, "1")]);
        sales.push(shop.till.checkout(basket, Some(key)).await.sale());
        shop.settled().await;
    }
    let path = |sale: &str| format!("/api/v1/ventas/{sale}/anular");
    let reason = r#"{"motivo":"El cliente se arrepintió"}"#;
    assert_eq!(shop.till.post(&path(&sales[0]), reason).await.outcome(), (403, "permiso_denegado"));
    let owner = shop.caller(Role::Owner);
    for (body, field) in [
        (r#"{"motivo":"  "}"#.to_owned(), "motivo"),
        (format!(r#"{{"motivo":"{}"}}"#, "x".repeat(501)), "motivo"),
    ] {
        let refused = owner.post(&path(&sales[0]), body).await;
        assert_eq!((refused.outcome(), refused.wrong_field()), ((422, "validacion"), field));
    }
    assert_eq!(
        owner.post(&path(&Uuid::now_v7().to_string()), reason).await.outcome(),
        (404, "no_encontrado")
    );
    let stranger = Api::new(&shop.server.url(), &shop.blend.token(neighbour.tenant, Role::Owner));
    assert_eq!(stranger.post(&path(&sales[0]), reason).await.outcome(), (404, "no_encontrado"));
    assert_eq!((shop.stock(PLAIN).await, shop.stock(WEIGHED).await), ("996".into(), "999.334".into()));

    let voided = owner.post(&path(&sales[0]), reason).await;
    assert_eq!(
        (voided.status, voided.json["estado"].as_str(), voided.replayed()),
        (200, Some("anulada"), false)
    );
    assert_eq!((shop.stock(PLAIN).await, shop.stock(WEIGHED).await), ("998".into(), "999.667".into()));
    let seen = |sale: Reply| (sale.json["estado"].clone(), sale.json["fecha_anulacion"].clone());
    let moment = voided.json["fecha_anulacion"].clone();
    assert!(moment.is_string());
    for _ in 0..2 {
        let sale = shop.till.get(&format!("/api/v1/ventas/{}", sales[0])).await;
        assert_eq!(seen(sale), (json!("anulada"), moment.clone()));
        let again = owner.post(&path(&sales[0]), reason).await;
        assert!(again.replayed() && again.json["fecha_anulacion"] == moment, "{}", again.json);
        shop.settled().await;
    }
    // The key still stands for the sale that was made, and a kill changes nothing.
    shop.crash().await;
    let basket = shop.basket(&[(WEIGHED, "0.333"), (PLAIN, "2"), (SERVICE, "1")]);
    let repeated = shop.till.checkout(basket, Some("a")).await;
    assert!(repeated.replayed() && repeated.sale() == sales[0]);
    let again = shop.caller(Role::Owner).post(&path(&sales[0]), reason).await;
    assert!(again.replayed());
    assert_eq!((shop.stock(PLAIN).await, shop.stock(WEIGHED).await), ("998".into(), "999.667".into()));
    shop.close().await;
}

#[tokio::test]
async fn d41_nobody_sees_the_sales_of_another_tenant() {
    let shop = Shop::open().await;
    let neighbour = shop.neighbour().await;
    let id = shop.sell(&[(PLAIN, "1")]).await.sale();
    for _ in 0..2 {
        let reply = neighbour.till.get(&format!("/api/v1/ventas/{id}")).await;
        assert_eq!(reply.outcome(), (404, "no_encontrado"));
        // Once more when it comes from the ledger.
        shop.settled().await;
    }
    assert_eq!(
        shop.till.get(&format!("/api/v1/ventas/{}", Uuid::now_v7())).await.outcome(),
        (404, "no_encontrado")
    );
    for id in ["1", "no-es-un-uuid", "00000000-0000-0000-0000-00000000000g", "%20", "*"] {
        let reply = shop.till.get(&format!("/api/v1/ventas/{id}")).await;
        assert_eq!((reply.outcome(), reply.wrong_field()), ((422, "validacion"), "id"), "{id}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_product_is_scanned_by_sku_and_by_barcode() {
    let shop = Shop::open().await;
    shop.sell(&[(WEIGHED, "0.5"), (PLAIN, "1000")]).await;
    for path in ["/api/v1/productos/scan", "/api/v1/ventas/scan"] {
        for code in [WEIGHED, "7790000000041"] {
            let found = shop.till.get(&format!("{path}/{code}")).await;
            assert_eq!(found.json["id"], json!(shop.unit(WEIGHED)));
            assert_eq!(
                (found.raw("precio_venta"), found.raw("stock_actual")),
                ("999.99".into(), "999.5".into())
            );
            assert_eq!((&found.json["tipo"], &found.json["tiene_stock"]), (&json!("pesable"), &json!(true)));
        }
        assert_eq!(shop.till.get(&format!("{path}/P01")).await.json["tiene_stock"], false);
        assert_eq!(shop.till.get(&format!("{path}/{SERVICE}")).await.json["tiene_stock"], true);
        for code in ["P99", "779", "p01%2F", "%F0%9F%9B%92"] {
            assert_eq!(
                shop.till.get(&format!("{path}/{code}")).await.outcome(),
                (404, "no_encontrado"),
                "{code}"
            );
        }
        let long = shop.till.get(&format!("{path}/{}", "9".repeat(101))).await;
        assert_eq!(long.wrong_field(), "codigo");
    }
    shop.close().await;
}

#[tokio::test]
async fn d1_stock_is_shown_and_sold_per_location() {
    let shop = Shop::open().await;
    let stores =
        shop.blend.write("tickets.csv", "basket,store,at,sku,quantity\nt,100,2026-01-31T09:00:00Z,P01,1\n");
    let args = ["--stock", "30", "--stores", stores.to_str().unwrap()];
    shop.blend.import(shop.tenant, catalogue(1_000), &args).await.done();
    let locations = shop.till.get("/api/v1/stock/locations").await;
    assert_eq!(locations.json, shop.till.get("/api/v1/productos/locations").await.json);
    let codes: Vec<_> =
        locations.json.as_array().unwrap().iter().map(|place| place["codigo"].clone()).collect();
    assert_eq!(codes, ["principal", "100"]);
    let store = locations.json[1]["location_id"].as_str().unwrap();
    assert_eq!(
        (&locations.json[0]["is_default"], &locations.json[1]["is_default"]),
        (&json!(true), &json!(false))
    );

    let there =
        |sku, quantity| shop.basket_with(&[(sku, quantity)], &format!(",\"ubicacion_id\":\"{store}\""));
    assert_eq!(shop.till.checkout(there(PLAIN, "31"), None).await.outcome(), (400, "stock_insuficiente"));
    assert_eq!(shop.till.checkout(there(OTHER, "1"), None).await.outcome(), (400, "stock_insuficiente"));
    let sold = shop.till.checkout(there(PLAIN, "30"), None).await;
    assert_eq!(sold.json["ubicacion_id"], store);
    let stock = shop.till.get(&format!("/api/v1/stock/{}", shop.unit(PLAIN))).await;
    assert_eq!((stock.raw("disponible"), stock.raw("reservado")), ("1000".into(), "0".into()));
    let places = stock.json["por_ubicacion"].as_array().unwrap();
    let places: Vec<_> = places.iter().map(|place| (&place["codigo"], &place["disponible"])).collect();
    assert_eq!(places, [(&json!("principal"), &json!(1_000)), (&json!("100"), &json!(0))]);
    let scan = shop.till.get(&format!("/api/v1/productos/scan/P01?ubicacion_id={store}")).await;
    assert_eq!((scan.raw("stock_actual"), &scan.json["tiene_stock"]), ("0".into(), &json!(false)));
    assert_eq!(
        shop.till.get(&format!("/api/v1/stock/{}", Uuid::now_v7())).await.outcome(),
        (404, "no_encontrado")
    );
    shop.close().await;
}

#[tokio::test]
async fn products_are_listed_in_pages_searched_and_filtered() {
    let shop = Shop::open().await;
    let skus = async |query: &str| -> Vec<String> {
        let page = shop.till.get(&format!("/api/v1/productos{query}")).await;
        assert_eq!(page.status, 200, "{}", page.json);
        let products = page.json.as_array().unwrap();
        products.iter().map(|product| product["base_sku"].as_str().unwrap().to_owned()).collect()
    };
    let all = skus("").await;
    assert_eq!(all.len(), 50);
    let mut paged = Vec::new();
    for skip in (0..60).step_by(20) {
        paged.extend(skus(&format!("?skip={skip}&limit=20")).await);
    }
    assert_eq!(paged, all);
    assert_eq!(skus("?search=PRODUCTO%2041,").await, [WEIGHED]);
    assert_eq!(skus("?search=p07").await, ["P07"]);
    assert_eq!(skus("?category=Almac%C3%A9n").await.len(), 25);
    assert_eq!(skus("?is_active=false").await, [""; 0]);
    for (query, field) in
        [("limit=0", "limit"), ("limit=501", "limit"), ("skip=-1", "skip"), ("is_active=si", "is_active")]
    {
        let reply = shop.till.get(&format!("/api/v1/productos?{query}")).await;
        assert_eq!((reply.outcome(), reply.wrong_field()), ((422, "validacion"), field), "{query}");
    }
    shop.close().await;
}

#[tokio::test]
async fn a_warm_up_loads_stock_again_and_changes_nothing() {
    let shop = Shop::open().await;
    assert_eq!(shop.sell(&[(PLAIN, "3")]).await.status, 201);
    let path = "/api/v1/cache/warmup";
    assert_eq!(shop.till.post(path, "").await.outcome(), (403, "permiso_denegado"));
    let reply = shop.caller(Role::Encargado).post(path, "").await;
    assert_eq!((reply.status, &reply.json["productos_cacheados"]), (200, &50.into()), "{}", reply.json);
    let said = shop.blend.command(&["warmup"]).await.done();
    assert_eq!(said.trim(), format!("{}\t50 units", shop.tenant));
    assert_eq!(shop.stock(PLAIN).await, "997");
    assert_eq!(shop.close().await.stock[PLAIN], 997_000);
}

//! Selling: what is sold, what is refused, and that a refusal takes nothing.

use crate::support::shop::{OPENING, OTHER, PLAIN, SERVICE, Shop, WEIGHED, catalogue};
use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn d30_a_sale_is_answered_with_its_id_and_the_total_of_the_server() {
    let shop = Shop::open().await;
    let reply = shop.sell(&[(PLAIN, "2"), (OTHER, "1"), (SERVICE, "1")]).await;
    assert_eq!(reply.status, 201);
    // 2 x 100.01 + 200.02 + 4600.46
    assert_eq!(reply.raw("total"), "5000.50");
    assert_eq!(reply.json["metodo_pago"], "efectivo");
    assert_eq!(reply.json["cantidad_items"], 3);
    assert_eq!(reply.json["mensaje"], "Venta procesada exitosamente");
    assert!(reply.json["fecha"].as_str().unwrap().ends_with('Z'));
    let id: Uuid = reply.sale().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
    let locations = shop.till.get("/api/v1/stock/locations").await;
    assert_eq!(reply.json["ubicacion_id"], locations.json[0]["location_id"]);
    assert!(!reply.replayed());
    assert_eq!((shop.stock(PLAIN).await, shop.stock(OTHER).await), ("998".into(), "999".into()));
    let books = shop.close().await;
    assert_eq!((books.sales.len(), &books.sales[0].id), (1, &id.to_string()));
}

#[tokio::test]
async fn d7_lines_of_one_product_are_summed() {
    let shop = Shop::open().await;
    let reply = shop.sell(&[(PLAIN, "600"), (OTHER, "1"), (PLAIN, "500")]).await;
    assert_eq!(reply.outcome(), (400, "stock_insuficiente"));
    assert_eq!(reply.details()["faltantes"][0]["solicitado"], 1_100);
    let reply = shop.sell(&[(PLAIN, "600"), (OTHER, "1"), (PLAIN, "400")]).await;
    assert_eq!(reply.raw("total"), "100210.02");
    assert_eq!((shop.stock(PLAIN).await, shop.stock(OTHER).await), ("0".into(), "999".into()));
    shop.close().await;
}

#[tokio::test]
async fn d2_d38_weight_has_three_decimals_and_money_is_rounded_half_up() {
    let shop = Shop::open().await;
    for (quantity, total) in [("0.125", "125.00"), ("0.333", "333.00"), ("0.001", "1.00"), ("2", "1999.98")] {
        assert_eq!(shop.sell(&[(WEIGHED, quantity)]).await.raw("total"), total, "{quantity}");
    }
    // The third decimal may be written in any way that means it.
    for quantity in ["\"1.5\"", "1.5000", "1.5e0", "15e-1", "\"1.500\""] {
        assert_eq!(shop.sell(&[(WEIGHED, quantity)]).await.raw("total"), "1499.99", "{quantity}");
    }
    assert_eq!(shop.stock(WEIGHED).await, "990.041");
    shop.close().await;
}

#[tokio::test]
async fn d4_quantities_that_cannot_be_sold_are_refused_by_name() {
    let shop = Shop::open().await;
    let refused = [
        ("0.1234", 422),
        ("0.0005", 422),
        ("0", 422),
        ("0.000", 422),
        ("-0", 422),
        ("-1", 422),
        ("100000.001", 422),
        ("1e15", 422),
        ("1e400", 422),
        ("-1e400", 422),
        ("99999999999999999999999999999999", 422),
        ("\"\"", 422),
        ("\"uno\"", 422),
        ("\"NaN\"", 422),
        ("\" 1\"", 422),
        ("\"1,5\"", 422),
        ("\"0x10\"", 422),
        ("null", 422),
        ("true", 422),
        ("[1]", 422),
        ("{\"a\":1}", 422),
    ];
    for (quantity, status) in refused {
        let reply = shop.sell(&[(WEIGHED, quantity)]).await;
        assert_eq!(reply.outcome(), (status, "validacion"), "{quantity}");
        assert_eq!(reply.wrong_field(), "items[0].cantidad", "{quantity}");
    }
    let reply = shop.sell(&[(PLAIN, "1"), (WEIGHED, "0.12345")]).await;
    assert_eq!(reply.wrong_field(), "items[1].cantidad");
    for quantity in ["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "1e", "0x10", "'1'"] {
        let reply = shop.sell(&[(WEIGHED, quantity)]).await;
        assert_eq!(reply.outcome(), (400, "json_invalido"), "{quantity}");
    }
    let reply = shop.sell(&[(PLAIN, "1.5")]).await;
    assert_eq!(reply.outcome(), (400, "cantidad_fraccionaria"));
    assert_eq!(reply.details()["campo"], "items[0].cantidad");
    assert_eq!(shop.sell(&[(PLAIN, "2.000")]).await.status, 201);
    assert_eq!((shop.stock(PLAIN).await, shop.stock(WEIGHED).await), ("998".into(), "1000".into()));
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn bodies_of_the_wrong_shape_name_the_field() {
    let shop = Shop::open().await;
    let id = shop.unit(PLAIN);
    let item = format!(r#"{{"producto_id":"{id}","cantidad":1}}"#);
    let cases = [
        (r#"{"metodo_pago":"efectivo"}"#.to_owned(), "items"),
        (format!(r#"{{"items":[{item}]}}"#), "metodo_pago"),
        (r#"{"items":[],"metodo_pago":"efectivo"}"#.into(), "items"),
        (format!(r#"{{"items":{item},"metodo_pago":"efectivo"}}"#), "items"),
        (r#"{"items":null,"metodo_pago":"efectivo"}"#.into(), "items"),
        (r#"{"items":["x"],"metodo_pago":"efectivo"}"#.into(), "items[0]"),
        (r#"{"items":[{"cantidad":1}],"metodo_pago":"efectivo"}"#.into(), "items[0].producto_id"),
        (format!(r#"{{"items":[{{"producto_id":"{id}"}}],"metodo_pago":"efectivo"}}"#), "items[0].cantidad"),
        (
            r#"{"items":[{"producto_id":7,"cantidad":1}],"metodo_pago":"efectivo"}"#.into(),
            "items[0].producto_id",
        ),
        (
            r#"{"items":[{"producto_id":"P01","cantidad":1}],"metodo_pago":"efectivo"}"#.into(),
            "items[0].producto_id",
        ),
        (format!(r#"{{"items":[{item}],"metodo_pago":7}}"#), "metodo_pago"),
        (format!(r#"{{"items":[{item}],"metodo_pago":"trueque"}}"#), "metodo_pago"),
        (format!(r#"{{"items":[{item}],"metodo_pago":"efectivo","ubicacion_id":"acá"}}"#), "ubicacion_id"),
        (format!(r#"{{"items":[{item}],"metodo_pago":"efectivo","total":"mucho"}}"#), "total"),
        (String::new(), "body"),
        ("7".into(), "body"),
    ];
    for (body, field) in cases {
        let reply = shop.till.checkout(body.clone(), None).await;
        assert_eq!(reply.outcome(), (422, "validacion"), "{body}");
        assert_eq!(reply.wrong_field(), field, "{body}");
    }
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn only_ones_own_products_can_be_sold() {
    let shop = Shop::open().await;
    let neighbour = shop.neighbour().await;
    for id in [Uuid::nil(), Uuid::now_v7(), neighbour.unit(PLAIN), shop.tenant] {
        let body = json!({ "items": [{ "producto_id": id, "cantidad": 1 }], "metodo_pago": "efectivo" });
        let reply = shop.till.checkout(body.to_string(), None).await;
        assert_eq!(reply.outcome(), (404, "no_encontrado"), "{id}");
        assert_eq!(reply.details()["campo"], "items[0].producto_id");
    }
    let locations = neighbour.till.get("/api/v1/stock/locations").await;
    for place in [&locations.json[0]["location_id"], &json!(Uuid::now_v7())] {
        let reply = shop
            .till
            .checkout(shop.basket_with(&[(PLAIN, "1")], &format!(",\"ubicacion_id\":{place}")), None);
        let reply = reply.await;
        assert_eq!(reply.outcome(), (404, "no_encontrado"));
        assert_eq!(&reply.details()["ubicacion_id"], place);
    }
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn a_product_with_variants_is_sold_by_variant() {
    let csv = "sku,nombre,precio,tipo,stock,base_sku,talle,color\n\
               R-S,Remera,100,ropa,5,R,S,Rojo\nR-M,Remera,100,ropa,5,R,M,Rojo\nG,Gorra,50,ropa,5,,,\n";
    let shop = Shop::open_with(csv, &[]).await;
    let products = shop.till.get("/api/v1/productos").await;
    let find = |sku| {
        let products = products.json.as_array().unwrap();
        products.iter().find(|product| product["base_sku"] == sku).unwrap().clone()
    };
    let (shirt, cap) = (find("R"), find("G"));
    assert_eq!((&shirt["variants_count"], &shirt["variants"][1]["size"]), (&json!(2), &json!("M")));
    let sell = async |id: &Value| {
        let body = json!({ "items": [{ "producto_id": id, "cantidad": 1 }], "metodo_pago": "efectivo" });
        shop.till.checkout(body.to_string(), None).await
    };
    let reply = sell(&shirt["product_id"]).await;
    assert_eq!(reply.outcome(), (400, "falta_variante"));
    let mut named: Vec<_> = reply.details()["variantes"].as_array().unwrap().clone();
    named.sort_by_key(ToString::to_string);
    let mut variants =
        [shirt["variants"][0]["variant_id"].clone(), shirt["variants"][1]["variant_id"].clone()];
    variants.sort_by_key(ToString::to_string);
    assert_eq!(named, variants);
    assert_eq!(sell(&shirt["variants"][0]["variant_id"]).await.status, 201);
    assert_eq!(sell(&cap["product_id"]).await.status, 201, "a product with one variant is that variant");
    assert_eq!(shop.close().await.sales.len(), 2);
}

#[tokio::test]
async fn d37_every_payment_method_is_taken_in_any_letter_case() {
    let shop = Shop::open().await;
    let methods =
        ["efectivo", "tarjeta", "tarjeta_debito", "tarjeta_credito", "transferencia", "mercadopago", "qr"];
    for method in methods {
        for written in [method.to_owned(), method.to_uppercase()] {
            let body = shop.basket(&[(PLAIN, "1")]).replace("efectivo", &written);
            let reply = shop.till.checkout(body, None).await;
            assert_eq!((reply.status, &reply.json["metodo_pago"]), (201, &json!(method)), "{written}");
        }
    }
    assert_eq!(shop.close().await.sales.len(), 2 * methods.len());
}

#[tokio::test]
async fn d6_d33_a_short_basket_lists_every_short_line_and_takes_nothing() {
    let shop = Shop::open().await;
    let basket = [(PLAIN, "1001"), ("P03", "10"), (OTHER, "2000"), (WEIGHED, "1000.001"), (SERVICE, "5000")];
    let reply = shop.sell(&basket).await;
    assert_eq!(reply.outcome(), (400, "stock_insuficiente"));
    let mut short: Vec<_> = reply.details()["faltantes"].as_array().unwrap().clone();
    short.sort_by_key(|line| line["sku"].to_string());
    let line = |sku: &str, number: u32, asked: Value| {
        json!({ "producto_id": shop.unit(sku), "sku": sku, "nombre": format!("Producto {number}, grande"),
                "solicitado": asked, "disponible": OPENING })
    };
    let expected =
        [line(PLAIN, 1, json!(1_001)), line(OTHER, 2, json!(2_000)), line(WEIGHED, 41, json!(1000.001))];
    assert_eq!(short, expected);
    let message = reply.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("Producto 1, grande (hay 1000)"), "{message}");
    for sku in [PLAIN, OTHER, "P03", WEIGHED] {
        assert_eq!(shop.stock(sku).await, "1000", "{sku}");
    }
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn d38_d40_what_the_customer_was_shown_must_still_be_true() {
    let shop = Shop::open().await;
    let id = shop.unit(PLAIN);
    let priced = |price: &str| {
        format!(
            r#"{{"items":[{{"producto_id":"{id}","cantidad":2,"precio_unitario":{price}}}],"metodo_pago":"qr"}}"#
        )
    };
    let reply = shop.till.checkout(priced("100.02"), None).await;
    assert_eq!(reply.outcome(), (409, "precio_cambiado"));
    assert_eq!((&reply.details()["visto"], &reply.details()["actual"]), (&json!(100.02), &json!(100.01)));
    let total = |total: &str| shop.basket_with(&[(PLAIN, "2")], &format!(",\"total\":{total}"));
    let reply = shop.till.checkout(total("200.01"), None).await;
    assert_eq!(reply.outcome(), (409, "total_distinto"));
    assert_eq!((&reply.details()["visto"], &reply.details()["actual"]), (&json!(200.01), &json!(200.02)));
    assert_eq!(shop.stock(PLAIN).await, "1000");
    for body in [priced("100.01"), priced("null"), priced("\"100.010\""), total("200.02"), total("null")] {
        assert_eq!(shop.till.checkout(body.clone(), None).await.status, 201, "{body}");
    }
    assert_eq!(shop.close().await.sales.len(), 5);
}

#[tokio::test]
async fn a_basket_has_up_to_a_thousand_lines() {
    let shop = Shop::open().await;
    let reply = shop.sell(&[(PLAIN, "1"); 1_001]).await;
    assert_eq!((reply.outcome(), reply.wrong_field()), ((422, "validacion"), "items"));
    let reply = shop.sell(&[(PLAIN, "1"); 1_000]).await;
    assert_eq!((reply.raw("total"), shop.stock(PLAIN).await), ("100010.00".into(), "0".into()));
    let sale = shop.till.get(&format!("/api/v1/ventas/{}", reply.sale())).await;
    assert_eq!(sale.json["detalles"].as_array().unwrap().len(), 1_000);
    shop.close().await;
}

#[tokio::test]
async fn the_last_piece_is_sold_and_none_after_it() {
    let shop = Shop::open_with(&catalogue(5), &[]).await;
    assert_eq!(shop.sell(&[(PLAIN, "6")]).await.outcome(), (400, "stock_insuficiente"));
    assert_eq!(shop.sell(&[(PLAIN, "5")]).await.status, 201);
    let reply = shop.sell(&[(PLAIN, "1")]).await;
    assert_eq!(
        (reply.outcome(), &reply.details()["faltantes"][0]["disponible"]),
        ((400, "stock_insuficiente"), &json!(0))
    );
    assert_eq!(shop.sell(&[(WEIGHED, "4.999")]).await.status, 201);
    assert_eq!(shop.sell(&[(WEIGHED, "0.002")]).await.outcome(), (400, "stock_insuficiente"));
    assert_eq!(shop.sell(&[(WEIGHED, "0.001")]).await.status, 201);
    assert_eq!(shop.close().await.stock[WEIGHED], 0);
}

#[tokio::test]
async fn d34_two_hundred_customers_and_a_hundred_pieces_make_a_hundred_sales() {
    let shop = Shop::open_with(&catalogue(100), &[]).await;
    let body = shop.basket(&[(PLAIN, "1")]);
    let replies = join_all((0..200).map(|_| shop.till.checkout(body.clone(), None))).await;
    let count = |outcome| replies.iter().filter(|reply| reply.outcome() == outcome).count();
    assert_eq!((count((201, "")), count((400, "stock_insuficiente"))), (100, 100));
    assert_eq!(shop.stock(PLAIN).await, "0");
    let books = shop.close().await;
    assert_eq!((books.sales.len(), books.stock[PLAIN]), (100, 0));
}

//! Catalogues.

use crate::support::api::Api;
use crate::support::process::Blend;
use crate::support::shop::{PLAIN, PRODUCTS, Shop, catalogue};
use blend::http::Role;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write as _;
use uuid::Uuid;

const CREATED: &str =
    "50 products created, 0 updated, 0 unchanged, 0 locations opened, 47 opening balances, 0 rows skipped\n";

/// The products page of a tenant.
async fn products(blend: &Blend, tenant: Uuid) -> usize {
    let server = blend.serve().await;
    let api = Api::new(&server.url(), &blend.token(tenant, Role::Cajero));
    let page = api.get("/api/v1/productos?limit=500").await;
    assert!(server.sigterm().await.success());
    page.json.as_array().unwrap().len()
}

#[tokio::test]
async fn a_catalogue_is_imported_once() {
    let blend = Blend::new();
    let tenant = blend.tenant("Sur").await;
    assert_eq!(blend.import(tenant, catalogue(10), &[]).await.done(), CREATED);
    let again = blend.import(tenant, catalogue(10), &[]).await.done();
    assert_eq!(
        again,
        "0 products created, 0 updated, 50 unchanged, 0 locations opened, 0 opening balances, 0 rows skipped\n"
    );
    // Another stock in the file does not overwrite what the shop has.
    let dearer = catalogue(99).replace(",100.01,", ",100.99,");
    let changed = blend.import(tenant, dearer, &[]).await.done();
    assert_eq!(
        changed,
        "0 products created, 1 updated, 49 unchanged, 0 locations opened, 0 opening balances, 0 rows skipped\n"
    );
    assert_eq!(products(&blend, tenant).await, PRODUCTS);
    let books = crate::support::ledger::assert_verified(&blend).await;
    assert_eq!(books.stock[PLAIN], 10_000);
}

#[tokio::test]
async fn a_catalogue_may_be_packed_and_written_by_a_spreadsheet() {
    let blend = Blend::new();
    let (packed, spreadsheet) = (blend.tenant("Uno").await, blend.tenant("Dos").await);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(catalogue(10).as_bytes()).unwrap();
    assert_eq!(blend.import(packed, gzip.finish().unwrap(), &[]).await.done(), CREATED);
    let csv =
        "\u{feff}SKU;Nombre;Precio;Stock;Color de ojos\r\nA;\"Yerba; suave\";1234,50;3;azul\r\nB;;10,5;;\r\n";
    let ran = blend.import(spreadsheet, csv, &["--stock", "7"]).await;
    assert!(ran.stderr.contains("color de ojos") && ran.stderr.contains("1 rows have no nombre"), "{ran:?}");
    assert!(ran.done().starts_with("2 products created"));
    let server = blend.serve().await;
    let api = Api::new(&server.url(), &blend.token(spreadsheet, Role::Cajero));
    let scanned = api.get("/api/v1/productos/scan/A").await;
    assert_eq!((scanned.raw("precio_venta"), scanned.raw("stock_actual")), ("1234.50".into(), "3".into()));
    assert_eq!(scanned.json["nombre"], "Yerba; suave");
    assert_eq!(api.get("/api/v1/productos/scan/B").await.raw("stock_actual"), "7");
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn a_bad_catalogue_is_refused_whole_and_every_bad_row_is_named() {
    let blend = Blend::new();
    let tenant = blend.tenant("Sur").await;
    let csv = "sku,nombre,precio,codigo_barras,tipo,stock\n\
               A,Bueno,10,779,general,1\n\
               ,Sin código,10,,general,1\n\
               B,Gratis,0,,general,1\n\
               C,Caro,diez,,general,1\n\
               A,Repetido,10,,general,1\n\
               D,Mismo código,10,779,general,1\n\
               E,Raro,10,,cosa,1\n\
               F,Medio,10,,general,0.5\n\
               G,Menos,10,,general,-1\n\
               H,Centavitos,10.001,,general,1\n\
               I,Corto,10\n\
               J,Bueno,10,,pesable,0.5\n";
    let refused = blend.import(tenant, csv, &[]).await;
    assert!(refused.stdout.is_empty(), "{refused:?}");
    let said = refused.refused();
    let rows = [
        "line 3: sku is empty",
        "line 4: precio must be more than 0",
        "line 5: precio `diez` is not a decimal number",
        "line 6: sku `A` is already on line 2",
        "line 7: codigo_barras `779` is already on line 2",
        "line 8: tipo `cosa` is none of",
        "line 9: stock `0.500` is fractional",
        "line 10: stock is negative",
        "line 11: precio `10.001`",
        "line 12:",
    ];
    for row in rows {
        assert!(said.lines().any(|line| line.starts_with(row)), "{row:?} is not in\n{said}");
    }
    assert!(said.contains("10 of 12 rows cannot be used; nothing was imported"), "{said}");
    assert_eq!(products(&blend, tenant).await, 0);

    let skipped = blend.import(tenant, csv, &["--skip-bad"]).await.done();
    assert_eq!(
        skipped,
        "2 products created, 0 updated, 0 unchanged, 0 locations opened, 2 opening balances, 10 rows skipped\n"
    );
    assert_eq!(products(&blend, tenant).await, 2);
}

#[tokio::test]
async fn files_that_are_no_catalogue_are_refused_in_a_line() {
    let blend = Blend::new();
    let tenant = blend.tenant("Sur").await;
    let cut = {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(catalogue(10).as_bytes()).unwrap();
        let mut bytes = gzip.finish().unwrap();
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let files: [(&[u8], &str); 4] = [
        (b"", "catalogo.csv"),
        (b"sku,nombre\nA,B\n", "precio"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "catalogo.csv"),
        (&cut, "catalogo.csv"),
    ];
    for (content, word) in files {
        let said = blend.import(tenant, content, &[]).await.refused();
        assert!(said.contains(word), "{word}: {said}");
    }
    let said =
        blend.command(&["import", "--tenant", &tenant.to_string(), "/no/such/file.csv"]).await.refused();
    assert!(said.contains("/no/such/file.csv"), "{said}");
    let said = blend.import(Uuid::now_v7(), catalogue(1), &[]).await.refused();
    assert!(!said.is_empty());
    assert_eq!(products(&blend, tenant).await, 0);
}

#[tokio::test]
async fn an_import_goes_through_the_server_that_runs_and_is_visible_at_once() {
    let shop = Shop::open().await;
    let csv = "sku,nombre,precio,stock\nNUEVO,Recién llegado,12.50,3\nP01,\"Producto 1, grande\",90,\n";
    let said = shop.blend.import(shop.tenant, csv, &[]).await.done();
    assert!(said.starts_with("1 products created, 1 updated, 0 unchanged"), "{said}");
    let scanned = shop.till.get("/api/v1/productos/scan/NUEVO").await;
    assert_eq!((scanned.raw("precio_venta"), scanned.raw("stock_actual")), ("12.50".into(), "3".into()));
    let body =
        json!({ "items": [{ "producto_id": scanned.json["id"], "cantidad": 3 }], "metodo_pago": "qr" });
    assert_eq!(shop.till.checkout(body.to_string(), None).await.raw("total"), "37.50");
    assert_eq!(shop.sell(&[(PLAIN, "1")]).await.raw("total"), "90.00");
    // A row of the file that the server refuses: nothing of it is taken.
    let taken = "sku,nombre,precio,codigo_barras\nOTRO,Otro,1,7790000000002\nMAS,Más,1,\n";
    let said = shop.blend.import(shop.tenant, taken, &[]).await.refused();
    assert!(said.contains("7790000000002") && said.contains("P02"), "{said}");
    assert_eq!(shop.till.get("/api/v1/productos/scan/MAS").await.status, 404);
    let said = shop.blend.import(Uuid::now_v7(), csv, &[]).await.refused();
    assert!(said.contains("tienda_inexistente"), "{said}");
    shop.close().await;
}

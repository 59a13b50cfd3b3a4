//! A replay against a fake shop that sells, refuses, fails and hangs up.

use super::*;
use crate::testing::{Asked, FakeServer};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex as Lock},
};

/// 501 products, so that there are two pages: skus `S0` to `S500`, ids that end in the number.
fn page(path: &str) -> String {
    let skip: usize = path.split("skip=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
    let product = |n| {
        let id = format!("00000000-0000-7000-8000-{n:012}");
        format!(
            r#"{{"product_id":"{id}","name":"n","base_sku":"B{n}","is_active":true,
               "variants":[{{"variant_id":"{id}","sku":"S{n}","price":1.50,"barcode":null,"is_active":true}}]}}"#
        )
    };
    let products: Vec<_> = (skip..501.min(skip + 500)).map(product).collect();
    format!("[{}]", products.join(","))
}

const LOCATIONS: &str = r#"[{"location_id":"00000000-0000-7000-8000-00000000aaaa","name":"Uno","codigo":"7",
    "type":"STORE","is_default":true,"is_active":true},
    {"location_id":"00000000-0000-7000-8000-00000000bbbb","name":"Dos","codigo":null,"type":"WAREHOUSE",
    "is_default":false,"is_active":true}]"#;

/// Keys seen with how often, and the first body of each.
type Seen = Arc<Lock<HashMap<String, (u64, String)>>>;

async fn shop(checkout: impl Fn(&str, u64) -> (u16, String) + Send + Sync + 'static) -> (FakeServer, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let server = FakeServer::start(move |asked: Asked| {
        assert_eq!(asked.token.as_deref(), Some("Bearer secret"));
        match asked.path.as_str() {
            path if path.starts_with("/api/v1/productos?") => (200, page(path)),
            "/api/v1/stock/locations" => (200, LOCATIONS.to_owned()),
            "/api/v1/ventas/checkout" => {
                let key = asked.key.unwrap();
                let mut log = log.lock().unwrap();
                let body = String::from_utf8(asked.body.to_vec()).unwrap();
                let entry = log.entry(key.clone()).or_insert((0, body.clone()));
                assert_eq!(entry.1, body, "a repeated basket must be the same request");
                entry.0 += 1;
                checkout(&key, entry.0)
            }
            path => panic!("{path}"),
        }
    })
    .await;
    (server, seen)
}

fn sale(key: &str) -> String {
    format!(
        r#"{{"venta_id":"v-{key}","fecha":"2026-01-01T00:00:00Z","total":1234.50,"metodo_pago":"efectivo"}}"#
    )
}

fn args(server: &FakeServer, directory: &std::path::Path, rows: &str) -> ReplayArgs {
    let file = directory.join("baskets.csv");
    std::fs::write(&file, format!("basket,store,at,sku,quantity\n{rows}")).unwrap();
    ReplayArgs {
        file,
        url: server.url(),
        token: "secret".into(),
        rate: Pace::Max,
        speed: None,
        connections: NonZeroUsize::new(4).unwrap(),
        limit: None,
        key_prefix: "t".into(),
        patience: 20,
        acks: Some(directory.join("acks.csv")),
        json: true,
    }
}

fn row(basket: impl std::fmt::Display, sku: &str, quantity: &str) -> String {
    format!("{basket},7,2026-01-01T10:00:00Z,{sku},{quantity}\n")
}

#[tokio::test]
async fn every_basket_is_accounted_for() {
    let refusal = r#"{"success":false,"error":{"message":"m","code":"stock_insuficiente"}}"#;
    let (server, seen) = shop(move |key, attempt| match (key, attempt) {
        ("t-short", _) => (400, refusal.to_owned()),
        ("t-busy", 1) => (503, "{}".to_owned()),
        ("t-lost", 1) => (299, String::new()), // hangs up: sold or not, nobody knows
        ("t-lost", _) => (298, sale(key)),
        ("t-odd", _) => (404, "<html>".to_owned()),
        _ => (201, sale(key)),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let rows = [
        row("plain", "S0", "2"),
        row("plain", "S500", "0.250"),
        row("short", "S1", "1"),
        row("busy", "S2", "1"),
        row("lost", "S3", "1"),
        row("odd", "S3", "1"),
        row("strange", "S4", "1"),
        row("strange", "nope", "1"),
        row("bad", "S4", "much"),
        row("far", "S5", "1").replace(",7,", ",99,"),
    ]
    .concat();
    let args = args(&server, directory.path(), &rows);
    let summary = replay(&args).await.unwrap();
    assert_eq!((summary.baskets, summary.sent, summary.sold, summary.replayed), (7, 6, 4, 1), "{summary}");
    assert_eq!(
        summary.refused.into_iter().collect::<Vec<_>>(),
        [("400 stock_insuficiente".to_owned(), 1), ("404 without a code".to_owned(), 1)]
    );
    assert_eq!((summary.gave_up, summary.unknown_sku, summary.bad), (0, 1, 1));
    assert_eq!(summary.unknown_sku_examples, ["basket strange: nope"]);
    assert_eq!((summary.lines, summary.units.as_str(), summary.total.as_str()), (5, "5.250", "4938.00"));
    assert_eq!(summary.retries.values().sum::<u64>(), 2);

    let seen = seen.lock().unwrap();
    assert_eq!(
        seen["t-plain"].1,
        concat!(
            r#"{"items":[{"producto_id":"00000000-0000-7000-8000-000000000000","cantidad":2},"#,
            r#"{"producto_id":"00000000-0000-7000-8000-000000000500","cantidad":0.250}],"#,
            r#""metodo_pago":"efectivo","ubicacion_id":"00000000-0000-7000-8000-00000000aaaa"}"#
        )
    );
    assert!(!seen["t-far"].1.contains("ubicacion_id"), "an unknown store sells at the default location");
    assert!(!seen.contains_key("t-strange") && !seen.contains_key("t-bad"));

    let acks = std::fs::read_to_string(args.acks.unwrap()).unwrap();
    let acks: HashSet<_> = acks.lines().collect();
    assert_eq!(acks, HashSet::from(["plain,v-t-plain", "busy,v-t-busy", "lost,v-t-lost", "far,v-t-far"]));
}

#[tokio::test]
async fn a_long_file_goes_through_whole_and_a_limit_cuts_it() {
    let (server, seen) = shop(|key, _| (201, sale(key))).await;
    let directory = tempfile::tempdir().unwrap();
    let rows: String = (0..3_000).map(|n| row(n, "S1", "1")).collect();
    let mut args = args(&server, directory.path(), &rows);
    let summary = replay(&args).await.unwrap();
    assert_eq!((summary.sold, seen.lock().unwrap().len()), (3_000, 3_000));
    assert!(summary.is_definite() && summary.sales_per_second > 0);
    args.limit = Some(100);
    args.key_prefix = "again".into();
    assert_eq!(replay(&args).await.unwrap().sent, 100);
}

#[tokio::test]
async fn a_fixed_rate_and_the_rhythm_of_the_file_are_kept() {
    let (server, _) = shop(|key, _| (201, sale(key))).await;
    let directory = tempfile::tempdir().unwrap();
    let rows: String =
        (0..51).map(|n| row(n, "S1", "1").replace("10:00:00", &format!("10:00:{n:02}"))).collect();
    let mut args = args(&server, directory.path(), &rows);
    args.rate = parse_rate("100").unwrap();
    let took = replay(&args).await.unwrap().elapsed_ms;
    assert!((500..5_000).contains(&took), "{took}");
    args.rate = parse_rate("max").unwrap();
    args.speed = NonZeroU32::new(100); // 50 seconds in half a second
    let took = replay(&args).await.unwrap().elapsed_ms;
    assert!((500..5_000).contains(&took), "{took}");
}

#[tokio::test]
async fn a_basket_without_a_definite_answer_fails_the_replay() {
    let (server, _) = shop(|_, _| (503, "{}".to_owned())).await;
    let directory = tempfile::tempdir().unwrap();
    let mut args = args(&server, directory.path(), &row("b", "S1", "1"));
    args.patience = 1;
    let summary = replay(&args).await.unwrap();
    assert_eq!((summary.gave_up, summary.is_definite()), (1, false));
    assert!(summary.gave_up_examples[0].starts_with("basket b: status 503"));
}

#[tokio::test]
async fn a_refused_token_says_so() {
    let server = FakeServer::start(|_| (401, r#"{"error":{"code":"no_autorizado"}}"#.to_owned())).await;
    let directory = tempfile::tempdir().unwrap();
    let error = replay(&args(&server, directory.path(), "")).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("no_autorizado"), "{error}");
}

#[test]
fn rates_are_checked() {
    assert!(parse_rate("0").is_err() && parse_rate("-1").is_err() && parse_rate("fast").is_err());
}

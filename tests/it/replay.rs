//! Ringing up a file of real baskets.

use crate::support::shop::{Shop, baskets, catalogue};
use serde_json::{Value, json};
use std::path::Path;

async fn replay(shop: &Shop, file: &Path, args: &[&str]) -> Value {
    let (url, token) = (shop.server.url(), shop.blend.token(shop.tenant, blend::http::Role::Cajero));
    let fixed = ["replay", "--json", "--url", &url, "--token", &token, file.to_str().unwrap()];
    serde_json::from_str(&shop.blend.command(&[&fixed, args].concat()).await.done()).unwrap()
}

#[tokio::test]
async fn a_file_is_sold_once_whoever_often_it_is_replayed() {
    let shop = Shop::open().await;
    let file = shop.blend.write("tickets.csv", baskets(120));
    let acks = shop.blend.scratch("acks.csv");
    let first = replay(&shop, &file, &["--acks", acks.to_str().unwrap()]).await;
    let counts = |summary: &Value| {
        ["baskets", "sent", "sold", "replayed"].map(|field| summary[field].as_u64().unwrap())
    };
    assert_eq!(counts(&first), [120, 120, 120, 0], "{first}");
    assert_eq!((&first["lines"], &first["refused"], &first["gave_up"]), (&json!(240), &json!({}), &json!(0)));
    let second = replay(&shop, &file, &[]).await;
    assert_eq!(counts(&second), [120, 120, 120, 120], "{second}");
    assert_eq!((&second["total"], &second["units"]), (&first["total"], &first["units"]));
    let limited = replay(&shop, &file, &["--limit", "50", "--connections", "4"]).await;
    assert_eq!(counts(&limited), [50, 50, 50, 50], "{limited}");
    let other = replay(&shop, &file, &["--key-prefix", "otra-vez", "--limit", "20"]).await;
    assert_eq!(counts(&other), [20, 20, 20, 0], "{other}");

    let acks = std::fs::read_to_string(acks).unwrap();
    let books = shop.close().await;
    assert_eq!(books.sales.len(), 140);
    let booked = books.by_key();
    assert_eq!(acks.lines().count(), 120);
    for (basket, id) in acks.lines().map(|line| line.split_once(',').unwrap()) {
        assert_eq!(booked[&*format!("replay-{basket}")], id);
    }
}

#[tokio::test]
async fn baskets_that_cannot_be_sold_are_accounted_for() {
    let shop = Shop::open_with(&catalogue(10), &[]).await;
    let rows = "basket,store,at,sku,quantity\n\
                bien,100,2026-01-31T09:00:00Z,P01,1\n\
                nadie,100,2026-01-31T09:01:00Z,NADIE-LO-VENDE,1\n\
                nadie,100,2026-01-31T09:01:00Z,P01,1\n\
                mal,100,2026-01-31T09:02:00Z,P01,mucho\n\
                ayer,100,ayer,P01,1\n\
                mas,100,2026-01-31T09:03:00Z,P02,11\n\
                medio,100,2026-01-31T09:04:00Z,P03,0.5\n\
                kilo,100,2026-01-31T09:05:00Z,P41,0.750\n";
    let file = shop.blend.write("tickets.csv", rows);
    let summary = replay(&shop, &file, &[]).await;
    assert_eq!((&summary["sold"], &summary["sent"]), (&json!(2), &json!(4)), "{summary}");
    assert_eq!(summary["refused"], json!({ "400 stock_insuficiente": 1, "400 cantidad_fraccionaria": 1 }));
    assert_eq!(
        (&summary["unknown_sku"], &summary["unknown_sku_examples"]),
        (&json!(1), &json!(["basket nadie: NADIE-LO-VENDE"]))
    );
    assert_eq!(summary["bad"], 2);
    let bad: Vec<_> =
        summary["bad_examples"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(
        bad[0].starts_with("line 5, quantity: `mucho`") && bad[1].starts_with("line 6, at: `ayer`"),
        "{bad:?}"
    );
    let books = shop.close().await;
    assert_eq!((books.sales.len(), books.stock["P01"], books.stock["P41"]), (2, 9_000, 9_250));
}

#[tokio::test]
async fn a_replay_that_cannot_be_done_says_why() {
    let shop = Shop::open_with(&catalogue(10), &[]).await;
    let file = shop.blend.write("tickets.csv", baskets(3)).display().to_string();
    let (url, token) = (shop.server.url(), shop.blend.token(shop.tenant, blend::http::Role::Cajero));
    let not_baskets = shop.blend.write("otro.csv", "sku,nombre\nA,B\n").display().to_string();
    let cases = [
        (["--url", &url, "--token", "nonsense"], &file, "401"),
        (["--url", "http://127.0.0.1:1", "--token", &token], &file, "127.0.0.1:1"),
        (["--url", &url, "--token", &token], &not_baskets, "basket"),
    ];
    for (args, file, word) in cases {
        let said = shop.blend.command(&[&["replay", file][..], &args].concat()).await.refused();
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(shop.close().await.sales.is_empty());
}

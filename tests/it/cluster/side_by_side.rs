//! Nodes on the same servers: each sells, whichever a till asks, and they come, go, die and freeze.

use super::{Servers, holds, settled, till_at};
use crate::support::api::Api;
use crate::support::dice::Dice;
use crate::support::ledger::assert_verified;
use crate::support::shop::{OTHER, PLAIN};
use crate::support::tills::Tills;
use std::time::Duration;
use tokio::time::sleep;

const STOCK: u32 = 1_000_000;
const TILLS: usize = 8;

#[tokio::test]
async fn every_node_answers_every_request_as_the_one_that_has_the_shard_would() {
    let servers = Servers::start().await;
    let shop = servers.shop(1_000).await;
    let second = servers.node();
    let other = second.serve().await;
    holds(&other, 2).await;
    holds(&shop.server, 2).await;
    let here = till_at(&shop, &other);
    let basket = shop.basket(&[(PLAIN, "2"), (OTHER, "1")]);
    let sold = shop.till.checkout(basket.clone(), Some("k-1")).await;
    assert_eq!(sold.status, 201, "{sold:?}");
    let again = here.checkout(basket.clone(), Some("k-1")).await;
    assert_eq!((again.status, &again.json), (201, &sold.json));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("content-type"), sold.header("content-type"));
    // Refusals, reads and unknown things are the same as well, and each answer has its request's name.
    let stranger = Api::new(&other.url(), "nobody");
    for (path, status) in [
        (format!("/api/v1/ventas/{}", sold.json["venta_id"].as_str().unwrap()), 200),
        (format!("/api/v1/stock/{}", shop.unit(PLAIN)), 200),
        (format!("/api/v1/ventas/scan/{PLAIN}?x=1"), 200),
        ("/api/v1/productos?limit=7&offset=3".to_owned(), 200),
        (format!("/api/v1/ventas/{}", shop.tenant), 404),
        ("/api/v1/stock/no-id".to_owned(), 422),
    ] {
        let (one, two) = (shop.till.get(&path).await, here.get(&path).await);
        assert_eq!((one.status, two.status), (status, status), "{path}: {one:?} {two:?}");
        if status == 200 && !path.contains("/ventas/0") {
            assert_eq!(one.json, two.json, "{path}");
        } else if status != 200 {
            assert_eq!(one.json["error"], two.json["error"], "{path}");
            assert_eq!(two.json["request_id"].as_str(), two.header("x-request-id"), "{path}");
        }
        assert_eq!(stranger.get(&path).await.status, 401, "{path}");
    }
    let reused = here.checkout(shop.basket(&[(PLAIN, "3")]), Some("k-1")).await;
    assert_eq!(
        (reused.status, reused.json["error"]["code"].as_str()),
        (422, Some("idempotency_key_reutilizada"))
    );
    // Tenants are made at either node, and each lists all.
    let (one, two) = (shop.blend.tenant("Norte").await, second.tenant("Este").await);
    for blend in [&shop.blend, &second] {
        let list = blend.command(&["tenant", "list"]).await.done();
        for tenant in [shop.tenant, one, two] {
            assert!(list.contains(&tenant.to_string()), "{list}");
        }
    }
    drop(here);
    settled(&[&shop.server, &other]).await;
    assert!(other.sigterm().await.success());
    let books = shop.close().await;
    assert_eq!((books.sales.len(), books.stock[PLAIN]), (1, 998_000));
}

#[tokio::test]
async fn whichever_node_is_killed_the_other_sells_its_part_within_seconds() {
    let mut dice = Dice::new();
    let servers = Servers::start().await;
    let mut shop = servers.shop(STOCK).await;
    let second = servers.node();
    let mut other = second.serve().await;
    let tills = Tills::default();
    for round in 0..4 {
        holds(&shop.server, 2).await;
        holds(&other, 2).await;
        let pause = Duration::from_micros(dice.below(300_000));
        let there = till_at(&shop, &other);
        let victim = if round % 2 == 0 { &shop.server } else { &other };
        let both = [&shop.till, &there];
        tokio::join!(tills.sell_at(&shop, &both, TILLS), async {
            tills.sold_more(100).await;
            sleep(pause).await;
            victim.signal("KILL");
            // The tills of the other one go on, whatever they sell.
            tills.sold_more(100).await;
            tills.stop();
        });
        if round % 2 == 0 {
            shop.server.ended().await;
            shop.start_again().await;
        } else {
            other.ended().await;
            other = second.serve().await;
        }
        let open = tills.ask_again(&shop).await;
        eprintln!("{} sales; {open} without an answer had been sold", tills.acknowledged());
        settled(&[&shop.server, &other]).await;
        tills.assert_exact(&assert_verified(&shop.blend).await, STOCK);
    }
    assert!(other.sigterm().await.success());
    tills.assert_found(&shop).await;
    tills.assert_exact(&shop.close().await, STOCK);
}

/// A till notices a pause at most.
#[tokio::test]
async fn nodes_that_join_and_leave_cost_no_sale_and_no_answer() {
    let servers = Servers::start().await;
    let shop = servers.shop(STOCK).await;
    let second = servers.node();
    let tills = Tills::default();
    tokio::join!(tills.sell(&shop, TILLS), async {
        for _ in 0..3 {
            tills.sold_more(50).await;
            let other = second.serve().await;
            holds(&other, 2).await;
            holds(&shop.server, 2).await;
            tills.sold_more(50).await;
            assert!(other.sigterm().await.success());
            holds(&shop.server, 4).await;
        }
        tills.sold_more(50).await;
        tills.stop();
    });
    assert_eq!(tills.open(), 0, "every request was answered with its sale");
    tills.assert_exact(&shop.books().await, STOCK);
    tills.assert_exact(&shop.close().await, STOCK);
}

/// The broker takes a paused node for dead after two heartbeats; when it goes on it must not sell from what it
/// remembers.
#[tokio::test]
async fn a_node_that_was_paused_does_no_harm_when_it_goes_on() {
    let servers = Servers::start().await;
    let heartbeat = format!("{}?heartbeat=2", servers.rabbitmq.url());
    let (mut first, mut second) = (servers.node(), servers.node());
    for node in [&mut first, &mut second] {
        node.set("RABBITMQ_URL", &heartbeat);
        node.set("BLEND_SERVER__ANSWER_TIMEOUT_SECS", "2");
    }
    let shop = servers.shop_on(first, STOCK).await;
    let other = second.serve().await;
    holds(&other, 2).await;
    holds(&shop.server, 2).await;
    let (tills, there) = (Tills::default(), till_at(&shop, &other));
    let both = [&shop.till, &there];
    tokio::join!(tills.sell_at(&shop, &both, TILLS), async {
        tills.sold_more(100).await;
        tills.stop();
    });
    shop.server.signal("STOP");
    let one = [&there];
    tokio::join!(tills.sell_at(&shop, &one, TILLS), async {
        holds(&other, 4).await;
        tills.sold_more(100).await;
        // It finds out while the other one sells.
        shop.server.signal("CONT");
        holds(&shop.server, 2).await;
        tills.sold_more(100).await;
        tills.stop();
    });
    let both = [&shop.till, &there];
    tokio::join!(tills.sell_at(&shop, &both, TILLS), async {
        tills.sold_more(100).await;
        tills.stop();
    });
    tills.ask_again(&shop).await;
    settled(&[&shop.server, &other]).await;
    tills.assert_exact(&assert_verified(&shop.blend).await, STOCK);
    assert!(other.sigterm().await.success());
    tills.assert_exact(&shop.close().await, STOCK);
}

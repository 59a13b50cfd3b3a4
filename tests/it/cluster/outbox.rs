//! The broker is away, and sales go on: their events wait in Redis, and none of them is lost, whoever dies meanwhile.

use super::{DURABLE, Servers, settled, till_at};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::ledger::assert_verified;
use crate::support::process::Server;
use crate::support::shop::Shop;
use crate::support::tills::Tills;

const STOCK: u32 = 1_000_000;
const TILLS: usize = 8;

async fn waiting(server: &Server) -> Option<u64> {
    let ready = Api::anonymous(&server.url()).get("/ready").await;
    ready.json["checks"]["outbox"]["events"].as_u64()
}

/// Sells so many while the broker is away.
async fn sell_without_broker(tills: &Tills, shop: &Shop, sales: usize) {
    tokio::join!(tills.sell(shop, TILLS), async {
        tills.sold_more(sales).await;
        tills.stop();
    });
}

#[tokio::test]
async fn sales_go_on_without_the_broker_and_are_all_in_the_ledger_afterwards() {
    let mut servers = Servers::with_redis(DURABLE).await;
    let shop = servers.shop(STOCK).await;
    let tills = Tills::default();
    let stranger = Api::anonymous(&shop.server.url());
    for _ in 0..2 {
        tokio::join!(tills.sell(&shop, TILLS), async {
            tills.sold_more(50).await;
            servers.rabbitmq.kill();
            tills.sold_more(200).await;
            eventually("/ready says that events wait, and that the shop sells", async || {
                let ready = stranger.get("/ready").await;
                let outbox = &ready.json["checks"]["outbox"];
                let waits = outbox["events"].as_u64()? > 0 && outbox["sells_without_broker"] == true;
                (waits && ready.status == 200 && ready.json["status"] == "degraded").then_some(())
            })
            .await;
            servers.rabbitmq.restart().await;
            tills.sold_more(50).await;
            eventually("all of it is published", async || (waiting(&shop.server).await? == 0).then_some(()))
                .await;
            tills.sold_more(50).await;
            tills.stop();
        });
        assert_eq!(tills.open(), 0, "every request was answered with its sale");
        tills.assert_exact(&shop.books().await, STOCK);
    }
    tills.assert_found(&shop).await;
    tills.assert_exact(&shop.close().await, STOCK);
}

#[tokio::test]
async fn whoever_dies_while_sales_wait_for_the_broker_none_is_lost() {
    let mut servers = Servers::with_redis(DURABLE).await;
    let mut shop = servers.shop(STOCK).await;
    let tills = Tills::default();
    for victims in [&["node"][..], &["redis"], &["node", "redis"]] {
        sell_without_broker(&tills, &shop, 20).await;
        servers.rabbitmq.kill();
        sell_without_broker(&tills, &shop, 100).await;
        assert!(waiting(&shop.server).await > Some(0), "{victims:?}");
        if victims.contains(&"node") {
            shop.server.signal("KILL");
            shop.server.ended().await;
        }
        if victims.contains(&"redis") {
            servers.redis.kill_and_restart().await;
        }
        servers.rabbitmq.restart().await;
        if victims.contains(&"node") {
            shop.start_again().await;
        }
        eventually("all of it is published", async || (waiting(&shop.server).await? == 0).then_some(()))
            .await;
        tills.ask_again(&shop).await;
        tills.assert_exact(&shop.books().await, STOCK);
    }
    tills.assert_exact(&shop.close().await, STOCK);
}

#[tokio::test]
async fn another_node_publishes_what_one_that_died_left_in_the_outbox() {
    let mut servers = Servers::with_redis(DURABLE).await;
    let mut shop = servers.shop(STOCK).await;
    let second = servers.node();
    let mut other = second.serve().await;
    super::holds(&other, 2).await;
    super::holds(&shop.server, 2).await;
    let tills = Tills::default();
    servers.rabbitmq.kill();
    // At either node: one of them has the shard and its outbox.
    let there = till_at(&shop, &other);
    let both = [&shop.till, &there];
    tokio::join!(tills.sell_at(&shop, &both, TILLS), async {
        tills.sold_more(60).await;
        tills.stop();
    });
    let dies_here = waiting(&shop.server).await > Some(0);
    let (victim, survivor) =
        if dies_here { (&mut shop.server, &mut other) } else { (&mut other, &mut shop.server) };
    assert!(waiting(victim).await > Some(0));
    victim.signal("KILL");
    victim.ended().await;
    servers.rabbitmq.restart().await;
    super::holds(survivor, 4).await;
    eventually("all of it is published", async || (waiting(survivor).await? == 0).then_some(())).await;
    settled(&[survivor]).await;
    if dies_here {
        shop.start_again().await;
    } else {
        other = second.serve().await;
    }
    tills.ask_again(&shop).await;
    settled(&[&shop.server, &other]).await;
    tills.assert_exact(&assert_verified(&shop.blend).await, STOCK);
    assert!(other.sigterm().await.success());
    tills.assert_exact(&shop.close().await, STOCK);
}

/// Redis keeps nothing, and the operator wants to sell all the same: what waits is also in the node's memory.
#[tokio::test]
async fn a_redis_that_comes_back_empty_gets_what_waits_again() {
    let mut servers = Servers::start().await;
    let mut node = servers.node();
    node.set("BLEND_BUS__SELL_WITHOUT_BROKER", "always");
    let shop = servers.shop_on(node, STOCK).await;
    let tills = Tills::default();
    servers.rabbitmq.kill();
    sell_without_broker(&tills, &shop, 50).await;
    servers.redis.kill_and_restart().await;
    servers.rabbitmq.restart().await;
    eventually("all of it is published", async || (waiting(&shop.server).await? == 0).then_some(())).await;
    tills.ask_again(&shop).await;
    tills.assert_exact(&shop.books().await, STOCK);
    tills.assert_exact(&shop.close().await, STOCK);
}

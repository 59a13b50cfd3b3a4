//! What the ledger cannot take in lies among the dead letters, and the checker of the laws says so.

use super::Servers;
use crate::support::eventually;
use crate::support::shop::PLAIN;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection, ConnectionProperties};

#[tokio::test]
async fn a_message_that_nobody_understands_is_kept_and_named_by_the_checker() {
    let servers = Servers::start().await;
    let shop = servers.shop(1_000).await;
    let connection =
        Connection::connect(&servers.rabbitmq.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let properties = BasicProperties::default().with_type("sales.eaten".into()).with_message_id("m-1".into());
    let (key, options) = ("queue.sales.created.0".into(), BasicPublishOptions::default());
    channel.basic_publish("".into(), key, options, b"{\"total\":1}", properties).await.unwrap();
    assert_eq!(shop.sell(&[(PLAIN, "1")]).await.status, 201, "it is in nobody's way");
    let ran = eventually("the checker finds it", async || {
        let ran = shop.blend.command(&["verify"]).await;
        (ran.code == Some(1)).then_some(ran)
    })
    .await;
    for part in ["law 7 (nothing is swallowed)", "row of dead letters cannot be read", "sales.eaten"] {
        assert!(ran.stdout.contains(part), "{part} is not in {}", ran.stdout);
    }
}

/// The ledger refuses a sale for a reason that somebody mends later; until then it is listed, and sold in every rebuild,
/// then it is tried again.
#[tokio::test]
async fn what_was_given_up_stays_sold_and_is_replayed_once_its_cause_is_mended() {
    let mut servers = Servers::start().await;
    let mut node = servers.node();
    node.set("BLEND_JOURNAL__RETRY_SECS", "[0]");
    let shop = servers.shop_on(node, 1_000).await;
    servers.postgres.sql("ALTER TABLE sales ADD CONSTRAINT no_more CHECK (id IS NULL) NOT VALID");
    for _ in 0..3 {
        assert_eq!(shop.sell(&[(PLAIN, "2")]).await.status, 201);
    }
    let listed = eventually("they are given up", async || {
        let listed = shop.blend.command(&["dlq", "ls"]).await.done();
        listed.contains("3 in all").then_some(listed)
    })
    .await;
    assert!(listed.contains("no_more"), "{listed}");
    // Redis comes back empty, and the ledger has none of the three.
    servers.redis.kill_and_restart().await;
    let refused = eventually("the shard is rebuilt", async || {
        let reply = shop.sell(&[(PLAIN, "995")]).await;
        (reply.status != 503).then_some(reply)
    })
    .await;
    assert_eq!(refused.outcome(), (400, "stock_insuficiente"));
    assert_eq!(shop.stock(PLAIN).await, "994");
    let dry = shop.blend.command(&["dlq", "replay", "--all", "--dry-run"]).await.done();
    assert!(dry.contains("3 would be tried again"), "{dry}");
    servers.postgres.sql("ALTER TABLE sales DROP CONSTRAINT no_more");
    let replayed = shop.blend.command(&["dlq", "replay", "--all"]).await.done();
    assert!(replayed.contains("3 are tried again"), "{replayed}");
    eventually("none is left", async || {
        shop.blend.command(&["dlq", "ls"]).await.done().contains("0 in all").then_some(())
    })
    .await;
    let books = shop.close().await;
    assert_eq!((books.sales.len(), books.stock[PLAIN]), (3, 994_000));
}

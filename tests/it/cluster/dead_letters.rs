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

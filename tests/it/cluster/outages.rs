//! A server that is away for a while: what the till gets, what operators see, and that it heals alone.

use super::{Servers, ledger_waits};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::shop::{PLAIN, Shop};

async fn ready(shop: &Shop) -> (u16, serde_json::Value) {
    let answer = Api::anonymous(&shop.server.url()).get("/ready").await;
    (answer.status, answer.json)
}

#[tokio::test]
async fn without_the_database_the_shop_sells_on_and_the_ledger_catches_up() {
    let mut servers = Servers::start().await;
    let shop = servers.shop(1_000).await;
    servers.postgres.kill();
    for _ in 0..20 {
        assert_eq!(shop.sell(&[(PLAIN, "1")]).await.status, 201);
    }
    eventually("/ready says that the ledger waits", async || {
        let (status, json) = ready(&shop).await;
        (status == 200 && json["status"] == "degraded" && ledger_waits(&json)).then_some(())
    })
    .await;
    servers.postgres.restart().await;
    eventually("/ready is well again", async || (ready(&shop).await.1["status"] == "ready").then_some(()))
        .await;
    let books = shop.close().await;
    assert_eq!(books.sales.len(), 20);
    assert_eq!(books.stock[PLAIN], 980_000);
}

#[tokio::test]
async fn without_the_broker_a_till_is_told_that_the_outcome_is_unknown_and_its_key_tells_later() {
    let mut servers = Servers::start().await;
    let mut node = servers.node();
    node.set("BLEND_SERVER__ANSWER_TIMEOUT_SECS", "2");
    let shop = servers.shop_on(node, 1_000).await;
    servers.rabbitmq.kill();
    let basket = shop.basket(&[(PLAIN, "3")]);
    let refused = shop.till.checkout(basket.clone(), Some("k-1")).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    servers.rabbitmq.restart().await;
    let sold = eventually("the same request is decided", async || {
        let answer = shop.till.checkout(basket.clone(), Some("k-1")).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(sold.status, 201, "{sold:?}");
    let books = shop.close().await;
    assert_eq!((books.sales.len(), books.stock[PLAIN]), (1, 997_000));
}

//! Two nodes on the same servers: one sells, the other stands by and takes over.

use super::Servers;
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::tills::Tills;

const STOCK: u32 = 1_000_000;

async fn is_ready(url: &str) -> bool {
    Api::anonymous(url).get("/ready").await.status == 200
}

#[tokio::test]
async fn a_node_that_is_killed_is_replaced_by_the_one_that_stood_by() {
    let servers = Servers::start().await;
    let mut shop = servers.shop(STOCK).await;
    let second = servers.node();
    let standby = second.stand_by().await;
    assert!(!is_ready(&standby.url()).await, "only one sells");
    let tills = Tills::default();
    tokio::join!(tills.sell(&shop, 16), async {
        tills.sold_more(200).await;
        shop.server.signal("KILL");
    });
    shop.server.ended().await;
    eventually("the other one takes over", async || is_ready(&standby.url()).await.then_some(())).await;
    shop.move_to(second, standby);
    tills.ask_again(&shop).await;
    tokio::join!(tills.sell(&shop, 16), async {
        tills.sold_more(100).await;
        tills.stop();
    });
    tills.ask_again(&shop).await;
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
    let mut shop = servers.shop_on(first, STOCK).await;
    let standby = second.stand_by().await;
    let tills = Tills::default();
    tokio::join!(tills.sell(&shop, 8), async {
        tills.sold_more(100).await;
        tills.stop();
    });
    shop.server.signal("STOP");
    eventually("the other one takes over", async || is_ready(&standby.url()).await.then_some(())).await;
    let (paused, paused_server) = shop.move_to(second, standby);
    tokio::join!(tills.sell(&shop, 8), async {
        tills.sold_more(100).await;
        tills.stop();
    });
    paused_server.signal("CONT");
    // Asked for the same things, the first one sells none of them.
    let stale = Api::new(&paused_server.url(), &paused.token(shop.tenant, blend::http::Role::Cajero));
    for number in 0..5 {
        let basket = shop.basket(&[("P01", "1")]);
        let answer = stale.checkout(basket, Some(&format!("stale-{number}"))).await;
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    tills.ask_again(&shop).await;
    tills.assert_exact(&shop.books().await, STOCK);
    drop(paused_server);
    tills.assert_exact(&shop.close().await, STOCK);
}

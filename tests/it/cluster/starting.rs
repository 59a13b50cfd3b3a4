//! A node that is started while a server is away waits for it, says so, and sells once it is there. What waiting does
//! not mend ends it at once.

use super::{POSTGRES, RABBITMQ, REDIS, Servers, Way};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::proxy::Weather;
use crate::support::shop::PLAIN;
use blend::http::Role;

#[tokio::test]
async fn a_node_that_is_started_while_a_server_is_away_waits_and_heals() {
    let servers = Servers::start().await;
    let (node, proxies) = servers.node_behind_proxies().await;
    let mut shop = servers.shop_on(node, 1_000).await;
    let mut sold = 0;
    let ways: [(&str, Way); 3] = [("PostgreSQL", POSTGRES), ("RabbitMQ", RABBITMQ), ("Redis", REDIS)];
    for (name, at) in ways {
        for weather in [Weather::Cut, Weather::Still] {
            shop.server.signal("TERM");
            assert!(shop.server.ended().await.success());
            at(&proxies).set(weather);
            shop.server = shop.blend.stand_by().await;
            let stranger = Api::anonymous(&shop.server.url());
            eventually(&format!("/ready names {name}"), async || {
                let ready = stranger.get("/ready").await;
                assert_eq!(ready.outcome(), (503, "no_lista"));
                let checks = &ready.details()["checks"];
                (checks[name]["ok"] == false && checks[name]["last_error"].is_string()).then_some(())
            })
            .await;
            assert_eq!(stranger.get("/health").await.status, 200);
            shop.till = shop.caller(Role::Cajero);
            let basket = shop.basket(&[(PLAIN, "1")]);
            let refused = shop.till.checkout(basket.clone(), None).await;
            assert_eq!(refused.outcome(), (503, "no_disponible"), "{name}");
            let said = shop.server.stderr();
            assert!(said.contains("waiting for a server"), "{name}");
            assert!(!said.contains("no_lista"), "a probe that is told no is no news: {said}");
            at(&proxies).set(Weather::Fair);
            let key = format!("start-{sold}");
            eventually(&format!("it sells once {name} is there"), async || {
                let answer = shop.till.checkout(basket.clone(), Some(&key)).await;
                (answer.status == 201).then_some(())
            })
            .await;
            sold += 1;
        }
    }
    let books = shop.close().await;
    assert_eq!((books.sales.len(), books.stock[PLAIN]), (sold, 1_000_000 - sold as i64 * 1_000));
}

/// Told to stop while it waits, it stops.
#[tokio::test]
async fn a_node_that_waits_for_a_server_ends_when_it_is_told_to() {
    let servers = Servers::start().await;
    let mut node = servers.node();
    node.set("REDIS_URL", &format!("redis://127.0.0.1:{}", crate::servers::free_port()));
    let server = node.stand_by().await;
    let stranger = Api::anonymous(&server.url());
    eventually("it waits", async || (stranger.get("/ready").await.status == 503).then_some(())).await;
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn what_waiting_does_not_mend_ends_a_start_at_once() {
    let servers = Servers::start().await;
    // A queue that is not what the settings ask for.
    let connection = lapin::Connection::connect(&servers.rabbitmq.url(), Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = "queue.sales.created.dlq";
    let declared = channel.queue_declare(queue.into(), Default::default(), Default::default());
    declared.await.unwrap();
    let said = servers.node().command(&["serve", "--listen", "127.0.0.1:0"]).await.refused();
    assert!(said.contains("queue.sales.created.dlq exists with other arguments"), "{said}");
    channel.queue_delete(queue.into(), Default::default()).await.unwrap();
    let rabbitmq = servers.rabbitmq.url_with("guest", "wrong", "%2f");
    let vhost = servers.rabbitmq.url_with("guest", "guest", "nowhere");
    let redis = servers.redis.url_with("wrong");
    let postgres = servers.postgres.url("nowhere");
    for (name, value, word) in [
        ("RABBITMQ_URL", rabbitmq, "refuses the user or the password"),
        ("RABBITMQ_URL", vhost, "virtual host"),
        ("REDIS_URL", redis, "user or password refused"),
        ("DATABASE_URL", postgres, "nowhere"),
    ] {
        let mut node = servers.node();
        node.set(name, &value);
        let said = node.command(&["serve", "--listen", "127.0.0.1:0"]).await.refused();
        assert!(said.contains(word), "{name}: {word} is not in {said}");
        assert!(!said.contains("guest:wrong"), "{said}");
    }
}

/// A node that counts shards otherwise than those that run ends with both numbers, and so does a command; those that run
/// go on.
#[tokio::test]
async fn a_node_that_counts_shards_otherwise_ends_and_says_both_numbers() {
    let servers = Servers::start().await;
    let shop = servers.shop(1_000).await;
    let (mut other, shards) = (servers.node(), blend::config::Config::load(None).unwrap().engine.shards);
    let wrong = if shards == 2 { 1 } else { 2 };
    other.set("BLEND_ENGINE__SHARDS", &wrong.to_string());
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["tenant", "list"]] {
        let said = other.command(command).await.refused();
        let named =
            format!("engine.shards is {wrong} here and {shards} at nodes of this installation that run");
        assert!(said.contains(&named) && said.contains("give all nodes the same"), "{command:?}: {said}");
    }
    shop.sell(&[(PLAIN, "1")]).await.sale();
    assert_eq!(shop.close().await.sales.len(), 1);
}

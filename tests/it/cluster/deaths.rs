//! Under load, each of the servers and the node itself is killed, again and again.

use super::Servers;
use crate::support::dice::Dice;
use crate::support::tills::Tills;
use std::time::Duration;
use tokio::time::sleep;

const STOCK: u32 = 1_000_000;
const TILLS: usize = 16;
const ROUNDS: usize = 8;

#[tokio::test]
async fn whoever_is_killed_each_basket_is_sold_exactly_once() {
    let mut dice = Dice::new();
    let mut servers = Servers::start().await;
    let mut shop = servers.shop(STOCK).await;
    let tills = Tills::default();
    for round in 0..ROUNDS {
        let (before, victim) = (tills.acknowledged(), ["node", "redis", "rabbitmq", "postgresql"][round % 4]);
        let pause = Duration::from_micros(dice.below(300_000));
        if victim == "node" {
            tokio::join!(tills.sell(&shop, TILLS), async {
                tills.sold_more(20).await;
                sleep(pause).await;
                shop.server.signal("KILL");
            });
            shop.server.ended().await;
            shop.start_again().await;
        } else {
            tokio::join!(tills.sell(&shop, TILLS), async {
                tills.sold_more(20).await;
                sleep(pause).await;
                match victim {
                    "redis" => servers.redis.kill_and_restart().await,
                    "rabbitmq" => {
                        servers.rabbitmq.kill();
                        servers.rabbitmq.restart().await;
                    }
                    _ => {
                        servers.postgres.kill();
                        servers.postgres.restart().await;
                    }
                }
                // It heals without anybody's doing.
                tills.sold_more(20).await;
                tills.stop();
            });
        }
        let open = tills.ask_again(&shop).await;
        eprintln!(
            "{victim} killed: {} sales; {open} without an answer had been sold",
            tills.acknowledged() - before
        );
        tills.assert_exact(&shop.books().await, STOCK);
    }
    tills.assert_found(&shop).await;
    tills.assert_exact(&shop.close().await, STOCK);
}

#[tokio::test]
async fn a_hot_tier_that_vanishes_under_load_is_rebuilt_and_sells_nothing_twice() {
    let servers = Servers::start().await;
    let shop = servers.shop(STOCK).await;
    let tills = Tills::default();
    tokio::join!(tills.sell(&shop, TILLS), async {
        for _ in 0..5 {
            tills.sold_more(50).await;
            let _: String = servers.redis.run(&["FLUSHALL"]).await;
            tills.sold_more(20).await;
            // One key of many, as an eviction would take it.
            let key: Option<String> = servers.redis.run(&["RANDOMKEY"]).await;
            if let Some(key) = key {
                let _: i64 = servers.redis.run(&["DEL", &key]).await;
            }
        }
        tills.sold_more(50).await;
        tills.stop();
    });
    tills.ask_again(&shop).await;
    tills.assert_exact(&shop.books().await, STOCK);
    tills.assert_exact(&shop.close().await, STOCK);
}

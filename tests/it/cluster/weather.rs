//! Each of the servers slow, standing still, or cut off: what the till gets, what operators see, and that it heals
//! alone.

use super::{POSTGRES, RABBITMQ, REDIS, Servers, Way, ledger_waits};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::proxy::Weather;
use crate::support::shop::{PLAIN, Shop};
use crate::support::tills::Tills;
use serde_json::Value;
use std::time::{Duration, Instant};

const STOCK: u32 = 1_000;
/// Enough to be felt, and within every limit.
const SLOW: Weather = Weather::Slow(Duration::from_millis(60));
/// The node waits two seconds at most for each server, and so do the tills for their answer.
const SOON: Duration = Duration::from_secs(8);

/// `ledger.max_connections`: they are opened when they are needed first.
const POOL: u64 = 8;

/// What operators see.
enum Seen {
    /// Nothing: all is well.
    Nothing,
    /// `/ready` is 200 and says that the ledger waits.
    LedgerWaits,
    /// `/ready` is 503.
    NotReady,
    /// A word in the log.
    Logged(&'static str),
}

struct Outage {
    name: &'static str,
    at: Way,
    weather: Weather,
    /// The answers that a till may get meanwhile.
    till: &'static [(u16, &'static str)],
    seen: Seen,
}

const SOLD: &[(u16, &str)] = &[(201, "")];
const NOT_RECORDED: &[(u16, &str)] = &[(503, "no_registrada"), (503, "resultado_desconocido")];
const UNKNOWN: &[(u16, &str)] = &[(503, "resultado_desconocido")];

fn outages() -> [Outage; 9] {
    let outage = |name, at: Way, weather, till, seen| Outage { name, at, weather, till, seen };
    let lost = || Seen::Logged("the hot tier is lost");
    [
        outage("PostgreSQL is slow", POSTGRES, SLOW, SOLD, Seen::Nothing),
        outage("PostgreSQL stands still", POSTGRES, Weather::Still, SOLD, Seen::LedgerWaits),
        outage("PostgreSQL is cut off", POSTGRES, Weather::Cut, SOLD, Seen::LedgerWaits),
        outage("RabbitMQ is slow", RABBITMQ, SLOW, SOLD, Seen::Nothing),
        outage("RabbitMQ stands still", RABBITMQ, Weather::Still, NOT_RECORDED, Seen::NotReady),
        outage("RabbitMQ is cut off", RABBITMQ, Weather::Cut, NOT_RECORDED, Seen::NotReady),
        outage("Redis is slow", REDIS, SLOW, SOLD, Seen::Nothing),
        outage("Redis stands still", REDIS, Weather::Still, UNKNOWN, lost()),
        outage("Redis is cut off", REDIS, Weather::Cut, UNKNOWN, lost()),
    ]
}

async fn ready(shop: &Shop) -> (u16, Value) {
    let answer = Api::anonymous(&shop.server.url()).get("/ready").await;
    (answer.status, answer.json)
}

async fn is_seen(shop: &Shop, seen: &Seen, log_before: usize) -> bool {
    match seen {
        Seen::Nothing => ready(shop).await.1["status"] == "ready",
        Seen::LedgerWaits => {
            let (status, json) = ready(shop).await;
            status == 200 && json["status"] == "degraded" && ledger_waits(&json)
        }
        Seen::NotReady => ready(shop).await.0 == 503,
        Seen::Logged(word) => shop.server.stderr()[log_before..].contains(word),
    }
}

#[tokio::test]
async fn whatever_is_slow_still_or_cut_off_the_till_is_told_and_it_heals() {
    let servers = Servers::start().await;
    let (node, proxies) = servers.node_behind_proxies().await;
    let shop = servers.shop_on(node, STOCK).await;
    let mut sold = 0;
    for (number, Outage { name, at, weather, till, seen }) in outages().into_iter().enumerate() {
        let log_before = shop.server.stderr().len();
        at(&proxies).set(weather);
        let (began, basket) = (Instant::now(), shop.basket(&[(PLAIN, "1")]));
        let mut keys = Vec::new();
        // Until it is seen, tills go on.
        eventually(&format!("{name}: operators see it"), async || {
            let key = format!("outage-{number}-{}", keys.len());
            let answer = shop.till.checkout(basket.clone(), Some(&key)).await;
            assert!(till.contains(&answer.outcome()), "{name}: {answer:?}");
            keys.push(key);
            is_seen(&shop, &seen, log_before).await.then_some(())
        })
        .await;
        let seen_after = began.elapsed();
        at(&proxies).set(Weather::Fair);
        let began = Instant::now();
        for key in &keys {
            let sold = eventually(&format!("{name}: {key} is decided"), async || {
                let answer = shop.till.checkout(basket.clone(), Some(key)).await;
                (answer.status != 503).then_some(answer)
            })
            .await;
            assert_eq!(sold.status, 201, "{name}: {key}");
        }
        eventually(&format!("{name}: all is well again"), async || {
            (ready(&shop).await.1["status"] == "ready").then_some(())
        })
        .await;
        sold += keys.len();
        let books = shop.books().await;
        assert_eq!(books.sales.len(), sold, "{name}");
        assert_eq!(books.stock[PLAIN], i64::from(STOCK) * 1_000 - sold as i64 * 1_000, "{name}");
        eprintln!(
            "{name}: seen after {} ms, well {} ms after its end; {} sales meanwhile",
            seen_after.as_millis(),
            began.elapsed().as_millis(),
            keys.len()
        );
    }
    shop.close().await;
}

/// Longer than a shard waits for Redis before it tries from the beginning.
#[tokio::test]
async fn a_redis_that_was_away_for_long_is_filled_again_when_it_is_back() {
    let servers = Servers::start().await;
    let (node, proxies) = servers.node_behind_proxies().await;
    let shop = servers.shop_on(node, STOCK).await;
    assert_eq!(shop.sell(&[(PLAIN, "1")]).await.status, 201);
    proxies.redis.set(Weather::Cut);
    eventually("a shard has begun anew without Redis", async || {
        let answer = shop.sell(&[(PLAIN, "1")]).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        let actors = Api::anonymous(&shop.server.url()).get("/ops/actors").await;
        let actors = actors.json["actors"].as_array().unwrap();
        actors.iter().any(|actor| actor["kind"] == "reservation" && actor["restarts"] != 0).then_some(())
    })
    .await;
    proxies.redis.set(Weather::Fair);
    let began = Instant::now();
    let basket = shop.basket(&[(PLAIN, "1")]);
    let answer = eventually("it sells again", async || {
        let answer = shop.till.checkout(basket.clone(), Some("after")).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
    // Of those who were told that nobody knew, some may have been sold; stock and books agree about it.
    let books = shop.close().await;
    let sold = i64::try_from(books.sales.len()).unwrap();
    assert!(sold >= 2 && books.by_key().contains_key("after"));
    assert_eq!(books.stock[PLAIN], (i64::from(STOCK) - sold) * 1_000);
}

/// No sale pays for a connection of its own, to whichever server.
#[tokio::test]
async fn d35_sales_share_the_connections_there_are() {
    let servers = Servers::start().await;
    let (node, proxies) = servers.node_behind_proxies().await;
    let shop = servers.shop_on(node, STOCK).await;
    let tills = Tills::default();
    let sell = async |sales| {
        tokio::join!(tills.sell(&shop, 16), async {
            tills.sold_more(sales).await;
            tills.stop();
        });
        shop.settled().await;
        [REDIS, RABBITMQ, POSTGRES].map(|at| at(&proxies).made())
    };
    let [redis, rabbitmq, postgres] = sell(50).await;
    let began = Instant::now();
    let [more_redis, more_rabbitmq, more_postgres] = sell(300).await;
    assert_eq!(more_redis, redis);
    // Dead letters are counted every ten seconds, and groups that nobody wants are ended once, each over a connection
    // that is closed again.
    let others = began.elapsed().as_secs() / 10 + 2;
    assert!(more_rabbitmq <= rabbitmq + others, "{rabbitmq} connections became {more_rabbitmq}");
    assert!(more_postgres <= postgres + POOL, "{postgres} connections became {more_postgres}");
    tills.assert_exact(&shop.close().await, STOCK);
}

//! Over PostgreSQL, RabbitMQ and Redis: the same laws, whichever of them dies.

mod dead_letters;
mod deaths;
mod following;
mod markets;
mod moments;
mod outages;
mod outbox;
mod side_by_side;
mod starting;
mod torture;
mod tracing;
mod weather;

use crate::servers::postgres::Postgres;
use crate::servers::rabbitmq::RabbitMq;
use crate::servers::redis::RedisServer;
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::{Blend, Server};
use crate::support::proxy::Proxy;
use crate::support::shop::{PLAIN, Shop, catalogue};
use crate::support::tills::Tills;
use blend::http::Role;
use serde_json::Value;

/// What all nodes of a chain must share to take each other's tokens.
const SECRET: &str = "un secreto de prueba de al menos 32 bytes";

/// Every write is on the disk before it is answered.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// The three servers of one chain.
struct Servers {
    postgres: Postgres,
    rabbitmq: RabbitMq,
    redis: RedisServer,
}

/// What stands between a node and each of them.
struct Proxies {
    redis: Proxy,
    rabbitmq: Proxy,
    postgres: Proxy,
}

/// Which of them.
type Way = fn(&Proxies) -> &Proxy;
const REDIS: Way = |proxies| &proxies.redis;
const RABBITMQ: Way = |proxies| &proxies.rabbitmq;
const POSTGRES: Way = |proxies| &proxies.postgres;

impl Servers {
    async fn start() -> Self {
        Self::with_redis(&[]).await
    }

    async fn with_redis(options: &[&str]) -> Self {
        let (postgres, rabbitmq, redis) =
            tokio::join!(Postgres::start(), RabbitMq::start(), RedisServer::start(options));
        Self { postgres, rabbitmq, redis }
    }

    /// A node on them, with a data directory of its own.
    fn node(&self) -> Blend {
        Blend::with(&[
            ("DATABASE_URL", &self.postgres.url("postgres")),
            ("RABBITMQ_URL", &self.rabbitmq.url()),
            ("REDIS_URL", &self.redis.url()),
            ("BLEND_AUTH__JWT_SECRET", SECRET),
        ])
    }

    /// A node that reaches them through these proxies only, and soon gives up on what does not answer.
    async fn node_behind_proxies(&self) -> (Blend, Proxies) {
        let proxies = Proxies {
            redis: Proxy::before(self.redis.port()).await,
            rabbitmq: Proxy::before(self.rabbitmq.port()).await,
            postgres: Proxy::before(self.postgres.port).await,
        };
        let mut node = self.node();
        for (name, value) in [
            ("DATABASE_URL", &*proxies.postgres.through(&self.postgres.url("postgres"))),
            ("RABBITMQ_URL", &*proxies.rabbitmq.through(&self.rabbitmq.url())),
            ("REDIS_URL", &*proxies.redis.through(&self.redis.url())),
            ("BLEND_STOCK__TIMEOUT_MS", "1000"),
            ("BLEND_BUS__CONFIRM_TIMEOUT_SECS", "2"),
            ("BLEND_LEDGER__TIMEOUT_SECS", "2"),
            ("BLEND_SERVER__ANSWER_TIMEOUT_SECS", "2"),
        ] {
            node.set(name, value);
        }
        (node, proxies)
    }

    async fn shop(&self, stock: u32) -> Shop {
        self.shop_on(self.node(), stock).await
    }

    /// Opened, and far enough for the broker to be killed: RabbitMQ 3.10 forgets a quorum queue that it has not
    /// written down.
    async fn shop_on(&self, node: Blend, stock: u32) -> Shop {
        let shop = Shop::open_on(node, &catalogue(stock), &[]).await;
        self.rabbitmq.await_written("queue.sales.created.3").await;
        shop
    }
}

/// Whether `/ready` says of the ledger of any shard that it waits.
fn ledger_waits(ready: &Value) -> bool {
    let checks = ready["checks"].as_object().into_iter().flatten();
    checks.filter(|(name, _)| name.starts_with("ledger-")).any(|(_, check)| check["ok"] == false)
}

/// A till of the same shop at another node.
fn till_at(shop: &Shop, server: &Server) -> Api {
    Api::new(&server.url(), &shop.blend.token(shop.tenant, Role::Cajero))
}

/// Waits until a node has so many of the shards, and every shard a node.
async fn holds(server: &Server, shards: usize) {
    let stranger = Api::anonymous(&server.url());
    eventually(&format!("a node has {shards} shards"), async || {
        let (ready, actors) = (stranger.get("/ready").await, stranger.get("/ops/actors").await);
        let of_shards =
            |actor: &&Value| actor["name"].as_str().is_some_and(|name| name.starts_with("reservation-"));
        let here = actors.json["actors"].as_array()?.iter().filter(of_shards);
        let running = here.filter(|actor| actor["state"] == "running").count();
        (ready.status == 200 && ready.json["checks"]["shards"]["ok"] == true && running == shards)
            .then_some(())
    })
    .await;
}

/// The ledger has everything that either of them sold.
async fn settled(servers: &[&Server]) {
    for server in servers {
        let stranger = Api::anonymous(&server.url());
        eventually("the ledger catches up", async || {
            (stranger.get("/ready").await.json["checks"]["ledger_lag"]["events"] == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_shop_sells_over_the_three_servers_and_finds_everything_again() {
    let servers = Servers::start().await;
    let mut shop = servers.shop(1_000).await;
    let tills = Tills::default();
    tokio::join!(tills.sell(&shop, 16), async {
        tills.sold_more(300).await;
        tills.stop();
    });
    assert_eq!(tills.ask_again(&shop).await, 0, "nothing was left without an answer");
    tills.assert_exact(&shop.books().await, 1_000);
    tills.assert_found(&shop).await;
    let before = shop.stock(PLAIN).await;
    shop.restart().await;
    assert_eq!(shop.stock(PLAIN).await, before);
    shop.crash().await;
    assert_eq!(shop.stock(PLAIN).await, before);
    // Nothing of it is on this node's disk.
    for file in ["ledger.db", "journal.db"] {
        assert!(!shop.blend.data_dir().join(file).exists(), "{file}");
    }
    tills.assert_exact(&shop.close().await, 1_000);
}

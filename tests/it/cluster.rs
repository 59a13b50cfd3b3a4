//! Over PostgreSQL, RabbitMQ and Redis: the same laws, whichever of them dies.

mod dead_letters;
mod deaths;
mod moments;
mod outages;
mod standby;
mod torture;
mod tracing;
mod weather;

use crate::servers::postgres::Postgres;
use crate::servers::rabbitmq::RabbitMq;
use crate::servers::redis::RedisServer;
use crate::support::process::Blend;
use crate::support::proxy::Proxy;
use crate::support::shop::{PLAIN, Shop, catalogue};
use crate::support::tills::Tills;

/// What all nodes of a chain must share to take each other's tokens.
const SECRET: &str = "un secreto de prueba de al menos 32 bytes";

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
        let (postgres, rabbitmq, redis) =
            tokio::join!(Postgres::start(), RabbitMq::start(), RedisServer::start(&[]));
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

//! A shard whose hot stock is in Redis, while Redis loses things.

use super::erp::{of_item, read};
use super::*;
use crate::servers::redis::RedisServer;
use crate::stock::redis::{RedisHome, RedisSettings};

const UNITS: i64 = 90;
const TILLS: usize = 10;
const EACH: usize = 10;

async fn home(server: &RedisServer) -> Arc<RedisHome> {
    let (url, timeout) = (server.url(), std::time::Duration::from_secs(5));
    // So few keys that most repetitions ask the ledger.
    let keys_per_tenant = 3;
    let settings = RedisSettings { url, timeout, patience: timeout, keys_per_tenant, prefix: String::new() };
    RedisHome::connect(&settings).await.unwrap()
}

/// As a till does: asks again with the same key until it knows. Whether it sold.
async fn sell_one(shards: Shards, shop: Arc<Shop>, key: String) -> bool {
    loop {
        match shards.checkout(ask(&shop, &[(0, 1)], Some(&key))).await {
            Ok(Ok(_)) => return true,
            Ok(Err(Denied::Short(_))) => return false,
            Ok(Err(Denied::Port(_) | Denied::Append(_))) | Err(AskError::Crashed) => {}
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// Tills sell more than there is while Redis is flushed, loses a key, its scripts, its connections, and comes back from
/// an old file: each unit is sold once, each answer is true, each sale is there. (D12, D15, D36, D42)
#[test]
fn d42_whatever_happens_to_redis_each_unit_is_sold_once() {
    on_system(async {
        let mut server = RedisServer::start(&[]).await;
        let home = home(&server).await;
        let mut shop = Shop::new(2);
        let bus = FakeBus::with(shop.opened(UNITS));
        let world = World::over(bus, FakeLedger::default(), home.new_stock());
        let shop = Arc::new(shop);
        let till = async |till: usize| {
            let mut sold = 0;
            for n in 0..EACH {
                let key = format!("{till}-{n}");
                sold += i64::from(sell_one(world.shards.clone(), shop.clone(), key).await);
            }
            sold
        };
        let place = format!("stock:{{{}}}:{}:{}", shop.id(), shop.units[0].id, shop.here());
        let book = format!("stock:{{{}}}:book", shop.id());
        let trouble = async {
            let after = async |sales: usize| {
                until(|| world.bus.sales().len() >= sales).await;
                world.catch_up();
            };
            for (number, words) in [
                &["FLUSHALL"][..],
                &["DEL", &place],
                &["SCRIPT", "FLUSH"],
                &["DEL", &book],
                &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
                &["SAVE"],
            ]
            .into_iter()
            .enumerate()
            {
                after((number + 1) * 10).await;
                server.run::<::redis::Value>(words).await;
            }
            after(70).await;
            server.kill_and_restart().await;
        };
        let (sold, ()) = tokio::join!(join_all((0..TILLS).map(till)), trouble);
        assert_eq!(sold.iter().sum::<i64>(), UNITS);
        assert_eq!(world.bus.sales().len(), usize::try_from(UNITS).unwrap());
        assert_eq!(world.on_hand(&shop).await, [0, UNITS]);
        let rebuilds =
            || world.registry.find("reservation-0").and_then(|shard| shard.observed["rebuilds"].as_u64());
        until(|| rebuilds().is_some_and(|rebuilds| rebuilds > 4)).await;
        world.history_is_sound();
    });
}

/// An old ERP and a till sell the same goods while Redis is flushed again and again: what is left is what both left.
#[test]
fn l13_an_erp_is_followed_over_redis_whatever_it_loses() {
    on_system(async {
        let server = RedisServer::start(&[]).await;
        let home = home(&server).await;
        let mut shop = Shop::new(1);
        let bus = FakeBus::with(shop.opened(1));
        let world = World::over(bus, FakeLedger::default(), home.new_stock());
        let follow = async |count: i64| world.shards.follow(shop.id(), read(&[("A", count)]), caller()).await;
        follow(100).await.unwrap().unwrap();
        let item = Arc::new(of_item(&world, &shop, "A").await);
        for n in 1..=30 {
            assert!(sell_one(world.shards.clone(), item.clone(), format!("k-{n}")).await);
            let followed = follow(100 - 2 * n).await.unwrap().unwrap();
            assert_eq!((followed.applied, followed.held), (1, 0));
            if n % 5 == 0 {
                world.catch_up();
                server.run::<::redis::Value>(&["FLUSHALL"]).await;
            }
        }
        assert_eq!(world.on_hand(&item).await, [100 - 30 - 60]);
        // More than there is: the rest is a conflict, here as in memory.
        let followed = follow(0).await.unwrap().unwrap();
        assert_eq!((followed.short, world.on_hand(&item).await), (1, vec![0]));
        world.history_is_sound();
    });
}

//! A shard whose hot stock is in Redis, while Redis loses things.

use super::erp::{of_item, read};
use super::*;
use crate::servers::redis::RedisServer;
use crate::stock::redis::{RedisHome, RedisSettings};
use std::cell::Cell;

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

/// What happens to Redis, and whether nothing can be sold until it is noticed.
const TROUBLES: [(&[&str], bool); 6] = [
    (&["FLUSHALL"], true),
    (&["DEL", "place"], true),
    (&["SCRIPT", "FLUSH"], false),
    (&["DEL", "book"], true),
    (&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"], false),
    (&["SAVE"], false),
];

/// Tills sell more than there is while Redis is flushed, loses a key, its scripts, its connections, and comes back from
/// an old file: each unit is sold once, each answer is true, each sale is there. (D12, D15, D36, D42)
///
/// Every trouble comes while tills sell, and the tills go on no further than that: how fast they are compared with
/// whoever makes the trouble must not decide what is tested.
#[test]
fn d42_whatever_happens_to_redis_each_unit_is_sold_once() {
    on_system(async {
        let mut server = RedisServer::start(&[]).await;
        let home = home(&server).await;
        let mut shop = Shop::new(2);
        let bus = FakeBus::with(shop.opened(UNITS));
        let world = World::over(bus, FakeLedger::default(), home.new_stock());
        let shop = Arc::new(shop);
        // Asked for so far, and how many may be.
        let (asked, allowed) = (Cell::new(0_usize), Cell::new(20_usize));
        let till = async |till: usize| {
            let mut sold = 0;
            for n in 0..EACH {
                until(|| asked.get() < allowed.get()).await;
                asked.set(asked.get() + 1);
                let key = format!("{till}-{n}");
                sold += i64::from(sell_one(world.shards.clone(), shop.clone(), key).await);
            }
            sold
        };
        let place = format!("stock:{{{}}}:{}:{}", shop.id(), shop.units[0].id, shop.here());
        let book = format!("stock:{{{}}}:book", shop.id());
        let name = |word: &&'static str| match *word {
            "place" => place.clone(),
            "book" => book.clone(),
            word => word.to_owned(),
        };
        let noticed = async |looks: usize| {
            allowed.set(allowed.get() + 10);
            until(|| world.bus.looks() > looks).await;
        };
        let trouble = async {
            for (number, (words, stops)) in TROUBLES.iter().enumerate() {
                until(|| world.bus.sales().len() >= (number + 1) * 10).await;
                world.catch_up();
                let (words, looks): (Vec<String>, _) = (words.iter().map(name).collect(), world.bus.looks());
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                server.run::<::redis::Value>(&words).await;
                // Else at once.
                noticed(if *stops { looks } else { 0 }).await;
            }
            until(|| world.bus.sales().len() >= 70).await;
            world.catch_up();
            let looks = world.bus.looks();
            server.kill_and_restart().await;
            noticed(looks).await;
            allowed.set(usize::MAX);
        };
        let (sold, ()) = tokio::join!(join_all((0..TILLS).map(till)), trouble);
        assert_eq!(sold.iter().sum::<i64>(), UNITS);
        assert_eq!(world.bus.sales().len(), usize::try_from(UNITS).unwrap());
        assert_eq!(world.on_hand(&shop).await, [0, UNITS]);
        world.history_is_sound();
    });
}

/// Requests that come in together are asked about together, and what is decided about each is as if it had come alone:
/// the same key is one sale, and no unit is sold twice.
#[test]
fn what_comes_in_together_is_reserved_together_and_decided_one_by_one() {
    on_system(async {
        let server = RedisServer::start(&[]).await;
        let home = home(&server).await;
        let mut shop = Shop::new(2);
        let bus = FakeBus::with(shop.opened(5));
        let world = World::over(bus, FakeLedger::default(), home.new_stock());
        assert!(sell_one(world.shards.clone(), Arc::new(shop.clone()), "first".into()).await);
        server.run::<()>(&["CONFIG", "RESETSTAT"]).await;
        let ask_with =
            |lines: &[(usize, i64)], key: Option<&str>| world.shards.checkout(ask(&shop, lines, key));
        let answers = join_all([
            ask_with(&[(0, 1)], Some("same")),
            ask_with(&[(0, 1)], Some("same")),
            ask_with(&[(0, 2)], Some("same")),
            ask_with(&[(0, 3), (1, 6)], None),
            ask_with(&[(0, 3)], None),
            ask_with(&[(0, 1)], None),
        ])
        .await;
        let outcomes: Vec<_> = answers
            .into_iter()
            .map(|answer| match answer.unwrap() {
                Ok(sold) => {
                    if sold.replayed {
                        "repeated"
                    } else {
                        "sold"
                    }
                }
                Err(Denied::KeyReused) => "another request",
                Err(Denied::Short(_)) => "short",
                Err(other) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(outcomes, ["sold", "repeated", "another request", "short", "sold", "short"]);
        assert_eq!(world.on_hand(&shop).await, [0, 5]);
        // One script for all of them, one that settles, and the look at what is left.
        let stats: String = server.run(&["INFO", "commandstats"]).await;
        assert!(stats.contains("cmdstat_evalsha:calls=3,"), "{stats}");
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

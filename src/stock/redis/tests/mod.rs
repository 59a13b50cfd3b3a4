//! The adapter against real servers.

mod lost;
mod outbox;
mod raw;

use super::{RedisHome, RedisSettings, Script};
use crate::domain::decimal::Quantity;
use crate::domain::idempotency::{Fingerprint, KeyHash};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::reservation::{Keyed, Reserve};
use crate::domain::stock::{Level, Place};
use crate::ports::PortError;
use crate::ports::stock::HotStock;
use crate::servers::redis::{RedisCluster, RedisServer};
use crate::stock::contract::{self, settle};
use proptest::test_runner::{Config, TestRunner};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use uuid::Uuid;

const KEEP: usize = 4;
const TENANT: TenantId = TenantId(Uuid::from_u128(1));
const LOCATION: LocationId = LocationId(Uuid::from_u128(1));

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn settings(url: String) -> RedisSettings {
    let (timeout, patience) = (Duration::from_secs(5), Duration::from_secs(30));
    RedisSettings { url, timeout, patience, keys_per_tenant: KEEP, prefix: String::new() }
}

async fn home(url: String) -> Arc<RedisHome> {
    RedisHome::connect(&settings(url)).await.unwrap()
}

fn sale(n: u128) -> SaleId {
    SaleId(Uuid::from_u128(n))
}

fn place(n: u128) -> Place {
    (UnitId(Uuid::from_u128(n)), LOCATION)
}

fn quantity(units: i64) -> Quantity {
    Quantity::from_units(units).unwrap()
}

fn ask(id: u128, demand: &[(u128, i64)], key: Option<u128>) -> Reserve {
    let demand = demand.iter().map(|(n, units)| (place(*n).0, quantity(*units))).collect();
    let keyed = key.map(|key| Keyed { key: KeyHash(key), fingerprint: Fingerprint([1; 16]) });
    Reserve { sale: sale(id), location: LOCATION, demand, keyed }
}

async fn load(stock: &mut dyn HotStock, levels: &[(u128, i64)]) -> Result<(), PortError> {
    stock.load(TENANT, levels.iter().map(|(n, units)| (place(*n), quantity(*units))).collect()).await
}

async fn level(stock: &dyn HotStock, n: u128) -> (i64, i64) {
    let level = stock.check(TENANT, place(n)).await.unwrap().unwrap();
    (level.on_hand.units(), level.reserved.units())
}

macro_rules! on_fresh_stock {
    ($runtime:expr, $home:expr, $($name:ident),+ $(,)?) => {$(
        $runtime.block_on(contract::$name(&mut *$home.new_stock()()));
    )+};
}

fn keeps_the_contract(runtime: &Runtime, home: &Arc<RedisHome>, cases: u32) {
    on_fresh_stock!(
        runtime,
        home,
        all_units_are_taken_or_none,
        what_is_not_positive_is_invalid_and_touches_nothing,
        a_place_that_never_had_stock_is_not_an_empty_one,
        what_is_reserved_together_meets_in_its_order,
        settle_and_void_happen_once,
        a_batch_is_settled_together_whatever_its_tenants,
        a_key_is_bound_with_the_units_and_free_after_a_void,
        a_load_starts_the_tenant_over,
        movements_are_all_or_none_at_the_bounds,
        a_tenant_that_is_not_loaded_is_an_error,
        tenants_with_the_same_units_do_not_meet,
    );
    runtime.block_on(contract::the_oldest_keys_are_forgotten_once_the_ledger_has_them(
        &mut *home.new_stock()(),
        KEEP,
    ));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let as_the_book = TestRunner::new(config).run(&contract::steps(), |steps| {
        runtime.block_on(contract::does_what_the_book_does(&mut *home.new_stock()(), steps));
        Ok(())
    });
    as_the_book.unwrap();
}

#[test]
fn one_server_keeps_the_contract() {
    let runtime = runtime();
    let server = runtime.block_on(RedisServer::start(&[]));
    let home = runtime.block_on(home(server.url()));
    keeps_the_contract(&runtime, &home, 96);
}

/// A script that touches a key it did not declare would be refused here, as one whose keys lie in several slots.
#[test]
fn d9_a_cluster_keeps_the_contract() {
    let runtime = runtime();
    let mut cluster = runtime.block_on(RedisCluster::start());
    let home = runtime.block_on(home(cluster.url()));
    assert!(runtime.block_on(home.inspect()).unwrap().is_cluster);
    keeps_the_contract(&runtime, &home, 24);
    // Tenants lie on all nodes, and each node can be asked for the scripts.
    runtime.block_on(async {
        let mut stock = home.new_stock()();
        for n in 1..=60 {
            stock.load(TenantId(Uuid::from_u128(n)), vec![(place(1), quantity(5))]).await.unwrap();
        }
        for n in 1..=60 {
            let tenant = TenantId(Uuid::from_u128(n));
            stock.reserve(tenant, &ask(1, &[(1, 2)], None)).await.unwrap();
            assert!(settle(&mut *stock, tenant, sale(1)).await.unwrap());
            let level = stock.check(tenant, place(1)).await.unwrap().unwrap();
            assert_eq!(level, Level { on_hand: quantity(3), reserved: quantity(0) });
        }
        for node in cluster.nodes() {
            assert!(node.run::<u64>(&["DBSIZE"]).await > 0, "a node without a tenant");
        }
        // One node forgets its scripts, and gets them again.
        cluster.nodes()[1].run::<()>(&["SCRIPT", "FLUSH"]).await;
        for n in 1..=60 {
            assert!(stock.check(TenantId(Uuid::from_u128(n)), place(1)).await.is_ok());
        }
    });
}

#[tokio::test]
async fn a_tenant_of_many_places_is_loaded_and_read_in_pieces() {
    const PLACES: u128 = 30_000;
    let server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let mut stock = home.new_stock()();
    let levels: HashMap<Place, Quantity> =
        (1..=PLACES).map(|n| (place(n), quantity(i64::try_from(n).unwrap()))).collect();
    stock.load(TENANT, levels.clone().into_iter().collect()).await.unwrap();
    let found: HashMap<Place, Quantity> = stock
        .levels(TENANT)
        .await
        .unwrap()
        .into_iter()
        .map(|(place, level)| (place, level.on_hand))
        .collect();
    assert_eq!(found, levels);
    // No piece held the server up for long: none of them took a tenth of a second.
    let slow: Vec<redis::Value> = server.run(&["SLOWLOG", "GET", "100"]).await;
    let slowest = slow.iter().filter_map(|entry| match entry {
        redis::Value::Array(parts) => redis::from_redis_value::<u64>(parts[2].clone()).ok(),
        _ => None,
    });
    let slowest = slowest.max().unwrap_or_default();
    assert!(slowest < 100_000, "{slowest} microseconds");
}

#[tokio::test]
async fn each_command_is_one_round_trip_however_many_lines_it_has() {
    let server = RedisServer::start(&[]).await;
    let mut stock = home(server.url()).await.new_stock()();
    let lines: Vec<(u128, i64)> = (1..=200).map(|n| (n, 5)).collect();
    load(&mut *stock, &[&lines[..], &[(300, 500)]].concat()).await.unwrap();
    server.run::<()>(&["CONFIG", "RESETSTAT"]).await;
    stock.reserve(TENANT, &ask(1, &lines, Some(1))).await.unwrap();
    assert!(settle(&mut *stock, TENANT, sale(1)).await.unwrap());
    stock.forget_keys(TENANT, &|_| true).await.unwrap();
    // A batch of sales of one tenant is one as well, and touches each level once.
    let stats: String = server.run(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_evalsha:calls=2,"), "{stats}");
    for n in 2..=100 {
        stock.reserve(TENANT, &ask(n, &[(300, 1)], None)).await.unwrap();
    }
    server.run::<()>(&["CONFIG", "RESETSTAT"]).await;
    let batch: Vec<_> = (2..=100).map(|n| (TENANT, sale(n))).collect();
    assert_eq!(stock.settle(&batch).await.unwrap(), 99);
    let stats: String = server.run(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_evalsha:calls=1,") && stats.contains("cmdstat_set:calls=1,"), "{stats}");
}

/// A process that is started again and again does not fill Redis with scripts.
#[tokio::test]
async fn the_scripts_are_loaded_once_for_all_processes_and_again_after_a_flush() {
    let mut server = RedisServer::start(&[]).await;
    let cached = async |server: &RedisServer| {
        let memory: String = server.run(&["INFO", "memory"]).await;
        memory.lines().find_map(|line| line.strip_prefix("number_of_cached_scripts:")?.parse().ok())
    };
    let (one, two) = (home(server.url()).await, home(server.url()).await);
    assert_eq!(cached(&server).await, Some(Script::ALL.len()));
    for _ in 0..3 {
        server.run::<()>(&["SCRIPT", "FLUSH"]).await;
        load(&mut *one.new_stock()(), &[(1, 1)]).await.unwrap();
        load(&mut *two.new_stock()(), &[(1, 1)]).await.unwrap();
        assert_eq!(cached(&server).await, Some(Script::ALL.len()));
    }
    // Another life of the server is another server.
    let before = one.scripts().await.unwrap();
    server.kill_and_restart().await;
    let mut after = one.scripts().await;
    while after.is_err() {
        after = one.scripts().await;
    }
    assert_ne!(format!("{before:?}"), format!("{:?}", after.unwrap()));
}

#[tokio::test]
async fn a_server_is_inspected_and_its_url_is_not_told() {
    let server = RedisServer::start(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let home = home(server.url()).await;
    let found = home.inspect().await.unwrap();
    assert!(found.is_supported() && !found.is_cluster);
    assert_eq!((found.maxmemory_policy.as_str(), found.maxmemory), ("allkeys-lru", 64 << 20));
    let secret = settings("redis://:geheim@127.0.0.1:1".to_owned());
    assert!(!format!("{secret:?}").contains("geheim"));
    let refused = RedisHome::connect(&secret).await.unwrap_err();
    assert!(refused.is_transient() && !refused.to_string().contains("geheim"), "{refused}");
    let prefixed = RedisSettings { prefix: "shop.".to_owned(), ..settings(server.url()) };
    let mut stock = RedisHome::connect(&prefixed).await.unwrap().new_stock()();
    load(&mut *stock, &[(1, 5)]).await.unwrap();
    let keys: Vec<String> = server.run(&["KEYS", "shop.stock:*"]).await;
    assert_eq!(keys.len(), 2, "{keys:?}");
}

//! Following an old ERP, end to end in one process: the stand-in server, the driver, a poller, the engine on its files.
//!
//! ```sh
//! cargo bench --bench erp_follow                   # 100,000 rows, then 100 changes a second for 30 s
//! cargo bench --bench erp_follow -- --rows 10000 --seconds 10
//! ```
//!
//! Prints how long the first load takes, how long from a change over there to changed stock here, what a steady poll
//! costs, and whether both sides' sales of one unit add up.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on stops")]

mod common;

use actix_rt::System;
use blend::actors::reservation::{NewTenant, Shards};
use blend::app::Engine;
use blend::app::data_dir::DataDir;
use blend::config::{Config, LegacyEncryption, LegacySource};
use blend::domain::decimal::Quantity;
use blend::domain::ids::TenantId;
use blend::erp::simulator::{Login, Product, Shop, SqlServerStandIn};
use blend::ports::clock::{SharedClock, SystemClock};
use common::{argument, caller, one_of};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Changes a second.
const RATE: u64 = 100;

/// Movements of the unit that both sides sell.
const BOTH: usize = 10_000;

/// So many balances, five sizes to a code.
fn erp(rows: u64, clock: SharedClock) -> Shop {
    let shop = Shop::new(clock);
    for code in 0..rows.div_ceil(5) {
        let name = format!("ART-{code:06}");
        let description = format!("ARTICULO {code}");
        shop.put_product(
            &name,
            Product { description, price: 150_000_000, active: Some(true), ..Product::default() },
        );
        for size in ["XS", "S", "M", "L", "XL"] {
            shop.add_balance(&name, Some(size), Some("NEGRO"), 1_000, "PRINCIPAL");
        }
    }
    shop
}

struct World {
    shards: Shards,
    tenant: TenantId,
    erp: Shop,
    server: SqlServerStandIn,
    pollers: blend::actors::legacy_poller::Pollers,
}

fn main() {
    // `cargo test --benches` and the like only ask whether it builds.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    System::new().block_on(async {
        let (rows, seconds) = (argument("--rows", 100_000), argument("--seconds", 30));
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let clock: SharedClock = Arc::new(SystemClock);
        let erp = erp(rows, clock.clone());
        let login = Login { user: "blend".into(), password: "secreto".into() };
        let server = SqlServerStandIn::start("127.0.0.1:0", login, erp.handler()).await.unwrap();
        let (shop, location) = common::tenant(clock.now());
        let tenant = shop.id;
        let mut config = Config::load(None).unwrap();
        config.data_dir = dir.path().join("data");
        let source = LegacySource {
            tenant: tenant.to_string(),
            host: "127.0.0.1".into(),
            port: server.address().port(),
            user: "blend".into(),
            password: "secreto".to_owned().into(),
            encryption: LegacyEncryption::Off,
            ..LegacySource::default()
        };
        config.legacy.sources.insert("lince".into(), source);
        let data_dir = DataDir::claim_alone(&config.data_dir, "bench").unwrap();
        let engine = Engine::start(&config, &data_dir, clock.clone()).await.unwrap();
        engine.ready().await.unwrap();
        let new = NewTenant { tenant: shop, locations: vec![location] };
        engine.shards.create_tenant(new, caller()).await.unwrap().unwrap();
        let world =
            World { shards: engine.shards.clone(), tenant, erp, server, pollers: engine.pollers.clone() };
        let started = Instant::now();
        world.loaded().await;
        let took = started.elapsed().as_millis().max(1);
        println!("first load of {rows} rows: {took} ms, {} rows/s", u128::from(rows) * 1_000 / took);
        world.steady().await;
        world.latency(rows, seconds).await;
        world.both_sell().await;
        engine.stop(Duration::from_secs(60)).await;
    });
}

impl World {
    async fn loaded(&self) {
        while !self.pollers.status(self.tenant).first().is_some_and(|status| status.loaded) {
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn polls(&self) -> u64 {
        self.pollers.status(self.tenant)[0].numbers.polls
    }

    /// What polls cost while nothing changes, once the rows of the load are behind the overlap.
    async fn steady(&self) {
        sleep(Duration::from_secs(35)).await;
        self.server.take_statements();
        let before = self.polls();
        sleep(Duration::from_secs(15)).await;
        let (statements, polls) = (self.server.take_statements().len(), self.polls() - before);
        println!("steady: {statements} statements in {polls} polls");
    }

    async fn available(&self, sku: &str) -> Option<Quantity> {
        let found = self.shards.scan(self.tenant, sku.to_owned(), None).await.unwrap().unwrap();
        found.map(|found| found.available)
    }

    /// Changes over there at a steady rate, each of another balance, until each is seen here.
    async fn latency(&self, rows: u64, seconds: u64) {
        let mut tick = interval(Duration::from_millis(1_000 / RATE));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut look = interval(Duration::from_millis(20));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sold = Quantity::from_whole(999).unwrap();
        let (mut open, mut took): (HashMap<String, Instant>, Vec<Duration>) = (HashMap::new(), Vec::new());
        let changes = RATE * seconds;
        let mut made = 0;
        while made < changes || !open.is_empty() {
            tokio::select! {
                _ = tick.tick(), if made < changes => {
                    let id = i64::try_from(made * 7 % rows + 1).unwrap();
                    let balance = self.erp.balance(id).unwrap();
                    let sku = format!("{}-NEGRO-{}", balance.code, balance.size.unwrap());
                    self.erp.add(id, -1);
                    open.insert(sku, Instant::now());
                    made += 1;
                }
                _ = look.tick() => {
                    let skus: Vec<String> = open.keys().cloned().collect();
                    for sku in skus {
                        if self.available(&sku).await == Some(sold) {
                            took.extend(open.remove(&sku).map(|since| since.elapsed()));
                        }
                    }
                }
            }
        }
        took.sort_unstable();
        let at = |share: usize| took[(took.len() * share / 1_000).min(took.len() - 1)].as_millis();
        println!(
            "{changes} changes at {RATE}/s, from the change there to stock here: p50 {} ms, p99 {} ms, max {} ms",
            at(500),
            at(990),
            at(1_000)
        );
    }

    /// Both sell one unit, and both get goods; in the end the stock is the sum of both sides' movements.
    async fn both_sell(&self) {
        let id = self.erp.add_balance("ART-000000", Some("XXL"), Some("NEGRO"), 10_000, "PRINCIPAL");
        let sku = "ART-000000-NEGRO-XXL";
        while self.available(sku).await != Quantity::from_whole(10_000) {
            sleep(Duration::from_millis(20)).await;
        }
        let unit = self.shards.scan(self.tenant, sku.to_owned(), None).await.unwrap().unwrap().unwrap().unit;
        let (mut here, mut there) = (0_i64, 0_i64);
        for round in 0..BOTH / 2 {
            let delta = if round % 5 == 0 { 2 } else { -1 };
            self.erp.add(id, delta);
            there += delta;
            self.shards.checkout(one_of(self.tenant, unit.id)).await.unwrap().unwrap();
            here -= 1;
        }
        let expected = Quantity::from_whole(10_000 + here + there).unwrap();
        let started = Instant::now();
        while self.available(sku).await != Some(expected) {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{:?} is not {expected}",
                self.available(sku).await
            );
            sleep(Duration::from_millis(20)).await;
        }
        println!("{BOTH} movements of one unit by both sides: {expected} = 10000 {here:+} {there:+}");
    }
}

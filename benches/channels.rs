//! Two marketplaces that draw on the same stock, end to end in one process: the stand-ins that enforce their contracts,
//! the clients, the channels, the engine on its files.
//!
//! ```sh
//! cargo bench --bench channels                     # all three parts, some four minutes
//! cargo bench --bench channels -- --outage 600     # the outage at its real length, ten minutes more
//! cargo bench --bench channels -- --seconds 0 --outage 0 --seed 7      # the weather alone
//! cargo bench --bench channels -- --seconds 20 --outage 30 --movements 2000 --orders 200
//! ```
//!
//! 1. **pace**: 500 units, 200 sales a second, Shopify with the limits of its plan Standard: how long from a sale until
//!    the stand-in shows it, and how many calls that took.
//! 2. **outage**: Shopify is away while sales go on, for so many real seconds. After some fifteen of them nothing grows
//!    any more: every unit is dirty, and the pause between attempts is at its longest.
//! 3. **weather**: a sixth of all calls to both marketplaces meet a fault (429, 5xx, hang, cut before and after, half and
//!    wrong bodies, late and slow answers), while sales are made here and orders come in from both, told twice and out of
//!    order, some of them cancelled. Then what was given up is tried again.
//!
//! A part of no seconds, or of no movements and orders, is left out. In the end it says in a few lines, whatever came of
//! each: whether both show what is left, whether each order took its units once, what either client did that it may not
//! do, what `blend verify` says, and how many dead letters are left. It fails after that, if anything is wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on stops")]

mod common;

use actix_rt::System;
use blend::actors::channel::Msg;
use blend::actors::reservation::NewTenant;
use blend::app::data_dir::DataDir;
use blend::app::{Engine, verify};
use blend::channels::simulator::{Fault, Known, Meli, MeliItem, SELLER, Shopify};
use blend::config::Config;
use blend::domain::catalogue::UnitKind;
use blend::domain::channel::{ChannelKind, Connection, Policy, signature};
use blend::domain::decimal::{Money, Quantity};
use blend::domain::ids::{ConnectionId, TenantId, UnitId};
use blend::domain::import::{Import, ImportedUnit};
use blend::ports::channel::{Credentials, Notice};
use blend::ports::clock::{SharedClock, SystemClock};
use common::{argument, caller, one_of};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

/// Units; MercadoLibre, which takes four writes a second, has the first of them too.
const UNITS: usize = 500;
const AT_MELI: usize = 60;

/// Sales a second.
const RATE: u64 = 200;

/// Of each unit, so that no sale here ever fails.
const STOCK: i64 = 1_000_000;

/// Longer than anything here should take.
const PATIENCE: Duration = Duration::from_secs(420);

/// SplitMix64: what is thrown once is thrown again with the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct World {
    engine: Engine,
    clock: SharedClock,
    tenant: TenantId,
    units: Vec<UnitId>,
    shopify: Shopify,
    meli: Meli,
    at_shopify: ConnectionId,
    at_meli: ConnectionId,
    /// What is left of each unit by our own count.
    left: Vec<i64>,
    /// Sales here, orders there, and orders that may or may not have been sales before they were cancelled.
    sales: u64,
    orders: u64,
    cancelled: u64,
    /// What is not as it should be.
    wrong: Vec<String>,
}

fn main() {
    // `cargo test --benches` and the like only ask whether it builds.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    System::new().block_on(async {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config = Config::load(None).unwrap();
        config.data_dir = dir.path().join("data");
        let mut world = World::open(&mut config).await;
        let (seconds, outage) = (argument("--seconds", 60), argument("--outage", 60));
        if seconds > 0 {
            world.pace(seconds).await;
        }
        if outage > 0 {
            world.outage(outage).await;
        }
        let (movements, orders) = (argument("--movements", 10_000), argument("--orders", 1_000));
        if movements + orders > 0 {
            world.weather(movements, orders, argument("--seed", 1)).await;
        }
        world.end(&config).await;
    });
}

fn sku(number: usize) -> String {
    format!("U{number:03}")
}

impl World {
    async fn open(config: &mut Config) -> Self {
        let skus: Vec<String> = (0..UNITS).map(sku).collect();
        let items: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 0)).collect();
        let shopify = Shopify::start(&items, Box::new(Known)).await.unwrap();
        let ids: Vec<String> = (0..AT_MELI).map(|number| format!("MLA{number}")).collect();
        let item = |number: usize| MeliItem { sku: sku(number), ..MeliItem::default() };
        let items: Vec<(&str, MeliItem)> =
            ids.iter().enumerate().map(|(number, id)| (id.as_str(), item(number))).collect();
        let meli = Meli::start(&items).await.unwrap();
        config.channels.keys = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned().into();
        config.channels.shopify_url = shopify.url();
        config.channels.meli_url = meli.url();
        config.channels.answer_timeout_secs = 1;
        config.channels.reconcile_secs = 5;
        let clock: SharedClock = Arc::new(SystemClock);
        let data_dir = DataDir::claim_alone(&config.data_dir, "bench").unwrap();
        let engine = Engine::start(config, &data_dir, clock.clone()).await.unwrap();
        engine.ready().await.unwrap();
        // Held until the process ends: the books are read afterwards.
        std::mem::forget(data_dir);
        let (shop, location) = common::tenant(clock.now());
        let tenant = shop.id;
        let new = NewTenant { tenant: shop, locations: vec![location] };
        engine.shards.create_tenant(new, caller()).await.unwrap().unwrap();
        let row = |number: usize| ImportedUnit {
            sku: sku(number).into(),
            name: sku(number).into(),
            base_sku: None,
            barcode: None,
            kind: UnitKind::General,
            price: Money::parse("100").unwrap(),
            active: true,
            size: None,
            color: None,
            category: None,
            brand: None,
            stock: Quantity::from_whole(STOCK),
        };
        let import =
            Import { reference: "bench".into(), units: (0..UNITS).map(row).collect(), locations: Vec::new() };
        engine.shards.import(tenant, import, caller()).await.unwrap().unwrap();
        let catalogue = engine.shards.units(tenant).await.unwrap().unwrap();
        let id = |number: usize| catalogue.iter().find(|unit| *unit.sku == *sku(number)).unwrap().id;
        let units = (0..UNITS).map(id).collect();
        let connection = |kind, account: &str, place: Option<&str>| Connection {
            id: ConnectionId(Uuid::now_v7()),
            tenant,
            kind,
            name: "Tienda".into(),
            account: account.into(),
            place: place.map(Into::into),
            sources: Vec::new(),
            policy: Policy::default(),
            paused: false,
            created_at: clock.now(),
        };
        let credentials = |token: String, refresh: Option<String>| Credentials {
            client_id: Some("app".into()),
            client_secret: Some("hush".into()),
            access_token: token,
            refresh_token: refresh,
        };
        let one = connection(ChannelKind::Shopify, "simulada.myshopify.com", Some("1"));
        let other = connection(ChannelKind::Meli, SELLER, None);
        let (at_shopify, at_meli) = (one.id, other.id);
        let (token, refresh) = (shopify.token(), shopify.refresh());
        engine.channels.create(one, credentials(token, refresh)).await.unwrap().unwrap();
        let (token, refresh) = (meli.token(), Some(meli.refresh()));
        engine.channels.create(other, credentials(token, refresh)).await.unwrap().unwrap();
        let mut world = Self {
            engine,
            clock,
            tenant,
            units,
            shopify,
            meli,
            at_shopify,
            at_meli,
            left: vec![STOCK; UNITS],
            sales: 0,
            orders: 0,
            cancelled: 0,
            wrong: Vec::new(),
        };
        for (id, count) in [(at_shopify, UNITS), (at_meli, AT_MELI)] {
            let matched = world.engine.channels.match_items(tenant, id, true).await.unwrap().unwrap();
            assert_eq!(matched.unwrap().matched.len(), count);
        }
        world.equal().await;
        world
    }

    /// Both show what is left by our own count.
    fn is_equal(&self) -> bool {
        let shown = self.shopify.all();
        let at_shopify = (0..UNITS).all(|number| shown.get(&sku(number)) == Some(&self.left[number]));
        at_shopify
            && (0..AT_MELI)
                .all(|number| self.meli.item(&format!("MLA{number}")).quantity == self.left[number])
    }

    /// Notes what is not as it should be.
    fn expect(&mut self, is_right: bool, wrong: impl FnOnce() -> String) {
        if !is_right {
            self.wrong.push(wrong());
        }
    }

    /// What either shows that is not what is left.
    fn unequal(&self) -> Vec<String> {
        let shown = self.shopify.all();
        let at_shopify = (0..UNITS).map(|number| ("Shopify", number, shown[&sku(number)]));
        let at_meli = (0..AT_MELI)
            .map(|number| ("MercadoLibre", number, self.meli.item(&format!("MLA{number}")).quantity));
        let differs = |(_, number, shown): &(&str, usize, i64)| *shown != self.left[*number];
        let told = |(place, number, shown)| {
            format!("{} at {place} shows {shown} of {}", sku(number), self.left[number])
        };
        at_shopify.chain(at_meli).filter(differs).map(told).collect()
    }

    async fn equal(&mut self) -> Duration {
        let began = Instant::now();
        while !self.is_equal() && began.elapsed() < PATIENCE {
            sleep(Duration::from_millis(10)).await;
        }
        let unequal = self.unequal();
        if !unequal.is_empty() {
            let first = &unequal[..unequal.len().min(9)];
            self.wrong.push(format!("{} quantities never equal, as {first:?}", unequal.len()));
            println!("{:?}\n{:?}", self.status(self.at_shopify).await, self.status(self.at_meli).await);
        }
        began.elapsed()
    }

    async fn status(&self, id: ConnectionId) -> blend::actors::channel::Status {
        self.engine.channels.status(self.tenant, id).await.unwrap().unwrap()
    }

    async fn sell(&mut self, unit: usize) {
        self.engine.shards.checkout(one_of(self.tenant, self.units[unit])).await.unwrap().unwrap();
        self.left[unit] -= 1;
        self.sales += 1;
    }

    async fn pace(&mut self, seconds: u64) {
        let before = self.shopify.counts();
        let mut dice = Dice(1);
        let mut sold: Vec<(Instant, usize, i64)> = Vec::new();
        let mut tick = interval(Duration::from_micros(1_000_000 / RATE));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..RATE * seconds {
            tick.tick().await;
            let unit = usize::try_from(dice.below(UNITS as u64)).unwrap();
            self.sell(unit).await;
            sold.push((Instant::now(), unit, self.left[unit]));
        }
        self.equal().await;
        let after = self.shopify.counts();
        let mut shown: BTreeMap<String, Vec<(Instant, i64)>> = BTreeMap::new();
        for (at, sku, quantity) in self.shopify.history() {
            shown.entry(sku).or_default().push((at.into_std(), quantity));
        }
        let mut waits: Vec<Duration> = sold
            .iter()
            .map(|(at, unit, left)| {
                let seen = shown[&sku(*unit)].iter().find(|(_, quantity)| quantity <= left);
                seen.expect("it is shown").0.saturating_duration_since(*at)
            })
            .collect();
        waits.sort_unstable();
        let at = |share: usize| waits[(waits.len() * share / 1_000).min(waits.len() - 1)].as_millis();
        println!(
            "pace: {} sales of {UNITS} units at {RATE}/s: sale to shown p50 {} ms, p99 {} ms, max {} ms; {} calls, {} \
             quantities, {} throttled, violations {:?}",
            sold.len(),
            at(500),
            at(990),
            at(1_000),
            after.calls - before.calls,
            after.lines - before.lines,
            after.throttled,
            after.violations,
        );
    }

    async fn outage(&mut self, seconds: u64) {
        let mut dice = Dice(2);
        self.shopify.away(true);
        let mut tick = interval(Duration::from_micros(1_000_000 / RATE));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..RATE * seconds {
            tick.tick().await;
            let unit = usize::try_from(dice.below(UNITS as u64)).unwrap();
            self.sell(unit).await;
        }
        let shown = self.shopify.all();
        let dirty = (0..UNITS).filter(|number| shown[&sku(*number)] != self.left[*number]).count();
        let before = self.shopify.counts();
        self.shopify.away(false);
        let took = self.equal().await;
        let after = self.shopify.counts();
        println!(
            "outage: away for {seconds} s of {} sales, {dirty} units dirty: equal after {} ms, {} calls, {} quantities",
            RATE * seconds,
            took.as_millis(),
            after.calls - before.calls,
            after.lines - before.lines,
        );
    }

    async fn weather(&mut self, movements: u64, orders: u64, seed: u64) {
        let mut dice = Dice(seed);
        let faults = Fault::any(Duration::from_millis(300));
        self.shopify.weather(160, &faults, seed);
        self.meli.weather(160, &faults, seed + 1);
        let began = Instant::now();
        let before = (self.shopify.counts().calls, self.meli.counts().calls);
        let (mut sold, mut ordered) = (0, 0);
        // News that is on its way: told out of order, long after it happened.
        let mut under_way: Vec<(bool, u64, Value, String)> = Vec::new();
        while sold < movements || ordered < orders {
            if dice.below(movements + orders) < movements && sold < movements || ordered == orders {
                let unit = usize::try_from(dice.below(UNITS as u64)).unwrap();
                self.sell(unit).await;
                sold += 1;
            } else {
                ordered += 1;
                let is_cancelled = dice.below(5) == 0;
                self.order(100_000 + ordered, is_cancelled, &mut dice, &mut under_way);
            }
            while under_way.len() > 40 || (!under_way.is_empty() && dice.below(4) == 0) {
                let at = usize::try_from(dice.below(under_way.len() as u64)).unwrap();
                let (is_meli, _, body, event) = under_way.swap_remove(at);
                self.tell(is_meli, &body, &event).await;
            }
        }
        for (is_meli, _, body, event) in under_way {
            self.tell(is_meli, &body, &event).await;
        }
        let told = began.elapsed();
        self.shopify.no_more_faults();
        self.meli.no_more_faults();
        self.equal_after_replay().await;
        println!(
            "weather: {sold} sales, {ordered} orders ({} cancelled) in {} s, {} and {} calls: over after {} s",
            self.cancelled,
            told.as_secs(),
            self.shopify.counts().calls - before.0,
            self.meli.counts().calls - before.1,
            began.elapsed().as_secs(),
        );
    }

    /// Units of which something else is here than what is left by our own count.
    async fn off(&self) -> Vec<String> {
        let mut off = Vec::new();
        for (number, left) in self.left.iter().enumerate() {
            let found = self.engine.shards.scan(self.tenant, sku(number), None).await.unwrap().unwrap();
            let here = found.unwrap().available;
            if Some(here) != Quantity::from_whole(*left) {
                off.push(format!("{}: {here} of {left}", sku(number)));
            }
        }
        off
    }

    /// Says how everything stands, all of it, and fails if something is wrong.
    async fn end(mut self, config: &Config) {
        self.equal().await;
        println!(
            "quantities: {} units at Shopify, {AT_MELI} at MercadoLibre, equal: {}",
            UNITS,
            self.is_equal()
        );
        // The last cancellations may be on their way.
        let began = Instant::now();
        let mut off = self.off().await;
        while !off.is_empty() && began.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(100)).await;
            off = self.off().await;
        }
        println!("orders: {} of them took their units once: {}", self.orders, off.is_empty());
        self.expect(off.is_empty(), || format!("units were taken more often than once, or not: {off:?}"));
        let (shopify, meli) = (self.shopify.counts().violations, self.meli.counts().violations);
        println!("violations: Shopify {shopify:?}, MercadoLibre {meli:?}");
        self.expect(shopify.is_empty() && meli.is_empty(), || "a client did what it may not do".into());
        let letters = self.engine.dead_letters.list(10_000).await.unwrap();
        println!("dead letters: {}", letters.len());
        self.expect(letters.is_empty(), || format!("something is given up, first {:?}", letters.first()));
        let Self { engine, sales, orders, cancelled, mut wrong, .. } = self;
        engine.stop(Duration::from_secs(60)).await;
        let report = verify::verify(config, Vec::new(), |_, _| {}).await.unwrap();
        print!("blend verify: {report}");
        let most = sales + orders;
        let booked = report.counts.sales;
        println!(
            "books: {booked} sales, of {sales} here and {orders} orders there, {cancelled} of them cancelled"
        );
        if !report.is_clean() || !(most - cancelled..=most).contains(&booked) {
            wrong.push(format!("the books are not right: {:?}", report.differences.first()));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// An order there: it takes its units off what is shown, and tells.
    fn order(
        &mut self,
        id: u64,
        cancelled: bool,
        dice: &mut Dice,
        under_way: &mut Vec<(bool, u64, Value, String)>,
    ) {
        let is_meli = dice.below(3) == 0;
        let most = if is_meli { AT_MELI } else { UNITS };
        let unit = usize::try_from(dice.below(most as u64)).unwrap();
        let quantity = 1 + i64::try_from(dice.below(3)).unwrap();
        let by = if cancelled { 0 } else { -quantity };
        self.left[unit] += by;
        self.orders += 1;
        self.cancelled += u64::from(cancelled);
        if is_meli {
            let item = format!("MLA{unit}");
            self.meli.change(&item, by);
            let status = if cancelled { "cancelled" } else { "paid" };
            let lines = json!([{ "item": { "id": item }, "quantity": quantity }]);
            self.meli.order(&id.to_string(), json!({ "id": id, "status": status, "order_items": lines }));
            for event in ["a", "a", "b"] {
                let body = json!({ "topic": "orders_v2", "resource": format!("/orders/{id}") });
                under_way.push((true, id, body, format!("{id}{event}")));
            }
            return;
        }
        self.shopify.change(&sku(unit), by);
        let order = |end: bool, version: u64| {
            let line = json!({ "id": 1, "variant_id": unit + 1, "sku": sku(unit), "quantity": quantity });
            json!({ "id": id, "name": format!("#{id}"), "line_items": [line], "cancelled_at": end.then_some("x"),
                "updated_at": format!("2026-01-01T00:00:{version:02}Z") })
        };
        for (event, version) in [("a", 1), ("a", 1), ("b", 2)] {
            under_way.push((false, id, order(false, version), format!("{id}{event}")));
        }
        if cancelled {
            under_way.push((false, id, order(true, 3), format!("{id}c")));
        }
    }

    async fn tell(&self, is_meli: bool, body: &Value, event: &str) {
        let topic = if is_meli { "orders_v2" } else { "orders/updated" };
        let body = body.to_string().into_bytes();
        let signature = signature::of_shopify("hush", &body);
        let notice = Notice { id: event.into(), topic: topic.into(), body, at: self.clock.now() };
        let channels = &self.engine.channels;
        let told = match is_meli {
            true => channels.hinted(SELLER.into(), "app".into(), notice).await,
            false => channels.signed(self.at_shopify, signature, notice).await,
        };
        told.unwrap().unwrap();
    }

    /// What was given up is tried again until nothing is, and both show what is left.
    async fn equal_after_replay(&mut self) {
        let began = Instant::now();
        let mut replayed = 0;
        loop {
            let letters = self.engine.dead_letters.list(10_000).await.unwrap();
            let ids: Vec<String> = letters.into_iter().map(|letter| letter.id).collect();
            replayed += self.engine.dead_letters.replay(&ids).await.unwrap();
            if (ids.is_empty() && self.is_equal()) || began.elapsed() > PATIENCE {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        for id in [self.at_shopify, self.at_meli] {
            self.engine.channels.of(self.tenant, id, Msg::Resync).await.unwrap().unwrap();
        }
        self.equal().await;
        println!("given up and tried again: {replayed}");
    }
}

//! A bus and a ledger in memory that do what a test tells them, and the tree of actors around them.

use super::journal_writer::{self, JournalHandle, JournalWriter};
use super::kit::{AskError, Place, Registry, RestartPolicy, Spec, Strategy, Supervisor};
use super::reservation::{
    Caller, Checkout, CheckoutResult, Denied, Ports, Reservation, Settings, Shards, Sold, Unbooked, Written,
};
use crate::domain::catalogue::Catalogue;
use crate::domain::decimal::Quantity;
use crate::domain::event::{Body, Event};
use crate::domain::idempotency::{IdempotencyKey, KeyHash};
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::sale::{PaymentMethod, RequestedLine, SaleRequest};
use crate::domain::stock::Place as StockPlace;
use crate::domain::tenant::shard_of;
use crate::fixtures::{OPENING, Shop, whole};
use crate::ports::bus::{AppendError, EventHistory, EventLog};
use crate::ports::clock::ManualClock;
use crate::ports::ledger::{KeyCursor, KeyPage, LedgerReader, StoredSale, TenantSnapshot};
use crate::ports::stock::HotStock;
use crate::ports::{Open, PortError};
use crate::stock::memory::MemoryStock;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// Longer than anything here takes; a test that gets there has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// Runs a test on an actix system; one that hangs fails.
pub fn on_system(test: impl Future<Output = ()> + 'static) {
    actix_rt::System::new().block_on(async {
        tokio::time::timeout(LONG, test).await.expect("the test hangs");
    });
}

/// The same in virtual time: the clock jumps to the next timer whenever nothing else is left to do.
pub fn in_virtual_time(test: impl Future<Output = ()> + 'static) {
    actix_rt::System::new().block_on(async {
        tokio::time::pause();
        test.await;
    });
}

/// Waits, politely, for what another actor is about to do.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The same for what has to be asked about; says what it came to.
pub async fn until_some<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub fn quick() -> RestartPolicy {
    let (backoff_min, backoff_max) = (Duration::from_millis(1), Duration::from_millis(4));
    RestartPolicy { max_restarts: 20, window: Duration::from_secs(60), backoff_min, backoff_max }
}

/// What comes of an append.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    NotDurable,
    /// Not durable, and the log is of no use any more.
    Lost,
    Full,
    InDoubt {
        durable: bool,
    },
    Panic {
        durable: bool,
    },
}

#[derive(Default)]
struct BusState {
    durable: Vec<Arc<Event>>,
    confirmed: BTreeSet<usize>,
    fates: VecDeque<Fate>,
    /// Events of each commit, in the order of the commits.
    commits: Vec<usize>,
    opened: usize,
    /// Appends that began, decided or not.
    begun: usize,
    /// Times that somebody asked what the ledger lacks, as every rebuild does.
    looks: usize,
}

/// A bus whose appends can be held and made to fail.
#[derive(Clone)]
pub struct FakeBus {
    state: Arc<Mutex<BusState>>,
    /// So many appends may be decided.
    allowed: Arc<watch::Sender<usize>>,
}

impl FakeBus {
    pub fn with(durable: Vec<Arc<Event>>) -> Self {
        let state = BusState { durable, ..BusState::default() };
        Self { state: Arc::new(Mutex::new(state)), allowed: Arc::new(watch::Sender::new(usize::MAX)) }
    }

    fn state(&self) -> MutexGuard<'_, BusState> {
        self.state.lock().unwrap()
    }

    /// Rebuilds that have looked here, whichever life of a shard they belong to.
    pub fn looks(&self) -> usize {
        self.state().looks
    }

    /// Appends from now on wait.
    pub fn hold(&self) {
        self.allowed.send_replace(self.state().begun);
    }

    /// One of them goes on.
    pub fn release_one(&self) {
        self.allowed.send_modify(|allowed| *allowed += 1);
    }

    /// All go on.
    pub fn release(&self) {
        self.allowed.send_replace(usize::MAX);
    }

    /// What comes of the next appends; after these all are well.
    pub fn next(&self, fates: &[Fate]) {
        self.state().fates.extend(fates);
    }

    pub fn durable(&self) -> Vec<Arc<Event>> {
        self.state().durable.clone()
    }

    pub fn commits(&self) -> Vec<usize> {
        self.state().commits.clone()
    }

    pub fn opened(&self) -> usize {
        self.state().opened
    }

    pub async fn begun(&self, count: usize) {
        until(|| self.state().begun >= count).await;
    }

    /// The durable sales.
    pub fn sales(&self) -> Vec<Arc<Event>> {
        let is_sale = |event: &Arc<Event>| matches!(event.body, Body::SaleCreated { .. });
        self.durable().into_iter().filter(is_sale).collect()
    }

    /// The ledger group has these, by index.
    pub fn confirm(&self, indexes: impl IntoIterator<Item = usize>) {
        self.state().confirmed.extend(indexes);
    }

    pub fn open(&self) -> Open<Box<dyn EventLog>> {
        let bus = self.clone();
        Arc::new(move || {
            bus.state().opened += 1;
            let log = Box::new(FakeLog(bus.clone(), false)) as Box<dyn EventLog>;
            async move { Ok(log) }.boxed()
        })
    }
}

struct FakeLog(FakeBus, bool);

impl EventLog for FakeLog {
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>> {
        async move {
            let begun = {
                let mut state = self.0.state();
                state.begun += 1;
                state.begun
            };
            self.0.allowed.subscribe().wait_for(|allowed| begun <= *allowed).await.unwrap();
            let fate = {
                let mut state = self.0.state();
                let fate = state.fates.pop_front();
                if matches!(
                    fate,
                    None | Some(Fate::InDoubt { durable: true } | Fate::Panic { durable: true })
                ) {
                    state.durable.extend(batch.iter().cloned());
                    state.commits.push(batch.len());
                }
                fate
            };
            match fate {
                None => Ok(()),
                Some(Fate::NotDurable) => Err(AppendError::NotDurable("as told".into())),
                Some(Fate::Lost) => {
                    self.1 = true;
                    Err(AppendError::NotDurable("as told".into()))
                }
                Some(Fate::Full) => Err(AppendError::Full("as told".into())),
                Some(Fate::InDoubt { .. }) => Err(AppendError::InDoubt("as told".into())),
                Some(Fate::Panic { .. }) => panic!("as told"),
            }
        }
        .boxed()
    }

    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn is_lost(&self) -> bool {
        self.1
    }
}

impl EventHistory for FakeBus {
    fn unconfirmed(&self) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>> {
        let mut state = self.state();
        state.looks += 1;
        let open =
            |(index, event): (usize, &Arc<Event>)| (!state.confirmed.contains(&index)).then(|| event.clone());
        let events = state.durable.iter().enumerate().filter_map(open).collect();
        async move { Ok(events) }.boxed()
    }
}

/// A ledger that knows the events it was given.
#[derive(Clone, Default)]
pub struct FakeLedger {
    applied: Arc<Mutex<Vec<Arc<Event>>>>,
    /// What it was given and could not apply.
    pub given_up: Arc<Mutex<Vec<Arc<Event>>>>,
    /// While true nobody learns its keys.
    pub keys_held: Arc<std::sync::atomic::AtomicBool>,
}

impl FakeLedger {
    pub fn apply(&self, events: &[Arc<Event>]) {
        self.applied.lock().unwrap().extend(events.iter().cloned());
    }

    fn of(&self, tenant: TenantId) -> Vec<Arc<Event>> {
        let applied = self.applied.lock().unwrap();
        let mut events: Vec<_> = applied.iter().filter(|event| event.tenant == tenant).cloned().collect();
        events.sort_by_key(|event| event.sequence);
        events
    }

    fn snapshot(&self, id: TenantId) -> Option<TenantSnapshot> {
        let events = self.of(id);
        let (mut tenant, mut locations, mut erp) = (None, Vec::new(), Vec::new());
        let (mut catalogue, mut stock) = (Catalogue::default(), HashMap::<StockPlace, Quantity>::new());
        for event in &events {
            match &event.body {
                Body::TenantCreated { tenant: created, locations: first } => {
                    tenant = Some(created.clone());
                    locations.extend(first.iter().cloned());
                }
                Body::LocationsAdded { locations: more } => locations.extend(more.iter().cloned()),
                Body::ProductsUpserted { units } => {
                    units.iter().for_each(|unit| catalogue.upsert(unit.clone()))
                }
                Body::ErpFollowed(change) => {
                    erp.extend(change.entries.iter().map(|entry| (change.source.clone(), entry.clone())));
                }
                Body::SaleCreated { .. } | Body::SaleVoided { .. } | Body::StockMoved { .. } => {}
            }
            for moved in event.movements() {
                let level = stock.entry((moved.unit, moved.location)).or_default();
                *level = level.checked_add(moved.delta).unwrap();
            }
        }
        let sequence = events.last()?.sequence;
        let has: BTreeSet<u64> = events.iter().map(|event| event.sequence).collect();
        Some(TenantSnapshot {
            tenant: tenant?,
            locations,
            units: catalogue.units().to_vec(),
            stock: stock.into_iter().collect(),
            erp,
            sequence,
            holes: (1..sequence).filter(|number| !has.contains(number)).collect(),
            last_at: events.iter().map(|event| event.at).max()?,
        })
    }

    fn find(&self, tenant: TenantId, is_it: impl Fn(&Event) -> bool) -> Option<StoredSale> {
        let event = self.of(tenant).into_iter().find(|event| is_it(event))?;
        let Body::SaleCreated { sale, keyed } = &event.body else { return None };
        let fingerprint = keyed.as_ref().map(|(_, fingerprint)| *fingerprint);
        let id = sale.id;
        let is_void =
            |event: &&Arc<Event>| matches!(&event.body, Body::SaleVoided { sale, .. } if *sale == id);
        let voided = self.of(tenant).iter().find(is_void).map(|event| event.at);
        Some(StoredSale { sale: sale.clone(), at: event.at, fingerprint, voided })
    }
}

impl LedgerReader for FakeLedger {
    fn snapshots(
        &self,
        shard: usize,
        shards: usize,
    ) -> BoxFuture<'_, Result<Vec<TenantSnapshot>, PortError>> {
        let tenants: BTreeSet<TenantId> =
            self.applied.lock().unwrap().iter().map(|event| event.tenant).collect();
        let mine = tenants.into_iter().filter(|tenant| shard_of(*tenant, shards) == shard);
        let snapshots = mine.filter_map(|tenant| self.snapshot(tenant)).collect();
        async move { Ok(snapshots) }.boxed()
    }

    fn given_up(&self, shard: usize, shards: usize) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>> {
        let given_up = self.given_up.lock().unwrap().clone();
        let mine = given_up.into_iter().filter(|event| shard_of(event.tenant, shards) == shard).collect();
        async move { Ok(mine) }.boxed()
    }

    fn sale(&self, tenant: TenantId, id: SaleId) -> BoxFuture<'_, Result<Option<StoredSale>, PortError>> {
        let is_it = |event: &Event| matches!(&event.body, Body::SaleCreated { sale, .. } if sale.id == id);
        let found = self.find(tenant, is_it);
        async move { Ok(found) }.boxed()
    }

    fn sale_by_key<'a>(
        &'a self,
        tenant: TenantId,
        indexed: i64,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredSale>, PortError>> {
        let is_it = |event: &Event| match &event.body {
            Body::SaleCreated { keyed: Some((found, _)), .. } => {
                found.as_str() == key && found.hash(tenant).indexed() == indexed
            }
            _ => false,
        };
        let found = self.find(tenant, is_it);
        async move { Ok(found) }.boxed()
    }

    fn key_hashes(
        &self,
        after: Option<KeyCursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<KeyPage, PortError>> {
        let key = |event: &Arc<Event>| match &event.body {
            Body::SaleCreated { keyed: Some((key, _)), .. } => Some(KeyHash::indexed(key.hash(event.tenant))),
            _ => None,
        };
        let mut hashes: Vec<i64> = self.applied.lock().unwrap().iter().filter_map(key).collect();
        hashes.retain(|hash| after.is_none_or(|KeyCursor(_, after)| *hash > after));
        hashes.sort_unstable();
        hashes.truncate(limit);
        let next = hashes.last().map(|last| KeyCursor(0, *last));
        let held = self.keys_held.clone();
        async move {
            until(|| !held.load(std::sync::atomic::Ordering::Relaxed)).await;
            Ok(KeyPage { hashes, next })
        }
        .boxed()
    }
}

/// Makes the hot tier of a world.
pub type MakeStock = Arc<dyn Fn() -> Box<dyn HotStock> + Send + Sync>;

/// One shard and the journal writer, over a bus and a ledger in memory.
pub struct World {
    pub bus: FakeBus,
    pub ledger: FakeLedger,
    pub clock: Arc<ManualClock>,
    pub shards: Shards,
    pub journal: JournalHandle,
    pub registry: Registry,
    _root: Supervisor,
}

impl World {
    /// With these durable events, none of them in the ledger.
    pub fn with(durable: Vec<Arc<Event>>) -> Self {
        Self::over(
            FakeBus::with(durable),
            FakeLedger::default(),
            Arc::new(|| Box::new(MemoryStock::new(1_000))),
        )
    }

    pub fn over(bus: FakeBus, ledger: FakeLedger, stock: MakeStock) -> Self {
        let registry = Registry::new();
        let root = Supervisor::new("root", Strategy::OneForOne, quick(), &registry);
        let open = bus.open();
        let journal = root.start(
            Spec::new("journal", journal_writer::CAPACITY).restart(quick()),
            Place::Here,
            move || JournalWriter::new(open.clone()),
        );
        let clock = Arc::new(ManualClock::at(OPENING));
        let ports = Ports {
            journal: JournalHandle::new(journal.clone()),
            history: Arc::new(bus.clone()),
            ledger: Arc::new(ledger.clone()),
            clock: clock.clone(),
            unbooked: Unbooked::default(),
        };
        let settings = Settings { shard: 0, shards: 1, max_quantity: whole(10_000), filter_keys: 1_000 };
        let spec = Spec::new("reservation-0", 4_096).restart(quick());
        let shard =
            root.start(spec, Place::Here, move || Reservation::new(ports.clone(), settings.clone(), stock()));
        let (shards, journal) = (Shards::new(vec![shard], LONG), JournalHandle::new(journal));
        Self { bus, ledger, clock, shards, journal, registry, _root: root }
    }

    pub async fn sell(&self, shop: &Shop, lines: &[(usize, i64)], key: Option<&str>) -> CheckoutResult {
        self.shards.checkout(ask(shop, lines, key)).await.expect("the shard answers")
    }

    /// On hand at the shop's first location, in wholes, by unit.
    pub async fn on_hand(&self, shop: &Shop) -> Vec<i64> {
        let snapshot = self.shards.snapshot(shop.id()).await.unwrap().unwrap();
        let levels: HashMap<StockPlace, Quantity> = snapshot.on_hand.into_iter().collect();
        let level = |unit: &Arc<crate::domain::catalogue::Unit>| {
            levels.get(&(unit.id, shop.here())).map_or(0, |quantity| quantity.units() / Quantity::ONE)
        };
        shop.units.iter().map(level).collect()
    }

    /// Everything durable is in the ledger now, and the shard knows.
    pub fn catch_up(&self) {
        let durable = self.bus.durable();
        let known = self.ledger.applied.lock().unwrap().len();
        self.ledger.apply(&durable[known..]);
        self.bus.confirm(0..durable.len());
        self.shards.in_ledger(durable[known..].iter().map(Written::of).collect());
    }

    /// Every tenant's numbers are dense and its moments never go back.
    pub fn history_is_sound(&self) {
        let mut last: HashMap<TenantId, (u64, crate::domain::time::Timestamp)> = HashMap::new();
        for event in self.bus.durable() {
            let (sequence, at) = last.entry(event.tenant).or_default();
            assert_eq!(event.sequence, *sequence + 1, "numbers are not dense");
            assert!(event.at >= *at, "time goes back");
            (*sequence, *at) = (event.sequence, event.at);
        }
    }
}

impl Shards {
    /// For spawning: needs no borrow.
    pub async fn checkout_owned(self, checkout: Checkout) -> Result<CheckoutResult, AskError> {
        self.checkout(checkout).await
    }
}

pub fn caller() -> Caller {
    Caller { user: "cajera".into(), request_id: "req".into(), trace: None }
}

pub fn ask(shop: &Shop, lines: &[(usize, i64)], key: Option<&str>) -> Checkout {
    let line = |&(unit, count): &(usize, i64)| RequestedLine {
        product: shop.units[unit].id.0,
        quantity: whole(count),
        seen_price: None,
    };
    Checkout {
        tenant: shop.id(),
        request: SaleRequest {
            lines: lines.iter().map(line).collect(),
            payment: PaymentMethod::Efectivo,
            location: None,
            seen_total: None,
        },
        key: key.map(|key| IdempotencyKey::parse(key).unwrap()),
        caller: caller(),
    }
}

pub fn id_of(sold: &Sold) -> SaleId {
    sold.sale.sale().expect("a sale").id
}

/// The append error of a denial.
pub fn append_error(result: CheckoutResult) -> AppendError {
    match result {
        Err(Denied::Append(error)) => error,
        other => panic!("not an append error: {other:?}"),
    }
}

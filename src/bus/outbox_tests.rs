//! Over a bus and an outbox that do as they are told.

use super::*;
use crate::fixtures::Shop;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// A bus that is there or not, and what it has.
#[derive(Clone, Default)]
struct FakeBus {
    away: Arc<AtomicBool>,
    /// What it does not confirm it has all the same.
    swallows: Arc<AtomicBool>,
    has: Arc<Mutex<Vec<u64>>>,
}

struct FakeLog(FakeBus, bool);

impl FakeBus {
    fn open(&self) -> Open<Box<dyn EventLog>> {
        let bus = self.clone();
        Arc::new(move || {
            let bus = bus.clone();
            async move {
                while bus.away.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                }
                Ok(Box::new(FakeLog(bus, false)) as Box<dyn EventLog>)
            }
            .boxed()
        })
    }

    fn go(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn has(&self) -> Vec<u64> {
        self.has.lock().unwrap().clone()
    }
}

impl EventLog for FakeLog {
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>> {
        let away = self.0.away.load(Ordering::Relaxed);
        let swallows = self.0.swallows.load(Ordering::Relaxed);
        if !away || swallows {
            self.0.has.lock().unwrap().extend(batch.iter().map(|event| event.sequence));
        }
        self.1 = away;
        async move { if away { Err(AppendError::InDoubt("no confirm".into())) } else { Ok(()) } }.boxed()
    }

    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        self.1 |= self.0.away.load(Ordering::Relaxed);
        async { Ok(()) }.boxed()
    }

    fn is_lost(&self) -> bool {
        self.1
    }
}

/// What is in the outbox, and who has it.
#[derive(Default)]
struct Drawer {
    events: Vec<Arc<Event>>,
    owner: u64,
    /// Puts in, and does not say so.
    mute: bool,
    gone: bool,
}

#[derive(Clone)]
struct FakeOutbox {
    drawer: Arc<Mutex<Drawer>>,
    me: u64,
    count: usize,
}

impl FakeOutbox {
    fn of(drawer: &Arc<Mutex<Drawer>>) -> Box<dyn Outbox> {
        Box::new(Self { drawer: drawer.clone(), me: 0, count: 0 })
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Drawer, &mut usize) -> T) -> Result<T, OutboxError> {
        let mut drawer = self.drawer.lock().unwrap();
        if drawer.gone {
            return Err(PortError::Transient("the outbox is away".into()).into());
        }
        if drawer.owner != self.me {
            return Err(if drawer.owner == 0 { OutboxError::Lost } else { OutboxError::TakenOver });
        }
        if drawer.events.len() != self.count {
            return Err(OutboxError::Lost);
        }
        let done = act(&mut drawer, &mut self.count);
        match std::mem::take(&mut drawer.mute) {
            true => Err(PortError::Transient("no answer in time".into()).into()),
            false => Ok(done),
        }
    }
}

impl Outbox for FakeOutbox {
    fn take_over(&mut self) -> BoxFuture<'_, Result<Vec<Arc<Event>>, OutboxError>> {
        let mut drawer = self.drawer.lock().unwrap();
        let taken = match (drawer.gone, self.me, drawer.owner) {
            (true, ..) => Err(PortError::Transient("the outbox is away".into()).into()),
            (_, me, owner) if me != 0 && owner != 0 && me != owner => Err(OutboxError::TakenOver),
            _ => {
                drawer.owner = drawer.owner.max(self.me) + 1;
                Ok(drawer.events.clone())
            }
        };
        if let Ok(events) = &taken {
            let (me, count) = (drawer.owner, events.len());
            drop(drawer);
            (self.me, self.count) = (me, count);
        }
        async move { taken }.boxed()
    }

    fn put<'a>(&'a mut self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), OutboxError>> {
        let put = self.with(|drawer, count| {
            drawer.events.extend(events.iter().cloned());
            // One that does not hear of it does not know of it.
            *count += if drawer.mute { 0 } else { events.len() };
        });
        async move { put }.boxed()
    }

    fn published(&mut self, out: usize) -> BoxFuture<'_, Result<(), OutboxError>> {
        let done = self.with(|drawer, count| {
            drawer.events.drain(..out);
            *count = drawer.events.len();
        });
        async move { done }.boxed()
    }
}

struct World {
    bus: FakeBus,
    drawer: Arc<Mutex<Drawer>>,
    count: Arc<AtomicU64>,
    events: Vec<Arc<Event>>,
}

impl World {
    fn new() -> Self {
        let mut shop = Shop::new(1);
        let events = (0..20).map(|_| shop.sold(1)).collect();
        Self { bus: FakeBus::default(), drawer: Arc::default(), count: Arc::default(), events }
    }

    async fn log(&self, takes: bool) -> WithOutbox {
        let settings = OutboxSettings { takes, most: 10 };
        let outbox = FakeOutbox::of(&self.drawer);
        WithOutbox::open(self.bus.open(), outbox, settings, self.count.clone()).await.unwrap()
    }

    /// Events by their numbers, from 1.
    fn of(&self, numbers: std::ops::RangeInclusive<usize>) -> &[Arc<Event>] {
        &self.events[numbers.start() - 1..*numbers.end()]
    }

    fn waits(&self) -> Vec<u64> {
        self.drawer.lock().unwrap().events.iter().map(|event| event.sequence).collect()
    }
}

async fn back(log: &mut WithOutbox) {
    while !log.has_arrived() && !log.is_lost() {
        log.maintain().await.unwrap();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn while_the_bus_is_away_events_wait_and_go_out_in_order_before_anything_newer() {
    let world = World::new();
    let mut log = world.log(true).await;
    log.append(world.of(1..=2)).await.unwrap();
    assert!(world.waits().is_empty() && log.has_arrived());
    world.bus.go(true);
    log.append(world.of(3..=4)).await.unwrap();
    log.append(world.of(5..=5)).await.unwrap();
    log.maintain().await.unwrap();
    assert_eq!((world.waits(), world.count.load(Ordering::Relaxed)), (vec![3, 4, 5], 3));
    assert!(!log.has_arrived() && !log.is_lost(), "it goes on");
    world.bus.go(false);
    // The bus is back, and what waits still goes first.
    log.append(world.of(6..=6)).await.unwrap();
    back(&mut log).await;
    log.append(world.of(7..=7)).await.unwrap();
    assert_eq!((world.bus.has(), world.waits()), (vec![1, 2, 3, 4, 5, 6, 7], vec![]));
    assert_eq!(world.count.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_was_left_is_published_by_whoever_opens_the_log_next() {
    let world = World::new();
    let mut first = world.log(true).await;
    world.bus.swallows.store(true, Ordering::Relaxed);
    world.bus.go(true);
    // In doubt, and on the bus as it turns out.
    first.append(world.of(1..=1)).await.unwrap();
    first.append(world.of(2..=3)).await.unwrap();
    world.bus.go(false);
    // Even by one that does not take anything itself.
    let mut second = world.log(false).await;
    assert_eq!((world.bus.has(), world.waits()), (vec![1, 1, 2, 3], vec![]));
    // The first one finds out, whatever it does next.
    let refused = first.append(world.of(4..=4)).await.unwrap_err();
    assert!(matches!(refused, AppendError::NotDurable(_)) && first.is_lost(), "{refused}");
    second.append(world.of(4..=4)).await.unwrap();
    assert_eq!(world.bus.has(), [1, 1, 2, 3, 4]);
}

#[tokio::test]
async fn one_that_comes_back_after_another_had_the_claim_publishes_nothing() {
    let world = World::new();
    let mut first = world.log(true).await;
    world.bus.go(true);
    first.append(world.of(1..=1)).await.unwrap();
    world.bus.go(false);
    drop(world.log(true).await);
    back(&mut first).await;
    assert!(first.is_lost() && !first.has_arrived());
    assert_eq!(world.bus.has(), [1], "once, by the other one");
}

#[tokio::test]
async fn an_outbox_that_loses_what_is_in_it_is_filled_again_and_one_that_says_nothing_is_looked_at() {
    let world = World::new();
    let mut log = world.log(true).await;
    world.bus.go(true);
    log.append(world.of(1..=2)).await.unwrap();
    *world.drawer.lock().unwrap() = Drawer::default();
    log.append(world.of(3..=3)).await.unwrap();
    assert_eq!(world.waits(), [1, 2, 3]);
    world.drawer.lock().unwrap().events.remove(1);
    log.append(world.of(4..=4)).await.unwrap();
    assert_eq!(world.waits(), [1, 2, 3, 4]);
    world.drawer.lock().unwrap().mute = true;
    log.append(world.of(5..=5)).await.unwrap();
    assert_eq!(world.waits(), [1, 2, 3, 4, 5], "put in once");
    world.drawer.lock().unwrap().gone = true;
    let unknown = log.append(world.of(6..=6)).await.unwrap_err();
    assert!(matches!(unknown, AppendError::InDoubt(_)), "{unknown}");
    world.drawer.lock().unwrap().gone = false;
    // Emptied at the moment at which the bus comes back.
    *world.drawer.lock().unwrap() = Drawer::default();
    world.bus.go(false);
    back(&mut log).await;
    assert_eq!((world.bus.has(), world.waits()), (vec![1, 2, 3, 4, 5], vec![]));
}

#[tokio::test]
async fn a_full_outbox_refuses_and_one_that_is_not_wanted_takes_nothing() {
    let world = World::new();
    let mut log = world.log(true).await;
    world.bus.go(true);
    log.append(world.of(1..=10)).await.unwrap();
    let full = log.append(world.of(11..=11)).await.unwrap_err();
    assert!(matches!(full, AppendError::Full(_)), "{full}");
    world.bus.go(false);
    back(&mut log).await;
    log.append(world.of(11..=11)).await.unwrap();
    drop(log);
    let mut log = world.log(false).await;
    world.bus.go(true);
    let doubt = log.append(world.of(12..=12)).await.unwrap_err();
    assert!(matches!(doubt, AppendError::InDoubt(_)) && log.is_lost(), "{doubt}");
    assert!(world.waits().is_empty());
}

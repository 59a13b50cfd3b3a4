//! The ledger writer: over fakes in virtual time where waiting matters, over the real files elsewhere.

use super::*;
use crate::actors::kit::{Handle, Place, Registry, Spec, Strategy, Supervisor};
use crate::actors::testing::{in_virtual_time, on_system, quick, until};
use crate::bus::journal::{Journal, JournalSettings};
use crate::domain::event::Event;
use crate::fixtures::{Shop, whole};
use crate::ports::bus::{EventHistory, EventLog, LEDGER_GROUP};
use crate::ports::clock::SystemClock;
use crate::ports::ledger::Applied;
use crate::resilience::retry::RetrySchedule;
use crate::store::sqlite::Ledger;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Mutex;
use tempfile::TempDir;

/// Real files, and the writer over them.
struct Files {
    _dir: TempDir,
    journal: Journal,
    ledger: Ledger,
    log: Box<dyn EventLog>,
    told: Arc<Mutex<Vec<u64>>>,
    registry: Registry,
    root: Supervisor,
}

impl Files {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = JournalSettings {
            max_bytes: 64 << 20,
            max_backlog: 1_000_000,
            retain_events: 0,
            tail_events: 100,
            tail_bytes: 1 << 20,
            retries: RetrySchedule([10, 20].map(Duration::from_millis).to_vec()),
        };
        let path = dir.path().join("journal.db");
        let (journal, _) = Journal::open(&path, settings, Arc::new(SystemClock)).await.unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).await.unwrap();
        let log = (journal.log())().await.unwrap();
        let registry = Registry::new();
        let root = Supervisor::new("root", Strategy::OneForOne, quick(), &registry);
        Self { _dir: dir, journal, ledger, log, told: Arc::default(), registry, root }
    }

    fn start(&self) -> Handle<LedgerWriter> {
        let (feed, store, told) = (self.journal.feed(LEDGER_GROUP), self.ledger.store(), self.told.clone());
        let tell: Arc<dyn Fn(Vec<reservation::Written>) + Send + Sync> = Arc::new(move |written| {
            told.lock().unwrap().extend(written.iter().map(|one| one.sequence));
        });
        self.root.start(Spec::new("ledger", CAPACITY).restart(quick()), Place::Here, move || {
            LedgerWriter::new(feed.clone(), store.clone(), tell.clone())
        })
    }

    async fn caught_up(&self) {
        until(|| self.journal.backlog() == 0).await;
    }

    fn seen(&self, field: &str) -> u64 {
        let report = self.registry.find("ledger").expect("it is started");
        serde_json::to_value(&report).unwrap()["observed"][field].as_u64().unwrap_or_default()
    }

    async fn snapshot(&self, shop: &Shop) -> crate::ports::ledger::TenantSnapshot {
        let all = self.ledger.reader().snapshots(0, 1).await.unwrap();
        all.into_iter().find(|snapshot| snapshot.tenant.id == shop.id()).expect("the tenant is there")
    }
}

#[test]
fn what_is_in_the_journal_comes_into_the_ledger_and_the_shards_are_told() {
    on_system(async {
        let (mut files, mut shop) = (Files::new().await, Shop::new(2));
        let mut events = shop.opened(1_000);
        events.extend((0..300).map(|_| shop.sold(1)));
        files.log.append(&events).await.unwrap();
        files.start();
        files.caught_up().await;
        let more = [shop.sold(1)];
        files.log.append(&more).await.unwrap();
        files.caught_up().await;
        let found = files.snapshot(&shop).await;
        assert_eq!((found.sequence, found.holes.len()), (304, 0));
        let level = found.stock.iter().find(|(place, _)| place.0 == shop.units[0].id).unwrap();
        assert_eq!(level.1, whole(699));
        until(|| files.told.lock().unwrap().len() == 304).await;
        assert_eq!(*files.told.lock().unwrap(), (1..=304).collect::<Vec<_>>());
    });
}

#[test]
fn events_that_were_committed_but_not_confirmed_are_not_written_twice() {
    on_system(async {
        let (mut files, mut shop) = (Files::new().await, Shop::new(1));
        let mut events = shop.opened(100);
        events.extend((0..10).map(|_| shop.sold(1)));
        files.log.append(&events).await.unwrap();
        // What a crash between commit and confirmation leaves.
        (files.ledger.store())().await.unwrap().apply(&events[..8]).await.unwrap();
        files.start();
        files.caught_up().await;
        assert_eq!(files.snapshot(&shop).await.stock[0].1, whole(90));
        until(|| files.seen("events") == 5).await;
        assert_eq!(files.seen("duplicates"), 8);
    });
}

#[test]
fn an_event_that_cannot_be_applied_is_given_up_and_harms_nobody_else() {
    on_system(async {
        let (mut files, mut shop, mut other) = (Files::new().await, Shop::new(2), Shop::new(1));
        let mut events = shop.opened(100);
        events.extend(other.opened(100));
        // A sale of a unit that the ledger does not know, between good ones of two shops.
        let known = shop.units[0].clone();
        events.extend([shop.sold(1), other.sold(1)]);
        shop.units[0] = Shop::new(1).units[0].clone();
        let poison = shop.sold(1);
        shop.units[0] = known;
        events.push(poison.clone());
        events.extend([shop.sold(1), other.sold(1), shop.sold(1), other.sold(1)]);
        files.log.append(&events).await.unwrap();
        files.start();
        until(|| files.seen("dead_letters") == 1).await;
        files.caught_up().await;
        until(|| files.seen("events") == 12).await;
        let (found, others) = (files.snapshot(&shop).await, files.snapshot(&other).await);
        assert_eq!((found.sequence, found.holes.iter().copied().collect::<Vec<_>>()), (7, vec![5]));
        assert_eq!((others.sequence, others.holes.len()), (6, 0));
        let level = found.stock.iter().find(|(place, _)| place.0 == shop.units[0].id).unwrap();
        assert_eq!(level.1, whole(97));
        assert_eq!(files.seen("rejected"), 3, "first try and two more");
        // It is still sold: a shard that rebuilds itself finds it.
        assert_eq!(files.journal.unconfirmed().await.unwrap(), std::slice::from_ref(&poison));
        assert_eq!(files.ledger.reader().given_up(0, 1).await.unwrap(), [poison]);
        // In their order: the shop's later sales came after the poison was given up, the other shop's before.
        let told = files.told.lock().unwrap().clone();
        assert_eq!(told.len(), 12);
        assert_eq!(told[told.len() - 2..], [6, 7]);
    });
}

#[test]
fn a_drain_ends_with_everything_that_was_in_the_journal_in_the_ledger() {
    on_system(async {
        let (mut files, mut shop) = (Files::new().await, Shop::new(1));
        let mut events = shop.opened(10_000);
        events.extend((0..6_000).map(|_| shop.sold(1)));
        files.log.append(&events).await.unwrap();
        let writer = files.start();
        assert!(writer.drain(Duration::from_secs(15)).await);
        assert_eq!((files.journal.backlog(), files.snapshot(&shop).await.sequence), (0, 6_003));
    });
}

#[test]
fn a_sale_is_never_absent_on_its_way_from_the_journal_through_the_shard_into_the_ledger() {
    use crate::actors::journal_writer::{self, JournalHandle, JournalWriter};
    use crate::actors::reservation::{Ports, Reservation, Settings, Shards};
    use crate::actors::testing::{ask, id_of};
    on_system(async {
        let (mut files, mut shop) = (Files::new().await, Shop::new(1));
        files.log.append(&shop.opened(1_000)).await.unwrap();
        let open = files.journal.log();
        let spec = Spec::new("journal", journal_writer::CAPACITY).restart(quick());
        let writer = files.root.start(spec, Place::Here, move || JournalWriter::new(open.clone()));
        let ports = Ports {
            journal: JournalHandle::new(writer),
            history: Arc::new(files.journal.clone()),
            ledger: files.ledger.reader(),
            clock: Arc::new(SystemClock),
            unbooked: reservation::Unbooked::default(),
        };
        let settings = Settings { shard: 0, shards: 1, max_quantity: whole(10_000), filter_keys: 1_000 };
        let shard = files.root.start(Spec::new("reservation-0", 4_096), Place::Here, move || {
            let stock = Box::new(crate::stock::memory::MemoryStock::new(5));
            Reservation::new(ports.clone(), settings.clone(), stock)
        });
        let shards = Shards::new(vec![shard], Duration::from_secs(30));
        let (feed, store, told) = (files.journal.feed(LEDGER_GROUP), files.ledger.store(), shards.clone());
        let tell: Arc<dyn Fn(Vec<reservation::Written>) + Send + Sync> =
            Arc::new(move |written| told.in_ledger(written));
        files.root.start(Spec::new("ledger", CAPACITY).restart(quick()), Place::OwnThread, move || {
            LedgerWriter::new(feed.clone(), store.clone(), tell.clone())
        });
        for n in 0..60 {
            let (key, started) = (format!("k{n}"), tokio::time::Instant::now());
            let sold = shards.checkout(ask(&shop, &[(0, 1)], Some(&key))).await.unwrap().unwrap();
            loop {
                let found = shards.sale(shop.id(), id_of(&sold)).await.unwrap().unwrap();
                let found = found.expect("it is absent");
                assert_eq!(found.sale.sale(), sold.sale.sale());
                if found.in_ledger {
                    break;
                }
                assert!(started.elapsed() < Duration::from_secs(10), "it never comes into the ledger");
            }
            let again = shards.checkout(ask(&shop, &[(0, 1)], Some(&key))).await.unwrap().unwrap();
            assert!(again.replayed && id_of(&again) == id_of(&sold));
        }
        assert_eq!(files.snapshot(&shop).await.stock[0].1, whole(940));
        files.root.stop().await;
    });
}

/// Gives its events once, then waits for ever.
struct OnceFeed(Vec<Delivery>, Arc<Mutex<Vec<u64>>>);

impl EventFeed for OnceFeed {
    fn next(&mut self, _max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        let all = std::mem::take(&mut self.0);
        async move { if all.is_empty() { std::future::pending().await } else { Ok(all) } }.boxed()
    }

    fn has_more(&self) -> bool {
        !self.0.is_empty()
    }

    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        self.1.lock().unwrap().extend(deliveries.iter().map(|delivery| delivery.position));
        async { Ok(()) }.boxed()
    }

    fn gives_up(&self, _: &Delivery) -> bool {
        true
    }

    fn reject<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        cause: &'a str,
    ) -> BoxFuture<'a, Result<Rejection, PortError>> {
        panic!("{} was rejected: {cause}", delivery.position);
    }

    fn postpone<'a>(&'a mut self, _: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        panic!("nothing was rejected");
    }
}

/// One delivery, on its last try, from a bus that is gone when it is to be given up.
struct LastTry(Option<Delivery>);

impl EventFeed for LastTry {
    fn next(&mut self, _max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        let delivery = self.0.take();
        async move { delivery.map_or_else(|| panic!("it was asked again"), |delivery| Ok(vec![delivery])) }
            .boxed()
    }

    fn has_more(&self) -> bool {
        false
    }

    fn done<'a>(&'a mut self, _: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        panic!("nothing was applied");
    }

    fn gives_up(&self, _: &Delivery) -> bool {
        true
    }

    fn reject<'a>(&'a mut self, _: &'a Delivery, _: &'a str) -> BoxFuture<'a, Result<Rejection, PortError>> {
        async { Err(PortError::Transient("the bus is gone".into())) }.boxed()
    }

    fn postpone<'a>(&'a mut self, _: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        panic!("nothing follows");
    }
}

#[test]
fn what_is_given_up_is_kept_in_the_ledger_before_the_bus_lets_go_of_it() {
    on_system(async {
        let (files, mut shop) = (Files::new().await, Shop::new(1));
        let poison = shop.sold(1);
        let (delivery, store) =
            (Delivery { position: 1, attempt: 2, event: poison.clone() }, files.ledger.store());
        files.root.start(Spec::new("ledger", CAPACITY).restart(quick()), Place::Here, move || {
            let feed = LastTry(Some(delivery.clone()));
            let feed = Arc::new(Mutex::new(Some(Box::new(feed) as Box<dyn EventFeed>)));
            LedgerWriter::new(
                Arc::new(move || {
                    let feed = feed.lock().unwrap().take().expect("each writer opens its own");
                    async move { Ok(feed) }.boxed()
                }),
                store.clone(),
                Arc::new(|_| {}),
            )
        });
        until(|| files.registry.find("ledger").is_some_and(|report| report.restarts > 0)).await;
        assert_eq!(files.ledger.reader().given_up(0, 1).await.unwrap(), [poison]);
        files.root.stop().await;
    });
}

/// Fails so often with what will pass, then takes everything; notes when it was asked.
struct BusyStore {
    failures: usize,
    asked: Arc<Mutex<Vec<tokio::time::Instant>>>,
}

impl LedgerStore for BusyStore {
    fn apply<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<Applied, PortError>> {
        self.asked.lock().unwrap().push(tokio::time::Instant::now());
        let busy = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        let applied = Applied { events: batch.len(), ..Applied::default() };
        async move { if busy { Err(PortError::Transient("disk full".into())) } else { Ok(applied) } }.boxed()
    }

    fn give_up<'a>(&'a mut self, _: &'a Event, _: &'a str) -> BoxFuture<'a, Result<(), PortError>> {
        panic!("nothing is given up");
    }
}

#[test]
fn passing_trouble_is_waited_for_with_growing_pauses_and_nothing_is_rejected() {
    in_virtual_time(async {
        let (asked, done): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) = (Arc::default(), Arc::default());
        let mut shop = Shop::new(1);
        let delivery = |position| Delivery { position, attempt: 0, event: shop.sold(1) };
        let deliveries: Vec<_> = (1..=5).map(delivery).collect();
        let registry = Registry::new();
        let root = Supervisor::new("root", Strategy::OneForOne, quick(), &registry);
        let (asked_by, done_by) = (asked.clone(), done.clone());
        let writer = root.start(Spec::new("ledger", CAPACITY).restart(quick()), Place::Here, move || {
            let (deliveries, done, asked) = (deliveries.clone(), done_by.clone(), asked_by.clone());
            LedgerWriter::new(
                Arc::new(move || {
                    let feed = Box::new(OnceFeed(deliveries.clone(), done.clone())) as Box<dyn EventFeed>;
                    async move { Ok(feed) }.boxed()
                }),
                Arc::new(move || {
                    let store =
                        Box::new(BusyStore { failures: 12, asked: asked.clone() }) as Box<dyn LedgerStore>;
                    async move { Ok(store) }.boxed()
                }),
                Arc::new(|_| {}),
            )
        });
        until(|| done.lock().unwrap().len() == 5).await;
        assert_eq!(*done.lock().unwrap(), [1, 2, 3, 4, 5]);
        let asked = asked.lock().unwrap().clone();
        let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses.len(), 12);
        assert!(pauses[0] <= Duration::from_millis(61), "{pauses:?}");
        assert!(
            pauses[11] >= Duration::from_secs(4)
                && pauses.iter().all(|pause| *pause <= Duration::from_millis(5_001))
        );
        assert!(writer.depth() == 0 && registry.find("ledger").is_some_and(|report| report.restarts == 0));
    });
}

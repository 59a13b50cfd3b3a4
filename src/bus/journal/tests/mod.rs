//! Tests of the journal, by subject. Time is a clock that stands still; files are in a directory of their own.

mod commits;
mod damage;
mod dead_letters;
mod groups;
mod limits;
mod retries;

use super::recovery::Findings;
use super::*;
use crate::bus::contract;
use crate::fixtures::{OPENING, Shop};
use crate::ports::bus::{AppendError, Delivery};
use crate::ports::clock::{Clock as _, ManualClock};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything here takes; a test that gets there has failed.
const LONG: Duration = Duration::from_secs(20);

/// A directory with a journal in it, and a clock.
struct Home {
    dir: TempDir,
    clock: Arc<ManualClock>,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::at(OPENING)) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    async fn open_with(&self, settings: JournalSettings) -> (Journal, Findings) {
        Journal::open(&self.path(), settings, self.clock.clone()).await.unwrap()
    }

    /// A journal that must be whole.
    async fn open(&self) -> Journal {
        let (journal, findings) = self.open_with(settings()).await;
        assert_eq!(findings, Findings::default());
        journal
    }

    /// Moves the clock to so many seconds after opening.
    fn second(&self, second: i64) {
        self.clock.set(crate::domain::time::Timestamp::from_micros(OPENING.micros() + second * 1_000_000));
    }

    /// Runs statements beside the journal.
    async fn sql(&self, statements: &[&'static str]) {
        let mut connection = sqlite::connect(&self.path(), &sqlite::durable(&self.path())).await.unwrap();
        for statement in statements {
            sqlx::query(*statement).execute(&mut connection).await.unwrap();
        }
        sqlx::Connection::close(connection).await.unwrap();
    }

    /// Changes what is on file; the events are rows of `journal`.
    async fn tamper(&self, statement: &'static str) {
        let mut connection = sqlite::connect(&self.path(), &sqlite::durable(&self.path())).await.unwrap();
        tampering::unpack(&mut connection).await;
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        tampering::pack(&mut connection).await;
        sqlx::Connection::close(connection).await.unwrap();
    }
}

/// The first and the last position that is filed.
async fn filed(home: &Home) -> (i64, i64) {
    let mut connection = sqlite::connect(&home.path(), &sqlite::reading(&home.path())).await.unwrap();
    let sql = "SELECT coalesce(min(first), 0), coalesce(max(last), 0) FROM segments";
    sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap()
}

fn settings() -> JournalSettings {
    JournalSettings {
        max_bytes: 64 << 20,
        max_backlog: 1_000_000,
        retain_events: 0,
        tail_events: 10_000,
        tail_bytes: 16 << 20,
        retries: RetrySchedule([1, 4].map(Duration::from_secs).to_vec()),
    }
}

async fn log(journal: &Journal) -> Box<dyn EventLog> {
    (journal.log())().await.unwrap()
}

async fn feed(journal: &Journal) -> Box<dyn EventFeed> {
    (journal.feed(LEDGER_GROUP))().await.unwrap()
}

/// So many sales of a shop.
fn sales(shop: &mut Shop, count: usize) -> Vec<Arc<Event>> {
    (0..count).map(|_| shop.sold(1)).collect()
}

async fn next(feed: &mut Box<dyn EventFeed>, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(LONG, feed.next(max)).await.expect("nothing was delivered").unwrap()
}

/// Takes and confirms exactly so many events.
async fn take(feed: &mut Box<dyn EventFeed>, count: usize) -> Vec<Arc<Event>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let deliveries = next(feed, count - taken.len()).await;
        feed.done(&deliveries).await.unwrap();
        taken.extend(deliveries.into_iter().map(|delivery| delivery.event));
    }
    taken
}

fn positions(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.position).collect()
}

impl contract::Home for (Home, Journal) {
    fn log(&self) -> Open<Box<dyn EventLog>> {
        self.1.log()
    }

    fn feed(&self) -> Open<Box<dyn EventFeed>> {
        self.1.feed(LEDGER_GROUP)
    }

    fn history(&self) -> Arc<dyn EventHistory> {
        Arc::new(self.1.clone())
    }

    fn let_retries_come(&self) {
        let minute_later = self.0.clock.now().micros() + 60_000_000;
        self.0.clock.set(crate::domain::time::Timestamp::from_micros(minute_later));
    }
}

#[tokio::test]
async fn the_contract_of_every_bus_holds() {
    contract::all(async || {
        let home = Home::new();
        let journal = home.open().await;
        (home, journal)
    })
    .await;
}

#[tokio::test]
async fn several_groups_read_everything_in_the_order_of_the_appends() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut shop) = (log(&journal).await, Shop::new(1));
    let events = sales(&mut shop, 25);
    let (mut ledger, mut other) = (feed(&journal).await, (journal.feed("queue.sync.test"))().await.unwrap());
    log.append(&events[..1]).await.unwrap();
    assert_eq!(take(&mut ledger, 1).await, events[..1]);
    log.append(&events[1..11]).await.unwrap();
    log.append(&events[11..]).await.unwrap();
    assert_eq!(take(&mut ledger, 24).await, events[1..]);
    let mut slowly = Vec::new();
    while slowly.len() < 25 {
        let deliveries = next(&mut other, 4).await;
        assert!(deliveries.len() <= 4 && deliveries.iter().all(|delivery| delivery.attempt == 0));
        assert_eq!(deliveries[0].position, slowly.len() as u64 + 1);
        other.done(&deliveries).await.unwrap();
        slowly.extend(deliveries.into_iter().map(|delivery| delivery.event));
    }
    assert_eq!(slowly, events);
}

#[tokio::test]
async fn a_waiting_feed_wakes_up_for_the_next_append() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed, mut shop) = (log(&journal).await, feed(&journal).await, Shop::new(1));
    let events = sales(&mut shop, 1);
    let (deliveries, appended) = tokio::join!(next(&mut feed, 10), async {
        tokio::task::yield_now().await;
        log.append(&events).await
    });
    appended.unwrap();
    assert_eq!(positions(&deliveries), [1]);
}

#[tokio::test]
async fn memory_and_file_give_the_same_deliveries() {
    for tail_events in [0, 1, 7, 10_000] {
        let home = Home::new();
        let (journal, _) = home.open_with(JournalSettings { tail_events, ..settings() }).await;
        let (mut log, mut feed, mut shop) = (log(&journal).await, feed(&journal).await, Shop::new(1));
        let mut events = Vec::new();
        for size in [1, 5, 2, 30, 1] {
            let batch = sales(&mut shop, size);
            log.append(&batch).await.unwrap();
            events.extend(batch);
            if size == 2 {
                assert_eq!(take(&mut feed, 8).await, events, "tail of {tail_events}");
            }
        }
        assert_eq!(take(&mut feed, 31).await, events[8..], "tail of {tail_events}");
    }
}

#[tokio::test]
async fn everything_is_found_again_after_a_reopen() {
    let home = Home::new();
    let (mut shop, mut events) = (Shop::new(3), Vec::new());
    for round in 0..3 {
        let journal = home.open().await;
        assert_eq!(journal.last(), events.len() as u64);
        let mut log = log(&journal).await;
        let batch = if round == 0 { shop.opened(10) } else { sales(&mut shop, 4) };
        log.append(&batch).await.unwrap();
        events.extend(batch);
        assert_eq!(take(&mut feed(&journal).await, events.len()).await, events);
        assert_eq!(journal.backlog(), 0);
    }
}

#[tokio::test]
async fn a_log_opened_after_an_append_in_doubt_goes_on_behind_what_was_written() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut first, mut feed, mut shop) = (log(&journal).await, feed(&journal).await, Shop::new(1));
    let events = sales(&mut shop, 6);
    first.append(&events[..2]).await.unwrap();
    assert_eq!(take(&mut feed, 2).await, events[..2]);
    // An append whose answer is lost: it is on its way when whoever waits for it is gone.
    assert!(first.append(&events[2..4]).now_or_never().is_none());
    drop(first);
    let written = async || commit_log::read(&home.path()).unwrap().0.last().is_some_and(|it| it.last == 4);
    tokio::time::timeout(LONG, async {
        while !written().await {
            tokio::task::yield_now().await
        }
    })
    .await
    .unwrap();
    assert_eq!(journal.last(), 2, "nobody was told");
    let mut second = log(&journal).await;
    assert_eq!(journal.last(), 4);
    // They reach the consumers at once, not only behind the next append.
    assert_eq!(take(&mut feed, 2).await, events[2..4]);
    second.append(&events[4..]).await.unwrap();
    assert_eq!(take(&mut feed, 2).await, events[4..]);
}

#[tokio::test]
async fn a_log_that_was_replaced_records_nothing_any_more() {
    let home = Home::new();
    let journal = home.open().await;
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, 3);
    let mut old = log(&journal).await;
    old.append(&events[..1]).await.unwrap();
    let mut new = log(&journal).await;
    // The old one's append may still be on its way to the file when its actor is rebuilt.
    let late = old.append(&events[1..2]).await;
    assert!(matches!(late, Err(AppendError::InDoubt(_))), "{late:?}");
    new.append(&events[2..]).await.unwrap();
    assert_eq!(take(&mut feed(&journal).await, 2).await, [events[0].clone(), events[2].clone()]);
}

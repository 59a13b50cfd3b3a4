//! What every bus must do, as functions over whatever opens one. An adapter's tests run [`all`] of them, each on an
//! empty bus whose schedule has two waits.

use crate::domain::event::Event;
use crate::domain::ids::EventId;
use crate::fixtures::Shop;
use crate::ports::Open;
use crate::ports::bus::{Delivery, EventFeed, EventHistory, EventLog, Rejection};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes; a test that gets there has failed.
pub const LONG: Duration = Duration::from_secs(30);

/// An empty bus: where its ends come from.
pub trait Home {
    fn log(&self) -> Open<Box<dyn EventLog>>;
    /// Of the ledger group.
    fn feed(&self) -> Open<Box<dyn EventFeed>>;
    fn history(&self) -> Arc<dyn EventHistory>;
    /// Makes every retry due that waits now, if time does not pass by itself.
    fn let_retries_come(&self);
}

/// Runs everything below, each on a bus of its own.
pub async fn all<H: Home>(home: impl AsyncFn() -> H) {
    a_tenants_events_come_in_their_order_whatever_their_kind(&home().await).await;
    no_more_come_at_once_than_are_asked_for(&home().await).await;
    a_waiting_feed_wakes_up_for_the_next_append(&home().await).await;
    a_wait_that_is_given_up_loses_nothing(&home().await).await;
    an_empty_append_brings_nothing(&home().await).await;
    what_is_not_done_comes_again_to_the_next_feed_and_what_is_does_not(&home().await).await;
    done_in_any_order_confirms_just_that(&home().await).await;
    a_rejected_event_holds_up_its_own_tenant_only(&home().await).await;
    after_the_last_try_it_is_a_dead_letter_and_its_tenant_goes_on(&home().await).await;
    what_is_put_back_comes_behind_the_older_one_untried(&home().await).await;
    failures_before_a_reopen_count(&home().await).await;
    history_and_ledger_together_have_everything(&home().await).await;
    history_waits_for_what_is_on_its_way_through_a_retry(&home().await).await;
    a_log_goes_on_where_the_one_before_ended(&home().await).await;
}

async fn log(home: &dyn Home) -> Box<dyn EventLog> {
    tokio::time::timeout(LONG, (home.log())()).await.expect("no log opens").unwrap()
}

async fn feed(home: &dyn Home) -> Box<dyn EventFeed> {
    tokio::time::timeout(LONG, (home.feed())()).await.expect("no feed opens").unwrap()
}

pub async fn next(feed: &mut Box<dyn EventFeed>, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(LONG, feed.next(max)).await.expect("nothing was delivered").unwrap()
}

/// Takes exactly so many deliveries, and leaves them open.
pub async fn hold(feed: &mut Box<dyn EventFeed>, count: usize) -> Vec<Delivery> {
    let mut held = Vec::new();
    while held.len() < count {
        held.extend(next(feed, count - held.len()).await);
    }
    held
}

/// Takes and confirms exactly so many.
pub async fn take(feed: &mut Box<dyn EventFeed>, count: usize) -> Vec<Arc<Event>> {
    let held = hold(feed, count).await;
    feed.done(&held).await.unwrap();
    held.into_iter().map(|delivery| delivery.event).collect()
}

/// Of each tenant, in the order in which they came.
fn by_tenant(events: &[Arc<Event>]) -> HashMap<String, Vec<u64>> {
    let mut sequences: HashMap<_, Vec<u64>> = HashMap::new();
    for event in events {
        sequences.entry(event.tenant.to_string()).or_default().push(event.sequence);
    }
    sequences
}

fn of(deliveries: &[Delivery], shop: &Shop) -> Vec<Delivery> {
    deliveries.iter().filter(|delivery| delivery.event.tenant == shop.id()).cloned().collect()
}

fn events(deliveries: &[Delivery]) -> Vec<Arc<Event>> {
    deliveries.iter().map(|delivery| delivery.event.clone()).collect()
}

fn attempts(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(|delivery| delivery.attempt).collect()
}

pub async fn a_tenants_events_come_in_their_order_whatever_their_kind(home: &dyn Home) {
    let (mut log, mut feed) = (log(home).await, feed(home).await);
    let mut shops: Vec<_> = (0..5).map(|_| Shop::new(2)).collect();
    let mut appended = Vec::new();
    for round in 0..4 {
        let mut batch: Vec<_> = shops.iter_mut().flat_map(|shop| shop.opened(9)).collect();
        batch.extend((0..20).flat_map(|_| shops.iter_mut().map(|shop| shop.sold(1)).collect::<Vec<_>>()));
        log.append(&batch).await.unwrap();
        appended.extend(batch);
        if round == 1 {
            log.maintain().await.unwrap();
        }
    }
    let held = hold(&mut feed, appended.len()).await;
    assert!(held.iter().all(|delivery| delivery.attempt == 0));
    let positions: HashSet<u64> = held.iter().map(|delivery| delivery.position).collect();
    assert_eq!(positions.len(), held.len(), "two deliveries have one place");
    feed.done(&held).await.unwrap();
    let came = events(&held);
    assert_eq!(by_tenant(&came), by_tenant(&appended));
    let as_appended: HashMap<EventId, _> = appended.iter().map(|event| (event.id, event)).collect();
    assert!(came.iter().all(|event| as_appended[&event.id] == event), "an event came back changed");
}

pub async fn no_more_come_at_once_than_are_asked_for(home: &dyn Home) {
    let (mut log, mut feed, mut shop) = (log(home).await, feed(home).await, Shop::new(1));
    let appended: Vec<_> = (0..25).map(|_| shop.sold(1)).collect();
    log.append(&appended).await.unwrap();
    let mut came = Vec::new();
    while came.len() < 25 {
        let deliveries = next(&mut feed, 4).await;
        assert!((1..=4).contains(&deliveries.len()));
        feed.done(&deliveries).await.unwrap();
        came.extend(events(&deliveries));
    }
    assert_eq!(came, appended);
    assert!(!feed.has_more());
}

pub async fn a_waiting_feed_wakes_up_for_the_next_append(home: &dyn Home) {
    let (mut log, mut feed, mut shop) = (log(home).await, feed(home).await, Shop::new(1));
    let appended = vec![shop.sold(1)];
    let (deliveries, done) = tokio::join!(next(&mut feed, 10), async {
        tokio::task::yield_now().await;
        log.append(&appended).await
    });
    done.unwrap();
    assert_eq!(events(&deliveries), appended);
}

pub async fn a_wait_that_is_given_up_loses_nothing(home: &dyn Home) {
    let (mut log, mut feed, mut shop) = (log(home).await, feed(home).await, Shop::new(1));
    let mut appended = Vec::new();
    for _ in 0..10 {
        let batch: Vec<_> = (0..3).map(|_| shop.sold(1)).collect();
        let given_up = tokio::time::timeout(Duration::ZERO, async {
            tokio::task::yield_now().await;
            std::future::pending::<()>().await;
        });
        tokio::select! {
            biased;
            deliveries = feed.next(1) => feed.done(&deliveries.unwrap()).await.unwrap(),
            _ = given_up => {}
        }
        log.append(&batch).await.unwrap();
        appended.extend(batch);
    }
    let last = appended.last().unwrap().sequence;
    let mut latest = 0;
    while latest < last {
        let deliveries = next(&mut feed, 100).await;
        latest = deliveries.last().unwrap().event.sequence;
        feed.done(&deliveries).await.unwrap();
    }
    // Nothing is left over for another feed.
    drop(feed);
    log.append(&[shop.sold(1)]).await.unwrap();
    assert_eq!(take(&mut self::feed(home).await, 1).await[0].sequence, last + 1);
}

pub async fn an_empty_append_brings_nothing(home: &dyn Home) {
    let (mut log, mut feed, mut shop) = (log(home).await, feed(home).await, Shop::new(1));
    log.append(&[]).await.unwrap();
    let appended = vec![shop.sold(1)];
    log.append(&appended).await.unwrap();
    assert_eq!(take(&mut feed, 1).await, appended);
}

pub async fn what_is_not_done_comes_again_to_the_next_feed_and_what_is_does_not(home: &dyn Home) {
    let (mut log, mut shop) = (log(home).await, Shop::new(1));
    let appended: Vec<_> = (0..10).map(|_| shop.sold(1)).collect();
    log.append(&appended).await.unwrap();
    let mut first = feed(home).await;
    let held = hold(&mut first, 6).await;
    first.done(&held[..4]).await.unwrap();
    drop(first);
    let again = hold(&mut feed(home).await, 6).await;
    assert_eq!(events(&again), appended[4..]);
    assert_eq!(attempts(&again), [0; 6], "a delivery that was lost is not a failure");
}

pub async fn done_in_any_order_confirms_just_that(home: &dyn Home) {
    let (mut log, mut shop) = (log(home).await, Shop::new(1));
    let appended: Vec<_> = (0..8).map(|_| shop.sold(1)).collect();
    log.append(&appended).await.unwrap();
    let mut first = feed(home).await;
    let held = hold(&mut first, 8).await;
    first.done(&held[4..]).await.unwrap();
    first.done(&held[..1]).await.unwrap();
    drop(first);
    // Those in the middle were not done; whether the later ones come again is the bus's business.
    let mut second = feed(home).await;
    let again = hold(&mut second, 3).await;
    assert_eq!(events(&again), appended[1..4]);
}

pub async fn a_rejected_event_holds_up_its_own_tenant_only(home: &dyn Home) {
    let (mut log, mut feed) = (log(home).await, feed(home).await);
    let (mut one, mut two) = (Shop::new(1), Shop::new(1));
    let batch: Vec<_> = (0..3).flat_map(|_| [one.sold(1), two.sold(1)]).collect();
    log.append(&batch).await.unwrap();
    let held = hold(&mut feed, 6).await;
    let (ones, twos) = (of(&held, &one), of(&held, &two));
    assert_eq!(feed.reject(&ones[0], "unit unknown").await.unwrap(), Rejection::Retry);
    feed.postpone(&ones[1..]).await.unwrap();
    feed.done(&twos).await.unwrap();
    log.append(&[two.sold(1)]).await.unwrap();
    let passing = next(&mut feed, 10).await;
    assert_eq!(passing[0].event.tenant, two.id(), "a tenant waits for another's event");
    feed.done(&passing[..1]).await.unwrap();
    home.let_retries_come();
    let mut again = passing[1..].to_vec();
    again.extend(hold(&mut feed, 3 - again.len()).await);
    assert_eq!((events(&again), attempts(&again)), (events(&ones), vec![1, 0, 0]));
    feed.done(&again).await.unwrap();
    log.append(&[one.sold(1)]).await.unwrap();
    assert_eq!(take(&mut feed, 1).await[0].sequence, 4, "the tenant is not free again");
}

pub async fn after_the_last_try_it_is_a_dead_letter_and_its_tenant_goes_on(home: &dyn Home) {
    let (mut log, mut feed, mut shop) = (log(home).await, feed(home).await, Shop::new(1));
    log.append(&[shop.sold(1)]).await.unwrap();
    for attempt in 0..3 {
        let tried = hold(&mut feed, 1).await;
        assert_eq!(attempts(&tried), [attempt]);
        assert_eq!(feed.gives_up(&tried[0]), attempt == 2);
        let expected = if attempt < 2 { Rejection::Retry } else { Rejection::DeadLettered };
        assert_eq!(feed.reject(&tried[0], "unit \"x\" unknown").await.unwrap(), expected);
        home.let_retries_come();
    }
    let after = vec![shop.sold(1)];
    log.append(&after).await.unwrap();
    assert_eq!(take(&mut feed, 1).await, after);
    // Nor does it come to the next feed.
    drop(feed);
    let later = vec![shop.sold(1)];
    log.append(&later).await.unwrap();
    assert_eq!(take(&mut self::feed(home).await, 1).await, later);
}

pub async fn what_is_put_back_comes_behind_the_older_one_untried(home: &dyn Home) {
    let (mut log, mut feed, mut shop) = (log(home).await, feed(home).await, Shop::new(1));
    let appended: Vec<_> = (0..4).map(|_| shop.sold(1)).collect();
    log.append(&appended).await.unwrap();
    let mut held = hold(&mut feed, 4).await;
    for failures in 1..=2 {
        feed.reject(&held[0], "no").await.unwrap();
        feed.postpone(&held[1..]).await.unwrap();
        home.let_retries_come();
        held = hold(&mut feed, 4).await;
        assert_eq!((events(&held), attempts(&held)), (appended.clone(), vec![failures, 0, 0, 0]));
    }
    feed.done(&held).await.unwrap();
}

pub async fn failures_before_a_reopen_count(home: &dyn Home) {
    let (mut log, mut shop) = (log(home).await, Shop::new(1));
    log.append(&[shop.sold(1)]).await.unwrap();
    for failures in 0..3 {
        let mut feed = feed(home).await;
        let tried = hold(&mut feed, 1).await;
        assert_eq!(attempts(&tried), [failures]);
        assert_eq!(feed.gives_up(&tried[0]), failures == 2);
        let expected = if failures < 2 { Rejection::Retry } else { Rejection::DeadLettered };
        assert_eq!(feed.reject(&tried[0], "no").await.unwrap(), expected);
        home.let_retries_come();
    }
}

/// What history says while a ledger takes everything that comes.
async fn drive_until_history(home: &dyn Home, written: &mut HashSet<EventId>) -> Vec<Arc<Event>> {
    let (history, mut feed) = (home.history(), feed(home).await);
    let ledger = async {
        loop {
            let deliveries = feed.next(7).await.unwrap();
            written.extend(deliveries.iter().map(|delivery| delivery.event.id));
            feed.done(&deliveries).await.unwrap();
        }
    };
    tokio::select! {
        found = tokio::time::timeout(LONG, history.unconfirmed()) => found.expect("no answer").unwrap(),
        () = ledger => unreachable!("a ledger never ends"),
    }
}

pub async fn history_and_ledger_together_have_everything(home: &dyn Home) {
    let mut log = log(home).await;
    let mut shops: Vec<_> = (0..6).map(|_| Shop::new(1)).collect();
    let mut written = HashSet::new();
    assert_eq!(drive_until_history(home, &mut written).await, Vec::new(), "of an empty bus");
    let appended: Vec<_> =
        (0..20).flat_map(|_| shops.iter_mut().map(|shop| shop.sold(1)).collect::<Vec<_>>()).collect();
    log.append(&appended).await.unwrap();
    let mut feed = feed(home).await;
    let held = hold(&mut feed, 50).await;
    feed.done(&held[..30]).await.unwrap();
    drop(feed);
    written.extend(held[..30].iter().map(|delivery| delivery.event.id));
    let found = drive_until_history(home, &mut written).await;
    written.extend(found.iter().map(|event| event.id));
    assert!(appended.iter().all(|event| written.contains(&event.id)), "an event is in neither");
    assert_eq!(written.len(), appended.len(), "more than there ever was");
}

pub async fn history_waits_for_what_is_on_its_way_through_a_retry(home: &dyn Home) {
    let (mut log, mut shop) = (log(home).await, Shop::new(1));
    let appended: Vec<_> = (0..3).map(|_| shop.sold(1)).collect();
    log.append(&appended).await.unwrap();
    let mut feed = feed(home).await;
    let held = hold(&mut feed, 3).await;
    feed.reject(&held[0], "no").await.unwrap();
    feed.postpone(&held[1..2]).await.unwrap();
    feed.done(&held[2..]).await.unwrap();
    drop(feed);
    home.let_retries_come();
    let mut known = HashSet::from([appended[2].id]);
    let found = drive_until_history(home, &mut known).await;
    known.extend(found.iter().map(|event| event.id));
    assert_eq!(known, appended.iter().map(|event| event.id).collect(), "an event is in neither");
}

pub async fn a_log_goes_on_where_the_one_before_ended(home: &dyn Home) {
    let (mut shop, mut feed) = (Shop::new(1), feed(home).await);
    for _ in 0..3 {
        let appended: Vec<_> = (0..3).map(|_| shop.sold(1)).collect();
        reopened(home).await.append(&appended).await.unwrap();
        assert_eq!(take(&mut feed, 3).await, appended);
    }
}

/// The supervisor opens again until it succeeds; so does this.
pub async fn reopened(home: &dyn Home) -> Box<dyn EventLog> {
    let opening = async {
        loop {
            match (home.log())().await {
                Ok(log) => return log,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, opening).await.expect("no log opens again")
}

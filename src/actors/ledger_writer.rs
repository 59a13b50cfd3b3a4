//! The ledger writer: turns events into ledger rows, in batches, once.
//!
//! Owns the reading end of the ledger's consumer group and the one [`LedgerStore`]. It confirms a batch only when its
//! transaction is committed; what it sees twice the store ignores.
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`]; it feeds itself from the bus, one batch at a time of at most [`BATCH_EVENTS`] events and about [`BATCH_WEIGHT`] rows |
//! | restart | with back-off; opens bus and store afresh and goes on behind the last confirmed event |
//! | messages in | its own only |
//! | messages out | [`reservation::Msg::InLedger`] to the shards: which events the ledger has now |
//!
//! Trouble that passes (a busy or full disk) is waited for, for ever, with back-off: selling goes on meanwhile. An
//! event that cannot be applied is rejected: the bus brings it again by schedule and then makes it a dead letter, which
//! the ledger keeps as given up until it is applied after all.

use super::kit::{Behaviour, Cx, Fault};
use super::reservation;
use crate::domain::ids::TenantId;
use crate::ports::bus::{Delivery, EventFeed, Rejection};
use crate::ports::ledger::LedgerStore;
use crate::ports::{Open, PortError};
use crate::resilience::backoff::{BackoffPolicy, Delays};
use metrics::{Counter, Histogram};
use serde_json::json;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// It talks to itself only.
pub const CAPACITY: usize = 16;

/// Events in one transaction at most.
pub const BATCH_EVENTS: usize = 16_384;

/// Rows of one transaction, about; a single event may be larger.
pub const BATCH_WEIGHT: usize = 80_000;

/// From the beginning of one batch to that of the next, at least. A transaction costs a sync and a handful of
/// statements whatever its size; at ten a second that is nothing, and "procesando" lasts a tenth of a second at most.
const BETWEEN_BATCHES: Duration = Duration::from_millis(100);

/// The same after a batch of [`BUSY_BATCH`] events or more. Keys and units come in random order, so a batch touches
/// nearly every page of their indexes; one that is five times as large writes hardly more of them.
const BETWEEN_BUSY_BATCHES: Duration = Duration::from_millis(500);

/// Ten thousand events a second.
const BUSY_BATCH: usize = 1_000;

/// How long to wait before a batch that met passing trouble is tried again.
const AGAIN: BackoffPolicy = BackoffPolicy::doubling(Duration::from_millis(50), Duration::from_secs(5));

/// What the ledger writer tells itself.
pub enum Msg {
    /// The bus had something, or the wait for it ended.
    Fetched(Box<dyn EventFeed>, Result<Vec<Delivery>, PortError>),
    /// Write what is in hand.
    Apply,
}

/// The state: both ends and what is in hand.
pub struct LedgerWriter {
    open_feed: Open<Box<dyn EventFeed>>,
    open_store: Open<Box<dyn LedgerStore>>,
    shards: Arc<dyn Fn(Vec<reservation::Written>) + Send + Sync>,
    feed: Option<Box<dyn EventFeed>>,
    store: Option<Box<dyn LedgerStore>>,
    /// Fetched and not applied, in order.
    in_hand: VecDeque<Delivery>,
    /// Tenants with an event that was rejected out of this fetch.
    held_back: HashSet<TenantId>,
    delays: Delays,
    waiting_since: Option<Instant>,
    /// When the next batch may begin.
    next_batch_from: tokio::time::Instant,
    counts: Counts,
    metrics: Metrics,
}

#[derive(Default)]
struct Counts {
    events: u64,
    duplicates: u64,
    batches: u64,
    rejected: u64,
    dead: u64,
    last_error: Option<String>,
}

struct Metrics {
    events: Counter,
    dead: Counter,
    failures: Counter,
    seconds: Histogram,
}

impl LedgerWriter {
    /// `tell_shards` passes on which events the ledger has now.
    pub fn new(
        open_feed: Open<Box<dyn EventFeed>>,
        open_store: Open<Box<dyn LedgerStore>>,
        tell_shards: Arc<dyn Fn(Vec<reservation::Written>) + Send + Sync>,
    ) -> Self {
        Self {
            open_feed,
            open_store,
            shards: tell_shards,
            feed: None,
            store: None,
            in_hand: VecDeque::new(),
            held_back: HashSet::new(),
            delays: AGAIN.delays(),
            waiting_since: None,
            next_batch_from: tokio::time::Instant::now(),
            counts: Counts::default(),
            metrics: Metrics {
                events: metrics::counter!("blend_ledger_events_total"),
                dead: metrics::counter!("blend_ledger_dead_letters_total"),
                failures: metrics::counter!("blend_ledger_failures_total"),
                seconds: metrics::histogram!("blend_ledger_batch_seconds"),
            },
        }
    }

    /// Waits for events beside the mailbox, and a little longer after a batch, so that under load many sales share
    /// one transaction. When the actor is drained it takes what is there and then ends.
    fn fetch(&mut self, cx: &mut Cx<Self>) {
        let Some(mut feed) = self.feed.take() else { return };
        let draining = cx.until_shutdown();
        let pause = self.next_batch_from;
        let fetch = async move {
            let wait = async {
                tokio::time::sleep_until(pause).await;
                feed.next(BATCH_EVENTS).await
            };
            let waited = tokio::select! {
                biased;
                fetched = wait => Some(fetched),
                () = draining => None,
            };
            let fetched = match waited {
                Some(fetched) => fetched,
                None if feed.has_more() => feed.next(BATCH_EVENTS).await,
                None => Ok(Vec::new()),
            };
            (feed, fetched)
        };
        cx.pipe(fetch, |(feed, fetched)| Msg::Fetched(feed, fetched));
    }

    async fn apply(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        while !self.in_hand.is_empty() {
            let batch = self.next_batch();
            if !self.apply_batch(&batch).await? {
                cx.notify_after(self.delays.next_delay(), Msg::Apply);
                return Ok(());
            }
        }
        self.held_back.clear();
        self.fetch(cx);
        Ok(())
    }

    fn next_batch(&mut self) -> Vec<Delivery> {
        let mut weight = 0;
        let mut count = 0;
        for delivery in &self.in_hand {
            weight += delivery.event.weight();
            if count > 0 && weight > BATCH_WEIGHT {
                break;
            }
            count += 1;
        }
        self.in_hand.drain(..count).collect()
    }

    /// False when the trouble will pass; what is neither written nor rejected is in hand again then.
    async fn apply_batch(&mut self, batch: &[Delivery]) -> Result<bool, Fault> {
        match self.write(batch).await? {
            Ok(()) => Ok(true),
            Err(error) if error.is_transient() => {
                self.in_hand = batch.iter().cloned().chain(self.in_hand.drain(..)).collect();
                Ok(self.will_pass(&error))
            }
            // Something in the batch cannot be applied: find it by applying one by one.
            Err(_) => self.apply_one_by_one(batch).await,
        }
    }

    /// Finds what cannot be applied. The later events of its tenant go back behind it.
    async fn apply_one_by_one(&mut self, batch: &[Delivery]) -> Result<bool, Fault> {
        for (index, delivery) in batch.iter().enumerate() {
            if self.held_back.contains(&delivery.event.tenant) {
                self.postpone(std::slice::from_ref(delivery)).await?;
                continue;
            }
            match self.write(std::slice::from_ref(delivery)).await? {
                Ok(()) => {}
                Err(error) if error.is_transient() => {
                    // What is decided already must not come again.
                    self.in_hand = batch[index..].iter().cloned().chain(self.in_hand.drain(..)).collect();
                    return Ok(self.will_pass(&error));
                }
                Err(error) => {
                    if self.reject(delivery, &error.to_string()).await? == Rejection::Retry {
                        self.held_back.insert(delivery.event.tenant);
                    }
                }
            }
        }
        // Those of the same fetch that are in later batches.
        if !self.held_back.is_empty() {
            let held = |delivery: &Delivery| self.held_back.contains(&delivery.event.tenant);
            let (back, rest): (Vec<_>, Vec<_>) = self.in_hand.drain(..).partition(held);
            self.in_hand = rest.into();
            self.postpone(&back).await?;
        }
        Ok(true)
    }

    async fn postpone(&mut self, deliveries: &[Delivery]) -> Result<(), Fault> {
        let Some(feed) = self.feed.as_mut() else {
            return Err(Fault::new("the ledger writer has no feed"));
        };
        Ok(feed.postpone(deliveries).await?)
    }

    /// Writes and confirms. The outer error is the bus's and fails the actor.
    async fn write(&mut self, batch: &[Delivery]) -> Result<Result<(), PortError>, Fault> {
        let (Some(store), Some(feed)) = (self.store.as_mut(), self.feed.as_mut()) else {
            return Err(Fault::new("the ledger writer has no store or no feed"));
        };
        let started = Instant::now();
        let events: Vec<_> = batch.iter().map(|delivery| delivery.event.clone()).collect();
        let applied = match store.apply(&events).await {
            Ok(applied) => applied,
            Err(error) => return Ok(Err(error)),
        };
        feed.done(batch).await?;
        self.metrics.seconds.record(started.elapsed());
        self.metrics.events.increment(applied.events as u64);
        self.counts.events += applied.events as u64;
        self.counts.duplicates += applied.duplicates as u64;
        self.counts.batches += 1;
        if self.waiting_since.take().is_some() {
            tracing::info!("the ledger can be written again");
            self.delays.reset();
            self.counts.last_error = None;
        }
        let written = |event: &Arc<_>| reservation::Written::of(event);
        (self.shards)(events.iter().map(written).collect());
        Ok(Ok(()))
    }

    fn will_pass(&mut self, error: &PortError) -> bool {
        self.metrics.failures.increment(1);
        self.counts.last_error = Some(error.to_string());
        if self.waiting_since.is_none() {
            self.waiting_since = Some(Instant::now());
            tracing::error!(%error, "the ledger cannot be written; selling goes on, trying again");
        }
        false
    }

    async fn reject(&mut self, delivery: &Delivery, cause: &str) -> Result<Rejection, Fault> {
        let (Some(store), Some(feed)) = (self.store.as_mut(), self.feed.as_mut()) else {
            return Err(Fault::new("the ledger writer has no store or no feed"));
        };
        let event = &delivery.event;
        let (tenant, sequence, event_id) = (event.tenant, event.sequence, event.id);
        let (request_id, trace_id) = (&*event.request_id, event.trace_id());
        let attempt = delivery.attempt + 1;
        self.counts.rejected += 1;
        if feed.gives_up(delivery) {
            // Before the bus lets go of it: whoever rebuilds the shard finds it in the ledger.
            store.give_up(event, cause).await?;
        }
        let rejection = feed.reject(delivery, cause).await?;
        match rejection {
            Rejection::Retry => {
                tracing::warn!(
                    request_id, %trace_id, %tenant, sequence, %event_id, attempt, cause,
                    "event cannot be applied, will try again"
                );
            }
            Rejection::DeadLettered => {
                tracing::error!(
                    request_id, %trace_id, %tenant, sequence, %event_id, attempt, cause,
                    "event given up, it is a dead letter now"
                );
                self.counts.dead += 1;
                self.metrics.dead.increment(1);
            }
        }
        Ok(rejection)
    }
}

impl Behaviour for LedgerWriter {
    const KIND: &'static str = "ledger";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.store = Some((self.open_store)().await?);
        self.feed = Some((self.open_feed)().await?);
        self.fetch(cx);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Fetched(feed, fetched) => {
                self.feed = Some(feed);
                let fetched = fetched?;
                let busy = fetched.len() >= BUSY_BATCH;
                self.next_batch_from =
                    tokio::time::Instant::now() + if busy { BETWEEN_BUSY_BATCHES } else { BETWEEN_BATCHES };
                if fetched.is_empty() && cx.shutting_down() {
                    return Ok(());
                }
                self.in_hand.extend(fetched);
                self.apply(cx).await
            }
            Msg::Apply => self.apply(cx).await,
        }
    }

    fn observe(&self) -> serde_json::Value {
        let counts = &self.counts;
        json!({
            "events": counts.events, "duplicates": counts.duplicates, "batches": counts.batches,
            "rejected": counts.rejected, "dead_letters": counts.dead, "in_hand": self.in_hand.len(),
            "waiting": self.waiting_since.is_some(), "last_error": counts.last_error,
        })
    }
}

#[cfg(test)]
#[path = "ledger_writer_tests.rs"]
mod tests;

//! The reservation shard: decides about every unit of its tenants, one message at a time.
//!
//! Owns, for the tenants that hash to it: hot stock (through [`HotStock`]), catalogue, locations, recent idempotency
//! keys, and the events that the ledger does not have yet. Nothing in it is the only copy: `started` rebuilds all of
//! it from the ledger and the unconfirmed events of the bus.
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`] asks, each counted until it is answered, so it bounds what waits for the journal too |
//! | restart | with back-off; rebuilds; what was under way is answered as unknown and found again by its key |
//! | messages in | from the edge and the command line ([`Shards`]), from the ledger writer ([`Msg::InLedger`]) |
//! | messages out | appends to the journal writer, [`UNDER_WAY`] batches at a time |
//!
//! A sale is decided at once and in memory; its answer waits for the journal. Batches go out in one lane, so that the
//! next is already at the journal writer when a commit ends; if one is not recorded, those behind it come back untried
//! and go out again under new numbers.

mod batch;
mod catalogue;
mod checkout;
mod handle;
mod messages;
mod queries;
mod rebuild;
mod tenant;
#[cfg(test)]
mod tests;

use batch::{Done, Draft, Sent, UnderWay, number};
pub use handle::{Asked, Shards};
pub use messages::*;

use super::journal_writer::{JournalHandle, Lane, NotAppended, Verdict};
use super::kit::{Behaviour, Cx, Fault, Reply};
use crate::domain::decimal::Quantity;
use crate::domain::event::{Body, Event};
use crate::domain::idempotency::KeyFilter;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::saga::{self, Next, Recorded};
use crate::domain::time::Timestamp;
use crate::ports::bus::{AppendError, EventHistory};
use crate::ports::clock::SharedClock;
use crate::ports::ledger::LedgerReader;
use crate::ports::stock::HotStock;
use metrics::Counter;
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tenant::TenantState;

/// Asks that a shard may have open at once.
pub const CAPACITY: usize = 4_096;

/// Events of one batch to the journal at most; an import is never split.
const BATCH: usize = 2_048;

/// Batches with the journal at most.
const UNDER_WAY: usize = 4;

/// Rounds that everybody else on the thread gets before a batch is sent.
const YIELDS: usize = 3;

/// What a shard works with.
#[derive(Clone)]
pub struct Ports {
    /// Makes events durable.
    pub journal: JournalHandle,
    /// What the ledger does not have yet.
    pub history: Arc<dyn EventHistory>,
    /// What the ledger has.
    pub ledger: Arc<dyn LedgerReader>,
    /// Time.
    pub clock: SharedClock,
}

/// Numbers of a shard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard this is.
    pub shard: usize,
    /// How many there are.
    pub shards: usize,
    /// Most of one thing on one line.
    pub max_quantity: Quantity,
    /// Keys that the filter is sized for.
    pub filter_keys: usize,
}

/// The state of one shard.
pub struct Reservation {
    ports: Ports,
    settings: Settings,
    stock: Box<dyn HotStock>,
    tenants: HashMap<TenantId, TenantState>,
    /// Tells keys that were certainly never used.
    filter: KeyFilter,
    /// Whether the filter has every key of the ledger; until then each new key is looked up.
    filter_complete: bool,
    /// Decided and not yet sent to the journal.
    outbox: Vec<Draft>,
    flush_scheduled: bool,
    /// With the journal, in order.
    under_way: VecDeque<UnderWay>,
    lane: Lane,
    batches: u64,
    /// How often keys may have been forgotten: what the ledger said of a key before that has to be asked again.
    forgettings: u64,
    /// Repeated requests that wait for a sale under way.
    joined: HashMap<SaleId, Vec<Reply<CheckoutResult>>>,
    counts: Counts,
    metrics: Metrics,
}

#[derive(Default)]
struct Counts {
    sold: u64,
    short: u64,
    replayed: u64,
    refused: u64,
    key_lookups: u64,
}

struct Metrics {
    sold: Counter,
    short: Counter,
    replayed: Counter,
    refused: Counter,
}

impl Reservation {
    /// A shard that rebuilds itself when it starts.
    pub fn new(ports: Ports, settings: Settings, stock: Box<dyn HotStock>) -> Self {
        let refused =
            |reason: &'static str| metrics::counter!("blend_sales_refused_total", "reason" => reason);
        Self {
            filter: KeyFilter::for_keys(settings.filter_keys),
            lane: ports.journal.lane(),
            ports,
            settings,
            stock,
            tenants: HashMap::new(),
            filter_complete: false,
            outbox: Vec::new(),
            flush_scheduled: false,
            under_way: VecDeque::new(),
            batches: 0,
            forgettings: 0,
            joined: HashMap::new(),
            counts: Counts::default(),
            metrics: Metrics {
                sold: metrics::counter!("sales_processed_total"),
                short: refused("short_stock"),
                replayed: metrics::counter!("blend_sales_replayed_total"),
                refused: refused("rule"),
            },
        }
    }

    /// The tenant, if it exists and may act.
    fn active(&self, tenant: TenantId) -> Result<&TenantState, Denied> {
        let state = self.tenants.get(&tenant).ok_or(Denied::UnknownTenant)?;
        if state.tenant.active { Ok(state) } else { Err(Denied::InactiveTenant) }
    }

    /// Now, but never before the tenant's last event: a clock that is set back does not turn order around.
    fn moment(&mut self, tenant: TenantId) -> Timestamp {
        let now = self.ports.clock.now();
        match self.tenants.get_mut(&tenant) {
            Some(state) => {
                state.last_at = state.last_at.max(now);
                state.last_at
            }
            None => now,
        }
    }

    /// Puts an event into the next batch.
    fn record(&mut self, draft: Draft, cx: &mut Cx<Self>) {
        self.outbox.push(draft);
        self.schedule_flush(cx);
    }

    /// Sends the next batch once whoever is ready to run on this thread has run: tills that were just answered come
    /// back with their next sale, and all of them share a commit instead of taking turns in halves.
    fn schedule_flush(&mut self, cx: &mut Cx<Self>) {
        if self.flush_scheduled || !self.may_send() {
            return;
        }
        self.flush_scheduled = true;
        let others_first = async {
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
        };
        cx.pipe(others_first, |()| Msg::Flush);
    }

    /// Whether there is something to send and room for it. After a failure the numbers of everything under way are
    /// given out again, so all of it has to be back first.
    fn may_send(&self) -> bool {
        let most = if self.lane.is_broken() { 1 } else { UNDER_WAY };
        !self.outbox.is_empty() && self.under_way.len() < most
    }

    /// Numbers the next batch and hands it to the journal.
    fn flush(&mut self, cx: &mut Cx<Self>) {
        self.flush_scheduled = false;
        if !self.may_send() {
            return;
        }
        if self.lane.is_broken() {
            self.lane = self.ports.journal.lane();
        }
        let mut size = self.outbox.len().min(BATCH);
        // Never between the parts of one import: they are durable together or not at all.
        while size < self.outbox.len() && matches!(self.outbox[size - 1].done, Done::Part) {
            size += 1;
        }
        let sent: Vec<Sent> =
            self.outbox.drain(..size).map(|draft| number(&mut self.tenants, draft)).collect();
        let events = sent.iter().map(|sent| sent.event.clone()).collect();
        self.batches += 1;
        let number = self.batches;
        self.under_way.push_back(UnderWay { number, sent, outcome: None });
        cx.pipe(self.lane.append(events), move |result| Msg::Appended(number, result));
    }

    /// Takes in what the journal decided, batch by batch in the order in which they were sent.
    async fn appended(&mut self, number: u64, verdict: Verdict, cx: &mut Cx<Self>) -> Result<(), Fault> {
        if let Some(batch) = self.under_way.iter_mut().find(|batch| batch.number == number) {
            batch.outcome = Some(verdict);
        }
        let mut untried = 0;
        while self.next_is_decided() {
            let Some(UnderWay { sent, outcome: Some(verdict), .. }) = self.under_way.pop_front() else {
                break;
            };
            let result = match verdict {
                Ok(()) => Ok(()),
                Err(NotAppended::Failed(error)) => Err(error),
                Err(NotAppended::NotTried) => {
                    let drafts = self.take_back(sent);
                    let count = drafts.len();
                    self.outbox.splice(untried..untried, drafts);
                    untried += count;
                    continue;
                }
            };
            self.decided(sent, result).await?;
        }
        self.schedule_flush(cx);
        Ok(())
    }

    /// Whether the oldest batch under way can be dealt with. One that failed waits for all behind it: their numbers
    /// are given out again with its own.
    fn next_is_decided(&self) -> bool {
        match self.under_way.front().map(|batch| &batch.outcome) {
            None | Some(None) => false,
            Some(Some(Ok(()) | Err(NotAppended::Failed(AppendError::InDoubt(_))))) => true,
            Some(Some(Err(_))) => self.under_way.iter().all(|batch| batch.outcome.is_some()),
        }
    }

    /// Makes drafts again of a batch that was not tried.
    fn take_back(&mut self, batch: Vec<Sent>) -> Vec<Draft> {
        for sent in &batch {
            self.give_back_number(&sent.event);
        }
        batch.into_iter().map(Sent::taken_back).collect()
    }

    /// An event that is not recorded leaves its number to the next one.
    fn give_back_number(&mut self, event: &Event) {
        if let Some(state) = self.tenants.get_mut(&event.tenant) {
            // No event behind it is recorded either, and nothing is sent until the last of them is back.
            state.sequence = state.sequence.min(event.sequence - 1);
        }
    }

    async fn decided(&mut self, batch: Vec<Sent>, result: Result<(), AppendError>) -> Result<(), Fault> {
        let recorded = match &result {
            Ok(()) => Recorded::Durable,
            Err(AppendError::NotDurable(_) | AppendError::Full(_)) => Recorded::NotDurable,
            Err(AppendError::InDoubt(_)) => Recorded::InDoubt,
        };
        match (saga::after_record(recorded), result) {
            (Next::Void, Err(error)) => self.void(batch, &error).await,
            (Next::Rebuild, Err(error)) => {
                self.deny(batch, &error);
                Err(Fault::new(error.to_string()))
            }
            _ => self.settle(batch).await,
        }
    }

    async fn settle(&mut self, batch: Vec<Sent>) -> Result<(), Fault> {
        for Sent { event, done } in batch {
            let tenant = event.tenant;
            match (&event.body, done) {
                (Body::SaleCreated { sale, .. }, Done::Sale(reply)) => {
                    self.stock.settle(tenant, sale.id).await?;
                    if let Some(state) = self.tenants.get_mut(&tenant) {
                        state.keep_until_in_ledger(&event);
                    }
                    self.counts.sold += 1;
                    self.metrics.sold.increment(1);
                    let sold =
                        |replayed| Sold { sale: SoldSale::Recent(event.clone()), at: event.at, replayed };
                    for joined in self.joined.remove(&sale.id).unwrap_or_default() {
                        joined.send(Ok(sold(true)));
                    }
                    reply.send(Ok(sold(false)));
                }
                (_, done) => {
                    self.take_in(&event).await?;
                    match done {
                        Done::Tenant(reply, tenant) => reply.send(Ok(*tenant)),
                        Done::Import(reply, counts) => {
                            self.end_change(tenant);
                            reply.send(Ok(counts));
                        }
                        Done::Delivery(reply) => reply.send(Ok(())),
                        Done::Sale(_) | Done::Part => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Undoes a batch that is certainly not durable.
    async fn void(&mut self, batch: Vec<Sent>, error: &AppendError) -> Result<(), Fault> {
        for sent in batch.iter().rev() {
            if let Body::SaleCreated { sale, .. } = &sent.event.body {
                self.stock.void(sent.event.tenant, sale.id).await?;
            }
            self.give_back_number(&sent.event);
            // Of its own import only: a sale that fails says nothing about one that waits in the outbox.
            if matches!(sent.done, Done::Import(..)) {
                self.end_change(sent.event.tenant);
            }
        }
        self.deny(batch, error);
        Ok(())
    }

    fn deny(&mut self, batch: Vec<Sent>, error: &AppendError) {
        for Sent { event, done } in batch {
            let denied = || Denied::Append(error.clone());
            if let Body::SaleCreated { sale, .. } = &event.body {
                for joined in self.joined.remove(&sale.id).unwrap_or_default() {
                    joined.send(Err(denied()));
                }
            }
            match done {
                Done::Sale(reply) => reply.send(Err(denied())),
                Done::Tenant(reply, _) => reply.send(Err(denied())),
                Done::Import(reply, _) => reply.send(Err(denied())),
                Done::Delivery(reply) => reply.send(Err(denied())),
                Done::Part => {}
            }
        }
    }

    async fn in_ledger(&mut self, written: Vec<Written>) -> Result<(), Fault> {
        self.forgettings += 1;
        let mut touched: Vec<TenantId> = Vec::new();
        for Written { tenant, sequence } in written {
            if let Some(state) = self.tenants.get_mut(&tenant) {
                state.forget(sequence);
                if touched.last() != Some(&tenant) {
                    touched.push(tenant);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for tenant in touched {
            if let Some(state) = self.tenants.get(&tenant) {
                self.stock.forget_keys(tenant, &|sale| !state.is_recent(sale)).await?;
            }
        }
        Ok(())
    }
}

impl Behaviour for Reservation {
    const KIND: &'static str = "reservation";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.rebuild().await?;
        self.load_filter(None, cx);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Checkout(checkout, reply) => self.checkout(checkout, reply, cx).await?,
            Msg::KeyLooked { checkout, reply, found, as_of } => {
                self.key_looked(checkout, reply, found, as_of, cx).await?;
            }
            Msg::Flush => self.flush(cx),
            Msg::Appended(number, result) => self.appended(number, result, cx).await?,
            Msg::InLedger(written) => self.in_ledger(written).await?,
            Msg::KnownKeys(page) => self.known_keys(page, cx),
            Msg::CreateTenant { new, caller, reply } => self.create_tenant(*new, caller, reply, cx),
            Msg::Import { tenant, import, caller, reply } => {
                self.import(tenant, *import, caller, reply, cx).await?;
            }
            Msg::Receive { tenant, delivery, caller, reply } => {
                self.receive(tenant, delivery, caller, reply, cx).await?;
            }
            query => self.answer(query, cx).await?,
        }
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        let counts = &self.counts;
        json!({
            "tenants": self.tenants.len(), "sold": counts.sold, "short": counts.short,
            "replayed": counts.replayed, "refused": counts.refused, "key_lookups": counts.key_lookups,
            "waiting_for_journal": self.outbox.len() + self.under_way.iter().map(|batch| batch.sent.len()).sum::<usize>(),
            "waiting_for_ledger": self.tenants.values().map(TenantState::recent_count).sum::<usize>(),
            "key_filter_complete": self.filter_complete,
        })
    }
}

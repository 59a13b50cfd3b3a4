//! The reservation shard: decides about every unit of its tenants, one message at a time.
//!
//! Owns, for the tenants that hash to it: hot stock (through [`HotStock`]), catalogue, locations, recent idempotency
//! keys, and the events that the ledger does not have yet. Nothing in it is the only copy: `started` rebuilds all of
//! it from the ledger and the unconfirmed events of the bus.
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`] asks, each counted until it is answered, so it bounds what waits for the journal too |
//! | restart | with back-off; rebuilds; what was under way is answered as unknown and found again by its key. A hot tier that is lost is rebuilt without a restart (`mending.rs`) |
//! | messages in | from the edge and the command line ([`Shards`]), from the ledger writer ([`Msg::InLedger`]) |
//! | messages out | appends to the journal writer, a few batches at a time (`recording.rs`) |
//!
//! A sale is decided at once and in memory; its answer waits for the journal. Batches go out in one lane, so that the
//! next is already at the journal writer when a commit ends; if one is not recorded, those behind it come back untried
//! and go out again under new numbers.

mod batch;
mod catalogue;
mod checkout;
mod erp;
mod gathering;
mod handle;
mod mending;
mod messages;
mod queries;
mod rebuild;
mod recording;
mod tenant;
#[cfg(test)]
mod tests;
mod voiding;

use batch::{Done, Draft, UnderWay};
use gathering::Candidate;
pub use handle::{Asked, Shards};
pub use messages::*;

use super::journal_writer::{Generation, JournalHandle, Lane};
use super::kit::{Behaviour, Cx, Fault, Reply};
use crate::domain::decimal::Quantity;
use crate::domain::idempotency::KeyFilter;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::bus::EventHistory;
use crate::ports::clock::SharedClock;
use crate::ports::ledger::LedgerReader;
use crate::ports::stock::HotStock;
use metrics::Counter;
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tenant::TenantState;
pub use tenant::Unbooked;
use voiding::VoidReply;

/// Asks that a shard may have open at once.
pub const CAPACITY: usize = 4_096;

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
    /// Counts the sales that the ledger does not have yet.
    pub unbooked: Unbooked,
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
    /// Priced and not yet reserved, where that takes a round trip.
    candidates: Vec<Candidate>,
    /// Decided and not yet sent to the journal.
    outbox: Vec<Draft>,
    flush_scheduled: bool,
    /// With the journal, in order.
    under_way: VecDeque<UnderWay>,
    lane: Lane,
    /// The opening of the log that this state was built upon.
    generation: Generation,
    batches: u64,
    /// Whether the hot tier has to be rebuilt before anything is decided.
    lost: bool,
    /// What waits for that.
    held: Vec<Msg>,
    /// Who asked for it.
    warmups: Vec<(TenantId, Reply<Result<usize, Denied>>)>,
    /// What waits for a change of its tenant to be decided. Each has a caller whose place in the mailbox it keeps.
    parked: Vec<Msg>,
    /// How often keys may have been forgotten: what the ledger said of a key before that has to be asked again.
    forgettings: u64,
    /// Repeated requests that wait for a sale under way.
    joined: HashMap<SaleId, Vec<Reply<CheckoutResult>>>,
    /// Sales whose void is not decided by the journal yet, and who else waits for that.
    voiding: HashMap<SaleId, Vec<VoidReply>>,
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
    rebuilds: u64,
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
            generation: 0,
            lane: ports.journal.lane(0),
            ports,
            settings,
            stock,
            tenants: HashMap::new(),
            filter_complete: false,
            candidates: Vec::new(),
            outbox: Vec::new(),
            flush_scheduled: false,
            under_way: VecDeque::new(),
            batches: 0,
            lost: false,
            held: Vec::new(),
            parked: Vec::new(),
            warmups: Vec::new(),
            forgettings: 0,
            joined: HashMap::new(),
            voiding: HashMap::new(),
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
            let Some(state) = self.tenants.get(&tenant) else { continue };
            if let Err(error) = self.stock.forget_keys(tenant, &|sale| !state.is_recent(sale)).await {
                self.lose(error)?;
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
            msg if self.must_wait(&msg) => self.held.push(msg),
            Msg::Warmup { tenant, reply } => {
                self.lost = true;
                self.warmups.push((tenant, reply));
            }
            Msg::Checkout(checkout, reply) => self.checkout(checkout, reply, cx).await?,
            Msg::KeyLooked { checkout, reply, found, as_of } => {
                self.key_looked(checkout, reply, found, as_of, cx).await?;
            }
            Msg::Reserve => self.reserve(cx).await?,
            Msg::Void(void, reply) => self.void_sale(void, reply, cx).await?,
            Msg::VoidLooked { void, reply, found, as_of } => {
                self.void_looked(void, reply, found, as_of, cx).await?;
            }
            Msg::Flush => self.flush(cx),
            Msg::Appended(number, result) => self.appended(number, result, cx).await?,
            Msg::InLedger(written) => self.in_ledger(written).await?,
            Msg::KnownKeys { generation, page } if generation == self.generation => self.known_keys(page, cx),
            // The ledger is being asked anew, from its first key on.
            Msg::KnownKeys { .. } => {}
            Msg::CreateTenant { new, caller, reply } => self.create_tenant(*new, caller, reply, cx),
            Msg::Import { tenant, import, caller, reply } => {
                self.import(tenant, *import, caller, reply, cx).await?;
            }
            Msg::Receive { tenant, delivery, caller, reply } => {
                self.receive(tenant, delivery, caller, reply, cx).await?;
            }
            Msg::Follow { tenant, follow, caller, reply } => {
                self.follow(tenant, follow, caller, reply, cx).await?;
            }
            query => self.answer(query, cx).await?,
        }
        self.unpark(cx);
        self.mend(cx).await
    }

    fn observe(&self) -> serde_json::Value {
        let counts = &self.counts;
        json!({
            "tenants": self.tenants.len(), "sold": counts.sold, "short": counts.short,
            "replayed": counts.replayed, "refused": counts.refused, "key_lookups": counts.key_lookups,
            "waiting_for_journal": self.outbox.len() + self.under_way.iter().map(|batch| batch.sent.len()).sum::<usize>(),
            "waiting_for_ledger": self.tenants.values().map(TenantState::recent_count).sum::<usize>(),
            "key_filter_complete": self.filter_complete, "rebuilds": counts.rebuilds, "waiting_for_rebuild": self.held.len(),
        })
    }
}

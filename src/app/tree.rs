//! How each actor is started: its name, mailbox, limits and ports.

use super::adapters::{Bus, Ledger};
use super::outboxes::Outboxes;
use crate::actors::journal_writer::{self, JournalHandle, JournalWriter};
use crate::actors::kit::{Handle, Place, RestartPolicy, Spec, Supervisor};
use crate::actors::ledger_writer::{self, LedgerWriter};
use crate::actors::nodes::{self, Council, Nodes};
use crate::actors::reservation::{self, Ports, Reservation, Unbooked};
use crate::bus::traced;
use crate::config::Config;
use crate::domain::decimal::Quantity;
use crate::ports::Open;
use crate::ports::bus::{EventFeed, EventLog, LEDGER_GROUP};
use crate::ports::clock::SharedClock;
use crate::ports::ledger::LedgerReader;
use crate::ports::nodes::Assembly;
use crate::ports::spans::Spans;
use crate::ports::stock::NewStock;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

/// A message of a shard may take this long; it waits for nothing but the ledger's answers about old keys.
const SHARD_LIMIT: Duration = Duration::from_secs(30);

/// A batch of the ledger may take this long before the writer is considered frozen.
const LEDGER_LIMIT: Duration = Duration::from_secs(120);

/// How often a supervisor grants an actor that spent its own budget a new one. Few: what a fresh start does not cure
/// is cured by whoever starts the process, and a file that cannot be read should be said within seconds.
pub const GRANTS: RestartPolicy = RestartPolicy {
    max_restarts: 1,
    window: Duration::from_secs(300),
    backoff_min: Duration::from_millis(50),
    backoff_max: Duration::from_secs(1),
};

/// Tells the shards what the ledger has now.
pub type Tell = Arc<dyn Fn(Vec<reservation::Written>) + Send + Sync>;

/// What actors are made of.
#[derive(Clone)]
pub struct Parts {
    pub bus: Bus,
    pub ledger: Ledger,
    pub reader: Arc<dyn LedgerReader>,
    pub new_stock: NewStock,
    pub outboxes: Option<Arc<Outboxes>>,
    pub clock: SharedClock,
    pub unbooked: Unbooked,
    pub policy: RestartPolicy,
    pub spans: Option<Arc<dyn Spans>>,
    settings: reservation::Settings,
}

impl Parts {
    /// Of what the settings name.
    pub fn new(
        config: &Config,
        (bus, ledger, reader): (Bus, Ledger, Arc<dyn LedgerReader>),
        (new_stock, outboxes): (NewStock, Option<Arc<Outboxes>>),
        clock: SharedClock,
        spans: Option<Arc<dyn Spans>>,
    ) -> anyhow::Result<Self> {
        let max_quantity = Quantity::from_whole(config.engine.max_line_quantity)
            .context("engine.max_line_quantity is out of range")?;
        // Every shard loads every key: which shard a key belongs to cannot be told from its hash.
        let filter_keys = config.engine.idempotency_filter_keys;
        let settings =
            reservation::Settings { shard: 0, shards: config.engine.shards, max_quantity, filter_keys };
        let is_remote = bus.is_remote() || ledger.is_remote() || !config.stock.url.reveal().is_empty();
        let (unbooked, policy) = (Unbooked::default(), restart_policy(config, is_remote));
        Ok(Self { bus, ledger, reader, new_stock, outboxes, clock, unbooked, policy, spans, settings })
    }

    /// How many shards there are.
    pub const fn shards(&self) -> usize {
        self.settings.shards
    }

    /// A journal writer; `suffix` is that of its shard, if it is of one.
    pub fn journal(
        &self,
        supervisor: &Supervisor,
        suffix: &str,
        open: Open<Box<dyn EventLog>>,
    ) -> Handle<JournalWriter> {
        let spec = Spec::new(format!("journal{suffix}"), journal_writer::CAPACITY).restart(self.policy);
        let open = match &self.spans {
            Some(spans) => traced::log(open, spans.clone()),
            None => open,
        };
        supervisor.start(spec, Place::Here, move || JournalWriter::new(open.clone()))
    }

    /// A shard.
    pub fn reservation(
        &self,
        supervisor: &Supervisor,
        shard: usize,
        journal: &Handle<JournalWriter>,
    ) -> Handle<Reservation> {
        let spec = Spec::new(format!("reservation-{shard}"), reservation::CAPACITY)
            .restart(self.policy)
            .limit(SHARD_LIMIT);
        let ports = Ports {
            journal: JournalHandle::new(journal.clone()),
            history: self.bus.history(shard),
            ledger: self.reader.clone(),
            clock: self.clock.clone(),
            unbooked: self.unbooked.clone(),
        };
        let (settings, new_stock) =
            (reservation::Settings { shard, ..self.settings.clone() }, self.new_stock.clone());
        supervisor
            .start(spec, Place::Here, move || Reservation::new(ports.clone(), settings.clone(), new_stock()))
    }

    /// A ledger writer, on a thread of its own: building the rows of a batch would otherwise hold up the tills.
    pub fn ledger(
        &self,
        supervisor: &Supervisor,
        suffix: &str,
        feed: Open<Box<dyn EventFeed>>,
        tell: Tell,
    ) -> Handle<LedgerWriter> {
        let spec = Spec::new(format!("ledger{suffix}"), ledger_writer::CAPACITY)
            .restart(self.policy)
            .limit(LEDGER_LIMIT);
        let store = self.ledger.store();
        let feed = match &self.spans {
            Some(spans) => traced::feed(feed, LEDGER_GROUP, spans.clone()),
            None => feed,
        };
        supervisor.start(spec, Place::OwnThread, move || {
            LedgerWriter::new(feed.clone(), store.clone(), tell.clone())
        })
    }

    /// The node among the others.
    pub fn nodes(
        &self,
        supervisor: &Supervisor,
        open: Open<Arc<dyn Assembly>>,
        council: &Arc<Council>,
    ) -> Handle<Nodes> {
        let spec = Spec::new("nodes", nodes::CAPACITY).restart(self.policy);
        let council = council.clone();
        supervisor.start(spec, Place::Here, move || Nodes::new(open.clone(), council.clone()))
    }
}

/// A server that is away comes back some time: what works with one tries again for as long as that takes. A file that
/// cannot be read after a few tries cannot be read.
fn restart_policy(config: &Config, is_remote: bool) -> RestartPolicy {
    let max_restarts = if is_remote { usize::MAX } else { config.supervision.max_restarts };
    RestartPolicy {
        max_restarts,
        window: Duration::from_secs(config.supervision.window_secs),
        ..RestartPolicy::default()
    }
}

//! The composition root: picks the adapters, starts the tree, ends it in order. The only place that names concrete
//! types of every layer.

pub mod data_dir;
pub mod doctor;
mod serve;
pub mod verify;

pub use serve::{Serving, authenticator, serve};

use crate::actors::journal_writer::{self, JournalHandle, JournalWriter};
use crate::actors::kit::{
    Drain, Handle, Place, Registry, RestartPolicy, ShutdownReport, Spec, Strategy, Supervisor, Watchdog,
    shutdown,
};
use crate::actors::ledger_writer::{self, LedgerWriter};
use crate::actors::reservation::{self, Ports, Reservation, Shards};
use crate::bus::journal::{Journal, JournalSettings, recovery::Findings};
use crate::config::Config;
use crate::domain::decimal::Quantity;
use crate::ports::bus::LEDGER_GROUP;
use crate::ports::clock::SharedClock;
use crate::ports::stock::{HotStock, NewStock};
use crate::resilience::retry::RetrySchedule;
use crate::stock::memory::MemoryStock;
use crate::store::sqlite::Ledger;
use anyhow::Context as _;
use data_dir::DataDir;
use std::sync::Arc;
use std::time::Duration;

/// A message of a shard may take this long; it waits for nothing but the ledger's answers about old keys.
const SHARD_LIMIT: Duration = Duration::from_secs(30);

/// A batch of the ledger may take this long before the writer is considered frozen.
const LEDGER_LIMIT: Duration = Duration::from_secs(120);

/// How often a supervisor grants an actor that spent its own budget a new one. Few: what a fresh start does not cure
/// is cured by whoever starts the process, and a file that cannot be read should be said within seconds.
const GRANTS: RestartPolicy = RestartPolicy {
    max_restarts: 1,
    window: Duration::from_secs(300),
    backoff_min: Duration::from_millis(50),
    backoff_max: Duration::from_secs(1),
};

/// The running engine, without its HTTP edge.
pub struct Engine {
    /// Everyone's vitals.
    pub registry: Registry,
    /// The shards.
    pub shards: Shards,
    /// The bus.
    pub journal: Journal,
    /// What was wrong with the journal when it was opened.
    pub findings: Findings,
    /// Time.
    pub clock: SharedClock,
    root: Supervisor,
    journal_writer: Handle<JournalWriter>,
    ledger_writer: Handle<LedgerWriter>,
    ledger: Ledger,
    _watchdogs: Vec<Watchdog>,
}

impl Engine {
    /// Opens the files and starts the actors. Must run on a thread of an actix `System`. The shards rebuild
    /// themselves; what they are asked meanwhile waits.
    pub async fn start(config: &Config, data_dir: &DataDir, clock: SharedClock) -> anyhow::Result<Self> {
        let (journal, findings) =
            Journal::open(&data_dir.journal(), journal_settings(config), clock.clone()).await?;
        for finding in &findings.0 {
            tracing::error!("{finding}");
        }
        metrics::gauge!("blend_journal_findings").set(u32::try_from(findings.0.len()).unwrap_or(u32::MAX));
        let ledger = Ledger::open(&data_dir.ledger()).await?;
        let registry = Registry::new();
        let policy = restart_policy(config);
        // In start order: who comes later builds on who came before.
        let root = Supervisor::new("root", Strategy::RestForOne, GRANTS, &registry);
        let open_log = journal.log();
        let journal_writer = root.start(
            Spec::new("journal", journal_writer::CAPACITY).restart(policy),
            Place::Here,
            move || JournalWriter::new(open_log.clone()),
        );
        let shards_supervisor = root.child("reservation", Strategy::OneForOne, GRANTS);
        let ports = Ports {
            journal: JournalHandle::new(journal_writer.clone()),
            history: Arc::new(journal.clone()),
            ledger: ledger.reader(),
            clock: clock.clone(),
        };
        let shards = start_shards(config, &shards_supervisor, policy, &ports)?;
        let (open_feed, open_store, tell) = (journal.feed(LEDGER_GROUP), ledger.store(), shards.clone());
        let tell: Arc<dyn Fn(_) + Send + Sync> = Arc::new(move |written| tell.in_ledger(written));
        // On a thread of its own: building the rows of a batch would otherwise hold up the tills.
        let ledger_writer = root.start(
            Spec::new("ledger", ledger_writer::CAPACITY).restart(policy).limit(LEDGER_LIMIT),
            Place::OwnThread,
            move || LedgerWriter::new(open_feed.clone(), open_store.clone(), tell.clone()),
        );
        let watchdogs = watchdogs(config, &registry)?;
        Ok(Self {
            registry,
            shards,
            journal,
            findings,
            clock,
            root,
            journal_writer,
            ledger_writer,
            ledger,
            _watchdogs: watchdogs,
        })
    }

    /// Resolves when supervision has given up.
    pub fn failed(&self) -> impl Future<Output = crate::actors::kit::RootFailure> + Send + use<> {
        self.root.root_failed()
    }

    /// Waits until every shard answers, which is when its rebuild is over, or until supervision gives up on one.
    pub async fn ready(&self) -> anyhow::Result<()> {
        tokio::select! {
            tenants = self.shards.tenants() => tenants.map(|_| ()).context("a reservation shard did not start"),
            failure = self.failed() => Err(failure.into()),
        }
    }

    /// Events that the ledger does not have yet.
    pub fn ledger_lag(&self) -> u64 {
        self.journal.backlog()
    }

    /// Drains shards, journal and ledger in this order, and ends the actors.
    pub async fn stop(self, deadline: Duration) -> ShutdownReport {
        let mut order: Vec<&dyn Drain> =
            self.shards.handles().iter().map(|shard| shard as &dyn Drain).collect();
        order.extend([&self.journal_writer as &dyn Drain, &self.ledger_writer]);
        let report = shutdown(&self.root, &order, deadline).await;
        for closed in [self.journal.close().await, self.ledger.close().await] {
            if let Err(error) = closed {
                tracing::warn!(%error, "a file was left with its write-ahead log; the next start takes it in");
            }
        }
        report
    }
}

fn start_shards(
    config: &Config,
    supervisor: &Supervisor,
    policy: RestartPolicy,
    ports: &Ports,
) -> anyhow::Result<Shards> {
    let keys = config.engine.idempotency_keys_in_memory;
    let new_stock: NewStock = Arc::new(move || Box::new(MemoryStock::new(keys)) as Box<dyn HotStock>);
    let max_quantity = Quantity::from_whole(config.engine.max_line_quantity)
        .context("engine.max_line_quantity is out of range")?;
    let shards = config.engine.shards;
    let mut handles = Vec::with_capacity(shards);
    for shard in 0..shards {
        let (ports, new_stock) = (ports.clone(), new_stock.clone());
        // Every shard loads every key: which shard a key belongs to cannot be told from its hash.
        let filter_keys = config.engine.idempotency_filter_keys;
        let settings = reservation::Settings { shard, shards, max_quantity, filter_keys };
        let spec = Spec::new(format!("reservation-{shard}"), reservation::CAPACITY)
            .restart(policy)
            .limit(SHARD_LIMIT);
        handles.push(supervisor.start(spec, Place::Here, move || {
            Reservation::new(ports.clone(), settings.clone(), new_stock())
        }));
    }
    Ok(Shards::new(handles))
}

fn watchdogs(config: &Config, registry: &Registry) -> anyhow::Result<Vec<Watchdog>> {
    let settings = &config.supervision;
    let warn = Watchdog::start(registry, Duration::from_secs(settings.freeze_warn_secs), |freeze| {
        let ms = freeze.blocked.as_millis();
        tracing::error!(actor = freeze.actor, blocked_ms = ms, "actor blocks its thread");
    })?;
    let mut dogs = vec![warn];
    if settings.freeze_abort_secs > 0 {
        dogs.push(Watchdog::start(registry, Duration::from_secs(settings.freeze_abort_secs), |freeze| {
            let ms = freeze.blocked.as_millis();
            tracing::error!(actor = freeze.actor, blocked_ms = ms, "actor is frozen, ending the process");
            std::process::abort();
        })?);
    }
    Ok(dogs)
}

fn journal_settings(config: &Config) -> JournalSettings {
    let journal = &config.journal;
    JournalSettings {
        max_bytes: journal.max_mib << 20,
        max_backlog: journal.max_backlog,
        retain_events: journal.retain_events,
        tail_events: journal.tail_events,
        tail_bytes: journal.tail_mib << 20,
        retries: RetrySchedule(journal.retry_secs.iter().map(|secs| Duration::from_secs(*secs)).collect()),
    }
}

fn restart_policy(config: &Config) -> RestartPolicy {
    RestartPolicy {
        max_restarts: config.supervision.max_restarts,
        window: Duration::from_secs(config.supervision.window_secs),
        ..RestartPolicy::default()
    }
}

//! The composition root: picks the adapters, starts the tree, ends it in order. The only place that names concrete
//! types of every layer.

mod adapters;
pub mod data_dir;
pub mod doctor;
pub mod legacy;
mod serve;
pub mod verify;

pub use serve::{Serving, authenticator, serve};

use crate::actors::channel;
use crate::actors::channels::{self, ChannelManager, Channels};
use crate::actors::journal_writer::{self, JournalHandle, JournalWriter};
use crate::actors::kit::{
    Drain, Handle, Place, Registry, RestartPolicy, ShutdownReport, Spec, Strategy, Supervisor, Watchdog,
    shutdown,
};
use crate::actors::ledger_writer::{self, LedgerWriter};
use crate::actors::legacy_poller::Pollers;
use crate::actors::reservation::{self, Ports, Reservation, Shards, Unbooked};
use crate::channels::vault::Keyring;
use crate::config::Config;
use crate::domain::decimal::Quantity;
use crate::ports::clock::SharedClock;
use crate::ports::dead_letters::DeadLetters;
use crate::ports::ledger::LedgerReader;
use crate::ports::stock::NewStock;
use crate::resilience::circuit_breaker::{BreakerPolicy, CircuitBreaker};
use crate::store::guarded::GuardedReader;
use crate::store::sqlite;
use adapters::{Adapters, Bus, Ledger, installer, marketplaces};
use anyhow::Context as _;
use data_dir::DataDir;
use std::sync::Arc;
use std::time::Duration;

/// A message of a shard may take this long; it waits for nothing but the ledger's answers about old keys.
const SHARD_LIMIT: Duration = Duration::from_secs(30);

/// A batch of the ledger may take this long before the writer is considered frozen.
const LEDGER_LIMIT: Duration = Duration::from_secs(120);

/// How long an ordered end waits for a ledger behind a broker.
const CLOSING: Duration = Duration::from_secs(5);

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
    /// The connections to marketplaces.
    pub channels: Channels,
    /// Events that were given up.
    pub dead_letters: Arc<dyn DeadLetters>,
    channels_supervisor: Supervisor,
    channel_store: sqlite::channels::Channels,
    /// The pollers of old ERPs.
    pub pollers: Pollers,
    /// The bus.
    bus: Bus,
    /// What was wrong with the embedded files when they were opened.
    pub findings: Vec<String>,
    /// In front of a ledger that is elsewhere.
    pub ledger_circuit: Option<Arc<CircuitBreaker>>,
    /// Time.
    pub clock: SharedClock,
    unbooked: Unbooked,
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
        let Adapters { bus, ledger, new_stock, channels: channel_store, findings } =
            Adapters::open(config, data_dir, clock.clone()).await?;
        for finding in &findings {
            tracing::error!("{finding}");
        }
        metrics::gauge!("blend_journal_findings").set(u32::try_from(findings.len()).unwrap_or(u32::MAX));
        let registry = Registry::new();
        let policy = restart_policy(
            config,
            bus.is_remote() || ledger.is_remote() || !config.stock.url.reveal().is_empty(),
        );
        // In start order: who comes later builds on who came before.
        let root = Supervisor::new("root", Strategy::RestForOne, GRANTS, &registry);
        let open_log = bus.log();
        let journal_writer = root.start(
            Spec::new("journal", journal_writer::CAPACITY).restart(policy),
            Place::Here,
            move || JournalWriter::new(open_log.clone()),
        );
        let shards_supervisor = root.child("reservation", Strategy::OneForOne, GRANTS);
        let (reader, ledger_circuit) = reader(&ledger);
        let unbooked = Unbooked::default();
        let ports = Ports {
            journal: JournalHandle::new(journal_writer.clone()),
            history: bus.history(),
            ledger: reader,
            clock: clock.clone(),
            unbooked: unbooked.clone(),
        };
        let shards = start_shards(config, &shards_supervisor, policy, &ports, &new_stock)?;
        let (open_feed, open_store, tell) = (bus.feed(), ledger.store(), shards.clone());
        let tell: Arc<dyn Fn(_) + Send + Sync> = Arc::new(move |written| tell.in_ledger(written));
        // On a thread of its own: building the rows of a batch would otherwise hold up the tills.
        let ledger_writer = root.start(
            Spec::new("ledger", ledger_writer::CAPACITY).restart(policy).limit(LEDGER_LIMIT),
            Place::OwnThread,
            move || LedgerWriter::new(open_feed.clone(), open_store.clone(), tell.clone()),
        );
        let channels_supervisor = root.child("marketplaces", Strategy::OneForOne, GRANTS);
        let channels =
            start_channels(config, &channels_supervisor, &shards, &channel_store, clock.clone(), &bus)?;
        let pollers = legacy::start(config, &root, &shards, &clock)?;
        let watchdogs = watchdogs(config, &registry)?;
        Ok(Self {
            registry,
            shards,
            channels,
            dead_letters: bus.dead_letters(),
            channels_supervisor,
            channel_store,
            pollers,
            bus,
            findings,
            ledger_circuit,
            clock,
            unbooked,
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

    /// Tells how many events the ledger does not have yet.
    pub fn ledger_lag(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        // A broker tells its own part late and about; what was sold here is counted exactly.
        let (bus, unbooked) = (self.bus.clone(), self.unbooked.clone());
        move || bus.backlog().max(unbooked.count())
    }

    /// Waits a moment until what was sold here is in the ledger. What a broker still has is safe there, but whoever
    /// ends a node in order expects its books to be closed.
    async fn booked(&self) {
        let lag = self.ledger_lag();
        let caught_up = async {
            while lag() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(CLOSING, caught_up).await.is_err() {
            tracing::info!(events = lag(), "the broker keeps what the ledger does not have yet");
        }
    }

    /// Drains pollers, shards, journal and ledger in this order, and ends the actors.
    pub async fn stop(self, deadline: Duration) -> ShutdownReport {
        // What they have under way is found again by comparing.
        self.channels_supervisor.stop().await;
        if self.bus.is_remote() {
            self.booked().await;
        }
        let mut order: Vec<&dyn Drain> = self.pollers.handles().map(|poller| poller as &dyn Drain).collect();
        order.extend(self.shards.handles().iter().map(|shard| shard as &dyn Drain));
        order.extend([&self.journal_writer as &dyn Drain, &self.ledger_writer]);
        let report = shutdown(&self.root, &order, deadline).await;
        for closed in [self.bus.close().await, self.ledger.close().await, self.channel_store.close().await] {
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
    new_stock: &NewStock,
) -> anyhow::Result<Shards> {
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
    Ok(Shards::new(handles, Duration::from_secs(config.server.answer_timeout_secs)))
}

/// Channels live on a thread of their own: no till waits while a marketplace's answer is taken apart.
fn start_channels(
    config: &Config,
    supervisor: &Supervisor,
    shards: &Shards,
    store: &sqlite::channels::Channels,
    clock: SharedClock,
    bus: &Bus,
) -> anyhow::Result<Channels> {
    let settings = &config.channels;
    let ports = channel::Ports {
        store: Arc::new(store.clone()),
        vault: Arc::new(Keyring::parse(settings.keys.reveal())?),
        open: marketplaces(config)?,
        shards: shards.clone(),
        clock,
    };
    let feeds = bus.channel_feeds();
    // Who hears of nothing compares often.
    let sweep = if feeds.is_empty() { 1 } else { settings.sweep_secs };
    let pace = channel::Pace {
        window: Duration::from_millis(settings.window_ms),
        sweep: Duration::from_secs(sweep),
        reconcile: Duration::from_secs(settings.reconcile_secs),
    };
    let below = supervisor.clone();
    let installer = installer(config)?;
    let spec = Spec::new("channels", channels::CAPACITY).restart(channels::POLICY);
    Ok(Channels::new(supervisor.start(spec, Place::OwnThread, move || {
        ChannelManager::new(ports.clone(), pace, feeds.clone(), installer.clone(), below.clone())
    })))
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

/// A ledger in this process's own files is always there; one that is elsewhere gets a circuit breaker.
fn reader(ledger: &Ledger) -> (Arc<dyn LedgerReader>, Option<Arc<CircuitBreaker>>) {
    if !ledger.is_remote() {
        return (ledger.reader(), None);
    }
    let breaker = Arc::new(CircuitBreaker::new("ledger", BreakerPolicy::default()));
    (Arc::new(GuardedReader::new(ledger.reader(), breaker.clone())), Some(breaker))
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

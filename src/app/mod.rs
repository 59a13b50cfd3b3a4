//! The composition root: picks the adapters, starts the tree, ends it in order. The only place that names concrete
//! types of every layer.

mod adapters;
mod at_rest;
mod away;
pub mod data_dir;
pub mod doctor;
mod fleet;
pub mod legacy;
mod letters;
mod marketplaces;
mod outboxes;
mod serve;
mod task;
mod tree;
pub mod verify;
mod waiting;
mod webhooks;

pub use serve::{Serving, authenticator, serve};

use crate::actors::channels::{self, Channels};
use crate::actors::journal_writer::JournalWriter;
use crate::actors::kit::{
    Drain, Handle, Registry, RootFailure, ShutdownReport, Strategy, Supervisor, Watchdog, shutdown,
};
use crate::actors::ledger_writer::LedgerWriter;
use crate::actors::legacy_poller::Pollers;
use crate::actors::nodes::Council;
use crate::actors::reservation::{Shards, Unbooked};
use crate::actors::webhooks::{MessageLetters, Webhooks};
use crate::bus::journal::Journal;
use crate::bus::rabbitmq::RabbitBus;
use crate::config::Config;
use crate::domain::ids::NodeId;
use crate::ports::bus::LEDGER_GROUP;
use crate::ports::clock::SharedClock;
use crate::ports::dead_letters::DeadLetters;
use crate::ports::ledger::LedgerReader;
use crate::ports::spans::Spans;
use crate::resilience::circuit_breaker::{BreakerPolicy, CircuitBreaker};
use crate::store::guarded::GuardedReader;
use adapters::{Adapters, Bus, Ledger};
use anyhow::{Context as _, bail};
use at_rest::AtRest;
use data_dir::DataDir;
use fleet::Fleet;
use futures_util::future::OptionFuture;
use letters::AllLetters;
use outboxes::Outboxes;
use std::sync::Arc;
use std::time::Duration;
use task::Task;
use tokio::sync::oneshot;
use tree::{GRANTS, Parts, Tell};
use uuid::Uuid;

/// How long an ordered end waits for a ledger behind a broker.
const CLOSING: Duration = Duration::from_secs(5);

/// The running engine, without its HTTP edge.
pub struct Engine {
    /// Everyone's vitals.
    pub registry: Registry,
    /// The shards.
    pub shards: Shards,
    /// The connections to marketplaces.
    pub channels: Channels,
    /// What was given up.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The webhooks that go out.
    pub webhooks: Webhooks,
    channels_supervisor: Supervisor,
    at_rest: AtRest,
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
    crew: Crew,
    ledger: Ledger,
    outboxes: Option<Arc<Outboxes>>,
    _watchdogs: Vec<Watchdog>,
}

/// Who has the shards.
enum Crew {
    /// This process, for as long as it runs.
    Alone { journal: Handle<JournalWriter>, ledger: Handle<LedgerWriter> },
    /// The nodes of an installation, between them.
    Nodes { council: Arc<Council>, serves: bool, stop: oneshot::Sender<()>, fleet: Task<Fleet> },
}

/// Why the engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Supervision has given up.
    #[error(transparent)]
    Supervision(#[from] RootFailure),
    /// What starts shards and hands them over panicked.
    #[error("the task that follows the division of the shards panicked")]
    Fleet,
    /// The node cannot be among the others before somebody changes something.
    #[error("this node cannot be among the others: {0}")]
    Refused(String),
}

impl Engine {
    /// Opens what the settings name and starts the actors, for a command that serves nobody: a server that is away is
    /// an error.
    pub async fn start(config: &Config, data_dir: &DataDir, clock: SharedClock) -> anyhow::Result<Self> {
        let adapters = Adapters::open(config, data_dir, clock.clone(), None).await?;
        Self::over(adapters, config, clock, None, None)
    }

    /// Starts the actors. Must run on a thread of an actix `System`. The shards rebuild themselves; what they are asked
    /// meanwhile waits. `address` is where other nodes can send requests to; a command that serves nobody has none.
    /// `spans` is where steps of traces go, if anywhere.
    fn over(
        adapters: Adapters,
        config: &Config,
        clock: SharedClock,
        address: Option<String>,
        spans: Option<Arc<dyn Spans>>,
    ) -> anyhow::Result<Self> {
        let Adapters { bus, ledger, new_stock, at_rest, outboxes, findings } = adapters;
        for finding in &findings {
            tracing::error!("{finding}");
        }
        metrics::gauge!("blend_journal_findings").set(u32::try_from(findings.len()).unwrap_or(u32::MAX));
        let registry = Registry::new();
        // In start order: who comes later builds on who came before.
        let root = Supervisor::new("root", Strategy::RestForOne, GRANTS, &registry);
        let (reader, ledger_circuit) = reader(&ledger);
        let parts = Parts::new(
            config,
            (bus.clone(), ledger.clone(), reader),
            (new_stock, outboxes.clone()),
            clock.clone(),
            spans,
        )?;
        let unbooked = parts.unbooked.clone();
        let patience = Duration::from_secs(config.server.answer_timeout_secs);
        let (shards, crew) = match &bus {
            Bus::Journal(journal) => alone(&parts, &root, journal, patience),
            Bus::RabbitMq(bus) => among_others(parts, &root, bus, address, patience),
        };
        let channels_supervisor = root.child("marketplaces", Strategy::OneForOne, GRANTS);
        let channels = marketplaces::start(
            config,
            &channels_supervisor,
            &shards,
            at_rest.channels(),
            clock.clone(),
            &bus,
        )?;
        let dead_letters: Arc<dyn DeadLetters> = Arc::new(AllLetters {
            bus: bus.dead_letters(),
            channels: Arc::new(channels::Letters::new(channels.clone(), at_rest.channels())),
            hooks: Arc::new(MessageLetters(at_rest.hooks())),
        });
        let webhooks = webhooks::start(
            config,
            &channels_supervisor,
            (at_rest.hooks(), &shards),
            dead_letters.clone(),
            clock.clone(),
            &bus,
        )?;
        let pollers = legacy::start(config, &root, &shards, &clock)?;
        let watchdogs = watchdogs(config, &registry)?;
        Ok(Self {
            registry,
            shards,
            channels,
            dead_letters,
            webhooks,
            channels_supervisor,
            at_rest,
            pollers,
            bus,
            findings,
            ledger_circuit,
            clock,
            unbooked,
            root,
            crew,
            ledger,
            outboxes,
            _watchdogs: watchdogs,
        })
    }

    /// Resolves when it cannot go on.
    pub fn failed(&self) -> impl Future<Output = Failure> + Send + use<> {
        let gave_up = self.root.root_failed();
        let (fallen, refused) = match &self.crew {
            Crew::Alone { .. } => (None, None),
            Crew::Nodes { fleet, council, .. } => (Some(fleet.fallen()), Some(council.refused())),
        };
        async move {
            tokio::select! {
                failure = gave_up => Failure::Supervision(failure),
                Some(()) = OptionFuture::from(fallen) => Failure::Fleet,
                Some(why) = OptionFuture::from(refused) => Failure::Refused(why),
            }
        }
    }

    /// What is known of the other nodes, where there may be some.
    pub fn council(&self) -> Option<Arc<Council>> {
        match &self.crew {
            Crew::Alone { .. } => None,
            Crew::Nodes { council, .. } => Some(council.clone()),
        }
    }

    /// Waits until every shard answers, which is when its rebuild is over, here or at another node, or until
    /// supervision gives up on one.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let answer = async {
            match &self.crew {
                Crew::Alone { .. } => {
                    self.shards.tenants().await.map(|_| ()).context("a reservation shard did not start")
                }
                Crew::Nodes { council, serves, .. } => divided(council, *serves).await,
            }
        };
        tokio::select! {
            answered = answer => answered,
            failure = self.failed() => Err(failure.into()),
        }
    }

    /// Tells how many events the ledger does not have yet.
    pub fn ledger_lag(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        // A broker tells its own part late and about; what was sold here is counted exactly.
        let (bus, unbooked) = (self.bus.clone(), self.unbooked.clone());
        move || bus.backlog().max(unbooked.count())
    }

    /// Tells whether sales go on while the broker is away, and how many events wait for it; nothing where there is no
    /// outbox.
    pub fn outbox(&self) -> impl Fn() -> Option<(bool, u64)> + Send + Sync + use<> {
        let outboxes = self.outboxes.clone();
        move || outboxes.as_ref().map(|outboxes| (outboxes.takes(), outboxes.waiting()))
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
        if !matches!(tokio::time::timeout(CLOSING, self.at_rest.release()).await, Ok(Ok(()))) {
            tracing::info!("other nodes wait until this one's claims on connections are over");
        }
        if self.bus.is_remote() {
            self.booked().await;
        }
        let report = match self.crew {
            Crew::Alone { journal, ledger } => {
                let shards = self.shards.handles();
                let mut order: Vec<&dyn Drain> =
                    self.pollers.handles().map(|poller| poller as &dyn Drain).collect();
                order.extend(shards.iter().map(|shard| shard as &dyn Drain));
                order.extend([&journal as &dyn Drain, &ledger]);
                shutdown(&self.root, &order, deadline).await
            }
            Crew::Nodes { stop, fleet, .. } => {
                for poller in self.pollers.handles() {
                    poller.drain_within(deadline).await;
                }
                drop(stop);
                let drained = match fleet.ended().await {
                    Some(fleet) => fleet.leave(deadline).await,
                    None => vec![("shards".to_owned(), false)],
                };
                let ShutdownReport { stopped, .. } = shutdown(&self.root, &[], deadline).await;
                ShutdownReport { drained, stopped }
            }
        };
        for closed in [self.bus.close().await, self.ledger.close().await, self.at_rest.close().await] {
            if let Err(error) = closed {
                tracing::warn!(%error, "a file was left with its write-ahead log; the next start takes it in");
            }
        }
        report
    }
}

/// Brings the schemas up to date, and sees whether what is in the books can be read. Over a broker other nodes may have
/// the shards; then it looks no further than the schemas.
pub async fn migrate(config: &Config, data_dir: &DataDir, clock: SharedClock) -> anyhow::Result<()> {
    if config.bus.url.reveal().is_empty() {
        let engine = Engine::start(config, data_dir, clock).await?;
        engine.ready().await?;
        engine.stop(Duration::from_secs(config.server.shutdown_timeout_secs)).await;
        return Ok(());
    }
    let Adapters { bus, ledger, at_rest, .. } = Adapters::open(config, data_dir, clock, None).await?;
    bus.close().await?;
    ledger.close().await?;
    at_rest.close().await?;
    Ok(())
}

/// One journal and one ledger for all shards, which are all here.
fn alone(parts: &Parts, root: &Supervisor, bus: &Journal, patience: Duration) -> (Shards, Crew) {
    let journal = parts.journal(root, "", bus.log());
    let supervisor = root.child("reservation", Strategy::OneForOne, GRANTS);
    let shards = (0..parts.shards()).map(|shard| parts.reservation(&supervisor, shard, &journal));
    let shards = Shards::new(shards.collect(), patience);
    let told = shards.clone();
    let tell: Tell = Arc::new(move |written| told.in_ledger(written));
    let ledger = parts.ledger(root, "", bus.feed(LEDGER_GROUP), tell);
    (shards, Crew::Alone { journal, ledger })
}

/// The shards that this node is given.
fn among_others(
    parts: Parts,
    root: &Supervisor,
    bus: &RabbitBus,
    address: Option<String>,
    patience: Duration,
) -> (Shards, Crew) {
    let serves = address.is_some();
    let council = Council::new(NodeId(Uuid::now_v7()), address.unwrap_or_default(), parts.shards());
    let shards = Shards::none_of(parts.shards(), patience);
    parts.nodes(root, bus.assembly(), &council);
    let (stop, stopped) = oneshot::channel();
    let fleet = Fleet::new(parts, bus.clone(), council.clone(), shards.clone(), root.clone());
    let fleet = Task::spawn(fleet.follow(stopped));
    (shards, Crew::Nodes { council, serves, stop, fleet })
}

/// Waits until every shard has a node. A command that serves nobody does not take part where others serve.
async fn divided(council: &Council, serves: bool) -> anyhow::Result<()> {
    let mut view = council.view();
    loop {
        let now = view.borrow_and_update().clone();
        let me = council.me();
        let server = now.nodes.iter().find(|(node, address)| **node != me && !address.is_empty());
        if let (false, Some((_, address))) = (serves, server) {
            bail!("a server of this installation runs at {address}; give the command --url http://{address}");
        }
        if now.ownerless().next().is_none() {
            return Ok(());
        }
        view.changed().await.context("the nodes are not followed any more")?;
    }
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

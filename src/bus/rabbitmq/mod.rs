//! The bus on RabbitMQ: publisher confirms, one partitioned queue per consumer group, delayed retries, dead letters.
//!
//! Every end has a connection of its own and none recovers by itself: whoever owns a broken end drops it and opens
//! another. Needs RabbitMQ 3.10 or later for quorum queues (their dead-lettering with a confirm, their message TTL);
//! classic queues work from 3.8 on. `names.rs` has the topology.

pub mod audit;
mod connection;
pub mod dead_letters;
mod feed;
mod group;
mod history;
mod log;
mod message;
mod names;
mod nodes;
mod partition;
mod publisher;
mod topology;
mod while_writing;

use crate::ports::bus::{EventFeed, EventLog, Subscription, WEBHOOK_GROUP};
use crate::ports::clock::SharedClock;
use crate::ports::{Open, PortError};
use crate::resilience::retry::RetrySchedule;
use dead_letters::DeadLetter;
use futures_util::FutureExt;
use group::Group;
use names::Names;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use while_writing::WhileWriting;

/// What the queues of events are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// Quorum, unless the queues are there already and classic.
    #[default]
    Auto,
    /// Replicated by Raft. A message on its way through a retry is confirmed by the queue it goes to. The broker takes
    /// some three seconds to write down that there is a new queue: killed in the first seconds of an installation, it
    /// comes back without what was in it.
    Quorum,
    /// On one node. A message on its way through a retry is lost when the broker is killed at that very moment.
    Classic,
}

/// Numbers and names of the bus.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://user:password@host:port/vhost`, or `amqps://`. `?heartbeat=` is in seconds, 10 unless given.
    pub url: String,
    /// Most messages of one partition that are delivered and not acknowledged.
    pub prefetch: u16,
    /// How long a batch may take until all of it is confirmed; also the limit of every other exchange with the broker.
    pub confirm_timeout: Duration,
    /// How long a rebuild waits until the ledger has what was published before.
    pub catch_up_timeout: Duration,
    /// Parts of the installation, each written by one node at a time.
    pub shards: usize,
    /// Whether no other node may be there, because the ledger is a file of this one.
    pub alone: bool,
    /// Queues over which the tenants of the ledger group are spread, a multiple of `shards`. Changing it needs empty
    /// queues.
    pub partitions: usize,
    /// What the queues are made of.
    pub queue_type: QueueType,
    /// When failed deliveries come again.
    pub retries: RetrySchedule,
    /// Stands before the name of every exchange and queue; for several installations on one virtual host.
    pub prefix: String,
}

impl fmt::Debug for RabbitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitSettings")
            .field("url", &"redacted")
            .field("prefetch", &self.prefetch)
            .field("confirm_timeout", &self.confirm_timeout)
            .field("catch_up_timeout", &self.catch_up_timeout)
            .field("shards", &self.shards)
            .field("alone", &self.alone)
            .field("partitions", &self.partitions)
            .field("queue_type", &self.queue_type)
            .field("retries", &self.retries)
            .field("prefix", &self.prefix)
            .finish()
    }
}

/// The bus of one installation, seen from one process.
#[derive(Clone)]
pub struct RabbitBus {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RabbitSettings,
    names: Names,
    clock: SharedClock,
    /// For each shard, the number of the log with which this process writes; 0 when it does not.
    writing: Vec<watch::Sender<u64>>,
    /// Logs opened so far.
    logs: AtomicU64,
    /// Since when another number of shards stands at the broker, with no node behind it.
    counted_otherwise: Mutex<Option<Instant>>,
    /// Messages that wait in each shard's partitions, while this process writes it: as of the last look of its log, with
    /// what was published and what came since. What comes before its confirm is taken off before it is added.
    waiting: Vec<AtomicI64>,
    /// Messages that this process's feed of each shard has and that are not settled.
    unsettled: Vec<AtomicU64>,
}

impl Shared {
    fn counted_otherwise(&self) -> MutexGuard<'_, Option<Instant>> {
        self.counted_otherwise.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues of a shard's tenants. A tenant's partition leaves the same remainder as its shard.
    fn partitions_of(&self, shard: usize) -> impl Iterator<Item = usize> + use<> {
        (shard..self.names.partitions).step_by(self.settings.shards)
    }
}

impl RabbitBus {
    /// Connects to nothing yet.
    pub fn new(settings: RabbitSettings, clock: SharedClock) -> Self {
        let shards = settings.shards;
        let names = Names::new(&settings.prefix, settings.partitions, settings.retries.0.len());
        let shared = Shared {
            settings,
            names,
            clock,
            writing: (0..shards).map(|_| watch::Sender::new(0)).collect(),
            logs: AtomicU64::new(0),
            counted_otherwise: Mutex::default(),
            waiting: (0..shards).map(|_| AtomicI64::new(0)).collect(),
            unsettled: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Connects, declares exchanges and queues, and checks that they are what the settings say.
    pub async fn check(&self) -> Result<(), PortError> {
        let connection = connection::connect(&self.shared.settings, "check").await?;
        topology::declare(&connection, &self.shared).await?;
        topology::check_partitions(&connection, &self.shared).await
    }

    /// Opens writing ends of a shard. There is one at a time in the whole installation: opening a second one waits
    /// until the first is gone, so each shard is sold by one node.
    pub fn log(&self, shard: usize) -> Open<Box<dyn EventLog>> {
        let shared = self.shared.clone();
        Arc::new(move || {
            let shared = shared.clone();
            async move { Ok(Box::new(log::Log::open(shared, shard).await?) as Box<dyn EventLog>) }.boxed()
        })
    }

    /// Opens reading ends of the ledger's group, for the tenants of a shard. Of several, in whatever process, one is fed
    /// at a time and the others stand by.
    pub fn feed(&self, shard: usize) -> Open<Box<dyn EventFeed>> {
        let shared = self.shared.clone();
        Arc::new(move || {
            let shared = shared.clone();
            async move { Ok(Box::new(feed::Feed::open(shared, shard).await?) as Box<dyn EventFeed>) }.boxed()
        })
    }

    /// A group beside the ledger's, for each shard.
    pub fn groups(&self, name: &'static str) -> Vec<Arc<dyn Subscription>> {
        let (shared, is_kept) = (&self.shared, name == WEBHOOK_GROUP);
        let group =
            |shard| Arc::new(Group { shared: shared.clone(), name, shard, is_kept }) as Arc<dyn Subscription>;
        (0..shared.settings.shards).map(group).collect()
    }

    /// The same, but only while this process has the writer of the shard: what a node sells it also books, and knows
    /// when it is booked.
    pub fn feed_while_writing(&self, shard: usize) -> Open<Box<dyn EventFeed>> {
        let (bus, open) = (self.clone(), self.feed(shard));
        Arc::new(move || {
            let (mut writing, opening) = (bus.shared.writing[shard].subscribe(), open.clone());
            async move {
                // An error means that the bus is gone, and with it whoever asks.
                let log = writing.wait_for(|log| *log != 0).await.map(|log| *log).unwrap_or_default();
                let feed = opening().await?;
                Ok(Box::new(WhileWriting { feed, writing, log }) as Box<dyn EventFeed>)
            }
            .boxed()
        })
    }

    /// How many events the ledger group is behind, about, of the shards that this process has: what waits at the broker,
    /// and what their feeds have in hand. It is not 0 while something that was published is in neither.
    pub fn backlog(&self) -> u64 {
        let waiting = |count: &AtomicI64| count.load(Ordering::Relaxed).max(0).unsigned_abs();
        let unsettled = self.shared.unsettled.iter().map(|count| count.load(Ordering::Relaxed));
        self.shared.waiting.iter().map(waiting).chain(unsettled).sum()
    }

    /// The dead letters of the ledger group, oldest first; they stay where they are. One reader at a time: a second
    /// one waits for the first, at most `catch_up_timeout`.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, PortError> {
        let connection = connection::connect(&self.shared.settings, "dead letters").await?;
        topology::declare(&connection, &self.shared).await?;
        dead_letters::read(&connection, &self.shared).await
    }
}

#[cfg(test)]
mod tests;

//! The bus: durable events, consumer groups, retries, dead letters.

use super::PortError;
use crate::domain::event::Event;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Why events are not (known to be) durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Certainly not durable; nothing of the batch is.
    #[error("events were not recorded: {0}")]
    NotDurable(String),
    /// Certainly not durable, because there is no room left.
    #[error("events were not recorded, storage is full: {0}")]
    Full(String),
    /// It may be either; only a fresh look tells.
    #[error("it is unknown whether the events were recorded: {0}")]
    InDoubt(String),
}

/// The writing end. Owned by one actor.
pub trait EventLog: Send {
    /// Makes a batch durable, all or nothing, in order. Ok means: it survives the loss of power.
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>>;

    /// Upkeep between batches: positions of the groups, trimming what every group has, checkpoints.
    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>>;

    /// Whether everything that was appended is where its consumers find it. A barrier means nothing before that.
    fn has_arrived(&self) -> bool {
        true
    }

    /// Whether it has lost its hold on the bus: others may have written since, so it must not append any more, and
    /// whoever wants to go on opens another. Asked after every append and upkeep.
    fn is_lost(&self) -> bool {
        false
    }
}

/// One event on its way to a consumer group.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its place on the bus.
    pub position: u64,
    /// How often the group has tried it before.
    pub attempt: u32,
    /// The event.
    pub event: Arc<Event>,
}

/// What became of a delivery that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It comes again later, and the events of its tenant wait behind it.
    Retry,
    /// It was given up and lies among the dead letters.
    DeadLettered,
}

/// The reading end of one consumer group.
///
/// Order: a tenant's events come in their order. Every event comes at least once.
pub trait EventFeed: Send {
    /// The next events, at most `max`; waits until there is one. Safe to drop while it waits.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>>;

    /// Whether there are events that were not handed out yet, so that `next` would not wait.
    fn has_more(&self) -> bool;

    /// The effects of these deliveries are durable.
    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>>;

    /// Whether a failure of this delivery would be its last, after which it is a dead letter.
    fn gives_up(&self, delivery: &Delivery) -> bool;

    /// A delivery failed for good reason; it is tried again by schedule, then becomes a dead letter.
    fn reject<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        cause: &'a str,
    ) -> BoxFuture<'a, Result<Rejection, PortError>>;

    /// Deliveries whose tenant has an older one that was just rejected: they come again behind it, untried.
    fn postpone<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>>;
}

/// A consumer group for those who come and go: it is listened to while there is somebody to tell.
pub trait Subscription: Send + Sync {
    /// Whose events come: those of this shard's tenants, for as long as one of them has somebody to tell; `None` where
    /// it is everybody's, always.
    fn shard(&self) -> Option<usize> {
        None
    }

    /// Whether what happens while nobody listens is kept. Else whoever begins to listen looks at how things stand.
    fn is_kept(&self) -> bool {
        true
    }

    /// There is somebody to tell: what happens from now on is kept, where anything is.
    fn begin(&self) -> BoxFuture<'_, Result<(), PortError>> {
        futures_util::future::ready(Ok(())).boxed()
    }

    /// Begins, and listens.
    fn open(&self) -> BoxFuture<'static, Result<Box<dyn EventFeed>, PortError>>;

    /// Of these shards there is nobody to tell any more, nor what was kept for them.
    fn end<'a>(&'a self, _shards: &'a [usize]) -> BoxFuture<'a, Result<(), PortError>> {
        futures_util::future::ready(Ok(())).boxed()
    }
}

/// What a consumer group has not confirmed, for rebuilding hot state.
pub trait EventHistory: Send + Sync {
    /// Every durable event that the ledger group has not confirmed, in order of position. Those that it gave up the
    /// ledger has too ([`super::ledger::LedgerReader::given_up`]), and they may be missing here.
    fn unconfirmed(&self) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>>;
}

/// The consumer group that writes the ledger.
pub const LEDGER_GROUP: &str = "queue.sales.created";

/// The consumer group that tells tenants' own systems.
pub const WEBHOOK_GROUP: &str = "queue.webhooks";

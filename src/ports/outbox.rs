//! Where events wait that the bus does not take at the moment.

use super::PortError;
use crate::domain::event::Event;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Why events were not put in, or not taken out. Nothing was done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OutboxError {
    /// Somebody else has taken it over, with all that was in it.
    #[error("another node has taken the outbox over")]
    TakenOver,
    /// Some of what was in it is gone, and with it perhaps the right to put something in: take it over again.
    #[error("the outbox has lost events")]
    Lost,
    /// It cannot be reached, or does not answer: it may have been done.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Events of one shard, oldest first. One owner at a time; whoever takes it over locks the one before out.
pub trait Outbox: Send {
    /// Makes this the owner, and tells what waits. Asked again it does so only as long as nobody else has become the
    /// owner meanwhile.
    fn take_over(&mut self) -> BoxFuture<'_, Result<Vec<Arc<Event>>, OutboxError>>;

    /// Puts events in, behind the others. Ok means: they survive the loss of power.
    fn put<'a>(&'a mut self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), OutboxError>>;

    /// The oldest so many are on the bus.
    fn published(&mut self, count: usize) -> BoxFuture<'_, Result<(), OutboxError>>;
}

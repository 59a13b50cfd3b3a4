//! The ordered end of a tree: nothing accepted is lost.

use super::{Supervisor, handle::Drain};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Time to stop a tree whose actors are drained.
const STOPPING: Duration = Duration::from_secs(1);

/// How a shutdown went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Each drained actor, in order, and whether it finished everything it had accepted.
    pub drained: Vec<(String, bool)>,
    /// All actors ended and all their own threads were joined.
    pub stopped: bool,
}

impl ShutdownReport {
    /// Nothing was left behind.
    pub fn is_clean(&self) -> bool {
        self.stopped && self.drained.iter().all(|(_, done)| *done)
    }
}

/// Drains actors one after the other, each before those it sends to (edge, bridges, reservation, ledger), then stops
/// the whole tree and joins its own threads. One deadline for all drains: what it cuts off is in the report. Stopping
/// gets a second of its own, which only a blocked thread can use up.
pub async fn shutdown(root: &Supervisor, order: &[&dyn Drain], deadline: Duration) -> ShutdownReport {
    let end = Instant::now() + deadline;
    let mut drained = Vec::with_capacity(order.len());
    for actor in order {
        // With no time left it is closed at once, and still reported.
        let done = actor.drain_within(end.saturating_duration_since(Instant::now())).await;
        if !done {
            tracing::warn!(actor = actor.name(), "not drained in time");
        }
        drained.push((actor.name().to_owned(), done));
    }
    let stopped = timeout_at(end.max(Instant::now() + STOPPING), root.stop()).await.is_ok();
    if !stopped {
        // Those that were to be stopped after the blocked one.
        root.order_stop();
        tracing::error!(supervisor = root.name(), "not stopped in time");
    }
    ShutdownReport { drained, stopped }
}

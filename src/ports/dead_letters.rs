//! Events that were given up: looking at them, and trying them again.

use super::PortError;
use crate::domain::dead_letter::DeadLetter;
use futures_util::future::BoxFuture;

/// The dead letters of a bus. There is no way to throw one away: hot stock counts it, since the shop has handed the
/// goods over, and a sale that is in no book is a sale that was lost.
pub trait DeadLetters: Send + Sync {
    /// The oldest ones, at most `most`.
    fn list(&self, most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>>;

    /// These are tried again, now; says how many of them were still there. What fails again comes back here by the
    /// usual schedule.
    fn replay<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>>;
}

//! What was given up: looking at it, trying it again, throwing it away where that is safe.

use super::PortError;
use crate::domain::dead_letter::{DeadLetter, Matter};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// Dead letters of one kind, or of all.
pub trait DeadLetters: Send + Sync {
    /// The oldest ones, at most `most`.
    fn list(&self, most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>>;

    /// These are tried again, now; says how many of them were still there. What fails again comes back here by the
    /// usual schedule.
    fn replay<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>>;

    /// These are thrown away; says how many of them were still there. Those of a bus never are: hot stock counts them,
    /// since the shop has handed the goods over, and a sale that is in no book is a sale that was lost.
    ///
    /// # Errors
    ///
    /// Permanent, saying why, when they have to be kept.
    fn discard<'a>(&'a self, _ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        let why = Matter::Event.kept_because().unwrap_or_default();
        async move { Err(PortError::Permanent(format!("it is not thrown away: {why}"))) }.boxed()
    }

    /// How many there are; counts no further than `most`.
    fn depth(&self, most: usize) -> BoxFuture<'_, Result<usize, PortError>> {
        async move { Ok(self.list(most).await?.len()) }.boxed()
    }
}

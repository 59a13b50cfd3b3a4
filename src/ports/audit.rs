//! What the checker of the laws reads.

use super::PortError;
use crate::domain::audit::{Detail, Fact, Part};
use futures_util::future::BoxFuture;

/// Takes in facts, one at a time.
pub type Sink<'a> = &'a mut (dyn FnMut(Fact<'_>) + Send);

/// One side of the comparison, as of one moment: what is written meanwhile by a running server does not show.
pub trait FactSource: Send {
    /// About how many facts there will be, for showing progress.
    fn total(&mut self) -> BoxFuture<'_, Result<u64, PortError>>;

    /// Tells every fact of a part.
    fn facts<'a>(&'a mut self, part: Part, sink: Sink<'a>) -> BoxFuture<'a, Result<(), PortError>>;

    /// The rows or events that a finding is about, as they are stored, each as one line of text.
    fn evidence<'a>(&'a mut self, about: &'a Detail) -> BoxFuture<'a, Result<Vec<String>, PortError>>;
}

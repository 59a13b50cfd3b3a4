//! What the checker of the laws reads.

use super::PortError;
use crate::domain::audit::{Detail, Fact, Part};
use futures_util::future::BoxFuture;

/// Takes in facts, one at a time.
pub type Sink<'a> = &'a mut (dyn FnMut(Fact<'_>) + Send);

/// One side of the comparison, as of fixed moments: what is written meanwhile by a running server does not show.
pub trait FactSource: Send {
    /// About how many facts there will be, for showing progress.
    fn total(&mut self) -> BoxFuture<'_, Result<u64, PortError>>;

    /// Tells every fact of a part.
    fn facts<'a>(&'a mut self, part: Part, sink: Sink<'a>) -> BoxFuture<'a, Result<(), PortError>>;

    /// The rows or events that a finding is about, as they are stored, each as one line of text.
    fn evidence<'a>(&'a mut self, about: &'a Detail) -> BoxFuture<'a, Result<Vec<String>, PortError>>;
}

/// The ledger's side.
pub trait LedgerFactSource: FactSource {
    /// Everything is read as of this moment from now on.
    fn pin(&mut self) -> BoxFuture<'_, Result<(), PortError>>;

    /// Lets go of the moment, so that another can be pinned.
    fn unpin(&mut self) -> BoxFuture<'_, Result<(), PortError>>;
}

/// The bus's side: what it holds as of a moment before that of the ledger, and what was added up to one after it.
pub trait BusFactSource: FactSource {
    /// The first moment.
    fn pin_before(&mut self) -> BoxFuture<'_, Result<(), PortError>>;

    /// The second moment. False when the two do not join any more and all moments have to be chosen anew.
    fn pin_after(&mut self) -> BoxFuture<'_, Result<bool, PortError>>;
}

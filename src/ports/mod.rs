//! What the actors need from the outside world, as traits; adapters implement them.

pub mod audit;
pub mod bus;
pub mod channel;
pub mod clock;
pub mod dead_letters;
pub mod erp;
pub mod hooks;
pub mod leases;
pub mod ledger;
pub mod nodes;
pub mod outbox;
pub mod spans;
pub mod stock;

use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Opens a fresh instance of something that owns a connection. Actors call it when they start and again after every
/// restart, so that a broken connection is never used twice.
pub type Open<T> = Arc<dyn Fn() -> BoxFuture<'static, Result<T, PortError>> + Send + Sync>;

/// Why a port could not do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PortError {
    /// Passing trouble: busy, disk full, server away. The same call may work later.
    #[error("{0}")]
    Transient(String),
    /// The request itself can never work.
    #[error("{0}")]
    Permanent(String),
}

impl PortError {
    /// Whether the same call may work later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }
}

//! The ledger and the catalogue at rest.

use super::PortError;
use crate::domain::catalogue::Unit;
use crate::domain::decimal::Quantity;
use crate::domain::erp::Entry;
use crate::domain::event::Event;
use crate::domain::idempotency::Fingerprint;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::sale::Sale;
use crate::domain::stock::Place;
use crate::domain::tenant::{Location, Tenant};
use crate::domain::time::Timestamp;
use futures_util::future::BoxFuture;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Everything a shard needs of a tenant, as of one moment.
#[derive(Debug, Clone)]
pub struct TenantSnapshot {
    /// The tenant.
    pub tenant: Tenant,
    /// Its locations.
    pub locations: Vec<Location>,
    /// Its units.
    pub units: Vec<Arc<Unit>>,
    /// Projected stock.
    pub stock: Vec<(Place, Quantity)>,
    /// What is known of its ERPs: the source, and a fact about it.
    pub erp: Vec<(Arc<str>, Entry)>,
    /// The last event number applied.
    pub sequence: u64,
    /// Numbers up to `sequence` that were given up and not applied.
    pub holes: BTreeSet<u64>,
    /// The moment of the last event applied.
    pub last_at: Timestamp,
}

impl TenantSnapshot {
    /// Whether an event is in the snapshot already.
    pub fn has(&self, sequence: u64) -> bool {
        sequence <= self.sequence && !self.holes.contains(&sequence)
    }
}

/// A sale as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSale {
    /// The sale.
    pub sale: Sale,
    /// When it was made.
    pub at: Timestamp,
    /// The request its key stood for, if it had a key.
    pub fingerprint: Option<Fingerprint>,
    /// When it was taken back, if it was.
    pub voided: Option<Timestamp>,
}

/// What a batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Events written now.
    pub events: usize,
    /// Events that were there already.
    pub duplicates: usize,
    /// Sales among the events written now.
    pub sales: usize,
}

/// The writing end. Owned by one actor.
pub trait LedgerStore: Send {
    /// Writes the effects of a batch in one transaction, ignoring events it already has. An error means that nothing
    /// of the batch is written.
    fn apply<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<Applied, PortError>>;

    /// Keeps an event that is given up, until it is applied after all: its number is known to be missing rather than
    /// lost. An event that it has already changes nothing.
    fn give_up<'a>(&'a mut self, event: &'a Event, cause: &'a str) -> BoxFuture<'a, Result<(), PortError>>;
}

/// Where a page of keys ends. What it is made of is the store's own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCursor(pub i64, pub i64);

/// A page of the keys' indexed halves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// In the order of the store.
    pub hashes: Vec<i64>,
    /// Where the next page begins; none after the last key.
    pub next: Option<KeyCursor>,
}

/// Reading, beside the writer.
pub trait LedgerReader: Send + Sync {
    /// Every tenant that belongs to a shard, each as of one moment.
    fn snapshots(&self, shard: usize, shards: usize)
    -> BoxFuture<'_, Result<Vec<TenantSnapshot>, PortError>>;

    /// The events of a shard's tenants that were given up and not applied since, each tenant's in their order.
    fn given_up(&self, shard: usize, shards: usize) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>>;

    /// A tenant's sale.
    fn sale(&self, tenant: TenantId, id: SaleId) -> BoxFuture<'_, Result<Option<StoredSale>, PortError>>;

    /// The sale that a key made; `indexed` is the indexed half of the key's hash.
    fn sale_by_key<'a>(
        &'a self,
        tenant: TenantId,
        indexed: i64,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredSale>, PortError>>;

    /// The indexed halves of all keys, each once, a page at a time: those behind `after`, at most `limit`.
    fn key_hashes(&self, after: Option<KeyCursor>, limit: usize)
    -> BoxFuture<'_, Result<KeyPage, PortError>>;
}

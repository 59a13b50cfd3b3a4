//! Tenants (chains, shops) and the places where they hold stock.

use super::ids::{LocationId, TenantId};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A chain or shop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: Arc<str>,
    /// Its trade (`rubro`), lower case.
    pub trade: Arc<str>,
    /// An inactive tenant may neither sell nor read.
    pub active: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a location is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LocationKind {
    /// A shop with tills.
    Store,
    /// A warehouse.
    Warehouse,
}

impl LocationKind {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "STORE",
            Self::Warehouse => "WAREHOUSE",
        }
    }

    /// Reads a wire name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Store, Self::Warehouse].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A place that holds stock. Every tenant has exactly one default location from its first moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Its id.
    pub id: LocationId,
    /// The tenant's own short code for it (a store number), unique in the tenant.
    pub code: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: LocationKind,
    /// Where sales and stock go when no location is named.
    pub is_default: bool,
    /// Inactive locations refuse sales.
    pub active: bool,
}

/// The shard that owns a tenant. UUIDv7 ends in random bits, so its tail spreads evenly.
pub fn shard_of(tenant: TenantId, shards: usize) -> usize {
    let bytes = tenant.as_bytes();
    let tail = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
    tail as usize % shards.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_spread_over_all_shards() {
        let mut hits = [0_u32; 8];
        for _ in 0..4_000 {
            hits[shard_of(TenantId(uuid::Uuid::now_v7()), 8)] += 1;
        }
        assert!(hits.iter().all(|&n| (350..=650).contains(&n)), "{hits:?}");
    }
}

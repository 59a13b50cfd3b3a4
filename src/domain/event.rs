//! Events: everything that ever changed a tenant, in order.
//!
//! Every event of a tenant carries the next number of that tenant's own dense sequence. It tells a consumer what it
//! already has (a number it has passed) and what is missing (a gap), whatever carried the event.

use super::catalogue::Unit;
use super::decimal::Quantity;
use super::erp::ErpChange;
use super::idempotency::{Fingerprint, IdempotencyKey};
use super::ids::{EventId, LocationId, SaleId, TenantId, UnitId};
use super::sale::Sale;
use super::tenant::{Location, Tenant};
use super::time::Timestamp;
use super::trace::{TraceContext, TraceId, traceparent};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

mod wire;
pub use wire::{DecodeError, VERSION};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, for consumers that only know ids.
    pub id: EventId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its number in the tenant's dense sequence, from 1.
    pub sequence: u64,
    /// When it was decided; never before the tenant's previous event, whatever the clock does.
    pub at: Timestamp,
    /// Who caused it (`sub` of the token, or the name of a command).
    pub user: Arc<str>,
    /// The request it came from, for tracing it through the logs.
    pub request_id: Arc<str>,
    /// The trace that came with the request; without one it is the request that began it.
    pub trace: Option<Arc<TraceContext>>,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A tenant with its first locations.
    TenantCreated { tenant: Tenant, locations: Vec<Location> },
    /// More locations.
    LocationsAdded { locations: Vec<Location> },
    /// New or changed units, whole.
    ProductsUpserted { units: Vec<Arc<Unit>> },
    /// A sale; the key under which it was asked for goes with it, so that a rebuild knows it.
    SaleCreated { sale: Sale, keyed: Option<(IdempotencyKey, Fingerprint)> },
    /// A sale taken back; one movement for each of its lines that took stock, in their order.
    SaleVoided { sale: SaleId, reason: Arc<str>, movements: Vec<Movement> },
    /// Stock that came or went by anything but a sale.
    StockMoved { kind: MovementKind, reference: Arc<str>, movements: Vec<Movement> },
    /// What was read from an ERP, with the movements that it came to. One event, so that what is known of the ERP and
    /// what was moved because of it are never apart.
    ErpFollowed(Arc<ErpChange>),
}

impl Body {
    /// The routing key.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::TenantCreated { .. } => EventKind::TenantCreated,
            Self::LocationsAdded { .. } => EventKind::LocationsAdded,
            Self::ProductsUpserted { .. } => EventKind::ProductsUpserted,
            Self::SaleCreated { .. } => EventKind::SaleCreated,
            Self::SaleVoided { .. } => EventKind::SaleVoided,
            Self::StockMoved { .. } => EventKind::StockMoved,
            Self::ErpFollowed(_) => EventKind::ErpFollowed,
        }
    }
}

/// The kinds of events, by routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `tenants.created`
    TenantCreated,
    /// `locations.added`
    LocationsAdded,
    /// `products.upserted`
    ProductsUpserted,
    /// `sales.created`
    SaleCreated,
    /// `sales.voided`
    SaleVoided,
    /// `stock.moved`
    StockMoved,
    /// `erp.followed`
    ErpFollowed,
}

impl EventKind {
    const ALL: [Self; 7] = [
        Self::TenantCreated,
        Self::LocationsAdded,
        Self::ProductsUpserted,
        Self::SaleCreated,
        Self::SaleVoided,
        Self::StockMoved,
        Self::ErpFollowed,
    ];

    /// The routing key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TenantCreated => "tenants.created",
            Self::LocationsAdded => "locations.added",
            Self::ProductsUpserted => "products.upserted",
            Self::SaleCreated => "sales.created",
            Self::SaleVoided => "sales.voided",
            Self::StockMoved => "stock.moved",
            Self::ErpFollowed => "erp.followed",
        }
    }

    /// Reads a routing key.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Why stock moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MovementKind {
    /// Sold.
    Sale,
    /// A sale was taken back.
    Void,
    /// Bought.
    Purchase,
    /// Came back.
    Return,
    /// Corrected by a person.
    Adjustment,
    /// The opening balance of a unit at a location.
    InitialStock,
    /// Moved between locations.
    Transfer,
    /// Taken over from an ERP.
    LegacySync,
}

impl MovementKind {
    /// The name in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "SALE",
            Self::Void => "VOID",
            Self::Purchase => "PURCHASE",
            Self::Return => "RETURN",
            Self::Adjustment => "ADJUSTMENT",
            Self::InitialStock => "INITIAL_STOCK",
            Self::Transfer => "TRANSFER",
            Self::LegacySync => "LEGACY_SYNC",
        }
    }
}

impl fmt::Display for MovementKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Most that one movement may bring: a thousand million wholes. Far from the bound of a quantity, so that no sum of
/// what may be under way at once gets near it.
pub const MAX_MOVEMENT: Quantity = match Quantity::from_whole(1_000_000_000) {
    Some(quantity) => quantity,
    None => Quantity::ZERO,
};

/// A change of one unit's stock at one location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// The unit.
    #[serde(rename = "producto_id")]
    pub unit: UnitId,
    /// Where.
    #[serde(rename = "ubicacion_id")]
    pub location: LocationId,
    /// How much came (+) or went (-).
    pub delta: Quantity,
}

impl Event {
    /// The trace that it belongs to.
    pub fn trace_id(&self) -> TraceId {
        self.trace.as_ref().map_or_else(|| TraceId::begun_by(&self.request_id), |trace| trace.id())
    }

    /// `traceparent` for whoever goes on with it: its trace, and in that the event itself as a span.
    pub fn traceparent(&self) -> String {
        traceparent(self.trace.as_deref(), &self.request_id, self.id.0)
    }

    /// Every stock movement of the event, in order: a sale has one per line that takes stock.
    pub fn movements(&self) -> impl Iterator<Item = Movement> {
        let (sale, moved) = match &self.body {
            Body::SaleCreated { sale, .. } => (Some(sale), &[][..]),
            Body::SaleVoided { movements, .. } | Body::StockMoved { movements, .. } => {
                (None, movements.as_slice())
            }
            Body::ErpFollowed(change) => (None, change.movements.as_slice()),
            _ => (None, &[][..]),
        };
        let lines = sale.into_iter().flat_map(|sale| {
            sale.lines.iter().filter(|line| line.has_stock).map(|line| Movement {
                unit: line.unit,
                location: sale.location,
                delta: line.quantity.negated(),
            })
        });
        lines.chain(moved.iter().copied())
    }

    /// How many rows the event comes to, for batching by size rather than by count.
    pub fn weight(&self) -> usize {
        match &self.body {
            Body::SaleCreated { sale, .. } => 1 + sale.lines.len(),
            Body::ProductsUpserted { units } => units.len(),
            Body::SaleVoided { movements, .. } => 1 + movements.len(),
            Body::StockMoved { movements, .. } => movements.len(),
            Body::ErpFollowed(change) => 1 + change.movements.len() + change.entries.len(),
            Body::TenantCreated { .. } | Body::LocationsAdded { .. } => 1,
        }
    }

    /// Kind and reference document of the event's movements.
    pub fn movement_origin(&self) -> (MovementKind, String) {
        match &self.body {
            Body::SaleCreated { sale, .. } => (MovementKind::Sale, sale.id.to_string()),
            Body::SaleVoided { sale, .. } => (MovementKind::Void, sale.to_string()),
            Body::StockMoved { kind, reference, .. } => (*kind, reference.to_string()),
            Body::ErpFollowed(change) => (MovementKind::LegacySync, change.reference.to_string()),
            _ => (MovementKind::Adjustment, String::new()),
        }
    }
}

//! Typed identifiers. Each is a UUIDv7 (RFC 9562), so ids sort by the moment they were made.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// The 16 bytes, as databases store it.
            pub const fn as_bytes(&self) -> &[u8; 16] { self.0.as_bytes() }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self { Self(id) }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> { text.parse().map(Self) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    )+};
}

ids! {
    /// A chain or shop: owner of everything else (`tienda_id` on the wire).
    TenantId,
    /// A place that holds stock: a store, a warehouse (`ubicacion_id`).
    LocationId,
    /// A parent product, the thing with a name and variants.
    ProductId,
    /// A sellable unit, the variant (`producto_id` in a checkout line). A simple product's unit has the product's id.
    UnitId,
    /// A sale, and the reservation it began as (`venta_id`).
    SaleId,
    /// One event on the bus.
    EventId,
    /// A connection to a marketplace.
    ConnectionId,
    /// Somebody who is told by webhook.
    HookId,
    /// One life of a node: made anew whenever it starts.
    NodeId,
}

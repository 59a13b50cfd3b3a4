//! A tenant's connection to a marketplace: which account, what it shows, and by which rules.

use super::guard::Guard;
use crate::domain::decimal::Quantity;
use crate::domain::ids::{ConnectionId, LocationId, TenantId};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Which marketplace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelKind {
    /// Shopify.
    Shopify,
    /// MercadoLibre.
    Meli,
}

impl ChannelKind {
    /// Every marketplace.
    pub const ALL: [Self; 2] = [Self::Shopify, Self::Meli];

    /// Its name on the wire, in the database and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shopify => "shopify",
            Self::Meli => "meli",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The consumer group on the bus that hears of movements for it.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Shopify => "queue.sync.shopify",
            Self::Meli => "queue.sync.meli",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How quantities are written where the marketplace knows both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The quantity itself.
    #[default]
    #[serde(rename = "absoluto")]
    Absolute,
    /// The difference to what is there.
    #[serde(rename = "relativo")]
    Relative,
}

/// What is done about a quantity that somebody else changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DriftPolicy {
    /// Ours is pushed again.
    #[default]
    #[serde(rename = "corregir")]
    PushOurs,
    /// It is listed until a person decides.
    #[serde(rename = "preguntar")]
    Ask,
}

/// The rules of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// Wholes and parts of each unit that are never offered.
    #[serde(rename = "reserva", default)]
    pub buffer: Quantity,
    /// How quantities are written.
    #[serde(rename = "modo", default)]
    pub mode: Mode,
    /// What is done about drift.
    #[serde(rename = "ante_diferencias", default)]
    pub drift: DriftPolicy,
    /// When zeros wait for a person.
    #[serde(rename = "guardia", default)]
    pub guard: Guard,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose.
    pub tenant: TenantId,
    /// Which marketplace.
    pub kind: ChannelKind,
    /// What people call it.
    pub name: Arc<str>,
    /// The account there: the shop's domain, the seller's number.
    pub account: Arc<str>,
    /// The place there that shows the stock, where the marketplace has places.
    pub place: Option<Arc<str>>,
    /// The locations whose stock, summed, is shown; all of the tenant's when empty.
    pub sources: Vec<LocationId>,
    /// Its rules.
    pub policy: Policy,
    /// Nothing is sent while it is paused.
    pub paused: bool,
    /// Since when.
    pub created_at: Timestamp,
}

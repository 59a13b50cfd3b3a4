//! What a tenant is asked to take in from an ERP, and what became of it.

use super::account::Held;
use super::change::Following;
use super::cursor::Cursor;
use super::guard::Rules;
use super::identity::AccountKey;
use super::reading::{BalanceReading, ProductReading};
use crate::domain::catalogue::Catalogue;
use crate::domain::decimal::Quantity;
use crate::domain::stock::Place;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Balances.
    pub balances: Vec<BalanceReading>,
    /// Codes, whether or not with a balance among these.
    pub products: Vec<ProductReading>,
    /// Rows that a full scan did not find, nor did a second look.
    pub missing: Vec<i64>,
    /// How far the source has been read with this.
    pub cursor: Option<Cursor>,
    /// Whether that has to be written down though nothing else changed. An older cursor only means that more is read
    /// again.
    pub keep_cursor: bool,
    /// Whether a reading with a stamp not newer than the last one is passed over. So it is for what agents push, which
    /// may arrive late; what is read in order is believed whatever its stamp.
    pub only_newer: bool,
}

/// What a person decided about a held balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The ERP's number is right: move what is held.
    Apply,
    /// Blend's number is right: forget what is held.
    Dismiss,
}

/// A decision about one balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Which.
    pub key: AccountKey,
    /// What.
    pub decision: Decision,
}

/// Asks a tenant to take in what was read from a source.
#[derive(Clone, Debug)]
pub struct Follow {
    /// The source.
    pub source: Arc<str>,
    /// How.
    pub rules: Arc<Rules>,
    /// What was read.
    pub batch: Batch,
    /// What people decided.
    pub resolutions: Vec<Resolution>,
}

/// What became of one balance of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedLine {
    /// Whose.
    pub key: AccountKey,
    /// The unit and the location; absent when the reading was passed over without either.
    pub place: Option<Place>,
    /// What was on hand there before; told for what agents push only.
    pub before: Quantity,
    /// What moved.
    pub delta: Quantity,
    /// Why that is not all of it.
    pub held: Option<Held>,
    /// Why the reading was passed over, if it was.
    pub skipped: Option<&'static str>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The document of its movements, when anything changed.
    pub reference: Option<Arc<str>>,
    /// Balances read.
    pub seen: usize,
    /// Balances that moved stock.
    pub applied: usize,
    /// Balances of which something is held, of this batch.
    pub held: usize,
    /// Readings passed over, with why.
    pub skipped: BTreeMap<&'static str, usize>,
    /// Units created.
    pub created: usize,
    /// Units changed.
    pub updated: usize,
    /// Balances of the source that wait for stock to be taken from.
    pub short: usize,
    /// Balances with more than one row, of this batch.
    pub duplicates: usize,
    /// Each balance of the batch, in its order.
    pub lines: Vec<FollowedLine>,
}

impl Follow {
    /// Whether planning has to know stock levels: a balance is new where Blend may have stock already, or was.
    pub fn needs_levels(&self, following: &Following, catalogue: &Catalogue) -> bool {
        let new_to_a_unit = |key: &AccountKey| {
            following.account(key).is_none()
                && (following.unit(&key.item).is_some() || catalogue.scan(&key.item.sku()).is_some())
        };
        !self.resolutions.is_empty() || self.batch.balances.iter().any(|reading| new_to_a_unit(&reading.key))
    }
}

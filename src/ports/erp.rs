//! A shop's old ERP, read and never written.

use super::PortError;
use crate::domain::erp::{BalanceReading, Cursor, ProductReading, Stamp};
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;

/// What a call comes to, in a while.
pub type Answer<'a, T> = LocalBoxFuture<'a, Result<T, PortError>>;

/// Makes a reading end, not yet connected.
pub type NewErp = Arc<dyn Fn() -> Box<dyn ErpSource> + Send + Sync>;

/// The ERP's own clock and identity, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its time of day, which has no zone.
    pub clock: Stamp,
    /// Name and creation of its database.
    pub database: Arc<str>,
    /// Every change below this rowversion is committed; known only where changes are read by it.
    pub version: Option<u64>,
}

/// How changes are found, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// By a rowversion column: nothing is missed and nothing is read twice.
    Rowversion,
    /// By the moment of the last movement, with an overlap.
    Datetime,
    /// By reading everything, each time.
    Full,
}

impl Strategy {
    /// Its name in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rowversion => "rowversion",
            Self::Datetime => "datetime",
            Self::Full => "full",
        }
    }
}

/// Where to go on within one poll.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// The last balance read, by moment and row.
    pub balance: Option<(Stamp, i64)>,
    /// The last product read, by moment and code.
    pub product: Option<(Stamp, Arc<str>)>,
    /// The ERP's clock when the poll began.
    pub begun: Option<Stamp>,
}

/// Rows that were read, and those that say nothing that could be understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Balances.
    pub balances: Vec<BalanceReading>,
    /// Products, those of the balances included.
    pub products: Vec<ProductReading>,
    /// What was passed over, in words.
    pub rejected: Vec<String>,
    /// How many rows of balances there were.
    pub read: usize,
}

/// What a poll found.
#[derive(Clone, Debug)]
pub struct Changes {
    /// As of when.
    pub head: Head,
    /// The rows.
    pub rows: Rows,
    /// Where the cursor stands after them.
    pub cursor: Cursor,
    /// Where to go on, if there is more.
    pub more: Option<Within>,
    /// Rows of balances that the cursor itself brought, without those that were looked at again.
    pub fresh: Vec<i64>,
}

/// One page of everything.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Rows,
    /// Every row's number, understood or not, in order.
    pub ids: Vec<i64>,
    /// The last row, if there may be more behind it.
    pub next: Option<i64>,
}

/// What was found out about an ERP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Clock and identity.
    pub head: Head,
    /// The server's version.
    pub product: String,
    /// The database's compatibility level.
    pub level: i64,
    /// Whether snapshot isolation is allowed.
    pub snapshot: bool,
    /// Whether readers do not wait for writers anyway.
    pub read_committed_snapshot: bool,
    /// The strategy that fits best.
    pub strategy: Strategy,
    /// What is missing: columns, rights.
    pub missing: Vec<String>,
    /// What is there and should not be.
    pub warnings: Vec<String>,
}

/// The reading end of an ERP. A call that fails leaves it usable: the next one connects again if it has to.
pub trait ErpSource {
    /// Connects and looks around.
    fn probe(&mut self) -> Answer<'_, Probe>;

    /// Clock and identity.
    fn head(&mut self) -> Answer<'_, Head>;

    /// Changes since the cursor, in one round trip: as many as a page of each kind, and the rows of `again` as they are
    /// now.
    fn changes<'a>(
        &'a mut self,
        cursor: &'a Cursor,
        within: &'a Within,
        again: &'a [i64],
    ) -> Answer<'a, Changes>;

    /// The page of everything behind a row.
    fn page(&mut self, after: Option<i64>) -> Answer<'_, Page>;

    /// Some rows as they are now; those that are not there any more are left out.
    fn rows<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Page>;

    /// How changes are found, once connected.
    fn strategy(&self) -> Strategy;

    /// How often a connection was made.
    fn connections(&self) -> u64;
}

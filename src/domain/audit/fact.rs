//! What the checker is told: one fact per row of the ledger and of the journal.

use crate::domain::decimal::Quantity;
use crate::domain::event::Event;
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::stock::Place;

/// Which facts a source is asked for. The first part of every source comes before the second part of any: what
/// follows is judged by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Marks, holes, catalogue; positions, retries, dead letters, quarantine.
    Standing,
    /// Events; sales with their lines, ledger rows, stock.
    History,
}

/// One fact.
#[derive(Clone, Debug)]
pub enum Fact<'a> {
    /// A tenant exists.
    Tenant(TenantId),
    /// A tenant's location exists.
    Location(TenantId, LocationId),
    /// A tenant's unit exists.
    Unit(TenantId, UnitId),
    /// The ledger has a tenant's events up to this number.
    Applied { tenant: TenantId, sequence: u64 },
    /// But for this one.
    Hole { tenant: TenantId, sequence: u64, cause: &'a str },
    /// A sale was taken back.
    Void(VoidRow),
    /// A consumer group has confirmed everything up to here.
    GroupPosition { group: &'a str, position: u64 },
    /// An event that a group will try again.
    Retry(Parked<'a>),
    /// An event that a group gave up.
    DeadLetter(Parked<'a>),
    /// A row that the journal put aside when it was opened.
    Quarantined { position: u64, reason: &'a str },
    /// A row of the journal that is not what was written.
    Unreadable { table: &'static str, position: u64, reason: &'a str },
    /// An event, in order of position.
    Recorded { position: u64, event: &'a Event },
    /// A sale; its lines follow it, in order.
    Sale(SaleRow<'a>),
    /// A line of the sale before it.
    Line(LineRow<'a>),
    /// A row of the ledger, in order of its id.
    Ledger(LedgerRow<'a>),
    /// Projected stock; after the last row of the ledger.
    Stock { tenant: TenantId, place: Place, quantity: i64 },
}

/// An event that waits in a group's retries or lies among its dead letters.
#[derive(Clone, Copy, Debug)]
pub struct Parked<'a> {
    /// Whose.
    pub group: &'a str,
    /// Its place in the journal.
    pub position: u64,
    /// How often it failed.
    pub attempts: u64,
    /// Why.
    pub cause: &'a str,
    /// The event.
    pub event: &'a Event,
}

/// A sale as the ledger keeps it. Numbers come as they are stored, so that impossible ones can be shown.
#[derive(Clone, Copy, Debug)]
pub struct SaleRow<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// Its id.
    pub id: SaleId,
    /// Where.
    pub location: LocationId,
    /// The event's number.
    pub sequence: u64,
    /// When, in microseconds since 1970.
    pub at: i64,
    /// Centavos.
    pub total: i64,
    /// How it was paid.
    pub payment: &'a str,
    /// By whom.
    pub created_by: &'a str,
    /// In which request.
    pub request_id: &'a str,
    /// The indexed half of the key's hash.
    pub key_hash: Option<i64>,
    /// The idempotency key.
    pub key: Option<&'a str>,
    /// The request that the key stood for.
    pub fingerprint: Option<[u8; 16]>,
}

/// A sale that was taken back, as the ledger keeps it.
#[derive(Clone, Copy, Debug)]
pub struct VoidRow {
    /// Whose.
    pub tenant: TenantId,
    /// Which sale.
    pub sale: SaleId,
    /// The event's number.
    pub sequence: u64,
    /// When, in microseconds since 1970.
    pub at: i64,
}

/// A line of a sale.
#[derive(Clone, Copy, Debug)]
pub struct LineRow<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// The sale.
    pub sale: SaleId,
    /// Its number, from 0.
    pub line: i64,
    /// What was sold.
    pub unit: UnitId,
    /// Name as sold.
    pub name: &'a str,
    /// SKU as sold.
    pub sku: &'a str,
    /// Thousandths.
    pub quantity: i64,
    /// Centavos.
    pub unit_price: i64,
    /// Centavos.
    pub subtotal: i64,
    /// Whether stock was taken.
    pub has_stock: bool,
}

/// A row of the inventory ledger.
#[derive(Clone, Copy, Debug)]
pub struct LedgerRow<'a> {
    /// Its id: the order of writing.
    pub id: i64,
    /// Whose.
    pub tenant: TenantId,
    /// Which unit, where.
    pub place: Place,
    /// The event's number.
    pub sequence: u64,
    /// Why.
    pub kind: &'a str,
    /// Thousandths.
    pub delta: i64,
    /// Thousandths.
    pub before: i64,
    /// Thousandths.
    pub after: i64,
    /// For sales.
    pub sale: Option<SaleId>,
    /// For anything else.
    pub reference: Option<&'a str>,
    /// When.
    pub at: i64,
}

/// Hot stock as of one event.
#[derive(Clone, Debug)]
pub struct HotStock {
    /// Whose.
    pub tenant: TenantId,
    /// The last event that the stock includes.
    pub sequence: u64,
    /// What is on hand, holds not taken off.
    pub on_hand: Vec<(Place, Quantity)>,
}

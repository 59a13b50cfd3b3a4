//! What reservation shards are asked, and what they answer.

use super::super::journal_writer::{Generation, Verdict};
use super::super::kit::Reply;
use crate::domain::catalogue::Unit;
use crate::domain::decimal::Quantity;
use crate::domain::erp::{Cursor, Follow, Followed, HeldAccount};
use crate::domain::event::{Event, Movement, MovementKind};
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::import::{Import, ImportCounts, ImportProblem};
use crate::domain::sale::{Refusal, Sale, SaleRequest};
use crate::domain::stock::Place;
use crate::domain::tenant::{Location, Tenant};
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;
use crate::ports::PortError;
use crate::ports::bus::AppendError;
use crate::ports::ledger::{KeyPage, StoredSale};
use std::sync::Arc;
use uuid::Uuid;

/// Who asks, for the ledger and the logs.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `sub` of the token, or the name of a command.
    pub user: Arc<str>,
    /// The request.
    pub request_id: Arc<str>,
    /// The trace that came with it.
    pub trace: Option<Arc<TraceContext>>,
}

/// A sale to make.
#[derive(Clone, Debug)]
pub struct Checkout {
    /// Whose shop.
    pub tenant: TenantId,
    /// What for.
    pub request: SaleRequest,
    /// The client's key.
    pub key: Option<IdempotencyKey>,
    /// Who asks.
    pub caller: Caller,
}

/// A sale that is made, now or earlier under the same key.
#[derive(Clone, Debug)]
pub struct Sold {
    /// The sale.
    pub sale: SoldSale,
    /// When it was made.
    pub at: Timestamp,
    /// Whether this is the answer to an earlier request with the same key.
    pub replayed: bool,
}

/// A sale in memory or from the ledger.
#[derive(Clone, Debug)]
pub enum SoldSale {
    /// Durable, perhaps not in the ledger yet.
    Recent(Arc<Event>),
    /// In the ledger.
    Stored(Arc<StoredSale>),
}

impl SoldSale {
    /// The sale, unless the event is another kind.
    pub fn sale(&self) -> Option<&Sale> {
        match self {
            Self::Recent(event) => match &event.body {
                crate::domain::event::Body::SaleCreated { sale, .. } => Some(sale),
                _ => None,
            },
            Self::Stored(stored) => Some(&stored.sale),
        }
    }
}

/// A sale to take back.
#[derive(Clone, Debug)]
pub struct Void {
    /// Whose shop.
    pub tenant: TenantId,
    /// Which sale.
    pub sale: SaleId,
    /// Why.
    pub reason: Arc<str>,
    /// Who asks.
    pub caller: Caller,
}

/// A sale that is taken back, now or earlier.
#[derive(Clone, Debug)]
pub struct Voided {
    /// Which.
    pub sale: SaleId,
    /// When.
    pub at: Timestamp,
    /// Whether it had been taken back before.
    pub replayed: bool,
}

/// A unit of which there is not enough, as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortLine {
    /// The unit.
    pub unit: UnitId,
    /// Its SKU.
    pub sku: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// How much was asked for, over all lines.
    pub asked: Quantity,
    /// How much there is.
    pub available: Quantity,
}

/// Why a request was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Denied {
    /// No such tenant.
    #[error("the tenant does not exist")]
    UnknownTenant,
    /// The tenant is inactive.
    #[error("the tenant is inactive")]
    InactiveTenant,
    /// No such sale.
    #[error("the sale does not exist")]
    UnknownSale,
    /// The sale breaks a rule.
    #[error("the sale is refused: {0:?}")]
    Refused(Box<Refusal>),
    /// Not enough of some units; nothing was taken.
    #[error("not enough stock")]
    Short(Vec<ShortLine>),
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The import cannot be taken in.
    #[error("the import is refused: {0}")]
    Import(#[from] ImportProblem),
    /// A delivery that is none: unknown unit or location, or nothing that comes in.
    #[error("the delivery is refused: {0}")]
    Delivery(String),
    /// A change of the catalogue is under way; one at a time.
    #[error("another change of the catalogue is under way")]
    ChangeUnderWay,
    /// Not durable, or unknown whether.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Something below could not be reached.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// The answer to a checkout.
pub type CheckoutResult = Result<Sold, Denied>;

/// A unit with its stock at one location.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The unit.
    pub unit: Arc<Unit>,
    /// Available at the tenant's default location, or the one asked for.
    pub available: Quantity,
}

/// A unit's stock everywhere.
#[derive(Clone, Debug)]
pub struct UnitStock {
    /// The unit.
    pub unit: Arc<Unit>,
    /// Every location with what is available and what is held there.
    pub places: Vec<(Location, Quantity, Quantity)>,
}

/// What there is of some units, as of one event.
#[derive(Clone, Debug)]
pub struct Available {
    /// The last event that it includes.
    pub settled: u64,
    /// What may be sold of each, summed over the locations asked for.
    pub units: Vec<(UnitId, Quantity)>,
}

/// Where a sale stands.
#[derive(Clone, Debug)]
pub struct SaleState {
    /// The sale.
    pub sale: SoldSale,
    /// When it was made.
    pub at: Timestamp,
    /// Whether the ledger has it.
    pub in_ledger: bool,
    /// When it was taken back, if it was.
    pub voided: Option<Timestamp>,
}

/// Hot stock as of one event, for checking it against the ledger.
#[derive(Clone, Debug)]
pub struct HotSnapshot {
    /// The last event that the stock includes.
    pub sequence: u64,
    /// What is on hand, holds not taken off.
    pub on_hand: Vec<(Place, Quantity)>,
}

/// Which products of a catalogue.
#[derive(Clone, Debug)]
pub struct ProductPage {
    /// Products to pass over.
    pub skip: usize,
    /// Products at most.
    pub limit: usize,
    /// Only those whose name or SKU contains this, in any letter case.
    pub search: Option<String>,
    /// Only those of this category.
    pub category: Option<String>,
    /// Only those with a unit in this state.
    pub active: Option<bool>,
}

/// What the ledger has now.
#[derive(Clone, Debug)]
pub struct Written {
    /// Whose event.
    pub tenant: TenantId,
    /// Which.
    pub sequence: u64,
}

impl Written {
    /// Of an event.
    pub fn of(event: &Arc<Event>) -> Self {
        Self { tenant: event.tenant, sequence: event.sequence }
    }
}

/// A tenant to create, with its locations; the first is its default.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// The tenant.
    pub tenant: Tenant,
    /// Its locations.
    pub locations: Vec<Location>,
}

/// Goods that came in.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Why: a purchase, a return.
    pub kind: MovementKind,
    /// The document it came with.
    pub reference: Arc<str>,
    /// What came where; every delta is above zero.
    pub movements: Vec<Movement>,
}

/// What is known of one ERP.
#[derive(Clone, Debug)]
pub struct ErpState {
    /// Its name.
    pub source: Arc<str>,
    /// How far it has been read, if it is polled.
    pub cursor: Option<Cursor>,
    /// How many balances it has.
    pub balances: usize,
    /// Those of which something is held.
    pub held: Vec<HeldAccount>,
}

/// The messages of a reservation shard.
pub enum Msg {
    /// Sell.
    Checkout(Box<Checkout>, Reply<CheckoutResult>),
    /// Take a sale back.
    Void(Box<Void>, Reply<Result<Voided, Denied>>),
    /// Find a unit by SKU or barcode.
    Scan {
        tenant: TenantId,
        code: String,
        location: Option<LocationId>,
        reply: Reply<Result<Option<Scanned>, Denied>>,
    },
    /// Stock of a unit.
    Stock { tenant: TenantId, product: Uuid, reply: Reply<Result<Option<UnitStock>, Denied>> },
    /// What there is of some units at some locations; at all of them when none is named.
    Available {
        tenant: TenantId,
        units: Vec<UnitId>,
        locations: Vec<LocationId>,
        reply: Reply<Result<Available, Denied>>,
    },
    /// The whole catalogue.
    Units { tenant: TenantId, reply: Reply<Result<Vec<Arc<Unit>>, Denied>> },
    /// A sale.
    FindSale { tenant: TenantId, sale: SaleId, reply: Reply<Result<Option<SaleState>, Denied>> },
    /// A page of products, each with its units, in the order in which they came.
    Products { tenant: TenantId, page: ProductPage, reply: Reply<Result<Vec<Vec<Arc<Unit>>>, Denied>> },
    /// The locations.
    Locations { tenant: TenantId, reply: Reply<Result<Vec<Location>, Denied>> },
    /// Create a tenant.
    CreateTenant { new: Box<NewTenant>, caller: Caller, reply: Reply<Result<Tenant, Denied>> },
    /// The tenants of the shard.
    Tenants(Reply<Vec<Tenant>>),
    /// Take in a catalogue.
    Import {
        tenant: TenantId,
        import: Box<Import>,
        caller: Caller,
        reply: Reply<Result<ImportCounts, Denied>>,
    },
    /// Goods that came in: adds to stock.
    Receive { tenant: TenantId, delivery: Delivery, caller: Caller, reply: Reply<Result<(), Denied>> },
    /// Take in what was read from an ERP.
    Follow { tenant: TenantId, follow: Box<Follow>, caller: Caller, reply: Reply<Result<Followed, Denied>> },
    /// What is known of the tenant's ERPs.
    ErpStates { tenant: TenantId, reply: Reply<Result<Vec<ErpState>, Denied>> },
    /// Every row of an ERP that is known, in order.
    ErpRows { tenant: TenantId, source: Arc<str>, reply: Reply<Result<Vec<i64>, Denied>> },
    /// Hot stock as of one event.
    Snapshot { tenant: TenantId, reply: Reply<Result<HotSnapshot, Denied>> },
    /// Rebuild the hot tier of the shard; says how many units the tenant has.
    Warmup { tenant: TenantId, reply: Reply<Result<usize, Denied>> },
    /// The ledger has these events.
    InLedger(Vec<Written>),
    /// Reserve what has gathered.
    Reserve,
    /// Send what has gathered.
    Flush,
    /// The journal has decided about the batch of this number.
    Appended(u64, Verdict),
    /// The ledger said what it knows of a key.
    KeyLooked {
        checkout: Box<Checkout>,
        reply: Reply<CheckoutResult>,
        found: Result<Option<StoredSale>, PortError>,
        /// How often keys had been forgotten when the ledger was asked.
        as_of: u64,
    },
    /// The ledger said what it knows of a sale that is to be taken back.
    VoidLooked {
        void: Box<Void>,
        reply: Reply<Result<Voided, Denied>>,
        found: Result<Option<StoredSale>, PortError>,
        /// How many voids of the tenant had been forgotten when the ledger was asked.
        as_of: u64,
    },
    /// Some more of the keys that the ledger knows.
    KnownKeys {
        /// As of which opening of the log it was asked.
        generation: Generation,
        page: Result<KeyPage, PortError>,
    },
}

//! What a row means, whichever database it comes from: the twins have the same columns in the same order.

use crate::domain::catalogue::{Unit, UnitKind};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::erp::Entry;
use crate::domain::event::Event;
use crate::domain::ids::{LocationId, ProductId, TenantId, UnitId};
use crate::domain::sale::SaleLine;
use crate::domain::stock::Place;
use crate::domain::tenant::{Location, LocationKind, Tenant};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::ledger::TenantSnapshot;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// A tenant, [`snapshot`]; `$1` is its id, as in all of these.
pub const TENANT: &str =
    "SELECT t.name, t.trade, t.active, t.created_at, coalesce(a.sequence, 0), coalesce(a.last_at, 0)
     FROM tenants t LEFT JOIN applied a ON a.tenant_id = t.id WHERE t.id = $1";

/// The numbers that the ledger has passed without having them.
pub const HOLES: &str = "SELECT sequence FROM holes WHERE tenant_id = $1";

/// What of it was given up, each an [`event`].
pub const GIVEN_UP: &str =
    "SELECT kind, event FROM holes WHERE tenant_id = $1 AND event IS NOT NULL ORDER BY sequence";

/// Keeps an event that is given up: tenant, number, cause, kind, event.
pub const GIVE_UP: &str =
    "INSERT INTO holes (tenant_id, sequence, cause, kind, event) VALUES ($1, $2, $3, $4, $5)";

/// The same for a number that the ledger has passed: only where it is a hole is the event not applied.
pub const GIVE_UP_LATE: &str =
    "UPDATE holes SET cause = $3, kind = $4, event = $5 WHERE tenant_id = $1 AND sequence = $2";

/// Its locations, each a [`location`].
pub const LOCATIONS: &str =
    "SELECT id, code, name, kind, is_default, active FROM locations WHERE tenant_id = $1 ORDER BY id";

/// Its catalogue, each row a [`unit`].
pub const UNITS: &str =
    "SELECT id, product_id, base_sku, name, sku, barcode, kind, price, active, size, color, category, brand
     FROM units WHERE tenant_id = $1 ORDER BY id";

/// Its stock, each row a [`level`].
pub const STOCK: &str = "SELECT unit_id, location_id, quantity FROM stock WHERE tenant_id = $1";

/// What is known of its ERPs, each row a [`fact`].
pub const ERP: &str = "SELECT source, value FROM erp_state WHERE tenant_id = $1";

/// The lines of the sale `$2`, each a [`line`].
pub const LINES: &str = "SELECT unit_id, name, sku, quantity, unit_price, subtotal, has_stock FROM sale_lines
     WHERE tenant_id = $1 AND sale_id = $2 ORDER BY line";

/// A row, its columns by their place. An error where one is of another type than asked for.
pub trait Columns {
    /// A whole number.
    fn integer(&self, column: usize) -> Result<i64, PortError>;
    /// An id.
    fn uuid(&self, column: usize) -> Result<Uuid, PortError>;
    /// Yes or no.
    fn flag(&self, column: usize) -> Result<bool, PortError>;
    /// A text; `None` where there is none.
    fn optional(&self, column: usize) -> Result<Option<&str>, PortError>;
    /// Name and value of a column for people to read; `None` where it is empty or not there.
    fn shown(&self, column: usize) -> Option<(&str, String)>;

    /// A text.
    fn text(&self, column: usize) -> Result<&str, PortError> {
        self.optional(column)?.ok_or_else(|| unreadable("text"))
    }
}

/// A tenant without what it has.
pub fn snapshot(row: &impl Columns, id: TenantId) -> Result<TenantSnapshot, PortError> {
    Ok(TenantSnapshot {
        tenant: Tenant {
            id,
            name: row.text(0)?.into(),
            trade: row.text(1)?.into(),
            active: row.flag(2)?,
            created_at: Timestamp::from_micros(row.integer(3)?),
        },
        locations: Vec::new(),
        units: Vec::new(),
        stock: Vec::new(),
        erp: Vec::new(),
        sequence: row.integer(4)?.unsigned_abs(),
        holes: BTreeSet::new(),
        last_at: Timestamp::from_micros(row.integer(5)?),
    })
}

/// A location.
pub fn location(row: &impl Columns) -> Result<Location, PortError> {
    Ok(Location {
        id: LocationId(row.uuid(0)?),
        code: row.text(1)?.into(),
        name: row.text(2)?.into(),
        kind: LocationKind::parse(row.text(3)?).ok_or_else(|| unreadable("location kind"))?,
        is_default: row.flag(4)?,
        active: row.flag(5)?,
    })
}

/// A unit of the catalogue.
pub fn unit(row: &impl Columns) -> Result<Arc<Unit>, PortError> {
    let optional = |column| row.optional(column).map(|text| text.map(Arc::from));
    Ok(Arc::new(Unit {
        id: UnitId(row.uuid(0)?),
        product_id: ProductId(row.uuid(1)?),
        base_sku: row.text(2)?.into(),
        name: row.text(3)?.into(),
        sku: row.text(4)?.into(),
        barcode: optional(5)?,
        kind: UnitKind::parse(row.text(6)?).ok_or_else(|| unreadable("unit kind"))?,
        price: money(row, 7)?,
        active: row.flag(8)?,
        size: optional(9)?,
        color: optional(10)?,
        category: optional(11)?,
        brand: optional(12)?,
    }))
}

/// What there is of a unit at a location.
pub fn level(row: &impl Columns) -> Result<(Place, Quantity), PortError> {
    Ok(((UnitId(row.uuid(0)?), LocationId(row.uuid(1)?)), quantity(row, 2)?))
}

/// What is known of an ERP, and which one.
pub fn fact(row: &impl Columns) -> Result<(Arc<str>, Entry), PortError> {
    let entry = serde_json::from_str(row.text(1)?).map_err(|_| unreadable("fact about an ERP"))?;
    Ok((row.text(0)?.into(), entry))
}

/// An event as it is on the bus.
pub fn event(row: &impl Columns) -> Result<Arc<Event>, PortError> {
    let event = Event::decode(row.text(0)?, row.text(1)?.as_bytes());
    event.map(Arc::new).map_err(|error| PortError::Permanent(format!("an event that was given up: {error}")))
}

/// The JSON of an event, as it is on the bus.
pub fn json(event: &Event) -> Result<String, PortError> {
    let mut json = Vec::new();
    event.encode(&mut json).map_err(|error| PortError::Permanent(error.to_string()))?;
    String::from_utf8(json).map_err(|error| PortError::Permanent(error.to_string()))
}

/// A line of a sale.
pub fn line(row: &impl Columns) -> Result<SaleLine, PortError> {
    Ok(SaleLine {
        unit: UnitId(row.uuid(0)?),
        name: row.text(1)?.into(),
        sku: row.text(2)?.into(),
        quantity: quantity(row, 3)?,
        unit_price: money(row, 4)?,
        subtotal: money(row, 5)?,
        has_stock: row.flag(6)?,
    })
}

/// Centavos.
pub fn money(row: &impl Columns, column: usize) -> Result<Money, PortError> {
    Money::from_units(row.integer(column)?).ok_or_else(|| unreadable("amount"))
}

fn quantity(row: &impl Columns, column: usize) -> Result<Quantity, PortError> {
    Quantity::from_units(row.integer(column)?).ok_or_else(|| unreadable("quantity"))
}

/// A number of the ledger, none of which is negative; one that is matches nothing.
pub fn whole(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Rows as they are stored, one line each: the first column says what they are.
pub fn show(rows: &[impl Columns], lines: &mut Vec<String>) {
    for row in rows {
        let mut line = row.text(0).unwrap_or_default().to_owned();
        for column in 1..MOST_COLUMNS {
            if let Some((name, value)) = row.shown(column) {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        lines.push(line);
    }
}

/// More than any table has.
const MOST_COLUMNS: usize = 32;

/// What stands there is nothing that this version wrote.
pub fn unreadable(what: &str) -> PortError {
    PortError::Permanent(format!("the ledger holds a {what} that this version cannot read"))
}

//! What the checker found.

use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::stock::Place;
use serde::Serialize;
use std::fmt;

/// Differences and warnings kept in full; the rest is only counted.
pub const KEPT: usize = 100;

/// A law, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "u8")]
pub enum Law {
    /// No oversell.
    Oversell = 1,
    /// No lost sale.
    LostSale = 2,
    /// No phantom sale.
    Phantom = 3,
    /// Conservation.
    Conservation = 4,
    /// Isolation.
    Isolation = 5,
    /// Every movement reaches every listener.
    Delivery = 6,
    /// Nothing is swallowed.
    Swallowed = 7,
}

impl From<Law> for u8 {
    fn from(law: Law) -> Self {
        law as Self
    }
}

impl Law {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oversell => "no oversell",
            Self::LostSale => "no lost sale",
            Self::Phantom => "no phantom sale",
            Self::Conservation => "conservation",
            Self::Isolation => "isolation",
            Self::Delivery => "every movement reaches every listener",
            Self::Swallowed => "nothing is swallowed",
        }
    }
}

/// Everything that is known about a finding; what does not apply is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// Whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The event's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitId>,
    /// The location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationId>,
    /// The sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sale: Option<SaleId>,
    /// The row of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_id: Option<i64>,
    /// The place in the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// The consumer group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The rows and events concerned, as they are stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl Detail {
    /// About a tenant.
    pub fn of(tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..Self::default() }
    }

    /// About the journal.
    pub fn at(position: u64) -> Self {
        Self { position: Some(position), ..Self::default() }
    }

    /// The event's number.
    pub fn sequence(self, sequence: u64) -> Self {
        Self { sequence: Some(sequence), ..self }
    }

    /// Unit and location.
    pub fn place(self, (unit, location): Place) -> Self {
        Self { unit: Some(unit), location: Some(location), ..self }
    }

    /// The sale.
    pub fn sale(self, sale: SaleId) -> Self {
        Self { sale: Some(sale), ..self }
    }

    /// The row of the ledger.
    pub fn row(self, id: i64) -> Self {
        Self { ledger_id: Some(id), ..self }
    }

    /// The place in the journal.
    pub fn position(self, position: u64) -> Self {
        Self { position: Some(position), ..self }
    }

    /// What should be and what is.
    pub fn versus(self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self { expected: Some(expected.to_string()), found: Some(found.to_string()), ..self }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut field = |name: &str, value: Option<&dyn fmt::Display>| match value {
            Some(value) => writeln!(f, "  {name:<9} {value}"),
            None => Ok(()),
        };
        field("tenant", self.tenant.as_ref().map(|v| v as _))?;
        field("sequence", self.sequence.as_ref().map(|v| v as _))?;
        field("unit", self.unit.as_ref().map(|v| v as _))?;
        field("location", self.location.as_ref().map(|v| v as _))?;
        field("sale", self.sale.as_ref().map(|v| v as _))?;
        field("ledger id", self.ledger_id.as_ref().map(|v| v as _))?;
        field("position", self.position.as_ref().map(|v| v as _))?;
        field("group", self.group.as_ref().map(|v| v as _))?;
        field("expected", self.expected.as_ref().map(|v| v as _))?;
        field("found", self.found.as_ref().map(|v| v as _))?;
        self.evidence.iter().try_for_each(|line| writeln!(f, "  | {line}"))
    }
}

/// A law that does not hold somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which law.
    pub law: Law,
    /// In one line.
    pub message: String,
    /// In full.
    pub detail: Detail,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "law {} ({}): {}", self.law as u8, self.law.name(), self.message)?;
        self.detail.fmt(f)
    }
}

/// Something that breaks no law and should be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// In one line.
    pub message: String,
    /// In full.
    pub detail: Detail,
}

/// How much was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tenants in the ledger.
    pub tenants: u64,
    /// Sales in the ledger.
    pub sales: u64,
    /// Their lines.
    pub lines: u64,
    /// Rows of the inventory ledger.
    pub ledger_rows: u64,
    /// Places with projected stock.
    pub places: u64,
    /// Projected stock of all of them, in thousandths of a unit.
    pub stock_thousandths: i64,
    /// Tenants whose hot stock was compared.
    pub hot_tenants: u64,
    /// Events in the journal.
    pub events: u64,
    /// Of those, the ones that the ledger is still to get.
    pub waiting: u64,
    /// Events of the ledger's group that will be tried again, or wait behind one.
    pub retries: u64,
    /// Events given up, over all groups.
    pub dead_letters: u64,
    /// Rows of the journal put aside.
    pub quarantined: u64,
}

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// How much was looked at.
    pub counts: Counts,
    /// How many differences there are.
    pub difference_count: u64,
    /// How many there are for each law, from law 1.
    pub by_law: [u64; 7],
    /// The first of them.
    pub differences: Vec<Difference>,
    /// How many warnings there are.
    pub warning_count: u64,
    /// The first of them.
    pub warnings: Vec<Warning>,
}

impl AuditReport {
    /// Whether every law holds.
    pub const fn is_clean(&self) -> bool {
        self.difference_count == 0
    }

    pub(super) fn differ(&mut self, law: Law, message: impl Into<String>, detail: Detail) {
        self.difference_count += 1;
        self.by_law[law as usize - 1] += 1;
        if self.differences.len() < KEPT {
            self.differences.push(Difference { law, message: message.into(), detail });
        }
    }

    pub(super) fn warn(&mut self, message: impl Into<String>, detail: Detail) {
        self.warning_count += 1;
        if self.warnings.len() < KEPT {
            self.warnings.push(Warning { message: message.into(), detail });
        }
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(
            f,
            "{} tenants, {} sales, {} lines, {} ledger rows, {} units in stock at {} places",
            counts.tenants,
            counts.sales,
            counts.lines,
            counts.ledger_rows,
            thousandths(counts.stock_thousandths),
            counts.places
        )?;
        writeln!(
            f,
            "journal: {} events, {} waiting for the ledger, {} to be tried again, {} dead letters, {} quarantined",
            counts.events, counts.waiting, counts.retries, counts.dead_letters, counts.quarantined
        )?;
        if let Some(first) = self.warnings.first() {
            writeln!(f, "{} warnings; the first: {}", self.warning_count, first.message)?;
        }
        match self.differences.first() {
            None => writeln!(f, "laws 1 to 7 hold"),
            Some(first) => {
                writeln!(f, "{} differences; the first:", self.difference_count)?;
                first.fmt(f)
            }
        }
    }
}

/// Thousandths as a decimal, whatever their size.
pub(super) fn thousandths(units: i64) -> String {
    match Quantity::from_units(units) {
        Some(quantity) => quantity.to_string(),
        None => format!("{units} thousandths"),
    }
}

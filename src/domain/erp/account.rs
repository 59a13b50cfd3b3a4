//! One balance of the ERP: what it was seen to be, how much of that is stock here, and why the rest is not.

use super::identity::AccountKey;
use super::reading::{RowId, Stamp};
use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, UnitId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a difference was not moved, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The ERP says less than nothing.
    #[serde(rename = "negativo")]
    Negative,
    /// More at once than the guard lets pass.
    #[serde(rename = "salto")]
    Jump,
    /// One of many balances that became zero at once.
    #[serde(rename = "ceros_en_masa")]
    MassZero,
    /// A part of a piece, of something that is not sold by weight.
    #[serde(rename = "fraccion")]
    Fraction,
    /// Seen for the first time, where Blend already has another number.
    #[serde(rename = "primera_lectura_difiere")]
    FirstSight,
    /// The ERP took units that are sold or reserved here: both sold the same ones.
    #[serde(rename = "conflicto_sin_stock")]
    Short,
    /// Blend's number counts at this location; the ERP moved all the same.
    #[serde(rename = "deriva")]
    Drift,
}

impl Held {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Negative => "negativo",
            Self::Jump => "salto",
            Self::MassZero => "ceros_en_masa",
            Self::Fraction => "fraccion",
            Self::FirstSight => "primera_lectura_difiere",
            Self::Short => "conflicto_sin_stock",
            Self::Drift => "deriva",
        }
    }
}

/// One row of the ERP as last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it said.
    #[serde(rename = "cantidad")]
    pub quantity: Quantity,
    /// When it was last changed, by the ERP.
    #[serde(rename = "fecha", default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// In how many full scans on end it was not found.
    #[serde(rename = "ausente", default, skip_serializing_if = "is_zero")]
    pub missing: u8,
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// One balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The unit here.
    #[serde(rename = "producto_id")]
    pub unit: UnitId,
    /// The location here.
    #[serde(rename = "ubicacion_id")]
    pub location: LocationId,
    /// How much of what the ERP says is part of stock here.
    #[serde(rename = "aplicado")]
    pub applied: Quantity,
    /// The rows that make up the balance. The ERP has no rule that there be only one.
    #[serde(rename = "filas")]
    pub rows: BTreeMap<RowId, Row>,
    /// Why `applied` is not what was seen.
    #[serde(rename = "retenido", default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// A balance that a person has confirmed: for exactly this one the guards are silent.
    #[serde(rename = "confirmado", default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Quantity>,
}

impl Account {
    /// What the ERP says: the sum over its rows. Sums beyond what a quantity can be stay at the last one in bounds.
    pub fn seen(&self) -> Quantity {
        self.rows.values().fold(Quantity::ZERO, |sum, row| sum.checked_add(row.quantity).unwrap_or(sum))
    }

    /// What of it is not part of stock here.
    pub fn pending(&self) -> Quantity {
        self.seen().checked_sub(self.applied).unwrap_or_default()
    }
}

/// An account that waits for a decision, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldAccount {
    /// Whose.
    pub key: AccountKey,
    /// The account.
    pub account: Account,
    /// Why.
    pub reason: Held,
}

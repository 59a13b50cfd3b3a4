//! What the ERP said: balances and products, as values.

use super::identity::AccountKey;
use crate::domain::decimal::{Money, Quantity};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::sync::Arc;

/// A moment by the ERP's own clock, which knows no zone: `2026-11-27T18:21:54.003`, to the millisecond. Texts of this
/// one form sort as the moments do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Stamp(Arc<str>);

impl Stamp {
    /// Reads the form above; the fraction may be absent or shorter. `None` when it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let shape = whole.len() == 19
            && whole.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                10 => byte == b'T',
                13 | 16 => byte == b':',
                _ => byte.is_ascii_digit(),
            });
        let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
        (shape && digits).then(|| Self(format!("{whole}.{fraction:0<3}").into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("is not a moment of the ERP"))
    }
}

/// Which row of the ERP a balance comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowId {
    /// Pushed by an agent, which names no row: an account has at most one of these.
    Pushed,
    /// `STK_SALDOS.ID`
    Numbered(i64),
}

/// As a key of a JSON object: a number in text, or `-`.
impl Serialize for RowId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Pushed => serializer.serialize_str("-"),
            Self::Numbered(id) => serializer.collect_str(id),
        }
    }
}

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        match text.as_ref() {
            "-" => Ok(Self::Pushed),
            number => number.parse().map(Self::Numbered).map_err(de::Error::custom),
        }
    }
}

/// One balance row as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceReading {
    /// Which row.
    pub row: RowId,
    /// Whose balance.
    pub key: AccountKey,
    /// `CANTIDAD`, which may be negative or have decimals.
    pub quantity: Quantity,
    /// `FECHA_ULTIMO_MOVIMIENTO`, if there is one.
    pub stamp: Option<Stamp>,
}

/// What the ERP knows of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductReading {
    /// `CODIGO`, in its one form.
    #[serde(rename = "codigo")]
    pub code: Arc<str>,
    /// `DESCRIPCION`
    #[serde(rename = "descripcion")]
    pub name: Arc<str>,
    /// `PRECIO`
    #[serde(rename = "precio")]
    pub price: Money,
    /// `COSTO`; the catalogue has no cost, so it is only kept here.
    #[serde(rename = "costo", default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// `RUBRO`
    #[serde(rename = "rubro", default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Arc<str>>,
    /// `MARCA`
    #[serde(rename = "marca", default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<Arc<str>>,
    /// `PROVEEDOR`; only kept here, like the cost.
    #[serde(rename = "proveedor", default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Arc<str>>,
    /// `ACTIVO`
    #[serde(rename = "activo")]
    pub active: bool,
    /// `FECHA_MODIFICACION`, if there is one.
    #[serde(rename = "fecha", default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

impl ProductReading {
    /// Whether another reading says the same, whenever it was made.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { stamp: None, ..self.clone() } == Self { stamp: None, ..other.clone() }
    }
}

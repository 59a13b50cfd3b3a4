//! How far a source has been read, by the ERP's own clock or counter.

use super::reading::Stamp;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A place in one table's changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Changes up to this moment have been read; those of a while before are read again, for they may be committed late.
    /// It is the ERP's clock at the beginning of the last poll that came to its end, whatever that poll found: once that
    /// while is over, even rows that were all changed at one moment are not read again.
    #[serde(rename = "fecha", default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// Changes up to this rowversion have been read.
    #[serde(rename = "version", default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// How far a source has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Name and creation of the database: one that was restored or moved is loaded whole again.
    #[serde(rename = "base")]
    pub database: Arc<str>,
    /// Whether the first load is complete.
    #[serde(rename = "cargado")]
    pub loaded: bool,
    /// The last row of the load that is under way.
    #[serde(rename = "pagina", default, skip_serializing_if = "Option::is_none")]
    pub page: Option<i64>,
    /// When everything was last read.
    #[serde(rename = "conciliado", default, skip_serializing_if = "Option::is_none")]
    pub reconciled: Option<Timestamp>,
    /// Balances.
    #[serde(rename = "saldos", default)]
    pub balances: Position,
    /// Products.
    #[serde(rename = "productos", default)]
    pub products: Position,
}

impl Position {
    /// At the end of a poll that began when the ERP's clock said this.
    #[must_use]
    pub fn at_clock(&self, clock: &Stamp) -> Self {
        Self { stamp: Some(clock.clone()), version: self.version }
    }

    /// Moves on, within a poll, to the newest of what was read, but never past the ERP's clock: a row from the future
    /// would hide all that come before it does. Back it goes only when the clock itself was set back.
    #[must_use]
    pub fn advanced(&self, newest: Option<&Stamp>, clock: &Stamp) -> Self {
        let stamp =
            [self.stamp.as_ref(), newest].into_iter().flatten().max().map(|stamp| stamp.min(clock).clone());
        Self { stamp, version: self.version }
    }

    /// Moves on by counter.
    #[must_use]
    pub fn at_version(&self, version: u64) -> Self {
        Self { stamp: self.stamp.clone(), version: Some(self.version.unwrap_or(0).max(version)) }
    }
}

impl Cursor {
    /// Where a load of a database begins. Changes made while it runs are read after it, hence the clock at its start.
    pub fn start(database: Arc<str>, clock: &Stamp, version: Option<u64>) -> Self {
        let position = Position { stamp: Some(clock.clone()), version };
        Self {
            database,
            loaded: false,
            page: None,
            reconciled: None,
            balances: position.clone(),
            products: position,
        }
    }

    /// Whether a load of this database begins, rather than goes on where it was left.
    pub fn must_begin(&self, database: &str) -> bool {
        self.page.is_none() || *self.database != *database
    }
}

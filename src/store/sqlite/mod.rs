//! Ledger and catalogue in SQLite.

pub mod audit;
pub mod channels;
mod read;
mod write;

use crate::ports::ledger::{LedgerReader, LedgerStore};
use crate::ports::{Open, PortError};
use crate::sqlite::{self, port_error};
use futures_util::FutureExt;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Steps of the ledger's schema.
pub const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "ledger", include_str!("../../../migrations/sqlite/0001_ledger.sql")),
    (2, "voids", include_str!("../../../migrations/sqlite/0002_voids.sql")),
    (3, "erp", include_str!("../../../migrations/sqlite/0003_erp.sql")),
    (4, "key runs", include_str!("../../../migrations/sqlite/0004_key_runs.sql")),
    (5, "given up", include_str!("../../../migrations/sqlite/0005_given_up.sql")),
];

/// Connections for reading beside the writer.
const READERS: u32 = 2;

/// The ledger file of one installation.
#[derive(Clone)]
pub struct Ledger {
    path: PathBuf,
    readers: SqlitePool,
}

impl Ledger {
    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, PortError> {
        let mut connection = sqlite::connect(path, &sqlite::durable(path)).await?;
        sqlite::migrate(&mut connection, path, MIGRATIONS).await?;
        sqlx::Connection::close(connection).await.map_err(port_error)?;
        let readers =
            SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(sqlite::reading(path));
        Ok(Self { path: path.to_owned(), readers })
    }

    /// Opens writing ends.
    pub fn store(&self) -> Open<Box<dyn LedgerStore>> {
        let path = self.path.clone();
        Arc::new(move || {
            let path = path.clone();
            async move { Ok(Box::new(write::Writer::open(&path).await?) as Box<dyn LedgerStore>) }.boxed()
        })
    }

    /// The reading end.
    pub fn reader(&self) -> Arc<dyn LedgerReader> {
        Arc::new(read::Reader { pool: self.readers.clone() })
    }

    /// Closes the reading connections and leaves one whole file behind.
    pub async fn close(&self) -> Result<(), PortError> {
        self.readers.close().await;
        sqlite::tidy(&self.path).await
    }
}

#[cfg(test)]
mod tests;

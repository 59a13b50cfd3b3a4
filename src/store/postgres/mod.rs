//! Ledger and catalogue in PostgreSQL, 13 or newer, and what all nodes must know of marketplaces and webhooks.
//!
//! The tables belong to whoever migrated them; the connections here work as the role `blend_app`, which row-level
//! security lets see one tenant at a time: the one that the transaction names in the setting `blend.tenant`.

pub mod audit;
pub mod channels;
mod connect;
mod error;
mod read;
mod rows;
mod write;

use crate::migrations::Steps;
use crate::ports::ledger::{LedgerReader, LedgerStore};
use crate::ports::{Open, PortError};
use connect::Server;
use futures_util::FutureExt;
use sqlx::postgres::PgPool;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Steps of the ledger's schema.
pub const MIGRATIONS: &Steps = &[
    (1, "ledger", include_str!("../../../migrations/postgres/0001_ledger.sql")),
    (2, "voids", include_str!("../../../migrations/postgres/0002_voids.sql")),
    (3, "erp", include_str!("../../../migrations/postgres/0003_erp.sql")),
    (4, "channels", include_str!("../../../migrations/postgres/0004_channels.sql")),
    (5, "leases", include_str!("../../../migrations/postgres/0005_leases.sql")),
    (6, "given up", include_str!("../../../migrations/postgres/0006_given_up.sql")),
];

/// How to reach the database.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database?sslmode=verify-full`. The user need not be the owner of the tables
    /// if they are up to date, but must be a member of the role `blend_app`.
    pub url: String,
    /// Connections for reading; the writer has one more.
    pub max_connections: u32,
    /// The longest that connecting, waiting for a free connection, or one statement may take.
    pub timeout: Duration,
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The url holds a password.
        let Self { url: _, max_connections, timeout } = self;
        f.debug_struct("PostgresSettings")
            .field("max_connections", max_connections)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

/// The ledger of one installation.
#[derive(Clone)]
pub struct Ledger {
    server: Server,
    readers: PgPool,
}

impl Ledger {
    /// Connects, and brings the schema up to date unless it is.
    ///
    /// # Errors
    ///
    /// Permanent when somebody has to do something first: the message says what.
    pub async fn open(settings: &PostgresSettings) -> Result<Self, PortError> {
        let server = Server::new(settings)?;
        server.migrate().await?;
        // Whether the url's user may work as blend_app shows here, not at the first sale.
        let connection = server.connect(connect::READING).await?;
        sqlx::Connection::close(connection).await.map_err(error::port_error)?;
        let readers = server.pool(settings.max_connections);
        Ok(Self { server, readers })
    }

    /// Opens writing ends.
    pub fn store(&self) -> Open<Box<dyn LedgerStore>> {
        let server = self.server.clone();
        Arc::new(move || {
            let server = server.clone();
            async move { Ok(Box::new(write::Writer::open(server).await?) as Box<dyn LedgerStore>) }.boxed()
        })
    }

    /// The reading end.
    pub fn reader(&self) -> Arc<dyn LedgerReader> {
        Arc::new(read::Reader { server: self.server.clone(), pool: self.readers.clone() })
    }

    /// Connections to marketplaces and webhooks, over connections of their own.
    pub fn channels(&self) -> channels::Channels {
        channels::Channels::new(&self.server)
    }

    /// What the checker of the laws reads, over a connection of its own.
    pub async fn audit(&self) -> Result<audit::LedgerFacts, PortError> {
        audit::LedgerFacts::connect(&self.server).await
    }

    /// Closes the reading connections.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}

/// Brings the schema of the database at `url` up to date, as the url's own user: the owner.
pub async fn migrate(settings: &PostgresSettings) -> Result<(), PortError> {
    Server::new(settings)?.migrate().await
}

#[cfg(test)]
mod tests;

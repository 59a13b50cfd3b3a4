//! Connections to marketplaces in SQLite, in a file of their own: a batch of confirmed quantities is one transaction of
//! one or two statements.

mod claims;
mod hooks;
mod letters;
mod news;

use crate::domain::channel::{ChannelKind, Connection};
use crate::domain::dead_letter::DeadLetter;
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{
    ChannelStore, Failure, GivenUp, Mapping, Notice, OrderRecord, Sealed, Settled, Stored,
};
use crate::sqlite::{self, port_error, rows::Rows};
use futures_util::FutureExt as _;
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions, SqliteRow};
use sqlx::{Decode, Row as _, Sqlite, Type};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Steps of the file's schema.
pub const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "channels", include_str!("../../../migrations/channels/0001_channels.sql")),
    (2, "given up", include_str!("../../../migrations/channels/0002_given_up.sql")),
    (3, "hooks", include_str!("../../../migrations/channels/0003_hooks.sql")),
    (4, "order versions", include_str!("../../../migrations/channels/0004_order_versions.sql")),
];

/// Connections to the file: one writes at a time, others read beside it.
const POOL: u32 = 4;

/// The file.
#[derive(Clone)]
pub struct Channels {
    path: PathBuf,
    pool: SqlitePool,
}

impl Channels {
    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, PortError> {
        let mut connection = sqlite::connect(path, &sqlite::durable(path)).await?;
        sqlite::migrate(&mut connection, path, MIGRATIONS).await?;
        sqlx::Connection::close(connection).await.map_err(port_error)?;
        let pool = SqlitePoolOptions::new().max_connections(POOL).connect_lazy_with(sqlite::durable(path));
        Ok(Self { path: path.to_owned(), pool })
    }

    /// Leaves one whole file behind.
    pub async fn close(&self) -> Result<(), PortError> {
        self.pool.close().await;
        sqlite::tidy(&self.path).await
    }
}

fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, index: usize) -> Result<T, PortError> {
    row.try_get(index).map_err(port_error)
}

fn unreadable(what: &str) -> PortError {
    PortError::Permanent(format!("the file of channels holds a {what} that cannot be read"))
}

fn unwritable(error: serde_json::Error) -> PortError {
    PortError::Permanent(format!("a value cannot be written: {error}"))
}

fn many(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn read_connection(row: &SqliteRow) -> Result<(Connection, Sealed), PortError> {
    let (kind, place): (&str, &str) = (get(row, 2)?, get(row, 5)?);
    let connection = Connection {
        tenant: TenantId(get(row, 0)?),
        id: ConnectionId(get(row, 1)?),
        kind: ChannelKind::parse(kind).ok_or_else(|| unreadable("kind"))?,
        name: get::<&str>(row, 3)?.into(),
        account: get::<&str>(row, 4)?.into(),
        place: (!place.is_empty()).then(|| place.into()),
        sources: serde_json::from_str(get(row, 6)?).map_err(|_| unreadable("list of locations"))?,
        policy: serde_json::from_str(get(row, 7)?).map_err(|_| unreadable("policy"))?,
        paused: get(row, 8)?,
        created_at: Timestamp::from_micros(get(row, 11)?),
    };
    Ok((connection, Sealed { key_id: get(row, 9)?, bytes: get(row, 10)? }))
}

impl ChannelStore for Channels {
    fn connections(&self) -> Stored<'_, Vec<(Connection, Sealed)>> {
        async move {
            let sql = "SELECT tenant_id, id, kind, name, account, place, sources, policy, paused, key_id, credentials,
                           created_at FROM connections ORDER BY tenant_id, created_at, id";
            let rows = sqlx::query(sql).fetch_all(&self.pool).await.map_err(port_error)?;
            rows.iter().map(read_connection).collect()
        }
        .boxed()
    }

    fn connection(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
    ) -> Stored<'_, Option<(Connection, Sealed)>> {
        self.one_connection(tenant, connection).boxed()
    }

    fn save<'a>(&'a self, connection: &'a Connection, credentials: Option<&'a Sealed>) -> Stored<'a, ()> {
        async move {
            let sources = serde_json::to_string(&connection.sources).map_err(unwritable)?;
            let policy = serde_json::to_string(&connection.policy).map_err(unwritable)?;
            let sql = "INSERT INTO connections (tenant_id, id, kind, name, account, place, sources, policy, paused,
                           key_id, credentials, created_at)
                       SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, c.key_id), coalesce($11, c.credentials), $12
                       FROM (SELECT 1) LEFT JOIN connections c ON c.tenant_id = $1 AND c.id = $2 WHERE true
                       ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, place = excluded.place,
                           sources = excluded.sources, policy = excluded.policy, paused = excluded.paused,
                           key_id = excluded.key_id, credentials = excluded.credentials";
            let query = sqlx::query(sql)
                .bind(connection.tenant.0)
                .bind(connection.id.0)
                .bind(connection.kind.as_str())
                .bind(&*connection.name)
                .bind(&*connection.account)
                .bind(connection.place.as_deref().unwrap_or_default())
                .bind(sources)
                .bind(policy)
                .bind(connection.paused)
                .bind(credentials.map(|sealed| sealed.key_id.clone()))
                .bind(credentials.map(|sealed| sealed.bytes.clone()))
                .bind(connection.created_at.micros());
            query.execute(&self.pool).await.map(|_| ()).map_err(port_error)
        }
        .boxed()
    }

    fn renewing<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &'a Sealed,
        _patience: Duration,
    ) -> Stored<'a, Option<Sealed>> {
        self.newer_credentials(tenant, connection, from).boxed()
    }

    fn renewed<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &'a Sealed,
        fresh: &'a Sealed,
    ) -> Stored<'a, bool> {
        self.change_credentials(tenant, connection, from, fresh).boxed()
    }

    fn remove(&self, tenant: TenantId, connection: ConnectionId) -> Stored<'_, ()> {
        async move {
            let sql = "DELETE FROM connections WHERE tenant_id = $1 AND id = $2";
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0);
            query.execute(&self.pool).await.map(|_| ()).map_err(port_error)
        }
        .boxed()
    }

    fn mappings(&self, tenant: TenantId, connection: ConnectionId) -> Stored<'_, Vec<Mapping>> {
        async move {
            let sql = "SELECT unit_id, item, shown FROM mappings WHERE tenant_id = $1 AND connection_id = $2";
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0);
            let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
            let mapping =
                |row| Ok(Mapping { unit: UnitId(get(row, 0)?), item: get(row, 1)?, shown: get(row, 2)? });
            rows.iter().map(mapping).collect()
        }
        .boxed()
    }

    fn map<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        mappings: &'a [Mapping],
    ) -> Stored<'a, ()> {
        async move {
            let mut rows = Rows::default();
            for mapping in mappings {
                let columns = (&mapping.item, mapping.shown);
                rows.push(&[mapping.unit.as_bytes()], &columns).map_err(unwritable)?;
            }
            let (json, blob) = rows.take();
            let statements = [
                "DELETE FROM mappings WHERE tenant_id = $3 AND connection_id = $4 AND (
                     unit_id IN (SELECT substr($2, e.key * 16 + 1, 16) FROM jsonb_each($1) e)
                     OR item IN (SELECT e.value ->> 0 FROM jsonb_each($1) e))",
                "INSERT INTO mappings (tenant_id, connection_id, unit_id, item, shown)
                 SELECT $3, $4, substr($2, e.key * 16 + 1, 16), e.value ->> 0, e.value ->> 1 FROM jsonb_each($1) e",
            ];
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
            for sql in statements {
                let query = sqlx::query(sql).bind(&json).bind(&blob).bind(tenant.0).bind(connection.0);
                query.execute(&mut *transaction).await.map_err(port_error)?;
            }
            transaction.commit().await.map_err(port_error)
        }
        .boxed()
    }

    fn unmap(&self, tenant: TenantId, connection: ConnectionId, unit: UnitId) -> Stored<'_, bool> {
        async move {
            let sql = "DELETE FROM mappings WHERE tenant_id = $1 AND connection_id = $2 AND unit_id = $3";
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(unit.0);
            Ok(query.execute(&self.pool).await.map_err(port_error)?.rows_affected() > 0)
        }
        .boxed()
    }

    fn shown<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        shown: &'a [(UnitId, Option<i64>)],
        at: Timestamp,
    ) -> Stored<'a, ()> {
        async move {
            let mut rows = Rows::default();
            for (unit, quantity) in shown {
                rows.push(&[unit.as_bytes()], &[quantity]).map_err(unwritable)?;
            }
            let (json, blob) = rows.take();
            let statements = [
                "UPDATE mappings SET shown = e.value ->> 0, shown_at = $5 FROM jsonb_each($1) e
                 WHERE tenant_id = $3 AND connection_id = $4 AND unit_id = substr($2, e.key * 16 + 1, 16)",
                "DELETE FROM failures WHERE tenant_id = $3 AND connection_id = $4 AND at <= $5
                 AND unit_id IN (SELECT substr($2, e.key * 16 + 1, 16) FROM jsonb_each($1) e)",
            ];
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
            for sql in statements {
                let query = sqlx::query(sql).bind(&json).bind(&blob).bind(tenant.0).bind(connection.0);
                query.bind(at.micros()).execute(&mut *transaction).await.map_err(port_error)?;
            }
            transaction.commit().await.map_err(port_error)
        }
        .boxed()
    }

    fn fail<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        failures: &'a [Failure],
    ) -> Stored<'a, ()> {
        async move {
            let mut rows = Rows::default();
            for failure in failures {
                let Failure { unit, code, cause, request, response, attempts, at } = failure;
                let columns = (code, cause, request, response, attempts, at.micros());
                rows.push(&[unit.as_bytes()], &columns).map_err(unwritable)?;
            }
            let (json, blob) = rows.take();
            let sql =
                "INSERT INTO failures (tenant_id, connection_id, unit_id, code, cause, request, response, attempts, at)
                 SELECT $3, $4, substr($2, e.key * 16 + 1, 16), e.value ->> 0, e.value ->> 1, e.value ->> 2,
                     e.value ->> 3, e.value ->> 4, e.value ->> 5 FROM jsonb_each($1) e WHERE true
                 ON CONFLICT (tenant_id, connection_id, unit_id) DO UPDATE SET code = excluded.code,
                     cause = excluded.cause, request = excluded.request, response = excluded.response,
                     attempts = excluded.attempts, at = excluded.at";
            let query = sqlx::query(sql).bind(json).bind(blob).bind(tenant.0).bind(connection.0);
            query.execute(&self.pool).await.map(|_| ()).map_err(port_error)
        }
        .boxed()
    }

    fn forget<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        units: &'a [UnitId],
    ) -> Stored<'a, usize> {
        self.forget_failures(tenant, connection, units).boxed()
    }

    fn failures(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<Failure>> {
        self.failures_of(tenant, connection, limit).boxed()
    }

    fn receive<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: &'a Notice,
    ) -> Stored<'a, bool> {
        self.take_in(tenant, connection, notice).boxed()
    }

    fn notices(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<Notice>> {
        self.waiting_news(tenant, connection, limit).boxed()
    }

    fn with_news(&self) -> Stored<'_, Vec<ConnectionId>> {
        self.connections_with_news().boxed()
    }

    fn done<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        settled: &'a Settled,
    ) -> Stored<'a, ()> {
        self.settle_news(tenant, connection, settled).boxed()
    }

    fn given_up(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<GivenUp>> {
        self.news_given_up(tenant, connection, limit).boxed()
    }

    fn revive<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: Option<&'a str>,
    ) -> Stored<'a, usize> {
        self.revive_news(tenant, connection, notice).boxed()
    }

    fn bury<'a>(&'a self, tenant: TenantId, connection: ConnectionId, notice: &'a str) -> Stored<'a, bool> {
        self.bury_news(tenant, connection, notice).boxed()
    }

    fn letters(&self, most: usize) -> Stored<'_, Vec<DeadLetter>> {
        self.all_letters(most).boxed()
    }

    fn letter_count(&self) -> Stored<'_, usize> {
        self.count_letters().boxed()
    }

    fn order<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        id: &'a str,
    ) -> Stored<'a, Option<OrderRecord>> {
        self.order_of(tenant, connection, id).boxed()
    }

    fn orders(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Stored<'_, Vec<OrderRecord>> {
        self.orders_of(tenant, connection, limit).boxed()
    }
}

#[cfg(test)]
mod tests;

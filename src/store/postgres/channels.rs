//! Connections to marketplaces and webhooks that go out, for all nodes of an installation: the twin of
//! `store/sqlite/channels.rs`.
//!
//! Each call is a transaction that names its tenant. What only the one who looks after a connection may write checks and
//! extends the claim on it first, in the same transaction ([`Channels::begin_as_holder`]).

mod claims;
mod hooks;
mod letters;
mod messages;
mod news;

use super::connect::{Server, enter};
use super::error::{port_error, within};
use super::read::get;
use super::rows::text;
use crate::domain::channel::{ChannelKind, Connection};
use crate::domain::dead_letter::DeadLetter;
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{
    ChannelStore, Failure, GivenUp, Mapping, Notice, OrderRecord, Sealed, Settled, Stored,
};
use futures_util::FutureExt as _;
use sqlx::postgres::{PgArguments, PgConnection, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Transaction};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

/// Connections to the server, beside those of the ledger.
const POOL: u32 = 4;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

const COLUMNS: &str =
    "tenant_id, id, kind, name, account, place, sources, policy, paused, key_id, credentials, created_at";

/// Everything that is remembered, seen from one process.
#[derive(Clone)]
pub struct Channels {
    server: Server,
    pool: PgPool,
    /// This process, among those that share the database.
    me: Uuid,
    /// The generation of each claim that it has.
    claims: Arc<Mutex<HashMap<Uuid, claims::Claim>>>,
}

impl Channels {
    /// Over the ledger's server.
    pub(super) fn new(server: &Server) -> Self {
        let (pool, server) = (server.pool(POOL), server.clone());
        Self { server, pool, me: Uuid::now_v7(), claims: Arc::default() }
    }

    /// Closes its connections to the server.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A server that fell silent is not waited for without end.
    fn within<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, PortError>> + Send + 'a,
    ) -> Stored<'a, T> {
        within(self.server.limit(), "what is remembered of channels", work).boxed()
    }

    /// A transaction that sees one tenant.
    async fn begin(&self, tenant: TenantId) -> Result<Transaction<'static, Postgres>, PortError> {
        let mut transaction = self.pool.begin_with(BEGIN).await.map_err(port_error)?;
        enter(&mut transaction, tenant).await?;
        Ok(transaction)
    }
}

async fn commit(transaction: Transaction<'static, Postgres>) -> Result<(), PortError> {
    transaction.commit().await.map_err(port_error)
}

/// Says how many rows it changed.
async fn run(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<u64, PortError> {
    query.execute(connection).await.map(|done| done.rows_affected()).map_err(port_error)
}

fn unreadable(what: &str) -> PortError {
    PortError::Permanent(format!("the table of channels holds a {what} that cannot be read"))
}

fn unwritable(error: serde_json::Error) -> PortError {
    PortError::Permanent(format!("a value cannot be written: {error}"))
}

fn many(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn counted(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A number that was written as a smaller type.
fn small(row: &PgRow, column: usize) -> Result<u32, PortError> {
    u32::try_from(get::<i64>(row, column)?).map_err(|_| unreadable("count"))
}

fn moment(row: &PgRow, column: usize) -> Result<Timestamp, PortError> {
    get(row, column).map(Timestamp::from_micros)
}

fn read_connection(row: &PgRow) -> Result<(Connection, Sealed), PortError> {
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
        created_at: moment(row, 11)?,
    };
    Ok((connection, Sealed { key_id: get(row, 9)?, bytes: get(row, 10)? }))
}

impl ChannelStore for Channels {
    fn connections(&self) -> Stored<'_, Vec<(Connection, Sealed)>> {
        self.within(async move {
            let sql = format!("SELECT {COLUMNS} FROM all_connections() ORDER BY tenant_id, created_at, id");
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&self.pool).await;
            rows.map_err(port_error)?.iter().map(read_connection).collect()
        })
    }

    fn connection(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
    ) -> Stored<'_, Option<(Connection, Sealed)>> {
        self.within(self.one_connection(tenant, connection))
    }

    fn save<'a>(&'a self, connection: &'a Connection, credentials: Option<&'a Sealed>) -> Stored<'a, ()> {
        self.within(async move {
            let sources = serde_json::to_string(&connection.sources).map_err(unwritable)?;
            let policy = serde_json::to_string(&connection.policy).map_err(unwritable)?;
            let sql = "INSERT INTO connections (tenant_id, id, kind, name, account, place, sources, policy, paused,
                           key_id, credentials, created_at)
                       SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, c.key_id), coalesce($11, c.credentials), $12
                       FROM (SELECT 1) one LEFT JOIN connections c ON c.tenant_id = $1 AND c.id = $2
                       ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, place = excluded.place,
                           sources = excluded.sources, policy = excluded.policy, paused = excluded.paused,
                           key_id = excluded.key_id, credentials = excluded.credentials";
            let query = sqlx::query(sql)
                .bind(connection.tenant.0)
                .bind(connection.id.0)
                .bind(connection.kind.as_str())
                .bind(text(&connection.name))
                .bind(text(&connection.account))
                .bind(text(connection.place.as_deref().unwrap_or_default()))
                .bind(sources)
                .bind(policy)
                .bind(connection.paused)
                .bind(credentials.map(|sealed| sealed.key_id.clone()))
                .bind(credentials.map(|sealed| sealed.bytes.clone()))
                .bind(connection.created_at.micros());
            let mut transaction = self.begin_as_holder(connection.tenant, connection.id.0).await?;
            run(&mut transaction, query).await?;
            commit(transaction).await
        })
    }

    fn renewing<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &'a Sealed,
        patience: Duration,
    ) -> Stored<'a, Option<Sealed>> {
        self.within(self.begin_renewal(tenant, connection, from, patience))
    }

    fn renewed<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &'a Sealed,
        fresh: &'a Sealed,
    ) -> Stored<'a, bool> {
        self.within(self.end_renewal(tenant, connection, from, fresh))
    }

    fn remove(&self, tenant: TenantId, connection: ConnectionId) -> Stored<'_, ()> {
        self.within(self.forget_with_claim(
            "DELETE FROM connections WHERE tenant_id = $1 AND id = $2",
            tenant,
            connection.0,
        ))
    }

    fn mappings(&self, tenant: TenantId, connection: ConnectionId) -> Stored<'_, Vec<Mapping>> {
        self.within(async move {
            let sql = "SELECT unit_id, item, shown FROM mappings WHERE tenant_id = $1 AND connection_id = $2";
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0);
            let mut transaction = self.begin(tenant).await?;
            let rows = query.fetch_all(&mut *transaction).await.map_err(port_error)?;
            commit(transaction).await?;
            let mapping =
                |row| Ok(Mapping { unit: UnitId(get(row, 0)?), item: get(row, 1)?, shown: get(row, 2)? });
            rows.iter().map(mapping).collect()
        })
    }

    fn map<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        mappings: &'a [Mapping],
    ) -> Stored<'a, ()> {
        self.within(async move {
            let units: Vec<Uuid> = mappings.iter().map(|mapping| mapping.unit.0).collect();
            let items: Vec<String> =
                mappings.iter().map(|mapping| text(&mapping.item).into_owned()).collect();
            let shown: Vec<Option<i64>> = mappings.iter().map(|mapping| mapping.shown).collect();
            let clear = "DELETE FROM mappings WHERE tenant_id = $1 AND connection_id = $2
                             AND (unit_id = ANY($3) OR item = ANY($4))";
            let insert = "INSERT INTO mappings (tenant_id, connection_id, unit_id, item, shown)
                          SELECT $1, $2, * FROM unnest($3::uuid[], $4::text[], $5::bigint[])";
            let mut transaction = self.begin_as_holder(tenant, connection.0).await?;
            let query = sqlx::query(clear).bind(tenant.0).bind(connection.0).bind(&units).bind(&items);
            run(&mut transaction, query).await?;
            let query = sqlx::query(insert).bind(tenant.0).bind(connection.0).bind(&units).bind(&items);
            run(&mut transaction, query.bind(&shown)).await?;
            commit(transaction).await
        })
    }

    fn unmap(&self, tenant: TenantId, connection: ConnectionId, unit: UnitId) -> Stored<'_, bool> {
        self.within(async move {
            let sql = "DELETE FROM mappings WHERE tenant_id = $1 AND connection_id = $2 AND unit_id = $3";
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(unit.0);
            let mut transaction = self.begin_as_holder(tenant, connection.0).await?;
            let gone = run(&mut transaction, query).await?;
            commit(transaction).await?;
            Ok(gone > 0)
        })
    }

    fn shown<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        shown: &'a [(UnitId, Option<i64>)],
        at: Timestamp,
    ) -> Stored<'a, ()> {
        self.within(async move {
            let units: Vec<Uuid> = shown.iter().map(|(unit, _)| unit.0).collect();
            let quantities: Vec<Option<i64>> = shown.iter().map(|(_, quantity)| *quantity).collect();
            let update = "UPDATE mappings m SET shown = r.shown, shown_at = $5
                          FROM unnest($3::uuid[], $4::bigint[]) r (unit_id, shown)
                          WHERE m.tenant_id = $1 AND m.connection_id = $2 AND m.unit_id = r.unit_id";
            let forget = "DELETE FROM failures
                          WHERE tenant_id = $1 AND connection_id = $2 AND unit_id = ANY($3) AND at <= $4";
            let mut transaction = self.begin_as_holder(tenant, connection.0).await?;
            let query = sqlx::query(update).bind(tenant.0).bind(connection.0).bind(&units);
            run(&mut transaction, query.bind(&quantities).bind(at.micros())).await?;
            let query = sqlx::query(forget).bind(tenant.0).bind(connection.0).bind(&units);
            run(&mut transaction, query.bind(at.micros())).await?;
            commit(transaction).await
        })
    }

    fn fail<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        failures: &'a [Failure],
    ) -> Stored<'a, ()> {
        self.within(self.keep_failures(tenant, connection, failures))
    }

    fn forget<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        units: &'a [UnitId],
    ) -> Stored<'a, usize> {
        self.within(self.forget_failures(tenant, connection, units))
    }

    fn failures(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<Failure>> {
        self.within(self.failures_of(tenant, connection, limit))
    }

    fn receive<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: &'a Notice,
    ) -> Stored<'a, bool> {
        self.within(self.take_in(tenant, connection, notice))
    }

    fn notices(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<Notice>> {
        self.within(self.waiting_news(tenant, connection, limit))
    }

    fn with_news(&self) -> Stored<'_, Vec<ConnectionId>> {
        self.within(async move {
            let ids = sqlx::query_scalar("SELECT connections_with_news()").fetch_all(&self.pool).await;
            Ok(ids.map_err(port_error)?.into_iter().map(ConnectionId).collect())
        })
    }

    fn done<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        settled: &'a Settled,
    ) -> Stored<'a, ()> {
        self.within(self.settle_news(tenant, connection, settled))
    }

    fn given_up(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<GivenUp>> {
        self.within(self.news_given_up(tenant, connection, limit))
    }

    fn revive<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: Option<&'a str>,
    ) -> Stored<'a, usize> {
        self.within(self.revive_news(tenant, connection, notice))
    }

    fn bury<'a>(&'a self, tenant: TenantId, connection: ConnectionId, notice: &'a str) -> Stored<'a, bool> {
        self.within(self.bury_news(tenant, connection, notice))
    }

    fn letters(&self, most: usize) -> Stored<'_, Vec<DeadLetter>> {
        self.within(self.all_letters(most))
    }

    fn letter_count(&self) -> Stored<'_, usize> {
        self.within(self.count("SELECT count_channel_letters()"))
    }

    fn order<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        id: &'a str,
    ) -> Stored<'a, Option<OrderRecord>> {
        self.within(self.order_of(tenant, connection, id))
    }

    fn orders(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Stored<'_, Vec<OrderRecord>> {
        self.within(self.orders_of(tenant, connection, limit))
    }
}

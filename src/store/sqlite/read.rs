//! The reading end, beside the writer.

use crate::domain::event::Event;
use crate::domain::idempotency::Fingerprint;
use crate::domain::ids::{LocationId, SaleId, TenantId};
use crate::domain::sale::{PaymentMethod, Sale};
use crate::domain::tenant::shard_of;
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::ledger::{KeyCursor, KeyPage, LedgerReader, StoredSale, TenantSnapshot};
use crate::sqlite::port_error;
use crate::store::columns::{self, Columns};
use futures_util::FutureExt;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Column as _, Decode, Row as _, Sqlite, Type, TypeInfo as _, ValueRef as _};
use std::sync::Arc;
use uuid::Uuid;

/// The sale of a key ($1 its hash, $2 the tenant, $3 itself), run by run, the newest first: keys are repeated soon.
pub(super) const BY_KEY: &str =
    "WITH RECURSIVE run (n) AS (SELECT sequence >> 14 FROM applied WHERE tenant_id = $2
                               UNION ALL SELECT n - 1 FROM run WHERE n > 0)
     SELECT s.id FROM run CROSS JOIN sales s ON s.sequence >> 14 = run.n AND s.key_hash = $1
     WHERE s.tenant_id = $2 AND s.key = $3 LIMIT 1";

/// Keys behind a run ($1) and a hash in it ($2), at most $3.
pub(super) const KEYS: &str =
    "SELECT * FROM (SELECT sequence >> 14, key_hash FROM sales
                    WHERE key_hash IS NOT NULL AND sequence >> 14 = $1 AND key_hash > $2 ORDER BY key_hash LIMIT $3)
     UNION ALL
     SELECT * FROM (SELECT sequence >> 14, key_hash FROM sales
                    WHERE key_hash IS NOT NULL AND sequence >> 14 > $1 ORDER BY sequence >> 14, key_hash LIMIT $3)
     LIMIT $3";

/// Reads through a small pool.
pub struct Reader {
    pub(super) pool: SqlitePool,
}

impl Reader {
    async fn read_snapshots(&self, shard: usize, shards: usize) -> Result<Vec<TenantSnapshot>, PortError> {
        let mut connection = self.pool.acquire().await.map_err(port_error)?;
        let ids = sqlx::query("SELECT id FROM tenants ORDER BY id").fetch_all(&mut *connection).await;
        let mut snapshots = Vec::new();
        for row in ids.map_err(port_error)? {
            let tenant = TenantId(get(&row, 0)?);
            if shard_of(tenant, shards) == shard {
                snapshots.push(read_tenant(&mut connection, tenant).await?);
            }
        }
        Ok(snapshots)
    }

    async fn read_given_up(&self, shard: usize, shards: usize) -> Result<Vec<Arc<Event>>, PortError> {
        let mut connection = self.pool.acquire().await.map_err(port_error)?;
        let sql = "SELECT DISTINCT tenant_id FROM holes WHERE event IS NOT NULL";
        let ids = sqlx::query(sql).fetch_all(&mut *connection).await;
        let mut events = Vec::new();
        for row in ids.map_err(port_error)? {
            let tenant = TenantId(get(&row, 0)?);
            if shard_of(tenant, shards) != shard {
                continue;
            }
            let rows = sqlx::query(columns::GIVEN_UP).bind(tenant.0).fetch_all(&mut *connection).await;
            for row in rows.map_err(port_error)? {
                events.push(columns::event(&row)?);
            }
        }
        Ok(events)
    }

    async fn read_sale(&self, tenant: TenantId, id: SaleId) -> Result<Option<StoredSale>, PortError> {
        let mut connection = self.pool.acquire().await.map_err(port_error)?;
        let sql = "SELECT s.location_id, s.at, s.total, s.payment, s.fingerprint, v.at FROM sales s
                   LEFT JOIN voids v ON v.tenant_id = s.tenant_id AND v.sale_id = s.id
                   WHERE s.tenant_id = $1 AND s.id = $2";
        let query = sqlx::query(sql).bind(tenant.0).bind(id.0);
        let Some(row) = query.fetch_optional(&mut *connection).await.map_err(port_error)? else {
            return Ok(None);
        };
        let query = sqlx::query(columns::LINES).bind(tenant.0).bind(id.0);
        let lines = query.fetch_all(&mut *connection).await.map_err(port_error)?;
        let lines = lines.iter().map(columns::line).collect::<Result<_, _>>()?;
        let payment: String = get(&row, 3)?;
        let sale = Sale {
            id,
            location: LocationId(get(&row, 0)?),
            payment: PaymentMethod::parse(&payment).ok_or_else(|| columns::unreadable("payment"))?,
            total: columns::money(&row, 2)?,
            lines,
        };
        let fingerprint: Option<Uuid> = get(&row, 4)?;
        let fingerprint = fingerprint.map(|print| Fingerprint(print.into_bytes()));
        let voided = get::<Option<i64>>(&row, 5)?.map(Timestamp::from_micros);
        Ok(Some(StoredSale { sale, at: Timestamp::from_micros(get(&row, 1)?), fingerprint, voided }))
    }

    async fn find_key(
        &self,
        tenant: TenantId,
        indexed: i64,
        key: &str,
    ) -> Result<Option<StoredSale>, PortError> {
        let query = sqlx::query(BY_KEY).bind(indexed).bind(tenant.0).bind(key);
        match query.fetch_optional(&self.pool).await.map_err(port_error)? {
            Some(row) => self.read_sale(tenant, SaleId(get(&row, 0)?)).await,
            None => Ok(None),
        }
    }
}

impl LedgerReader for Reader {
    fn snapshots(
        &self,
        shard: usize,
        shards: usize,
    ) -> BoxFuture<'_, Result<Vec<TenantSnapshot>, PortError>> {
        self.read_snapshots(shard, shards).boxed()
    }

    fn given_up(&self, shard: usize, shards: usize) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>> {
        self.read_given_up(shard, shards).boxed()
    }

    fn sale(&self, tenant: TenantId, id: SaleId) -> BoxFuture<'_, Result<Option<StoredSale>, PortError>> {
        self.read_sale(tenant, id).boxed()
    }

    fn sale_by_key<'a>(
        &'a self,
        tenant: TenantId,
        indexed: i64,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredSale>, PortError>> {
        self.find_key(tenant, indexed, key).boxed()
    }

    fn key_hashes(
        &self,
        after: Option<KeyCursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<KeyPage, PortError>> {
        async move {
            let KeyCursor(run, hash) = after.unwrap_or(KeyCursor(-1, 0));
            let query = sqlx::query(KEYS).bind(run).bind(hash).bind(i64::try_from(limit).unwrap_or(i64::MAX));
            let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
            let hashes: Vec<i64> = rows.iter().map(|row| get(row, 1)).collect::<Result<_, _>>()?;
            let next = match (rows.last(), hashes.last()) {
                (Some(row), Some(hash)) => Some(KeyCursor(get(row, 0)?, *hash)),
                _ => None,
            };
            Ok(KeyPage { hashes, next })
        }
        .boxed()
    }
}

/// A tenant as of one moment: everything in one read transaction.
async fn read_tenant(connection: &mut SqliteConnection, id: TenantId) -> Result<TenantSnapshot, PortError> {
    let mut transaction = sqlx::Connection::begin(connection).await.map_err(port_error)?;
    let row =
        sqlx::query(columns::TENANT).bind(id.0).fetch_one(&mut *transaction).await.map_err(port_error)?;
    let mut snapshot = columns::snapshot(&row, id)?;
    let holes =
        sqlx::query(columns::HOLES).bind(id.0).fetch_all(&mut *transaction).await.map_err(port_error)?;
    for hole in &holes {
        snapshot.holes.insert(columns::whole(hole.integer(0)?));
    }
    let locations = sqlx::query(columns::LOCATIONS).bind(id.0).fetch_all(&mut *transaction).await;
    snapshot.locations =
        locations.map_err(port_error)?.iter().map(columns::location).collect::<Result<_, _>>()?;
    let mut rows = sqlx::query(columns::UNITS).bind(id.0).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        snapshot.units.push(columns::unit(&row)?);
    }
    drop(rows);
    let mut rows = sqlx::query(columns::STOCK).bind(id.0).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        snapshot.stock.push(columns::level(&row)?);
    }
    drop(rows);
    let mut rows = sqlx::query(columns::ERP).bind(id.0).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        snapshot.erp.push(columns::fact(&row)?);
    }
    drop(rows);
    transaction.commit().await.map_err(port_error)?;
    Ok(snapshot)
}

pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: usize,
) -> Result<T, PortError> {
    row.try_get(column).map_err(port_error)
}

impl Columns for SqliteRow {
    fn integer(&self, column: usize) -> Result<i64, PortError> {
        get(self, column)
    }

    fn uuid(&self, column: usize) -> Result<Uuid, PortError> {
        get(self, column)
    }

    fn flag(&self, column: usize) -> Result<bool, PortError> {
        get(self, column)
    }

    fn optional(&self, column: usize) -> Result<Option<&str>, PortError> {
        get(self, column)
    }

    fn shown(&self, column: usize) -> Option<(&str, String)> {
        let value = self.try_get_raw(column).ok().filter(|value| !value.is_null())?;
        let shown = match value.type_info().name() {
            "BLOB" => self.try_get::<Uuid, _>(column).map(|id| id.to_string()),
            "TEXT" => self.try_get(column),
            _ => self.try_get::<i64, _>(column).map(|number| number.to_string()),
        };
        Some((self.columns().get(column)?.name(), shown.unwrap_or_else(|_| "?".to_owned())))
    }
}

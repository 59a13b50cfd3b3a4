//! The reading end, beside the writer. Whatever is read of a tenant is read in a transaction that names it.

use super::connect::{Server, enter, tenants};
use super::error::{port_error, within};
use crate::domain::event::Event;
use crate::domain::idempotency::Fingerprint;
use crate::domain::ids::{LocationId, SaleId, TenantId};
use crate::domain::sale::{PaymentMethod, Sale};
use crate::domain::tenant::shard_of;
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::ledger::{KeyCursor, KeyPage, LedgerReader, StoredSale, TenantSnapshot};
use crate::store::columns::{self, Columns};
use futures_util::FutureExt;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Column as _, Connection as _, Decode, Postgres, Row as _, Type, TypeInfo as _, ValueRef as _};
use std::sync::Arc;
use uuid::Uuid;

/// Everything that belongs together is read as of one moment.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// Reads through a small pool.
pub struct Reader {
    pub(super) server: Server,
    pub(super) pool: PgPool,
}

impl Reader {
    /// Each tenant has the time limit to itself, however many there are.
    async fn read_snapshots(&self, shard: usize, shards: usize) -> Result<Vec<TenantSnapshot>, PortError> {
        let mut connection = self.pool.acquire().await.map_err(port_error)?;
        let ids = tenants(&mut connection, "SELECT all_tenants()");
        let mut ids = within(self.server.limit(), "reading the tenants", ids).await?;
        ids.retain(|tenant| shard_of(*tenant, shards) == shard);
        let mut snapshots = Vec::with_capacity(ids.len());
        for tenant in ids {
            let snapshot = read_tenant(&mut connection, tenant);
            snapshots.push(within(self.server.limit(), "reading a tenant", snapshot).await?);
        }
        Ok(snapshots)
    }

    async fn read_given_up(&self, shard: usize, shards: usize) -> Result<Vec<Arc<Event>>, PortError> {
        let reading = async {
            let mut connection = self.pool.acquire().await.map_err(port_error)?;
            let mut events = Vec::new();
            for tenant in tenants(&mut connection, "SELECT tenants_given_up()").await? {
                if shard_of(tenant, shards) != shard {
                    continue;
                }
                let mut transaction = connection.begin_with(BEGIN).await.map_err(port_error)?;
                enter(&mut transaction, tenant).await?;
                let rows = sqlx::query(columns::GIVEN_UP).bind(tenant.0).fetch_all(&mut *transaction).await;
                for row in rows.map_err(port_error)? {
                    events.push(columns::event(&row)?);
                }
                transaction.commit().await.map_err(port_error)?;
            }
            Ok(events)
        };
        within(self.server.limit(), "reading what was given up", reading).await
    }

    /// The sale with this id, or the one that the key made.
    async fn read_sale(&self, tenant: TenantId, which: Which<'_>) -> Result<Option<StoredSale>, PortError> {
        let reading = async {
            let mut connection = self.pool.acquire().await.map_err(port_error)?;
            let mut transaction = connection.begin_with(BEGIN).await.map_err(port_error)?;
            enter(&mut transaction, tenant).await?;
            let sale = find_sale(&mut transaction, tenant, which).await?;
            transaction.commit().await.map_err(port_error)?;
            Ok(sale)
        };
        within(self.server.limit(), "reading a sale", reading).await
    }

    async fn read_hashes(&self, after: Option<KeyCursor>, limit: usize) -> Result<KeyPage, PortError> {
        let Some(from) = after.map_or(Some(i64::MIN), |KeyCursor(_, after)| after.checked_add(1)) else {
            return Ok(KeyPage::default());
        };
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query_scalar("SELECT page_of_key_hashes($1, $2)").bind(from).bind(most);
        let reading = async { query.fetch_all(&self.pool).await.map_err(port_error) };
        let hashes: Vec<i64> = within(self.server.limit(), "reading key hashes", reading).await?;
        let next = hashes.last().map(|last| KeyCursor(0, *last));
        Ok(KeyPage { hashes, next })
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
        self.read_sale(tenant, Which::Id(id)).boxed()
    }

    fn sale_by_key<'a>(
        &'a self,
        tenant: TenantId,
        indexed: i64,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredSale>, PortError>> {
        self.read_sale(tenant, Which::Key(indexed, key)).boxed()
    }

    fn key_hashes(
        &self,
        after: Option<KeyCursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<KeyPage, PortError>> {
        self.read_hashes(after, limit).boxed()
    }
}

/// Which sale of a tenant.
enum Which<'a> {
    Id(SaleId),
    /// The indexed half of the key's hash, and the key.
    Key(i64, &'a str),
}

async fn find_sale(
    transaction: &mut PgConnection,
    tenant: TenantId,
    which: Which<'_>,
) -> Result<Option<StoredSale>, PortError> {
    let query = match which {
        Which::Id(id) => sqlx::query(
            "SELECT s.id, s.location_id, s.at, s.total, s.payment, s.fingerprint, v.at FROM sales s
             LEFT JOIN voids v ON v.tenant_id = s.tenant_id AND v.sale_id = s.id
             WHERE s.tenant_id = $1 AND s.id = $2",
        )
        .bind(tenant.0)
        .bind(id.0),
        Which::Key(indexed, key) => sqlx::query(
            "SELECT s.id, s.location_id, s.at, s.total, s.payment, s.fingerprint, v.at FROM sales s
             LEFT JOIN voids v ON v.tenant_id = s.tenant_id AND v.sale_id = s.id
             WHERE s.tenant_id = $1 AND s.key_hash = $2 AND s.key = $3",
        )
        .bind(tenant.0)
        .bind(indexed)
        .bind(key.to_owned()),
    };
    let Some(row) = query.fetch_optional(&mut *transaction).await.map_err(port_error)? else {
        return Ok(None);
    };
    let id = SaleId(get(&row, 0)?);
    let query = sqlx::query(columns::LINES).bind(tenant.0).bind(id.0);
    let lines = query.fetch_all(transaction).await.map_err(port_error)?;
    let lines = lines.iter().map(columns::line).collect::<Result<_, _>>()?;
    let sale = Sale {
        id,
        location: LocationId(get(&row, 1)?),
        payment: PaymentMethod::parse(get(&row, 4)?).ok_or_else(|| columns::unreadable("payment"))?,
        total: columns::money(&row, 3)?,
        lines,
    };
    let fingerprint = fingerprint(&row, 5)?.map(Fingerprint);
    let voided = get::<Option<i64>>(&row, 6)?.map(Timestamp::from_micros);
    Ok(Some(StoredSale { sale, at: Timestamp::from_micros(get(&row, 2)?), fingerprint, voided }))
}

/// A tenant as of one moment: everything in one read transaction.
async fn read_tenant(connection: &mut PgConnection, id: TenantId) -> Result<TenantSnapshot, PortError> {
    let mut transaction = connection.begin_with(BEGIN).await.map_err(port_error)?;
    enter(&mut transaction, id).await?;
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

pub(super) fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    column: usize,
) -> Result<T, PortError> {
    row.try_get(column).map_err(port_error)
}

/// A request's fingerprint, if there is one.
pub(super) fn fingerprint(row: &PgRow, column: usize) -> Result<Option<[u8; 16]>, PortError> {
    let Some(bytes) = get::<Option<&[u8]>>(row, column)? else { return Ok(None) };
    bytes.try_into().map(Some).map_err(|_| columns::unreadable("fingerprint"))
}

impl Columns for PgRow {
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
            "UUID" => self.try_get::<Uuid, _>(column).map(|id| id.to_string()),
            "TEXT" => self.try_get(column),
            "BOOL" => self.try_get::<bool, _>(column).map(|is| is.to_string()),
            "BYTEA" => self.try_get::<Vec<u8>, _>(column).map(|bytes| format!("{bytes:02x?}")),
            _ => self.try_get::<i64, _>(column).map(|number| number.to_string()),
        };
        Some((self.columns().get(column)?.name(), shown.unwrap_or_else(|_| "?".to_owned())))
    }
}

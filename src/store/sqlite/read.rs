//! The reading end, beside the writer.

use crate::domain::catalogue::{Unit, UnitKind};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::idempotency::Fingerprint;
use crate::domain::ids::{LocationId, ProductId, SaleId, TenantId, UnitId};
use crate::domain::sale::{PaymentMethod, Sale, SaleLine};
use crate::domain::tenant::{Location, LocationKind, Tenant, shard_of};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::ledger::{LedgerReader, StoredSale, TenantSnapshot};
use crate::sqlite::port_error;
use futures_util::FutureExt;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Decode, Row as _, Sqlite, Type};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

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

    async fn read_sale(&self, tenant: TenantId, id: SaleId) -> Result<Option<StoredSale>, PortError> {
        let mut connection = self.pool.acquire().await.map_err(port_error)?;
        let sql = "SELECT s.location_id, s.at, s.total, s.payment, s.fingerprint, v.at FROM sales s
                   LEFT JOIN voids v ON v.tenant_id = s.tenant_id AND v.sale_id = s.id
                   WHERE s.tenant_id = $1 AND s.id = $2";
        let query = sqlx::query(sql).bind(tenant.0).bind(id.0);
        let Some(row) = query.fetch_optional(&mut *connection).await.map_err(port_error)? else {
            return Ok(None);
        };
        let sql = "SELECT unit_id, name, sku, quantity, unit_price, subtotal, has_stock FROM sale_lines
                   WHERE tenant_id = $1 AND sale_id = $2 ORDER BY line";
        let query = sqlx::query(sql).bind(tenant.0).bind(id.0);
        let lines = query.fetch_all(&mut *connection).await.map_err(port_error)?;
        let lines = lines.iter().map(read_line).collect::<Result<_, _>>()?;
        let payment: String = get(&row, 3)?;
        let sale = Sale {
            id,
            location: LocationId(get(&row, 0)?),
            payment: PaymentMethod::parse(&payment).ok_or_else(|| unreadable("payment"))?,
            total: money(&row, 2)?,
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
        let sql = "SELECT id FROM sales WHERE key_hash = $1 AND tenant_id = $2 AND key = $3";
        let query = sqlx::query(sql).bind(indexed).bind(tenant.0).bind(key);
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

    fn key_hashes(&self, after: Option<i64>, limit: usize) -> BoxFuture<'_, Result<Vec<i64>, PortError>> {
        async move {
            let sql = "SELECT key_hash FROM sales WHERE key_hash >= $1 ORDER BY key_hash LIMIT $2";
            let Some(from) = after.map_or(Some(i64::MIN), |after| after.checked_add(1)) else {
                return Ok(Vec::new());
            };
            let query = sqlx::query(sql).bind(from).bind(i64::try_from(limit).unwrap_or(i64::MAX));
            let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
            rows.iter().map(|row| get(row, 0)).collect()
        }
        .boxed()
    }
}

/// A tenant as of one moment: everything in one read transaction.
async fn read_tenant(connection: &mut SqliteConnection, id: TenantId) -> Result<TenantSnapshot, PortError> {
    let mut transaction = sqlx::Connection::begin(connection).await.map_err(port_error)?;
    let sql =
        "SELECT t.name, t.trade, t.active, t.created_at, coalesce(a.sequence, 0), coalesce(a.last_at, 0)
               FROM tenants t LEFT JOIN applied a ON a.tenant_id = t.id WHERE t.id = $1";
    let row = sqlx::query(sql).bind(id.0).fetch_one(&mut *transaction).await.map_err(port_error)?;
    let sequence: i64 = get(&row, 4)?;
    let mut snapshot = TenantSnapshot {
        tenant: Tenant {
            id,
            name: text(&row, 0)?,
            trade: text(&row, 1)?,
            active: get(&row, 2)?,
            created_at: Timestamp::from_micros(get(&row, 3)?),
        },
        locations: Vec::new(),
        units: Vec::new(),
        stock: Vec::new(),
        sequence: sequence.unsigned_abs(),
        holes: BTreeSet::new(),
        last_at: Timestamp::from_micros(get(&row, 5)?),
    };
    let sql = "SELECT sequence FROM holes WHERE tenant_id = $1";
    for row in sqlx::query(sql).bind(id.0).fetch_all(&mut *transaction).await.map_err(port_error)? {
        snapshot.holes.insert(get::<i64>(&row, 0)?.unsigned_abs());
    }
    let sql =
        "SELECT id, code, name, kind, is_default, active FROM locations WHERE tenant_id = $1 ORDER BY id";
    for row in sqlx::query(sql).bind(id.0).fetch_all(&mut *transaction).await.map_err(port_error)? {
        snapshot.locations.push(read_location(&row)?);
    }
    let sql = "SELECT id, product_id, base_sku, name, sku, barcode, kind, price, active, size, color, category, brand
               FROM units WHERE tenant_id = $1 ORDER BY id";
    let mut rows = sqlx::query(sql).bind(id.0).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        snapshot.units.push(Arc::new(read_unit(&row)?));
    }
    drop(rows);
    let sql = "SELECT unit_id, location_id, quantity FROM stock WHERE tenant_id = $1";
    let mut rows = sqlx::query(sql).bind(id.0).fetch(&mut *transaction);
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        let place = (UnitId(get(&row, 0)?), LocationId(get(&row, 1)?));
        snapshot.stock.push((place, quantity(&row, 2)?));
    }
    drop(rows);
    transaction.commit().await.map_err(port_error)?;
    Ok(snapshot)
}

fn read_location(row: &SqliteRow) -> Result<Location, PortError> {
    Ok(Location {
        id: LocationId(get(row, 0)?),
        code: text(row, 1)?,
        name: text(row, 2)?,
        kind: LocationKind::parse(&get::<String>(row, 3)?).ok_or_else(|| unreadable("location kind"))?,
        is_default: get(row, 4)?,
        active: get(row, 5)?,
    })
}

fn read_unit(row: &SqliteRow) -> Result<Unit, PortError> {
    let optional = |column| get::<Option<String>>(row, column).map(|text| text.map(Arc::from));
    Ok(Unit {
        id: UnitId(get(row, 0)?),
        product_id: ProductId(get(row, 1)?),
        base_sku: text(row, 2)?,
        name: text(row, 3)?,
        sku: text(row, 4)?,
        barcode: optional(5)?,
        kind: UnitKind::parse(&get::<String>(row, 6)?).ok_or_else(|| unreadable("unit kind"))?,
        price: money(row, 7)?,
        active: get(row, 8)?,
        size: optional(9)?,
        color: optional(10)?,
        category: optional(11)?,
        brand: optional(12)?,
    })
}

fn read_line(row: &SqliteRow) -> Result<SaleLine, PortError> {
    Ok(SaleLine {
        unit: UnitId(get(row, 0)?),
        name: text(row, 1)?,
        sku: text(row, 2)?,
        quantity: quantity(row, 3)?,
        unit_price: money(row, 4)?,
        subtotal: money(row, 5)?,
        has_stock: get(row, 6)?,
    })
}

pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: usize,
) -> Result<T, PortError> {
    row.try_get(column).map_err(port_error)
}

pub(super) fn text(row: &SqliteRow, column: usize) -> Result<Arc<str>, PortError> {
    get::<&str>(row, column).map(Arc::from)
}

pub(super) fn money(row: &SqliteRow, column: usize) -> Result<Money, PortError> {
    Money::from_units(get(row, column)?).ok_or_else(|| unreadable("amount"))
}

pub(super) fn quantity(row: &SqliteRow, column: usize) -> Result<Quantity, PortError> {
    Quantity::from_units(get(row, column)?).ok_or_else(|| unreadable("quantity"))
}

fn unreadable(what: &str) -> PortError {
    PortError::Permanent(format!("the ledger holds a {what} that this version cannot read"))
}

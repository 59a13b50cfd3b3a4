//! The reading end, beside the writer. Whatever is read of a tenant is read in a transaction that names it.

use super::connect::{Server, enter, tenants};
use super::error::{port_error, within};
use crate::domain::catalogue::{Unit, UnitKind};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::idempotency::Fingerprint;
use crate::domain::ids::{LocationId, ProductId, SaleId, TenantId, UnitId};
use crate::domain::sale::{PaymentMethod, Sale, SaleLine};
use crate::domain::tenant::{Location, LocationKind, Tenant, shard_of};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::ledger::{LedgerReader, StoredSale, TenantSnapshot};
use futures_util::FutureExt;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::{Connection as _, Decode, Postgres, Row as _, Type};
use std::collections::BTreeSet;
use std::sync::Arc;

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

    async fn read_hashes(&self, after: Option<i64>, limit: usize) -> Result<Vec<i64>, PortError> {
        let Some(from) = after.map_or(Some(i64::MIN), |after| after.checked_add(1)) else {
            return Ok(Vec::new());
        };
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query_scalar("SELECT page_of_key_hashes($1, $2)").bind(from).bind(most);
        let reading = async { query.fetch_all(&self.pool).await.map_err(port_error) };
        within(self.server.limit(), "reading key hashes", reading).await
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

    fn key_hashes(&self, after: Option<i64>, limit: usize) -> BoxFuture<'_, Result<Vec<i64>, PortError>> {
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
    let sql = "SELECT unit_id, name, sku, quantity, unit_price, subtotal, has_stock FROM sale_lines
               WHERE tenant_id = $1 AND sale_id = $2 ORDER BY line";
    let query = sqlx::query(sql).bind(tenant.0).bind(id.0);
    let lines = query.fetch_all(transaction).await.map_err(port_error)?;
    let lines = lines.iter().map(read_line).collect::<Result<_, _>>()?;
    let sale = Sale {
        id,
        location: LocationId(get(&row, 1)?),
        payment: PaymentMethod::parse(get(&row, 4)?).ok_or_else(|| unreadable("payment"))?,
        total: money(&row, 3)?,
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

fn read_location(row: &PgRow) -> Result<Location, PortError> {
    Ok(Location {
        id: LocationId(get(row, 0)?),
        code: text(row, 1)?,
        name: text(row, 2)?,
        kind: LocationKind::parse(&get::<String>(row, 3)?).ok_or_else(|| unreadable("location kind"))?,
        is_default: get(row, 4)?,
        active: get(row, 5)?,
    })
}

fn read_unit(row: &PgRow) -> Result<Unit, PortError> {
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

fn read_line(row: &PgRow) -> Result<SaleLine, PortError> {
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

pub(super) fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(
    row: &'r PgRow,
    column: usize,
) -> Result<T, PortError> {
    row.try_get(column).map_err(port_error)
}

fn text(row: &PgRow, column: usize) -> Result<Arc<str>, PortError> {
    get::<&str>(row, column).map(Arc::from)
}

fn money(row: &PgRow, column: usize) -> Result<Money, PortError> {
    Money::from_units(get(row, column)?).ok_or_else(|| unreadable("amount"))
}

fn quantity(row: &PgRow, column: usize) -> Result<Quantity, PortError> {
    Quantity::from_units(get(row, column)?).ok_or_else(|| unreadable("quantity"))
}

/// A request's fingerprint, if there is one.
pub(super) fn fingerprint(row: &PgRow, column: usize) -> Result<Option<[u8; 16]>, PortError> {
    let Some(bytes) = get::<Option<&[u8]>>(row, column)? else { return Ok(None) };
    bytes.try_into().map(Some).map_err(|_| unreadable("fingerprint"))
}

fn unreadable(what: &str) -> PortError {
    PortError::Permanent(format!("the ledger holds a {what} that this version cannot read"))
}

//! The ledger's facts, for the checker of the laws.

use super::MIGRATIONS;
use super::read::get;
use crate::domain::audit::{Detail, Fact, LedgerRow, LineRow, Part, SaleRow};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::ports::PortError;
use crate::ports::audit::{FactSource, Sink};
use crate::sqlite::{port_error, snapshot};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt as _};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Column as _, Row as _, TypeInfo as _, ValueRef as _};
use std::path::Path;
use uuid::Uuid;

/// Both tables are kept in this order, so that SQLite merges them as it reads, and each sale comes with its lines.
const SALES: &str =
    "SELECT tenant_id, id, -1 AS line, location_id, sequence, at, total, payment, created_by, request_id,
        key_hash, key, fingerprint FROM sales
    UNION ALL SELECT tenant_id, sale_id, line, unit_id, quantity, unit_price, subtotal, name, sku, NULL,
        has_stock, NULL, NULL FROM sale_lines
    ORDER BY 1, 2, 3";

const LEDGER: &str =
    "SELECT id, tenant_id, unit_id, location_id, sequence, kind, delta, stock_before, stock_after,
        sale_id, reference, at FROM ledger ORDER BY id";

/// Rows of one kind shown with a finding.
const SHOWN: i64 = 20;

/// The ledger of an installation, as of one moment.
pub struct LedgerFacts {
    connection: SqliteConnection,
}

impl LedgerFacts {
    /// Opens the file for reading only.
    pub async fn open(path: &Path) -> Result<Self, PortError> {
        Ok(Self { connection: snapshot::open(path, MIGRATIONS).await? })
    }

    /// The moment.
    pub async fn pin(&mut self) -> Result<(), PortError> {
        snapshot::pin(&mut self.connection).await
    }

    /// The moment is over; another may follow.
    pub async fn unpin(&mut self) -> Result<(), PortError> {
        snapshot::unpin(&mut self.connection).await
    }

    async fn each(
        &mut self,
        sql: &'static str,
        mut take: impl FnMut(&SqliteRow) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let mut rows = sqlx::query(sql).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(port_error)? {
            take(&row)?;
        }
        Ok(())
    }

    async fn standing(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        self.each("SELECT tenant_id, sequence FROM applied", |row| {
            sink(Fact::Applied { tenant: TenantId(get(row, 0)?), sequence: whole(row, 1)? });
            Ok(())
        })
        .await?;
        self.each("SELECT tenant_id, sequence, cause FROM holes", |row| {
            let (tenant, sequence) = (TenantId(get(row, 0)?), whole(row, 1)?);
            sink(Fact::Hole { tenant, sequence, cause: get(row, 2)? });
            Ok(())
        })
        .await?;
        self.each("SELECT id FROM tenants", |row| {
            sink(Fact::Tenant(TenantId(get(row, 0)?)));
            Ok(())
        })
        .await?;
        self.each("SELECT tenant_id, id FROM locations", |row| {
            sink(Fact::Location(TenantId(get(row, 0)?), LocationId(get(row, 1)?)));
            Ok(())
        })
        .await?;
        self.each("SELECT tenant_id, id FROM units", |row| {
            sink(Fact::Unit(TenantId(get(row, 0)?), UnitId(get(row, 1)?)));
            Ok(())
        })
        .await
    }

    async fn history(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        self.each(SALES, |row| if get::<i64>(row, 2)? < 0 { sale(row, sink) } else { line(row, sink) })
            .await?;
        self.each(LEDGER, |row| {
            sink(Fact::Ledger(LedgerRow {
                id: get(row, 0)?,
                tenant: TenantId(get(row, 1)?),
                place: (UnitId(get(row, 2)?), LocationId(get(row, 3)?)),
                sequence: whole(row, 4)?,
                kind: get(row, 5)?,
                delta: get(row, 6)?,
                before: get(row, 7)?,
                after: get(row, 8)?,
                sale: get::<Option<Uuid>>(row, 9)?.map(SaleId),
                reference: get(row, 10)?,
                at: get(row, 11)?,
            }));
            Ok(())
        })
        .await?;
        self.each("SELECT tenant_id, unit_id, location_id, quantity FROM stock", |row| {
            let place = (UnitId(get(row, 1)?), LocationId(get(row, 2)?));
            sink(Fact::Stock { tenant: TenantId(get(row, 0)?), place, quantity: get(row, 3)? });
            Ok(())
        })
        .await
    }

    async fn rows_about(&mut self, about: &Detail) -> Result<Vec<String>, PortError> {
        let Some(tenant) = about.tenant else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        // A number that is no i64 is in no row.
        let sequence = about.sequence.and_then(|sequence| i64::try_from(sequence).ok());
        let sale = about.sale.map(|sale| sale.0);
        if sale.is_some() || sequence.is_some() {
            let queries = [
                "SELECT 'sale', s.* FROM sales s WHERE tenant_id = $1 AND (id = $2 OR sequence = $3) LIMIT $4",
                "SELECT 'line', l.* FROM sale_lines l WHERE tenant_id = $1 AND sale_id IN
                     (SELECT id FROM sales WHERE tenant_id = $1 AND (id = $2 OR sequence = $3) UNION SELECT $2)
                     ORDER BY line LIMIT $4",
                "SELECT 'ledger', l.* FROM ledger l WHERE tenant_id = $1 AND (sale_id = $2 OR sequence = $3) LIMIT $4",
            ];
            for sql in queries {
                let query = sqlx::query(sql).bind(tenant.0).bind(sale).bind(sequence).bind(SHOWN);
                show(&query.fetch_all(&mut self.connection).await.map_err(port_error)?, &mut lines);
            }
        }
        if let (Some(unit), Some(location)) = (about.unit, about.location) {
            let sql = "SELECT * FROM (SELECT 'at the place', l.* FROM ledger l
                       WHERE tenant_id = $1 AND unit_id = $2 AND location_id = $3 AND id <= $4
                       ORDER BY id DESC LIMIT 3) ORDER BY id";
            let upto = about.ledger_id.unwrap_or(i64::MAX);
            let query = sqlx::query(sql).bind(tenant.0).bind(unit.0).bind(location.0).bind(upto);
            show(&query.fetch_all(&mut self.connection).await.map_err(port_error)?, &mut lines);
        }
        Ok(lines)
    }
}

impl FactSource for LedgerFacts {
    fn total(&mut self) -> BoxFuture<'_, Result<u64, PortError>> {
        async move {
            // Every event but those of the catalogue is a sale or has ledger rows, so the marks say how many sales
            // there are at most, without reading them all to count them.
            let sql = "SELECT (SELECT coalesce(max(id), 0) FROM ledger) * 2
                            + (SELECT coalesce(sum(sequence), 0) FROM applied)";
            let count: i64 =
                sqlx::query_scalar(sql).fetch_one(&mut self.connection).await.map_err(port_error)?;
            Ok(count.unsigned_abs())
        }
        .boxed()
    }

    fn facts<'a>(&'a mut self, part: Part, sink: Sink<'a>) -> BoxFuture<'a, Result<(), PortError>> {
        match part {
            Part::Standing => self.standing(sink).boxed(),
            Part::History => self.history(sink).boxed(),
        }
    }

    fn evidence<'a>(&'a mut self, about: &'a Detail) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        self.rows_about(about).boxed()
    }
}

fn sale(row: &SqliteRow, sink: Sink<'_>) -> Result<(), PortError> {
    sink(Fact::Sale(SaleRow {
        tenant: TenantId(get(row, 0)?),
        id: SaleId(get(row, 1)?),
        location: LocationId(get(row, 3)?),
        sequence: whole(row, 4)?,
        at: get(row, 5)?,
        total: get(row, 6)?,
        payment: get(row, 7)?,
        created_by: get(row, 8)?,
        request_id: get(row, 9)?,
        key_hash: get(row, 10)?,
        key: get(row, 11)?,
        fingerprint: get::<Option<Uuid>>(row, 12)?.map(Uuid::into_bytes),
    }));
    Ok(())
}

fn line(row: &SqliteRow, sink: Sink<'_>) -> Result<(), PortError> {
    sink(Fact::Line(LineRow {
        tenant: TenantId(get(row, 0)?),
        sale: SaleId(get(row, 1)?),
        line: get(row, 2)?,
        unit: UnitId(get(row, 3)?),
        quantity: get(row, 4)?,
        unit_price: get(row, 5)?,
        subtotal: get(row, 6)?,
        name: get(row, 7)?,
        sku: get(row, 8)?,
        has_stock: get(row, 10)?,
    }));
    Ok(())
}

fn whole(row: &SqliteRow, column: usize) -> Result<u64, PortError> {
    // No number in the ledger is negative; one that is matches nothing.
    Ok(u64::try_from(get::<i64>(row, column)?).unwrap_or(u64::MAX))
}

/// Rows as they are stored, one line each: the first column says what they are.
fn show(rows: &[SqliteRow], lines: &mut Vec<String>) {
    for row in rows {
        let mut line = row.try_get::<String, _>(0).unwrap_or_default();
        for (index, column) in row.columns().iter().enumerate().skip(1) {
            let Ok(value) = row.try_get_raw(index) else { continue };
            if value.is_null() {
                continue;
            }
            let shown = match value.type_info().name() {
                "BLOB" => row.try_get::<Uuid, _>(index).map_or_else(|_| "?".to_owned(), |id| id.to_string()),
                "TEXT" => row.try_get::<String, _>(index).unwrap_or_default(),
                _ => {
                    row.try_get::<i64, _>(index).map_or_else(|_| "?".to_owned(), |number| number.to_string())
                }
            };
            line.push_str(&format!(" {}={shown}", column.name()));
        }
        lines.push(line);
    }
}

//! The ledger's facts, for the checker of the laws.

use super::MIGRATIONS;
use super::read::get;
use crate::domain::audit::{Detail, Fact, LedgerRow, LineRow, Part, SaleRow, VoidRow};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::ports::PortError;
use crate::ports::audit::{FactSource, LedgerFactSource, Sink};
use crate::sqlite::{port_error, snapshot};
use crate::store::columns::{show, whole};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt as _};
use serde::Deserialize;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::borrow::Cow;
use std::path::Path;
use uuid::Uuid;

/// A page of sales with their lines. Both tables are kept in this order, so that SQLite merges them as it reads, and
/// each sale comes before its lines.
///
/// A page comes as one row of two values, the ids side by side and all else as JSON, as [`Rows`](crate::sqlite::rows)
/// go the other way: millions of rows, one at a time, would cost a hop from SQLite's thread to this one each.
const SALES: &str =
    "SELECT group_concat(tenant_id || id || place || coalesce(fingerprint, zeroblob(16)), ''),
        json_group_array(json_array(line, number_1, number_2, number_3, number_4, text_1, text_2, text_3, text_4))
    FROM (SELECT tenant_id, id, -1 AS line, location_id AS place, fingerprint,
            sequence AS number_1, at AS number_2, total AS number_3, key_hash AS number_4,
            payment AS text_1, created_by AS text_2, request_id AS text_3, key AS text_4
        FROM sales WHERE (tenant_id, id) > ($1, $2)
        UNION ALL SELECT tenant_id, sale_id, line, unit_id, NULL, quantity, unit_price, subtotal, has_stock,
            name, sku, '', NULL
        FROM sale_lines WHERE (tenant_id, sale_id, line) > ($1, $2, $3)
        ORDER BY 1, 2, 3 LIMIT $4)";

/// A page of the ledger, in the same form.
const LEDGER: &str =
    "SELECT group_concat(tenant_id || unit_id || location_id || coalesce(sale_id, zeroblob(16)), ''),
        json_group_array(json_array(id, sequence, delta, stock_before, stock_after, at, sale_id IS NOT NULL,
            kind, reference))
    FROM (SELECT * FROM ledger WHERE id > $1 ORDER BY id LIMIT $2)";

/// Rows in a page.
const PAGE: i64 = 1_000;

/// Ids of each row in a page, and their bytes.
const IDS: usize = 4;
const ID_BYTES: usize = 16;

/// A row of [`SALES`] but for its ids: line (-1 for the sale itself), numbers, texts.
#[derive(Deserialize)]
struct SaleOrLine<'a>(
    i64,
    i64,
    i64,
    i64,
    Option<i64>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    Option<String>,
);

/// A row of [`LEDGER`] but for its ids.
#[derive(Deserialize)]
struct Movement<'a>(i64, i64, i64, i64, i64, i64, u8, #[serde(borrow)] Cow<'a, str>, Option<String>);

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
            sink(Fact::Applied { tenant: TenantId(get(row, 0)?), sequence: whole(get(row, 1)?) });
            Ok(())
        })
        .await?;
        self.each("SELECT tenant_id, sequence, cause FROM holes", |row| {
            let (tenant, sequence) = (TenantId(get(row, 0)?), whole(get(row, 1)?));
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
        .await?;
        self.each("SELECT tenant_id, sale_id, sequence, at FROM voids", |row| {
            let (tenant, sale) = (TenantId(get(row, 0)?), SaleId(get(row, 1)?));
            sink(Fact::Void(VoidRow { tenant, sale, sequence: whole(get(row, 2)?), at: get(row, 3)? }));
            Ok(())
        })
        .await
    }

    async fn history(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        self.sales(sink).await?;
        self.ledger(sink).await?;
        self.each("SELECT tenant_id, unit_id, location_id, quantity FROM stock", |row| {
            let place = (UnitId(get(row, 1)?), LocationId(get(row, 2)?));
            sink(Fact::Stock { tenant: TenantId(get(row, 0)?), place, quantity: get(row, 3)? });
            Ok(())
        })
        .await
    }

    async fn sales(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        let mut last = ([Uuid::nil(); IDS], i64::MIN);
        loop {
            let ([tenant, sale, ..], line) = last;
            let query = sqlx::query(SALES).bind(tenant).bind(sale).bind(line).bind(PAGE);
            let page = query.fetch_one(&mut self.connection).await.map_err(port_error)?;
            let rows: Vec<SaleOrLine<'_>> = columns(&page)?;
            if rows.is_empty() {
                return Ok(());
            }
            for (row, ids) in rows.iter().zip(ids(&page, rows.len())?) {
                last = (ids, row.0);
                sink(if row.0 < 0 { sale_fact(row, ids) } else { line_fact(row, ids) });
            }
        }
    }

    async fn ledger(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        let mut last = i64::MIN;
        loop {
            let query = sqlx::query(LEDGER).bind(last).bind(PAGE);
            let page = query.fetch_one(&mut self.connection).await.map_err(port_error)?;
            let rows: Vec<Movement<'_>> = columns(&page)?;
            let Some(newest) = rows.last() else { return Ok(()) };
            last = newest.0;
            for (row, [tenant, unit, location, sale]) in rows.iter().zip(ids(&page, rows.len())?) {
                let Movement(id, sequence, delta, before, after, at, has_sale, kind, reference) = row;
                sink(Fact::Ledger(LedgerRow {
                    id: *id,
                    tenant: TenantId(tenant),
                    place: (UnitId(unit), LocationId(location)),
                    sequence: whole(*sequence),
                    kind,
                    delta: *delta,
                    before: *before,
                    after: *after,
                    sale: (*has_sale != 0).then_some(SaleId(sale)),
                    reference: reference.as_deref(),
                    at: *at,
                }));
            }
        }
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
                "SELECT 'void', v.* FROM voids v WHERE tenant_id = $1 AND (sale_id = $2 OR sequence = $3) LIMIT $4",
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

fn sale_fact<'a>(row: &'a SaleOrLine<'_>, [tenant, sale, location, fingerprint]: [Uuid; IDS]) -> Fact<'a> {
    let SaleOrLine(_, sequence, at, total, key_hash, payment, created_by, request_id, key) = row;
    Fact::Sale(SaleRow {
        tenant: TenantId(tenant),
        id: SaleId(sale),
        location: LocationId(location),
        sequence: whole(*sequence),
        at: *at,
        total: *total,
        payment,
        created_by,
        request_id,
        key_hash: *key_hash,
        key: key.as_deref(),
        fingerprint: key.is_some().then_some(fingerprint.into_bytes()),
    })
}

fn line_fact<'a>(row: &'a SaleOrLine<'_>, [tenant, sale, unit, _]: [Uuid; IDS]) -> Fact<'a> {
    let SaleOrLine(line, quantity, unit_price, subtotal, has_stock, name, sku, ..) = row;
    Fact::Line(LineRow {
        tenant: TenantId(tenant),
        sale: SaleId(sale),
        line: *line,
        unit: UnitId(unit),
        quantity: *quantity,
        unit_price: *unit_price,
        subtotal: *subtotal,
        name,
        sku,
        has_stock: *has_stock != Some(0),
    })
}

/// The ids of a page's rows.
fn ids(page: &SqliteRow, rows: usize) -> Result<impl Iterator<Item = [Uuid; IDS]>, PortError> {
    let bytes = get::<Option<&[u8]>>(page, 0)?.unwrap_or_default();
    // Each id has 16 bytes, so that as many fit as there are rows; one that has not shifts all that follow, and
    // nothing after it could be believed.
    if bytes.len() != rows * IDS * ID_BYTES {
        return Err(PortError::Permanent("the ledger holds an id that is not one".into()));
    }
    let id = |chunk: &[u8]| Uuid::from_slice(chunk).unwrap_or_default();
    Ok(bytes
        .chunks_exact(IDS * ID_BYTES)
        .map(move |row| [0, 1, 2, 3].map(|index| id(&row[index * ID_BYTES..(index + 1) * ID_BYTES]))))
}

/// A page's rows but for their ids.
fn columns<'r, T: Deserialize<'r>>(page: &'r SqliteRow) -> Result<Vec<T>, PortError> {
    let json: &str = get(page, 1)?;
    serde_json::from_str(json)
        .map_err(|error| PortError::Permanent(format!("the ledger holds a row that cannot be read: {error}")))
}

impl LedgerFactSource for LedgerFacts {
    fn pin(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        snapshot::pin(&mut self.connection).boxed()
    }

    fn unpin(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        snapshot::unpin(&mut self.connection).boxed()
    }
}

//! The ledger's facts, for the checker of the laws. All of them in one transaction, tenant by tenant: even the checker
//! never has two tenants' rows before it at once.

use super::connect::{CHECKING, Server, enter, tenants};
use super::error::port_error;
use super::read::{fingerprint, get};
use crate::domain::audit::{Detail, Fact, LedgerRow, LineRow, Part, SaleRow, VoidRow};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::ports::PortError;
use crate::ports::audit::{FactSource, LedgerFactSource, Sink};
use crate::store::columns::{show, whole};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt as _};
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

const MARK: &str = "SELECT sequence FROM applied WHERE tenant_id = $1";
const HOLES: &str = "SELECT sequence, cause FROM holes WHERE tenant_id = $1";
const TENANT: &str = "SELECT id FROM tenants WHERE id = $1";
const LOCATIONS: &str = "SELECT id FROM locations WHERE tenant_id = $1";
const VOIDS: &str = "SELECT sale_id, sequence, at FROM voids WHERE tenant_id = $1";
const UNITS: &str = "SELECT id FROM units WHERE tenant_id = $1";

/// A page of a tenant's sales, behind one.
const SALES: &str =
    "SELECT id, location_id, sequence, at, total, payment, created_by, request_id, key_hash, key,
        fingerprint
    FROM sales WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3";

/// The lines behind that sale, up to the page's last.
const LINES: &str = "SELECT sale_id, line, unit_id, quantity, unit_price, subtotal, name, sku, has_stock
    FROM sale_lines WHERE tenant_id = $1 AND sale_id > $2 AND sale_id <= $3 ORDER BY sale_id, line";

const LEDGER: &str =
    "SELECT id, unit_id, location_id, sequence, kind, delta, stock_before, stock_after, sale_id,
        reference, at
    FROM ledger WHERE tenant_id = $1 ORDER BY id";

const STOCK: &str = "SELECT unit_id, location_id, quantity FROM stock WHERE tenant_id = $1";

/// Sales in a page.
const PAGE: usize = 1_000;

/// Rows of one kind shown with a finding.
const SHOWN: i64 = 20;

/// The ledger of an installation, as of one moment.
pub struct LedgerFacts {
    connection: PgConnection,
    /// Every tenant that any row belongs to.
    tenants: Vec<TenantId>,
}

impl LedgerFacts {
    pub(super) async fn connect(server: &Server) -> Result<Self, PortError> {
        Ok(Self { connection: server.connect(CHECKING).await?, tenants: Vec::new() })
    }

    /// Streams a tenant's rows.
    async fn each(
        &mut self,
        tenant: TenantId,
        sql: &'static str,
        mut take: impl FnMut(&PgRow) -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        enter(&mut self.connection, tenant).await?;
        let mut rows = sqlx::query(sql).bind(tenant.0).fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await.map_err(port_error)? {
            take(&row)?;
        }
        Ok(())
    }

    async fn standing(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        for tenant in self.tenants.clone() {
            self.each(tenant, MARK, |row| {
                sink(Fact::Applied { tenant, sequence: whole(get(row, 0)?) });
                Ok(())
            })
            .await?;
            self.each(tenant, HOLES, |row| {
                sink(Fact::Hole { tenant, sequence: whole(get(row, 0)?), cause: get(row, 1)? });
                Ok(())
            })
            .await?;
            self.each(tenant, TENANT, |_| {
                sink(Fact::Tenant(tenant));
                Ok(())
            })
            .await?;
            self.each(tenant, LOCATIONS, |row| {
                sink(Fact::Location(tenant, LocationId(get(row, 0)?)));
                Ok(())
            })
            .await?;
            self.each(tenant, UNITS, |row| {
                sink(Fact::Unit(tenant, UnitId(get(row, 0)?)));
                Ok(())
            })
            .await?;
            self.each(tenant, VOIDS, |row| {
                let (sale, sequence) = (SaleId(get(row, 0)?), whole(get(row, 1)?));
                sink(Fact::Void(VoidRow { tenant, sale, sequence, at: get(row, 2)? }));
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn history(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        let tenants = self.tenants.clone();
        for tenant in &tenants {
            self.sales(*tenant, sink).await?;
        }
        for tenant in &tenants {
            self.each(*tenant, LEDGER, |row| {
                sink(Fact::Ledger(movement(row, *tenant)?));
                Ok(())
            })
            .await?;
        }
        for tenant in tenants {
            self.each(tenant, STOCK, |row| {
                let place = (UnitId(get(row, 0)?), LocationId(get(row, 1)?));
                sink(Fact::Stock { tenant, place, quantity: get(row, 2)? });
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Both tables are read in one order and merged, so that each sale comes before its lines, and a line without a
    /// sale where its sale would be.
    async fn sales(&mut self, tenant: TenantId, sink: Sink<'_>) -> Result<(), PortError> {
        enter(&mut self.connection, tenant).await?;
        let mut behind = Uuid::nil();
        loop {
            let query =
                sqlx::query(SALES).bind(tenant.0).bind(behind).bind(i64::try_from(PAGE).unwrap_or(i64::MAX));
            let sales = query.fetch_all(&mut self.connection).await.map_err(port_error)?;
            let is_last = sales.len() < PAGE;
            let upto = match sales.last() {
                Some(sale) if !is_last => get(sale, 0)?,
                _ => Uuid::max(),
            };
            let query = sqlx::query(LINES).bind(tenant.0).bind(behind).bind(upto);
            let lines = query.fetch_all(&mut self.connection).await.map_err(port_error)?;
            let mut lines = lines.iter().map(|row| line(row, tenant)).peekable();
            for row in &sales {
                let sale = sale(row, tenant)?;
                while let Some(orphan) = lines.next_if(|line| matches!(line, Ok(line) if line.sale < sale.id))
                {
                    sink(Fact::Line(orphan?));
                }
                let id = sale.id;
                sink(Fact::Sale(sale));
                while let Some(line) = lines.next_if(|line| !matches!(line, Ok(line) if line.sale != id)) {
                    sink(Fact::Line(line?));
                }
            }
            for orphan in lines {
                sink(Fact::Line(orphan?));
            }
            if is_last {
                return Ok(());
            }
            behind = upto;
        }
    }

    async fn rows_about(&mut self, about: &Detail) -> Result<Vec<String>, PortError> {
        let Some(tenant) = about.tenant else { return Ok(Vec::new()) };
        enter(&mut self.connection, tenant).await?;
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
                "SELECT 'ledger', l.* FROM ledger l WHERE tenant_id = $1 AND (sale_id = $2 OR sequence = $3)
                     ORDER BY id LIMIT $4",
            ];
            for sql in queries {
                let query = sqlx::query(sql).bind(tenant.0).bind(sale).bind(sequence).bind(SHOWN);
                show(&query.fetch_all(&mut self.connection).await.map_err(port_error)?, &mut lines);
            }
        }
        if let (Some(unit), Some(location)) = (about.unit, about.location) {
            let sql = "SELECT * FROM (SELECT 'at the place', l.* FROM ledger l
                       WHERE tenant_id = $1 AND unit_id = $2 AND location_id = $3 AND id <= $4
                       ORDER BY id DESC LIMIT 3) newest ORDER BY id";
            let upto = about.ledger_id.unwrap_or(i64::MAX);
            let query = sqlx::query(sql).bind(tenant.0).bind(unit.0).bind(location.0).bind(upto);
            show(&query.fetch_all(&mut self.connection).await.map_err(port_error)?, &mut lines);
        }
        Ok(lines)
    }

    /// As in SQLite: every event but those of the catalogue is a sale or has rows in the ledger.
    async fn estimate(&mut self) -> Result<u64, PortError> {
        let mut total = 0;
        let mut newest = 0;
        for tenant in self.tenants.clone() {
            self.each(tenant, MARK, |row| {
                total += whole(get(row, 0)?);
                Ok(())
            })
            .await?;
            self.each(tenant, "SELECT coalesce(max(id), 0) FROM ledger WHERE tenant_id = $1", |row| {
                newest = whole(get(row, 0)?).max(newest);
                Ok(())
            })
            .await?;
        }
        Ok(total + 2 * newest)
    }
}

impl FactSource for LedgerFacts {
    fn total(&mut self) -> BoxFuture<'_, Result<u64, PortError>> {
        self.estimate().boxed()
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

fn sale(row: &PgRow, tenant: TenantId) -> Result<SaleRow<'_>, PortError> {
    Ok(SaleRow {
        tenant,
        id: SaleId(get(row, 0)?),
        location: LocationId(get(row, 1)?),
        sequence: whole(get(row, 2)?),
        at: get(row, 3)?,
        total: get(row, 4)?,
        payment: get(row, 5)?,
        created_by: get(row, 6)?,
        request_id: get(row, 7)?,
        key_hash: get(row, 8)?,
        key: get(row, 9)?,
        fingerprint: fingerprint(row, 10)?,
    })
}

fn line(row: &PgRow, tenant: TenantId) -> Result<LineRow<'_>, PortError> {
    Ok(LineRow {
        tenant,
        sale: SaleId(get(row, 0)?),
        line: get(row, 1)?,
        unit: UnitId(get(row, 2)?),
        quantity: get(row, 3)?,
        unit_price: get(row, 4)?,
        subtotal: get(row, 5)?,
        name: get(row, 6)?,
        sku: get(row, 7)?,
        has_stock: get(row, 8)?,
    })
}

fn movement(row: &PgRow, tenant: TenantId) -> Result<LedgerRow<'_>, PortError> {
    Ok(LedgerRow {
        id: get(row, 0)?,
        tenant,
        place: (UnitId(get(row, 1)?), LocationId(get(row, 2)?)),
        sequence: whole(get(row, 3)?),
        kind: get(row, 4)?,
        delta: get(row, 5)?,
        before: get(row, 6)?,
        after: get(row, 7)?,
        sale: get::<Option<Uuid>>(row, 8)?.map(SaleId),
        reference: get(row, 9)?,
        at: get(row, 10)?,
    })
}

impl LedgerFactSource for LedgerFacts {
    /// While the moment lasts the server keeps what was deleted or replaced since.
    fn pin(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
            begin.execute(&mut self.connection).await.map_err(port_error)?;
            // BEGIN alone takes no snapshot; the first query does.
            self.tenants = tenants(&mut self.connection, "SELECT tenants_with_rows()").await?;
            Ok(())
        }
        .boxed()
    }

    fn unpin(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await.map(|_| ()).map_err(port_error)
        }
        .boxed()
    }
}

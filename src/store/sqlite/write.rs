//! The writing end: a batch of events becomes rows in one transaction, a handful of statements whatever its size.

use crate::domain::decimal::Quantity;
use crate::domain::event::{Body, Event};
use crate::domain::idempotency::{Fingerprint, IdempotencyKey};
use crate::domain::ids::TenantId;
use crate::domain::ledger::Chains;
use crate::domain::sale::Sale;
use crate::domain::stock::Place;
use crate::domain::tenant::Location;
use crate::ports::PortError;
use crate::ports::ledger::{Applied, LedgerStore};
use crate::sqlite::{self, port_error, rows::Rows};
use crate::store::columns;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// A checkpoint every 64 MiB of write-ahead log, for the same pages are written again and again. No till waits for it.
const CHECKPOINT_PAGES: &str = "16000";

/// The writer. There is one at a time: it belongs to the ledger writer actor.
pub struct Writer {
    path: PathBuf,
    /// None after a failure. SQLite ends a transaction by itself when the disk is full, which the driver does not learn,
    /// and after a failed commit nobody knows what the file holds: both are opened and read anew.
    session: Option<Session>,
}

/// An open file and what is known of it.
struct Session {
    connection: SqliteConnection,
    marks: HashMap<TenantId, Mark>,
}

/// How far a tenant is applied; kept in memory because nobody else writes it.
#[derive(Clone, Debug, Default)]
struct Mark {
    sequence: u64,
    last_at: i64,
    holes: BTreeSet<u64>,
}

const TENANTS: &str = "INSERT INTO tenants (id, name, trade, active, created_at)
    SELECT substr($2, e.key * 16 + 1, 16), e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3
    FROM jsonb_each($1) e WHERE true
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, trade = excluded.trade, active = excluded.active";

const LOCATIONS: &str = "INSERT INTO locations (tenant_id, id, code, name, kind, is_default, active)
    SELECT substr($2, e.key * 32 + 1, 16), substr($2, e.key * 32 + 17, 16),
           e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4
    FROM jsonb_each($1) e WHERE true
    ON CONFLICT (tenant_id, id) DO UPDATE SET code = excluded.code, name = excluded.name, kind = excluded.kind,
        is_default = excluded.is_default, active = excluded.active";

const UNITS: &str = "INSERT INTO units (tenant_id, id, product_id, base_sku, name, sku, barcode, kind, price, active,
        size, color, category, brand)
    SELECT substr($2, e.key * 48 + 1, 16), substr($2, e.key * 48 + 17, 16), substr($2, e.key * 48 + 33, 16),
           e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
           e.value ->> 7, e.value ->> 8, e.value ->> 9, e.value ->> 10
    FROM jsonb_each($1) e WHERE true
    ON CONFLICT (tenant_id, id) DO UPDATE SET product_id = excluded.product_id, base_sku = excluded.base_sku,
        name = excluded.name, sku = excluded.sku, barcode = excluded.barcode, kind = excluded.kind,
        price = excluded.price, active = excluded.active, size = excluded.size, color = excluded.color,
        category = excluded.category, brand = excluded.brand";

const SALES: &str = "INSERT INTO sales (tenant_id, id, location_id, sequence, at, total, payment, created_by,
        request_id, key_hash, key, fingerprint)
    SELECT substr($2, e.key * 64 + 1, 16), substr($2, e.key * 64 + 17, 16), substr($2, e.key * 64 + 33, 16),
           e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
           e.value ->> 7, iif(e.value ->> 7 IS NULL, NULL, substr($2, e.key * 64 + 49, 16))
    FROM jsonb_each($1) e";

const LINES: &str = "INSERT INTO sale_lines (tenant_id, sale_id, unit_id, line, name, sku, quantity, unit_price,
        subtotal, has_stock)
    SELECT substr($2, e.key * 48 + 1, 16), substr($2, e.key * 48 + 17, 16), substr($2, e.key * 48 + 33, 16),
           e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6
    FROM jsonb_each($1) e";

const VOIDS: &str = "INSERT INTO voids (tenant_id, sale_id, sequence, at, reason, created_by, request_id)
    SELECT substr($2, e.key * 32 + 1, 16), substr($2, e.key * 32 + 17, 16),
           e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4
    FROM jsonb_each($1) e";

const LEDGER: &str = "INSERT INTO ledger (tenant_id, unit_id, location_id, sale_id, sequence, kind, delta,
        stock_before, stock_after, reference, at, created_by)
    SELECT substr($2, e.key * 64 + 1, 16), substr($2, e.key * 64 + 17, 16), substr($2, e.key * 64 + 33, 16),
           iif(e.value ->> 5 IS NULL, substr($2, e.key * 64 + 49, 16), NULL),
           e.value ->> 0, e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
           e.value ->> 7
    FROM jsonb_each($1) e";

/// One row with everything: thousands of rows would each wake the thread that waits for them.
const STOCK_BEFORE: &str =
    "SELECT json_group_array(json_array(e.key, s.quantity)) FROM jsonb_each($1) e CROSS JOIN stock s
    ON s.tenant_id = substr($2, e.key * 48 + 1, 16) AND s.unit_id = substr($2, e.key * 48 + 17, 16)
    AND s.location_id = substr($2, e.key * 48 + 33, 16)";

const STOCK: &str = "INSERT INTO stock (tenant_id, unit_id, location_id, quantity)
    SELECT substr($2, e.key * 48 + 1, 16), substr($2, e.key * 48 + 17, 16), substr($2, e.key * 48 + 33, 16), e.value
    FROM jsonb_each($1) e WHERE true
    ON CONFLICT (tenant_id, unit_id, location_id) DO UPDATE SET quantity = excluded.quantity";

const APPLIED: &str = "INSERT INTO applied (tenant_id, sequence, last_at)
    SELECT substr($2, e.key * 16 + 1, 16), e.value ->> 0, e.value ->> 1 FROM jsonb_each($1) e WHERE true
    ON CONFLICT (tenant_id) DO UPDATE SET sequence = excluded.sequence, last_at = excluded.last_at";

const ERP: &str = "INSERT INTO erp_state (tenant_id, source, key, value)
    SELECT substr($2, e.key * 16 + 1, 16), e.value ->> 0, e.value ->> 1, e.value ->> 2 FROM jsonb_each($1) e WHERE true
    ON CONFLICT (tenant_id, source, key) DO UPDATE SET value = excluded.value";

const HOLE: &str = "INSERT INTO holes (tenant_id, sequence, cause) VALUES ($1, $2, 'never arrived')";

impl Writer {
    /// Opens a connection of its own.
    pub async fn open(path: &Path) -> Result<Self, PortError> {
        Ok(Self { path: path.to_owned(), session: Some(Session::open(path).await?) })
    }

    /// Takes the session out, so that one that fails, or is dropped half-way, is not used again.
    async fn take_session(&mut self) -> Result<Session, PortError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => Session::open(&self.path).await,
        }
    }
}

impl Session {
    async fn open(path: &Path) -> Result<Self, PortError> {
        let mut connection =
            sqlite::connect(path, &sqlite::durable(path).pragma("wal_autocheckpoint", CHECKPOINT_PAGES))
                .await?;
        let mut marks: HashMap<TenantId, Mark> = HashMap::new();
        // With the lock for writing: a commit of the writer before, which may have been cut short, is over then.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
        let rows = sqlx::query("SELECT tenant_id, sequence, last_at FROM applied")
            .fetch_all(&mut *transaction)
            .await;
        for row in rows.map_err(port_error)? {
            let tenant = TenantId(row.try_get::<Uuid, _>(0).map_err(port_error)?);
            let mark = marks.entry(tenant).or_default();
            mark.sequence = row.try_get::<i64, _>(1).map_err(port_error)?.unsigned_abs();
            mark.last_at = row.try_get(2).map_err(port_error)?;
        }
        let rows = sqlx::query("SELECT tenant_id, sequence FROM holes").fetch_all(&mut *transaction).await;
        for row in rows.map_err(port_error)? {
            let tenant = TenantId(row.try_get::<Uuid, _>(0).map_err(port_error)?);
            let sequence = row.try_get::<i64, _>(1).map_err(port_error)?.unsigned_abs();
            marks.entry(tenant).or_default().holes.insert(sequence);
        }
        transaction.commit().await.map_err(port_error)?;
        Ok(Self { connection, marks })
    }

    async fn apply_batch(&mut self, batch: &[Arc<Event>]) -> Result<Applied, PortError> {
        let plan = Plan::new(&self.marks, batch);
        if plan.fresh.is_empty() {
            return Ok(plan.applied);
        }
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
        let connection = &mut *transaction;
        plan.write_catalogue(connection).await?;
        plan.write_sales(connection).await?;
        plan.write_movements(connection).await?;
        plan.write_erp(connection).await?;
        plan.write_marks(connection).await?;
        transaction.commit().await.map_err(port_error)?;
        self.marks.extend(plan.marks);
        Ok(plan.applied)
    }

    async fn give_up(&mut self, event: &Event, cause: &str) -> Result<(), PortError> {
        let (tenant, sequence, json) = (event.tenant, event.sequence, columns::json(event)?);
        let mut mark = self.marks.get(&tenant).cloned().unwrap_or_default();
        let is_late = sequence <= mark.sequence;
        if is_late && !mark.holes.contains(&sequence) {
            return Ok(());
        }
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
        let query = sqlx::query(if is_late { columns::GIVE_UP_LATE } else { columns::GIVE_UP });
        let query = query.bind(tenant.0).bind(signed(sequence)).bind(cause);
        let query = query.bind(event.body.kind().as_str()).bind(json);
        query.execute(&mut *transaction).await.map_err(port_error)?;
        if is_late {
            return transaction.commit().await.map_err(port_error);
        }
        for number in mark.sequence + 1..sequence {
            let insert = sqlx::query(HOLE).bind(tenant.0).bind(signed(number));
            insert.execute(&mut *transaction).await.map_err(port_error)?;
        }
        mark.holes.extend(mark.sequence + 1..=sequence);
        mark.sequence = sequence;
        let mut rows = Rows::default();
        rows.push(&[tenant.as_bytes()], &(mark.sequence, mark.last_at)).map_err(unwritable)?;
        run(&mut transaction, APPLIED, &mut rows).await?;
        transaction.commit().await.map_err(port_error)?;
        self.marks.insert(tenant, mark);
        Ok(())
    }
}

impl LedgerStore for Writer {
    fn apply<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<Applied, PortError>> {
        async move {
            let mut session = self.take_session().await?;
            let applied = session.apply_batch(batch).await?;
            self.session = Some(session);
            Ok(applied)
        }
        .boxed()
    }

    fn give_up<'a>(&'a mut self, event: &'a Event, cause: &'a str) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            let mut session = self.take_session().await?;
            session.give_up(event, cause).await?;
            self.session = Some(session);
            Ok(())
        }
        .boxed()
    }
}

/// What of a batch is new, and the marks after it.
struct Plan<'a> {
    fresh: Vec<&'a Event>,
    marks: HashMap<TenantId, Mark>,
    /// Numbers that were jumped over: they never arrived.
    lost: Vec<(TenantId, u64)>,
    /// Holes that are filled by this batch (a dead letter that was replayed).
    filled: Vec<(TenantId, u64)>,
    applied: Applied,
}

impl<'a> Plan<'a> {
    fn new(known: &HashMap<TenantId, Mark>, batch: &'a [Arc<Event>]) -> Self {
        let mut plan = Self {
            fresh: Vec::with_capacity(batch.len()),
            marks: HashMap::new(),
            lost: Vec::new(),
            filled: Vec::new(),
            applied: Applied::default(),
        };
        for event in batch {
            let known = || known.get(&event.tenant).cloned().unwrap_or_default();
            let mark = plan.marks.entry(event.tenant).or_insert_with(known);
            if event.sequence <= mark.sequence {
                if !mark.holes.remove(&event.sequence) {
                    plan.applied.duplicates += 1;
                    continue;
                }
                plan.filled.push((event.tenant, event.sequence));
            } else {
                let jumped = mark.sequence + 1..event.sequence;
                plan.lost.extend(jumped.clone().map(|number| (event.tenant, number)));
                mark.holes.extend(jumped);
                mark.sequence = event.sequence;
                mark.last_at = mark.last_at.max(event.at.micros());
            }
            plan.applied.events += 1;
            plan.applied.sales += usize::from(matches!(event.body, Body::SaleCreated { .. }));
            plan.fresh.push(event);
        }
        plan
    }

    async fn write_catalogue(&self, connection: &mut SqliteConnection) -> Result<(), PortError> {
        let (mut tenants, mut places, mut units) = (Rows::default(), Rows::default(), Rows::default());
        for event in &self.fresh {
            match &event.body {
                Body::TenantCreated { tenant, locations } => {
                    let columns =
                        (&tenant.name, &tenant.trade, tenant.active as u8, tenant.created_at.micros());
                    tenants.push(&[tenant.id.as_bytes()], &columns).map_err(unwritable)?;
                    push_locations(&mut places, event.tenant, locations)?;
                }
                Body::LocationsAdded { locations } => push_locations(&mut places, event.tenant, locations)?,
                Body::ProductsUpserted { units: changed } => {
                    for unit in changed {
                        let columns = (
                            &unit.base_sku,
                            &unit.name,
                            &unit.sku,
                            &unit.barcode,
                            unit.kind.as_str(),
                            unit.price.units(),
                            unit.active as u8,
                            &unit.size,
                            &unit.color,
                            &unit.category,
                            &unit.brand,
                        );
                        let ids = [
                            event.tenant.as_bytes().as_slice(),
                            unit.id.as_bytes(),
                            unit.product_id.as_bytes(),
                        ];
                        units.push(&ids, &columns).map_err(unwritable)?;
                    }
                }
                Body::SaleCreated { .. }
                | Body::SaleVoided { .. }
                | Body::StockMoved { .. }
                | Body::ErpFollowed(_) => {}
            }
        }
        run(connection, TENANTS, &mut tenants).await?;
        run(connection, LOCATIONS, &mut places).await?;
        run(connection, UNITS, &mut units).await
    }

    async fn write_sales(&self, connection: &mut SqliteConnection) -> Result<(), PortError> {
        let (mut sales, mut lines, mut voids) = (Rows::default(), Rows::default(), Rows::default());
        for event in &self.fresh {
            if let Body::SaleVoided { sale, reason, .. } = &event.body {
                let columns = (event.sequence, event.at.micros(), reason, &event.user, &event.request_id);
                voids.push(&[event.tenant.as_bytes(), sale.as_bytes()], &columns).map_err(unwritable)?;
            }
            let Body::SaleCreated { sale, keyed } = &event.body else { continue };
            push_sale(&mut sales, event, sale, keyed.as_ref()).map_err(unwritable)?;
            for (number, line) in sale.lines.iter().enumerate() {
                let ids = [event.tenant.as_bytes().as_slice(), sale.id.as_bytes(), line.unit.as_bytes()];
                let columns = (
                    number,
                    &line.name,
                    &line.sku,
                    line.quantity.units(),
                    line.unit_price.units(),
                    line.subtotal.units(),
                    line.has_stock as u8,
                );
                lines.push(&ids, &columns).map_err(unwritable)?;
            }
        }
        run(connection, SALES, &mut sales).await?;
        run(connection, LINES, &mut lines).await?;
        run(connection, VOIDS, &mut voids).await
    }

    async fn write_movements(&self, connection: &mut SqliteConnection) -> Result<(), PortError> {
        let mut places: HashSet<(TenantId, Place)> = HashSet::new();
        for event in &self.fresh {
            places.extend(event.movements().map(|moved| (event.tenant, (moved.unit, moved.location))));
        }
        if places.is_empty() {
            return Ok(());
        }
        // In the order of the stock table, so that reading and writing it goes through its pages once.
        let mut places: Vec<(TenantId, Place)> = places.into_iter().collect();
        places.sort_unstable();
        let mut chains = read_stock(connection, &places).await?;
        let mut ledger = Rows::default();
        for event in &self.fresh {
            let (kind, reference) = event.movement_origin();
            let sale = match &event.body {
                Body::SaleCreated { sale, .. } => Some(sale.id),
                _ => None,
            };
            let reference = sale.is_none().then_some(reference.as_str());
            for moved in event.movements() {
                let place = (moved.unit, moved.location);
                let chain = chains.entry(event.tenant).or_default();
                let link = chain.append(place, moved.delta).ok_or_else(|| {
                    PortError::Permanent(format!("stock of {} at {} is out of bounds", place.0, place.1))
                })?;
                let ids = [
                    event.tenant.as_bytes().as_slice(),
                    moved.unit.as_bytes(),
                    moved.location.as_bytes(),
                    sale.as_ref().map_or(&[0; 16], |sale| sale.as_bytes()),
                ];
                let columns = (
                    event.sequence,
                    kind.as_str(),
                    link.delta.units(),
                    link.before.units(),
                    link.after.units(),
                    reference,
                    event.at.micros(),
                    &event.user,
                );
                ledger.push(&ids, &columns).map_err(unwritable)?;
            }
        }
        run(connection, LEDGER, &mut ledger).await?;
        let mut stock = Rows::default();
        for (tenant, place) in &places {
            let Some(quantity) = chains.get(tenant).and_then(|chain| chain.ends().get(place)) else {
                continue;
            };
            let ids = [tenant.as_bytes().as_slice(), place.0.as_bytes(), place.1.as_bytes()];
            stock.push(&ids, &quantity.units()).map_err(unwritable)?;
        }
        run(connection, STOCK, &mut stock).await
    }

    /// What the events say of ERPs; of what is said twice, the last.
    async fn write_erp(&self, connection: &mut SqliteConnection) -> Result<(), PortError> {
        let mut rows = Rows::default();
        for event in &self.fresh {
            let Body::ErpFollowed(change) = &event.body else { continue };
            for entry in &change.entries {
                let value = serde_json::to_string(entry).map_err(unwritable)?;
                let columns = (&change.source, entry.key(), value);
                rows.push(&[event.tenant.as_bytes()], &columns).map_err(unwritable)?;
            }
        }
        run(connection, ERP, &mut rows).await
    }

    async fn write_marks(&self, connection: &mut SqliteConnection) -> Result<(), PortError> {
        let mut rows = Rows::default();
        for (tenant, mark) in &self.marks {
            rows.push(&[tenant.as_bytes()], &(mark.sequence, mark.last_at)).map_err(unwritable)?;
        }
        run(connection, APPLIED, &mut rows).await?;
        for (tenant, sequence) in &self.lost {
            let insert = sqlx::query(HOLE).bind(tenant.0).bind(signed(*sequence));
            insert.execute(&mut *connection).await.map_err(port_error)?;
        }
        for (tenant, sequence) in &self.filled {
            let delete = sqlx::query("DELETE FROM holes WHERE tenant_id = $1 AND sequence = $2");
            let delete = delete.bind(tenant.0).bind(signed(*sequence));
            delete.execute(&mut *connection).await.map_err(port_error)?;
        }
        Ok(())
    }
}

fn push_locations(rows: &mut Rows, tenant: TenantId, locations: &[Location]) -> Result<(), PortError> {
    for place in locations {
        let columns =
            (&place.code, &place.name, place.kind.as_str(), place.is_default as u8, place.active as u8);
        rows.push(&[tenant.as_bytes(), place.id.as_bytes()], &columns).map_err(unwritable)?;
    }
    Ok(())
}

fn push_sale(
    rows: &mut Rows,
    event: &Event,
    sale: &Sale,
    keyed: Option<&(IdempotencyKey, Fingerprint)>,
) -> Result<(), serde_json::Error> {
    let print = keyed.map_or([0; 16], |(_, fingerprint)| fingerprint.0);
    let ids = [event.tenant.as_bytes().as_slice(), sale.id.as_bytes(), sale.location.as_bytes(), &print];
    let columns = (
        event.sequence,
        event.at.micros(),
        sale.total.units(),
        sale.payment.as_str(),
        &event.user,
        &event.request_id,
        keyed.map(|(key, _)| key.hash(event.tenant).indexed()),
        keyed.map(|(key, _)| key.as_str()),
    );
    rows.push(&ids, &columns)
}

/// Where the chains of these places stand.
async fn read_stock(
    connection: &mut SqliteConnection,
    places: &[(TenantId, Place)],
) -> Result<HashMap<TenantId, Chains>, PortError> {
    let mut keys = Rows::default();
    for (tenant, (unit, location)) in places {
        keys.push(&[tenant.as_bytes(), unit.as_bytes(), location.as_bytes()], &0_u8).map_err(unwritable)?;
    }
    let (json, blob) = keys.take();
    let query = sqlx::query(STOCK_BEFORE).bind(json).bind(blob);
    let mut chains: HashMap<TenantId, Chains> = HashMap::new();
    let row = query.fetch_one(connection).await.map_err(port_error)?;
    let found: Vec<(usize, i64)> =
        serde_json::from_str(row.try_get(0).map_err(port_error)?).map_err(unwritable)?;
    for (index, units) in found {
        let (Some((tenant, place)), Some(quantity)) = (places.get(index), Quantity::from_units(units)) else {
            return Err(PortError::Permanent("the stock table holds a quantity out of bounds".into()));
        };
        chains.entry(*tenant).or_default().start_at(*place, quantity);
    }
    Ok(chains)
}

/// Runs a statement over its rows; no rows, no statement.
async fn run(connection: &mut SqliteConnection, sql: &'static str, rows: &mut Rows) -> Result<(), PortError> {
    if rows.is_empty() {
        return Ok(());
    }
    let (json, blob) = rows.take();
    sqlx::query(sql).bind(json).bind(blob).execute(connection).await.map(|_| ()).map_err(port_error)
}

fn unwritable(error: serde_json::Error) -> PortError {
    PortError::Permanent(format!("a value cannot be written: {error}"))
}

fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

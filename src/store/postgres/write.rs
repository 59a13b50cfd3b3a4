//! The writing end: a batch of events becomes rows in one transaction, a few statements per tenant whatever its size.
//!
//! Two writers may be at work at once: one that was taken for dead and goes on, and the one that took over. What a
//! tenant's mark is can therefore only be known inside a transaction that holds the lock on it, and is forgotten with
//! it. Tenants are locked in the order of their ids, so that two writers never wait for each other in a circle.

use super::connect::{Server, WRITING, enter};
use super::error::{port_error, within};
use super::rows::{signed, text, write_catalogue, write_erp, write_movements, write_sales, write_voids};
use crate::domain::event::{Body, Event};
use crate::domain::ids::TenantId;
use crate::ports::PortError;
use crate::ports::ledger::{Applied, LedgerStore};
use crate::store::columns;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whatever the server's defaults are: a lock that was waited for must show what the one before it committed.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

const MARK: &str = "SELECT sequence, last_at FROM applied WHERE tenant_id = $1 FOR UPDATE";

const FIRST_MARK: &str = "INSERT INTO applied (tenant_id, sequence, last_at) VALUES ($1, 0, 0)
    ON CONFLICT (tenant_id) DO NOTHING";

const SET_MARK: &str = "UPDATE applied SET sequence = $2, last_at = $3 WHERE tenant_id = $1";

const HOLES_AMONG: &str = "SELECT sequence FROM holes WHERE tenant_id = $1 AND sequence = ANY($2)";

const FILL_HOLES: &str = "DELETE FROM holes WHERE tenant_id = $1 AND sequence = ANY($2)";

const LEAVE_HOLES: &str = "INSERT INTO holes (tenant_id, sequence, cause)
    SELECT $1, number, 'never arrived' FROM unnest($2::bigint[]) number ON CONFLICT DO NOTHING";

/// The writer; it belongs to the ledger writer actor.
pub struct Writer {
    server: Server,
    /// None after a failure: nobody knows what became of a commit whose answer was lost, nor of a statement that is
    /// still under way. The next call asks over a new connection.
    connection: Option<PgConnection>,
}

/// How far a tenant is applied.
#[derive(Clone, Copy)]
struct Mark {
    sequence: u64,
    last_at: i64,
}

impl Writer {
    /// Opens a connection of its own.
    pub async fn open(server: Server) -> Result<Self, PortError> {
        let connection = Some(server.connect(WRITING).await?);
        Ok(Self { server, connection })
    }

    /// Does work in a transaction on the connection, which is kept only if the work succeeds; dropped half-way it is
    /// not used again either.
    async fn transact<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<Outcome<T>, PortError>,
    ) -> Result<T, PortError> {
        let kept = self.connection.take();
        let server = &self.server;
        let done = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => server.connect(WRITING).await.map_err(passing)?,
            };
            let mut transaction = connection.begin_with(BEGIN).await.map_err(port_error)?;
            let Outcome { changed, value } = work(&mut transaction).await?;
            let ended = if changed { transaction.commit().await } else { transaction.rollback().await };
            ended.map_err(port_error)?;
            Ok((connection, value))
        };
        let (connection, value) = within(server.limit(), "writing to the ledger", done).await?;
        self.connection = Some(connection);
        Ok(value)
    }
}

/// What a transaction came to, and whether there is anything to commit.
struct Outcome<T> {
    changed: bool,
    value: T,
}

/// No event is to blame that the server cannot be reached, whatever the reason.
fn passing(error: PortError) -> PortError {
    PortError::Transient(error.to_string())
}

impl LedgerStore for Writer {
    fn apply<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<Applied, PortError>> {
        async move {
            if batch.is_empty() {
                return Ok(Applied::default());
            }
            self.transact(async |transaction| {
                let mut applied = Applied::default();
                for (tenant, events) in by_tenant(batch) {
                    apply_tenant(transaction, tenant, &events, &mut applied).await?;
                }
                Ok(Outcome { changed: applied.events > 0, value: applied })
            })
            .await
        }
        .boxed()
    }

    fn give_up<'a>(&'a mut self, event: &'a Event, cause: &'a str) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            let (tenant, sequence, json) = (event.tenant, event.sequence, columns::json(event)?);
            self.transact(async |transaction| {
                let mark = lock(transaction, tenant).await?;
                let is_late = sequence <= mark.sequence;
                let query = sqlx::query(if is_late { columns::GIVE_UP_LATE } else { columns::GIVE_UP });
                let query = query.bind(tenant.0).bind(signed(sequence)).bind(text(cause));
                let query = query.bind(event.body.kind().as_str()).bind(&json);
                let written = query.execute(&mut *transaction).await.map_err(port_error)?;
                if is_late {
                    return Ok(Outcome { changed: written.rows_affected() > 0, value: () });
                }
                let lost: Vec<i64> = (mark.sequence + 1..sequence).map(signed).collect();
                change_holes(transaction, tenant, LEAVE_HOLES, lost).await?;
                set_mark(transaction, tenant, Mark { sequence, ..mark }).await?;
                Ok(Outcome { changed: true, value: () })
            })
            .await
        }
        .boxed()
    }
}

/// Each tenant's events in their order, tenants in the order in which they are locked.
fn by_tenant(batch: &[Arc<Event>]) -> BTreeMap<TenantId, Vec<&Event>> {
    let mut tenants: BTreeMap<TenantId, Vec<&Event>> = BTreeMap::new();
    for event in batch {
        tenants.entry(event.tenant).or_default().push(event);
    }
    tenants
}

async fn apply_tenant(
    transaction: &mut PgConnection,
    tenant: TenantId,
    events: &[&Event],
    applied: &mut Applied,
) -> Result<(), PortError> {
    let mark = lock(transaction, tenant).await?;
    let holes = holes_among(transaction, tenant, events, mark).await?;
    let plan = Plan::new(mark, holes, events);
    applied.duplicates += events.len() - plan.fresh.len();
    if plan.fresh.is_empty() {
        return Ok(());
    }
    applied.events += plan.fresh.len();
    let is_sale = |event: &&&Event| matches!(event.body, Body::SaleCreated { .. });
    applied.sales += plan.fresh.iter().filter(is_sale).count();
    write_catalogue(transaction, tenant, &plan.fresh).await?;
    write_sales(transaction, tenant, &plan.fresh).await?;
    write_voids(transaction, tenant, &plan.fresh).await?;
    write_movements(transaction, tenant, &plan.fresh).await?;
    write_erp(transaction, tenant, &plan.fresh).await?;
    change_holes(transaction, tenant, LEAVE_HOLES, plan.lost).await?;
    change_holes(transaction, tenant, FILL_HOLES, plan.filled).await?;
    set_mark(transaction, tenant, plan.mark).await
}

/// What of a tenant's events is new.
struct Plan<'a> {
    fresh: Vec<&'a Event>,
    /// The mark after them.
    mark: Mark,
    /// Numbers that were jumped over: they never arrived.
    lost: Vec<i64>,
    /// Holes that are filled now (a dead letter that was replayed).
    filled: Vec<i64>,
}

impl<'a> Plan<'a> {
    fn new(mark: Mark, holes: BTreeSet<u64>, events: &[&'a Event]) -> Self {
        let mut plan =
            Self { fresh: Vec::with_capacity(events.len()), mark, lost: Vec::new(), filled: Vec::new() };
        let (mut known, mut jumped) = (holes, BTreeSet::new());
        for event in events {
            let sequence = event.sequence;
            if sequence > plan.mark.sequence {
                jumped.extend(plan.mark.sequence + 1..sequence);
                plan.mark.sequence = sequence;
                plan.mark.last_at = plan.mark.last_at.max(event.at.micros());
            } else if known.remove(&sequence) {
                plan.filled.push(signed(sequence));
            } else if !jumped.remove(&sequence) {
                continue;
            }
            plan.fresh.push(event);
        }
        plan.lost = jumped.into_iter().map(signed).collect();
        plan
    }
}

/// Takes the tenant for this transaction and says how far it is applied.
async fn lock(transaction: &mut PgConnection, tenant: TenantId) -> Result<Mark, PortError> {
    enter(transaction, tenant).await?;
    let mark = || sqlx::query(MARK).bind(tenant.0);
    let row = match mark().fetch_optional(&mut *transaction).await.map_err(port_error)? {
        Some(row) => row,
        None => {
            let insert = sqlx::query(FIRST_MARK).bind(tenant.0);
            insert.execute(&mut *transaction).await.map_err(port_error)?;
            mark().fetch_one(transaction).await.map_err(port_error)?
        }
    };
    let sequence: i64 = row.try_get(0).map_err(port_error)?;
    Ok(Mark { sequence: sequence.unsigned_abs(), last_at: row.try_get(1).map_err(port_error)? })
}

/// Which of the events' numbers were given up before. A statement of its own: only one that begins after the lock was
/// granted sees what the writer before committed.
async fn holes_among(
    transaction: &mut PgConnection,
    tenant: TenantId,
    events: &[&Event],
    mark: Mark,
) -> Result<BTreeSet<u64>, PortError> {
    let old = events.iter().filter(|event| event.sequence <= mark.sequence);
    let old: Vec<i64> = old.map(|event| signed(event.sequence)).collect();
    if old.is_empty() {
        return Ok(BTreeSet::new());
    }
    let query = sqlx::query_scalar(HOLES_AMONG).bind(tenant.0).bind(old);
    let found: Vec<i64> = query.fetch_all(transaction).await.map_err(port_error)?;
    Ok(found.into_iter().map(i64::unsigned_abs).collect())
}

async fn change_holes(
    transaction: &mut PgConnection,
    tenant: TenantId,
    sql: &'static str,
    numbers: Vec<i64>,
) -> Result<(), PortError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(sql).bind(tenant.0).bind(numbers);
    query.execute(transaction).await.map(|_| ()).map_err(port_error)
}

async fn set_mark(transaction: &mut PgConnection, tenant: TenantId, mark: Mark) -> Result<(), PortError> {
    let query = sqlx::query(SET_MARK).bind(tenant.0).bind(signed(mark.sequence)).bind(mark.last_at);
    query.execute(transaction).await.map(|_| ()).map_err(port_error)
}

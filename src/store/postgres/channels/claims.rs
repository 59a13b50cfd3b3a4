//! Who looks after what, and credentials that are good for one use.
//!
//! A claim lasts for [`LEASE`] after it was last extended, by the server's clock. While fresh credentials are asked for
//! it lasts as long as that may take, so that whoever waits for it finds either the fresh ones at rest or nobody who
//! still asks.

use super::{COLUMNS, Channels, commit, read_connection, run};
use crate::domain::channel::Connection;
use crate::domain::ids::{ConnectionId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::{Sealed, Stored};
use crate::ports::leases::Leases;
use crate::store::postgres::error::port_error;
use sqlx::{Postgres, Transaction};
use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How long a claim lasts without being extended, in microseconds. Longer than the silence after which a node counts as
/// gone: whoever has the shard by then waits a moment more.
const LEASE: i64 = 5_000_000;

impl Leases for Channels {
    fn is_shared(&self) -> bool {
        true
    }

    fn claim<'a>(&'a self, wanted: &'a [(TenantId, Uuid)]) -> Stored<'a, Vec<Uuid>> {
        self.within(async move {
            if wanted.is_empty() {
                return Ok(Vec::new());
            }
            let Columns { tenants, ids } = Columns::of(wanted.iter().copied());
            let query = sqlx::query_as("SELECT taken, since FROM claim_leases($1, $2, $3, $4)")
                .bind(self.me)
                .bind(tenants)
                .bind(ids)
                .bind(LEASE);
            let taken: Vec<(Uuid, i64)> = query.fetch_all(&self.pool).await.map_err(port_error)?;
            let generations: HashMap<Uuid, i64> = taken.into_iter().collect();
            let claimed = wanted.iter().filter_map(|(tenant, id)| {
                Some((*id, Claim { tenant: *tenant, generation: *generations.get(id)? }))
            });
            self.claims().extend(claimed);
            Ok(generations.into_keys().collect())
        })
    }

    fn hold<'a>(&'a self, held: &'a [(TenantId, Uuid)]) -> Stored<'a, Vec<Uuid>> {
        self.within(async move {
            if held.is_empty() {
                return Ok(Vec::new());
            }
            let Columns { tenants, ids } = Columns::of(held.iter().copied());
            let query = sqlx::query_scalar("SELECT hold_leases($1, $2, $3, $4, $5)")
                .bind(self.me)
                .bind(tenants)
                .bind(&ids)
                .bind(self.generations(&ids))
                .bind(LEASE);
            let still: Vec<Uuid> = query.fetch_all(&self.pool).await.map_err(port_error)?;
            let still: HashSet<Uuid> = still.into_iter().collect();
            Ok(ids.into_iter().filter(|id| !still.contains(id)).collect())
        })
    }

    fn release<'a>(&'a self, held: &'a [(TenantId, Uuid)]) -> Stored<'a, ()> {
        self.within(async move {
            let Columns { tenants, ids } = Columns::of(held.iter().copied());
            let generations = self.generations(&ids);
            self.claims().retain(|id, _| !ids.contains(id));
            if ids.is_empty() {
                return Ok(());
            }
            let query = sqlx::query("SELECT release_leases($1, $2, $3, $4)")
                .bind(self.me)
                .bind(tenants)
                .bind(ids)
                .bind(generations);
            query.execute(&self.pool).await.map(drop).map_err(port_error)
        })
    }
}

/// A claim that this process was given, and which one it was.
pub(super) struct Claim {
    tenant: TenantId,
    generation: i64,
}

/// What a function takes for many: in the same order wherever many are taken, so that two processes never wait for each
/// other.
struct Columns {
    tenants: Vec<Uuid>,
    ids: Vec<Uuid>,
}

impl Columns {
    fn of(many: impl Iterator<Item = (TenantId, Uuid)>) -> Self {
        let mut many: Vec<_> = many.collect();
        many.sort_unstable();
        let (tenants, ids) = many.into_iter().map(|(tenant, id)| (tenant.0, id)).unzip();
        Self { tenants, ids }
    }
}

impl Channels {
    fn claims(&self) -> MutexGuard<'_, HashMap<Uuid, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which claims they were; none that there could be where there is none.
    fn generations(&self, ids: &[Uuid]) -> Vec<i64> {
        let claims = self.claims();
        ids.iter().map(|id| claims.get(id).map_or(0, |claim| claim.generation)).collect()
    }

    /// A transaction that sees one tenant, of whoever has the claim: nobody else gets it before this has ended, and it
    /// lasts for a while more.
    pub(super) async fn begin_as_holder(
        &self,
        tenant: TenantId,
        id: Uuid,
    ) -> Result<Transaction<'static, Postgres>, PortError> {
        self.begin_holding(tenant, id, LEASE).await
    }

    async fn begin_holding(
        &self,
        tenant: TenantId,
        id: Uuid,
        lasting: i64,
    ) -> Result<Transaction<'static, Postgres>, PortError> {
        let generation = self.generations(&[id])[0];
        let sql = "UPDATE leases SET until = greatest(until, micros_now() + $5)
                   WHERE tenant_id = $1 AND id = $2 AND holder = $3 AND generation = $4";
        let mut transaction = self.begin(tenant).await?;
        let query = sqlx::query(sql).bind(tenant.0).bind(id).bind(self.me).bind(generation).bind(lasting);
        if run(&mut transaction, query).await? == 0 {
            // Passing: whoever asks is about to be ended, or gets the claim again.
            return Err(PortError::Transient(format!("another process looks after {id} now")));
        }
        Ok(transaction)
    }

    pub(super) async fn one_connection(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
    ) -> Result<Option<(Connection, Sealed)>, PortError> {
        let mut transaction = self.begin(tenant).await?;
        let found = read_one(&mut transaction, tenant, connection).await?;
        commit(transaction).await?;
        Ok(found)
    }

    pub(super) async fn begin_renewal(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &Sealed,
        patience: Duration,
    ) -> Result<Option<Sealed>, PortError> {
        let lasting = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX).max(LEASE);
        let mut transaction = self.begin_holding(tenant, connection.0, lasting).await?;
        let found = read_one(&mut transaction, tenant, connection).await?;
        let newer = found.map(|(_, sealed)| sealed).filter(|sealed| sealed != from);
        match newer {
            // Nobody asks for anything: the claim is as it was.
            Some(_) => transaction.rollback().await.map_err(port_error)?,
            None => commit(transaction).await?,
        }
        Ok(newer)
    }

    pub(super) async fn end_renewal(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &Sealed,
        fresh: &Sealed,
    ) -> Result<bool, PortError> {
        let sql = "UPDATE connections SET key_id = $3, credentials = $4
                   WHERE tenant_id = $1 AND id = $2 AND key_id = $5 AND credentials = $6";
        let mut transaction = self.begin(tenant).await?;
        let query = sqlx::query(sql)
            .bind(tenant.0)
            .bind(connection.0)
            .bind(&fresh.key_id)
            .bind(&fresh.bytes)
            .bind(&from.key_id)
            .bind(&from.bytes);
        let kept = run(&mut transaction, query).await? > 0;
        // Others need not wait any longer than for anything else.
        let sql = "UPDATE leases SET until = least(until, micros_now() + $4)
                   WHERE tenant_id = $1 AND id = $2 AND holder = $3";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(self.me).bind(LEASE);
        run(&mut transaction, query).await?;
        commit(transaction).await?;
        Ok(kept)
    }

    /// Forgets a connection or a webhook, by this statement, and the claim on it.
    pub(super) async fn forget_with_claim(
        &self,
        sql: &'static str,
        tenant: TenantId,
        id: Uuid,
    ) -> Result<(), PortError> {
        let mut transaction = self.begin(tenant).await?;
        for sql in [sql, "DELETE FROM leases WHERE tenant_id = $1 AND id = $2"] {
            run(&mut transaction, sqlx::query(sql).bind(tenant.0).bind(id)).await?;
        }
        commit(transaction).await?;
        self.claims().remove(&id);
        Ok(())
    }

    /// Lets go what this process has: nobody has to wait until its claims are over.
    pub async fn release_all(&self) -> Result<(), PortError> {
        let held: Vec<_> = self.claims().iter().map(|(id, claim)| (claim.tenant, *id)).collect();
        self.release(&held).await
    }
}

async fn read_one(
    transaction: &mut Transaction<'static, Postgres>,
    tenant: TenantId,
    connection: ConnectionId,
) -> Result<Option<(Connection, Sealed)>, PortError> {
    let sql = format!("SELECT {COLUMNS} FROM connections WHERE tenant_id = $1 AND id = $2");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(tenant.0).bind(connection.0);
    let row = query.fetch_optional(&mut **transaction).await.map_err(port_error)?;
    row.as_ref().map(read_connection).transpose()
}

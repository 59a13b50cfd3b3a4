//! The reading end of one consumer group.

use super::tail::Window;
use super::{Shared, number, read_event, segment};
use crate::domain::event::Event;
use crate::domain::ids::TenantId;
use crate::ports::PortError;
use crate::ports::bus::{Delivery, EventFeed, Rejection};
use crate::sqlite::port_error;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Where a group stands.
pub struct Feed {
    shared: Arc<Shared>,
    group: &'static str,
    connection: SqliteConnection,
    durable: watch::Receiver<u64>,
    given_back: watch::Receiver<u64>,
    /// Everything up to here was handed out.
    cursor: u64,
    /// Handed out and neither done nor rejected.
    outstanding: BTreeSet<u64>,
    /// Tenants with an event that waits for another try: their later events wait behind it.
    parked: HashSet<TenantId>,
    /// Given up, but behind the position that was written down: they are not tried again.
    buried: HashSet<u64>,
}

impl Feed {
    /// Continues where the group confirmed last; what was handed out and not confirmed comes again.
    pub async fn open(shared: Arc<Shared>, group: &'static str) -> Result<Self, PortError> {
        let mut connection = shared.connect().await?;
        let given_back = shared.given_back.subscribe();
        let parked = parked(&mut connection, group).await?;
        let cursor = shared.join(group, &mut connection).await?;
        let durable = shared.durable.subscribe();
        let sql = "SELECT position FROM dead_letters WHERE consumer_group = $1 AND position > $2";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(group).bind(number(cursor));
        let buried = query.fetch_all(&mut connection).await.map_err(port_error)?;
        let buried = buried.into_iter().map(i64::unsigned_abs).collect();
        let outstanding = BTreeSet::new();
        Ok(Self { shared, group, connection, durable, given_back, cursor, outstanding, parked, buried })
    }

    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, PortError> {
        loop {
            if self.given_back.has_changed().is_ok_and(|changed| changed) {
                self.given_back.mark_unchanged();
                self.parked = parked(&mut self.connection, self.group).await?;
            }
            let due = self.due_retries(max).await?;
            if !due.is_empty() {
                return Ok(due);
            }
            let fresh = self.fresh(max).await?;
            if let Some((last, _)) = fresh.last() {
                let last = *last;
                let (waiting, free): (Vec<_>, Vec<_>) = fresh
                    .into_iter()
                    .filter(|(position, _)| !self.buried.remove(position))
                    .partition(|(_, event)| self.parked.contains(&event.tenant));
                self.park_behind(&waiting).await?;
                self.cursor = last;
                self.outstanding.extend(free.iter().map(|(position, _)| *position));
                self.confirm();
                if free.is_empty() {
                    continue;
                }
                let delivery = |(position, event)| Delivery { position, attempt: 0, event };
                return Ok(free.into_iter().map(delivery).collect());
            }
            self.wait().await?;
        }
    }

    async fn fresh(&mut self, max: usize) -> Result<Vec<(u64, Arc<Event>)>, PortError> {
        // Before anything is asked: what becomes durable meanwhile wakes whoever waits.
        self.durable.mark_unchanged();
        loop {
            let oldest = match self.shared.tail().after(self.cursor, max) {
                Window::Next(events) => return Ok(events),
                Window::Older { oldest } => oldest,
            };
            let events = segment::events_behind(&mut self.connection, self.cursor, max).await?;
            if !events.is_empty() {
                return Ok(events);
            }
            // Nothing of what the tail no longer has is on file: the positions in between were lost and reported when
            // the journal was opened.
            self.cursor = self.cursor.max(oldest - 1);
            self.confirm();
        }
    }

    /// Failed events whose time has come; of a tenant none overtakes an older one that still waits.
    async fn due_retries(&mut self, max: usize) -> Result<Vec<Delivery>, PortError> {
        if self.parked.is_empty() {
            return Ok(Vec::new());
        }
        let sql = "SELECT position, kind, payload, attempt FROM retries r
                   WHERE consumer_group = $1 AND due_at <= $2 AND NOT EXISTS (
                       SELECT 1 FROM retries older WHERE older.consumer_group = r.consumer_group
                       AND older.tenant_id = r.tenant_id AND older.position < r.position AND older.due_at > $2)
                   ORDER BY position LIMIT $3";
        let now = self.shared.clock.now().micros();
        let query = sqlx::query(sql).bind(self.group).bind(now).bind(number(max as u64));
        let rows = query.fetch_all(&mut self.connection).await.map_err(port_error)?;
        let delivery = |row| {
            let (position, event) = read_event(row)?;
            let attempt: i64 = row.try_get(3).map_err(port_error)?;
            Ok(Delivery { position, attempt: u32::try_from(attempt).unwrap_or(u32::MAX), event })
        };
        rows.iter().map(delivery).collect()
    }

    /// Waits for a new event, or for the next retry to be due.
    async fn wait(&mut self) -> Result<(), PortError> {
        let mut next_retry = None;
        if !self.parked.is_empty() {
            let sql = "SELECT min(due_at) FROM retries WHERE consumer_group = $1";
            let due: Option<i64> = sqlx::query_scalar(sql)
                .bind(self.group)
                .fetch_one(&mut self.connection)
                .await
                .map_err(port_error)?;
            // The clock may be set by hand meanwhile, so it is asked again at least every second.
            let micros =
                due.map(|due| due.saturating_sub(self.shared.clock.now().micros()).clamp(1_000, 1_000_000));
            next_retry = micros.map(|micros| Duration::from_micros(micros.unsigned_abs()));
        }
        // The caller looks at what was given back, so that it stays unseen here.
        let mut given_back = self.given_back.clone();
        let changed = async {
            tokio::select! {
                changed = self.durable.changed() => changed,
                changed = given_back.changed() => changed,
            }
        };
        match next_retry {
            None => changed.await.map_err(|_| PortError::Transient("the journal is closed".into()))?,
            // Whether something came or the time is up, the caller looks again.
            Some(wait) => {
                if let Ok(Err(_)) = tokio::time::timeout(wait, changed).await {
                    return Err(PortError::Transient("the journal is closed".into()));
                }
            }
        }
        Ok(())
    }

    async fn park_behind(&mut self, waiting: &[(u64, Arc<Event>)]) -> Result<(), PortError> {
        let now = self.shared.clock.now().micros();
        for (position, event) in waiting {
            // Due at once: what holds it back is the older event of its tenant. One that is parked already (it is
            // handed out again after a crash) keeps its schedule.
            let cause = "waits behind an older event of its tenant";
            self.park(*position, event, 0, now, cause).await?;
        }
        Ok(())
    }

    async fn park(
        &mut self,
        position: u64,
        event: &Event,
        failures: u32,
        due_at: i64,
        cause: &str,
    ) -> Result<(), PortError> {
        let mut payload = Vec::new();
        event.encode(&mut payload).map_err(|error| PortError::Permanent(error.to_string()))?;
        sqlx::query(
            "INSERT INTO retries (consumer_group, position, tenant_id, attempt, due_at, first_at, last_error, kind, payload)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (consumer_group, position) DO UPDATE
             SET attempt = excluded.attempt, due_at = excluded.due_at, last_error = excluded.last_error
             WHERE excluded.attempt > 0",
        )
        .bind(self.group)
        .bind(number(position))
        .bind(event.tenant.0)
        .bind(i64::from(failures))
        .bind(due_at)
        .bind(self.shared.clock.now().micros())
        .bind(cause)
        .bind(event.body.kind().as_str())
        .bind(payload)
        .execute(&mut self.connection)
        .await
        .map_err(port_error)?;
        self.parked.insert(event.tenant);
        Ok(())
    }

    async fn bury(&mut self, delivery: &Delivery, failures: u32, cause: &str) -> Result<(), PortError> {
        let mut payload = Vec::new();
        delivery.event.encode(&mut payload).map_err(|error| PortError::Permanent(error.to_string()))?;
        let now = self.shared.clock.now().micros();
        sqlx::query(
            "INSERT INTO dead_letters
                 (consumer_group, position, tenant_id, attempts, first_at, last_at, cause, kind, payload)
             VALUES ($1, $2, $3, $4,
                 coalesce((SELECT first_at FROM retries WHERE consumer_group = $1 AND position = $2), $5), $5, $6, $7, $8)
             ON CONFLICT (consumer_group, position) DO UPDATE
             SET attempts = excluded.attempts, last_at = excluded.last_at, cause = excluded.cause",
        )
        .bind(self.group)
        .bind(number(delivery.position))
        .bind(delivery.event.tenant.0)
        .bind(i64::from(failures))
        .bind(now)
        .bind(cause)
        .bind(delivery.event.body.kind().as_str())
        .bind(payload)
        .execute(&mut self.connection)
        .await
        .map_err(port_error)?;
        self.unpark(delivery.position, delivery.event.tenant).await
    }

    async fn unpark(&mut self, position: u64, tenant: TenantId) -> Result<(), PortError> {
        let delete = sqlx::query("DELETE FROM retries WHERE consumer_group = $1 AND position = $2");
        let delete = delete.bind(self.group).bind(number(position));
        delete.execute(&mut self.connection).await.map_err(port_error)?;
        let sql = "SELECT count(*) FROM retries WHERE consumer_group = $1 AND tenant_id = $2";
        let left: i64 = sqlx::query_scalar(sql)
            .bind(self.group)
            .bind(tenant.0)
            .fetch_one(&mut self.connection)
            .await
            .map_err(port_error)?;
        if left == 0 {
            self.parked.remove(&tenant);
        }
        Ok(())
    }

    /// Confirms everything below the oldest delivery still in work.
    fn confirm(&self) {
        let position = self.outstanding.first().map_or(self.cursor, |oldest| oldest - 1);
        self.shared.confirm(self.group, position);
    }
}

/// The tenants of a group with an event that waits for another try.
async fn parked(
    connection: &mut SqliteConnection,
    group: &'static str,
) -> Result<HashSet<TenantId>, PortError> {
    let sql = "SELECT DISTINCT tenant_id FROM retries WHERE consumer_group = $1";
    let rows = sqlx::query(sql).bind(group).fetch_all(connection).await.map_err(port_error)?;
    Ok(rows.iter().filter_map(|row| row.try_get::<uuid::Uuid, _>(0).ok()).map(TenantId).collect())
}

impl EventFeed for Feed {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        self.next_batch(max).boxed()
    }

    fn has_more(&self) -> bool {
        self.shared.last() > self.cursor
    }

    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            for delivery in deliveries {
                if !self.outstanding.remove(&delivery.position) {
                    self.unpark(delivery.position, delivery.event.tenant).await?;
                }
            }
            self.confirm();
            Ok(())
        }
        .boxed()
    }

    fn gives_up(&self, delivery: &Delivery) -> bool {
        self.shared.settings.retries.is_over_after(delivery.attempt + 1)
    }

    fn reject<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        cause: &'a str,
    ) -> BoxFuture<'a, Result<Rejection, PortError>> {
        async move {
            let failures = delivery.attempt + 1;
            let dice = uuid::Uuid::now_v7().as_u64_pair().1;
            let rejection = match self.shared.settings.retries.wait_after(failures, dice) {
                Some(wait) => {
                    let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
                    let due_at = self.shared.clock.now().micros().saturating_add(wait);
                    self.park(delivery.position, &delivery.event, failures, due_at, cause).await?;
                    Rejection::Retry
                }
                None => {
                    self.bury(delivery, failures, cause).await?;
                    Rejection::DeadLettered
                }
            };
            self.outstanding.remove(&delivery.position);
            self.confirm();
            Ok(rejection)
        }
        .boxed()
    }

    fn postpone<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            let waiting: Vec<_> =
                deliveries.iter().map(|delivery| (delivery.position, delivery.event.clone())).collect();
            self.park_behind(&waiting).await?;
            for (position, _) in &waiting {
                self.outstanding.remove(position);
            }
            self.confirm();
            Ok(())
        }
        .boxed()
    }
}

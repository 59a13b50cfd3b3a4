//! What was given up: pushes, and news.

use super::{Channels, commit, counted, many, moment, run, small};
use crate::domain::dead_letter::{DeadLetter, LetterId, Matter};
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::ports::PortError;
use crate::ports::channel::{Failure, GivenUp};
use crate::store::postgres::error::port_error;
use crate::store::postgres::read::get;
use crate::store::postgres::rows::text;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

/// Both kinds of letters alike, the oldest first.
const LETTERS: &str = "
    SELECT l.connection_id, l.tenant_id, c.kind, l.unit_id, ''::text, ''::text, l.code, l.cause,
        convert_to(l.request, 'UTF8'), l.response, l.attempts, l.at
    FROM all_failures($1) l JOIN all_connections() c ON c.id = l.connection_id
    UNION ALL
    SELECT l.connection_id, l.tenant_id, c.kind, NULL, l.id, l.topic, l.code, l.cause, l.body, l.response, 1, l.at
    FROM all_given_up($1) l JOIN all_connections() c ON c.id = l.connection_id
    ORDER BY 12, 1 LIMIT $1";

impl Channels {
    pub(super) async fn all_letters(&self, most: usize) -> Result<Vec<DeadLetter>, PortError> {
        let rows = sqlx::query(LETTERS).bind(many(most)).fetch_all(&self.pool).await.map_err(port_error)?;
        rows.iter().map(letter).collect()
    }

    /// What one of the counting functions says.
    pub(super) async fn count(&self, sql: &'static str) -> Result<usize, PortError> {
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.map_err(port_error)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    pub(super) async fn keep_failures(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        failures: &[Failure],
    ) -> Result<(), PortError> {
        let sql = "INSERT INTO failures (tenant_id, connection_id, unit_id, code, cause, request, response, attempts, at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                   ON CONFLICT (tenant_id, connection_id, unit_id) DO UPDATE SET code = excluded.code,
                       cause = excluded.cause, request = excluded.request, response = excluded.response,
                       attempts = excluded.attempts, at = excluded.at";
        let mut transaction = self.begin_as_holder(tenant, connection.0).await?;
        for Failure { unit, code, cause, request, response, attempts, at } in failures {
            let query = sqlx::query(sql)
                .bind(tenant.0)
                .bind(connection.0)
                .bind(unit.0)
                .bind(text(code))
                .bind(text(cause))
                .bind(text(request))
                .bind(text(response))
                .bind(i64::from(*attempts))
                .bind(at.micros());
            run(&mut transaction, query).await?;
        }
        commit(transaction).await
    }

    pub(super) async fn failures_of(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Result<Vec<Failure>, PortError> {
        let sql = "SELECT unit_id, code, cause, request, response, attempts, at FROM failures
                   WHERE tenant_id = $1 AND connection_id = $2 ORDER BY at DESC, unit_id LIMIT $3";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(many(limit));
        let mut transaction = self.begin(tenant).await?;
        let rows = query.fetch_all(&mut *transaction).await.map_err(port_error)?;
        commit(transaction).await?;
        let failure = |row| {
            Ok(Failure {
                unit: UnitId(get(row, 0)?),
                code: get(row, 1)?,
                cause: get(row, 2)?,
                request: get(row, 3)?,
                response: get(row, 4)?,
                attempts: small(row, 5)?,
                at: moment(row, 6)?,
            })
        };
        rows.iter().map(failure).collect()
    }

    pub(super) async fn forget_failures(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        units: &[UnitId],
    ) -> Result<usize, PortError> {
        let units: Vec<Uuid> = units.iter().map(|unit| unit.0).collect();
        let sql = "DELETE FROM failures WHERE tenant_id = $1 AND connection_id = $2 AND unit_id = ANY($3)";
        let mut transaction = self.begin(tenant).await?;
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(units);
        let gone = run(&mut transaction, query).await?;
        commit(transaction).await?;
        Ok(counted(gone))
    }

    pub(super) async fn news_given_up(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Result<Vec<GivenUp>, PortError> {
        let sql = "SELECT id, topic, order_id, code, cause, response, at FROM given_up
                   WHERE tenant_id = $1 AND connection_id = $2 ORDER BY at DESC, id LIMIT $3";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(many(limit));
        let mut transaction = self.begin(tenant).await?;
        let rows = query.fetch_all(&mut *transaction).await.map_err(port_error)?;
        commit(transaction).await?;
        let given_up = |row| {
            Ok(GivenUp {
                notice: get(row, 0)?,
                topic: get(row, 1)?,
                order: Some(get::<String>(row, 2)?).filter(|order| !order.is_empty()),
                code: get(row, 3)?,
                cause: get(row, 4)?,
                response: get(row, 5)?,
                at: moment(row, 6)?,
            })
        };
        rows.iter().map(given_up).collect()
    }

    /// In one step: it is given up or waits, never neither.
    pub(super) async fn revive_news(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: Option<&str>,
    ) -> Result<usize, PortError> {
        let statements = [
            "INSERT INTO notices (tenant_id, connection_id, id, topic, body, at)
             SELECT tenant_id, connection_id, id, topic, body, at FROM given_up
             WHERE tenant_id = $1 AND connection_id = $2 AND ($3::text IS NULL OR id = $3)
             ON CONFLICT (tenant_id, connection_id, id) DO UPDATE SET body = excluded.body",
            "DELETE FROM given_up WHERE tenant_id = $1 AND connection_id = $2 AND ($3::text IS NULL OR id = $3)",
        ];
        let notice = notice.map(|notice| text(notice).into_owned());
        let mut transaction = self.begin(tenant).await?;
        let mut revived = 0;
        for sql in statements {
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(notice.clone());
            revived = run(&mut transaction, query).await?;
        }
        commit(transaction).await?;
        Ok(counted(revived))
    }

    pub(super) async fn bury_news(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: &str,
    ) -> Result<bool, PortError> {
        let sql = "DELETE FROM given_up WHERE tenant_id = $1 AND connection_id = $2 AND id = $3";
        let mut transaction = self.begin(tenant).await?;
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(text(notice));
        let gone = run(&mut transaction, query).await?;
        commit(transaction).await?;
        Ok(gone > 0)
    }
}

/// Whatever else is known of its order now: what was given up about it before, in another notice, means nothing any more.
pub(super) async fn forget_order(
    transaction: &mut PgConnection,
    tenant: TenantId,
    connection: ConnectionId,
    order: &str,
    but: Option<&str>,
) -> Result<(), PortError> {
    let sql = "DELETE FROM given_up
               WHERE tenant_id = $1 AND connection_id = $2 AND order_id = $3 AND ($4::text IS NULL OR id <> $4)";
    let but = but.map(|but| text(but).into_owned());
    let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(text(order)).bind(but);
    run(transaction, query).await.map(|_| ())
}

/// While its notice still has a body; a notice that was taken up twice at once is given up by the first.
pub(super) async fn give_up(
    transaction: &mut PgConnection,
    tenant: TenantId,
    connection: ConnectionId,
    given_up: &GivenUp,
) -> Result<(), PortError> {
    let sql = "INSERT INTO given_up (tenant_id, connection_id, id, topic, body, order_id, code, cause, response, at)
               SELECT tenant_id, connection_id, id, topic, body, $4, $5, $6, $7, $8 FROM notices
               WHERE tenant_id = $1 AND connection_id = $2 AND id = $3 AND body IS NOT NULL
               ON CONFLICT (tenant_id, connection_id, id) DO UPDATE SET order_id = excluded.order_id,
                   code = excluded.code, cause = excluded.cause, response = excluded.response, at = excluded.at";
    let query = sqlx::query(sql)
        .bind(tenant.0)
        .bind(connection.0)
        .bind(text(&given_up.notice))
        .bind(text(given_up.order.as_deref().unwrap_or_default()))
        .bind(text(&given_up.code))
        .bind(text(&given_up.cause))
        .bind(text(&given_up.response))
        .bind(given_up.at.micros());
    run(transaction, query).await.map(|_| ())
}

fn letter(row: &PgRow) -> Result<DeadLetter, PortError> {
    let connection = ConnectionId(get(row, 0)?);
    let (id, matter, kind) = match get::<Option<Uuid>>(row, 3)? {
        Some(unit) => (LetterId::Push(connection, UnitId(unit)), Matter::Push, "stock".to_owned()),
        None => (LetterId::Notice(connection, get(row, 4)?), Matter::Notice, get(row, 5)?),
    };
    let at = moment(row, 11)?;
    Ok(DeadLetter {
        id: id.to_string(),
        matter,
        group: format!("queue.sync.{}", get::<&str>(row, 2)?),
        kind,
        tenant: TenantId(get(row, 1)?).to_string(),
        attempts: get::<i64>(row, 10)?.unsigned_abs(),
        first_at: at,
        last_at: at,
        cause: format!("{}: {}", get::<&str>(row, 6)?, get::<&str>(row, 7)?),
        payload: get(row, 8)?,
        response: get(row, 9)?,
    })
}

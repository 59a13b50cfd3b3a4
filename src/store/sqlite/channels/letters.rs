//! What was given up: pushes, and news.

use super::{Channels, get, many};
use crate::domain::dead_letter::{DeadLetter, LetterId, Matter};
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{Failure, GivenUp};
use crate::sqlite::port_error;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

/// Both kinds of letters alike, the oldest first.
const LETTERS: &str = "
    SELECT 'envio', l.connection_id, c.tenant_id, c.kind, l.unit_id, '', '', l.code, l.cause, CAST(l.request AS BLOB),
        l.response, l.attempts, l.at
    FROM failures l JOIN connections c ON c.tenant_id = l.tenant_id AND c.id = l.connection_id
    UNION ALL
    SELECT 'aviso', l.connection_id, c.tenant_id, c.kind, NULL, l.id, l.topic, l.code, l.cause, l.body,
        l.response, 1, l.at
    FROM given_up l JOIN connections c ON c.tenant_id = l.tenant_id AND c.id = l.connection_id
    ORDER BY 13, 2 LIMIT $1";

impl Channels {
    pub(super) async fn all_letters(&self, most: usize) -> Result<Vec<DeadLetter>, PortError> {
        let rows = sqlx::query(LETTERS).bind(many(most)).fetch_all(&self.pool).await.map_err(port_error)?;
        rows.iter().map(letter).collect()
    }

    pub(super) async fn count_letters(&self) -> Result<usize, PortError> {
        let sql = "SELECT (SELECT count(*) FROM failures) + (SELECT count(*) FROM given_up)";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.map_err(port_error)?;
        Ok(usize::try_from(count).unwrap_or_default())
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
        let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
        let failure = |row| {
            Ok(Failure {
                unit: UnitId(get(row, 0)?),
                code: get(row, 1)?,
                cause: get(row, 2)?,
                request: get(row, 3)?,
                response: get(row, 4)?,
                attempts: get(row, 5)?,
                at: Timestamp::from_micros(get(row, 6)?),
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
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
        let mut gone = 0;
        for unit in units {
            let sql = "DELETE FROM failures WHERE tenant_id = $1 AND connection_id = $2 AND unit_id = $3";
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(unit.0);
            gone += query.execute(&mut *transaction).await.map_err(port_error)?.rows_affected();
        }
        transaction.commit().await.map_err(port_error)?;
        Ok(usize::try_from(gone).unwrap_or(usize::MAX))
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
        let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
        let given_up = |row| {
            Ok(GivenUp {
                notice: get(row, 0)?,
                topic: get(row, 1)?,
                order: get::<Option<String>>(row, 2)?.filter(|order| !order.is_empty()),
                code: get(row, 3)?,
                cause: get(row, 4)?,
                response: get(row, 5)?,
                at: Timestamp::from_micros(get(row, 6)?),
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
             WHERE tenant_id = $1 AND connection_id = $2 AND ($3 IS NULL OR id = $3)
             ON CONFLICT (tenant_id, connection_id, id) DO UPDATE SET body = excluded.body",
            "DELETE FROM given_up WHERE tenant_id = $1 AND connection_id = $2 AND ($3 IS NULL OR id = $3)",
        ];
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
        let mut revived = 0;
        for sql in statements {
            let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(notice);
            revived = query.execute(&mut *transaction).await.map_err(port_error)?.rows_affected();
        }
        transaction.commit().await.map_err(port_error)?;
        Ok(usize::try_from(revived).unwrap_or(usize::MAX))
    }

    pub(super) async fn bury_news(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: &str,
    ) -> Result<bool, PortError> {
        let sql = "DELETE FROM given_up WHERE tenant_id = $1 AND connection_id = $2 AND id = $3";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(notice);
        Ok(query.execute(&self.pool).await.map_err(port_error)?.rows_affected() > 0)
    }
}

/// Whatever else is known of its order now: what was given up about it before, in another notice, means nothing any more.
pub(super) async fn forget_order(
    transaction: &mut SqliteConnection,
    tenant: TenantId,
    connection: ConnectionId,
    order: &str,
    but: Option<&str>,
) -> Result<(), PortError> {
    let sql = "DELETE FROM given_up
               WHERE tenant_id = $1 AND connection_id = $2 AND order_id = $3 AND ($4 IS NULL OR id <> $4)";
    let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(order).bind(but);
    query.execute(transaction).await.map(|_| ()).map_err(port_error)
}

/// While its notice still has a body; a notice that was taken up twice at once is given up by the first.
pub(super) async fn give_up(
    transaction: &mut SqliteConnection,
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
        .bind(&given_up.notice)
        .bind(given_up.order.as_deref().unwrap_or_default())
        .bind(&given_up.code)
        .bind(&given_up.cause)
        .bind(&given_up.response)
        .bind(given_up.at.micros());
    query.execute(transaction).await.map(|_| ()).map_err(port_error)
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, PortError> {
    let connection = ConnectionId(get(row, 1)?);
    let (id, matter, kind) = match get::<Option<Uuid>>(row, 4)? {
        Some(unit) => (LetterId::Push(connection, UnitId(unit)), Matter::Push, "stock".to_owned()),
        None => (LetterId::Notice(connection, get(row, 5)?), Matter::Notice, get(row, 6)?),
    };
    let at = Timestamp::from_micros(get(row, 12)?);
    Ok(DeadLetter {
        id: id.to_string(),
        matter,
        group: format!("queue.sync.{}", get::<&str>(row, 3)?),
        kind,
        tenant: TenantId(get(row, 2)?).to_string(),
        attempts: get::<i64>(row, 11)?.unsigned_abs(),
        first_at: at,
        last_at: at,
        cause: format!("{}: {}", get::<&str>(row, 7)?, get::<&str>(row, 8)?),
        payload: get(row, 9)?,
        response: get(row, 10)?,
    })
}

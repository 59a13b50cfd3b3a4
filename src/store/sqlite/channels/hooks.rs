//! Webhooks that go out, in the file of the channels.

use super::{Channels, get, many, unreadable, unwritable};
use crate::domain::dead_letter::{DeadLetter, LetterId, Matter};
use crate::domain::hook::{Hook, Message, News};
use crate::domain::ids::{HookId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{Sealed, Stored};
use crate::ports::hooks::{Attempt, Fate, HookStore, Logged, Waiting};
use crate::sqlite::port_error;
use futures_util::FutureExt as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::BTreeMap;

/// Messages that may wait for one receiver; more are counted as lost.
const MOST_WAITING: i64 = 100_000;

/// Messages that arrived and are kept for the log, each receiver.
const LOGGED: i64 = 1_000;

/// Somebody who may be told.
struct Receiver {
    hook: HookId,
    news: Vec<News>,
    /// What happened before is none of its business.
    since: i64,
    waiting: i64,
}

async fn receivers(transaction: &mut SqliteConnection, tenant: TenantId) -> Result<Vec<Receiver>, PortError> {
    let sql = "SELECT id, news, created_at, (SELECT count(*) FROM (SELECT 1 FROM hook_messages m
                   WHERE m.hook_id = hooks.id AND m.state = 'pendiente' LIMIT $2))
               FROM hooks WHERE tenant_id = $1";
    let query = sqlx::query(sql).bind(tenant.0).bind(MOST_WAITING);
    let rows = query.fetch_all(transaction).await.map_err(port_error)?;
    let receiver = |row| {
        let (hook, news) = (HookId(get(row, 0)?), read_news(get(row, 1)?)?);
        Ok(Receiver { hook, news, since: get(row, 2)?, waiting: get(row, 3)? })
    };
    rows.iter().map(receiver).collect()
}

fn read_news(text: &str) -> Result<Vec<News>, PortError> {
    serde_json::from_str(text).map_err(|_| unreadable("list of news"))
}

/// Within whatever else becomes true at the same time.
pub(super) async fn tell(
    transaction: &mut SqliteConnection,
    messages: &[Message],
) -> Result<usize, PortError> {
    let mut of: BTreeMap<TenantId, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        of.entry(message.tenant).or_default().push(message);
    }
    let mut told = 0;
    for (tenant, messages) in of {
        for Receiver { hook, news, since, mut waiting } in receivers(transaction, tenant).await? {
            let mut lost = 0_i64;
            let wanted = |message: &&&Message| news.contains(&message.news) && message.at.micros() >= since;
            for message in messages.iter().filter(wanted) {
                if waiting >= MOST_WAITING {
                    lost += 1;
                } else if insert(transaction, tenant, hook, message).await? {
                    told += 1;
                    waiting += 1;
                }
            }
            if lost > 0 {
                tracing::error!(%hook, %tenant, lost, "too many messages wait for a webhook: these are not kept");
                let sql = "UPDATE hooks SET lost = lost + $3 WHERE tenant_id = $1 AND id = $2";
                let query = sqlx::query(sql).bind(tenant.0).bind(hook.0).bind(lost);
                query.execute(&mut *transaction).await.map_err(port_error)?;
            }
        }
    }
    Ok(told)
}

async fn insert(
    transaction: &mut SqliteConnection,
    tenant: TenantId,
    hook: HookId,
    message: &Message,
) -> Result<bool, PortError> {
    let sql = "INSERT INTO hook_messages (tenant_id, hook_id, id, news, body, at, state, attempts, due_at, response)
               VALUES ($1, $2, $3, $4, $5, $6, 'pendiente', 0, $6, '') ON CONFLICT (hook_id, id) DO NOTHING";
    let query = sqlx::query(sql)
        .bind(tenant.0)
        .bind(hook.0)
        .bind(&message.id)
        .bind(message.news.as_str())
        .bind(&message.body)
        .bind(message.at.micros());
    Ok(query.execute(transaction).await.map_err(port_error)?.rows_affected() > 0)
}

fn read_hook(row: &SqliteRow) -> Result<(Hook, Sealed), PortError> {
    let hook = Hook {
        tenant: TenantId(get(row, 0)?),
        id: HookId(get(row, 1)?),
        url: get::<&str>(row, 2)?.into(),
        news: read_news(get(row, 3)?)?,
        paused: get::<Option<&str>>(row, 4)?.map(Into::into),
        failing_since: get::<Option<i64>>(row, 5)?.map(Timestamp::from_micros),
        lost: get::<i64>(row, 6)?.unsigned_abs(),
        created_at: Timestamp::from_micros(get(row, 9)?),
    };
    Ok((hook, Sealed { key_id: get(row, 7)?, bytes: get(row, 8)? }))
}

fn read_logged(row: &SqliteRow) -> Result<Logged, PortError> {
    Ok(Logged {
        position: get(row, 0)?,
        id: get(row, 1)?,
        news: News::parse(get(row, 2)?).ok_or_else(|| unreadable("kind of news"))?,
        state: get(row, 3)?,
        attempts: get(row, 4)?,
        status: get(row, 5)?,
        response: get(row, 6)?,
        at: Timestamp::from_micros(get(row, 7)?),
        tried_at: get::<Option<i64>>(row, 8)?.map(Timestamp::from_micros),
        body: get(row, 9)?,
    })
}

fn read_letter(row: &SqliteRow) -> Result<DeadLetter, PortError> {
    let (hook, position) = (HookId(get(row, 0)?), get(row, 1)?);
    let status = get::<Option<i64>>(row, 5)?.map(|status| format!("HTTP {status}")).unwrap_or_default();
    let response: String = get(row, 6)?;
    Ok(DeadLetter {
        id: LetterId::Message(hook, position).to_string(),
        matter: Matter::Message,
        group: "webhooks".into(),
        kind: get(row, 3)?,
        tenant: TenantId(get(row, 2)?).to_string(),
        attempts: get::<i64>(row, 4)?.unsigned_abs(),
        first_at: Timestamp::from_micros(get(row, 7)?),
        last_at: Timestamp::from_micros(get(row, 8)?),
        cause: format!("{}: {status}", get::<&str>(row, 9)?),
        payload: get(row, 10)?,
        response,
    })
}

impl HookStore for Channels {
    fn hooks(&self) -> Stored<'_, Vec<(Hook, Sealed)>> {
        async move {
            let sql =
                "SELECT tenant_id, id, url, news, paused, failing_since, lost, key_id, secret, created_at
                       FROM hooks ORDER BY tenant_id, created_at, id";
            let rows = sqlx::query(sql).fetch_all(&self.pool).await.map_err(port_error)?;
            rows.iter().map(read_hook).collect()
        }
        .boxed()
    }

    fn save_hook<'a>(&'a self, hook: &'a Hook, secret: Option<&'a Sealed>) -> Stored<'a, ()> {
        async move {
            let news = serde_json::to_string(&hook.news).map_err(unwritable)?;
            let sql = "INSERT INTO hooks (tenant_id, id, url, news, paused, failing_since, lost, key_id, secret, created_at)
                       SELECT $1, $2, $3, $4, $5, $6, 0, coalesce($7, h.key_id), coalesce($8, h.secret), $9
                       FROM (SELECT 1) LEFT JOIN hooks h ON h.tenant_id = $1 AND h.id = $2 WHERE true
                       ON CONFLICT (tenant_id, id) DO UPDATE SET url = excluded.url, news = excluded.news,
                           paused = excluded.paused, failing_since = excluded.failing_since,
                           key_id = excluded.key_id, secret = excluded.secret";
            let query = sqlx::query(sql)
                .bind(hook.tenant.0)
                .bind(hook.id.0)
                .bind(&*hook.url)
                .bind(news)
                .bind(hook.paused.as_deref())
                .bind(hook.failing_since.map(Timestamp::micros))
                .bind(secret.map(|sealed| sealed.key_id.clone()))
                .bind(secret.map(|sealed| sealed.bytes.clone()))
                .bind(hook.created_at.micros());
            query.execute(&self.pool).await.map(|_| ()).map_err(port_error)
        }
        .boxed()
    }

    fn remove_hook(&self, tenant: TenantId, hook: HookId) -> Stored<'_, ()> {
        async move {
            let sql = "DELETE FROM hooks WHERE tenant_id = $1 AND id = $2";
            let query = sqlx::query(sql).bind(tenant.0).bind(hook.0);
            query.execute(&self.pool).await.map(|_| ()).map_err(port_error)
        }
        .boxed()
    }

    fn tell<'a>(&'a self, messages: &'a [Message]) -> Stored<'a, usize> {
        async move {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
            let told = tell(&mut transaction, messages).await?;
            transaction.commit().await.map_err(port_error)?;
            Ok(told)
        }
        .boxed()
    }

    fn tell_one<'a>(&'a self, hook: &'a Hook, message: &'a Message) -> Stored<'a, ()> {
        async move {
            let mut connection = self.pool.acquire().await.map_err(port_error)?;
            insert(&mut connection, hook.tenant, hook.id, message).await.map(|_| ())
        }
        .boxed()
    }

    fn next(&self, tenant: TenantId, hook: HookId) -> Stored<'_, Option<Waiting>> {
        async move {
            let sql = "SELECT position, id, body, attempts, due_at FROM hook_messages
                       WHERE +tenant_id = $1 AND hook_id = $2 AND state = 'pendiente' ORDER BY position LIMIT 1";
            let query = sqlx::query(sql).bind(tenant.0).bind(hook.0);
            let row = query.fetch_optional(&self.pool).await.map_err(port_error)?;
            let waiting = |row: &SqliteRow| {
                Ok(Waiting {
                    position: get(row, 0)?,
                    id: get(row, 1)?,
                    body: get(row, 2)?,
                    attempts: get(row, 3)?,
                    due_at: Timestamp::from_micros(get(row, 4)?),
                })
            };
            row.as_ref().map(waiting).transpose()
        }
        .boxed()
    }

    fn waiting(&self, tenant: TenantId, hook: HookId) -> Stored<'_, u64> {
        async move {
            let sql = "SELECT count(*) FROM hook_messages
                       WHERE +tenant_id = $1 AND hook_id = $2 AND state = 'pendiente'";
            let query = sqlx::query_scalar::<_, i64>(sql).bind(tenant.0).bind(hook.0);
            let count = query.fetch_one(&self.pool).await;
            count.map(i64::unsigned_abs).map_err(port_error)
        }
        .boxed()
    }

    fn tried<'a>(&'a self, tenant: TenantId, hook: HookId, attempt: &'a Attempt) -> Stored<'a, ()> {
        async move {
            let (state, due_at) = match attempt.fate {
                Fate::Delivered => ("entregada", attempt.at),
                Fate::Waits(due_at) => ("pendiente", due_at),
                Fate::GivenUp => ("descartada", attempt.at),
            };
            let sql =
                "UPDATE hook_messages SET state = $3, due_at = $4, status = $5, response = $6, tried_at = $7,
                           attempts = attempts + 1
                       WHERE hook_id = $1 AND position = $2 AND tenant_id = $8";
            let query = sqlx::query(sql)
                .bind(hook.0)
                .bind(attempt.position)
                .bind(state)
                .bind(due_at.micros())
                .bind(attempt.status)
                .bind(&attempt.response)
                .bind(attempt.at.micros())
                .bind(tenant.0);
            query.execute(&self.pool).await.map_err(port_error)?;
            if attempt.fate == Fate::Delivered && attempt.position.unsigned_abs().is_multiple_of(256) {
                // What arrived long ago is in nobody's way, and in nobody's interest.
                let sql =
                    "DELETE FROM hook_messages WHERE hook_id = $1 AND state = 'entregada' AND position < (
                               SELECT min(position) FROM (SELECT position FROM hook_messages
                               WHERE hook_id = $1 AND state = 'entregada' ORDER BY position DESC LIMIT $2))";
                sqlx::query(sql).bind(hook.0).bind(LOGGED).execute(&self.pool).await.map_err(port_error)?;
            }
            Ok(())
        }
        .boxed()
    }

    fn log(
        &self,
        tenant: TenantId,
        hook: HookId,
        before: Option<i64>,
        limit: usize,
    ) -> Stored<'_, Vec<Logged>> {
        async move {
            let sql = "SELECT position, id, news, state, attempts, status, response, at, tried_at, body
                       FROM hook_messages WHERE tenant_id = $1 AND hook_id = $2 AND position < $3
                       ORDER BY position DESC LIMIT $4";
            let query = sqlx::query(sql).bind(tenant.0).bind(hook.0);
            let query = query.bind(before.unwrap_or(i64::MAX)).bind(many(limit));
            let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
            rows.iter().map(read_logged).collect()
        }
        .boxed()
    }

    fn send_again(&self, tenant: TenantId, hook: HookId, position: i64) -> Stored<'_, bool> {
        async move {
            let sql = "UPDATE hook_messages SET state = 'pendiente', attempts = 0, due_at = 0
                       WHERE tenant_id = $1 AND hook_id = $2 AND position = $3";
            let done = sqlx::query(sql).bind(tenant.0).bind(hook.0).bind(position).execute(&self.pool).await;
            Ok(done.map_err(port_error)?.rows_affected() > 0)
        }
        .boxed()
    }

    fn bury_message(&self, tenant: TenantId, hook: HookId, position: i64) -> Stored<'_, bool> {
        async move {
            let sql = "DELETE FROM hook_messages
                       WHERE tenant_id = $1 AND hook_id = $2 AND position = $3 AND state = 'descartada'";
            let done = sqlx::query(sql).bind(tenant.0).bind(hook.0).bind(position).execute(&self.pool).await;
            Ok(done.map_err(port_error)?.rows_affected() > 0)
        }
        .boxed()
    }

    fn hook_letters(&self, most: usize) -> Stored<'_, Vec<DeadLetter>> {
        async move {
            let sql =
                "SELECT m.hook_id, m.position, m.tenant_id, m.news, m.attempts, m.status, m.response, m.at,
                           m.tried_at, h.url, m.body
                       FROM hook_messages m JOIN hooks h ON h.id = m.hook_id
                       WHERE m.state = 'descartada' ORDER BY m.tried_at, m.position LIMIT $1";
            let rows = sqlx::query(sql).bind(many(most)).fetch_all(&self.pool).await.map_err(port_error)?;
            rows.iter().map(read_letter).collect()
        }
        .boxed()
    }

    fn hook_letter_count(&self) -> Stored<'_, usize> {
        async move {
            let sql = "SELECT count(*) FROM hook_messages WHERE state = 'descartada'";
            let count: i64 = sqlx::query_scalar(sql).fetch_one(&self.pool).await.map_err(port_error)?;
            Ok(usize::try_from(count).unwrap_or_default())
        }
        .boxed()
    }

    fn raise<'a>(&'a self, alarm: &'a str, message: &'a Message) -> Stored<'a, bool> {
        async move {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
            let sql = "INSERT INTO alarms (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
            let raised = sqlx::query(sql).bind(alarm).execute(&mut *transaction).await.map_err(port_error)?;
            let is_new = raised.rows_affected() > 0;
            if is_new {
                tell(&mut transaction, std::slice::from_ref(message)).await?;
            }
            transaction.commit().await.map_err(port_error)?;
            Ok(is_new)
        }
        .boxed()
    }

    fn clear<'a>(&'a self, alarm: &'a str) -> Stored<'a, ()> {
        async move {
            let sql = "DELETE FROM alarms WHERE name = $1";
            sqlx::query(sql).bind(alarm).execute(&self.pool).await.map(|_| ()).map_err(port_error)
        }
        .boxed()
    }
}

//! Webhooks that go out: receivers, and the sending to them.

use super::messages::{self, read_news};
use super::{Channels, commit, many, moment, run, small, unreadable, unwritable};
use crate::domain::dead_letter::{DeadLetter, LetterId, Matter};
use crate::domain::hook::{Hook, Message, News};
use crate::domain::ids::{HookId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{Sealed, Stored};
use crate::ports::hooks::{Attempt, Fate, HookStore, Logged, Waiting};
use crate::store::postgres::error::port_error;
use crate::store::postgres::read::get;
use crate::store::postgres::rows::text;
use sqlx::postgres::PgRow;

/// Messages that arrived and are kept for the log, each receiver.
const LOGGED: i64 = 1_000;

fn read_hook(row: &PgRow) -> Result<(Hook, Sealed), PortError> {
    let hook = Hook {
        tenant: TenantId(get(row, 0)?),
        id: HookId(get(row, 1)?),
        url: get::<&str>(row, 2)?.into(),
        news: read_news(get(row, 3)?)?,
        paused: get::<Option<&str>>(row, 4)?.map(Into::into),
        failing_since: get::<Option<i64>>(row, 5)?.map(Timestamp::from_micros),
        lost: get::<i64>(row, 6)?.unsigned_abs(),
        created_at: moment(row, 9)?,
    };
    Ok((hook, Sealed { key_id: get(row, 7)?, bytes: get(row, 8)? }))
}

fn read_status(row: &PgRow, column: usize) -> Result<Option<u16>, PortError> {
    let status: Option<i64> = get(row, column)?;
    status.map(|status| u16::try_from(status).map_err(|_| unreadable("status"))).transpose()
}

fn read_logged(row: &PgRow) -> Result<Logged, PortError> {
    Ok(Logged {
        position: get(row, 0)?,
        id: get(row, 1)?,
        news: News::parse(get(row, 2)?).ok_or_else(|| unreadable("kind of news"))?,
        state: get(row, 3)?,
        attempts: small(row, 4)?,
        status: read_status(row, 5)?,
        response: get(row, 6)?,
        at: moment(row, 7)?,
        tried_at: get::<Option<i64>>(row, 8)?.map(Timestamp::from_micros),
        body: get(row, 9)?,
    })
}

fn read_letter(row: &PgRow) -> Result<DeadLetter, PortError> {
    let (hook, position) = (HookId(get(row, 0)?), get(row, 1)?);
    let status = read_status(row, 5)?.map(|status| format!("HTTP {status}")).unwrap_or_default();
    Ok(DeadLetter {
        id: LetterId::Message(hook, position).to_string(),
        matter: Matter::Message,
        group: "webhooks".into(),
        kind: get(row, 3)?,
        tenant: TenantId(get(row, 2)?).to_string(),
        attempts: get::<i64>(row, 4)?.unsigned_abs(),
        first_at: moment(row, 7)?,
        last_at: moment(row, 8)?,
        cause: format!("{}: {status}", get::<&str>(row, 9)?),
        payload: get(row, 10)?,
        response: get(row, 6)?,
    })
}

impl Channels {
    /// Changes one message; false when there is none.
    async fn change_message(
        &self,
        sql: &'static str,
        tenant: TenantId,
        hook: HookId,
        position: i64,
    ) -> Result<bool, PortError> {
        let mut transaction = self.begin(tenant).await?;
        let query = sqlx::query(sql).bind(tenant.0).bind(hook.0).bind(position);
        let changed = run(&mut transaction, query).await?;
        commit(transaction).await?;
        Ok(changed > 0)
    }
}

impl HookStore for Channels {
    fn hooks(&self) -> Stored<'_, Vec<(Hook, Sealed)>> {
        self.within(async move {
            let sql =
                "SELECT tenant_id, id, url, news, paused, failing_since, lost, key_id, secret, created_at
                       FROM all_hooks() ORDER BY tenant_id, created_at, id";
            let rows = sqlx::query(sql).fetch_all(&self.pool).await.map_err(port_error)?;
            rows.iter().map(read_hook).collect()
        })
    }

    fn save_hook<'a>(&'a self, hook: &'a Hook, secret: Option<&'a Sealed>) -> Stored<'a, ()> {
        self.within(async move {
            let news = serde_json::to_string(&hook.news).map_err(unwritable)?;
            let sql = "INSERT INTO hooks (tenant_id, id, url, news, paused, failing_since, lost, key_id, secret, created_at)
                       SELECT $1, $2, $3, $4, $5, $6, 0, coalesce($7, h.key_id), coalesce($8, h.secret), $9
                       FROM (SELECT 1) one LEFT JOIN hooks h ON h.tenant_id = $1 AND h.id = $2
                       ON CONFLICT (tenant_id, id) DO UPDATE SET url = excluded.url, news = excluded.news,
                           paused = excluded.paused, failing_since = excluded.failing_since,
                           key_id = excluded.key_id, secret = excluded.secret";
            let query = sqlx::query(sql)
                .bind(hook.tenant.0)
                .bind(hook.id.0)
                .bind(text(&hook.url))
                .bind(news)
                .bind(hook.paused.as_deref().map(|why| text(why).into_owned()))
                .bind(hook.failing_since.map(Timestamp::micros))
                .bind(secret.map(|sealed| sealed.key_id.clone()))
                .bind(secret.map(|sealed| sealed.bytes.clone()))
                .bind(hook.created_at.micros());
            let mut transaction = self.begin_as_holder(hook.tenant, hook.id.0).await?;
            run(&mut transaction, query).await?;
            commit(transaction).await
        })
    }

    fn remove_hook(&self, tenant: TenantId, hook: HookId) -> Stored<'_, ()> {
        let sql = "DELETE FROM hooks WHERE tenant_id = $1 AND id = $2";
        self.within(self.forget_with_claim(sql, tenant, hook.0))
    }

    fn tell<'a>(&'a self, messages: &'a [Message]) -> Stored<'a, usize> {
        self.within(async move {
            let Some(first) = messages.first() else { return Ok(0) };
            let mut transaction = self.begin(first.tenant).await?;
            let told = messages::tell(&mut transaction, messages).await?;
            commit(transaction).await?;
            Ok(told)
        })
    }

    fn tell_one<'a>(&'a self, hook: &'a Hook, message: &'a Message) -> Stored<'a, ()> {
        self.within(async move {
            let mut transaction = self.begin(hook.tenant).await?;
            let hold = "SELECT 1 FROM hooks WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE";
            run(&mut transaction, sqlx::query(hold).bind(hook.tenant.0).bind(hook.id.0)).await?;
            messages::insert(&mut transaction, hook.tenant, hook.id, message).await?;
            commit(transaction).await
        })
    }

    fn next(&self, tenant: TenantId, hook: HookId) -> Stored<'_, Option<Waiting>> {
        self.within(async move {
            let sql = "SELECT position, id, body, attempts, due_at FROM hook_messages
                       WHERE tenant_id = $1 AND hook_id = $2 AND state = 'pendiente' ORDER BY position LIMIT 1";
            let query = sqlx::query(sql).bind(tenant.0).bind(hook.0);
            let mut transaction = self.begin_as_holder(tenant, hook.0).await?;
            let row = query.fetch_optional(&mut *transaction).await.map_err(port_error)?;
            match &row {
                Some(_) => commit(transaction).await?,
                // Looked at every second, mostly in vain: the claim is extended elsewhere.
                None => transaction.rollback().await.map_err(port_error)?,
            }
            let waiting = |row: &PgRow| {
                Ok(Waiting {
                    position: get(row, 0)?,
                    id: get(row, 1)?,
                    body: get(row, 2)?,
                    attempts: small(row, 3)?,
                    due_at: moment(row, 4)?,
                })
            };
            row.as_ref().map(waiting).transpose()
        })
    }

    fn waiting(&self, tenant: TenantId, hook: HookId) -> Stored<'_, u64> {
        self.within(async move {
            let sql = "SELECT count(*) FROM hook_messages
                       WHERE tenant_id = $1 AND hook_id = $2 AND state = 'pendiente'";
            let mut transaction = self.begin(tenant).await?;
            let query = sqlx::query_scalar::<_, i64>(sql).bind(tenant.0).bind(hook.0);
            let count = query.fetch_one(&mut *transaction).await.map_err(port_error)?;
            commit(transaction).await?;
            Ok(count.unsigned_abs())
        })
    }

    fn tried<'a>(&'a self, tenant: TenantId, hook: HookId, attempt: &'a Attempt) -> Stored<'a, ()> {
        self.within(async move {
            let (state, due_at) = match attempt.fate {
                Fate::Delivered => ("entregada", attempt.at),
                Fate::Waits(due_at) => ("pendiente", due_at),
                Fate::GivenUp => ("descartada", attempt.at),
            };
            let sql =
                "UPDATE hook_messages SET state = $4, due_at = $5, status = $6, response = $7, tried_at = $8,
                           attempts = attempts + 1
                       WHERE tenant_id = $1 AND hook_id = $2 AND position = $3";
            let query = sqlx::query(sql)
                .bind(tenant.0)
                .bind(hook.0)
                .bind(attempt.position)
                .bind(state)
                .bind(due_at.micros())
                .bind(attempt.status.map(i64::from))
                .bind(text(&attempt.response))
                .bind(attempt.at.micros());
            let mut transaction = self.begin_as_holder(tenant, hook.0).await?;
            run(&mut transaction, query).await?;
            if attempt.fate == Fate::Delivered && attempt.position.unsigned_abs().is_multiple_of(256) {
                // What arrived long ago is in nobody's way, and in nobody's interest.
                let sql = "DELETE FROM hook_messages
                           WHERE tenant_id = $1 AND hook_id = $2 AND state = 'entregada' AND position < (
                               SELECT min(position) FROM (SELECT position FROM hook_messages
                               WHERE tenant_id = $1 AND hook_id = $2 AND state = 'entregada'
                               ORDER BY position DESC LIMIT $3) newest)";
                run(&mut transaction, sqlx::query(sql).bind(tenant.0).bind(hook.0).bind(LOGGED)).await?;
            }
            commit(transaction).await
        })
    }

    fn log(
        &self,
        tenant: TenantId,
        hook: HookId,
        before: Option<i64>,
        limit: usize,
    ) -> Stored<'_, Vec<Logged>> {
        self.within(async move {
            let sql = "SELECT position, id, news, state, attempts, status, response, at, tried_at, body
                       FROM hook_messages WHERE tenant_id = $1 AND hook_id = $2 AND position < $3
                       ORDER BY position DESC LIMIT $4";
            let query = sqlx::query(sql).bind(tenant.0).bind(hook.0);
            let query = query.bind(before.unwrap_or(i64::MAX)).bind(many(limit));
            let mut transaction = self.begin(tenant).await?;
            let rows = query.fetch_all(&mut *transaction).await.map_err(port_error)?;
            commit(transaction).await?;
            rows.iter().map(read_logged).collect()
        })
    }

    fn send_again(&self, tenant: TenantId, hook: HookId, position: i64) -> Stored<'_, bool> {
        let sql = "UPDATE hook_messages SET state = 'pendiente', attempts = 0, due_at = 0
                   WHERE tenant_id = $1 AND hook_id = $2 AND position = $3";
        self.within(self.change_message(sql, tenant, hook, position))
    }

    fn bury_message(&self, tenant: TenantId, hook: HookId, position: i64) -> Stored<'_, bool> {
        let sql = "DELETE FROM hook_messages
                   WHERE tenant_id = $1 AND hook_id = $2 AND position = $3 AND state = 'descartada'";
        self.within(self.change_message(sql, tenant, hook, position))
    }

    fn hook_letters(&self, most: usize) -> Stored<'_, Vec<DeadLetter>> {
        self.within(async move {
            let sql =
                "SELECT m.hook_id, m.position, m.tenant_id, m.news, m.attempts, m.status, m.response, m.at,
                           m.tried_at, h.url, m.body
                       FROM all_refused_messages($1) m JOIN all_hooks() h ON h.id = m.hook_id
                       ORDER BY m.tried_at, m.position";
            let rows = sqlx::query(sql).bind(many(most)).fetch_all(&self.pool).await.map_err(port_error)?;
            rows.iter().map(read_letter).collect()
        })
    }

    fn hook_letter_count(&self) -> Stored<'_, usize> {
        self.within(self.count("SELECT count_hook_letters()"))
    }

    fn raise<'a>(&'a self, alarm: &'a str, message: &'a Message) -> Stored<'a, bool> {
        self.within(async move {
            let mut transaction = self.begin(message.tenant).await?;
            let sql =
                "INSERT INTO alarms (tenant_id, name) VALUES ($1, $2) ON CONFLICT (tenant_id, name) DO NOTHING";
            let raised = run(&mut transaction, sqlx::query(sql).bind(message.tenant.0).bind(alarm)).await?;
            if raised > 0 {
                messages::tell(&mut transaction, std::slice::from_ref(message)).await?;
            }
            commit(transaction).await?;
            Ok(raised > 0)
        })
    }

    fn clear<'a>(&'a self, alarm: &'a str) -> Stored<'a, ()> {
        self.within(async move {
            let (tenant, _) = Hook::OPERATOR;
            let mut transaction = self.begin(tenant).await?;
            let sql = "DELETE FROM alarms WHERE tenant_id = $1 AND name = $2";
            run(&mut transaction, sqlx::query(sql).bind(tenant.0).bind(alarm)).await?;
            commit(transaction).await
        })
    }
}

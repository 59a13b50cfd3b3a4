//! What webhooks are told: one row for each message and receiver.

use super::{many, run, unreadable};
use crate::domain::hook::{Message, News};
use crate::domain::ids::{HookId, TenantId};
use crate::ports::PortError;
use crate::store::postgres::connect::enter;
use crate::store::postgres::error::port_error;
use crate::store::postgres::read::get;
use crate::store::postgres::rows::text;
use sqlx::postgres::PgConnection;
use std::collections::BTreeMap;

/// Messages that may wait for one receiver; more are counted as lost.
const MOST_WAITING: usize = 100_000;

/// Somebody who may be told.
struct Receiver {
    hook: HookId,
    news: Vec<News>,
    /// What happened before is none of its business.
    since: i64,
    waiting: i64,
}

/// Their rows are held until the transaction ends, in the order of their ids: two that tell the same receiver do it one
/// after the other, so that the positions of one are all before those of the other.
async fn receivers(transaction: &mut PgConnection, tenant: TenantId) -> Result<Vec<Receiver>, PortError> {
    let sql = "SELECT id, news, created_at, (SELECT count(*) FROM (SELECT 1 FROM hook_messages m
                   WHERE m.tenant_id = $1 AND m.hook_id = hooks.id AND m.state = 'pendiente' LIMIT $2) waiting)
               FROM hooks WHERE tenant_id = $1 ORDER BY id FOR NO KEY UPDATE";
    let query = sqlx::query(sql).bind(tenant.0).bind(many(MOST_WAITING));
    let rows = query.fetch_all(transaction).await.map_err(port_error)?;
    let receiver = |row| {
        let (hook, news) = (HookId(get(row, 0)?), read_news(get(row, 1)?)?);
        Ok(Receiver { hook, news, since: get(row, 2)?, waiting: get(row, 3)? })
    };
    rows.iter().map(receiver).collect()
}

pub(super) fn read_news(text: &str) -> Result<Vec<News>, PortError> {
    serde_json::from_str(text).map_err(|_| unreadable("list of news"))
}

/// Within whatever else becomes true at the same time. The transaction names the last of the tenants afterwards.
pub(super) async fn tell(transaction: &mut PgConnection, messages: &[Message]) -> Result<usize, PortError> {
    let mut of: BTreeMap<TenantId, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        of.entry(message.tenant).or_default().push(message);
    }
    let (most, mut told) = (many(MOST_WAITING), 0);
    for (tenant, messages) in of {
        enter(transaction, tenant).await?;
        for Receiver { hook, news, since, mut waiting } in receivers(transaction, tenant).await? {
            let mut lost = 0_i64;
            let wanted = |message: &&&Message| news.contains(&message.news) && message.at.micros() >= since;
            for message in messages.iter().filter(wanted) {
                if waiting >= most {
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
                run(transaction, query).await?;
            }
        }
    }
    Ok(told)
}

/// False when it is there already.
pub(super) async fn insert(
    transaction: &mut PgConnection,
    tenant: TenantId,
    hook: HookId,
    message: &Message,
) -> Result<bool, PortError> {
    let sql = "INSERT INTO hook_messages (tenant_id, hook_id, id, news, body, at, state, attempts, due_at, response)
               VALUES ($1, $2, $3, $4, $5, $6, 'pendiente', 0, $6, '') ON CONFLICT (tenant_id, hook_id, id) DO NOTHING";
    let query = sqlx::query(sql)
        .bind(tenant.0)
        .bind(hook.0)
        .bind(text(&message.id))
        .bind(message.news.as_str())
        .bind(&message.body)
        .bind(message.at.micros());
    Ok(run(transaction, query).await? > 0)
}

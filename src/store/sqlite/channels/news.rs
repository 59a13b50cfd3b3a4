//! News, and the orders in it.

use super::{Channels, get, hooks, letters, many};
use crate::domain::ids::{ConnectionId, SaleId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{Notice, OrderRecord, Settled};
use crate::sqlite::port_error;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

/// News that is kept for each connection, so that a second delivery is known.
const KEPT_NOTICES: i64 = 50_000;

impl Channels {
    pub(super) async fn take_in(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: &Notice,
    ) -> Result<bool, PortError> {
        let sql = "INSERT INTO notices (tenant_id, connection_id, id, topic, body, at)
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, connection_id, id) DO NOTHING";
        let query = sqlx::query(sql)
            .bind(tenant.0)
            .bind(connection.0)
            .bind(&notice.id)
            .bind(&notice.topic)
            .bind(&notice.body)
            .bind(notice.at.micros());
        let done = query.execute(&self.pool).await.map_err(port_error)?;
        Ok(done.rows_affected() > 0)
    }

    pub(super) async fn waiting_news(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Result<Vec<Notice>, PortError> {
        let sql = "SELECT id, topic, body, at FROM notices
                   WHERE tenant_id = $1 AND connection_id = $2 AND body IS NOT NULL ORDER BY at, id LIMIT $3";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(many(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
        rows.iter().map(read_notice).collect()
    }

    pub(super) async fn settle_news(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        settled: &Settled,
    ) -> Result<(), PortError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
        let Settled { notice, order, given_up, told } = settled;
        if let Some(given_up) = given_up {
            letters::give_up(&mut transaction, tenant, connection, given_up).await?;
        }
        if let Some(order) = order {
            let but = given_up.as_ref().map(|given_up| given_up.notice.as_str());
            letters::forget_order(&mut transaction, tenant, connection, &order.id, but).await?;
        }
        let clear = "UPDATE notices SET body = NULL WHERE tenant_id = $1 AND connection_id = $2 AND id = $3";
        let query = sqlx::query(clear).bind(tenant.0).bind(connection.0).bind(notice);
        query.execute(&mut *transaction).await.map_err(port_error)?;
        // What is older than the newest many is not delivered again.
        let forget = "DELETE FROM notices WHERE tenant_id = $1 AND connection_id = $2 AND body IS NULL AND at < (
                          SELECT min(at) FROM (SELECT at FROM notices WHERE tenant_id = $1 AND connection_id = $2
                          ORDER BY at DESC LIMIT $3))";
        if Uuid::now_v7().as_u64_pair().1.is_multiple_of(1_024) {
            let query = sqlx::query(forget).bind(tenant.0).bind(connection.0).bind(KEPT_NOTICES);
            query.execute(&mut *transaction).await.map_err(port_error)?;
        }
        if let Some(order) = order {
            write_order(&mut transaction, tenant, connection, order).await?;
        }
        hooks::tell(&mut transaction, told).await?;
        transaction.commit().await.map_err(port_error)
    }

    pub(super) async fn order_of(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        id: &str,
    ) -> Result<Option<OrderRecord>, PortError> {
        let sql = "SELECT id, name, sale_id, state, remark, at, version FROM orders
                   WHERE tenant_id = $1 AND connection_id = $2 AND id = $3";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(id);
        query.fetch_optional(&self.pool).await.map_err(port_error)?.as_ref().map(read_order).transpose()
    }

    pub(super) async fn orders_of(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Result<Vec<OrderRecord>, PortError> {
        let sql = "SELECT id, name, sale_id, state, remark, at, version FROM orders
                   WHERE tenant_id = $1 AND connection_id = $2 ORDER BY remark = '', at DESC, id LIMIT $3";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0).bind(many(limit));
        let rows = query.fetch_all(&self.pool).await.map_err(port_error)?;
        rows.iter().map(read_order).collect()
    }
}

fn read_notice(row: &SqliteRow) -> Result<Notice, PortError> {
    let at = Timestamp::from_micros(get(row, 3)?);
    Ok(Notice { id: get(row, 0)?, topic: get(row, 1)?, body: get(row, 2)?, at })
}

fn read_order(row: &SqliteRow) -> Result<OrderRecord, PortError> {
    Ok(OrderRecord {
        id: get(row, 0)?,
        name: get(row, 1)?,
        sale: get::<Option<Uuid>>(row, 2)?.map(SaleId),
        state: get(row, 3)?,
        remark: get(row, 4)?,
        at: Timestamp::from_micros(get(row, 5)?),
        version: Timestamp::from_micros(get(row, 6)?),
    })
}

async fn write_order(
    transaction: &mut SqliteConnection,
    tenant: TenantId,
    connection: ConnectionId,
    order: &OrderRecord,
) -> Result<(), PortError> {
    let sql = "INSERT INTO orders (tenant_id, connection_id, id, name, sale_id, state, remark, at, version)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
               ON CONFLICT (tenant_id, connection_id, id) DO UPDATE SET name = excluded.name,
                   sale_id = coalesce(excluded.sale_id, orders.sale_id), state = excluded.state,
                   remark = excluded.remark, at = excluded.at, version = max(orders.version, excluded.version)";
    let query = sqlx::query(sql)
        .bind(tenant.0)
        .bind(connection.0)
        .bind(&order.id)
        .bind(&order.name)
        .bind(order.sale.map(|sale| sale.0))
        .bind(&order.state)
        .bind(&order.remark)
        .bind(order.at.micros())
        .bind(order.version.micros());
    query.execute(transaction).await.map(|_| ()).map_err(port_error)
}

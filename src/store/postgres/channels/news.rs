//! News, and the orders in it.

use super::{Channels, commit, many, messages, moment, run};
use crate::domain::ids::{ConnectionId, SaleId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::{Notice, OrderRecord, Settled};
use crate::store::postgres::error::port_error;
use crate::store::postgres::read::get;
use crate::store::postgres::rows::text;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

/// News that is kept for each connection, so that a second delivery is known.
const KEPT_NOTICES: i64 = 50_000;

const ORDER: &str = "id, name, sale_id, state, remark, at, version";

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
            .bind(text(&notice.id))
            .bind(text(&notice.topic))
            .bind(&notice.body)
            .bind(notice.at.micros());
        let mut transaction = self.begin(tenant).await?;
        let new = run(&mut transaction, query).await?;
        commit(transaction).await?;
        Ok(new > 0)
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
        let mut transaction = self.begin(tenant).await?;
        let rows = query.fetch_all(&mut *transaction).await.map_err(port_error)?;
        commit(transaction).await?;
        let notice = |row| {
            Ok(Notice { id: get(row, 0)?, topic: get(row, 1)?, body: get(row, 2)?, at: moment(row, 3)? })
        };
        rows.iter().map(notice).collect()
    }

    pub(super) async fn settle_news(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        settled: &Settled,
    ) -> Result<(), PortError> {
        let Settled { notice, order, given_up, told } = settled;
        let mut transaction = self.begin_as_holder(tenant, connection.0).await?;
        if let Some(given_up) = given_up {
            super::letters::give_up(&mut transaction, tenant, connection, given_up).await?;
        }
        if let Some(order) = order {
            let but = given_up.as_ref().map(|given_up| given_up.notice.as_str());
            super::letters::forget_order(&mut transaction, tenant, connection, &order.id, but).await?;
        }
        let clear = "UPDATE notices SET body = NULL WHERE tenant_id = $1 AND connection_id = $2 AND id = $3";
        let query = sqlx::query(clear).bind(tenant.0).bind(connection.0).bind(text(notice));
        run(&mut transaction, query).await?;
        // What is older than the newest many is not delivered again.
        if Uuid::now_v7().as_u64_pair().1.is_multiple_of(1_024) {
            let forget = "DELETE FROM notices WHERE tenant_id = $1 AND connection_id = $2 AND body IS NULL AND at < (
                              SELECT min(at) FROM (SELECT at FROM notices WHERE tenant_id = $1 AND connection_id = $2
                              ORDER BY at DESC LIMIT $3) newest)";
            let query = sqlx::query(forget).bind(tenant.0).bind(connection.0).bind(KEPT_NOTICES);
            run(&mut transaction, query).await?;
        }
        if let Some(order) = order {
            write_order(&mut transaction, tenant, connection, order).await?;
        }
        messages::tell(&mut transaction, told).await?;
        commit(transaction).await
    }

    pub(super) async fn order_of(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        id: &str,
    ) -> Result<Option<OrderRecord>, PortError> {
        let sql =
            format!("SELECT {ORDER} FROM orders WHERE tenant_id = $1 AND connection_id = $2 AND id = $3");
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(tenant.0).bind(connection.0).bind(text(id));
        let mut transaction = self.begin(tenant).await?;
        let row = query.fetch_optional(&mut *transaction).await.map_err(port_error)?;
        commit(transaction).await?;
        row.as_ref().map(read_order).transpose()
    }

    pub(super) async fn orders_of(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Result<Vec<OrderRecord>, PortError> {
        let sql = format!(
            "SELECT {ORDER} FROM orders WHERE tenant_id = $1 AND connection_id = $2
             ORDER BY remark = '', at DESC, id LIMIT $3"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(tenant.0).bind(connection.0).bind(many(limit));
        let mut transaction = self.begin(tenant).await?;
        let rows = query.fetch_all(&mut *transaction).await.map_err(port_error)?;
        commit(transaction).await?;
        rows.iter().map(read_order).collect()
    }
}

fn read_order(row: &PgRow) -> Result<OrderRecord, PortError> {
    Ok(OrderRecord {
        id: get(row, 0)?,
        name: get(row, 1)?,
        sale: get::<Option<Uuid>>(row, 2)?.map(SaleId),
        state: get(row, 3)?,
        remark: get(row, 4)?,
        at: moment(row, 5)?,
        version: moment(row, 6)?,
    })
}

async fn write_order(
    transaction: &mut PgConnection,
    tenant: TenantId,
    connection: ConnectionId,
    order: &OrderRecord,
) -> Result<(), PortError> {
    let sql = "INSERT INTO orders (tenant_id, connection_id, id, name, sale_id, state, remark, at, version)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
               ON CONFLICT (tenant_id, connection_id, id) DO UPDATE SET name = excluded.name,
                   sale_id = coalesce(excluded.sale_id, orders.sale_id), state = excluded.state,
                   remark = excluded.remark, at = excluded.at, version = greatest(orders.version, excluded.version)";
    let query = sqlx::query(sql)
        .bind(tenant.0)
        .bind(connection.0)
        .bind(text(&order.id))
        .bind(text(&order.name))
        .bind(order.sale.map(|sale| sale.0))
        .bind(text(&order.state))
        .bind(text(&order.remark))
        .bind(order.at.micros())
        .bind(order.version.micros());
    run(transaction, query).await.map(|_| ())
}

//! One connection, its credentials, and who looks after it: here always this process, which has the data directory.

use super::{Channels, get, read_connection};
use crate::domain::channel::Connection;
use crate::domain::ids::{ConnectionId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::{Sealed, Stored};
use crate::ports::leases::Leases;
use crate::sqlite::port_error;
use futures_util::FutureExt as _;
use uuid::Uuid;

impl Leases for Channels {
    fn is_shared(&self) -> bool {
        false
    }

    fn claim<'a>(&'a self, wanted: &'a [(TenantId, Uuid)]) -> Stored<'a, Vec<Uuid>> {
        async { Ok(wanted.iter().map(|(_, id)| *id).collect()) }.boxed()
    }

    fn hold<'a>(&'a self, _held: &'a [(TenantId, Uuid)]) -> Stored<'a, Vec<Uuid>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn release<'a>(&'a self, _held: &'a [(TenantId, Uuid)]) -> Stored<'a, ()> {
        async { Ok(()) }.boxed()
    }
}

impl Channels {
    pub(super) async fn one_connection(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
    ) -> Result<Option<(Connection, Sealed)>, PortError> {
        let sql =
            "SELECT tenant_id, id, kind, name, account, place, sources, policy, paused, key_id, credentials,
                       created_at FROM connections WHERE tenant_id = $1 AND id = $2";
        let query = sqlx::query(sql).bind(tenant.0).bind(connection.0);
        let row = query.fetch_optional(&self.pool).await.map_err(port_error)?;
        row.as_ref().map(read_connection).transpose()
    }

    pub(super) async fn newer_credentials(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &Sealed,
    ) -> Result<Option<Sealed>, PortError> {
        let found = self.one_connection(tenant, connection).await?;
        Ok(found.map(|(_, sealed)| sealed).filter(|sealed| sealed != from))
    }

    pub(super) async fn change_credentials(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &Sealed,
        fresh: &Sealed,
    ) -> Result<bool, PortError> {
        let sql = "UPDATE connections SET key_id = $3, credentials = $4
                   WHERE tenant_id = $1 AND id = $2 AND key_id = $5 AND credentials = $6";
        let query = sqlx::query(sql)
            .bind(tenant.0)
            .bind(connection.0)
            .bind(&fresh.key_id)
            .bind(&fresh.bytes)
            .bind(&from.key_id)
            .bind(&from.bytes);
        Ok(query.execute(&self.pool).await.map_err(port_error)?.rows_affected() > 0)
    }

    pub(super) async fn connections_with_news(&self) -> Result<Vec<ConnectionId>, PortError> {
        let sql = "SELECT DISTINCT connection_id FROM notices WHERE body IS NOT NULL";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await.map_err(port_error)?;
        rows.iter().map(|row| get(row, 0).map(ConnectionId)).collect()
    }
}

//! Which connections are looked after here: those whose tenant's shard is here, each once its claim is.
//!
//! | a connection whose tenant's shard is | is looked after here | what is done |
//! |---|---|---|
//! | here | no | it is claimed, and its actor started when that is granted: the claim of a node that died or is paused is over soon |
//! | elsewhere | yes | its actor is ended, and the claim let go |
//! | anywhere | yes, but another process has the claim | its actor is ended: this process was paused |

use super::{ChannelManager, Known, NotDone, name_of};
use crate::actors::channel::Msg as ChannelMsg;
use crate::actors::reading::Reading;
use crate::domain::channel::Connection;
use crate::domain::ids::{ConnectionId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::Sealed;
use tokio::time::Instant;
use uuid::Uuid;

impl ChannelManager {
    /// Goes on with what is looked after here, and sees what has changed. What fails is done by the next look.
    pub(super) async fn look(&mut self) {
        let done = async {
            if self.ports.store.is_shared() {
                self.hold().await?;
                if self.reading.is_due(&self.ports.shards.here()) || self.is_unfinished() {
                    self.read().await?;
                }
            }
            self.divide().await?;
            if self.ports.store.is_shared() {
                self.pass_on_news().await?;
            }
            Ok::<_, PortError>(())
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "which connections are to be looked after here cannot be seen now");
        }
    }

    /// What there is, from rest.
    pub(super) async fn read(&mut self) -> Result<(), PortError> {
        let (here, begun) = (self.ports.shards.here(), Instant::now());
        let found = self.ports.store.connections().await?;
        self.reading = Reading::done(begun, here);
        let mut before = std::mem::take(&mut self.known);
        for (connection, sealed) in found {
            let way = before.remove(&connection.id).and_then(|known| known.way);
            self.known.insert(connection.id, Known { connection, sealed, way });
        }
        for gone in before.into_values().filter(|known| known.way.is_some()) {
            self.supervisor.stop_child(&name_of(&gone.connection)).await;
        }
        Ok(())
    }

    pub(super) async fn read_if_old(&mut self) -> Result<(), PortError> {
        if self.ports.store.is_shared() && self.reading.is_old() { self.read().await } else { Ok(()) }
    }

    /// Whether anything is to be begun: then it is begun as it is at rest now.
    fn is_unfinished(&self) -> bool {
        self.known
            .values()
            .any(|known| known.way.is_none() && self.ports.shards.is_here(known.connection.tenant))
    }

    /// Those whose claim is lost are another process's.
    async fn hold(&mut self) -> Result<(), PortError> {
        let here = self.known.values().filter(|known| known.way.is_some());
        let held: Vec<(TenantId, Uuid)> =
            here.map(|known| (known.connection.tenant, known.connection.id.0)).collect();
        for lost in self.ports.store.hold(&held).await? {
            tracing::warn!(connection = %lost, "another node looks after this connection now");
            self.end(ConnectionId(lost)).await;
        }
        Ok(())
    }

    /// A new connection, looked after here from its beginning.
    pub(super) async fn add(&mut self, connection: Connection, sealed: Sealed) -> Result<(), NotDone> {
        let (tenant, id) = (connection.tenant, connection.id);
        if !self.ports.store.claim_one(tenant, id.0).await? {
            return Err(NotDone::OnItsWay);
        }
        if let Err(error) = self.ports.store.save(&connection, Some(&sealed)).await {
            self.ports.store.release(&[(tenant, id.0)]).await?;
            // Connected at another node a moment ago.
            return Err(if error.is_transient() { error.into() } else { NotDone::Taken });
        }
        tracing::info!(connection = %id, %tenant, channel = %connection.kind, "connected");
        let way = Some(self.start(&connection));
        self.known.insert(id, Known { connection, sealed, way });
        Ok(())
    }

    /// Nobody looks after it here any more.
    pub(super) async fn end(&mut self, id: ConnectionId) {
        let Some(known) = self.known.get_mut(&id) else { return };
        known.way = None;
        let name = name_of(&known.connection);
        self.supervisor.stop_child(&name).await;
    }

    /// Ends what is another's, begins what is its own.
    pub(super) async fn divide(&mut self) -> Result<(), PortError> {
        let is_here = |known: &Known| self.ports.shards.is_here(known.connection.tenant);
        let leaving = |known: &&Known| known.way.is_some() && !is_here(known);
        let arriving = |known: &&Known| known.way.is_none() && is_here(known);
        let id = |known: &Known| (known.connection.tenant, known.connection.id.0);
        let leaving: Vec<_> = self.known.values().filter(leaving).map(id).collect();
        let arriving: Vec<_> = self.known.values().filter(arriving).map(id).collect();
        if !leaving.is_empty() {
            for (_, id) in &leaving {
                self.end(ConnectionId(*id)).await;
            }
            self.ports.store.release(&leaving).await?;
        }
        if !arriving.is_empty() {
            for id in self.ports.store.claim(&arriving).await? {
                let id = ConnectionId(id);
                let way = self.known.get(&id).map(|known| self.start(&known.connection));
                if let Some(known) = self.known.get_mut(&id) {
                    known.way = way;
                }
            }
        }
        Ok(())
    }

    /// News that came in at another node.
    async fn pass_on_news(&self) -> Result<(), PortError> {
        if self.known.values().all(|known| known.way.is_none()) {
            return Ok(());
        }
        for id in self.ports.store.with_news().await? {
            if let Some(way) = self.known.get(&id).and_then(|known| known.way.as_ref()) {
                way.tell(ChannelMsg::News);
            }
        }
        Ok(())
    }
}

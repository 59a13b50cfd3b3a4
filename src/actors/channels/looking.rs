//! Which connections are looked after here: those whose tenant's shard is here, each once its claim is.
//!
//! | a connection whose tenant's shard is | is looked after here | what is done |
//! |---|---|---|
//! | here | no | it is claimed, and its actor started when that is granted: the claim of a node that died or is paused is over soon |
//! | elsewhere | yes | its actor is ended, and the claim let go |
//! | anywhere | yes, but another process has the claim | its actor is ended: this process was paused |

use super::{ChannelManager, Known, NotDone, name_of};
use crate::actors::channel::Msg as ChannelMsg;
use crate::domain::channel::Connection;
use crate::domain::ids::{ConnectionId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::Sealed;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// What other nodes may have changed is read again so often, at the latest.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// Somebody who asks for what is not known makes it be read again, since it may have been made at another node a moment
/// ago: so long after the last reading, at least. Whoever asks for nothing that there is gets no more than that.
const FRESH: Duration = Duration::from_millis(50);

/// So long after it at most, however long a reading takes.
const OLD: Duration = Duration::from_secs(1);

/// How long what was read is good enough, whoever asks for more: most of the time is not for reading.
fn good_for(reading: Duration) -> Duration {
    (reading * 4).clamp(FRESH, OLD)
}

impl ChannelManager {
    /// Goes on with what is looked after here, and sees what has changed. What fails is done by the next look.
    pub(super) async fn look(&mut self) {
        let done = async {
            if self.ports.store.is_shared() {
                self.hold().await?;
                let moved = self.here != self.ports.shards.here();
                if moved || self.is_older_than(READ_AGAIN) || self.is_unfinished() {
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
        self.here = here;
        (self.read_at, self.read_took) = (Some(Instant::now()), begun.elapsed());
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
        let is_old = self.is_older_than(good_for(self.read_took));
        if self.ports.store.is_shared() && is_old { self.read().await } else { Ok(()) }
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.read_at.is_none_or(|read_at| read_at.elapsed() >= age)
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
        if !self.ports.store.claim(tenant, id.0).await? {
            return Err(NotDone::OnItsWay);
        }
        if let Err(error) = self.ports.store.save(&connection, Some(&sealed)).await {
            self.ports.store.release(tenant, id.0).await?;
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
        let id = |known: &Known| (known.connection.tenant, known.connection.id);
        let leaving: Vec<_> = self.known.values().filter(leaving).map(id).collect();
        let arriving: Vec<_> = self.known.values().filter(arriving).map(id).collect();
        for (tenant, id) in leaving {
            self.end(id).await;
            self.ports.store.release(tenant, id.0).await?;
        }
        for (tenant, id) in arriving {
            if !self.ports.store.claim(tenant, id.0).await? {
                continue;
            }
            let way = self.known.get(&id).map(|known| self.start(&known.connection));
            if let Some(known) = self.known.get_mut(&id) {
                known.way = way;
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

#[test]
fn who_asks_for_what_is_not_there_makes_it_be_read_often_but_not_all_the_time() {
    let millis = Duration::from_millis;
    for (reading, good) in [(0, 50), (2, 50), (12, 50), (40, 160), (900, 1_000)] {
        assert_eq!(good_for(millis(reading)), millis(good), "{reading}");
    }
}

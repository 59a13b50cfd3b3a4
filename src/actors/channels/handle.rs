//! Talking to the channels.

use super::{ChannelManager, Msg, NotDone, Way};
use crate::actors::channel::{Msg as ChannelMsg, Status};
use crate::actors::kit::{AskError, Contact, Handle, Reply};
use crate::domain::channel::Connection;
use crate::domain::channel::mapping::MatchReport;
use crate::domain::ids::{ConnectionId, TenantId};
use crate::ports::channel::{Credentials, Notice};

/// What the edge sees of the channels. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Channels(Contact<ChannelManager>);

/// An answer, or why there is none.
pub type Asked<T> = Result<Result<T, NotDone>, AskError>;

impl Channels {
    /// Over the kit's handle.
    pub fn new(handle: Handle<ChannelManager>) -> Self {
        Self(Contact::with(handle))
    }

    /// Nobody: every ask is refused.
    pub fn none() -> Self {
        Self(Contact::nobody())
    }

    /// Connects.
    pub async fn create(&self, connection: Connection, credentials: Credentials) -> Asked<ConnectionId> {
        self.0.ask(|reply| Msg::Create(Box::new(connection), credentials, reply)).await
    }

    /// Where the owner of an account goes to agree.
    pub async fn begin(&self, connection: Connection) -> Asked<String> {
        self.0.ask(|reply| Msg::Begin(Box::new(connection), reply)).await
    }

    /// The owner is back, with this query.
    pub async fn finish(&self, query: String) -> Asked<ConnectionId> {
        self.0.ask(|reply| Msg::Finish(query, reply)).await
    }

    /// Forgets a connection, and everything about it.
    pub async fn remove(&self, tenant: TenantId, id: ConnectionId) -> Asked<()> {
        self.0.ask(|reply| Msg::Remove(tenant, id, reply)).await
    }

    /// The tenant's connections.
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<Connection>, AskError> {
        self.0.ask(|reply| Msg::List(tenant, reply)).await
    }

    /// News of an account at MercadoLibre, by an app; says whether it is new.
    pub async fn hinted(&self, account: String, app: String, notice: Notice) -> Asked<bool> {
        self.0.ask(|reply| Msg::Hinted { account, app, notice, reply }).await
    }

    /// News that says of itself who it is from; says whether it is new.
    pub async fn signed(&self, connection: ConnectionId, signature: String, notice: Notice) -> Asked<bool> {
        self.0.ask(|reply| Msg::Signed { connection, signature, notice, reply }).await
    }

    /// Asks a connection's own actor.
    pub async fn of<R>(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        message: impl FnOnce(Reply<R>) -> ChannelMsg,
    ) -> Asked<R> {
        match self.0.ask(|reply| Msg::Find(tenant, id, reply)).await? {
            Ok(way) => Ok(Ok(way.ask(message).await?)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The way to a connection's own actor, whosever it is: for the installation, not for tenants.
    pub(super) async fn way(&self, id: ConnectionId) -> Result<Option<Way>, AskError> {
        self.0.ask(|reply| Msg::FindAny(id, reply)).await
    }

    /// How a connection stands.
    pub async fn status(&self, tenant: TenantId, id: ConnectionId) -> Asked<Status> {
        self.of(tenant, id, ChannelMsg::Status).await
    }

    /// Which unit is which item; takes the certain ones over if told to.
    pub async fn match_items(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        apply: bool,
    ) -> Asked<Result<MatchReport, String>> {
        self.of(tenant, id, |reply| ChannelMsg::Match { apply, reply }).await
    }
}

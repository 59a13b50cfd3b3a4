//! What the channels are asked, why something was not done, and the way to one of them.

use super::MOST;
use crate::actors::channel::{MeliActor, Msg as ChannelMsg, ShopifyActor};
use crate::actors::kit::{Answer, Handle, Reply};
use crate::actors::listening::Heard;
use crate::domain::channel::{Connection, Refused};
use crate::domain::ids::{ConnectionId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::{Credentials, Notice};

/// Why something was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotDone {
    /// There is no such connection of the tenant's.
    #[error("the connection does not exist")]
    Unknown,
    /// The tenant has as many as it may have.
    #[error("a tenant has at most {MOST} connections")]
    TooMany,
    /// The account is connected already.
    #[error("this account and place are connected already")]
    Taken,
    /// It is on its way to this node, or from it: nothing was done.
    #[error("nobody looks after the connection for the moment")]
    OnItsWay,
    /// Nobody was sent there who could come back like this.
    #[error("the state is unknown, used, or too old")]
    Stranger,
    /// It is not signed with the connection's secret.
    #[error("the signature is not valid")]
    Unsigned,
    /// It cannot be opened or kept as it is.
    #[error("{0}")]
    Refused(String),
    /// Something below could not be reached.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// What it is asked.
pub enum Msg {
    /// Time to see what there is to look after.
    Look,
    /// Something came of listening to the bus.
    Heard(Heard),
    /// Connect.
    Create(Box<Connection>, Credentials, Reply<Result<ConnectionId, NotDone>>),
    /// Where the owner of an account goes to agree.
    Begin(Box<Connection>, Reply<Result<String, NotDone>>),
    /// The owner is back, with this query.
    Finish(String, Reply<Result<ConnectionId, NotDone>>),
    /// What the owner brought was worth these credentials.
    Agreed(Box<Connection>, Result<Credentials, Refused>, Reply<Result<ConnectionId, NotDone>>),
    /// Forget a connection.
    Remove(TenantId, ConnectionId, Reply<Result<(), NotDone>>),
    /// The tenant's connections.
    List(TenantId, Reply<Vec<Connection>>),
    /// Somebody's way to a connection's own actor.
    Find(TenantId, ConnectionId, Reply<Result<Way, NotDone>>),
    /// The installation's way to a connection's own actor, whosever it is.
    FindAny(ConnectionId, Reply<Option<Way>>),
    /// News of an account at MercadoLibre, by an app; says whether it is new.
    Hinted { account: String, app: String, notice: Notice, reply: Reply<Result<bool, NotDone>> },
    /// News that says of itself who it is from; says whether it is new.
    Signed {
        connection: ConnectionId,
        signature: String,
        notice: Notice,
        reply: Reply<Result<bool, NotDone>>,
    },
}

/// The way to one channel.
#[derive(Clone, Debug)]
pub enum Way {
    Shopify(Handle<ShopifyActor>),
    Meli(Handle<MeliActor>),
}

impl Way {
    /// Asks, as [`Handle::ask`].
    pub fn ask<R>(&self, message: impl FnOnce(Reply<R>) -> ChannelMsg) -> Answer<R> {
        match self {
            Self::Shopify(handle) => handle.ask(message),
            Self::Meli(handle) => handle.ask(message),
        }
    }

    pub(super) fn tell(&self, message: ChannelMsg) {
        // A channel that is stopped needs no news: the next one compares everything.
        match self {
            Self::Shopify(handle) => handle.feedback(message).ok(),
            Self::Meli(handle) => handle.feedback(message).ok(),
        };
    }
}

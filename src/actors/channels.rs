//! The channels: which connections there are, who looks after each, and what moved.
//!
//! Owns the list of connections and the reading ends of their consumer groups on the bus. Each connection is an actor
//! of its own below it, so that one marketplace's trouble is nobody else's.
//!
//! It knows every connection of the installation, and looks after those whose tenant's shard is here, once it has the
//! claim on each (`looking.rs`).
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`] asks |
//! | restart | with back-off, without end: ends the channels there are, starts those that are its to look after, and goes on behind the last confirmed event |
//! | messages in | from the edge ([`Channels`]), its own |
//! | messages out | movements to the channels, as feedback: a batch of the bus is at most [`BATCH`] events and is merged per unit |
//!
//! An event is confirmed once every channel that it concerns has it in its mailbox, which outlives the channel's
//! failures; a process that dies loses nothing, since a channel that starts compares everything anew.

mod handle;
mod installing;
mod letters;
mod looking;
mod notices;

pub use handle::{Asked, Channels};
pub use letters::Letters;

use super::channel::{self, ForMeli, ForShopify, MeliActor, Msg as ChannelMsg, Pace, Ports, ShopifyActor};
use super::kit::{Answer, Behaviour, Cx, Fault, Handle, Place, Reply, RestartPolicy, Spec, Supervisor};
use super::listening::listen;
use crate::domain::channel::{ChannelKind, Connection, Refused};
use crate::domain::event::{Body, Event};
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::ports::bus::{Delivery, EventFeed};
use crate::ports::channel::{Credentials, Installer, Notice, Sealed};
use crate::ports::{Open, PortError};
use installing::Away;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Asks that it may have open at once.
pub const CAPACITY: usize = 256;

/// Events taken from the bus at once.
pub const BATCH: usize = 4_096;

/// Where no connection is of a kind, its group only has to keep up: once it has, it waits, and a commit wakes nobody.
const IDLE: Duration = Duration::from_millis(200);

/// A message of a channel may take this long: it waits for its own file only.
const LIMIT: Duration = Duration::from_secs(30);

/// Between two looks at which connections are to be looked after here: well within the life of a claim.
const LOOK: Duration = Duration::from_secs(1);

/// Connections of one tenant at most.
const MOST: usize = 50;

/// A channel's own failures never end anything but itself.
pub const POLICY: RestartPolicy = RestartPolicy {
    max_restarts: usize::MAX,
    window: Duration::from_secs(60),
    backoff_min: Duration::from_millis(50),
    backoff_max: Duration::from_secs(30),
};

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
    /// Time to wait for events of a kind again.
    Listen(ChannelKind, Box<dyn EventFeed>),
    /// The bus had something for a kind.
    Fetched(ChannelKind, Box<dyn EventFeed>, Result<Vec<Delivery>, PortError>),
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

    fn tell(&self, message: ChannelMsg) {
        // A channel that is stopped needs no news: the next one compares everything.
        match self {
            Self::Shopify(handle) => handle.feedback(message).ok(),
            Self::Meli(handle) => handle.feedback(message).ok(),
        };
    }
}

/// A connection at rest.
struct Known {
    connection: Connection,
    sealed: Sealed,
    /// To its actor, while it is looked after here.
    way: Option<Way>,
}

/// Opens the reading ends of each kind's group on the bus; none where the bus has no such groups.
pub type Feeds = Vec<(ChannelKind, Open<Box<dyn EventFeed>>)>;

/// The state.
pub struct ChannelManager {
    ports: Ports,
    pace: Pace,
    feeds: Feeds,
    supervisor: Supervisor,
    known: HashMap<ConnectionId, Known>,
    /// When they were read, how long that took, and which shards were here before that.
    read_at: Option<Instant>,
    read_took: Duration,
    here: Vec<bool>,
    installer: Arc<dyn Installer>,
    away: Away,
    events: u64,
}

impl ChannelManager {
    /// Starts its channels below `supervisor`.
    pub fn new(
        ports: Ports,
        pace: Pace,
        feeds: Feeds,
        installer: Arc<dyn Installer>,
        supervisor: Supervisor,
    ) -> Self {
        Self {
            ports,
            pace,
            feeds,
            supervisor,
            known: HashMap::new(),
            read_at: None,
            read_took: Duration::ZERO,
            here: Vec::new(),
            installer,
            away: Away::default(),
            events: 0,
        }
    }

    /// A connection's actor, on this thread.
    fn start(&self, connection: &Connection) -> Way {
        let spec = Spec::new(name_of(connection), channel::CAPACITY).restart(POLICY).limit(LIMIT);
        let (ports, pace, opened) = (self.ports.clone(), self.pace, connection.clone());
        match connection.kind {
            ChannelKind::Shopify => Way::Shopify(self.supervisor.start(spec, Place::Here, move || {
                channel::Channel::<ForShopify>::new(ports.clone(), opened.clone(), pace)
            })),
            ChannelKind::Meli => Way::Meli(self.supervisor.start(spec, Place::Here, move || {
                channel::Channel::<ForMeli>::new(ports.clone(), opened.clone(), pace)
            })),
        }
    }
}

/// What a connection's actor is called.
fn name_of(connection: &Connection) -> String {
    format!("{}-{}", connection.kind, connection.id)
}

impl ChannelManager {
    /// A connection of the tenant's, wherever it is looked after.
    fn of(&self, tenant: TenantId, id: ConnectionId) -> Option<&Known> {
        self.known.get(&id).filter(|known| known.connection.tenant == tenant)
    }

    async fn create(
        &mut self,
        connection: Connection,
        credentials: &Credentials,
    ) -> Result<ConnectionId, NotDone> {
        self.read_if_old().await?;
        if !self.ports.shards.is_here(connection.tenant) {
            return Err(NotDone::OnItsWay);
        }
        let mine = |other: &&Known| other.connection.tenant == connection.tenant;
        if self.known.values().filter(mine).count() >= MOST {
            return Err(NotDone::TooMany);
        }
        let is_same = |other: &Known| {
            let other = &other.connection;
            // A seller's refresh token is good for one user of it, whatever the warehouse.
            (other.kind, &other.account) == (connection.kind, &connection.account)
                && (connection.kind == ChannelKind::Meli || other.place == connection.place)
        };
        if self.known.values().any(is_same) {
            return Err(NotDone::Taken);
        }
        // What cannot be opened is not kept.
        let refused = |error: PortError| NotDone::Refused(error.to_string());
        (self.ports.open)(&connection, credentials.clone()).map_err(refused)?;
        let sealed = self.ports.vault.seal(connection.id, credentials).map_err(refused)?;
        let id = connection.id;
        self.add(connection, sealed).await?;
        Ok(id)
    }

    async fn remove(&mut self, tenant: TenantId, id: ConnectionId) -> Result<(), NotDone> {
        self.find(tenant, id).await?;
        self.end(id).await;
        self.ports.store.remove(tenant, id).await?;
        self.known.remove(&id);
        Ok(())
    }

    /// The way to a connection's actor.
    async fn find(&mut self, tenant: TenantId, id: ConnectionId) -> Result<Way, NotDone> {
        if self.of(tenant, id).is_none() {
            self.read_if_old().await?;
        }
        let known = self.of(tenant, id).ok_or(NotDone::Unknown)?;
        known.way.clone().ok_or(NotDone::OnItsWay)
    }

    /// Waits for events beside the mailbox.
    fn fetch(kind: ChannelKind, feed: Box<dyn EventFeed>, cx: &mut Cx<Self>) {
        listen(feed, BATCH, cx, move |feed, fetched| Msg::Fetched(kind, feed, fetched));
    }

    fn has_any(&self, kind: ChannelKind) -> bool {
        self.known.values().any(|known| known.connection.kind == kind)
    }

    /// Tells each channel of a kind what moved in its shop.
    fn spread(&self, kind: ChannelKind, deliveries: &[Delivery]) {
        let of_kind = || {
            let known = self.known.values().filter(move |known| known.connection.kind == kind);
            known.filter_map(|known| Some((known.connection.tenant, known.way.as_ref()?)))
        };
        if of_kind().next().is_none() {
            return;
        }
        let mut moved: HashMap<TenantId, (HashMap<UnitId, bool>, u64)> = HashMap::new();
        for delivery in deliveries {
            let event: &Event = &delivery.event;
            let (units, newest) = moved.entry(event.tenant).or_default();
            let sold = matches!(event.body, Body::SaleCreated { .. });
            for movement in event.movements() {
                *units.entry(movement.unit).or_insert(true) &= sold;
            }
            // It may be for sale no more, or again.
            if let Body::ProductsUpserted { units: changed } = &event.body {
                units.extend(changed.iter().map(|unit| (unit.id, false)));
            }
            *newest = (*newest).max(event.sequence);
        }
        for (tenant, way) in of_kind() {
            let Some((units, sequence)) = moved.get(&tenant) else { continue };
            if !units.is_empty() {
                let units = units.iter().map(|(unit, sold)| (*unit, *sold)).collect();
                way.tell(ChannelMsg::Moved { units, sequence: *sequence });
            }
        }
    }
}

impl Behaviour for ChannelManager {
    const KIND: &'static str = "channels";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.read().await?;
        let names: Vec<String> = self.known.values().map(|known| name_of(&known.connection)).collect();
        for name in names {
            // Of an earlier life of this actor.
            self.supervisor.stop_child(&name).await;
        }
        self.divide().await?;
        cx.notify_after(LOOK, Msg::Look);
        for (kind, open) in &self.feeds {
            Self::fetch(*kind, open().await?, cx);
        }
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Look => {
                self.look().await;
                cx.notify_after(LOOK, Msg::Look);
            }
            Msg::Listen(kind, feed) => Self::fetch(kind, feed, cx),
            Msg::Fetched(kind, mut feed, fetched) => {
                let deliveries = fetched?;
                self.spread(kind, &deliveries);
                self.events += deliveries.len() as u64;
                feed.done(&deliveries).await?;
                if cx.shutting_down() {
                    // Whoever takes it up again goes on behind what is confirmed.
                } else if self.has_any(kind) || deliveries.len() == BATCH {
                    Self::fetch(kind, feed, cx);
                } else {
                    cx.notify_after(IDLE, Msg::Listen(kind, feed));
                }
            }
            Msg::Create(connection, credentials, reply) => {
                reply.send(self.create(*connection, &credentials).await);
            }
            Msg::Begin(connection, reply) => reply.send(self.begin(*connection)),
            Msg::Finish(query, reply) => self.finish(&query, reply, cx),
            Msg::Agreed(connection, credentials, reply) => {
                reply.send(self.agreed(*connection, credentials).await);
            }
            Msg::Remove(tenant, id, reply) => reply.send(self.remove(tenant, id).await),
            Msg::List(tenant, reply) => {
                let mine = self.known.values().filter(|known| known.connection.tenant == tenant);
                let mut mine: Vec<Connection> = mine.map(|known| known.connection.clone()).collect();
                mine.sort_by_key(|connection| connection.id);
                reply.send(mine);
            }
            Msg::Find(tenant, id, reply) => reply.send(self.find(tenant, id).await),
            Msg::FindAny(id, reply) => {
                reply.send(self.known.get(&id).and_then(|known| known.way.clone()));
            }
            Msg::Hinted { account, app, notice, reply } => {
                reply.send(self.hinted(&account, &app, &notice).await);
            }
            Msg::Signed { connection, signature, notice, reply } => {
                reply.send(self.signed(connection, &signature, &notice).await);
            }
        }
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        let here = self.known.values().filter(|known| known.way.is_some()).count();
        json!({
            "connections": self.known.len(), "here": here, "groups": self.feeds.len(), "events": self.events,
        })
    }
}

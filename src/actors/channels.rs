//! The channels: which connections there are, who looks after each, and what moved.
//!
//! Owns the list of connections and the reading ends of their consumer groups on the bus (`listening.rs`). Each
//! connection is an actor of its own below it, so that one marketplace's trouble is nobody else's.
//!
//! It knows every connection of the installation, and looks after those whose tenant's shard is here, once it has the
//! claim on each (`looking.rs`).
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`] asks |
//! | restart | with back-off, without end: ends the channels there are, starts those that are its to look after, and goes on behind the last confirmed event |
//! | messages in | from the edge ([`Channels`]), its own |
//! | messages out | movements to the channels, as feedback: a batch of the bus is at most [`BATCH`](super::listening::BATCH) events and is merged per unit |
//!
//! An event is confirmed once every channel that it concerns has it in its mailbox, which outlives the channel's
//! failures; a process that dies loses nothing, since a channel that starts compares everything anew. So does a channel
//! whose shard begins to be heard of; while it is not, it compares often.

mod handle;
mod installing;
mod letters;
mod looking;
mod messages;
mod notices;

pub use handle::{Asked, Channels};
pub use letters::Letters;
pub use messages::{Msg, NotDone, Way};

use super::channel::{self, ForMeli, ForShopify, Msg as ChannelMsg, Pace, Ports};
use super::kit::{Behaviour, Cx, Fault, Place, RestartPolicy, Spec, Supervisor};
use super::listening::{Ears, Heard, Want};
use super::reading::Reading;
use crate::domain::channel::{ChannelKind, Connection};
use crate::domain::event::{Body, Event};
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::domain::tenant::shard_of;
use crate::ports::PortError;
use crate::ports::bus::{Delivery, Subscription};
use crate::ports::channel::{Credentials, Installer, Sealed};
use installing::Away;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Asks that it may have open at once.
pub const CAPACITY: usize = 256;

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

/// A connection at rest.
struct Known {
    connection: Connection,
    sealed: Sealed,
    /// To its actor, while it is looked after here.
    way: Option<Way>,
}

/// Each kind's groups on the bus.
pub type Groups = Vec<(ChannelKind, Arc<dyn Subscription>)>;

/// The state.
pub struct ChannelManager {
    ports: Ports,
    pace: Pace,
    ears: Ears<ChannelKind>,
    supervisor: Supervisor,
    known: HashMap<ConnectionId, Known>,
    reading: Reading,
    installer: Arc<dyn Installer>,
    away: Away,
    events: u64,
}

impl ChannelManager {
    /// Starts its channels below `supervisor`.
    pub fn new(
        ports: Ports,
        pace: Pace,
        groups: Groups,
        installer: Arc<dyn Installer>,
        supervisor: Supervisor,
    ) -> Self {
        Self {
            ports,
            pace,
            ears: Ears::new(groups),
            supervisor,
            known: HashMap::new(),
            reading: Reading::default(),
            installer,
            away: Away::default(),
            events: 0,
        }
    }

    /// A connection's actor, on this thread.
    fn start(&self, connection: &Connection) -> Way {
        let spec = Spec::new(name_of(connection), channel::CAPACITY).restart(POLICY).limit(LIMIT);
        let (ports, pace, opened) = (self.ports.clone(), self.pace, connection.clone());
        let hearing = self.ears.hearing(connection.kind, self.shard_of(connection.tenant));
        match connection.kind {
            ChannelKind::Shopify => Way::Shopify(self.supervisor.start(spec, Place::Here, move || {
                channel::Channel::<ForShopify>::new(ports.clone(), opened.clone(), pace, hearing.clone())
            })),
            ChannelKind::Meli => Way::Meli(self.supervisor.start(spec, Place::Here, move || {
                channel::Channel::<ForMeli>::new(ports.clone(), opened.clone(), pace, hearing.clone())
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

    fn shard_of(&self, tenant: TenantId) -> usize {
        shard_of(tenant, self.ports.shards.count())
    }

    /// Listens where there are connections to tell.
    async fn listen(&mut self, cx: &mut Cx<Self>) {
        let here: HashSet<_> = self.here().map(|(connection, _)| self.place_of(connection)).collect();
        let want = |kind, shard| if here.contains(&(kind, shard)) { Want::Here } else { Want::Elsewhere };
        self.ears.look(want, cx, Msg::Heard).await;
    }

    fn place_of(&self, connection: &Connection) -> (ChannelKind, usize) {
        (connection.kind, self.shard_of(connection.tenant))
    }

    /// Those that are looked after here.
    fn here(&self) -> impl Iterator<Item = (&Connection, &Way)> {
        self.known.values().filter_map(|known| Some((&known.connection, known.way.as_ref()?)))
    }

    async fn heard(&mut self, heard: Heard, cx: &mut Cx<Self>) {
        if let Some(batch) = self.ears.hear(heard, cx, Msg::Heard) {
            self.spread(batch.of, &batch.deliveries);
            self.events += batch.deliveries.len() as u64;
            let is_idle = !self.has_any(batch.of) && !batch.is_full();
            self.ears.confirm(batch, is_idle.then_some(IDLE), cx, Msg::Heard).await;
        }
        for (kind, shard) in self.ears.changes() {
            let concerned = |connection: &Connection| {
                let (its, at) = self.place_of(connection);
                its == kind && shard.is_none_or(|shard| shard == at)
            };
            for (_, way) in self.here().filter(|(connection, _)| concerned(connection)) {
                way.tell(ChannelMsg::HearingChanged);
            }
        }
    }

    fn has_any(&self, kind: ChannelKind) -> bool {
        self.known.values().any(|known| known.connection.kind == kind)
    }

    /// Tells each channel of a kind what moved in its shop.
    fn spread(&self, kind: ChannelKind, deliveries: &[Delivery]) {
        let of_kind = || self.here().filter(move |(connection, _)| connection.kind == kind);
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
        for (connection, way) in of_kind() {
            let Some((units, sequence)) = moved.get(&connection.tenant) else { continue };
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
        self.ears.begin(cx, Msg::Heard).await?;
        self.listen(cx).await;
        cx.notify_after(LOOK, Msg::Look);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Look => {
                self.look().await;
                self.listen(cx).await;
                cx.notify_after(LOOK, Msg::Look);
            }
            Msg::Heard(heard) => self.heard(heard, cx).await,
            Msg::Create(connection, credentials, reply) => {
                reply.send(self.create(*connection, &credentials).await);
                self.listen(cx).await;
            }
            Msg::Begin(connection, reply) => reply.send(self.begin(*connection)),
            Msg::Finish(query, reply) => self.finish(&query, reply, cx),
            Msg::Agreed(connection, credentials, reply) => {
                reply.send(self.agreed(*connection, credentials).await);
                self.listen(cx).await;
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
        json!({
            "connections": self.known.len(), "here": self.here().count(), "groups": self.ears.len(),
            "events": self.events,
        })
    }
}

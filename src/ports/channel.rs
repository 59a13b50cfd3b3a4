//! Marketplaces, and what is remembered of the connections to them.

use super::PortError;
use super::leases::Leases;
use crate::domain::channel::mapping::Listed;
use crate::domain::channel::order::Order;
use crate::domain::channel::{Connection, Mode, Push, Refused};
use crate::domain::dead_letter::DeadLetter;
use crate::domain::hook::Message;
use crate::domain::ids::{ConnectionId, SaleId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What a marketplace answers, in a while.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Refused>>;

/// What a marketplace's client may say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pushes of one call at most.
    pub batch: usize,
}

/// Pushes that go out in one call. A call that is made again is the same to the last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Tells the marketplace that a second one is the same as the first.
    pub key: Uuid,
    /// What is to be shown, each item once.
    pub pushes: Vec<Push>,
    /// How it is written.
    pub mode: Mode,
}

/// A client of one account at one marketplace. It keeps the marketplace's limits: a call that has to wait for its
/// turn waits inside. It retries nothing; what has to happen next is in [`Refused::verdict`].
pub trait Marketplace: Send {
    /// What it can do at once.
    fn limits(&self) -> Limits;

    /// Whether account and token work; says what the account is called there.
    fn check(&mut self) -> Answer<'_, String>;

    /// A page of the items there, and what to ask for the next one with.
    fn list(&mut self, after: Option<String>) -> Answer<'_, (Vec<Listed>, Option<String>)>;

    /// What items show, in the order asked for; nothing for an item that is not there.
    fn read<'a>(&'a mut self, items: &'a [String]) -> Answer<'a, Vec<Option<i64>>>;

    /// Makes the items show what they should, all or none of the call's.
    fn push<'a>(&'a mut self, call: &'a Call) -> Answer<'a, ()>;

    /// Fresh credentials instead of those that are not accepted any more; they are used from now on. Whoever asks keeps
    /// them before anything else is called.
    fn renew(&mut self) -> Answer<'_, Credentials>;

    /// Sees to it that the marketplace tells us; says how much of it was missing.
    fn subscribe(&mut self) -> Answer<'_, usize> {
        async { Ok(0) }.boxed()
    }

    /// News that could not be delivered to us, where the marketplace keeps it.
    fn missed(&mut self) -> Answer<'_, Vec<Missed>> {
        async { Ok(Vec::new()) }.boxed()
    }

    /// What a notice is about; asks the marketplace where the notice does not say it all.
    fn news<'a>(&'a mut self, notice: &'a Notice) -> Answer<'a, News>;
}

/// News that was missed: a [`Notice`] that nobody has taken in yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The marketplace's own id of the news.
    pub id: String,
    /// What it is about.
    pub topic: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What a notice is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An order, as it stands now.
    Order(Order),
    /// What this item shows has changed, by us or by somebody else.
    Level(String),
    /// Nothing that matters here.
    Nothing,
}

/// Connects an account by way of its owner's agreement.
pub trait Installer: Send + Sync {
    /// Where the owner goes to agree; `state` comes back with them.
    fn authorize_url(&self, account: &str, state: &str) -> Result<String, PortError>;

    /// Whether the query that the owner comes back with is the marketplace's own.
    fn is_genuine(&self, query: &str) -> bool;

    /// Credentials for the code in it.
    fn exchange<'a>(&'a self, account: &'a str, code: &'a str) -> Answer<'a, Credentials>;
}

/// Makes a client of a connection.
pub type OpenMarketplace =
    Arc<dyn Fn(&Connection, Credentials) -> Result<Box<dyn Marketplace>, PortError> + Send + Sync>;

/// What opens an account.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The app's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The app's secret; notices are signed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// What calls are made with.
    pub access_token: String,
    /// What the next one is asked for with; used once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// Something that only whoever has the key of that name can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Which key.
    pub key_id: String,
    /// Nonce, then ciphertext.
    pub bytes: Vec<u8>,
}

/// Keeps credentials unreadable at rest.
pub trait Vault: Send + Sync {
    /// Seals with the newest key. What is sealed for one connection does not open for another.
    fn seal(&self, connection: ConnectionId, credentials: &Credentials) -> Result<Sealed, PortError>;

    /// Opens what any known key has sealed.
    fn open(&self, connection: ConnectionId, sealed: &Sealed) -> Result<Credentials, PortError>;

    /// Whether it was sealed with an older key, so that it should be sealed anew.
    fn is_outdated(&self, sealed: &Sealed) -> bool;
}

/// Which unit is which item, and what the item was last confirmed to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The unit.
    pub unit: UnitId,
    /// Its item there.
    pub item: String,
    /// What it showed, if that is known.
    pub shown: Option<i64>,
}

/// A push that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which unit.
    pub unit: UnitId,
    /// The marketplace's word for the reason; what failures are grouped by.
    pub code: String,
    /// Why, for a person.
    pub cause: String,
    /// What was sent, without secrets.
    pub request: String,
    /// What came back.
    pub response: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up last.
    pub at: Timestamp,
}

/// News from a marketplace, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What makes a second delivery the same: the marketplace's own id of the news.
    pub id: String,
    /// What it is about.
    pub topic: String,
    /// The body, to the byte.
    pub body: Vec<u8>,
    /// When it came.
    pub at: Timestamp,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRecord {
    /// Its id there.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The sale it became.
    pub sale: Option<SaleId>,
    /// `vendido`, `sin_stock`, `sin_mapear`, `rechazado`, `cancelado`.
    pub state: String,
    /// What a person has to do, if anything.
    pub remark: String,
    /// As of which state of the order there.
    pub version: Timestamp,
    /// When that was decided.
    pub at: Timestamp,
}

/// News that was given up: it cannot be read, or its order cannot be sold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The notice's id.
    pub notice: String,
    /// What it is about.
    pub topic: String,
    /// The order in it, if it is known.
    pub order: Option<String>,
    /// The reason in a word.
    pub code: String,
    /// Why, for a person.
    pub cause: String,
    /// What came back, if the marketplace was asked.
    pub response: String,
    /// When.
    pub at: Timestamp,
}

/// What became of news.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The notice's id.
    pub notice: String,
    /// What became of its order, if it was about one.
    pub order: Option<OrderRecord>,
    /// Why it was given up, if it was.
    pub given_up: Option<GivenUp>,
    /// What webhooks are told about it.
    pub told: Vec<Message>,
}

/// What a store says, in a while.
pub type Stored<'a, T> = BoxFuture<'a, Result<T, PortError>>;

/// What must outlive the process: connections, mappings with what was confirmed, failures, news, orders. Each call is
/// one transaction.
///
/// What only whoever looks after a connection writes needs its claim: [`save`](Self::save), [`map`](Self::map),
/// [`unmap`](Self::unmap), [`shown`](Self::shown), [`fail`](Self::fail), [`done`](Self::done) and
/// [`renewing`](Self::renewing). Anybody may take in news, give up on what was given up, and remove.
pub trait ChannelStore: Leases {
    /// Every connection of every tenant, with what opens it.
    fn connections(&self) -> Stored<'_, Vec<(Connection, Sealed)>>;

    /// One of them.
    fn connection(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
    ) -> Stored<'_, Option<(Connection, Sealed)>>;

    /// Adds a connection or changes it; its credentials only when they are given.
    ///
    /// # Errors
    ///
    /// Permanent when the account and place are connected already.
    fn save<'a>(&'a self, connection: &'a Connection, credentials: Option<&'a Sealed>) -> Stored<'a, ()>;

    /// Somebody is about to ask for credentials instead of these, which are good for one use: nobody else takes the
    /// connection within `patience`. Says what is at rest when that are others by now: they are to be used instead.
    fn renewing<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &'a Sealed,
        patience: Duration,
    ) -> Stored<'a, Option<Sealed>>;

    /// Credentials that were given for these; false when others are at rest by now, which are not touched. Whoever got
    /// them keeps them, with a claim or without: a marketplace gives them once.
    fn renewed<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        from: &'a Sealed,
        fresh: &'a Sealed,
    ) -> Stored<'a, bool>;

    /// Forgets a connection and everything about it.
    fn remove(&self, tenant: TenantId, connection: ConnectionId) -> Stored<'_, ()>;

    /// A connection's mappings.
    fn mappings(&self, tenant: TenantId, connection: ConnectionId) -> Stored<'_, Vec<Mapping>>;

    /// Adds mappings; each takes the place of the one of its unit or its item.
    fn map<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        mappings: &'a [Mapping],
    ) -> Stored<'a, ()>;

    /// A unit is no item any more; false when it was none.
    fn unmap(&self, tenant: TenantId, connection: ConnectionId, unit: UnitId) -> Stored<'_, bool>;

    /// Items are confirmed to show this; failures about them are forgotten.
    fn shown<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        shown: &'a [(UnitId, Option<i64>)],
        at: Timestamp,
    ) -> Stored<'a, ()>;

    /// Pushes were given up; each takes the place of the one about its unit.
    fn fail<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        failures: &'a [Failure],
    ) -> Stored<'a, ()>;

    /// Failures of these units are forgotten; says how many there were.
    fn forget<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        units: &'a [UnitId],
    ) -> Stored<'a, usize>;

    /// Pushes that were given up, the newest first.
    fn failures(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<Failure>>;

    /// Takes in news; false when it is there already, done or not.
    fn receive<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: &'a Notice,
    ) -> Stored<'a, bool>;

    /// News that is not done, the oldest first.
    fn notices(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<Notice>>;

    /// Connections that have news which is not done.
    fn with_news(&self) -> Stored<'_, Vec<ConnectionId>>;

    /// News is done. What was given up about the same order before is forgotten.
    fn done<'a>(&'a self, tenant: TenantId, connection: ConnectionId, settled: &'a Settled)
    -> Stored<'a, ()>;

    /// News that was given up, the newest first.
    fn given_up(&self, tenant: TenantId, connection: ConnectionId, limit: usize) -> Stored<'_, Vec<GivenUp>>;

    /// News that was given up waits again: this notice, or all; says how many there were.
    fn revive<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        notice: Option<&'a str>,
    ) -> Stored<'a, usize>;

    /// News that was given up is forgotten; false when there was none.
    fn bury<'a>(&'a self, tenant: TenantId, connection: ConnectionId, notice: &'a str) -> Stored<'a, bool>;

    /// Everything that was given up, of every connection, the oldest first.
    fn letters(&self, most: usize) -> Stored<'_, Vec<DeadLetter>>;

    /// How many of them there are.
    fn letter_count(&self) -> Stored<'_, usize>;

    /// What became of an order.
    fn order<'a>(
        &'a self,
        tenant: TenantId,
        connection: ConnectionId,
        id: &'a str,
    ) -> Stored<'a, Option<OrderRecord>>;

    /// Orders that need a person, or the newest of all, the newest first.
    fn orders(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        limit: usize,
    ) -> Stored<'_, Vec<OrderRecord>>;
}

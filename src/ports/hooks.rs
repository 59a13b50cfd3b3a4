//! Webhooks that go out: who wants to be told what, what was told, and the sending of it.

use super::PortError;
use super::channel::{Sealed, Stored};
use super::leases::Leases;
use crate::domain::dead_letter::DeadLetter;
use crate::domain::hook::{Hook, Message, News};
use crate::domain::ids::{HookId, TenantId};
use crate::domain::time::Timestamp;
use futures_util::future::BoxFuture;

/// A message that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of what is sent.
    pub position: i64,
    /// Its id.
    pub id: String,
    /// The body, to the byte.
    pub body: Vec<u8>,
    /// How often it was sent.
    pub attempts: u32,
    /// Not before this moment.
    pub due_at: Timestamp,
}

/// What becomes of a message after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Delivered,
    /// It is sent again, not before this moment.
    Waits(Timestamp),
    /// It was given up.
    GivenUp,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which message.
    pub position: i64,
    /// What becomes of it.
    pub fate: Fate,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The beginning of the answer, or why there is none.
    pub response: String,
    /// When.
    pub at: Timestamp,
}

/// A line of the delivery log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its place in the order.
    pub position: i64,
    /// The message's id.
    pub id: String,
    /// What it is.
    pub news: News,
    /// `pendiente`, `entregada`, `descartada`.
    pub state: String,
    /// How often it was sent.
    pub attempts: u32,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// The beginning of it, or why there was none.
    pub response: String,
    /// When it happened.
    pub at: Timestamp,
    /// When it was sent last.
    pub tried_at: Option<Timestamp>,
    /// What was sent.
    pub body: Vec<u8>,
}

/// What must outlive the process. Each call is one transaction. Sending needs the receiver's claim: [`next`](Self::next),
/// [`tried`](Self::tried), and a change by [`save_hook`](Self::save_hook).
pub trait HookStore: Leases {
    /// Every receiver of every tenant, with its secret.
    fn hooks(&self) -> Stored<'_, Vec<(Hook, Sealed)>>;

    /// Adds a receiver or changes it; its secret only when it is given.
    fn save_hook<'a>(&'a self, hook: &'a Hook, secret: Option<&'a Sealed>) -> Stored<'a, ()>;

    /// Forgets a receiver and everything about it.
    fn remove_hook(&self, tenant: TenantId, hook: HookId) -> Stored<'_, ()>;

    /// Messages for every receiver of their tenant that wants them; what one has already is not told again. Says how
    /// many deliveries wait because of them.
    fn tell<'a>(&'a self, messages: &'a [Message]) -> Stored<'a, usize>;

    /// A message for one receiver, whatever it subscribed to.
    fn tell_one<'a>(&'a self, hook: &'a Hook, message: &'a Message) -> Stored<'a, ()>;

    /// The first that waits, if it is due or not.
    fn next(&self, tenant: TenantId, hook: HookId) -> Stored<'_, Option<Waiting>>;

    /// How many wait.
    fn waiting(&self, tenant: TenantId, hook: HookId) -> Stored<'_, u64>;

    /// What came of an attempt.
    fn tried<'a>(&'a self, tenant: TenantId, hook: HookId, attempt: &'a Attempt) -> Stored<'a, ()>;

    /// What was told a receiver, the newest first, before a position.
    fn log(
        &self,
        tenant: TenantId,
        hook: HookId,
        before: Option<i64>,
        limit: usize,
    ) -> Stored<'_, Vec<Logged>>;

    /// A message goes out again, whatever became of it; false when there is none.
    fn send_again(&self, tenant: TenantId, hook: HookId, position: i64) -> Stored<'_, bool>;

    /// A message that was given up is forgotten; false when there is none.
    fn bury_message(&self, tenant: TenantId, hook: HookId, position: i64) -> Stored<'_, bool>;

    /// Messages that were given up, the oldest first.
    fn hook_letters(&self, most: usize) -> Stored<'_, Vec<DeadLetter>>;

    /// How many of them there are.
    fn hook_letter_count(&self) -> Stored<'_, usize>;

    /// Tells of an alarm unless it has been told of; says whether it was.
    fn raise<'a>(&'a self, alarm: &'a str, message: &'a Message) -> Stored<'a, bool>;

    /// An alarm is over: the next one is told of again.
    fn clear<'a>(&'a self, alarm: &'a str) -> Stored<'a, ()>;
}

/// What goes out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where.
    pub url: String,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`, in seconds.
    pub moment: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// The body, to the byte.
    pub body: Vec<u8>,
    /// Whether the address was set by whoever runs the installation, so that it may be within its own network.
    pub trusted: bool,
}

/// Sends.
pub trait HookSender: Send + Sync {
    /// Whether a tenant may name this address; else the rule it breaks.
    fn check(&self, url: &str) -> Result<(), String>;

    /// Sends once. Any answer is an answer, with the beginning of it; no answer is the reason why.
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<(u16, String), PortError>>;
}

//! What the webhooks work with, what they are asked, and why something was not done.

use super::MOST;
use super::sending::Ran;
use crate::actors::kit::Reply;
use crate::actors::listening::Heard;
use crate::domain::hook::{Hook, Patience, Secret};
use crate::domain::ids::{HookId, TenantId};
use crate::domain::tenant::shard_of;
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::Vault;
use crate::ports::clock::SharedClock;
use crate::ports::dead_letters::DeadLetters;
use crate::ports::hooks::{HookSender, HookStore, Logged};
use std::sync::Arc;

/// Why something was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotDone {
    /// There is no such receiver of the tenant's.
    #[error("the webhook does not exist")]
    Unknown,
    /// The tenant has as many as it may have.
    #[error("a tenant has at most {MOST} webhooks")]
    TooMany,
    /// It was changed too often in a day.
    #[error("too many secrets of the webhook sign already")]
    TooManySecrets,
    /// The address may not be called.
    #[error("url {0}")]
    BadUrl(String),
    /// Something below could not be reached, or is not set up.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// For each shard, whether it is at this node.
pub type Here = Arc<dyn Fn() -> Vec<bool> + Send + Sync>;

/// What it works with.
#[derive(Clone)]
pub struct Ports {
    /// What must outlive the process.
    pub store: Arc<dyn HookStore>,
    /// Keeps secrets.
    pub vault: Arc<dyn Vault>,
    /// Sends.
    pub sender: Arc<dyn HookSender>,
    /// What was given up, all of it.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// The shards whose tenants' receivers are sent to from here.
    pub here: Here,
    /// Time.
    pub clock: SharedClock,
}

impl Ports {
    /// Whether a tenant's shard is here.
    pub fn is_here(&self, tenant: TenantId) -> bool {
        let here = (self.here)();
        !here.is_empty() && here[shard_of(tenant, here.len())]
    }

    /// Which shard is a tenant's.
    pub fn shard_of(&self, tenant: TenantId) -> usize {
        shard_of(tenant, (self.here)().len().max(1))
    }
}

/// How it does it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long it goes on.
    pub patience: Patience,
    /// Where whoever runs the installation wants alarms, and what they are signed with.
    pub operator: Option<(Arc<str>, Secret)>,
    /// More dead letters than this raise an alarm.
    pub most_letters: usize,
}

/// What it is asked.
pub enum Msg {
    /// Something came of listening to the bus.
    Heard(Heard),
    /// Every receiver is to be looked after.
    Look,
    /// Dead letters are to be counted.
    Count,
    /// They were.
    Counted(Result<usize, PortError>),
    /// Sending to a receiver came to an end, for now.
    Ran(Ran),
    /// Somebody wants to be told.
    Create(Box<Hook>, Secret, Reply<Result<(), NotDone>>),
    /// The tenant's receivers, each with how much waits for it.
    List(TenantId, Reply<Result<Vec<(Hook, u64)>, NotDone>>),
    /// Forget a receiver.
    Remove(TenantId, HookId, Reply<Result<(), NotDone>>),
    /// Stop or go on.
    Pause(TenantId, HookId, bool, Reply<Result<(), NotDone>>),
    /// Another secret, beside which the one before signs for a while; says until when.
    Rotate(TenantId, HookId, Secret, Reply<Result<Timestamp, NotDone>>),
    /// Send it something to see.
    Test(TenantId, HookId, Reply<Result<(), NotDone>>),
    /// What was told it, before a position.
    Log {
        tenant: TenantId,
        hook: HookId,
        before: Option<i64>,
        limit: usize,
        reply: Reply<Result<Vec<Logged>, NotDone>>,
    },
    /// Send a message again.
    Again(TenantId, HookId, i64, Reply<Result<bool, NotDone>>),
}

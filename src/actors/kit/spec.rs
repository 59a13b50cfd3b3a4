//! How an actor is to be run.

use super::RestartPolicy;
use std::time::Duration;

/// What the kit must know of an actor besides its behaviour.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Unique in the program: it names the actor in logs, metrics and reports.
    pub name: String,
    /// Places in the mailbox, at least 1.
    pub capacity: usize,
    /// A handler that waits longer than this is cut short and the actor rebuilt. It cannot cut a handler that blocks
    /// its thread; the watchdog sees those.
    pub handler_limit: Option<Duration>,
    /// How much failing is put up with.
    pub restart: RestartPolicy,
}

impl Spec {
    /// A mailbox of `capacity`, no handler limit, the default restart policy.
    pub fn new(name: impl Into<String>, capacity: usize) -> Self {
        Self { name: name.into(), capacity, handler_limit: None, restart: RestartPolicy::default() }
    }

    /// With a limit on each handler.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.handler_limit = Some(limit);
        self
    }

    /// With another restart policy.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.restart = policy;
        self
    }
}

/// Where an actor lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the calling thread, beside the other actors there: an ask among them costs well below a microsecond.
    Here,
    /// On a thread and runtime of its own, for work that would hold up the others. Joined at shutdown.
    OwnThread,
}

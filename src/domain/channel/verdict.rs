//! What the answer of a marketplace means for the call that was made: the one vocabulary in which every channel's
//! `retry.rs` speaks, and in which the actor decides what to do next.

use std::time::Duration;

/// A line of a batch that is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// Which line, if the marketplace said.
    pub index: Option<usize>,
    /// Its word for the reason; what failures are grouped by.
    pub code: String,
    /// Its explanation.
    pub message: String,
}

/// What has to happen before the call can succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Passing trouble, or nobody knows: the same call, under the same key.
    Again { after: Option<Duration> },
    /// Too many calls: the same one later. No sign of ill health.
    Throttled { after: Duration },
    /// Somebody changed what we thought was there: read it, then write anew.
    Stale,
    /// The same call under a new key.
    NewKey,
    /// The token is not accepted (any more).
    Unauthorized,
    /// Lines of the call are wrong and will be for ever.
    Rejected(Vec<Culprit>),
    /// Nothing will work before a person has done something about the connection.
    Broken,
}

impl Verdict {
    /// Whether a circuit breaker counts it as a failure of the marketplace.
    pub const fn is_ill_health(&self) -> bool {
        matches!(self, Self::Again { .. })
    }
}

/// A call that did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Refused {
    /// What has to happen next.
    pub verdict: Verdict,
    /// Why, in one line.
    pub cause: String,
    /// What was sent, without secrets.
    pub request: String,
    /// What came back, the beginning of it.
    pub response: String,
}

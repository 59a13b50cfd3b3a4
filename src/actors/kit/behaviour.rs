//! What an actor of Blend is: a state, a message type and a handler. Everything else is the kit's.

use super::Cx;
use std::{fmt, future::Future};

/// The state of one actor and what it does with a message.
///
/// The kit builds it with a factory, gives it one message at a time, and throws it away and builds a new one whenever
/// it fails: so the state may only hold what `started` can find again elsewhere. Futures run on the actor's thread and
/// need not be `Send`.
pub trait Behaviour: Sized + 'static {
    /// The kind of actor, the same for all instances: "reservation", "journal".
    const KIND: &'static str;

    /// What it understands; an enum whose variants carry a [`Reply`](super::Reply) where an answer is expected.
    type Msg: Send + 'static;

    /// Runs first, and again after every restart, while the mailbox waits. The handler time limit does not apply:
    /// a rebuild from the ledger may take as long as it needs.
    fn started(&mut self, _cx: &mut Cx<Self>) -> impl Future<Output = Result<(), Fault>> {
        async { Ok(()) }
    }

    /// One message at a time, in order: the next waits until this future is done. `Err` fails the actor, exactly as a
    /// panic does: it is rebuilt from its factory.
    fn handle(&mut self, msg: Self::Msg, cx: &mut Cx<Self>) -> impl Future<Output = Result<(), Fault>>;

    /// What operators see of this actor besides the common vitals. Called on the actor's thread, a few times a second
    /// at most.
    fn observe(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// Why a behaviour gave up. Any error turns into one with `?`; its message keeps the whole chain of causes.
///
/// Like `anyhow::Error` it is deliberately no `std::error::Error` itself, which is what makes the blanket `From`
/// possible.
pub struct Fault(String);

impl Fault {
    /// A fault that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self(message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({})", self.0)
    }
}

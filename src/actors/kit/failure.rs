//! The ways an actor can fail, as its keeper and supervisor talk about them.

use std::any::Any;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Panic,
    Fault,
    TimedOut,
}

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn fault(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Fault, message: message.into() }
    }

    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::TimedOut, message: message.into() }
    }

    /// From what a panic left behind; `panic!` with a text leaves the text.
    pub(crate) fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no message)");
        Self { kind: FailureKind::Panic, message: format!("panicked: {text}") }
    }
}

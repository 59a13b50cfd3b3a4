//! What was done for a request and how long it took, for whoever looks at traces.

use crate::domain::trace::TraceId;
use std::borrow::Cow;
use std::time::Duration;

/// One step of a trace, when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which trace.
    pub trace: TraceId,
    /// The step; never zero.
    pub id: u64,
    /// The step it was done for; zero where it is the first.
    pub parent: u64,
    /// What was done, of few values.
    pub name: Cow<'static, str>,
    /// Who did it for whom.
    pub role: Role,
    /// How long it took, up to the moment it is recorded.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What else is known of it, by the names of OpenTelemetry's conventions where there are any.
    pub facts: Vec<(&'static str, Fact)>,
}

/// Who did it for whom, as OpenTelemetry's kinds of spans have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An answer to a caller.
    Server,
    /// An event that others will hear.
    Producer,
    /// What somebody does with an event.
    Consumer,
}

/// What is known of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Where spans go. Recording one never waits and never fails; what there is no room for is counted and dropped.
pub trait Spans: Send + Sync {
    /// Whether a trace that begins here is recorded. Of one that comes from outside, its sender has decided.
    fn takes(&self, trace: TraceId) -> bool;

    /// Takes a step that is over.
    fn record(&self, span: Span);
}

//! Tests of the kit, by subject. Each runs in an actix `System` of its own; time is real unless a test pauses it.

mod bound;
mod drain;
mod failures;
mod feedback;
mod observing;
mod supervision;

use super::*;
use futures_util::future::LocalBoxFuture;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::Notify;

pub(super) const MS: Duration = Duration::from_millis(1);
/// Longer than anything here takes; a test that gets there has failed.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// Runs a test on an actix system; one that hangs fails.
pub(super) fn on_system(test: impl Future<Output = ()> + 'static) {
    actix_rt::System::new().block_on(async {
        tokio::time::timeout(LONG, test).await.expect("the test hangs");
    });
}

/// The same in virtual time: the clock jumps to the next timer whenever nothing else is left to do.
pub(super) fn in_virtual_time(test: impl Future<Output = ()> + 'static) {
    actix_rt::System::new().block_on(async {
        tokio::time::pause();
        // Where nothing moves any more, the clock jumps here.
        let month = Duration::from_secs(30 * 24 * 3600);
        tokio::time::timeout(month, test).await.expect("the test hangs");
    });
}

pub(super) fn quick() -> RestartPolicy {
    RestartPolicy { max_restarts: 5, window: Duration::from_secs(60), backoff_min: MS, backoff_max: 4 * MS }
}

pub(super) fn root(registry: &Registry) -> Supervisor {
    Supervisor::new("root", Strategy::OneForOne, quick(), registry)
}

pub(super) type Step = Box<
    dyn for<'a> FnOnce(&'a mut Puppet, &'a mut Cx<Puppet>) -> LocalBoxFuture<'a, Result<(), Fault>> + Send,
>;

/// Called with the incarnation.
pub(super) type OnStart = Arc<dyn Fn(u64) -> Result<(), Fault> + Send + Sync>;

/// An actor that does what its message says.
pub(super) struct Puppet {
    pub(super) count: u64,
    pub(super) kept: Vec<Reply<u64>>,
    pub(super) on_start: Option<OnStart>,
}

pub(super) enum Msg {
    /// Adds one and answers the new count.
    Count(Reply<u64>),
    /// Adds one.
    Tick,
    /// Answers the incarnation.
    Incarnation(Reply<u64>),
    /// Keeps the reply for later.
    Keep(Reply<u64>),
    /// Answers all that were kept.
    AnswerKept,
    /// Panics with the reply in hand.
    Panic(Reply<u64>),
    /// The same after an await.
    PanicLater(Reply<u64>),
    /// Returns an error.
    Fail(Reply<u64>),
    /// Waits for ever.
    Hang(Reply<u64>),
    /// Says that it began, waits for the gate, answers.
    Gate(Arc<Notify>, Arc<Notify>, Reply<u64>),
    /// Anything else.
    Do(Step),
}

impl Puppet {
    pub(super) fn new() -> Self {
        Self { count: 0, kept: Vec::new(), on_start: None }
    }
}

impl Behaviour for Puppet {
    const KIND: &'static str = "puppet";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match &self.on_start {
            Some(check) => check(cx.incarnation()),
            None => Ok(()),
        }
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Count(reply) => {
                self.count += 1;
                reply.send(self.count);
            }
            Msg::Tick => self.count += 1,
            Msg::Incarnation(reply) => reply.send(cx.incarnation()),
            Msg::Keep(reply) => self.kept.push(reply),
            Msg::AnswerKept => self.kept.drain(..).for_each(|reply| reply.send(7)),
            Msg::Panic(_reply) => {
                self.count = 1000;
                panic!("boom");
            }
            Msg::PanicLater(_reply) => {
                self.count = 1000;
                tokio::task::yield_now().await;
                panic!("boom later");
            }
            Msg::Fail(_reply) => {
                self.count = 1000;
                let unreadable = "x".parse::<u8>();
                unreadable?;
            }
            Msg::Hang(_reply) => {
                self.count = 1000;
                std::future::pending::<()>().await;
            }
            Msg::Gate(begun, gate, reply) => {
                begun.notify_one();
                gate.notified().await;
                reply.send(self.count);
            }
            Msg::Do(step) => step(self, cx).await?,
        }
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        serde_json::json!({ "count": self.count, "kept": self.kept.len() })
    }
}

/// A message that runs `step`.
pub(super) fn act(step: impl FnOnce(&mut Puppet, &mut Cx<Puppet>) + Send + 'static) -> Msg {
    Msg::Do(Box::new(move |puppet, cx| {
        step(puppet, cx);
        Box::pin(async { Ok(()) })
    }))
}

/// Waits, politely, for what another actor or thread is about to do.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(MS).await;
    }
}

pub(super) fn vitals(registry: &Registry, name: &str) -> ActorReport {
    registry.find(name).unwrap_or_else(|| panic!("no {name}"))
}

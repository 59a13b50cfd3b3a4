//! What a behaviour can do besides answering: send to itself, now, later, or when a future is done.

use super::{
    Behaviour, Handle,
    failure::Failure,
    handle::Link,
    keeper::Order,
    shell::Signal,
    vitals::{Phase, stamp},
};
use futures_util::FutureExt;
use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::task::JoinSet;

/// The actor's side of the kit, handed to every call of its behaviour.
///
/// Everything sent through it belongs to this incarnation: when the actor is rebuilt its timers and piped futures are
/// cancelled, and what they or `notify` had already sent is dropped unseen, for the state that asked for it is gone.
pub struct Cx<B: Behaviour> {
    link: Arc<Link<B>>,
    incarnation: u64,
    /// Timers and piped futures. Dropping the set cancels them.
    tasks: JoinSet<()>,
}

impl<B: Behaviour> Cx<B> {
    pub(crate) fn new(link: Arc<Link<B>>, incarnation: u64) -> Self {
        Self { link, incarnation, tasks: JoinSet::new() }
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.link.vitals.name
    }

    /// 1 for the first state built, one more with every rebuild.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether the actor is being drained or stopped: start nothing that need not be finished.
    pub fn shutting_down(&self) -> bool {
        self.link.vitals.shutting_down()
    }

    /// Resolves when [`shutting_down`](Self::shutting_down) becomes true. A piped future that would wait for ever
    /// (for the next delivery, say) must end on it, for a drain waits for piped futures.
    pub fn until_shutdown(&self) -> impl Future<Output = ()> + use<B> {
        let mut phase = self.link.vitals.phase.subscribe();
        // An error means that the actor is gone altogether.
        async move { drop(phase.wait_for(|phase| *phase != Phase::Open).await) }
    }

    /// A handle to this actor, to give to others. An ask to oneself from a handler waits for ever.
    pub fn handle(&self) -> Handle<B> {
        Handle::new(self.link.clone())
    }

    /// Sends a message to this actor: it lands behind what is queued now, past the bound of the mailbox.
    pub fn notify(&mut self, msg: B::Msg) {
        // Only an actor that is being stopped is not reachable, and it needs no message any more.
        self.link.feed_back(msg, Some(self.incarnation)).ok();
    }

    /// Sends a message to this actor after a while. A drain does not wait for timers.
    pub fn notify_after(&mut self, delay: Duration, msg: B::Msg) {
        let (link, incarnation) = (self.link.clone(), self.incarnation);
        self.spawn(async move {
            tokio::time::sleep(delay).await;
            link.feed_back(msg, Some(incarnation)).ok();
        });
    }

    /// Runs a future on this actor's thread beside its mailbox; what it comes to is sent back as a message. A panic in
    /// it fails the actor like a panic in a handler. How many run at once is the behaviour's to bound.
    pub fn pipe<F>(&mut self, future: F, into_msg: impl FnOnce(F::Output) -> B::Msg + 'static)
    where
        F: Future + 'static,
    {
        let (link, incarnation) = (self.link.clone(), self.incarnation);
        let counted = Piped::new(link.clone());
        self.spawn(async move {
            let _counted = counted;
            let vitals = &link.vitals;
            let watched = async {
                let mut future = pin!(future);
                let output = poll_fn(|cx| {
                    vitals.begin_poll(stamp());
                    let polled = future.as_mut().poll(cx);
                    vitals.end_poll();
                    polled
                });
                into_msg(output.await)
            };
            match AssertUnwindSafe(watched).catch_unwind().await {
                Ok(msg) => {
                    link.feed_back(msg, Some(incarnation)).ok();
                }
                Err(payload) => {
                    vitals.end_poll();
                    let failure = Failure::panic(payload.as_ref());
                    drop(link.orders.send(Order::Fail { incarnation, failure }));
                }
            }
        });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + 'static) {
        // The set keeps finished tasks until they are collected.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn_local(task);
    }
}

/// Counts a piped future while it exists.
struct Piped<B: Behaviour>(Arc<Link<B>>);

impl<B: Behaviour> Piped<B> {
    fn new(link: Arc<Link<B>>) -> Self {
        link.vitals.piped.fetch_add(1, Relaxed);
        Self(link)
    }
}

impl<B: Behaviour> Drop for Piped<B> {
    fn drop(&mut self) {
        self.0.vitals.piped.fetch_sub(1, Relaxed);
        if self.0.vitals.shutting_down() {
            // A drain may be waiting for this one, and a cancelled future sends no message that would tell.
            drop(self.0.address.do_send(Signal::Recheck));
        }
    }
}

//! The future that owns an actor and its mailbox, and keeps both through every failure.
//!
//! actix's own supervisor restarts after `ctx.stop()` only: a panic ends it and closes the mailbox. This one polls the
//! actor inside `catch_unwind` and sends every kind of failure through [`Keeper::failed`]: the state goes at once, the
//! mailbox stays, the budget decides between a restart after a pause and asking the supervisor.

use super::{
    Behaviour,
    failure::Failure,
    handle::Link,
    registry::ActorState,
    restart::{Budget, RestartPolicy},
    shell::{Desk, Shell},
    supervisor::Superior,
    vitals::Phase,
};
use actix::{ActorContext, Context, dev::ContextFut, dev::channel::AddressReceiver};
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context as TaskContext, Poll},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};

/// What a keeper is told: verdicts from its supervisor, and failures beside the mailbox.
pub(crate) enum Order {
    /// Throw the state away, build a new one after the delay; past failures are forgiven.
    Restart(Duration),
    Stop,
    /// A piped future of this incarnation panicked.
    Fail {
        incarnation: u64,
        failure: Failure,
    },
}

/// The channel by which keepers get their orders.
#[expect(
    clippy::disallowed_methods,
    reason = "escalation path: it must never refuse or wait, and carries one order per verdict or failure"
)]
pub(crate) fn orders() -> (mpsc::UnboundedSender<Order>, mpsc::UnboundedReceiver<Order>) {
    mpsc::unbounded_channel()
}

enum Stage {
    /// The actor is polled: it starts or runs.
    Alive,
    /// No state; a new one is built when the pause is over.
    Pausing(Pin<Box<Sleep>>),
    /// No state, and no budget left: the supervisor decides.
    AwaitingVerdict,
    Ended,
}

/// Everything a keeper needs, in a form that can be sent to the thread where it is to live.
pub(crate) struct Plan<B: Behaviour> {
    pub(crate) link: Arc<Link<B>>,
    pub(crate) mailbox: AddressReceiver<Shell<B>>,
    pub(crate) factory: Arc<dyn Fn() -> B + Send + Sync>,
    pub(crate) handler_limit: Option<Duration>,
    pub(crate) restart: RestartPolicy,
    pub(crate) orders: mpsc::UnboundedReceiver<Order>,
    pub(crate) superior: Superior,
}

impl<B: Behaviour> Plan<B> {
    /// Starts the actor on this thread.
    pub(crate) fn carry_out(self) {
        let desk = Rc::new(Desk::default());
        let shell = Shell::new(self.link.clone(), self.factory, self.handler_limit, desk.clone());
        actix_rt::spawn(Keeper {
            actor: Some(Box::pin(Context::with_receiver(self.mailbox).into_future(shell))),
            link: self.link,
            desk,
            stage: Stage::Alive,
            budget: Budget::new(self.restart),
            orders: self.orders,
            superior: self.superior,
        });
    }
}

/// actix's future that is an actor with its mailbox.
type ActorFuture<B> = ContextFut<Shell<B>, Context<Shell<B>>>;

struct Keeper<B: Behaviour> {
    actor: Option<Pin<Box<ActorFuture<B>>>>,
    link: Arc<Link<B>>,
    desk: Rc<Desk>,
    stage: Stage,
    budget: Budget,
    orders: mpsc::UnboundedReceiver<Order>,
    superior: Superior,
}

impl<B: Behaviour> Future for Keeper<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.desk.now.set(0);
        this.desk.turns.set(0);
        loop {
            while let Poll::Ready(order) = this.orders.poll_recv(cx) {
                match order {
                    Some(order) => this.obey(order),
                    None => {
                        this.end();
                        break;
                    }
                }
            }
            match &mut this.stage {
                Stage::Ended => return Poll::Ready(()),
                Stage::AwaitingVerdict => return Poll::Pending,
                Stage::Pausing(pause) => {
                    std::task::ready!(pause.as_mut().poll(cx));
                    this.link.vitals.restarts.add(1);
                    this.stage = Stage::Alive;
                }
                Stage::Alive => match this.poll_actor(cx) {
                    Some(failure) => this.failed(&failure),
                    None => return Poll::Pending,
                },
            }
        }
    }
}

impl<B: Behaviour> Keeper<B> {
    /// Lets the actor run until it waits, or fails.
    fn poll_actor(&mut self, cx: &mut TaskContext<'_>) -> Option<Failure> {
        let actor = self.actor.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| actor.as_mut().poll(cx))) {
            Ok(Poll::Pending) => {
                if self.desk.progress.take() {
                    self.budget.progressed();
                }
                None
            }
            // The shell stops its context only after it has left a failure here.
            Ok(Poll::Ready(())) => {
                let failure = self.desk.failure.borrow_mut().take();
                Some(failure.unwrap_or_else(|| Failure::fault("stopped by itself")))
            }
            Err(payload) => Some(Failure::panic(payload.as_ref())),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Stop => self.end(),
            Order::Restart(_) if matches!(self.stage, Stage::Ended) => {}
            Order::Restart(delay) => {
                self.budget.forgive();
                self.discard_state();
                self.pause(delay);
            }
            Order::Fail { incarnation, failure } => {
                let current = incarnation == self.desk.incarnation.get();
                if current && matches!(self.stage, Stage::Alive) {
                    self.failed(&failure);
                }
            }
        }
    }

    /// The one way every failure takes.
    fn failed(&mut self, failure: &Failure) {
        let vitals = self.link.vitals.clone();
        vitals.note_failure(failure);
        self.discard_state();
        match self.budget.failed(Instant::now()) {
            Some(delay) => {
                tracing::warn!(
                    actor = vitals.name,
                    error = failure.message,
                    ?delay,
                    "actor failed, rebuilding"
                );
                self.pause(delay);
            }
            None => {
                tracing::error!(
                    actor = vitals.name,
                    error = failure.message,
                    "actor failed too often, escalating"
                );
                vitals.set_state(ActorState::Escalated);
                self.stage = Stage::AwaitingVerdict;
                if !self.superior.escalate(&vitals.name, &failure.message) {
                    self.end();
                }
            }
        }
    }

    fn pause(&mut self, delay: Duration) {
        self.link.vitals.set_state(ActorState::Restarting);
        self.stage = Stage::Pausing(Box::pin(tokio::time::sleep(delay)));
    }

    /// Drops the state, the running handler, timers and piped futures; the mailbox stays.
    fn discard_state(&mut self) {
        self.desk.failure.take();
        self.link.vitals.end_poll();
        if let Some(actor) = &mut self.actor {
            // Destructors of a broken state may panic as well. Whatever is left is then leaked to the next attempt.
            if catch_unwind(AssertUnwindSafe(|| actor.restart())).is_err() {
                tracing::error!(
                    actor = self.link.vitals.name,
                    "a destructor panicked while the state was dropped"
                );
            }
        }
    }

    /// The end: queued and running asks are told `Stopped`, queued tells are counted and dropped.
    fn end(&mut self) {
        let Some(mut actor) = self.actor.take() else { return };
        self.stage = Stage::Ended;
        let vitals = &self.link.vitals;
        let left = vitals.depth() + vitals.feedback.load(Relaxed);
        vitals.discarded.add(u64::try_from(left).unwrap_or(u64::MAX));
        if left > 0 {
            tracing::warn!(actor = vitals.name, messages = left, "actor stopped with messages waiting");
        }
        vitals.room.close();
        vitals.enter_phase(Phase::Stopped);
        vitals.end_poll();
        let dropped = catch_unwind(AssertUnwindSafe(move || {
            // Terminated first, or actix would poll the actor once more while it drops it, and start it if it had
            // not been started.
            actor.ctx().terminate();
            drop(actor);
        }));
        if dropped.is_err() {
            tracing::error!(
                actor = self.link.vitals.name,
                "a destructor panicked while the actor was dropped"
            );
        }
    }
}

impl<B: Behaviour> Drop for Keeper<B> {
    /// The thread goes down with the actor still on it.
    fn drop(&mut self) {
        self.end();
    }
}

//! The actix actor around a behaviour.
//!
//! It takes the state out, moves it into the future of the handler, and puts it back when the handler succeeded. So
//! whatever ends the handler otherwise (a panic, a `Fault`, the time limit, a restart ordered from above) drops the
//! state with it, and no half-changed state is ever seen again. The handler's future is a *wait* future of the actix
//! context, which is what `AtomicResponse` does: the mailbox is not read until it is done. It is kept here, and what
//! actix waits for is the empty [`Turn`], because that saves two allocations a message and lets the clock, the time
//! limit and the watchdog's mark sit right at the poll.

use super::{
    Behaviour, Cx, Fault,
    failure::Failure,
    handle::Link,
    registry::ActorState,
    reply::cut_short,
    vitals::{Vitals, stamp},
};
use actix::{Actor, ActorContext, ActorFuture, AsyncContext, Context, Handler, Message, Supervised};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    task::{Context as TaskContext, Poll},
    time::Duration,
};
use tokio::{sync::oneshot, time::Sleep};

/// A behaviour that handles messages is observed this often. One that fell idle before it was due is observed when
/// the next report is made: a timer for that would cost every message, and nobody looks between reports.
const OBSERVE_EVERY: Duration = Duration::from_millis(250);

/// Messages handled before the actor lets others on its thread run. actix itself never yields.
const TURNS_PER_POLL: u32 = 64;

/// What shell and keeper of an actor share. Both live on its thread.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) failure: RefCell<Option<Failure>>,
    pub(crate) incarnation: Cell<u64>,
    /// A message was handled since the keeper last looked.
    pub(crate) progress: Cell<bool>,
    /// The time as of the last thing that happened in this poll, 0 if nothing did. Saves asking the clock again.
    pub(crate) now: Cell<u64>,
    pub(crate) turns: Cell<u32>,
}

impl Desk {
    fn now(&self) -> u64 {
        if self.now.get() == 0 {
            self.now.set(stamp());
        }
        self.now.get()
    }
}

/// What a waiting or running message holds on to.
pub(crate) enum Ticket {
    /// An ask: its reply holds the place.
    None,
    Place(Arc<Vitals>),
    Feedback(Arc<Vitals>),
}

impl Ticket {
    pub(crate) fn place(vitals: &Arc<Vitals>) -> Self {
        Self::Place(vitals.clone())
    }

    pub(crate) fn feedback(vitals: &Arc<Vitals>) -> Self {
        vitals.feedback.fetch_add(1, Relaxed);
        Self::Feedback(vitals.clone())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        match self {
            Self::None => {}
            Self::Place(vitals) => vitals.release(),
            Self::Feedback(vitals) => {
                vitals.feedback.fetch_sub(1, Relaxed);
            }
        }
    }
}

/// A message in the mailbox.
pub(crate) struct Job<B: Behaviour> {
    msg: B::Msg,
    ticket: Ticket,
    only_for: Option<u64>,
    sent: u64,
}

impl<B: Behaviour> Job<B> {
    pub(crate) fn new(msg: B::Msg, ticket: Ticket, only_for: Option<u64>) -> Self {
        Self { msg, ticket, only_for, sent: stamp() }
    }
}

impl<B: Behaviour> Message for Job<B> {
    type Result = ();
}

/// What the kit sends to its own actors.
pub(crate) enum Signal {
    /// Take a snapshot of the behaviour.
    Observe,
    /// Answer as soon as nothing is left to do.
    Settle(oneshot::Sender<()>),
    /// Look again whether nothing is left to do.
    Recheck,
}

impl Message for Signal {
    type Result = ();
}

/// One life of the behaviour, with the context that belongs to it.
struct Life<B: Behaviour> {
    behaviour: B,
    cx: Cx<B>,
}

type Handling<B> = Pin<Box<dyn Future<Output = (Box<Life<B>>, Result<(), Fault>)>>>;

/// The handler, or `started`, that is running now.
struct Running<B: Behaviour> {
    future: Handling<B>,
    /// None while the behaviour starts.
    message: Option<Ticket>,
    spent: u64,
    limit: Option<Pin<Box<Sleep>>>,
}

pub(crate) struct Shell<B: Behaviour> {
    link: Arc<Link<B>>,
    factory: Arc<dyn Fn() -> B + Send + Sync>,
    handler_limit: Option<Duration>,
    desk: Rc<Desk>,
    life: Option<Box<Life<B>>>,
    running: Option<Running<B>>,
    settling: Vec<oneshot::Sender<()>>,
    observed: u64,
}

impl<B: Behaviour> Shell<B> {
    pub(crate) fn new(
        link: Arc<Link<B>>,
        factory: Arc<dyn Fn() -> B + Send + Sync>,
        handler_limit: Option<Duration>,
        desk: Rc<Desk>,
    ) -> Self {
        Self {
            link,
            factory,
            handler_limit,
            desk,
            life: None,
            running: None,
            settling: Vec::new(),
            observed: 0,
        }
    }

    fn run(&mut self, future: Handling<B>, message: Option<Ticket>, ctx: &mut Context<Self>) {
        self.running = Some(Running { future, message, spent: 0, limit: None });
        ctx.wait(Turn);
    }

    /// The keeper learns of it when actix has unwound to it.
    fn fail(&mut self, failure: Failure, ctx: &mut Context<Self>) {
        *self.desk.failure.borrow_mut() = Some(failure);
        ctx.stop();
    }

    fn poll_running(&mut self, ctx: &mut Context<Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let Some(running) = &mut self.running else { return Poll::Ready(()) };
        let turns = self.desk.turns.get() + 1;
        self.desk.turns.set(turns);
        if turns > TURNS_PER_POLL {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }

        let vitals = &self.link.vitals;
        let began = self.desk.now();
        vitals.begin_poll(began);
        let polled = running.future.as_mut().poll(task);
        let ended = stamp();
        vitals.end_poll();
        self.desk.now.set(ended);
        running.spent += ended - began;

        let Poll::Ready((life, outcome)) = polled else { return self.check_limit(ctx, task) };
        let spent = running.spent;
        let was_message = running.message.is_some();
        // Drops the ticket: the message is done and its place free.
        self.running = None;
        match outcome {
            Ok(()) => {
                self.life = Some(life);
                if was_message {
                    self.handled(spent, ended)
                } else {
                    self.has_started()
                }
                self.answer_settled();
            }
            Err(fault) => {
                drop(life);
                self.fail(Failure::fault(fault.to_string()), ctx);
            }
        }
        Poll::Ready(())
    }

    /// The timer is only made for a handler that does not finish at once: most do.
    fn check_limit(&mut self, ctx: &mut Context<Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let (Some(limit), Some(running)) = (self.handler_limit, &mut self.running) else {
            return Poll::Pending;
        };
        if running.message.is_none() {
            return Poll::Pending;
        }
        let timer = running.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if timer.as_mut().poll(task).is_pending() {
            return Poll::Pending;
        }
        self.fail(Failure::timed_out(format!("no result within {limit:?}")), ctx);
        cut_short(self.running.take());
        Poll::Ready(())
    }

    fn handled(&mut self, spent: u64, now: u64) {
        let vitals = &self.link.vitals;
        vitals.handled.add(1);
        vitals.busy_ns.add(spent);
        vitals.busy_max_ns.raise_to(spent);
        self.desk.progress.set(true);
        if u128::from(now - self.observed) >= OBSERVE_EVERY.as_nanos() {
            self.observe(now);
        } else {
            vitals.unobserved.store(true, Relaxed);
        }
    }

    fn has_started(&mut self) {
        self.link.vitals.set_state(ActorState::Running);
        self.observe(stamp());
    }

    fn observe(&mut self, now: u64) {
        let Some(life) = &self.life else { return };
        let snapshot = life.behaviour.observe();
        *self.link.vitals.observed.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.observed = now;
        self.link.vitals.unobserved.store(false, Relaxed);
    }

    /// Nothing is left when no message past the bound waits and no piped future runs; the drain itself has seen to
    /// it that no place in the mailbox is taken.
    fn answer_settled(&mut self) {
        let vitals = &self.link.vitals;
        if !self.settling.is_empty()
            && self.life.is_some()
            && vitals.feedback.load(Relaxed) == 0
            && vitals.piped.load(Relaxed) == 0
        {
            for done in self.settling.drain(..) {
                // A drain that ran into its deadline listens no more.
                done.send(()).ok();
            }
        }
    }
}

impl<B: Behaviour> Actor for Shell<B> {
    type Context = Context<Self>;

    /// actix calls this before the first message and again after every restart: the one place where state is built.
    fn started(&mut self, ctx: &mut Self::Context) {
        let incarnation = self.desk.incarnation.get() + 1;
        self.desk.incarnation.set(incarnation);
        self.link.vitals.incarnation.store(incarnation, Relaxed);
        let cx = Cx::new(self.link.clone(), incarnation);
        let mut life = Box::new(Life { behaviour: (self.factory)(), cx });
        let future = async move {
            let Life { behaviour, cx } = &mut *life;
            let outcome = behaviour.started(cx).await;
            (life, outcome)
        };
        self.run(Box::pin(future), None, ctx);
    }
}

impl<B: Behaviour> Supervised for Shell<B> {
    /// Throws the state away, at once: replies it still holds are answered now and not after the back-off.
    fn restarting(&mut self, _ctx: &mut Self::Context) {
        let (running, life) = (self.running.take(), self.life.take());
        drop(running);
        drop(life);
    }
}

impl<B: Behaviour> Handler<Job<B>> for Shell<B> {
    type Result = ();

    fn handle(&mut self, job: Job<B>, ctx: &mut Self::Context) {
        let Job { msg, ticket, only_for, sent } = job;
        let vitals = &self.link.vitals;
        if only_for.is_some_and(|incarnation| incarnation != self.desk.incarnation.get()) {
            vitals.stale.add(1);
            drop((msg, ticket));
            self.answer_settled();
            return;
        }
        let waited = self.desk.now().saturating_sub(sent);
        vitals.wait_ns.add(waited);
        vitals.wait_max_ns.raise_to(waited);
        // The mailbox is read only while the state is here; were it not, a restart is the cure.
        let Some(mut life) = self.life.take() else {
            return self.fail(Failure::fault("message without a state"), ctx);
        };
        let future = async move {
            let Life { behaviour, cx } = &mut *life;
            let outcome = behaviour.handle(msg, cx).await;
            (life, outcome)
        };
        self.run(Box::pin(future), Some(ticket), ctx);
    }
}

impl<B: Behaviour> Handler<Signal> for Shell<B> {
    type Result = ();

    fn handle(&mut self, signal: Signal, _ctx: &mut Self::Context) {
        match signal {
            Signal::Observe => self.observe(stamp()),
            Signal::Settle(done) => {
                self.settling.push(done);
                self.answer_settled();
            }
            Signal::Recheck => self.answer_settled(),
        }
    }
}

/// What actix waits for: the future in [`Shell::running`].
struct Turn;

impl<B: Behaviour> ActorFuture<Shell<B>> for Turn {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        shell: &mut Shell<B>,
        ctx: &mut Context<Shell<B>>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        shell.poll_running(ctx, task)
    }
}

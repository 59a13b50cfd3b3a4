//! The nodes of the supervision tree.
//!
//! A keeper whose budget is spent asks its supervisor. Within its own budget the supervisor grants a restart, to the
//! child alone or to its siblings as well; beyond it, it asks the next one up. When the root has no answer left,
//! `root_failed` resolves and the application ends with a clear error: it is meant to be started again from outside.
//!
//! A decision is taken at once on the thread that asks, under the node's lock; orders go out after it is released, so
//! locks are never nested.

use super::{
    Behaviour, Handle, Place, RestartPolicy, Spec,
    handle::Link,
    keeper::{Order, Plan, orders},
    registry::{ActorState, Registry},
    restart::Budget,
    shell::{Shell, Signal},
    vitals::{Phase, Vitals},
};
use actix::dev::channel;
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

/// Whom a supervisor restarts when one child has spent its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The child alone.
    OneForOne,
    /// The child and all that were started after it: they may build on it.
    RestForOne,
    /// All children.
    OneForAll,
}

/// Why the tree gave up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("supervisor {supervisor} gave up on {actor}: {reason}")]
pub struct RootFailure {
    /// The root supervisor.
    pub supervisor: String,
    /// The actor whose failure used up the last budget.
    pub actor: String,
    /// Its last error.
    pub reason: String,
}

/// A node of the supervision tree. Clones are the same node; when the last one of the root is dropped, or after
/// [`stop`](Supervisor::stop), its actors end.
#[derive(Clone)]
pub struct Supervisor {
    node: Arc<Node>,
}

impl Supervisor {
    /// A root. Its actors and those of its descendants appear in `registry`.
    pub fn new(
        name: impl Into<String>,
        strategy: Strategy,
        policy: RestartPolicy,
        registry: &Registry,
    ) -> Self {
        Self { node: Node::create(name.into(), strategy, policy, registry, None) }
    }

    /// A supervisor below this one, after the children started so far.
    pub fn child(&self, name: impl Into<String>, strategy: Strategy, policy: RestartPolicy) -> Self {
        let superior = self.node.superior();
        let id = superior.child;
        let node = Node::create(name.into(), strategy, policy, &self.node.registry, Some(superior));
        self.node.adopt(Child { id, body: Body::Node(node.clone()) });
        Self { node }
    }

    /// Starts an actor as the next child; siblings are in the order they were started in. Call it on a thread of the
    /// actix `System`. `factory` builds the state, on the actor's thread, now and after every failure.
    pub fn start<B: Behaviour>(
        &self,
        spec: Spec,
        place: Place,
        factory: impl Fn() -> B + Send + Sync + 'static,
    ) -> Handle<B> {
        let capacity = spec.capacity.clamp(1, tokio::sync::Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let vitals = Arc::new(Vitals::new(spec.name, B::KIND, Some(self.node.vitals.name.clone()), capacity));
        self.node.registry.add(vitals.clone());
        // 0: actix's own capacity limits nothing and only costs; the bound is the semaphore in the vitals.
        let (address, mailbox) = channel::channel::<Shell<B>>(0);
        let to_observe = address.clone();
        let ask_to_observe = Box::new(move || drop(to_observe.do_send(Signal::Observe)));
        // Just made, so there is nothing in it that could refuse.
        vitals.ask_to_observe.set(ask_to_observe).ok();
        let (order, orders) = orders();
        let link = Arc::new(Link { address, vitals: vitals.clone(), orders: order.clone() });
        let superior = self.node.superior();
        let id = superior.child;
        let plan = Plan {
            link: link.clone(),
            mailbox,
            factory: Arc::new(factory),
            handler_limit: spec.handler_limit,
            restart: spec.restart,
            orders,
            superior,
        };
        let arbiter = match place {
            Place::Here => {
                plan.carry_out();
                None
            }
            Place::OwnThread => {
                let arbiter = actix_rt::Arbiter::new();
                // A thread that is gone already drops the plan, and with it the mailbox: asks get `Stopped`.
                arbiter.spawn_fn(move || plan.carry_out());
                Some(arbiter)
            }
        };
        self.node.adopt(Child { id, body: Body::Actor { vitals, order, arbiter } });
        Handle::new(link)
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.node.vitals.name
    }

    /// Resolves when the root of the tree has given up. Actors wait for a verdict that will not come, with their
    /// mailboxes; the application should drain what still works and exit with an error.
    pub fn root_failed(&self) -> impl Future<Output = RootFailure> + Send + use<> {
        let mut failure = self.node.root_failure.subscribe();
        async move {
            let found = failure.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
            match found {
                Some(failure) => failure,
                // The tree was dropped in good order: it can fail no more.
                None => std::future::pending().await,
            }
        }
    }

    /// Ends one actor, or nested supervisor, among the children, and forgets it. False if there is none of that name.
    pub async fn stop_child(&self, name: &str) -> bool {
        let found = {
            let mut inner = self.node.lock();
            let at = inner.children.iter().position(|child| child.name() == name);
            at.map(|at| inner.children.remove(at))
        };
        let Some(child) = found else { return false };
        self.node.registry.remove(name);
        child.stop().await;
        true
    }

    /// Ends all children, the last started first, and joins their own threads. Queued asks are told `Stopped`: drain
    /// first what must be finished (see [`shutdown`](super::shutdown())). Waits for ever on a thread that is blocked.
    pub async fn stop(&self) {
        self.node.stop().await;
    }

    pub(crate) fn order_stop(&self) {
        self.node.order_stop();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supervisor({})", self.name())
    }
}

/// The way up, held by a child.
pub(crate) struct Superior {
    node: Weak<Node>,
    child: u64,
}

impl Superior {
    /// A verdict will come as an order. False: there is nobody to give one.
    pub(crate) fn escalate(&self, actor: &str, reason: &str) -> bool {
        self.node.upgrade().is_some_and(|node| {
            node.decide(self.child, actor, reason);
            true
        })
    }
}

struct Child {
    id: u64,
    body: Body,
}

enum Body {
    Actor { vitals: Arc<Vitals>, order: mpsc::UnboundedSender<Order>, arbiter: Option<actix_rt::Arbiter> },
    Node(Arc<Node>),
}

impl Child {
    fn name(&self) -> &str {
        match &self.body {
            Body::Actor { vitals, .. } => &vitals.name,
            Body::Node(node) => &node.vitals.name,
        }
    }

    /// To be carried out when the node's lock is released.
    fn restart_order(&self, delay: Duration) -> Box<dyn FnOnce() + Send> {
        match &self.body {
            Body::Actor { order, .. } => {
                let order = order.clone();
                // A keeper that is gone was stopped meanwhile.
                Box::new(move || drop(order.send(Order::Restart(delay))))
            }
            Body::Node(node) => {
                let node = node.clone();
                Box::new(move || node.restart_all(delay))
            }
        }
    }

    async fn stop(self) {
        match self.body {
            Body::Actor { vitals, order, arbiter } => {
                if order.send(Order::Stop).is_ok() {
                    vitals.until_stopped().await;
                }
                if let Some(arbiter) = arbiter {
                    join(arbiter).await;
                }
            }
            Body::Node(node) => node.stop().await,
        }
    }
}

/// Joins on a helper thread: the arbiter may still be busy with destructors, and this thread has others to serve.
async fn join(arbiter: actix_rt::Arbiter) {
    arbiter.stop();
    let (done, joined) = oneshot::channel::<()>();
    let helper = std::thread::Builder::new().name("join-actor-thread".into()).spawn(move || {
        if arbiter.join().is_err() {
            tracing::error!("an actor's own thread panicked outside of its actor");
        }
        drop(done);
    });
    match helper {
        Ok(_detached) => drop(joined.await),
        Err(error) => tracing::error!(%error, "no thread to join an actor's own thread with"),
    }
}

pub(crate) struct Node {
    vitals: Arc<Vitals>,
    strategy: Strategy,
    registry: Registry,
    superior: Option<Superior>,
    root_failure: Arc<watch::Sender<Option<RootFailure>>>,
    inner: Mutex<Inner>,
    me: Weak<Node>,
}

struct Inner {
    budget: Budget,
    children: Vec<Child>,
    next_child: u64,
}

impl Node {
    fn create(
        name: String,
        strategy: Strategy,
        policy: RestartPolicy,
        registry: &Registry,
        superior: Option<Superior>,
    ) -> Arc<Self> {
        let above = superior.as_ref().and_then(|superior| superior.node.upgrade());
        let parent = above.as_ref().map(|above| above.vitals.name.clone());
        let root_failure =
            above.map_or_else(|| Arc::new(watch::Sender::new(None)), |a| a.root_failure.clone());
        let vitals = Arc::new(Vitals::new(name, "supervisor", parent, 0));
        vitals.set_state(ActorState::Running);
        registry.add(vitals.clone());
        Arc::new_cyclic(|me| Self {
            vitals,
            strategy,
            registry: registry.clone(),
            superior,
            root_failure,
            inner: Mutex::new(Inner { budget: Budget::new(policy), children: Vec::new(), next_child: 0 }),
            me: me.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next child gets to know of this node.
    fn superior(&self) -> Superior {
        let mut inner = self.lock();
        inner.next_child += 1;
        Superior { node: self.me.clone(), child: inner.next_child }
    }

    fn adopt(&self, child: Child) {
        self.lock().children.push(child);
    }

    /// A child has spent its budget: restart it and whom the strategy names, or ask further up.
    fn decide(&self, child: u64, actor: &str, reason: &str) {
        let verdict = {
            let mut inner = self.lock();
            // Under the lock, for the tallies have one writer at a time.
            self.note_failure(actor, reason);
            let delay = inner.budget.failed(Instant::now());
            if delay.is_some() {
                self.vitals.restarts.add(1);
            }
            delay.map(|delay| (delay, self.affected(&inner.children, child, delay)))
        };
        match verdict {
            Some((delay, orders)) => {
                tracing::warn!(
                    supervisor = self.vitals.name,
                    actor,
                    ?delay,
                    restarted = orders.len(),
                    "restarting"
                );
                orders.into_iter().for_each(|order| order());
            }
            None => self.give_up(actor, reason),
        }
    }

    fn affected(&self, children: &[Child], child: u64, delay: Duration) -> Vec<Box<dyn FnOnce() + Send>> {
        let concerned = children.iter().filter(|other| match self.strategy {
            Strategy::OneForOne => other.id == child,
            Strategy::RestForOne => other.id >= child,
            Strategy::OneForAll => true,
        });
        concerned.map(|child| child.restart_order(delay)).collect()
    }

    fn give_up(&self, actor: &str, reason: &str) {
        self.vitals.set_state(ActorState::Escalated);
        if self.superior.as_ref().is_some_and(|superior| superior.escalate(actor, reason)) {
            return;
        }
        let failure = RootFailure {
            supervisor: self.vitals.name.clone(),
            actor: actor.to_owned(),
            reason: reason.to_owned(),
        };
        tracing::error!(error = %failure, "the supervision tree has failed");
        // The first failure is the one to report; others follow from it.
        self.root_failure.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(failure);
            }
            first
        });
    }

    /// Ordered from above: a new start for the whole branch.
    fn restart_all(&self, delay: Duration) {
        let orders: Vec<_> = {
            let mut inner = self.lock();
            inner.budget.forgive();
            self.vitals.restarts.add(1);
            inner.children.iter().map(|child| child.restart_order(delay)).collect()
        };
        self.vitals.set_state(ActorState::Running);
        orders.into_iter().for_each(|order| order());
    }

    fn note_failure(&self, actor: &str, reason: &str) {
        self.vitals.failed.add(1);
        let last = super::vitals::LastError { message: format!("{actor}: {reason}"), at: SystemTime::now() };
        *self.vitals.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    /// Boxed, for nodes contain nodes.
    fn stop(&self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async move {
            loop {
                // Bound to a name first: the lock must not be held while the child stops.
                let last = self.lock().children.pop();
                match last {
                    Some(child) => child.stop().await,
                    None => break,
                }
            }
            self.vitals.enter_phase(Phase::Stopped);
        })
    }
}

impl Node {
    /// Tells everyone below to end, and waits for none.
    fn order_stop(&self) {
        let children = std::mem::take(&mut self.lock().children);
        for child in children.into_iter().rev() {
            match child.body {
                Body::Actor { order, arbiter, .. } => {
                    drop(order.send(Order::Stop));
                    if let Some(arbiter) = arbiter {
                        arbiter.stop();
                    }
                }
                Body::Node(node) => node.order_stop(),
            }
        }
        self.vitals.enter_phase(Phase::Stopped);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.order_stop();
    }
}

//! The node among the others: tells them that it lives and what it holds, hears the same of them, and says who should
//! have which shard.
//!
//! Owns this node's end of the [`Assembly`]. What is known is in a [`Council`], which outlives the actor: while the
//! broker is away nothing is heard, nobody counts as gone, and whoever holds a shard goes on.
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`]; it tells itself what it hears |
//! | restart | with back-off; opens the assembly afresh. A refusal that does not pass ends the process ([`Council::refused`]) |
//! | messages in | its own only; [`Council`] wakes it when there is something to say |
//! | messages out | the [`View`], to whoever watches it |

use super::kit::{Behaviour, Cx, Fault};
use crate::domain::ids::NodeId;
use crate::domain::nodes::{Announcement, EVERY, Owner, Roll, View};
use crate::domain::time::Timestamp;
use crate::ports::nodes::Assembly;
use crate::ports::{Open, PortError};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// It talks to itself only.
pub const CAPACITY: usize = 16;

/// How long a node that starts listens before it wants anything: who is there answers at once.
const LISTEN: Duration = Duration::from_millis(300);

/// What this process knows of all nodes. Cheap to share.
pub struct Council {
    me: NodeId,
    roll: Mutex<Roll>,
    view: watch::Sender<View>,
    /// There is something to say before it is time.
    news: Notify,
    /// Why this node cannot be among the others at all.
    refused: watch::Sender<Option<String>>,
}

impl Council {
    /// Of a node that has heard nobody yet.
    pub fn new(node: NodeId, address: String, shards: usize) -> Arc<Self> {
        let roll = Roll::new(node, address, shards);
        let view = watch::Sender::new(roll.view());
        let (news, refused) = (Notify::new(), watch::Sender::new(None));
        Arc::new(Self { me: node, roll: Mutex::new(roll), view, news, refused })
    }

    /// Which node this is.
    pub const fn me(&self) -> NodeId {
        self.me
    }

    /// The division, now and whenever it changes.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// Where requests for a shard belong now.
    pub fn owner(&self, shard: usize) -> Owner {
        self.view.borrow().owner(shard, self.me)
    }

    /// This node answers for a shard from now on.
    pub fn hold(&self, shard: usize, now: Timestamp) {
        self.change(|roll| roll.hold(shard, now));
        self.news.notify_one();
    }

    /// Whether it says that it does.
    pub fn holds(&self, shard: usize) -> bool {
        self.roll().announcement().holds.contains_key(&shard)
    }

    /// It does not any more.
    pub fn let_go(&self, shard: usize) {
        self.change(|roll| roll.let_go(shard));
        self.news.notify_one();
    }

    /// Resolves once it is clear that this node cannot be among the others, whatever it waits for, and says why.
    pub fn refused(&self) -> impl Future<Output = String> + Send + use<> {
        let mut refused = self.refused.subscribe();
        async move {
            let found = refused.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            match found {
                Some(why) => why,
                // Nobody is left who could be refused.
                None => std::future::pending().await,
            }
        }
    }

    /// It wants no shard any more.
    pub fn leave(&self) {
        self.change(Roll::leave);
        self.news.notify_one();
    }

    fn change<T>(&self, change: impl FnOnce(&mut Roll) -> T) -> T {
        let mut roll = self.roll();
        let changed = change(&mut roll);
        let now = roll.view();
        self.view.send_if_modified(|view| *view != now && std::mem::replace(view, now.clone()) != now);
        changed
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the actor tells itself.
pub enum Msg {
    /// Somebody spoke.
    Heard(Result<Announcement, PortError>),
    /// Time to speak, and to forget who is silent.
    Tick,
    /// It has listened for long enough to take part.
    TakePart,
    /// There is news to tell.
    News,
}

/// The state: the place among the others.
pub struct Nodes {
    open: Open<Arc<dyn Assembly>>,
    assembly: Option<Arc<dyn Assembly>>,
    council: Arc<Council>,
}

impl Nodes {
    /// A member that opens its place when it starts.
    pub const fn new(open: Open<Arc<dyn Assembly>>, council: Arc<Council>) -> Self {
        Self { open, assembly: None, council }
    }

    fn listen(&self, cx: &mut Cx<Self>) {
        let Some(assembly) = self.assembly.clone() else { return };
        let draining = cx.until_shutdown();
        let hear = async move {
            tokio::select! {
                heard = assembly.hear() => Some(heard),
                () = draining => None,
            }
        };
        cx.pipe(hear, |heard| heard.map_or(Msg::TakePart, Msg::Heard));
    }

    fn await_news(&self, cx: &mut Cx<Self>) {
        let (council, draining) = (self.council.clone(), cx.until_shutdown());
        let news = async move {
            tokio::select! {
                () = council.news.notified() => {}
                () = draining => {}
            }
        };
        cx.pipe(news, |()| Msg::News);
    }

    async fn speak(&self) -> Result<(), Fault> {
        let announcement = self.council.roll().announcement().clone();
        match &self.assembly {
            Some(assembly) => Ok(assembly.say(&announcement).await?),
            None => Ok(()),
        }
    }
}

impl Behaviour for Nodes {
    const KIND: &'static str = "nodes";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        let opened = (self.open)().await;
        // Another start does not mend it: the process has to end, and somebody to change a setting.
        if let Err(PortError::Permanent(why)) = &opened {
            self.council.refused.send_replace(Some(why.clone()));
        }
        self.assembly = Some(opened?);
        self.council.change(|roll| roll.listen_again(now()));
        self.listen(cx);
        self.await_news(cx);
        self.speak().await?;
        cx.notify_after(EVERY, Msg::Tick);
        cx.notify_after(LISTEN, Msg::TakePart);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Heard(heard) => {
                let heard = heard?;
                self.listen(cx);
                if self.council.change(|roll| roll.heard(heard, now())) {
                    self.speak().await?;
                }
            }
            Msg::Tick => {
                self.council.change(|roll| roll.expire(now()));
                self.speak().await?;
                cx.notify_after(EVERY, Msg::Tick);
            }
            Msg::TakePart => self.council.change(Roll::take_part),
            Msg::News => {
                self.speak().await?;
                if !cx.shutting_down() {
                    self.await_news(cx);
                }
            }
        }
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        let view = self.council.view.borrow();
        let holders: Vec<_> = view
            .holders
            .iter()
            .map(|holder| holder.as_ref().map(|(_, address, _)| address.clone()))
            .collect();
        let nodes: Vec<_> = view.nodes.values().cloned().collect();
        json!({ "node": self.council.me, "nodes": nodes, "shards": holders })
    }
}

/// Of the runtime, so that tests can move it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;

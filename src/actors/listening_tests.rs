//! An actor that listens to two shards, in virtual time.

use super::*;
use crate::actors::kit::{Fault, Handle, Place, Registry, Reply, Spec, Strategy, Supervisor};
use crate::actors::testing::{in_virtual_time, quick, until};
use crate::domain::event::Event;
use crate::fixtures::Shop;
use crate::ports::bus::Rejection;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(200);

/// A group as a test sees it.
#[derive(Default)]
struct Inner {
    is_away: bool,
    waiting: VecDeque<Arc<Event>>,
    /// Whoever listens is told that it is over.
    breaks: bool,
    listeners: usize,
    opened: usize,
    ended: usize,
    /// When it was asked for events, and how many were given.
    asked: Vec<(Instant, usize)>,
    confirmed: usize,
}

#[derive(Clone)]
struct Group {
    shard: usize,
    inner: Arc<Mutex<Inner>>,
}

impl Group {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn listeners(&self) -> usize {
        self.inner().listeners
    }

    fn opened(&self) -> usize {
        self.inner().opened
    }

    fn ended(&self) -> usize {
        self.inner().ended
    }
}

impl Subscription for Group {
    fn shard(&self) -> Option<usize> {
        Some(self.shard)
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn open(&self) -> BoxFuture<'static, Result<Box<dyn EventFeed>, PortError>> {
        let group = self.clone();
        async move {
            let mut inner = group.inner();
            inner.opened += 1;
            if inner.is_away {
                return Err(PortError::Transient("away".into()));
            }
            inner.listeners += 1;
            drop(inner);
            Ok(Box::new(Feed(group)) as Box<dyn EventFeed>)
        }
        .boxed()
    }

    fn end<'a>(&'a self, shards: &'a [usize]) -> BoxFuture<'a, Result<(), PortError>> {
        assert_eq!(shards, [self.shard]);
        self.inner().ended += 1;
        async { Ok(()) }.boxed()
    }
}

struct Feed(Group);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.inner().listeners -= 1;
    }
}

impl EventFeed for Feed {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        let asked_at = Instant::now();
        async move {
            loop {
                {
                    let mut inner = self.0.inner();
                    if std::mem::take(&mut inner.breaks) {
                        return Err(PortError::Transient("broken".into()));
                    }
                    let most = max.min(inner.waiting.len());
                    if most > 0 {
                        inner.asked.push((asked_at, most));
                        let delivery = |event| Delivery { position: 1, attempt: 0, event };
                        return Ok(inner.waiting.drain(..most).map(delivery).collect());
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        .boxed()
    }

    fn has_more(&self) -> bool {
        !self.0.inner().waiting.is_empty()
    }

    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        self.0.inner().confirmed += deliveries.len();
        async { Ok(()) }.boxed()
    }

    fn gives_up(&self, _: &Delivery) -> bool {
        false
    }

    fn reject<'a>(&'a mut self, _: &'a Delivery, _: &'a str) -> BoxFuture<'a, Result<Rejection, PortError>> {
        async { Ok(Rejection::Retry) }.boxed()
    }

    fn postpone<'a>(&'a mut self, _: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }
}

struct Listener {
    ears: Ears<()>,
    wants: [Want; 2],
    changes: Arc<Mutex<Vec<Option<usize>>>>,
}

enum Msg {
    Heard(Heard),
    Want([Want; 2], Reply<()>),
}

impl Behaviour for Listener {
    const KIND: &'static str = "listener";
    type Msg = Msg;

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Heard(heard) => {
                if let Some(batch) = self.ears.hear(heard, cx, Msg::Heard) {
                    let pause = (!batch.is_full()).then_some(PAUSE);
                    self.ears.confirm(batch, pause, cx, Msg::Heard).await;
                }
            }
            Msg::Want(wants, reply) => {
                self.wants = wants;
                self.ears.look(|(), shard| wants[shard], cx, Msg::Heard).await;
                reply.send(());
            }
        }
        self.changes.lock().unwrap().extend(self.ears.changes().into_iter().map(|((), shard)| shard));
        Ok(())
    }
}

struct Room {
    groups: [Group; 2],
    changes: Arc<Mutex<Vec<Option<usize>>>>,
    listener: Handle<Listener>,
    _root: Supervisor,
}

impl Room {
    fn open() -> Self {
        let groups = [0, 1].map(|shard| Group { shard, inner: Arc::default() });
        let changes: Arc<Mutex<Vec<Option<usize>>>> = Arc::default();
        let root = Supervisor::new("root", Strategy::OneForOne, quick(), &Registry::new());
        let (theirs, told) = (groups.clone(), changes.clone());
        let listener = root.start(Spec::new("listener", 16), Place::Here, move || Listener {
            ears: Ears::new(theirs.clone().map(|group| ((), Arc::new(group) as Arc<dyn Subscription>))),
            wants: [Want::Elsewhere; 2],
            changes: told.clone(),
        });
        Self { groups, changes, listener, _root: root }
    }

    async fn want(&self, wants: [Want; 2]) {
        self.listener.ask(|reply| Msg::Want(wants, reply)).await.unwrap();
    }

    fn changes(&self) -> Vec<Option<usize>> {
        std::mem::take(&mut self.changes.lock().unwrap())
    }
}

#[test]
fn a_full_batch_is_followed_at_once_and_others_after_a_pause() {
    in_virtual_time(async {
        let room = Room::open();
        let event = Shop::new(1).sold(1);
        room.groups[0].inner().waiting.extend(std::iter::repeat_n(event.clone(), 2 * BATCH + 1));
        room.want([Want::Here, Want::Elsewhere]).await;
        until(|| room.groups[0].inner().confirmed == 2 * BATCH + 1).await;
        room.groups[0].inner().waiting.push_back(event);
        until(|| room.groups[0].inner().confirmed == 2 * BATCH + 2).await;
        let inner = room.groups[0].inner();
        let [(first, full), (second, also), (third, one), (fourth, last)] = inner.asked[..] else {
            panic!("{:?}", inner.asked)
        };
        assert_eq!((full, also, one, last), (BATCH, BATCH, 1, 1));
        assert_eq!((second - first, third - second), (Duration::ZERO, Duration::ZERO));
        assert!(fourth - third >= PAUSE, "{:?}", fourth - third);
        assert_eq!((inner.opened, inner.listeners, room.groups[1].opened()), (1, 1, 0));
    });
}

#[test]
fn it_listens_where_somebody_wants_to_hear_and_ends_what_nobody_does() {
    in_virtual_time(async {
        let room = Room::open();
        let [here, there] = &room.groups;
        room.want([Want::Here, Want::Nobody]).await;
        until(|| here.listeners() == 1).await;
        // As often as it looks.
        room.want([Want::Here, Want::Nobody]).await;
        assert_eq!((here.opened(), there.ended(), there.opened()), (1, 1, 0));
        until(|| room.changes() == [Some(0)]).await;
        // Its shard is another's: nothing is ended, and nobody here listens, though nothing happens.
        room.want([Want::Elsewhere, Want::Here]).await;
        until(|| here.listeners() == 0 && there.listeners() == 1).await;
        here.inner().waiting.push_back(Shop::new(1).sold(1));
        let mut changed = room.changes();
        until(|| {
            changed.extend(room.changes());
            changed.len() == 2
        })
        .await;
        changed.sort();
        assert_eq!((changed, here.ended()), (vec![Some(0), Some(1)], 0));
        // What happened meanwhile is there for whoever listens next.
        room.want([Want::Here, Want::Nobody]).await;
        until(|| here.inner().confirmed == 1 && there.listeners() == 0).await;
        assert_eq!(there.ended(), 2);
    });
}

#[test]
fn what_cannot_be_heard_is_tried_again_and_whoever_is_told_knows() {
    in_virtual_time(async {
        let room = Room::open();
        let group = &room.groups[0];
        group.inner().is_away = true;
        for tried in 1..=3 {
            room.want([Want::Here, Want::Elsewhere]).await;
            until(|| group.opened() == tried).await;
        }
        assert_eq!(room.changes(), []);
        group.inner().is_away = false;
        let mut changes = Vec::new();
        while changes.is_empty() {
            room.want([Want::Here, Want::Elsewhere]).await;
            changes = room.changes();
        }
        assert_eq!((changes, group.listeners()), (vec![Some(0)], 1));
        group.inner().breaks = true;
        until(|| group.listeners() == 0).await;
        until(|| room.changes() == [Some(0)]).await;
        room.want([Want::Here, Want::Elsewhere]).await;
        until(|| group.listeners() == 1 && room.changes() == [Some(0)]).await;
    });
}

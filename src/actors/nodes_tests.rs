//! Nodes that hear each other over a channel, in virtual time.

use super::*;
use crate::actors::kit::{Handle, Place, Registry, RestartPolicy, Spec, Strategy, Supervisor};
use crate::actors::testing::{in_virtual_time, quick, until};
use crate::domain::nodes::SILENCE;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::broadcast;
use uuid::Uuid;

const SHARDS: usize = 4;

/// A square on which everybody hears everybody, unless it is closed.
#[derive(Clone)]
struct Square {
    voices: broadcast::Sender<Announcement>,
    closed: Arc<AtomicBool>,
    /// Not let in any more, for good.
    refuses: Arc<AtomicBool>,
}

struct At {
    square: Square,
    ears: tokio::sync::Mutex<broadcast::Receiver<Announcement>>,
}

impl Square {
    fn new() -> Self {
        Self { voices: broadcast::Sender::new(1_000), closed: Arc::default(), refuses: Arc::default() }
    }

    fn check(&self) -> Result<(), PortError> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(PortError::Permanent("counts otherwise".into()));
        }
        match self.closed.load(Ordering::Relaxed) {
            true => Err(PortError::Transient("the square is closed".into())),
            false => Ok(()),
        }
    }

    fn open(&self) -> Open<Arc<dyn Assembly>> {
        let square = self.clone();
        Arc::new(move || {
            let square = square.clone();
            async move {
                square.check()?;
                let ears = tokio::sync::Mutex::new(square.voices.subscribe());
                Ok(Arc::new(At { square, ears }) as Arc<dyn Assembly>)
            }
            .boxed()
        })
    }
}

impl Assembly for At {
    fn say<'a>(&'a self, announcement: &'a Announcement) -> BoxFuture<'a, Result<(), PortError>> {
        let said = self.square.check();
        if said.is_ok() {
            // Somebody may be listening or not.
            self.square.voices.send(announcement.clone()).ok();
        }
        async move { said }.boxed()
    }

    fn hear(&self) -> BoxFuture<'_, Result<Announcement, PortError>> {
        async { Ok(self.ears.lock().await.recv().await.unwrap()) }.boxed()
    }
}

/// One node; dropped, it is dead.
struct Node {
    council: Arc<Council>,
    _actor: Handle<Nodes>,
    _root: Supervisor,
}

impl Node {
    fn start(square: &Square, number: u128) -> Self {
        // As over a broker: without end.
        let policy = RestartPolicy { max_restarts: usize::MAX, ..quick() };
        let root = Supervisor::new("root", Strategy::OneForOne, policy, &Registry::new());
        let council = Council::new(NodeId(Uuid::from_u128(number)), format!("n{number}:80"), SHARDS);
        let (open, told) = (square.open(), council.clone());
        let spec = Spec::new("nodes", CAPACITY).restart(policy);
        let actor = root.start(spec, Place::Here, move || Nodes::new(open.clone(), told.clone()));
        Self { council, _actor: actor, _root: root }
    }

    fn assigned(&self) -> usize {
        let (view, me) = (self.council.view(), self.council.me());
        view.borrow().assigned.iter().filter(|node| **node == Some(me)).count()
    }
}

#[test]
fn whoever_joins_is_given_a_part_and_the_parts_of_the_dead_go_to_the_living() {
    in_virtual_time(async {
        let square = Square::new();
        let first = Node::start(&square, 1);
        assert_eq!(first.assigned(), 0, "it has not listened yet");
        until(|| first.assigned() == SHARDS).await;
        (0..SHARDS).for_each(|shard| first.council.hold(shard, Timestamp::from_micros(1)));
        let second = Node::start(&square, 2);
        until(|| first.assigned() == 2 && second.assigned() == 2).await;
        // It knows from the first moment whom to ask.
        assert_eq!(second.council.owner(0), Owner::At("n1:80".into()));
        first.council.let_go(3);
        until(|| second.council.owner(3) == Owner::Nobody).await;
        second.council.hold(3, Timestamp::from_micros(2));
        until(|| first.council.owner(3) == Owner::At("n2:80".into())).await;
        let died = tokio::time::Instant::now();
        drop(second);
        until(|| first.assigned() == SHARDS).await;
        assert!(died.elapsed() <= SILENCE + EVERY * 2, "{:?}", died.elapsed());
        let third = Node::start(&square, 3);
        until(|| third.assigned() == 2).await;
        third.council.leave();
        until(|| first.assigned() == SHARDS && third.assigned() == 0).await;
    });
}

#[test]
fn while_nothing_can_be_heard_nobody_counts_as_gone() {
    in_virtual_time(async {
        let square = Square::new();
        let (first, second) = (Node::start(&square, 1), Node::start(&square, 2));
        until(|| first.assigned() == 2 && second.assigned() == 2).await;
        square.closed.store(true, Ordering::Relaxed);
        tokio::time::sleep(SILENCE * 4).await;
        assert_eq!((first.assigned(), second.assigned()), (2, 2));
        square.closed.store(false, Ordering::Relaxed);
        tokio::time::sleep(SILENCE * 2).await;
        assert_eq!((first.assigned(), second.assigned()), (2, 2));
    });
}

#[test]
fn a_node_that_is_refused_for_good_says_so_and_one_that_only_waits_does_not() {
    in_virtual_time(async {
        let square = Square::new();
        square.closed.store(true, Ordering::Relaxed);
        let node = Node::start(&square, 1);
        let refused = node.council.refused();
        assert!(tokio::time::timeout(SILENCE * 4, node.council.refused()).await.is_err());
        square.closed.store(false, Ordering::Relaxed);
        until(|| node.assigned() == SHARDS).await;
        // It was among the others, and when it comes back they count otherwise.
        square.refuses.store(true, Ordering::Relaxed);
        assert_eq!(refused.await, "counts otherwise");
    });
}

//! Waiting for the events of consumer groups beside the mailbox, while there is somebody to tell.

use super::kit::{Behaviour, Cx};
use crate::ports::PortError;
use crate::ports::bus::{Delivery, EventFeed, Subscription};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Events taken from the bus at once.
pub const BATCH: usize = 4_096;

/// Waits for events, which come as a message together with the feed. An actor that is being drained, or has nobody to tell
/// any more, is told at once that there are none.
fn listen<B: Behaviour>(
    over: impl Future<Output = ()> + 'static,
    mut feed: Box<dyn EventFeed>,
    cx: &mut Cx<B>,
    heard: impl FnOnce(Box<dyn EventFeed>, Result<Vec<Delivery>, PortError>) -> B::Msg + 'static,
) {
    let draining = cx.until_shutdown();
    let fetch = async move {
        let fetched = tokio::select! {
            biased;
            fetched = feed.next(BATCH) => fetched,
            () = draining => Ok(Vec::new()),
            () = over => Ok(Vec::new()),
        };
        (feed, fetched)
    };
    cx.pipe(fetch, |(feed, fetched)| heard(feed, fetched));
}

/// Whether anybody wants to hear of a shard's tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Here.
    Here,
    /// That is for another node to say.
    Elsewhere,
    /// Nobody.
    Nobody,
}

/// Whether what happens is heard of, for whoever is told.
#[derive(Clone, Debug)]
pub struct Hearing(Arc<AtomicBool>);

impl Hearing {
    /// Nothing, until it is listened to; or everything, always.
    pub fn new(is_on: bool) -> Self {
        Self(Arc::new(AtomicBool::new(is_on)))
    }

    /// Whether it is.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which ear, and how often it was closed before.
#[derive(Clone, Copy)]
pub struct Mark {
    ear: usize,
    turn: u64,
}

/// What comes of listening, as a message to the actor that hands it to [`Ears::hear`].
pub enum Heard {
    /// A group is listened to, or cannot be.
    Opened(Mark, Result<Box<dyn EventFeed>, PortError>),
    /// It may be listened to again.
    Rested(Mark, Box<dyn EventFeed>),
    /// The bus had something.
    Fetched(Mark, Box<dyn EventFeed>, Result<Vec<Delivery>, PortError>),
}

/// Events that were heard and are not confirmed.
pub struct Batch<K> {
    /// What the group is for.
    pub of: K,
    /// The events.
    pub deliveries: Vec<Delivery>,
    mark: Mark,
    feed: Box<dyn EventFeed>,
}

impl<K> Batch<K> {
    /// Whether more may be waiting.
    pub fn is_full(&self) -> bool {
        self.deliveries.len() == BATCH
    }
}

/// The groups that an actor listens to.
pub struct Ears<K>(Vec<Ear<K>>);

struct Ear<K> {
    of: K,
    group: Arc<dyn Subscription>,
    state: State,
    turn: u64,
    hearing: Hearing,
    /// As it was when it was last asked.
    hearing_before: bool,
    /// What was said of it already.
    is_known_to_fail: bool,
}

enum State {
    Closed,
    /// Nothing is kept for anybody.
    Ended,
    Opening,
    Open {
        /// Dropped, it ends the waiting.
        _listening: Option<oneshot::Sender<()>>,
    },
}

impl<K> Ear<K> {
    fn close(&mut self) {
        self.turn += 1;
        self.state = State::Closed;
        self.hearing.0.store(self.group.shard().is_none(), Ordering::Relaxed);
    }

    fn failed(&mut self, error: &PortError) {
        self.close();
        let shard = self.group.shard();
        if std::mem::replace(&mut self.is_known_to_fail, true) {
            tracing::debug!(shard, %error, "the bus cannot be heard");
        } else {
            tracing::warn!(shard, %error, "the bus cannot be heard; it is tried again until it can");
        }
    }
}

impl<K: Copy + PartialEq + 'static> Ears<K> {
    /// Listens to nothing yet.
    pub fn new(groups: impl IntoIterator<Item = (K, Arc<dyn Subscription>)>) -> Self {
        let ear = |(of, group): (K, Arc<dyn Subscription>)| {
            let is_on = group.shard().is_none();
            Ear {
                of,
                group,
                state: State::Closed,
                turn: 0,
                hearing: Hearing::new(is_on),
                hearing_before: is_on,
                is_known_to_fail: false,
            }
        };
        Self(groups.into_iter().map(ear).collect())
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a shard's tenants are heard of, now and later.
    pub fn hearing(&self, of: K, shard: usize) -> Hearing {
        let is_it = |ear: &&Ear<K>| ear.of == of && ear.group.shard().is_none_or(|its| its == shard);
        self.0.iter().find(is_it).map_or_else(|| Hearing::new(false), |ear| ear.hearing.clone())
    }

    /// Where what happens is heard of since this was last asked, or is not any more; only where nothing is kept, so
    /// that something may have been missed.
    pub fn changes(&mut self) -> Vec<(K, Option<usize>)> {
        let changed = |ear: &mut Ear<K>| {
            let is_on = ear.hearing.is_on();
            let changed = std::mem::replace(&mut ear.hearing_before, is_on) != is_on;
            (changed && !ear.group.is_kept()).then(|| (ear.of, ear.group.shard()))
        };
        self.0.iter_mut().filter_map(changed).collect()
    }

    /// Listens to what is everybody's, before anything happens that has to be heard of.
    pub async fn begin<B: Behaviour>(
        &mut self,
        cx: &mut Cx<B>,
        wrap: fn(Heard) -> B::Msg,
    ) -> Result<(), PortError> {
        for at in 0..self.0.len() {
            if self.0[at].group.shard().is_none() {
                let feed = self.0[at].group.open().await?;
                self.listen(at, feed, cx, wrap);
            }
        }
        Ok(())
    }

    /// What happens to a shard's tenants from now on is kept, where anything is: somebody will want to hear it.
    pub async fn keep(&mut self, shard: usize) -> Result<(), PortError> {
        for ear in self.0.iter_mut().filter(|ear| ear.group.shard() == Some(shard)) {
            ear.group.begin().await?;
            if matches!(ear.state, State::Ended) {
                ear.state = State::Closed;
            }
        }
        Ok(())
    }

    /// Listens where somebody wants to hear, and nowhere else. What fails is done by the next look.
    pub async fn look<B: Behaviour>(
        &mut self,
        want: impl Fn(K, usize) -> Want,
        cx: &mut Cx<B>,
        wrap: fn(Heard) -> B::Msg,
    ) {
        let mut ending = Vec::new();
        for (at, ear) in self.0.iter_mut().enumerate() {
            match ear.group.shard().map_or(Want::Here, |shard| want(ear.of, shard)) {
                Want::Here if matches!(ear.state, State::Closed | State::Ended) => {
                    ear.state = State::Opening;
                    let (mark, open) = (Mark { ear: at, turn: ear.turn }, ear.group.open());
                    cx.pipe(open, move |opened| wrap(Heard::Opened(mark, opened)));
                }
                Want::Here => {}
                Want::Elsewhere if matches!(ear.state, State::Closed) => {}
                Want::Elsewhere => ear.close(),
                Want::Nobody if matches!(ear.state, State::Ended) => {}
                Want::Nobody => {
                    if !matches!(ear.state, State::Closed) {
                        ear.close();
                    }
                    ending.push(at);
                }
            }
        }
        // Those of one kind at once.
        while let Some(of) = ending.first().map(|at| self.0[*at].of) {
            let now: Vec<usize> = ending.extract_if(.., |at| self.0[*at].of == of).collect();
            let shards: Vec<usize> = now.iter().filter_map(|at| self.0[*at].group.shard()).collect();
            match self.0[now[0]].group.end(&shards).await {
                Ok(()) => now.iter().for_each(|at| self.0[*at].state = State::Ended),
                Err(error) => tracing::debug!(%error, "groups cannot be ended now"),
            }
        }
    }

    fn listen<B: Behaviour>(
        &mut self,
        at: usize,
        feed: Box<dyn EventFeed>,
        cx: &mut Cx<B>,
        wrap: fn(Heard) -> B::Msg,
    ) {
        let ear = &mut self.0[at];
        let mark = Mark { ear: at, turn: ear.turn };
        let (listening, over) = oneshot::channel::<()>();
        ear.state = State::Open { _listening: Some(listening) };
        ear.hearing.0.store(true, Ordering::Relaxed);
        ear.is_known_to_fail = false;
        let over = async move { drop(over.await) };
        listen(over, feed, cx, move |feed, fetched| wrap(Heard::Fetched(mark, feed, fetched)));
    }

    /// Takes what came; events are to be confirmed once their effects are durable.
    pub fn hear<B: Behaviour>(
        &mut self,
        heard: Heard,
        cx: &mut Cx<B>,
        wrap: fn(Heard) -> B::Msg,
    ) -> Option<Batch<K>> {
        let (Heard::Opened(mark, _) | Heard::Rested(mark, _) | Heard::Fetched(mark, ..)) = heard;
        let ear = &mut self.0[mark.ear];
        if ear.turn != mark.turn {
            // It was closed meanwhile. What is not confirmed comes again to whoever listens next.
            return None;
        }
        match heard {
            Heard::Opened(_, Ok(feed)) | Heard::Rested(_, feed) => self.listen(mark.ear, feed, cx, wrap),
            Heard::Opened(_, Err(error)) | Heard::Fetched(_, _, Err(error)) => ear.failed(&error),
            Heard::Fetched(_, feed, Ok(deliveries)) => {
                return Some(Batch { of: ear.of, deliveries, mark, feed });
            }
        }
        None
    }

    /// The effects of a batch are durable. Listens again, at once or after a pause.
    pub async fn confirm<B: Behaviour>(
        &mut self,
        mut batch: Batch<K>,
        pause: Option<Duration>,
        cx: &mut Cx<B>,
        wrap: fn(Heard) -> B::Msg,
    ) {
        let (mark, ear) = (batch.mark, &mut self.0[batch.mark.ear]);
        if let Err(error) = batch.feed.done(&batch.deliveries).await {
            ear.failed(&error);
        } else if cx.shutting_down() {
            // Whoever takes it up again goes on behind what is confirmed.
            ear.close();
        } else if let Some(pause) = pause {
            ear.state = State::Open { _listening: None };
            cx.notify_after(pause, wrap(Heard::Rested(mark, batch.feed)));
        } else {
            self.listen(mark.ear, batch.feed, cx, wrap);
        }
    }
}

#[cfg(test)]
#[path = "listening_tests.rs"]
mod tests;

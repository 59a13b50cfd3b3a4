//! The shards of this node, where several nodes share a broker: started when the node should have them, handed over
//! when another should, given up when another has them.
//!
//! A shard is three actors that move together, below the supervisor `shard-N`: its journal writer, whose log waits for
//! the claim; the reservation shard, which rebuilds once the log is open; its ledger writer. Requests come in when all
//! of that is done, and the others are told.
//!
//! | a shard that should be | is | what is done |
//! |---|---|---|
//! | here | not here | it is started, and waits for its claim for as long as another node has it |
//! | elsewhere | here | no request comes in any more; what was accepted is finished; the claim is let go |
//! | anywhere | here, and another node says since a later moment that it has it | it is ended at once: this node was paused, and its claim is gone |

use super::tree::{GRANTS, Parts, Tell};
use crate::actors::journal_writer::JournalWriter;
use crate::actors::kit::{AskError, Drain, Handle, Strategy, Supervisor};
use crate::actors::ledger_writer::LedgerWriter;
use crate::actors::nodes::Council;
use crate::actors::reservation::{Msg, Reservation, Shards};
use crate::bus::rabbitmq::RabbitBus;
use crate::domain::nodes::View;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a hand-over waits for what was accepted. What is not done by then is answered as unknown.
const HAND_OVER: Duration = Duration::from_secs(10);

/// The shards that are here.
pub struct Fleet {
    parts: Parts,
    bus: RabbitBus,
    council: Arc<Council>,
    shards: Shards,
    root: Supervisor,
    here: BTreeMap<usize, Trio>,
}

/// A shard's actors.
struct Trio {
    supervisor: Supervisor,
    journal: Handle<JournalWriter>,
    reservation: Handle<Reservation>,
    ledger: Handle<LedgerWriter>,
    /// Opens it to requests when it is rebuilt.
    opening: actix_rt::task::JoinHandle<()>,
}

/// What is to be done about one shard.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Start,
    HandOver,
    End,
    Nothing,
}

/// `is_here` is whether its actors run here; whether it is open to requests the view says.
fn step(view: &View, shard: usize, council: &Council, is_here: bool) -> Step {
    let me = council.me();
    let assigned = view.assigned.get(shard).copied().flatten();
    let holder = view.holders.get(shard).and_then(Option::as_ref).map(|(node, ..)| *node);
    match (is_here, assigned) {
        (false, Some(node)) if node == me => Step::Start,
        (true, Some(node)) if node != me && holder == Some(me) => Step::HandOver,
        (true, Some(node)) if node != me => Step::End,
        // Opened here, and somebody has it since a later moment.
        (true, _) if council.holds(shard) && holder.is_some_and(|holder| holder != me) => Step::End,
        _ => Step::Nothing,
    }
}

impl Fleet {
    /// None yet.
    pub fn new(
        parts: Parts,
        bus: RabbitBus,
        council: Arc<Council>,
        shards: Shards,
        root: Supervisor,
    ) -> Self {
        Self { parts, bus, council, shards, root, here: BTreeMap::new() }
    }

    /// Follows the division until `stop` is dropped.
    pub async fn follow(mut self, mut stop: oneshot::Receiver<()>) -> Self {
        let mut view = self.council.view();
        loop {
            let now = view.borrow_and_update().clone();
            let mut leaving = Vec::new();
            for shard in 0..self.parts.shards() {
                let is_here = self.here.contains_key(&shard);
                match step(&now, shard, &self.council, is_here) {
                    Step::Start => self.start(shard),
                    Step::HandOver => leaving.extend(self.close(shard).map(|trio| (shard, trio, true))),
                    Step::End => leaving.extend(self.close(shard).map(|trio| (shard, trio, false))),
                    Step::Nothing => {}
                }
            }
            join_all(leaving.into_iter().map(|(shard, trio, drains)| self.end(shard, trio, drains))).await;
            metrics::gauge!("blend_shards_held").set(u32::try_from(self.here.len()).unwrap_or(u32::MAX));
            tokio::select! {
                // The council lives as long as this.
                changed = view.changed() => drop(changed),
                _ = &mut stop => return self,
            }
        }
    }

    /// Finishes what was accepted, hands everything over and ends it. Whether all of it was finished.
    pub async fn leave(mut self, deadline: Duration) -> Vec<(String, bool)> {
        self.council.leave();
        let end = Instant::now() + deadline;
        let all: Vec<usize> = self.here.keys().copied().collect();
        let trios: Vec<_> = all.into_iter().filter_map(|shard| Some((shard, self.close(shard)?))).collect();
        let ended = trios.into_iter().map(async |(shard, trio)| {
            let drained = drain(&trio, end.saturating_duration_since(Instant::now())).await;
            self.end(shard, trio, false).await;
            drained
        });
        join_all(ended).await.into_iter().flatten().collect()
    }

    fn start(&mut self, shard: usize) {
        let suffix = format!("-{shard}");
        let supervisor = self.root.child(format!("shard{suffix}"), Strategy::RestForOne, GRANTS);
        let log = match &self.parts.outboxes {
            Some(outboxes) => outboxes.log(shard, self.bus.log(shard)),
            None => self.bus.log(shard),
        };
        let journal = self.parts.journal(&supervisor, &suffix, log);
        let reservation = self.parts.reservation(&supervisor, shard, &journal);
        let told = reservation.clone();
        // One that is stopped needs no news, and one that is rebuilt reads it from the ledger.
        let tell: Tell = Arc::new(move |written| {
            told.feedback(Msg::InLedger(written)).ok();
        });
        let feed = self.bus.feed_while_writing(shard);
        let ledger = self.parts.ledger(&supervisor, &suffix, feed, tell);
        let opening = actix_rt::spawn(open(
            shard,
            reservation.clone(),
            (self.shards.clone(), self.council.clone(), self.parts.clock.clone()),
        ));
        self.here.insert(shard, Trio { supervisor, journal, reservation, ledger, opening });
    }

    /// From here on no request comes in; they wait until another node says that it has the shard.
    fn close(&mut self, shard: usize) -> Option<Trio> {
        let trio = self.here.remove(&shard)?;
        trio.opening.abort();
        self.shards.set(shard, None);
        self.council.let_go(shard);
        Some(trio)
    }

    /// Ends a shard's actors. The claim is free when the log is gone, and another node has it at once.
    async fn end(&self, shard: usize, trio: Trio, drains: bool) {
        if drains {
            tracing::info!(shard, "handing the shard over to another node");
            drain(&trio, HAND_OVER).await;
        } else {
            tracing::info!(shard, "this node does not have the shard any more");
        }
        let names = [trio.ledger.name(), trio.reservation.name(), trio.journal.name()].map(str::to_owned);
        for name in names {
            trio.supervisor.stop_child(&name).await;
        }
        self.root.stop_child(trio.supervisor.name()).await;
    }
}

async fn open(
    shard: usize,
    reservation: Handle<Reservation>,
    (shards, council, clock): (Shards, Arc<Council>, crate::ports::clock::SharedClock),
) {
    // Answered when it is rebuilt. One that crashes meanwhile is asked again; one that is stopped will not open.
    while let Err(error) = reservation.ask_when_room(Msg::Tenants).await {
        if error == AskError::Stopped {
            return;
        }
    }
    shards.set(shard, Some(reservation));
    council.hold(shard, clock.now());
    tracing::info!(shard, "this node has the shard");
}

/// In the order in which they send to each other.
async fn drain(trio: &Trio, deadline: Duration) -> Vec<(String, bool)> {
    let end = Instant::now() + deadline;
    let mut drained = Vec::new();
    for actor in [&trio.reservation as &dyn Drain, &trio.journal, &trio.ledger] {
        let done = actor.drain_within(end.saturating_duration_since(Instant::now())).await;
        drained.push((actor.name().to_owned(), done));
    }
    drained
}

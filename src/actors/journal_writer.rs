//! The journal writer: makes the events of all shards durable, many in one commit.
//!
//! Owns the one [`EventLog`]. While a commit is under way, appends gather; the next commit takes them together (group
//! commit), each append whole or not at all. A shard appends in a [`Lane`]: the next batch need not wait until the one
//! before is durable, for when that fails, what was built on it is given back untried. A lane belongs to one log: what
//! was decided before the log was opened anew may rest on what is no longer true (another node may have written
//! meanwhile), so it is refused and its shard looks again.
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`] appends, counted until they are durable; a full one refuses at once |
//! | restart | with back-off; opens the log afresh; an append whose outcome is unknown fails the actor on purpose |
//! | messages in | [`Msg::Append`] from reservation shards, [`Msg::Barrier`] from a shard that rebuilds |
//! | messages out | none: answers only |

use super::kit::{Answer, AskError, Behaviour, Cx, Fault, Handle, Reply};
use crate::domain::event::Event;
use crate::ports::bus::{AppendError, EventLog};
use crate::ports::{Open, PortError};
use metrics::{Counter, Histogram};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a lane is told of an append: durable, or why not.
pub type Verdict = Result<(), NotAppended>;

/// Why an append of a lane is not (known to be) durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAppended {
    /// The log's own word.
    Failed(AppendError),
    /// Not tried, for an earlier append of the lane failed.
    NotTried,
    /// Not tried, for the log was opened anew since the barrier that the lane rests on.
    Stale,
}

/// Appends that may wait. Each shard has a few at a time, so this is far more than ever wait.
pub const CAPACITY: usize = 1_024;

/// Events in one commit at most; an append that is larger on its own still goes whole.
const GROUP_EVENTS: usize = 4_096;

/// Time between two rounds of upkeep.
const UPKEEP_EVERY: Duration = Duration::from_millis(200);

/// What the journal writer understands.
pub enum Msg {
    /// Make these durable, all or nothing.
    Append {
        /// In order.
        events: Vec<Arc<Event>>,
        /// What it builds on.
        lane: Arc<LaneState>,
        /// Ok means durable.
        reply: Reply<Verdict>,
    },
    /// Answered when every append that came before is decided.
    Barrier(Reply<Generation>),
    /// A commit is over.
    Committed(Commit),
    /// Time for upkeep.
    Upkeep,
    /// Upkeep is over.
    Kept(Box<dyn EventLog>, Result<(), PortError>),
}

/// A commit that is over, with the log it was made with.
pub struct Commit {
    log: Box<dyn EventLog>,
    result: Result<(), AppendError>,
    replies: Vec<Waiting>,
    events: usize,
    took: Duration,
}

/// Which opening of the log: 1 for the first.
pub type Generation = u64;

/// What the writer and one lane share.
#[derive(Debug)]
pub struct LaneState {
    generation: Generation,
    broken: AtomicBool,
}

impl LaneState {
    fn break_it(&self) {
        self.broken.store(true, Ordering::Release);
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

/// Who waits for a commit.
enum Waiting {
    Append(Reply<Verdict>, Arc<LaneState>),
    Barrier(Reply<Generation>),
}

/// The state: the log while no commit has it, and who waits.
pub struct JournalWriter {
    open: Open<Box<dyn EventLog>>,
    log: Option<Box<dyn EventLog>>,
    generation: Generation,
    waiting: Vec<(Vec<Arc<Event>>, Waiting)>,
    upkeep_due: bool,
    events: u64,
    commits: u64,
    largest: usize,
    metrics: Metrics,
}

#[derive(Clone)]
struct Metrics {
    events: Counter,
    failures: Counter,
    group: Histogram,
    seconds: Histogram,
}

impl JournalWriter {
    /// A writer that opens its log when it starts.
    pub fn new(open: Open<Box<dyn EventLog>>) -> Self {
        let metrics = Metrics {
            events: metrics::counter!("blend_journal_events_total"),
            failures: metrics::counter!("blend_journal_failures_total"),
            group: metrics::histogram!("blend_journal_group_events"),
            seconds: metrics::histogram!("blend_journal_commit_seconds"),
        };
        Self {
            open,
            log: None,
            generation: 0,
            waiting: Vec::new(),
            upkeep_due: false,
            events: 0,
            commits: 0,
            largest: 0,
            metrics,
        }
    }

    /// Starts the next commit or round of upkeep, if the log is free.
    fn go_on(&mut self, cx: &mut Cx<Self>) {
        let Some(mut log) = self.log.take() else { return };
        if self.upkeep_due {
            self.upkeep_due = false;
            let keep = async move {
                let result = log.maintain().await;
                (log, result)
            };
            cx.pipe(keep, |(log, result)| Msg::Kept(log, result));
            return;
        }
        self.fail_broken_lanes();
        let (batch, replies) = self.next_group();
        if batch.is_empty() {
            let arrived = log.has_arrived();
            self.log = Some(log);
            self.answer(replies, &Ok(()), arrived);
            return;
        }
        let commit = async move {
            let started = Instant::now();
            let result = log.append(&batch).await;
            Commit { log, result, replies, events: batch.len(), took: started.elapsed() }
        };
        cx.pipe(commit, Msg::Committed);
    }

    /// The log is free again, if it still is one.
    fn take_back(&mut self, log: Box<dyn EventLog>) -> Result<(), Fault> {
        if log.is_lost() {
            return Err(Fault::new("the log has lost its hold on the bus"));
        }
        self.log = Some(log);
        Ok(())
    }

    /// Gives back what was built on an append that failed.
    fn fail_broken_lanes(&mut self) {
        let is_broken =
            |(_, waiting): &mut (_, Waiting)| matches!(waiting, Waiting::Append(_, lane) if lane.is_broken());
        for (_, waiting) in self.waiting.extract_if(.., is_broken) {
            if let Waiting::Append(reply, _) = waiting {
                reply.send(Err(NotAppended::NotTried));
            }
        }
    }

    fn next_group(&mut self) -> (Vec<Arc<Event>>, Vec<Waiting>) {
        let mut batch = Vec::new();
        let mut taken = 0;
        for (events, _) in &self.waiting {
            if !batch.is_empty() && batch.len() + events.len() > GROUP_EVENTS {
                break;
            }
            batch.extend(events.iter().cloned());
            taken += 1;
        }
        (batch, self.waiting.drain(..taken).map(|(_, reply)| reply).collect())
    }

    fn committed(&mut self, commit: Commit) -> Result<(), Fault> {
        self.metrics.seconds.record(commit.took);
        match &commit.result {
            Ok(()) => {
                self.events += commit.events as u64;
                self.commits += 1;
                self.largest = self.largest.max(commit.events);
                self.metrics.events.increment(commit.events as u64);
                self.metrics.group.record(u32::try_from(commit.events).unwrap_or(u32::MAX));
            }
            Err(error) => {
                self.metrics.failures.increment(1);
                tracing::error!(%error, events = commit.events, "journal append failed");
            }
        }
        self.answer(commit.replies, &commit.result, commit.log.has_arrived());
        if let Err(AppendError::InDoubt(why)) = commit.result {
            return Err(Fault::new(why));
        }
        self.take_back(commit.log)
    }

    fn answer(&self, replies: Vec<Waiting>, result: &Result<(), AppendError>, arrived: bool) {
        for reply in replies {
            match reply {
                Waiting::Append(reply, lane) => {
                    if result.is_err() {
                        // Before the answer: whoever has it may rely on the rest of the lane failing.
                        lane.break_it();
                    }
                    reply.send(result.clone().map_err(NotAppended::Failed));
                }
                // Dropped, it tells the asker to ask again: only the next log knows what came of the append before it.
                // The same while an event waits to get to where the asker would look for it.
                Waiting::Barrier(reply) if !arrived || matches!(result, Err(AppendError::InDoubt(_))) => {
                    drop(reply);
                }
                Waiting::Barrier(reply) => reply.send(self.generation),
            }
        }
    }
}

impl Behaviour for JournalWriter {
    const KIND: &'static str = "journal";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.log = Some((self.open)().await?);
        self.generation = cx.incarnation();
        cx.notify_after(UPKEEP_EVERY, Msg::Upkeep);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Append { lane, reply, .. } if lane.generation != self.generation => {
                reply.send(Err(NotAppended::Stale));
            }
            Msg::Append { events, lane, reply } => self.waiting.push((events, Waiting::Append(reply, lane))),
            Msg::Barrier(reply) => self.waiting.push((Vec::new(), Waiting::Barrier(reply))),
            Msg::Committed(commit) => self.committed(commit)?,
            Msg::Upkeep => self.upkeep_due = true,
            Msg::Kept(log, result) => {
                if let Err(error) = result {
                    tracing::warn!(%error, "journal upkeep failed");
                }
                self.take_back(log)?;
                cx.notify_after(UPKEEP_EVERY, Msg::Upkeep);
            }
        }
        self.go_on(cx);
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        json!({"events": self.events, "commits": self.commits, "largest_group": self.largest})
    }
}

/// Talks to the journal writer.
#[derive(Clone)]
pub struct JournalHandle(Handle<JournalWriter>);

impl JournalHandle {
    /// Over the kit's handle.
    pub const fn new(handle: Handle<JournalWriter>) -> Self {
        Self(handle)
    }

    /// The kit's handle, for draining.
    pub const fn inner(&self) -> &Handle<JournalWriter> {
        &self.0
    }

    /// A lane of its own, for what is decided upon what was durable at a barrier of this generation.
    pub fn lane(&self, generation: Generation) -> Lane {
        let state = LaneState { generation, broken: AtomicBool::new(false) };
        Lane { journal: self.0.clone(), state: Arc::new(state) }
    }

    /// Waits until every append made before is decided, and tells which opening of the log that was.
    pub async fn barrier(&self) -> Result<Generation, AskError> {
        self.0.ask_when_room(Msg::Barrier).await
    }
}

/// Appends that build on each other: when one is not recorded, none that was or will be sent after it is even tried.
pub struct Lane {
    journal: Handle<JournalWriter>,
    state: Arc<LaneState>,
}

impl Lane {
    /// Whether an append of it failed: it takes no other any more.
    pub fn is_broken(&self) -> bool {
        self.state.is_broken()
    }

    /// Makes events durable. The order of calls is the order on the bus.
    pub fn append(&self, events: Vec<Arc<Event>>) -> impl Future<Output = Verdict> + use<> {
        let lane = self.state.clone();
        let answer: Answer<_> = self.journal.ask(|reply| Msg::Append { events, lane, reply });
        if answer.is_refused() {
            self.state.break_it();
        }
        async move {
            match answer.await {
                Ok(result) => result,
                Err(AskError::Full) => Err(NotAppended::Failed(AppendError::NotDurable(
                    "the journal writer's mailbox is full".into(),
                ))),
                Err(error) => Err(NotAppended::Failed(AppendError::InDoubt(error.to_string()))),
            }
        }
    }
}

#[cfg(test)]
#[path = "journal_writer_tests.rs"]
mod tests;

//! One call at a time: the client goes out with a job and comes back with what came of it.

use super::{BROKEN, Channel, Kind, MOST_DRIFT, Msg};
use crate::actors::kit::{Cx, Reply};
use crate::domain::channel::mapping::{Listed, MatchReport};
use crate::domain::channel::{DriftPolicy, Refused};
use crate::domain::ids::UnitId;
use crate::ports::channel::{Call, Marketplace, Missed, News, Notice, Sealed};
use crate::resilience::circuit_breaker::OwnedPermit;
use std::time::Duration;
use uuid::Uuid;

/// Items read at once.
const READ: usize = 100;

/// News taken up at once.
const NEWS: usize = 50;

/// What a client is sent out for.
pub enum Job {
    /// Push, the same call as often as it takes.
    Push { call: Call, attempts: u32 },
    /// Read what items show; `lost` when a push found something else there than it expected.
    Read { units: Vec<UnitId>, lost: bool },
    /// Find out what a notice is about.
    News(Notice),
    /// Ask for news that was missed.
    Missed,
    /// Get a new token.
    Renew,
    /// See to it that the marketplace tells us.
    Subscribe,
    /// Does the account work?
    Check(Reply<Result<String, String>>),
    /// A person says which item a unit is: is there such an item?
    Map { unit: UnitId, item: String, reply: Reply<Result<i64, String>> },
    /// List everything, page by page.
    Match {
        apply: bool,
        reply: Reply<Result<MatchReport, String>>,
        listed: Vec<Listed>,
        after: Option<String>,
    },
}

/// What came of a job.
pub enum Outcome {
    Pushed,
    Read(Vec<Option<i64>>),
    News(News),
    Missed(Vec<Missed>),
    /// They are kept.
    Renewed(Sealed),
    /// Others were at rest already.
    Found(Sealed),
    Subscribed(usize),
    Checked(String),
    Listed(Vec<Listed>, Option<String>),
}

/// A job that ended.
pub struct Done {
    pub market: Box<dyn Marketplace>,
    pub job: Job,
    pub result: Result<Outcome, Refused>,
    /// The circuit's leave for the call; people's questions need none.
    pub permit: Option<OwnedPermit>,
}

impl<K: Kind> Channel<K> {
    /// Sends the client out for whatever is next, if it is there and may go.
    pub(super) fn work(&mut self, cx: &mut Cx<Self>) {
        if self.market.is_none() || cx.shutting_down() {
            return;
        }
        if let Some(moment) = self.not_before {
            let wait = moment.saturating_duration_since(tokio::time::Instant::now());
            if !wait.is_zero() {
                return;
            }
            self.not_before = None;
        }
        if let Some(job) = self.next_job() {
            let permit = match &job {
                // People's questions find out, whatever the circuit thinks.
                job if job.is_a_persons() => None,
                _ => match self.breaker.enter_owned() {
                    Ok(permit) => Some(permit),
                    Err(wait) => {
                        self.put_back(job, 0);
                        return self.wait(wait, cx);
                    }
                },
            };
            self.send(job, permit, cx);
        } else if self.news_due {
            self.look_for_news(cx);
        } else if !self.connection.paused && self.broken.is_none() && self.board.has_work() {
            // What may only be raised later.
            self.wait(Duration::from_millis(250), cx);
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        // A token comes first, then people, who wait; nothing is read while it is not known what was written. Who was
        // refused a token does not ask for one at once.
        let is = |job: &Job| (matches!(job, Job::Renew) && self.broken.is_none()) || job.is_a_persons();
        if let Some(at) = self.jobs.iter().position(is) {
            return self.jobs.remove(at);
        }
        if self.broken.is_some() {
            return None;
        }
        let may_go = |job: &Job| !(self.taking && matches!(job, Job::News(_)));
        if self.connection.paused {
            // Nothing is sent, but what is ordered there is ordered all the same.
            let is_news = |job: &Job| matches!(job, Job::News(_) | Job::Missed) && may_go(job);
            let at = self.jobs.iter().position(is_news)?;
            return self.jobs.remove(at);
        }
        let next = self.jobs.iter().position(may_go);
        if let Some((call, attempts)) = self.pending.take() {
            return Some(Job::Push { call, attempts });
        }
        if let Some(at) = next {
            return self.jobs.remove(at);
        }
        let limit = self.market.as_ref().map_or(1, |market| market.limits().batch).min(self.batch);
        let pushes = self.board.take(limit, self.connection.policy.guard, self.now());
        if pushes.is_empty() {
            return None;
        }
        let mode = self.connection.policy.mode;
        Some(Job::Push { call: Call { key: Uuid::now_v7(), pushes, mode }, attempts: 0 })
    }

    fn send(&mut self, job: Job, permit: Option<OwnedPermit>, cx: &mut Cx<Self>) {
        let Some(mut market) = self.market.take() else { return };
        self.is_out = true;
        self.counts.calls += 1;
        self.metrics.calls.increment(1);
        if let Job::News(notice) = &job {
            self.in_hand = Some(notice.id.clone());
        }
        let items: Vec<String> = match &job {
            Job::Read { units, .. } => {
                units.iter().take(READ).filter_map(|unit| self.board.item(*unit).map(str::to_owned)).collect()
            }
            Job::Map { item, .. } => vec![item.clone()],
            _ => Vec::new(),
        };
        let renewal = self.renewal();
        let run = async move {
            let result = match &job {
                Job::Push { call, .. } => market.push(call).await.map(|()| Outcome::Pushed),
                Job::Read { .. } => market.read(&items).await.map(Outcome::Read),
                Job::News(notice) => market.news(notice).await.map(Outcome::News),
                Job::Missed => market.missed().await.map(Outcome::Missed),
                Job::Renew => renewal.carry_out(&mut *market).await,
                Job::Subscribe => market.subscribe().await.map(Outcome::Subscribed),
                Job::Map { .. } => market.read(&items).await.map(Outcome::Read),
                Job::Check(_) => market.check().await.map(Outcome::Checked),
                Job::Match { after, .. } => {
                    market.list(after.clone()).await.map(|(listed, next)| Outcome::Listed(listed, next))
                }
            };
            Done { market, job, result, permit }
        };
        cx.pipe(run, |done| Msg::Done(Box::new(done)));
    }

    /// Nothing is called for a while.
    pub(super) fn wait(&mut self, pause: Duration, cx: &mut Cx<Self>) {
        self.not_before = Some(tokio::time::Instant::now() + pause);
        cx.notify_after(pause, Msg::Again);
    }

    /// Somebody has to do something; it is tried again later all the same.
    pub(super) fn broken(&mut self, cause: String, cx: &mut Cx<Self>) {
        tracing::error!(connection = %self.connection.id, tenant = %self.connection.tenant, channel = K::NAME, cause,
            "a channel needs a person: nothing is sent until then");
        self.broken = Some(cause);
        cx.notify_after(BROKEN, Msg::Again);
    }

    /// A person's question, for the client; refused when there is none.
    pub(super) fn ask_market(&mut self, job: Job, cx: &mut Cx<Self>) {
        self.broken = self.broken.take().filter(|_| self.market.is_none() && self.jobs.is_empty());
        if let (None, Some(cause)) = (&self.market, &self.broken) {
            return job.refuse(cause);
        }
        self.jobs.push_back(job);
        self.work(cx);
    }

    /// Asks for what was missed, unless that is being asked already.
    pub(super) fn ask_for_missed(&mut self) {
        if !self.jobs.iter().any(|job| matches!(job, Job::Missed)) {
            self.jobs.push_back(Job::Missed);
        }
    }

    /// The next items in turn, for the rolling reader.
    pub(super) fn read_on(&mut self) {
        if self.jobs.iter().any(|job| matches!(job, Job::Read { .. })) || self.pending.is_some() {
            return;
        }
        let mut units: Vec<UnitId> = self.board.units().collect();
        units.sort_unstable();
        let from = self.read_behind.map_or(0, |last| units.partition_point(|unit| *unit <= last));
        let next: Vec<UnitId> = units.into_iter().skip(from).take(READ).collect();
        self.read_behind = next.last().copied();
        if !next.is_empty() {
            self.jobs.push_back(Job::Read { units: next, lost: false });
        }
    }

    /// Asks the store what news there is.
    pub(super) fn look_for_news(&mut self, cx: &mut Cx<Self>) {
        self.news_due = false;
        let (store, tenant, id) = (self.ports.store.clone(), self.connection.tenant, self.connection.id);
        // What cannot be read now is found by the next look.
        let look = async move { store.notices(tenant, id, NEWS).await.unwrap_or_default() };
        cx.pipe(look, Msg::Notices);
    }

    pub(super) fn take_notices(&mut self, notices: Vec<Notice>, cx: &mut Cx<Self>) {
        if self.jobs.iter().any(|job| matches!(job, Job::News(_))) {
            return;
        }
        self.news_due = notices.len() == NEWS;
        let others = notices.into_iter().filter(|notice| Some(&notice.id) != self.in_hand.as_ref());
        self.jobs.extend(others.map(Job::News));
        self.work(cx);
    }

    /// Whether drift is somebody's to decide about, and there is room to remember it.
    pub(super) fn asks_about_drift(&self) -> bool {
        self.connection.policy.drift == DriftPolicy::Ask && self.drift.len() < MOST_DRIFT
    }
}

impl Job {
    /// Tells whoever waits that it cannot be done.
    pub fn refuse(self, cause: &str) {
        match self {
            Self::Check(reply) => reply.send(Err(cause.to_owned())),
            Self::Match { reply, .. } => reply.send(Err(cause.to_owned())),
            Self::Map { reply, .. } => reply.send(Err(cause.to_owned())),
            Self::Push { .. }
            | Self::Read { .. }
            | Self::News(_)
            | Self::Missed
            | Self::Renew
            | Self::Subscribe => {}
        }
    }

    /// Whether somebody waits for the answer: it is asked whatever the circuit thinks, and before everything else.
    pub fn is_a_persons(&self) -> bool {
        matches!(self, Self::Check(_) | Self::Match { .. } | Self::Map { .. })
    }
}

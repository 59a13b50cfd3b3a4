//! The load generator: many keep-alive connections, one task, integer arithmetic.
//!
//! [`run`] drives any [`Workload`]. A job without a due time is sent as soon as a connection is free (closed loop:
//! it measures what the server can do). A job with one is sent then, however slow the server is (open loop: it
//! measures what a till would feel), and its latency counts from that intended moment, so that waiting for a free
//! connection is not hidden. Jobs whose moment passed before a connection was free are counted as late.

mod histogram;
mod report;
mod retry;

pub use histogram::Histogram;
pub use report::{Report, per_second, thousandths};
pub use retry::Retry;

use crate::client::{Answer, Bearer, HttpClient};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::{
    Method,
    header::{HeaderName, HeaderValue},
};
use retry::Attempts;
use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    future::{Future, ready},
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// A start this much after the intended moment is late. The timer's own grain is 1 ms.
const LATE_AFTER: Duration = Duration::from_millis(10);
/// Pause of a connection whose request failed and is not retried, so that a dead server is not a busy loop.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// How soon a connection waiting for its moment notices that the run was cancelled.
const CANCEL_GRAIN: Duration = Duration::from_millis(250);

/// One request to send.
#[derive(Debug, Clone)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: Cow<'static, str>,
    /// Headers of this request only.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body; JSON unless a header says otherwise.
    pub body: Bytes,
}

impl Call {
    /// A POST of a JSON body.
    pub fn post(path: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, path: path.into(), headers: Vec::new(), body: body.into() }
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// A request with its moment and what its sender remembers about it.
#[derive(Debug)]
pub struct Job<T> {
    /// When to send it, counted from the start of the run; `None`: as soon as a connection is free.
    pub due: Option<Duration>,
    /// What to send.
    pub call: Call,
    /// Given back with the outcome.
    pub tag: T,
}

/// What became of a job.
#[derive(Debug)]
pub enum Outcome {
    /// The server's definite answer, of any status.
    Answered(Answer),
    /// No definite answer within the patience; the text says what the last attempt met.
    GaveUp(String),
}

/// A source of jobs and the judge of their outcomes.
pub trait Workload {
    /// What a job carries through the generator.
    type Tag;

    /// The next job; `None` ends the run. Called by many connections, each asking when it is free.
    fn next(&self) -> impl Future<Output = Option<Job<Self::Tag>>>;

    /// Takes an outcome.
    fn done(&self, tag: Self::Tag, outcome: Outcome);

    /// Whether to send nothing more; jobs in flight still get their outcome.
    fn cancelled(&self) -> bool {
        false
    }
}

/// How to drive a workload.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Requests in flight at most.
    pub connections: usize,
    /// Token of every request.
    pub token: Option<Bearer>,
    /// What to do about answers that decide nothing.
    pub retry: Retry,
}

/// Drives a workload until it has no more jobs and every job has an outcome.
pub async fn run<W: Workload>(client: &HttpClient, plan: &Plan, work: &W) -> Report {
    let started = Instant::now();
    let tally = RefCell::new(Report::default());
    let seeds = Cell::new(1_u64);
    let mut lanes: FuturesUnordered<_> =
        (0..plan.connections.max(1)).map(|_| lane(client, plan, work, started, &tally, &seeds)).collect();
    while lanes.next().await.is_some() {}
    drop(lanes);
    let mut report = tally.into_inner();
    report.elapsed = started.elapsed();
    report
}

/// One connection: take a job, wait for its moment, send it until it is answered, tell.
async fn lane<W: Workload>(
    client: &HttpClient,
    plan: &Plan,
    work: &W,
    started: Instant,
    tally: &RefCell<Report>,
    seeds: &Cell<u64>,
) {
    let mut connection = client.connection();
    while let Some(Job { due, call, tag }) = work.next().await {
        let intended = match due {
            Some(due) => {
                let moment = started + due;
                while moment > Instant::now() {
                    if work.cancelled() {
                        return;
                    }
                    sleep_until(moment.min(Instant::now() + CANCEL_GRAIN)).await;
                }
                moment
            }
            None => Instant::now(),
        };
        let lateness = intended.elapsed();
        seeds.set(seeds.get() + 1);
        let mut attempts = Attempts::new(&plan.retry, seeds.get());
        let outcome = loop {
            let Call { method, path, headers, body } = &call;
            let result =
                connection.request(method.clone(), path, plan.token.as_ref(), headers, body.clone()).await;
            match attempts.judge(result) {
                retry::Verdict::Final(outcome) => break outcome,
                retry::Verdict::Again { why, pause } => {
                    tally.borrow_mut().retried(why);
                    sleep(pause).await;
                }
            }
        };
        let failed = matches!(outcome, Outcome::GaveUp(_));
        tally.borrow_mut().finished(&outcome, intended.elapsed(), lateness);
        work.done(tag, outcome);
        if failed {
            sleep(AFTER_FAILURE).await;
        }
    }
}

/// Sends what `next` makes over `connections` connections for `duration`, each as fast as it is answered.
///
/// Nothing is retried: a broken connection or a 503 is part of what is being measured.
pub async fn closed_loop(
    client: &HttpClient,
    token: Option<&Bearer>,
    connections: usize,
    duration: Duration,
    next: impl FnMut() -> Call,
) -> Report {
    struct Endless<F> {
        next: RefCell<F>,
        until: Instant,
    }
    impl<F: FnMut() -> Call> Workload for Endless<F> {
        type Tag = ();
        fn next(&self) -> impl Future<Output = Option<Job<()>>> {
            let job = (Instant::now() < self.until).then(|| Job {
                due: None,
                call: (self.next.borrow_mut())(),
                tag: (),
            });
            ready(job)
        }
        fn done(&self, (): (), _: Outcome) {}
    }
    let plan = Plan { connections, token: token.cloned(), retry: Retry::NEVER };
    let work = Endless { next: RefCell::new(next), until: Instant::now() + duration };
    run(client, &plan, &work).await
}

#[cfg(test)]
mod tests;

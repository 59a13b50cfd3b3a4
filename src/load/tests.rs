//! The generator against a small server of known behaviour.

use super::*;
use crate::testing::FakeServer;
use hyper::StatusCode;
use std::collections::{BTreeMap, VecDeque};

/// A fixed list of jobs.
#[derive(Default)]
struct Listed {
    jobs: RefCell<VecDeque<Job<u64>>>,
    outcomes: RefCell<BTreeMap<u64, Outcome>>,
}

impl Listed {
    fn new(dues: impl IntoIterator<Item = Option<Duration>>) -> Self {
        let job = |(tag, due)| Job { due, call: Call::post("/x", "{}"), tag };
        Self { jobs: RefCell::new((0..).zip(dues).map(job).collect()), ..Self::default() }
    }
}

impl Workload for Listed {
    type Tag = u64;
    fn next(&self) -> impl Future<Output = Option<Job<u64>>> {
        ready(self.jobs.borrow_mut().pop_front())
    }
    fn done(&self, tag: u64, outcome: Outcome) {
        assert!(self.outcomes.borrow_mut().insert(tag, outcome).is_none());
    }
}

fn plan(connections: usize, patience: Duration) -> Plan {
    Plan { connections, token: None, retry: Retry { patience } }
}

#[tokio::test]
async fn a_closed_loop_keeps_every_connection_busy() {
    let server = FakeServer::start(|_| (201, "{}".into())).await;
    let mut made = 0_u64;
    let report = closed_loop(&server.client(), None, 8, Duration::from_millis(200), || {
        made += 1;
        Call::post("/x", "{}")
    })
    .await;
    assert_eq!((report.sent, report.answered(201), report.gave_up), (made, made, 0));
    assert_eq!(server.requests(), made);
    assert_eq!(server.connections(), 8);
    assert!(report.latency.per_mille(500) > 0 && report.rate() > 0);
}

#[tokio::test]
async fn an_open_loop_sends_on_time_and_counts_the_wait_for_a_slow_server() {
    // 20 jobs, 10 ms apart, on one connection to a server that needs 40 ms: the last is due at 190 ms, answered at
    // about 800 ms, and its latency is all of that difference.
    let server = FakeServer::start_slow(Duration::from_millis(40), |_| (200, "{}".into())).await;
    let work = Listed::new((0..20).map(|n| Some(Duration::from_millis(10 * n))));
    let report = run(&server.client(), &plan(1, Duration::ZERO), &work).await;
    assert_eq!(report.sent, 20);
    assert!(report.late >= 17, "{report:?}");
    assert!(report.latency.max() > 500_000, "{report:?}");
    assert!(report.worst_lateness > Duration::from_millis(450), "{report:?}");

    // With enough connections nobody waits for anybody.
    let work = Listed::new((0..20).map(|n| Some(Duration::from_millis(10 * n))));
    let report = run(&server.client(), &plan(20, Duration::ZERO), &work).await;
    assert!(report.latency.per_mille(500) < 200_000, "{report:?}");
}

#[tokio::test]
async fn answers_that_decide_nothing_are_repeated_until_one_does() {
    let count = std::sync::atomic::AtomicU64::new(0);
    let server = FakeServer::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => (503, "{}".into()),
        1 => (429, "{}".into()),
        2 => (408, "{}".into()),
        3 => (500, "{}".into()),
        _ => (201, "{}".into()),
    })
    .await;
    let work = Listed::new([None]);
    let report = run(&server.client(), &plan(1, Duration::from_secs(30)), &work).await;
    assert_eq!((report.sent, report.answered(201)), (1, 1));
    assert_eq!(report.retries.values().sum::<u64>(), 4, "{report:?}");
    assert_eq!(server.requests(), 5);
}

#[tokio::test]
async fn a_definite_refusal_is_not_repeated() {
    let server = FakeServer::start(|_| (400, "{}".into())).await;
    let work = Listed::new([None, None]);
    let report = run(&server.client(), &plan(2, Duration::from_secs(30)), &work).await;
    assert_eq!((report.answered(400), server.requests()), (2, 2));
}

#[tokio::test]
async fn patience_ends_and_a_defect_is_not_hammered() {
    let server = FakeServer::start(|_| (503, "{}".into())).await;
    let work = Listed::new([None]);
    let report = run(&server.client(), &plan(1, Duration::from_millis(300)), &work).await;
    assert_eq!((report.gave_up, report.latency.count()), (1, 0));
    assert!(matches!(work.outcomes.borrow().get(&0), Some(Outcome::GaveUp(_))));

    let server = FakeServer::start(|_| (500, "{}".into())).await;
    let work = Listed::new([None]);
    let report = run(&server.client(), &plan(1, Duration::from_secs(60)), &work).await;
    assert_eq!((report.gave_up, server.requests()), (1, 5));
}

#[tokio::test]
async fn without_patience_every_answer_is_shown_as_it_is() {
    let server = FakeServer::start(|_| (503, "{}".into())).await;
    let work = Listed::new([None]);
    let report = run(&server.client(), &plan(1, Duration::ZERO), &work).await;
    assert_eq!((report.answered(503), report.gave_up), (1, 0));
    let outcomes = work.outcomes.borrow();
    assert!(
        matches!(outcomes.get(&0), Some(Outcome::Answered(a)) if a.status == StatusCode::SERVICE_UNAVAILABLE)
    );
}

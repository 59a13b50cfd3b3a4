//! What a load run saw.

use super::{Histogram, LATE_AFTER, Outcome};
use std::{collections::BTreeMap, fmt, time::Duration};

/// Counts and latencies of one run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Jobs that were sent.
    pub sent: u64,
    /// Definite answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// Jobs without a definite answer.
    pub gave_up: u64,
    /// Repeated attempts by cause.
    pub retries: BTreeMap<&'static str, u64>,
    /// Jobs that started noticeably after their moment.
    pub late: u64,
    /// The worst of those.
    pub worst_lateness: Duration,
    /// From the intended start to the definite answer, retries included. Jobs given up are not in it.
    pub latency: Histogram,
    /// From the start of the run to its last answer.
    pub elapsed: Duration,
}

impl Report {
    pub(super) fn retried(&mut self, why: &'static str) {
        *self.retries.entry(why).or_default() += 1;
    }

    pub(super) fn finished(&mut self, outcome: &Outcome, took: Duration, lateness: Duration) {
        self.sent += 1;
        self.worst_lateness = self.worst_lateness.max(lateness);
        if lateness > LATE_AFTER {
            self.late += 1;
        }
        match outcome {
            Outcome::Answered(answer) => {
                *self.answers.entry(answer.status.as_u16()).or_default() += 1;
                self.latency.record(took);
            }
            Outcome::GaveUp(_) => self.gave_up += 1,
        }
    }

    /// Answers of one status.
    pub fn answered(&self, status: u16) -> u64 {
        self.answers.get(&status).copied().unwrap_or(0)
    }

    /// Answers of any 2xx status.
    pub fn succeeded(&self) -> u64 {
        self.answers.range(200..300).map(|(_, count)| count).sum()
    }

    /// Definite answers a second.
    pub fn rate(&self) -> u64 {
        per_second(self.latency.count(), self.elapsed)
    }
}

/// Rounded count per second; 0 for no time.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos();
    if nanos == 0 {
        return 0;
    }
    u64::try_from((u128::from(count) * 1_000_000_000 + nanos / 2) / nanos).unwrap_or(u64::MAX)
}

/// `12345` as `12.345`: microseconds as milliseconds, or milliseconds as seconds.
pub fn thousandths(value: u64) -> impl fmt::Display {
    struct Shown(u64);
    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
        }
    }
    Shown(value)
}

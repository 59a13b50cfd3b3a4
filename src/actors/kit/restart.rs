//! How often an actor may fail, and how long it waits before it is rebuilt.

use crate::resilience::backoff::{BackoffPolicy, Delays};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// How much failing is put up with before the next one up decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RestartPolicy {
    /// So many restarts within `window`; the failure after that escalates.
    pub max_restarts: usize,
    /// Failures longer ago than this are forgotten.
    pub window: Duration,
    /// The wait before the first restart.
    pub backoff_min: Duration,
    /// The wait doubles with every failure in a row, up to this.
    pub backoff_max: Duration,
}

impl Default for RestartPolicy {
    /// Five restarts a minute, after 50 ms to 5 s.
    fn default() -> Self {
        Self {
            max_restarts: 5,
            window: Duration::from_secs(60),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// The failures of one actor or supervisor, held against its policy.
pub(crate) struct Budget {
    policy: RestartPolicy,
    failures: VecDeque<Instant>,
    delays: Delays,
}

impl Budget {
    pub(crate) fn new(policy: RestartPolicy) -> Self {
        let delays = BackoffPolicy::doubling(policy.backoff_min, policy.backoff_max).delays();
        Self { policy, failures: VecDeque::new(), delays }
    }

    /// Notes a failure. How long to wait before the restart, or None if the budget is spent.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        while self.failures.front().is_some_and(|at| now - *at > self.policy.window) {
            self.failures.pop_front();
        }
        if self.failures.is_empty() {
            self.delays.reset();
        }
        self.failures.push_back(now);
        (self.failures.len() <= self.policy.max_restarts).then(|| self.delays.next_delay())
    }

    /// Something worked: the next failure is the first of a new row, though it still counts within the window.
    pub(crate) fn progressed(&mut self) {
        self.delays.reset();
    }

    /// A new start, granted from above.
    pub(crate) fn forgive(&mut self) {
        self.failures.clear();
        self.delays.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy { max_restarts: 3, window: Duration::from_secs(60), ..RestartPolicy::default() }
    }

    #[test]
    fn the_failure_after_the_last_restart_escalates() {
        let (mut budget, now) = (Budget::new(policy()), Instant::now());
        let granted: Vec<_> = (0..4).map(|_| budget.failed(now).is_some()).collect();
        assert_eq!(granted, [true, true, true, false]);
        budget.forgive();
        assert!(budget.failed(now).is_some());
    }

    #[test]
    fn failures_out_of_the_window_are_forgotten() {
        let (mut budget, start) = (Budget::new(policy()), Instant::now());
        for hour in 0..20 {
            let delay = budget.failed(start + Duration::from_secs(3600 * hour));
            assert!(delay.is_some_and(|delay| delay <= policy().backoff_min * 2), "{delay:?} in hour {hour}");
        }
    }

    #[test]
    fn progress_shortens_the_wait_but_does_not_refill_the_budget() {
        let (mut budget, now) = (Budget::new(policy()), Instant::now());
        let first_two = [budget.failed(now), budget.failed(now)];
        budget.progressed();
        let third = budget.failed(now);
        assert!(third < first_two[1], "{third:?} after {first_two:?}");
        assert_eq!(budget.failed(now), None);
    }
}

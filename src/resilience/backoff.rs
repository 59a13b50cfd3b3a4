//! Growing, jittered delays between attempts.
//!
//! The only module that names the `backoff` crate: everyone else sees the policy below, so the crate can be replaced
//! without touching a caller. Unlike the crate's default (give up after 15 minutes of the *system* clock) these delays
//! never end by themselves; who counts attempts or watches a deadline does so outside, with the clock of its choice.

use backoff::{ExponentialBackoff, backoff::Backoff};
use std::time::Duration;

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackoffPolicy {
    /// The first delay, before jitter.
    pub min: Duration,
    /// No delay is longer than this, jitter included.
    pub max: Duration,
    /// What one delay is multiplied by to get the next.
    pub multiplier: f64,
    /// 0.2 spreads each delay evenly over 80 % to 120 % of its value, so that those who failed together do not all
    /// come back together. 0 turns it off.
    pub jitter: f64,
}

impl BackoffPolicy {
    /// Doubling delays from `min` to `max`, 20 % jitter.
    pub const fn doubling(min: Duration, max: Duration) -> Self {
        Self { min, max, multiplier: 2.0, jitter: 0.2 }
    }

    /// A fresh row of delays.
    pub fn delays(&self) -> Delays {
        let row = ExponentialBackoff {
            current_interval: self.min,
            initial_interval: self.min,
            randomization_factor: self.jitter,
            multiplier: self.multiplier,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Delays { row, max: self.max, fresh: true }
    }
}

/// The delays of one row of failures. `reset` after a success starts from the shortest again.
#[derive(Debug)]
pub struct Delays {
    row: ExponentialBackoff,
    max: Duration,
    fresh: bool,
}

impl Delays {
    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.fresh = false;
        // None only with a limit on the elapsed time, and there is none; the longest delay is the safe answer anyway.
        self.row.next_backoff().unwrap_or(self.max).min(self.max)
    }

    /// An attempt succeeded.
    pub fn reset(&mut self) {
        // Called after every success, so it must cost nothing when there is nothing to reset.
        if !self.fresh {
            self.row.reset();
            self.fresh = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn doubles_up_to_the_maximum_and_starts_again_after_a_reset() {
        let mut delays = BackoffPolicy { jitter: 0.0, ..BackoffPolicy::doubling(10 * MS, 100 * MS) }.delays();
        let row: Vec<_> = (0..6).map(|_| delays.next_delay().as_millis()).collect();
        assert_eq!(row, [10, 20, 40, 80, 100, 100]);
        delays.reset();
        assert_eq!(delays.next_delay(), 10 * MS);
    }

    #[test]
    fn jitter_spreads_but_stays_in_its_band_and_below_the_maximum() {
        let policy = BackoffPolicy::doubling(100 * MS, 100 * MS);
        let row: Vec<_> = (0..200).map(|_| policy.delays().next_delay()).collect();
        assert!(row.iter().all(|delay| (80 * MS..=100 * MS).contains(delay)));
        assert!(row.iter().any(|delay| *delay != row[0]), "200 equal delays: no jitter");
    }
}

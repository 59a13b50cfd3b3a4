//! A bucket of points as marketplaces keep it for each of their callers: calls cost points, which come back steadily.
//!
//! Ours never promises more than the marketplace has: it is taken from before a call, and whatever the answer says is
//! there replaces what we believed, but for what other calls have taken meanwhile.

use std::time::Duration;

/// Moments in milliseconds; whose zero does not matter.
pub type Millis = u64;

/// One caller's points at one shop. Amounts are in thousandths of a point, so that what comes back in a millisecond is
/// a whole number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostBucket {
    max: u64,
    restore_per_second: u64,
    milli_points: u64,
    as_of: Millis,
}

impl CostBucket {
    /// A full bucket.
    pub const fn new(max: u64, restore_per_second: u64, now: Millis) -> Self {
        Self { max, restore_per_second, milli_points: max * 1_000, as_of: now }
    }

    fn refill(&mut self, now: Millis) {
        let passed = now.saturating_sub(self.as_of);
        // Points a second are thousandths of a point a millisecond.
        let back = passed.saturating_mul(self.restore_per_second);
        self.milli_points = self.milli_points.saturating_add(back).min(self.max * 1_000);
        self.as_of = self.as_of.max(now);
    }

    /// Takes the cost of a call, or says how long to wait before asking again.
    pub fn take(&mut self, cost: u64, now: Millis) -> Result<(), Duration> {
        self.refill(now);
        // What costs more than the bucket holds is let through when it is full: the marketplace will judge it.
        let needed = cost.min(self.max) * 1_000;
        match self.milli_points.checked_sub(needed) {
            Some(left) => {
                self.milli_points = left;
                Ok(())
            }
            None => {
                let missing = needed - self.milli_points;
                Err(Duration::from_millis(missing.div_ceil(self.restore_per_second.max(1)).max(1)))
            }
        }
    }

    /// What the marketplace says is there, as of its answer.
    pub fn learn(&mut self, max: u64, restore_per_second: u64, available: u64, now: Millis) {
        self.refill(now);
        (self.max, self.restore_per_second) = (max, restore_per_second);
        self.milli_points = available.min(max) * 1_000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_waits_for_exactly_what_is_missing() {
        let mut bucket = CostBucket::new(100, 50, 0);
        assert_eq!(bucket.take(90, 0), Ok(()));
        assert_eq!(bucket.take(20, 0), Err(Duration::from_millis(200)));
        assert_eq!(bucket.take(20, 199), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(20, 200), Ok(()));
        // A clock that jumps back gives nothing.
        assert_eq!(bucket.take(1, 0), Err(Duration::from_millis(20)));
        bucket.learn(2_000, 100, 7, 200);
        assert_eq!((bucket.take(7, 200), bucket.take(1, 200)), (Ok(()), Err(Duration::from_millis(10))));
    }

    proptest! {
        /// However calls come, over any stretch of time no more is taken than was there plus what came back.
        #[test]
        fn never_overdraws(calls in prop::collection::vec((1_u64..300, 0_u64..2_000), 1..200)) {
            let (max, restore) = (1_000, 50);
            let mut bucket = CostBucket::new(max, restore, 0);
            let (mut now, mut taken) = (0, 0);
            for (cost, pause) in calls {
                now += pause;
                if let Err(wait) = bucket.take(cost, now) {
                    now += u64::try_from(wait.as_millis()).unwrap();
                    prop_assert!(bucket.take(cost, now).is_ok(), "the wait was too short");
                }
                taken += cost;
                prop_assert!(taken * 1_000 <= max * 1_000 + now * restore);
            }
        }
    }
}

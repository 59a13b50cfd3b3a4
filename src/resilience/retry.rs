//! When a failed delivery is tried again, and when it is given up.

use std::time::Duration;

/// Waits before the second, third and fourth try; after the last one comes the dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule(pub Vec<Duration>);

impl Default for RetrySchedule {
    fn default() -> Self {
        Self([1, 4, 9].map(Duration::from_secs).to_vec())
    }
}

impl RetrySchedule {
    /// How long to wait after the `failures`-th failure (from 1), spread by up to a fifth so that what failed
    /// together does not come back together; `None` when it is time to give up. `dice` is any random number.
    pub fn wait_after(&self, failures: u32, dice: u64) -> Option<Duration> {
        let wait = *self.0.get(failures.checked_sub(1)? as usize)?;
        let spread = u64::try_from(wait.as_micros() / 5).unwrap_or(u64::MAX).max(1);
        Some(wait + Duration::from_micros(dice % spread))
    }

    /// Whether it is time to give up after so many failures.
    pub fn is_over_after(&self, failures: u32) -> bool {
        self.wait_after(failures, 0).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_spread_waits_and_then_no_more() {
        let schedule = RetrySchedule::default();
        for (failures, seconds) in [(1, 1), (2, 4), (3, 9)] {
            let waits: Vec<Duration> =
                (0..50).filter_map(|n| schedule.wait_after(failures, n * 7_919)).collect();
            let (base, most) = (Duration::from_secs(seconds), Duration::from_millis(seconds * 1_200));
            assert!(waits.len() == 50 && waits.iter().all(|wait| *wait >= base && *wait < most), "{waits:?}");
            assert!(waits.iter().any(|wait| wait != &waits[0]));
        }
        assert_eq!(schedule.wait_after(4, 0), None);
        assert_eq!(schedule.wait_after(0, 0), None);
    }
}

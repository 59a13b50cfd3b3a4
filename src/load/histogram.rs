//! A log-bucketed histogram of microseconds: fixed memory, integers only, error below 1.6 %.
//!
//! Values below 128 have a bucket each; above that every power of two is cut into 64. The median, p99 and p99.9
//! come from counting, so two histograms can be merged without losing anything.

use std::time::Duration;

/// Buckets per power of two.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Largest value that keeps its place: about 19 hours. Longer ones are counted in the last bucket.
const MAX_MICROS: u64 = (1 << 36) - 1;
const BUCKETS: usize = index(MAX_MICROS) + 1;

const fn index(micros: u64) -> usize {
    if micros < 2 * STEPS {
        return micros as usize;
    }
    let exponent = micros.ilog2() - STEP_BITS;
    ((exponent as u64 + 1) * STEPS + (micros >> exponent) - STEPS) as usize
}

/// The largest value that falls into a bucket.
const fn ceiling(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let exponent = index / STEPS - 1;
    ((index % STEPS + STEPS + 1) << exponent) - 1
}

/// Counts of durations.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[index(micros.min(MAX_MICROS))] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    /// Adds everything another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many durations were counted.
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// The longest, exactly.
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The value at or below which `per_mille` thousandths of all durations lie (500 = median), in microseconds;
    /// 0 when nothing was counted.
    pub fn per_mille(&self, per_mille: u64) -> u64 {
        let rank = (u128::from(self.total) * u128::from(per_mille)).div_ceil(1_000).max(1);
        let mut seen = 0_u128;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return ceiling(index).min(self.max);
            }
        }
        self.max
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Histogram(n {}, p50 {}, max {})", self.total, self.per_mille(500), self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_counted_is_zero() {
        let empty = Histogram::default();
        assert_eq!((empty.per_mille(500), empty.per_mille(999), empty.max()), (0, 0, 0));
    }

    #[test]
    fn buckets_are_contiguous() {
        for bucket in 1..BUCKETS {
            assert_eq!(index(ceiling(bucket - 1) + 1), bucket);
            assert_eq!(index(ceiling(bucket)), bucket);
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_within_two_per_cent(
            mut values in prop::collection::vec(0_u64..10_000_000, 1..300),
            per_mille in prop::sample::select(vec![1_u64, 500, 900, 990, 999, 1000]),
        ) {
            let mut histogram = Histogram::default();
            let mut halves = (Histogram::default(), Histogram::default());
            for (position, value) in values.iter().enumerate() {
                histogram.record(Duration::from_micros(*value));
                let half = if position % 2 == 0 { &mut halves.0 } else { &mut halves.1 };
                half.record(Duration::from_micros(*value));
            }
            values.sort_unstable();
            let rank = (values.len() as u64 * per_mille).div_ceil(1_000).max(1) as usize;
            let exact = values[rank - 1];
            let got = histogram.per_mille(per_mille);
            prop_assert!(got >= exact && got <= exact + exact / 50, "exact {exact}, got {got}");
            halves.0.merge(&halves.1);
            prop_assert_eq!(halves.0.per_mille(per_mille), got);
            prop_assert_eq!(histogram.max(), *values.last().unwrap());
        }
    }
}

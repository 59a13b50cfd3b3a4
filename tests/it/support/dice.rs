//! Moments that are different in every run, and can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that look random and can be had again: xorshift64* (Vigna, 2016).
pub struct Dice(u64);

impl Dice {
    /// From IT_SEED, to have a run again, or from the clock.
    pub fn new() -> Self {
        let given = std::env::vars_os().find(|(name, _)| name == "IT_SEED");
        let given =
            given.map(|(_, seed)| seed.to_string_lossy().parse().expect("IT_SEED is a number above 0"));
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
        let seed = given.unwrap_or_else(clock);
        eprintln!("the moments of the kills come from IT_SEED={seed}");
        Self(seed)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

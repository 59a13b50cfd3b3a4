//! Moments that are different in every run, and can be had again.

use std::time::{SystemTime, UNIX_EPOCH};

/// IT_SEED, or else the clock's.
pub fn seed() -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    wish("IT_SEED").map_or_else(clock, |seed| seed.parse().expect("IT_SEED is a number above 0"))
}

/// What whoever runs the tests wants to be different.
pub fn wish(name: &str) -> Option<String> {
    let given = std::env::vars_os().find(|(other, _)| other == name);
    given.map(|(_, value)| value.to_string_lossy().into_owned())
}

/// Numbers that look random and can be had again: xorshift64* (Vigna, 2016).
pub struct Dice(u64);

impl Dice {
    /// From IT_SEED, to have a run again, or from the clock.
    pub fn new() -> Self {
        Self::of(seed())
    }

    /// From a seed above 0.
    pub fn of(seed: u64) -> Self {
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

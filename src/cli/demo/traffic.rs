//! Customers of the demonstration shop: plausible baskets, the same ones for the same seed.

use crate::domain::decimal::Decimal;
use std::time::Duration;

/// Lines of a basket at most.
const MAX_LINES: u64 = 6;

/// Something that can be bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buyable<K> {
    /// What the caller knows it by.
    pub key: K,
    /// Whether it is sold by weight.
    pub weighed: bool,
}

/// A stream of baskets.
#[derive(Debug, Clone)]
pub struct Traffic<K> {
    units: Vec<Buyable<K>>,
    chance: Chance,
}

impl<K: Clone> Traffic<K> {
    /// Customers of these units.
    pub const fn new(units: Vec<Buyable<K>>, seed: u64) -> Self {
        Self { units, chance: Chance(seed) }
    }

    /// The next basket: 1 to 6 different units, few of each; empty only when there is nothing to buy.
    pub fn next_basket(&mut self) -> Vec<(K, Decimal<3>)> {
        // The smaller of two dice: most people buy two or three things.
        let wanted = self.chance.one_to(MAX_LINES).min(self.chance.one_to(MAX_LINES));
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.units.len());
        let mut picked = Vec::with_capacity(wanted);
        while picked.len() < wanted {
            let at = self.chance.below(self.units.len());
            if !picked.contains(&at) {
                picked.push(at);
            }
        }
        picked.into_iter().map(|at| self.line(at)).collect()
    }

    fn line(&mut self, at: usize) -> (K, Decimal<3>) {
        let thousandths = if self.units[at].weighed {
            // 100 g to 1.6 kg as a scale shows it, in steps of 5 g.
            100 + 5 * self.chance.below(301)
        } else {
            match self.chance.below(10) {
                0..=6 => 1_000,
                7..=8 => 2_000,
                _ => 3_000,
            }
        };
        let quantity = i64::try_from(thousandths).ok().and_then(Decimal::from_units).unwrap_or_default();
        (self.units[at].key.clone(), quantity)
    }

    /// How long until the next customer: between half and one and a half times the mean.
    pub fn next_pause(&mut self, mean: Duration) -> Duration {
        let per_mille = u32::try_from(500 + self.chance.below(1_001)).unwrap_or(1_000);
        mean.saturating_mul(per_mille) / 1_000
    }
}

/// SplitMix64: small, fast and good enough to choose groceries with.
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        // The product's upper half is below the bound, so it fits what the bound fits.
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    fn one_to(&mut self, most: u64) -> u64 {
        1 + self.next() % most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(count: usize) -> Vec<Buyable<usize>> {
        (0..count).map(|key| Buyable { key, weighed: key % 3 == 0 }).collect()
    }

    proptest! {
        #[test]
        fn baskets_obey_the_rules_of_a_checkout(seed: u64, count in 1_usize..40) {
            let mut traffic = Traffic::new(units(count), seed);
            for _ in 0..50 {
                let basket = traffic.next_basket();
                prop_assert!((1..=6).contains(&basket.len()));
                let mut keys: Vec<_> = basket.iter().map(|(key, _)| *key).collect();
                keys.sort_unstable();
                keys.dedup();
                prop_assert_eq!(keys.len(), basket.len());
                for (key, quantity) in basket {
                    prop_assert!(quantity > Decimal::ZERO && quantity.units() <= 3_000);
                    prop_assert!(key % 3 == 0 || !quantity.is_fractional());
                }
            }
        }

        #[test]
        fn pauses_stay_near_their_mean(seed: u64) {
            let pause = Traffic::new(units(1), seed).next_pause(Duration::from_secs(1));
            prop_assert!((500..=1500).contains(&pause.as_millis()));
        }
    }

    #[test]
    fn the_same_seed_is_the_same_day_and_every_unit_gets_sold() {
        let day = |seed| {
            let mut traffic = Traffic::new(units(30), seed);
            (0..500).map(|_| traffic.next_basket()).collect::<Vec<_>>()
        };
        assert_eq!(day(7), day(7));
        assert_ne!(day(7), day(8));
        let mut sold: Vec<_> = day(7).into_iter().flatten().map(|(key, _)| key).collect();
        sold.sort_unstable();
        sold.dedup();
        assert_eq!(sold.len(), 30);
    }

    #[test]
    fn an_empty_shop_sells_nothing() {
        assert!(Traffic::<u8>::new(Vec::new(), 1).next_basket().is_empty());
    }
}

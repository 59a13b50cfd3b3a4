//! Marketplaces: what is offered there, when it is pushed, and what their answers mean.
//!
//! The truth about one unit at one marketplace is a pair: what it should show ([`offered`]) and what it was last
//! confirmed to show. Whatever differs is dirty, and what is pushed is the newest absolute quantity, so ten sales
//! within one window are one call, and a restart finds the same work by comparing again: there is no queue to lose.

pub mod board;
pub mod bucket;
pub mod connection;
pub mod drift;
pub mod guard;
pub mod mapping;
pub mod order;
pub mod signature;
pub mod verdict;

pub use board::{Board, Push};
pub use connection::{ChannelKind, Connection, DriftPolicy, Mode, Policy};
pub use verdict::{Culprit, Refused, Verdict};

use super::decimal::Quantity;

/// The number of wholes that a marketplace may show: what is available, less the channel's safety buffer; weighed
/// units round down, and it is never below nothing.
pub fn offered(available: Quantity, buffer: Quantity) -> i64 {
    let left = available.checked_sub(buffer).unwrap_or_default().units().max(0);
    left / Quantity::ONE
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn weighed_units_round_down_and_nothing_is_below_zero() {
        let quantity = |text| Quantity::parse(text).unwrap();
        let cases = [
            ("7", "0", 7),
            ("7.999", "0", 7),
            ("7", "2", 5),
            ("7", "7.001", 0),
            ("-3", "0", 0),
            ("0.999", "0", 0),
        ];
        for (available, buffer, wholes) in cases {
            assert_eq!(offered(quantity(available), quantity(buffer)), wholes, "{available} less {buffer}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_there_is(available in -10_000_000_i64..10_000_000, buffer in 0_i64..1_000_000) {
            let (there, kept) = (Quantity::from_units(available).unwrap(), Quantity::from_units(buffer).unwrap());
            let shown = offered(there, kept);
            prop_assert!(shown >= 0);
            prop_assert!(shown == 0 || shown * Quantity::ONE + buffer <= available);
            prop_assert!(available - buffer - shown * Quantity::ONE < Quantity::ONE || available < buffer);
        }
    }
}

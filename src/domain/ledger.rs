//! The ledger's arithmetic: each row of a unit at a location begins where the one before it ended.

use super::decimal::Quantity;
use super::stock::Place;
use std::collections::HashMap;

/// The numbers of one ledger row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// `stock_anterior`.
    pub before: Quantity,
    /// What came (+) or went (-).
    pub delta: Quantity,
    /// `stock_nuevo`.
    pub after: Quantity,
}

/// Continues the chains of many places. The starting points are loaded once per batch, not once per row.
#[derive(Debug, Default)]
pub struct Chains {
    last: HashMap<Place, Quantity>,
}

impl Chains {
    /// The chain of `place` stands at `quantity`.
    pub fn start_at(&mut self, place: Place, quantity: Quantity) {
        self.last.insert(place, quantity);
    }

    /// The next link of a place's chain, from zero when the place is new; `None` when the result is out of bounds.
    pub fn append(&mut self, place: Place, delta: Quantity) -> Option<Link> {
        let last = self.last.entry(place).or_default();
        let (before, after) = (*last, last.checked_add(delta)?);
        *last = after;
        Some(Link { before, delta, after })
    }

    /// Checks a link that was read back against the chain so far, then continues from it.
    pub fn check(&mut self, place: Place, link: Link) -> Result<(), Break> {
        let last = self.last.insert(place, link.after).unwrap_or_default();
        if link.before != last {
            return Err(Break::NotContinued { expected: last, found: link });
        }
        if link.before.checked_add(link.delta) != Some(link.after) {
            return Err(Break::WrongSum(link));
        }
        if link.after < Quantity::ZERO {
            return Err(Break::Oversold(link));
        }
        Ok(())
    }

    /// Ends a place's chain and says where it stood; `None` when it never began.
    pub fn close(&mut self, place: Place) -> Option<Quantity> {
        self.last.remove(&place)
    }

    /// Where every chain ends.
    pub fn ends(&self) -> &HashMap<Place, Quantity> {
        &self.last
    }
}

/// How a chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// `stock_anterior` is not the `stock_nuevo` of the row before.
    NotContinued { expected: Quantity, found: Link },
    /// `stock_anterior + delta` is not `stock_nuevo`.
    WrongSum(Link),
    /// The row leaves less than nothing.
    Oversold(Link),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{LocationId, UnitId};
    use uuid::Uuid;

    fn quantity(units: i64) -> Quantity {
        Quantity::from_units(units).unwrap()
    }

    #[test]
    fn what_was_appended_checks_and_what_was_tampered_with_does_not() {
        let place = (UnitId(Uuid::from_u128(1)), LocationId(Uuid::from_u128(2)));
        let mut writer = Chains::default();
        let links: Vec<Link> =
            [5_000, -1_500, -3_500].map(|delta| writer.append(place, quantity(delta)).unwrap()).into();
        assert_eq!(links[2], Link { before: quantity(3_500), delta: quantity(-3_500), after: quantity(0) });
        let check = |links: &[Link]| {
            let mut reader = Chains::default();
            links.iter().try_for_each(|link| reader.check(place, *link))
        };
        assert_eq!(check(&links), Ok(()));
        assert!(matches!(check(&[links[0], links[2]]), Err(Break::NotContinued { .. })));
        let mut wrong = links.clone();
        wrong[1].delta = quantity(-1_400);
        assert!(matches!(check(&wrong), Err(Break::WrongSum(_))));
        let oversold = Link { before: quantity(0), delta: quantity(-1), after: quantity(-1) };
        assert!(matches!(check(&[oversold]), Err(Break::Oversold(_))));
        assert_eq!(
            writer.append(place, quantity(crate::domain::decimal::MAX_UNITS)).map(|l| l.before),
            Some(quantity(0))
        );
        assert_eq!(writer.append(place, quantity(1)), None);
    }
}

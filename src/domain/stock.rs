//! Stock levels of one tenant: what is there, what open reservations hold, what is left.

use super::decimal::Quantity;
use super::ids::{LocationId, UnitId};
use std::collections::HashMap;

/// Where a quantity lives.
pub type Place = (UnitId, LocationId);

/// The level of one unit at one location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Level {
    /// Stock after every durable movement.
    pub on_hand: Quantity,
    /// Held by reservations that are not durable yet.
    pub reserved: Quantity,
}

impl Level {
    /// What may still be sold.
    pub fn available(self) -> Quantity {
        // Both parts are within the decimal bound and reserved never exceeds on_hand, see `Levels::reserve`.
        self.on_hand.checked_sub(self.reserved).unwrap_or_default()
    }
}

/// A unit of which there is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The unit.
    pub unit: UnitId,
    /// How much was asked for, summed over the lines.
    pub asked: Quantity,
    /// How much is available.
    pub available: Quantity,
}

/// Stock of one tenant, by unit and location. A missing entry is a unit that never had stock there.
#[derive(Debug, Default)]
pub struct Levels {
    levels: HashMap<Place, Level>,
}

impl Levels {
    /// The level at a place; zero where there never was any.
    pub fn at(&self, place: Place) -> Level {
        self.find(place).unwrap_or_default()
    }

    /// The level at a place, if there ever was any.
    pub fn find(&self, place: Place) -> Option<Level> {
        self.levels.get(&place).copied()
    }

    /// Every place with its level.
    pub fn iter(&self) -> impl Iterator<Item = (Place, Level)> {
        self.levels.iter().map(|(place, level)| (*place, *level))
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether there is no place at all.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Room for so many places.
    pub fn reserve_capacity(&mut self, places: usize) {
        self.levels.reserve(places);
    }

    /// Adds a durable movement. `false`, with nothing changed, when the level would leave the decimal's bound.
    pub fn move_by(&mut self, place: Place, delta: Quantity) -> bool {
        let level = self.levels.entry(place).or_default();
        match level.on_hand.checked_add(delta) {
            Some(on_hand) => {
                level.on_hand = on_hand;
                true
            }
            None => false,
        }
    }

    /// Holds every part of a demand or none: all are checked before any is taken.
    ///
    /// `demand` names each unit once, with a positive quantity. Errors list every unit that is short.
    pub fn hold(&mut self, location: LocationId, demand: &[(UnitId, Quantity)]) -> Result<(), Vec<Shortage>> {
        let short = |(unit, asked): &(UnitId, Quantity)| {
            let available = self.at((*unit, location)).available();
            (*asked > available).then_some(Shortage { unit: *unit, asked: *asked, available })
        };
        let shortages: Vec<Shortage> = demand.iter().filter_map(short).collect();
        if !shortages.is_empty() {
            return Err(shortages);
        }
        for (unit, quantity) in demand {
            let level = self.levels.entry((*unit, location)).or_default();
            // reserved + asked <= on_hand, just checked, so the sum is in bounds.
            level.reserved = level.reserved.checked_add(*quantity).unwrap_or(level.reserved);
        }
        Ok(())
    }

    /// Undoes [`Levels::hold`]: the same demand, given back.
    pub fn release(&mut self, location: LocationId, demand: &[(UnitId, Quantity)]) {
        for (unit, quantity) in demand {
            if let Some(level) = self.levels.get_mut(&(*unit, location)) {
                level.reserved = level.reserved.checked_sub(*quantity).unwrap_or_default();
            }
        }
    }

    /// Turns what was held into a durable movement out.
    pub fn take_held(&mut self, location: LocationId, demand: &[(UnitId, Quantity)]) {
        self.release(location, demand);
        for (unit, quantity) in demand {
            // on_hand >= the quantity held, so the difference is in bounds.
            self.move_by((*unit, location), quantity.negated());
        }
    }
}

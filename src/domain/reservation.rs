//! The reservation: the step in which a sale takes all of its units or none.
//!
//! [`State`] is the life of one reservation; [`Book`] is one tenant's stock with its open reservations and the keys
//! under which they were asked for. Everything is decided here, in memory or (as the contract) in a script, and
//! nothing here waits.
//!
//! ```text
//!             reserve            settle (its event is durable)
//!   (nothing) --------> Reserved ------------------------------> Settled
//!                          |      void (its event is certainly not durable)
//!                          +------------------------------------> Voided
//! ```
//!
//! A timed hold (a cart, a marketplace order awaiting payment) enters as another state before `Reserved` and leaves
//! by confirm, cancel or expire; `apply` is the one place that will know it.

use super::decimal::Quantity;
use super::idempotency::{Fingerprint, KeyHash};
use super::ids::{LocationId, SaleId, UnitId};
use super::stock::{Levels, Shortage};
use std::collections::{HashMap, VecDeque};

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its units are held; its event is on the way to the bus.
    Reserved,
    /// Its event is durable: the units are gone. Final.
    Settled,
    /// It never happened: the units are back. Final.
    Voided,
}

/// What may happen to a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The event is durable.
    Settle,
    /// The event is certainly not durable.
    Void,
}

impl State {
    /// The next state. Repeating the transition that led to a final state changes nothing; contradicting it is
    /// refused with `None`.
    pub const fn apply(self, transition: Transition) -> Option<Self> {
        match (self, transition) {
            (Self::Reserved | Self::Settled, Transition::Settle) => Some(Self::Settled),
            (Self::Reserved | Self::Voided, Transition::Void) => Some(Self::Voided),
            (Self::Settled, Transition::Void) | (Self::Voided, Transition::Settle) => None,
        }
    }
}

/// The key a client named, with what it stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// Hash of tenant and key.
    pub key: KeyHash,
    /// The request it was used for.
    pub fingerprint: Fingerprint,
}

/// Asks for every unit of a sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The sale that will be, and the id of the reservation.
    pub sale: SaleId,
    /// Where from.
    pub location: LocationId,
    /// Each unit once, positive; as [`super::sale::Sale::demand`] sums it. Empty for services only.
    pub demand: Vec<(UnitId, Quantity)>,
    /// The client's key, if it gave one.
    pub keyed: Option<Keyed>,
}

/// The answer to [`Reserve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every unit is held.
    Reserved,
    /// Nothing is held; every short unit is listed.
    Short(Vec<Shortage>),
    /// The key was used for the same request before, by this sale.
    Repeated(SaleId),
    /// The key was used for another request.
    KeyReused,
    /// A quantity that is not positive: a fault of the caller, refused before anything is touched.
    Invalid(UnitId),
}

/// What the book knows of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The request it was used for.
    pub fingerprint: Fingerprint,
    /// The sale it made.
    pub sale: SaleId,
}

#[derive(Debug)]
struct Open {
    location: LocationId,
    demand: Vec<(UnitId, Quantity)>,
    key: Option<KeyHash>,
}

/// One tenant's stock, open reservations and recent keys.
#[derive(Debug, Default)]
pub struct Book {
    levels: Levels,
    open: HashMap<SaleId, Open>,
    keys: HashMap<KeyHash, KeyUse>,
    /// Settled keys, oldest first, so that the oldest can be forgotten once the ledger knows them.
    settled_keys: VecDeque<KeyHash>,
}

impl Book {
    /// A book over levels that were rebuilt from the ledger.
    pub fn new(levels: Levels) -> Self {
        Self { levels, ..Self::default() }
    }

    /// The stock.
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// The stock, for durable movements that need no reservation.
    pub fn levels_mut(&mut self) -> &mut Levels {
        &mut self.levels
    }

    /// How many reservations are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// What a recent key was used for.
    pub fn key_use(&self, key: KeyHash) -> Option<KeyUse> {
        self.keys.get(&key).copied()
    }

    /// Holds all units or none, and remembers the key in the same step.
    pub fn reserve(&mut self, command: &Reserve) -> Outcome {
        if let Some(keyed) = command.keyed
            && let Some(used) = self.keys.get(&keyed.key)
        {
            let same = used.fingerprint == keyed.fingerprint;
            return if same { Outcome::Repeated(used.sale) } else { Outcome::KeyReused };
        }
        if let Some((unit, _)) = command.demand.iter().find(|(_, quantity)| *quantity <= Quantity::ZERO) {
            return Outcome::Invalid(*unit);
        }
        if let Err(shortages) = self.levels.hold(command.location, &command.demand) {
            return Outcome::Short(shortages);
        }
        if let Some(keyed) = command.keyed {
            self.keys.insert(keyed.key, KeyUse { fingerprint: keyed.fingerprint, sale: command.sale });
        }
        let key = command.keyed.map(|keyed| keyed.key);
        let open = Open { location: command.location, demand: command.demand.clone(), key };
        self.open.insert(command.sale, open);
        Outcome::Reserved
    }

    /// The sale's event is durable: the units are gone for good. `false` when no such reservation is open.
    pub fn settle(&mut self, sale: SaleId) -> bool {
        let Some(open) = self.open.remove(&sale) else { return false };
        self.levels.take_held(open.location, &open.demand);
        self.settled_keys.extend(open.key);
        true
    }

    /// Undoes [`Book::reserve`] entirely: units back, key free. `false` when no such reservation is open, so a
    /// repeated void gives nothing back twice.
    pub fn void(&mut self, sale: SaleId) -> bool {
        let Some(open) = self.open.remove(&sale) else { return false };
        self.levels.release(open.location, &open.demand);
        if let Some(key) = open.key {
            self.keys.remove(&key);
        }
        true
    }

    /// Takes in a sale that is already durable, while the book is rebuilt.
    pub fn replay(&mut self, command: &Reserve) {
        for (unit, quantity) in &command.demand {
            self.levels.move_by((*unit, command.location), quantity.negated());
        }
        if let Some(keyed) = command.keyed {
            self.remember(keyed.key, KeyUse { fingerprint: keyed.fingerprint, sale: command.sale });
        }
    }

    /// Remembers a key that the ledger told.
    pub fn remember(&mut self, key: KeyHash, used: KeyUse) {
        if self.keys.insert(key, used).is_none() {
            self.settled_keys.push_back(key);
        }
    }

    /// Forgets the oldest settled keys beyond `keep`, as long as `in_ledger` says that the ledger knows their sale;
    /// returns them.
    pub fn forget_keys(&mut self, keep: usize, in_ledger: impl Fn(SaleId) -> bool) -> Vec<KeyHash> {
        let mut forgotten = Vec::new();
        while self.settled_keys.len() > keep {
            let Some(key) = self.settled_keys.front().copied() else { break };
            if self.keys.get(&key).is_some_and(|used| !in_ledger(used.sale)) {
                break;
            }
            self.settled_keys.pop_front();
            self.keys.remove(&key);
            forgotten.push(key);
        }
        forgotten
    }
}

#[cfg(test)]
mod tests;

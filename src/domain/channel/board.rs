//! The board of one connection: for each mapped unit what should be shown, what is known to be shown, and what is on
//! its way. Decides what is pushed next; knows nothing of calls.

use super::guard::Guard;
use crate::domain::ids::UnitId;
use crate::domain::time::Timestamp;
use std::collections::{BTreeSet, HashMap};

/// A quantity to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Which unit.
    pub unit: UnitId,
    /// Which item there.
    pub item: String,
    /// What it shall show.
    pub quantity: i64,
    /// What it is believed to show: compared before it is changed, where the marketplace can.
    pub from: Option<i64>,
}

/// How a unit stands, for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It shows what it should.
    Clean,
    /// It waits for its turn, or is on its way.
    Dirty,
    /// It dropped to nothing in suspicious company and waits for a person.
    Held,
    /// It was given up, until its quantity changes or somebody asks again.
    Failed,
}

impl Standing {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "al_dia",
            Self::Dirty => "pendiente",
            Self::Held => "retenida",
            Self::Failed => "fallida",
        }
    }
}

#[derive(Clone, Debug)]
struct Row {
    item: String,
    wanted: Option<i64>,
    shown: Option<i64>,
    /// Since when the two differ.
    since: Option<Timestamp>,
    /// Whether all that happened since they agreed was sold.
    sold: bool,
    in_flight: bool,
    held: bool,
    /// What was wanted when it was given up.
    failed_at: Option<i64>,
    /// A dead letter about it lies at rest.
    letter: bool,
    /// No more than what is there is pushed before this moment: news of an order may be on its way.
    not_up_before: Option<Timestamp>,
}

impl Row {
    fn differs(&self) -> bool {
        self.wanted.is_some() && self.wanted != self.shown
    }

    fn standing(&self) -> Standing {
        if !self.differs() {
            Standing::Clean
        } else if self.held {
            Standing::Held
        } else if self.failed_at.is_some() && self.failed_at == self.wanted {
            Standing::Failed
        } else {
            Standing::Dirty
        }
    }
}

/// The board.
#[derive(Debug, Default)]
pub struct Board {
    rows: HashMap<UnitId, Row>,
    /// Those that differ, by how long they have.
    queue: BTreeSet<(Timestamp, UnitId)>,
    /// Units whose dead letter means nothing any more.
    superseded: Vec<UnitId>,
}

/// What a unit's row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which unit.
    pub unit: UnitId,
    /// Which item there.
    pub item: String,
    /// What it should show.
    pub wanted: Option<i64>,
    /// What it is known to show.
    pub shown: Option<i64>,
    /// Since when they differ.
    pub since: Option<Timestamp>,
    /// How it stands.
    pub standing: Standing,
}

impl Board {
    /// Maps a unit to an item, with what the item was last confirmed to show. Mapping it elsewhere starts it over.
    pub fn map(&mut self, unit: UnitId, item: String, shown: Option<i64>) {
        self.unmap(unit);
        let row = Row {
            item,
            wanted: None,
            shown,
            since: None,
            sold: false,
            in_flight: false,
            held: false,
            failed_at: None,
            letter: false,
            not_up_before: None,
        };
        self.rows.insert(unit, row);
    }

    /// Forgets a unit.
    pub fn unmap(&mut self, unit: UnitId) {
        let Some(row) = self.rows.remove(&unit) else { return };
        if let Some(since) = row.since {
            self.queue.remove(&(since, unit));
        }
        if row.letter {
            self.superseded.push(unit);
        }
    }

    /// The mapped units.
    pub fn units(&self) -> impl Iterator<Item = UnitId> {
        self.rows.keys().copied()
    }

    /// How many are mapped.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether a unit is mapped.
    pub fn has(&self, unit: UnitId) -> bool {
        self.rows.contains_key(&unit)
    }

    /// The item of a unit.
    pub fn item(&self, unit: UnitId) -> Option<&str> {
        self.rows.get(&unit).map(|row| row.item.as_str())
    }

    /// What a unit is known to show.
    pub fn shown(&self, unit: UnitId) -> Option<i64> {
        self.rows.get(&unit)?.shown
    }

    /// What a unit should show.
    pub fn wanted(&self, unit: UnitId) -> Option<i64> {
        self.rows.get(&unit)?.wanted
    }

    /// A unit should show this from now on. `sold` says that nothing but sales changed it.
    pub fn want(&mut self, unit: UnitId, quantity: i64, sold: bool, now: Timestamp) {
        let Some(row) = self.rows.get_mut(&unit) else { return };
        if row.wanted != Some(quantity) {
            // Something new: what was decided about another quantity says nothing about this one.
            row.held &= quantity == 0;
            if row.failed_at.take().is_some() && std::mem::take(&mut row.letter) {
                self.superseded.push(unit);
            }
        }
        row.sold = if row.differs() { row.sold && sold } else { sold };
        row.wanted = Some(quantity);
        self.settle(unit, now);
    }

    /// A unit is known to show this.
    pub fn show(&mut self, unit: UnitId, quantity: Option<i64>, now: Timestamp) {
        let Some(row) = self.rows.get_mut(&unit) else { return };
        row.shown = quantity;
        row.in_flight = false;
        self.settle(unit, now);
    }

    /// It shows less than we thought: an order may have taken it whose news is on its way. It is not raised before
    /// that had time to arrive.
    pub fn wait_before_raising(&mut self, unit: UnitId, until: Timestamp) {
        if let Some(row) = self.rows.get_mut(&unit) {
            row.not_up_before = Some(until);
        }
    }

    /// A push that had no effect, or none that is known; it comes again.
    pub fn give_back(&mut self, unit: UnitId) {
        if let Some(row) = self.rows.get_mut(&unit) {
            row.in_flight = false;
        }
    }

    /// A push that can never work.
    pub fn fail(&mut self, unit: UnitId, quantity: i64) {
        if let Some(row) = self.rows.get_mut(&unit) {
            row.in_flight = false;
            row.failed_at = Some(quantity);
            row.letter = true;
        }
    }

    /// A push of a unit was given up in an earlier life.
    pub fn failed_before(&mut self, unit: UnitId) {
        match self.rows.get_mut(&unit) {
            Some(row) => row.letter = true,
            None => self.superseded.push(unit),
        }
    }

    /// Units whose dead letter means nothing any more: they are clean, not mapped, or should show something else.
    pub fn superseded(&mut self) -> Vec<UnitId> {
        std::mem::take(&mut self.superseded)
    }

    /// Whether a unit was given up at what it should show now.
    pub fn has_failed(&self, unit: UnitId) -> bool {
        self.rows.get(&unit).is_some_and(|row| row.standing() == Standing::Failed)
    }

    /// A person wants those that failed (all, or one) to be tried again; says how many.
    pub fn try_again(&mut self, unit: Option<UnitId>) -> usize {
        let rows = self
            .rows
            .iter_mut()
            .filter(|(id, row)| row.failed_at.is_some() && unit.is_none_or(|unit| unit == **id));
        rows.map(|(_, row)| (row.failed_at, row.letter) = (None, false)).count()
    }

    /// A person says that the zeros held back are right; says how many there were.
    pub fn confirm_zeros(&mut self) -> usize {
        let held = self.rows.values_mut().filter(|row| row.held);
        held.map(|row| (row.held, row.sold) = (false, true)).count()
    }

    fn settle(&mut self, unit: UnitId, now: Timestamp) {
        let Some(row) = self.rows.get_mut(&unit) else { return };
        if row.differs() {
            if row.since.is_none() {
                row.since = Some(now);
                self.queue.insert((now, unit));
            }
            return;
        }
        if row.wanted.is_some() {
            (row.held, row.failed_at, row.sold, row.not_up_before) = (false, None, false, None);
            if std::mem::take(&mut row.letter) {
                self.superseded.push(unit);
            }
        }
        if let Some(since) = row.since.take() {
            self.queue.remove(&(since, unit));
        }
    }

    /// The next pushes, at most `max`, those that differ the longest first; they are on their way from now on. At most
    /// one push of a unit is.
    pub fn take(&mut self, max: usize, guard: Guard, now: Timestamp) -> Vec<Push> {
        self.hold_suspicious(guard);
        let mut taken = Vec::new();
        for (_, unit) in &self.queue {
            if taken.len() == max {
                break;
            }
            let Some(row) = self.rows.get_mut(unit) else { continue };
            let Some(quantity) = row.wanted else { continue };
            let raised = row.shown.is_some_and(|shown| quantity > shown);
            let too_early = raised && row.not_up_before.is_some_and(|moment| now < moment);
            if row.in_flight || row.standing() != Standing::Dirty || too_early {
                continue;
            }
            row.in_flight = true;
            taken.push(Push { unit: *unit, item: row.item.clone(), quantity, from: row.shown });
        }
        taken
    }

    fn hold_suspicious(&mut self, guard: Guard) {
        let suspect = |row: &&mut Row| {
            row.wanted == Some(0) && row.shown.is_some_and(|shown| shown > 0) && !row.sold && !row.in_flight
        };
        let count = self.rows.values_mut().filter(suspect).count();
        if guard.is_suspicious(count, self.rows.len()) {
            self.rows.values_mut().filter(suspect).for_each(|row| row.held = true);
        }
    }

    /// Whether anything could be taken now or at some later moment without anybody's doing.
    pub fn has_work(&self) -> bool {
        self.queue.iter().any(|(_, unit)| {
            self.rows.get(unit).is_some_and(|row| !row.in_flight && row.standing() == Standing::Dirty)
        })
    }

    /// How many stand how: clean, dirty, held, failed.
    pub fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for row in self.rows.values() {
            counts[row.standing() as usize] += 1;
        }
        counts
    }

    /// Since when the unit that differs the longest does, those that wait for a person aside.
    pub fn oldest(&self) -> Option<Timestamp> {
        let waits = |(_, unit): &&(Timestamp, UnitId)| {
            self.rows.get(unit).is_some_and(|row| row.standing() == Standing::Dirty)
        };
        self.queue.iter().find(waits).map(|(since, _)| *since)
    }

    /// The rows that are not clean, those that differ the longest first, at most `max`.
    pub fn unclean(&self, max: usize) -> Vec<Seen> {
        let seen = |(_, unit): &(Timestamp, UnitId)| {
            let row = self.rows.get(unit)?;
            Some(Seen {
                unit: *unit,
                item: row.item.clone(),
                wanted: row.wanted,
                shown: row.shown,
                since: row.since,
                standing: row.standing(),
            })
        };
        self.queue.iter().filter_map(seen).take(max).collect()
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;

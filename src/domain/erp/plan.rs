//! From readings to a change: which locations and units it needs, what moves, what is held and why.
//!
//! In two steps, because what the ERP took can only be taken here if it is still there: [`Plan::new`] decides what
//! should move and [`Plan::demand`] says what of that has to be reserved first; [`Plan::grant`] hears how much could
//! be, and [`Plan::finish`] makes the events. What could not be taken stays held as a conflict, and is tried again with
//! every later batch.

use super::account::{Account, Held, Row};
use super::binding::{Items, unit_by_id};
use super::change::{Entry, ErpChange, Following};
use super::cursor::Cursor;
use super::follow::{Decision, Follow, Followed, FollowedLine, Resolution};
use super::guard::{Authority, judge};
use super::identity::AccountKey;
use super::reading::{BalanceReading, RowId};
use crate::domain::catalogue::{Catalogue, Unit};
use crate::domain::decimal::Quantity;
use crate::domain::event::{Body, MAX_MOVEMENT, Movement};
use crate::domain::ids::{LocationId, UnitId};
use crate::domain::stock::Place;
use crate::domain::tenant::Location;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// Units in one event.
const UNITS_PER_EVENT: usize = 1_000;

/// Scans on end in which a row has to be absent before it counts as deleted. One is not enough: a scan without locks may
/// pass a row over.
const ABSENT_SCANS: u8 = 2;

/// A change in the making.
#[derive(Debug)]
pub struct Plan {
    source: Arc<str>,
    pub(super) locations: Vec<Location>,
    pub(super) units: Vec<Arc<Unit>>,
    pub(super) entries: Vec<Entry>,
    accounts: BTreeMap<AccountKey, Planned>,
    cursor: Option<Cursor>,
    keep_cursor: bool,
    pub(super) followed: Followed,
}

/// An account as it will be, if what it wants can be had.
#[derive(Debug)]
struct Planned {
    account: Account,
    before: Option<Account>,
    /// Of a balance that is new: what Blend has at its place.
    first: Option<Quantity>,
    delta: Quantity,
    held: Option<Held>,
}

impl Planned {
    fn of(account: Account) -> Self {
        Self { account, before: None, first: None, delta: Quantity::ZERO, held: None }
    }

    /// Where a new balance begins: at nothing, or at what Blend has if the two agree. If they do not, somebody has to
    /// say which is right; where Blend's word counts the ERP's is only remembered.
    fn begin(&mut self, authority: Authority) {
        let Some(here) = self.first else { return };
        let seen = self.account.seen();
        if authority == Authority::Blend || here == seen {
            self.account.applied = seen;
        } else if here != Quantity::ZERO {
            self.account.held = Some(Held::FirstSight);
        }
    }
}

/// What planning looks at.
pub(super) struct Known<'a> {
    pub follow: &'a Follow,
    pub following: &'a Following,
    pub catalogue: &'a Catalogue,
    pub locations: &'a [Location],
}

impl Plan {
    /// Decides about a batch. `on_hand` tells the level of a place that ever had stock.
    pub fn new(
        follow: &Follow,
        following: &Following,
        catalogue: &Catalogue,
        locations: &[Location],
        on_hand: impl Fn(Place) -> Option<Quantity>,
        mut new_id: impl FnMut() -> Uuid,
    ) -> Self {
        let known = Known { follow, following, catalogue, locations };
        let mut plan = Self {
            source: follow.source.clone(),
            locations: Vec::new(),
            units: Vec::new(),
            entries: Vec::new(),
            accounts: BTreeMap::new(),
            cursor: follow.batch.cursor.clone(),
            keep_cursor: follow.batch.keep_cursor,
            followed: Followed { seen: follow.batch.balances.len(), ..Followed::default() },
        };
        let mut items = Items::new(plan.take_products(&known));
        plan.change_units(&known, &mut items);
        for reading in &follow.batch.balances {
            let skipped = plan.take_balance(&known, reading, &mut items, &on_hand, &mut new_id).err();
            if let Some(why) = skipped {
                *plan.followed.skipped.entry(why).or_default() += 1;
            }
            plan.followed.lines.push(FollowedLine {
                key: reading.key.clone(),
                place: None,
                before: Quantity::ZERO,
                delta: Quantity::ZERO,
                held: None,
                skipped,
            });
        }
        plan.take_missing(&known);
        plan.resolve(&known, &on_hand);
        for key in following.held_for(Held::Short) {
            plan.planned(following, key);
        }
        plan.judge_all(&known, &items);
        plan
    }

    /// Takes in one balance row; an error says why it is passed over.
    fn take_balance(
        &mut self,
        known: &Known<'_>,
        reading: &BalanceReading,
        items: &mut Items,
        on_hand: &impl Fn(Place) -> Option<Quantity>,
        new_id: &mut impl FnMut() -> Uuid,
    ) -> Result<(), &'static str> {
        let (key, following) = (&reading.key, known.following);
        if reading.quantity > MAX_MOVEMENT || reading.quantity < MAX_MOVEMENT.negated() {
            return Err("cantidad_fuera_de_rango");
        }
        let last = self.accounts.get(key).map(|planned| &planned.account).or_else(|| following.account(key));
        if known.follow.batch.only_newer
            && let Some(row) = last.and_then(|account| account.rows.get(&reading.row))
            && row.stamp.is_some()
            && reading.stamp <= row.stamp
        {
            return Err("no_es_mas_nueva");
        }
        if self.planned(following, key).is_none() {
            let location = self.location_of(known, &key.branch, new_id)?;
            let unit = self.unit_of(known, &key.item, items, new_id)?;
            let account = Account {
                unit,
                location,
                applied: Quantity::ZERO,
                rows: BTreeMap::new(),
                held: None,
                confirmed: None,
            };
            // Another balance that fills the same place does not stand in this one's way.
            let place = (unit, location);
            let here = if following.counts(place) { None } else { on_hand(place) };
            let first = Some(here.unwrap_or_default());
            self.accounts.insert(key.clone(), Planned { first, ..Planned::of(account) });
        }
        // A row may have been given another code, size, colour or branch: then its old balance loses it.
        if let RowId::Numbered(id) = reading.row
            && let Some(old) = following.account_of(id).filter(|old| *old != key).cloned()
            && let Some(planned) = self.planned(following, &old)
        {
            planned.account.rows.remove(&reading.row);
        }
        if let Some(planned) = self.accounts.get_mut(key) {
            let row = Row { quantity: reading.quantity, stamp: reading.stamp.clone(), missing: 0 };
            planned.account.rows.insert(reading.row, row);
        }
        Ok(())
    }

    /// An account of the plan, taken over from what is known when it is not part of the plan yet.
    fn planned(&mut self, following: &Following, key: &AccountKey) -> Option<&mut Planned> {
        if !self.accounts.contains_key(key) {
            let account = following.account(key)?.clone();
            self.accounts
                .insert(key.clone(), Planned { before: Some(account.clone()), ..Planned::of(account) });
        }
        self.accounts.get_mut(key)
    }

    /// Counts how often rows were absent; gone are those that were so often enough.
    fn take_missing(&mut self, known: &Known<'_>) {
        for id in &known.follow.batch.missing {
            let row = RowId::Numbered(*id);
            let Some(key) = known.following.account_of(*id).cloned() else { continue };
            let Some(planned) = self.planned(known.following, &key) else { continue };
            let Some(found) = planned.account.rows.get_mut(&row) else { continue };
            found.missing = found.missing.saturating_add(1);
            if found.missing >= ABSENT_SCANS {
                planned.account.rows.remove(&row);
            }
        }
    }

    /// Carries out what people decided.
    fn resolve(&mut self, known: &Known<'_>, on_hand: &impl Fn(Place) -> Option<Quantity>) {
        for Resolution { key, decision } in &known.follow.resolutions {
            let Some(planned) = self.planned(known.following, key) else { continue };
            let account = &mut planned.account;
            let seen = account.seen();
            match decision {
                Decision::Apply => {
                    if account.held == Some(Held::FirstSight) {
                        // The ERP's number takes the place of the one that is here.
                        account.applied = on_hand((account.unit, account.location)).unwrap_or_default();
                    }
                    account.confirmed = Some(seen);
                }
                Decision::Dismiss => account.applied = seen,
            }
            account.held = None;
        }
    }

    /// Lets the guards speak about every account of the plan.
    fn judge_all(&mut self, known: &Known<'_>, items: &Items) {
        let rules = &known.follow.rules;
        for (key, planned) in &mut self.accounts {
            planned.begin(rules.authority_at(&key.branch));
        }
        let news = |planned: &&Planned| {
            planned.account.pending() != Quantity::ZERO && planned.account.held != Some(Held::Short)
        };
        let differences = self.accounts.values().filter(news).count();
        let zeros =
            self.accounts.values().filter(news).filter(|p| p.account.seen() == Quantity::ZERO).count();
        let mass_zero = rules.is_mass_zero(zeros, differences);
        for (key, planned) in &mut self.accounts {
            let unit = items.find(&key.item).or_else(|| unit_by_id(known.catalogue, planned.account.unit));
            let fractions = unit.is_some_and(|unit| unit.kind.may_be_fractional());
            let stocked = unit.is_none_or(|unit| unit.kind.has_stock());
            let authority = if stocked { rules.authority_at(&key.branch) } else { Authority::Blend };
            let verdict = judge(&planned.account, authority, rules, fractions, mass_zero);
            let most = |delta: Quantity| delta.min(MAX_MOVEMENT).max(MAX_MOVEMENT.negated());
            (planned.delta, planned.held) = (most(verdict.delta), verdict.held);
        }
    }

    /// What has to be reserved before it can be taken, by location; each unit once.
    pub fn demand(&self) -> BTreeMap<LocationId, Vec<(UnitId, Quantity)>> {
        let mut demand: BTreeMap<LocationId, BTreeMap<UnitId, Quantity>> = BTreeMap::new();
        for planned in self.accounts.values().filter(|planned| planned.delta < Quantity::ZERO) {
            let at =
                demand.entry(planned.account.location).or_default().entry(planned.account.unit).or_default();
            *at = at.checked_sub(planned.delta).unwrap_or(*at);
        }
        demand.into_iter().map(|(location, units)| (location, units.into_iter().collect())).collect()
    }

    /// Of a unit, only so much could be reserved: the rest of what the ERP took is held as a conflict.
    pub fn grant(&mut self, place: Place, mut granted: Quantity) {
        for planned in self.accounts.values_mut() {
            let theirs = (planned.account.unit, planned.account.location) == place;
            if !theirs || planned.delta >= Quantity::ZERO {
                continue;
            }
            let taken = planned.delta.negated().min(granted);
            granted = granted.checked_sub(taken).unwrap_or_default();
            if taken < planned.delta.negated() {
                planned.held = Some(planned.held.unwrap_or(Held::Short));
            }
            planned.delta = taken.negated();
        }
    }

    /// The events, to be recorded together or not at all, and what became of the batch. No events: nothing changed.
    pub fn finish(self, following: &Following, reference: Arc<str>) -> (Vec<Body>, Followed) {
        let Self { source, locations, units, mut entries, accounts, cursor, keep_cursor, mut followed } =
            self;
        let mut movements: BTreeMap<Place, Quantity> = BTreeMap::new();
        let mut outcome: HashMap<AccountKey, (Place, Quantity, Option<Held>)> = HashMap::new();
        let mut shorts: BTreeSet<AccountKey> = following.held_for(Held::Short).cloned().collect();
        for (key, planned) in accounts {
            let Planned { mut account, before, delta, held, .. } = planned;
            account.applied = account.applied.checked_add(delta).unwrap_or(account.applied);
            account.held = held;
            if held.is_none() {
                account.confirmed = None;
            }
            let place = (account.unit, account.location);
            let level = movements.entry(place).or_default();
            *level = level.checked_add(delta).unwrap_or(*level);
            if held == Some(Held::Short) {
                shorts.insert(key.clone());
            } else {
                shorts.remove(&key);
            }
            outcome.insert(key.clone(), (place, delta, held));
            if before.as_ref() != Some(&account) {
                entries.push(Entry::Account { key, account });
            }
        }
        for line in followed.lines.iter_mut().filter(|line| line.skipped.is_none()) {
            if let Some((place, delta, held)) = outcome.get(&line.key) {
                (line.place, line.delta, line.held) = (Some(*place), *delta, *held);
            }
        }
        followed.short = shorts.len();
        followed.applied = outcome.values().filter(|(_, delta, _)| *delta != Quantity::ZERO).count();
        followed.held = outcome.values().filter(|(_, _, held)| held.is_some()).count();
        followed.duplicates = entries.iter().filter(|entry| is_duplicated(entry)).count();
        movements.retain(|_, delta| *delta != Quantity::ZERO);
        let mut bodies = Vec::new();
        if !locations.is_empty() {
            bodies.push(Body::LocationsAdded { locations });
        }
        for chunk in units.chunks(UNITS_PER_EVENT) {
            bodies.push(Body::ProductsUpserted { units: chunk.to_vec() });
        }
        if let Some(cursor) = cursor
            && (keep_cursor || !entries.is_empty() || !bodies.is_empty())
        {
            entries.push(Entry::Cursor { cursor });
        }
        if !entries.is_empty() {
            let moved = |((unit, location), delta)| Movement { unit, location, delta };
            let movements = movements.into_iter().map(moved).collect();
            followed.reference = Some(reference.clone());
            bodies.push(Body::ErpFollowed(Arc::new(ErpChange { source, reference, movements, entries })));
        }
        (bodies, followed)
    }
}

fn is_duplicated(entry: &Entry) -> bool {
    matches!(entry, Entry::Account { account, .. } if account.rows.len() > 1)
}

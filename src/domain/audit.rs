//! The laws, checked: told every fact of a ledger and a journal, it says where they contradict each other.
//!
//! It knows nothing of files. It folds as it goes: what stays in memory is a few bytes a sale and a chain's end a
//! place, so that millions of sales are checked in one pass. Where it repeats a calculation of the engine (a
//! subtotal, a projection) it does so in its own way on purpose: a checker that shares the code it checks shares its
//! mistakes.
//!
//! | law | what is compared |
//! |---|---|
//! | 1 | no chain goes below zero; projection and what waits in the journal together do not either |
//! | 2 | each sale in the journal is in the ledger, waits for it, or lies among the dead letters; nothing is missing |
//! | 3 | each sale and movement in the ledger has its event, once; sums, keys and lines agree with each other |
//! | 4 | chains, projection and hot stock |
//! | 5 | every reference stays within its tenant |
//! | 6 | what a group confirmed took effect; what the ledger gave up is a difference until it has it after all |
//! | 7 | whatever was put aside is named, and can be read |

mod fact;
mod journal;
mod numbers;
mod report;
mod sales;
mod stock;
#[cfg(test)]
mod tests;

pub use fact::{Fact, HotStock, LedgerRow, LineRow, Parked, Part, SaleRow, VoidRow};
pub use report::{AuditReport, Counts, Detail, Difference, KEPT, Law, Warning};

use super::event::{Event, EventKind};
use super::ids::{LocationId, SaleId, TenantId, UnitId};
use super::ledger::Chains;
use super::stock::Place;
use numbers::Numbers;
use sales::{OpenSale, Taken};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use stock::{Below, Group, Hot, Moved};

/// The checker. Feed it the first part of every source, then the second, then [`Auditor::finish`].
pub struct Auditor {
    ledger_group: &'static str,
    report: AuditReport,
    shops: HashMap<TenantId, Shop>,
    /// Positions put aside; they are missing from the journal for a known reason.
    quarantined: BTreeSet<u64>,
    positions: BTreeMap<String, u64>,
    last_position: Option<u64>,
    /// What waits in the ledger group's retries or lies among its dead letters (true), by tenant and number.
    parked: HashMap<(TenantId, u64), bool>,
    dead: HashSet<(String, TenantId, u64)>,
    sale: Option<OpenSale>,
    keys: Vec<(u128, TenantId, SaleId)>,
    below: Vec<Below>,
}

/// What is known of one tenant.
#[derive(Default)]
struct Shop {
    known: bool,
    locations: HashSet<LocationId>,
    units: HashSet<UnitId>,
    /// The last number applied.
    mark: u64,
    holes: BTreeMap<u64, String>,
    /// Sales that were taken back.
    taken: HashMap<SaleId, Taken>,
    /// Its events in the journal, by number.
    slots: Vec<Slot>,
    numbers: Numbers,
    chains: Chains,
    /// The event whose ledger rows are being read.
    group: Option<Group>,
    /// The highest number among the ledger rows so far.
    newest_row: u64,
    /// Movements that are not where their number says: given up, or applied after later ones.
    displaced: Vec<Moved>,
    /// What the ledger is still to get, by place.
    waiting: HashMap<Place, i64>,
    hot: Option<Hot>,
}

/// An event of the journal.
struct Slot {
    sequence: u64,
    position: u64,
    /// Of a sale's content, or of what came back when one was taken back.
    digest: u64,
    kind: EventKind,
    /// The ledger has the sale, or that it was taken back.
    found: bool,
}

impl Shop {
    /// Whether the ledger says that it has an event.
    fn has(&self, sequence: u64) -> bool {
        sequence <= self.mark && !self.holes.contains_key(&sequence)
    }

    /// Where an event of the journal is among the slots.
    fn slot_index(&self, sequence: u64) -> Option<usize> {
        let first = self.slots.first()?.sequence;
        // Numbers are dense, so an event is where it should be unless something is missing.
        let guess = usize::try_from(sequence.checked_sub(first)?).ok()?;
        match self.slots.get(guess) {
            Some(slot) if slot.sequence == sequence => Some(guess),
            _ => self.slots.binary_search_by_key(&sequence, |slot| slot.sequence).ok(),
        }
    }

    /// An event that the ledger does not have.
    fn wait(&mut self, event: &Event) {
        for moved in event.movements() {
            let (place, delta) = ((moved.unit, moved.location), moved.delta.units());
            let waiting = self.waiting.entry(place).or_default();
            *waiting = waiting.saturating_add(delta);
            if event.sequence <= self.mark {
                self.displaced.push(Moved { place, sequence: event.sequence, delta, row: i64::MAX });
            }
            if let Some(hot) = &mut self.hot {
                hot.add(event.sequence, place, delta);
            }
        }
    }
}

impl Auditor {
    /// `ledger_group` is the consumer group that writes the ledger; `hot` what the running server has in memory, read
    /// before anything else.
    pub fn new(ledger_group: &'static str, hot: Vec<HotStock>) -> Self {
        let mut shops: HashMap<TenantId, Shop> = HashMap::new();
        let report = AuditReport {
            counts: Counts { hot_tenants: hot.len() as u64, ..Counts::default() },
            ..AuditReport::default()
        };
        for stock in hot {
            shops.entry(stock.tenant).or_default().hot = Some(Hot::new(&stock));
        }
        Self {
            ledger_group,
            report,
            shops,
            quarantined: BTreeSet::new(),
            positions: BTreeMap::new(),
            last_position: None,
            parked: HashMap::new(),
            dead: HashSet::new(),
            sale: None,
            keys: Vec::new(),
            below: Vec::new(),
        }
    }

    /// Takes in a fact.
    pub fn feed(&mut self, fact: Fact<'_>) {
        match fact {
            Fact::Tenant(tenant) => {
                self.report.counts.tenants += 1;
                self.shop(tenant).known = true;
            }
            Fact::Location(tenant, location) => {
                self.shop(tenant).locations.insert(location);
            }
            Fact::Unit(tenant, unit) => {
                self.shop(tenant).units.insert(unit);
            }
            Fact::Applied { tenant, sequence } => self.shop(tenant).mark = sequence,
            Fact::Hole { tenant, sequence, cause } => {
                self.shop(tenant).holes.insert(sequence, cause.to_owned());
            }
            Fact::Void(row) => {
                self.shop(row.tenant).taken.insert(row.sale, Taken::of(&row));
            }
            Fact::GroupPosition { group, position } => {
                self.positions.insert(group.to_owned(), position);
            }
            Fact::Retry(parked) => self.parked(&parked, false),
            Fact::DeadLetter(parked) => self.parked(&parked, true),
            Fact::Quarantined { position, reason } => self.quarantined(position, reason),
            Fact::Unreadable { table, position, reason } => self.unreadable(table, position, reason),
            Fact::Recorded { position, event } => self.recorded(position, event),
            Fact::Sale(row) => self.sale(&row),
            Fact::Line(row) => self.line(&row),
            Fact::Ledger(row) => self.row(&row),
            Fact::Stock { tenant, place, quantity } => self.stock(tenant, place, quantity),
        }
    }

    /// Everything was told: compares what is left to compare.
    pub fn finish(mut self) -> AuditReport {
        self.close_sale();
        self.check_keys();
        self.check_positions();
        self.check_below();
        let mut tenants: Vec<TenantId> = self.shops.keys().copied().collect();
        tenants.sort_unstable();
        for tenant in tenants {
            let Some(mut shop) = self.shops.remove(&tenant) else { continue };
            self.check_events(tenant, &shop);
            self.check_taken(tenant, &shop);
            self.check_numbers(tenant, &shop);
            self.check_places(tenant, &mut shop);
        }
        self.report
    }

    fn shop(&mut self, tenant: TenantId) -> &mut Shop {
        self.shops.entry(tenant).or_default()
    }

    /// Law 5: what a row refers to belongs to the row's own tenant. True when all of it does.
    fn check_references(
        &mut self,
        tenant: TenantId,
        unit: Option<UnitId>,
        location: Option<LocationId>,
        what: &str,
        detail: impl Fn() -> Detail,
    ) -> bool {
        let shop = self.shops.entry(tenant).or_default();
        let known = shop.known;
        let unit = unit.filter(|unit| !shop.units.contains(unit));
        let location = location.filter(|location| !shop.locations.contains(location));
        if known && unit.is_none() && location.is_none() {
            return true;
        }
        if !known {
            self.report.differ(Law::Isolation, format!("{what} belongs to an unknown tenant"), detail());
            return false;
        }
        let mut accuse = |kind: &str, owner: Option<TenantId>| {
            let message = match owner {
                Some(_) => format!("{what} refers to another tenant's {kind}"),
                None => format!("{what} refers to an unknown {kind}"),
            };
            let found = owner.map_or_else(|| "no tenant's".to_owned(), |owner| format!("{owner}'s"));
            self.report.differ(Law::Isolation, message, detail().versus(format!("{tenant}'s"), found));
        };
        if let Some(unit) = unit {
            let owner = self.shops.iter().find(|(_, shop)| shop.units.contains(&unit));
            accuse("unit", owner.map(|(tenant, _)| *tenant));
        }
        if let Some(location) = location {
            let owner = self.shops.iter().find(|(_, shop)| shop.locations.contains(&location));
            accuse("location", owner.map(|(tenant, _)| *tenant));
        }
        false
    }
}

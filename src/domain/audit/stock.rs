//! Chains, projection, hot stock.

use super::numbers::Mark;
use super::report::thousandths;
use super::{Auditor, Detail, HotStock, Law, LedgerRow, Shop};
use crate::domain::decimal::Quantity;
use crate::domain::event::MovementKind;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::ledger::{Break, Link};
use crate::domain::stock::Place;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Rows below zero that are looked at again at the end; any more are differences at once.
const MAX_BELOW: usize = 10_000;

/// The event whose rows are being read: its number, and what all of its rows share.
#[derive(PartialEq, Eq)]
pub struct Group {
    sequence: u64,
    origin: u64,
}

/// A movement whose number does not say when the ledger got it.
pub struct Moved {
    pub place: Place,
    pub sequence: u64,
    pub delta: i64,
    /// The row that has it; the greatest there is when none has.
    pub row: i64,
}

/// A row that leaves less than nothing.
pub struct Below {
    tenant: TenantId,
    place: Place,
    row: i64,
    sequence: u64,
    link: Link,
}

/// Hot stock still to be explained: what is on hand, less every movement up to the snapshot's number.
pub struct Hot {
    sequence: u64,
    unexplained: HashMap<Place, i64>,
    on_hand: HashMap<Place, i64>,
}

impl Hot {
    pub fn new(stock: &HotStock) -> Self {
        let on_hand: HashMap<Place, i64> =
            stock.on_hand.iter().map(|(place, quantity)| (*place, quantity.units())).collect();
        Self { sequence: stock.sequence, unexplained: on_hand.clone(), on_hand }
    }

    /// A movement that the ledger has or will get.
    pub fn add(&mut self, sequence: u64, place: Place, delta: i64) {
        if sequence <= self.sequence {
            let left = self.unexplained.entry(place).or_default();
            *left = left.saturating_sub(delta);
        }
    }
}

/// Stands for a movement with its origin.
pub fn movement(
    kind: &str,
    sale: Option<SaleId>,
    reference: Option<&str>,
    place: Place,
    delta: i64,
    at: i64,
) -> u64 {
    let mut print = DefaultHasher::new();
    (kind, sale, reference, place, delta, at).hash(&mut print);
    print.finish()
}

impl Auditor {
    pub(super) fn row(&mut self, row: &LedgerRow<'_>) {
        self.report.counts.ledger_rows += 1;
        let detail = || {
            let detail = Detail::of(row.tenant).sequence(row.sequence).place(row.place).row(row.id);
            Detail { sale: row.sale, ..detail }
        };
        let (unit, location) = row.place;
        self.check_references(row.tenant, Some(unit), Some(location), "a ledger row", detail);
        let is_sale = row.kind == MovementKind::Sale.as_str();
        if is_sale != row.sale.is_some() {
            let message =
                format!("a ledger row of kind {} has {} sale", row.kind, if is_sale { "no" } else { "a" });
            self.report.differ(Law::Phantom, message, detail());
        }
        self.check_link(row, detail);
        let shop = self.shops.entry(row.tenant).or_default();
        if !shop.has(row.sequence) {
            let message = "a ledger row belongs to an event that was not applied";
            let detail = detail().versus(format!("applied up to {}", shop.mark), row.sequence);
            self.report.differ(Law::Phantom, message, detail);
            return;
        }
        // A row without a sale's id that calls itself one is counted for neither side: it was just reported.
        if let Some(sale) = row.sale {
            let print = movement(row.kind, Some(sale), None, row.place, row.delta, row.at);
            shop.numbers.pay(row.sequence, print);
        } else {
            shop.numbers.mark(row.sequence, Mark::Moved);
            // What comes back is owed by the sale, whether or not the journal still has the event.
            if row.kind == MovementKind::Void.as_str() || shop.slot_index(row.sequence).is_some() {
                let print = movement(row.kind, None, row.reference, row.place, row.delta, row.at);
                shop.numbers.pay(row.sequence, print);
            }
        }
        if let Some(hot) = &mut shop.hot {
            hot.add(row.sequence, row.place, row.delta);
        }
        if row.sequence < shop.newest_row {
            shop.displaced.push(Moved {
                place: row.place,
                sequence: row.sequence,
                delta: row.delta,
                row: row.id,
            });
        }
        shop.newest_row = shop.newest_row.max(row.sequence);
        self.check_group(row, detail);
    }

    /// All rows of an event are written at once, so they stand together and share their origin.
    fn check_group(&mut self, row: &LedgerRow<'_>, detail: impl Fn() -> Detail) {
        let mut origin = DefaultHasher::new();
        (row.kind, row.sale, row.reference, row.at).hash(&mut origin);
        let group = Group { sequence: row.sequence, origin: origin.finish() };
        let shop = self.shops.entry(row.tenant).or_default();
        match &shop.group {
            Some(current) if *current == group => {}
            Some(current) if current.sequence == group.sequence => {
                let message = "the ledger rows under one event number come from two events";
                self.report.differ(Law::Phantom, message, detail());
            }
            _ => {
                if !shop.numbers.mark(row.sequence, Mark::Closed) {
                    let message = "an event was applied to the ledger twice";
                    self.report.differ(Law::Phantom, message, detail().versus("once", "again"));
                }
            }
        }
        shop.group = Some(group);
    }

    fn check_link(&mut self, row: &LedgerRow<'_>, detail: impl Fn() -> Detail) {
        let numbers = [row.before, row.delta, row.after].map(Quantity::from_units);
        let [Some(before), Some(delta), Some(after)] = numbers else {
            let found = format!("{} + {} = {}", row.before, row.delta, row.after);
            let message = "a ledger row is out of bounds";
            self.report.differ(Law::Conservation, message, detail().versus("quantities", found));
            return;
        };
        let link = Link { before, delta, after };
        match self.shops.entry(row.tenant).or_default().chains.check(row.place, link) {
            Ok(()) => {}
            Err(Break::NotContinued { expected, found }) => {
                let message = "a ledger row does not begin where the one before it ended";
                self.report.differ(Law::Conservation, message, detail().versus(expected, found.before));
            }
            Err(Break::WrongSum(link)) => {
                let message = "a ledger row does not add up";
                let expected = format!("{} + {} = {}", link.before, link.delta, link.after);
                let sum = link.before.units().saturating_add(link.delta.units());
                self.report.differ(Law::Conservation, message, detail().versus(thousandths(sum), expected));
            }
            Err(Break::Oversold(link)) if self.below.len() < MAX_BELOW => self.below.push(Below {
                tenant: row.tenant,
                place: row.place,
                row: row.id,
                sequence: row.sequence,
                link,
            }),
            Err(Break::Oversold(link)) => self.report.differ(
                Law::Oversell,
                "a ledger row leaves less than nothing",
                detail().versus("0.000 or more", link.after),
            ),
        }
    }

    /// Law 1 is about the order in which things were sold. A delivery that was given up, or applied after sales that
    /// came later, leaves rows below zero although nothing was sold twice; those are not held against it.
    pub(super) fn check_below(&mut self) {
        for below in std::mem::take(&mut self.below) {
            let shop = self.shops.entry(below.tenant).or_default();
            let earlier = |moved: &&Moved| {
                moved.place == below.place && moved.sequence < below.sequence && moved.row > below.row
            };
            let credit = shop
                .displaced
                .iter()
                .filter(earlier)
                .fold(0_i64, |sum, moved| sum.saturating_add(moved.delta));
            if below.link.after.units().saturating_add(credit) < 0 {
                let detail =
                    Detail::of(below.tenant).sequence(below.sequence).place(below.place).row(below.row);
                let Link { before, delta, after } = below.link;
                let detail = detail.versus("0.000 or more", format!("{before} + {delta} = {after}"));
                self.report.differ(Law::Oversell, "a ledger row leaves less than nothing", detail);
            }
        }
    }

    pub(super) fn stock(&mut self, tenant: TenantId, place: Place, quantity: i64) {
        let counts = &mut self.report.counts;
        counts.places += 1;
        counts.stock_thousandths = counts.stock_thousandths.saturating_add(quantity);
        let detail = || Detail::of(tenant).place(place);
        self.check_references(tenant, Some(place.0), Some(place.1), "a stock row", detail);
        let shop = self.shops.entry(tenant).or_default();
        match shop.chains.close(place) {
            None => {
                let message = "projected stock has no ledger rows";
                self.report.differ(
                    Law::Conservation,
                    message,
                    detail().versus("no row", thousandths(quantity)),
                );
            }
            Some(end) if end.units() != quantity => {
                let message = "projected stock is not where the ledger's chain ends";
                self.report.differ(Law::Conservation, message, detail().versus(end, thousandths(quantity)));
            }
            Some(_) => {}
        }
        let waiting = shop.waiting.remove(&place).unwrap_or_default();
        self.check_projection(tenant, place, quantity, waiting);
    }

    /// Law 1: what is sold and not in the ledger yet was there to be sold.
    fn check_projection(&mut self, tenant: TenantId, place: Place, quantity: i64, waiting: i64) {
        if quantity.saturating_add(waiting) < 0 {
            let message = "more is sold than there is, counting what the ledger is still to get";
            let found = format!("{} in the ledger, {} to come", thousandths(quantity), thousandths(waiting));
            let detail = Detail::of(tenant).place(place).versus("0.000 or more", found);
            self.report.differ(Law::Oversell, message, detail);
        }
    }

    pub(super) fn check_places(&mut self, tenant: TenantId, shop: &mut Shop) {
        let mut open: Vec<(Place, Quantity)> =
            shop.chains.ends().iter().map(|(place, end)| (*place, *end)).collect();
        open.sort_unstable();
        for (place, end) in open {
            let message = "the ledger has rows and the projection has none";
            let detail = Detail::of(tenant).place(place).versus(end, "no row");
            self.report.differ(Law::Conservation, message, detail);
        }
        let mut waiting: Vec<(Place, i64)> = shop.waiting.drain().collect();
        waiting.sort_unstable();
        for (place, waiting) in waiting {
            self.check_projection(tenant, place, 0, waiting);
        }
        let newest = shop.slots.last().map_or(0, |slot| slot.sequence).max(shop.mark);
        let Some(hot) = &shop.hot else { return };
        if hot.sequence > newest {
            let message = "hot stock includes an event that is nowhere on file";
            let detail = Detail::of(tenant).sequence(hot.sequence);
            self.report.differ(
                Law::Conservation,
                message,
                detail.versus(format!("at most {newest}"), hot.sequence),
            );
        }
        let mut off: Vec<(Place, i64)> = hot
            .unexplained
            .iter()
            .filter(|(_, left)| **left != 0)
            .map(|(place, left)| (*place, *left))
            .collect();
        off.sort_unstable();
        for (place, left) in off {
            let found = hot.on_hand.get(&place).copied().unwrap_or_default();
            let message = "hot stock is not what ledger and journal add up to";
            let detail = Detail::of(tenant).sequence(hot.sequence).place(place);
            let expected = thousandths(found.saturating_sub(left));
            self.report.differ(Law::Conservation, message, detail.versus(expected, thousandths(found)));
        }
    }
}

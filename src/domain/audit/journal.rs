//! The journal against the ledger: what is recorded, what is confirmed, what is set aside.

use super::sales::digest_of;
use super::stock::movement;
use super::{Auditor, Detail, Law, Parked, Shop, Slot};
use crate::domain::event::{Body, Event, EventKind};
use crate::domain::ids::TenantId;

impl Auditor {
    pub(super) fn quarantined(&mut self, position: u64, reason: &str) {
        self.report.counts.quarantined += 1;
        self.quarantined.insert(position);
        let detail = Detail::at(position).versus("the event that was written", reason);
        self.report.differ(Law::Swallowed, "an event of the journal is in quarantine", detail);
    }

    pub(super) fn unreadable(&mut self, table: &'static str, position: u64, reason: &str) {
        if table == "journal" {
            self.check_position(position);
        }
        let message = format!("a row of {table} cannot be read");
        let detail = Detail::at(position).versus("the event that was written", reason);
        self.report.differ(Law::Swallowed, message, detail);
    }

    /// An event in a group's retries or among its dead letters. May be told twice.
    pub(super) fn parked(&mut self, parked: &Parked<'_>, dead: bool) {
        let event = parked.event;
        if dead && self.dead.insert((parked.group.to_owned(), event.tenant, event.sequence)) {
            self.report.counts.dead_letters += 1;
            let is_missing =
                parked.group == self.ledger_group && !self.shop(event.tenant).has(event.sequence);
            let mut detail = place_of(parked.position, event);
            detail.group = Some(parked.group.to_owned());
            let (what, group, cause) = (describe(event), parked.group, parked.cause);
            let tried = format!("given up after {} attempts", parked.attempts);
            if is_missing {
                let message = format!("{what} was given up by {group} and is not in the ledger: {cause}");
                let detail = detail.versus("applied, once its cause is mended and it is given back", tried);
                self.report.differ(Law::Delivery, message, detail);
            } else {
                let message = format!("{what} was given up by {group}: {cause}");
                self.report.warn(message, Detail { found: Some(tried), ..detail });
            }
        }
        if parked.group != self.ledger_group {
            return;
        }
        let known = self.parked.insert((event.tenant, event.sequence), dead);
        self.report.counts.retries += u64::from(known.is_none() && !dead);
        let shop = self.shops.entry(event.tenant).or_default();
        if known.is_none() && !shop.has(event.sequence) {
            shop.wait(event);
        }
    }

    pub(super) fn recorded(&mut self, position: u64, event: &Event) {
        self.report.counts.events += 1;
        self.check_position(position);
        let (tenant, sequence) = (event.tenant, event.sequence);
        let parked = self.parked.get(&(tenant, sequence)).copied();
        let confirmed = self.positions.get(self.ledger_group).is_some_and(|confirmed| position <= *confirmed);
        let shop = self.shops.entry(tenant).or_default();
        if let Some(newest) = shop.slots.last() {
            let detail = || place_of(position, event).versus(newest.sequence + 1, sequence);
            if sequence <= newest.sequence {
                let message = "two events of a tenant carry the same number, or one is out of order";
                self.report.differ(Law::Phantom, message, detail());
                return;
            }
            if sequence > newest.sequence + 1 {
                if (newest.sequence + 1..sequence).all(|number| shop.has(number)) {
                    // Damage that cost the journal its copy and the shop nothing.
                    let message = "events of a tenant are missing from the journal; the ledger has them";
                    self.report.warn(message.to_owned(), detail());
                } else {
                    let message = "events of a tenant are missing from the journal and from the ledger";
                    self.report.differ(Law::LostSale, message, detail());
                }
            }
        }
        let (digest, kind) = (digest_of(event), event.body.kind());
        shop.slots.push(Slot { sequence, position, digest, kind, found: false });
        if shop.has(sequence) {
            self.check_effect(position, event);
            return;
        }
        self.report.counts.waiting += u64::from(parked != Some(true));
        if parked.is_none() {
            shop.wait(event);
            if confirmed && !shop.holes.contains_key(&sequence) {
                let message = "an event was confirmed by the ledger's group and had no effect";
                let detail = place_of(position, event)
                    .versus("applied, in retries, or a dead letter", format!("applied up to {}", shop.mark));
                self.report.differ(Law::Delivery, message, detail);
            }
        }
    }

    /// What an applied event left behind.
    fn check_effect(&mut self, position: u64, event: &Event) {
        let shop = self.shops.entry(event.tenant).or_default();
        let missing = match &event.body {
            Body::TenantCreated { locations, .. } => {
                let locations =
                    locations.iter().filter(|location| !shop.locations.contains(&location.id)).count();
                (locations + usize::from(!shop.known), "tenant or locations")
            }
            Body::LocationsAdded { locations } => (
                locations.iter().filter(|location| !shop.locations.contains(&location.id)).count(),
                "locations",
            ),
            Body::ProductsUpserted { units } => {
                (units.iter().filter(|unit| !shop.units.contains(&unit.id)).count(), "units")
            }
            Body::StockMoved { .. } | Body::ErpFollowed(_) => {
                let (kind, reference) = event.movement_origin();
                for moved in event.movements() {
                    let place = (moved.unit, moved.location);
                    let (delta, at) = (moved.delta.units(), event.at.micros());
                    let print = movement(kind.as_str(), None, Some(&reference), place, delta, at);
                    shop.numbers.owe(event.sequence, print);
                }
                return;
            }
            // Compared when the sale is read.
            Body::SaleCreated { .. } | Body::SaleVoided { .. } => return,
        };
        if missing.0 > 0 {
            let message = format!("an applied event's {} are not in the ledger", missing.1);
            let detail = place_of(position, event).versus("all of them", format!("{} missing", missing.0));
            self.report.differ(Law::Delivery, message, detail);
        }
    }

    /// Positions are dense, but for those in quarantine. Where the ledger's group has confirmed all that is missing,
    /// damage cost the journal its copies; whether it cost the shop anything, its tenants' numbers tell.
    fn check_position(&mut self, position: u64) {
        let Some(last) = self.last_position.replace(position) else { return };
        let (from, to) = (last + 1, position.saturating_sub(1));
        if to < from {
            return;
        }
        let explained = self.quarantined.range(from..=to).count() as u64;
        if to - from + 1 > explained {
            let message = format!("journal positions {from} to {to} are missing");
            let detail = Detail::at(position).versus(last + 1, position);
            if self.positions.get(self.ledger_group).is_some_and(|confirmed| to <= *confirmed) {
                self.report.warn(message, detail);
            } else {
                self.report.differ(Law::LostSale, message, detail);
            }
        }
    }

    /// Law 6: nobody has confirmed what does not exist.
    pub(super) fn check_positions(&mut self) {
        // An empty journal is one that was trimmed up to its end, which is then known by the positions alone.
        let Some(last) = self.last_position else { return };
        let end = last.max(self.quarantined.last().copied().unwrap_or_default());
        for (group, position) in &self.positions {
            if *position > end {
                let message = "a group has confirmed more than the journal holds";
                let detail = Detail::at(*position).versus(format!("at most {end}"), position);
                let detail = Detail { group: Some(group.clone()), ..detail };
                self.report.differ(Law::Delivery, message, detail);
            }
        }
    }

    /// Law 2: each number up to the newest is applied, waits, or was given up where it can be seen.
    pub(super) fn check_events(&mut self, tenant: TenantId, shop: &Shop) {
        for (sequence, cause) in &shop.holes {
            if !self.parked.contains_key(&(tenant, *sequence)) {
                let message = "an event is missing from the ledger and is no dead letter";
                let detail = Detail::of(tenant).sequence(*sequence).versus("a dead letter or a retry", cause);
                self.report.differ(Law::LostSale, message, detail);
            }
        }
        let (Some(oldest), Some(newest)) = (shop.slots.first(), shop.slots.last()) else { return };
        if newest.sequence < shop.mark {
            let message = "the ledger has events of a tenant that the journal never had";
            let detail = Detail::of(tenant)
                .sequence(shop.mark)
                .position(newest.position)
                .versus(format!("the journal up to {} or beyond", shop.mark), newest.sequence);
            self.report.differ(Law::Phantom, message, detail);
        }
        let unseen = oldest.sequence.saturating_sub(shop.mark + 1);
        let parked = |(whose, number): &&(TenantId, u64)| {
            *whose == tenant && *number > shop.mark && *number < oldest.sequence
        };
        if unseen > 0 && unseen > self.parked.keys().filter(parked).count() as u64 {
            let message = "events of a tenant are neither in the ledger nor in the journal";
            let detail = Detail::of(tenant).sequence(shop.mark + 1).position(oldest.position).versus(
                format!("the journal from {} on", shop.mark + 1),
                format!("from {} on", oldest.sequence),
            );
            self.report.differ(Law::LostSale, message, detail);
        }
        for slot in shop.slots.iter().filter(|slot| !slot.found && shop.has(slot.sequence)) {
            let (message, what) = match slot.kind {
                EventKind::SaleCreated => ("a sale of the journal is not in the ledger", "the sale"),
                EventKind::SaleVoided => {
                    ("a sale was taken back in the journal, not in the ledger", "the void")
                }
                _ => continue,
            };
            let detail = Detail::of(tenant)
                .sequence(slot.sequence)
                .position(slot.position)
                .versus(what, format!("none, though applied up to {}", shop.mark));
            self.report.differ(Law::LostSale, message, detail);
        }
    }
}

fn place_of(position: u64, event: &Event) -> Detail {
    let detail = Detail::of(event.tenant).sequence(event.sequence).position(position);
    match &event.body {
        Body::SaleCreated { sale, .. } => detail.sale(sale.id),
        Body::SaleVoided { sale, .. } => detail.sale(*sale),
        _ => detail,
    }
}

fn describe(event: &Event) -> String {
    format!("event {} ({}) of tenant {}", event.sequence, event.body.kind().as_str(), event.tenant)
}

//! Sales: against themselves, their event and their ledger rows.

use super::numbers::Mark;
use super::stock::movement;
use super::{Auditor, Detail, Law, LineRow, SaleRow, Shop, VoidRow};
use crate::domain::event::{Body, Event, EventKind, MovementKind};
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::stock::Place;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// The sale whose lines are being read.
pub struct OpenSale {
    tenant: TenantId,
    id: SaleId,
    location: LocationId,
    sequence: u64,
    at: i64,
    total: i64,
    digest: DefaultHasher,
    lines: i64,
    sum: i128,
    owed: u64,
    /// Number and moment of the event that took it back, if one did, and what has to come back.
    taken: Option<(u64, i64)>,
    returned: u64,
}

/// A sale that was taken back.
pub struct Taken {
    sequence: u64,
    at: i64,
    /// The sale was seen.
    found: bool,
}

impl Taken {
    pub fn of(row: &VoidRow) -> Self {
        Self { sequence: row.sequence, at: row.at, found: false }
    }
}

/// A sale's head, from either side.
struct Head<'a> {
    id: SaleId,
    location: LocationId,
    at: i64,
    total: i64,
    payment: &'a str,
    user: &'a str,
    request_id: &'a str,
    keyed: Option<(&'a str, [u8; 16])>,
}

impl Head<'_> {
    fn digest(&self) -> DefaultHasher {
        let mut digest = DefaultHasher::new();
        (self.id, self.location, self.at, self.total, self.payment).hash(&mut digest);
        (self.user, self.request_id, self.keyed).hash(&mut digest);
        digest
    }
}

/// A line's content, from either side: unit, name and SKU; quantity, price and subtotal; whether stock was taken.
type Line<'a> = (UnitId, &'a str, &'a str, [i64; 3], bool);

/// Stands for everything a sale's event says, and for what comes back when one is taken back; nothing for other events.
pub fn digest_of(event: &Event) -> u64 {
    if let Body::SaleVoided { sale, movements, .. } = &event.body {
        let prints = movements.iter().map(|moved| {
            let place = (moved.unit, moved.location);
            returned(*sale, place, moved.delta.units(), event.at.micros())
        });
        return prints.fold(0, u64::wrapping_add);
    }
    let Body::SaleCreated { sale, keyed } = &event.body else { return 0 };
    let head = Head {
        id: sale.id,
        location: sale.location,
        at: event.at.micros(),
        total: sale.total.units(),
        payment: sale.payment.as_str(),
        user: &event.user,
        request_id: &event.request_id,
        keyed: keyed.as_ref().map(|(key, print)| (key.as_str(), print.0)),
    };
    let mut digest = head.digest();
    for line in &sale.lines {
        let numbers = [line.quantity.units(), line.unit_price.units(), line.subtotal.units()];
        let content: Line<'_> = (line.unit, &line.name, &line.sku, numbers, line.has_stock);
        content.hash(&mut digest);
    }
    digest.finish()
}

/// Stands for a line of a sale that came back.
fn returned(sale: SaleId, place: Place, quantity: i64, at: i64) -> u64 {
    movement(MovementKind::Void.as_str(), None, Some(&sale.to_string()), place, quantity, at)
}

impl Auditor {
    pub(super) fn sale(&mut self, row: &SaleRow<'_>) {
        self.close_sale();
        self.report.counts.sales += 1;
        let detail = || Detail::of(row.tenant).sequence(row.sequence).sale(row.id);
        self.check_references(row.tenant, None, Some(row.location), "a sale", || Detail {
            location: Some(row.location),
            ..detail()
        });
        let shop = self.shops.entry(row.tenant).or_default();
        let taken = shop.taken.get(&row.id).map(|taken| (taken.sequence, taken.at));
        if row.sequence > shop.mark || shop.holes.contains_key(&row.sequence) {
            let message = "the ledger has a sale whose event it says was not applied";
            let found = if row.sequence > shop.mark { "beyond it" } else { "given up" };
            self.report.differ(
                Law::Phantom,
                message,
                detail().versus(format!("applied up to {}", shop.mark), found),
            );
        }
        if !shop.numbers.mark(row.sequence, Mark::Sale) {
            self.report.differ(Law::Phantom, "two sales of a tenant carry the same event number", detail());
        }
        if let Some(text) = row.key {
            match IdempotencyKey::parse(text) {
                Ok(key) => {
                    let hash = key.hash(row.tenant);
                    self.keys.push((hash.0, row.tenant, row.id));
                    if row.key_hash != Some(hash.indexed()) {
                        let message =
                            "a sale cannot be found by its key: the key's hash is not that of the key";
                        let found = row.key_hash.map_or_else(|| "none".to_owned(), |hash| hash.to_string());
                        self.report.differ(Law::Phantom, message, detail().versus(hash.indexed(), found));
                    }
                }
                Err(rule) => {
                    let message = "a sale's key is not one that could be asked for";
                    self.report.differ(Law::Phantom, message, detail().versus(rule, text));
                }
            }
        }
        let head = Head {
            id: row.id,
            location: row.location,
            at: row.at,
            total: row.total,
            payment: row.payment,
            user: row.created_by,
            request_id: row.request_id,
            keyed: row.key.map(|key| (key, row.fingerprint.unwrap_or_default())),
        };
        self.sale = Some(OpenSale {
            tenant: row.tenant,
            id: row.id,
            location: row.location,
            sequence: row.sequence,
            at: row.at,
            total: row.total,
            digest: head.digest(),
            lines: 0,
            sum: 0,
            owed: 0,
            taken,
            returned: 0,
        });
    }

    pub(super) fn line(&mut self, row: &LineRow<'_>) {
        self.report.counts.lines += 1;
        let detail = || Detail { unit: Some(row.unit), ..Detail::of(row.tenant).sale(row.sale) };
        let exact = i128::from(row.unit_price) * i128::from(row.quantity);
        // Half up: twice the exact value, plus one whole, halved and cut off.
        let subtotal = (exact * 2 + 1_000).div_euclid(2_000);
        if subtotal != i128::from(row.subtotal) {
            let message = format!("line {} of a sale is not price times quantity", row.line);
            self.report.differ(Law::Phantom, message, detail().versus(subtotal, row.subtotal));
        }
        self.check_references(row.tenant, Some(row.unit), None, "a sale's line", detail);
        let Some(sale) = self.sale.as_mut().filter(|sale| (sale.tenant, sale.id) == (row.tenant, row.sale))
        else {
            let message = format!("line {} belongs to no sale", row.line);
            self.report.differ(Law::Phantom, message, detail());
            return;
        };
        if row.line != sale.lines {
            let message = "a sale's lines are not numbered without gaps";
            let detail = detail().sequence(sale.sequence).versus(sale.lines, row.line);
            self.report.differ(Law::Phantom, message, detail);
        }
        sale.lines = row.line.saturating_add(1);
        sale.sum += i128::from(row.subtotal);
        let numbers = [row.quantity, row.unit_price, row.subtotal];
        let content: Line<'_> = (row.unit, row.name, row.sku, numbers, row.has_stock);
        content.hash(&mut sale.digest);
        if row.has_stock {
            let place = (row.unit, sale.location);
            let kind = MovementKind::Sale.as_str();
            let print = movement(kind, Some(sale.id), None, place, row.quantity.wrapping_neg(), sale.at);
            sale.owed = sale.owed.wrapping_add(print);
            if let Some((_, at)) = sale.taken {
                sale.returned = sale.returned.wrapping_add(returned(sale.id, place, row.quantity, at));
            }
        }
    }

    /// The lines of the sale before this row are over.
    pub(super) fn close_sale(&mut self) {
        let Some(sale) = self.sale.take() else { return };
        let detail = || Detail::of(sale.tenant).sequence(sale.sequence).sale(sale.id);
        if sale.lines == 0 {
            self.report.differ(Law::Phantom, "a sale has no lines", detail());
        }
        if sale.sum != i128::from(sale.total) {
            let message = "a sale's total is not the sum of its lines";
            self.report.differ(Law::Phantom, message, detail().versus(sale.sum, sale.total));
        }
        self.close_taken(&sale);
        let shop = self.shops.entry(sale.tenant).or_default();
        if !shop.has(sale.sequence) {
            return;
        }
        shop.numbers.owe(sale.sequence, sale.owed);
        let Some(index) = shop.slot_index(sale.sequence) else { return };
        let slot = &mut shop.slots[index];
        let at = detail().position(slot.position);
        slot.found = true;
        if slot.kind != EventKind::SaleCreated {
            let message = "the ledger has a sale where the journal has another event";
            self.report.differ(Law::Phantom, message, at.versus(slot.kind.as_str(), "a sale"));
        } else if slot.digest != sale.digest.finish() {
            let message = "a sale in the ledger is not the one in the journal";
            self.report.differ(Law::LostSale, message, at.versus("the event's content", "another"));
        }
    }

    /// A sale that was taken back: by the event of that number, and all of it.
    fn close_taken(&mut self, sale: &OpenSale) {
        let shop = self.shops.entry(sale.tenant).or_default();
        let Some(taken) = shop.taken.get_mut(&sale.id) else { return };
        taken.found = true;
        let sequence = taken.sequence;
        let detail = Detail::of(sale.tenant).sequence(sequence).sale(sale.id);
        if !shop.has(sequence) {
            let message = "a sale was taken back by an event that was not applied";
            let detail = detail.versus(format!("applied up to {}", shop.mark), sequence);
            self.report.differ(Law::Phantom, message, detail);
            return;
        }
        shop.numbers.owe(sequence, sale.returned);
        let Some(index) = shop.slot_index(sequence) else { return };
        let slot = &mut shop.slots[index];
        let at = detail.position(slot.position);
        slot.found = true;
        if slot.kind != EventKind::SaleVoided {
            let message = "the ledger has a void where the journal has another event";
            self.report.differ(Law::Phantom, message, at.versus(slot.kind.as_str(), "a void"));
        } else if slot.digest != sale.returned {
            let message = "what came back is not what was sold";
            self.report.differ(Law::Phantom, message, at.versus("the sale's lines", "others"));
        }
    }

    /// Law 3: only what was sold is taken back.
    pub(super) fn check_taken(&mut self, tenant: TenantId, shop: &Shop) {
        for (sale, taken) in shop.taken.iter().filter(|(_, taken)| !taken.found) {
            let message = "a sale that does not exist was taken back";
            let detail = Detail::of(tenant).sequence(taken.sequence).sale(*sale);
            self.report.differ(Law::Phantom, message, detail);
        }
    }

    /// Law 3: a key made one sale.
    pub(super) fn check_keys(&mut self) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.sort_unstable();
        for pair in keys.windows(2) {
            let ((first, _, one), (second, tenant, other)) = (pair[0], pair[1]);
            if first == second {
                let message = "two sales were made under one idempotency key";
                let detail = Detail::of(tenant).sale(other).versus(format!("sale {one} alone"), other);
                self.report.differ(Law::Phantom, message, detail);
            }
        }
    }

    /// Laws 3 and 6: what each number says was moved is what the ledger moved under it.
    pub(super) fn check_numbers(&mut self, tenant: TenantId, shop: &Shop) {
        let is_moved = |sequence| {
            let kind = shop.slot_index(sequence).map(|index| shop.slots[index].kind);
            matches!(kind, Some(EventKind::StockMoved | EventKind::SaleVoided | EventKind::ErpFollowed))
                || shop.taken.values().any(|taken| taken.sequence == sequence)
        };
        for uneven in shop.numbers.uneven() {
            let detail = Detail::of(tenant).sequence(uneven.sequence);
            let (law, message, expected) = match (uneven.sale, uneven.moved) {
                (true, true) => {
                    (Law::Phantom, "a sale and other movements carry the same event number", "one event")
                }
                (true, false) => {
                    let message = "a sale's lines and its ledger rows are not the same";
                    (Law::Phantom, message, "one row for each line that takes stock")
                }
                (false, true) => {
                    let message = "the ledger rows of an event are not its movements";
                    (Law::Delivery, message, "the event's movements")
                }
                (false, false) if is_moved(uneven.sequence) => {
                    let message = "an applied event's movements are not in the ledger";
                    (Law::Delivery, message, "the event's movements")
                }
                (false, false) => {
                    (Law::Phantom, "the ledger has rows of a sale that does not exist", "no rows")
                }
            };
            self.report.differ(law, message, detail.versus(expected, "other rows"));
        }
    }
}

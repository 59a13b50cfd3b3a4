//! What a shard knows of one tenant besides its stock.

use crate::domain::catalogue::Catalogue;
use crate::domain::erp::Following;
use crate::domain::event::{Body, Event};
use crate::domain::ids::SaleId;
use crate::domain::tenant::{Location, Tenant};
use crate::domain::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sales and voids of this process that are durable and not in the ledger, over all shards: exact, whatever carries them.
#[derive(Clone, Debug, Default)]
pub struct Unbooked(Arc<AtomicU64>);

impl Unbooked {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A shard that is rebuilt starts with a new count.
impl Drop for TenantState {
    fn drop(&mut self) {
        self.unbooked.0.fetch_sub(self.recent.len() as u64, Ordering::Relaxed);
    }
}

/// One tenant.
pub struct TenantState {
    pub tenant: Tenant,
    pub locations: Vec<Location>,
    pub catalogue: Catalogue,
    /// What is known of its ERPs, by name.
    pub erp: HashMap<Arc<str>, Following>,
    /// The last event number given out.
    pub sequence: u64,
    /// The last event number that stock on hand includes.
    pub settled: u64,
    /// The moment of the last event.
    pub last_at: Timestamp,
    /// Whether a change of the catalogue is with the journal.
    pub changing: bool,
    /// Whether that change is what an ERP said: it takes a moment, so the next one waits for it.
    pub following: bool,
    /// Sales and voids that are durable and not in the ledger yet, by event number.
    recent: BTreeMap<u64, Arc<Event>>,
    recent_sales: HashMap<SaleId, u64>,
    /// Sales that were taken back, of which the ledger does not know yet.
    recent_voids: HashMap<SaleId, Timestamp>,
    /// How many of those it has learnt of: what it said of a sale before that has to be asked again.
    pub voids_forgotten: u64,
    unbooked: Unbooked,
    /// Events that the ledger had before this shard was told that they are durable: the two tell it independently.
    early: BTreeSet<u64>,
}

impl TenantState {
    pub fn new(tenant: Tenant, locations: Vec<Location>, unbooked: Unbooked) -> Self {
        Self {
            last_at: tenant.created_at,
            tenant,
            locations,
            catalogue: Catalogue::default(),
            erp: HashMap::new(),
            sequence: 0,
            settled: 0,
            changing: false,
            following: false,
            recent: BTreeMap::new(),
            recent_sales: HashMap::new(),
            recent_voids: HashMap::new(),
            voids_forgotten: 0,
            unbooked,
            early: BTreeSet::new(),
        }
    }

    /// A durable event of this tenant is part of the state now.
    pub fn keep_until_in_ledger(&mut self, event: &Arc<Event>) {
        self.sequence = self.sequence.max(event.sequence);
        self.settled = self.settled.max(event.sequence);
        self.last_at = self.last_at.max(event.at);
        let in_ledger = self.early.remove(&event.sequence);
        if in_ledger {
            // What a lookup under way says of the sale may be older than that.
            self.voids_forgotten += u64::from(matches!(event.body, Body::SaleVoided { .. }));
            return;
        }
        match &event.body {
            Body::SaleCreated { sale, .. } => {
                self.recent_sales.insert(sale.id, event.sequence);
            }
            Body::SaleVoided { sale, .. } => {
                self.recent_voids.insert(*sale, event.at);
            }
            _ => return,
        }
        if self.recent.insert(event.sequence, event.clone()).is_none() {
            self.unbooked.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The ledger has this event.
    pub fn forget(&mut self, sequence: u64) {
        if sequence > self.settled {
            self.early.insert(sequence);
            return;
        }
        let Some(event) = self.recent.remove(&sequence) else { return };
        self.unbooked.0.fetch_sub(1, Ordering::Relaxed);
        match &event.body {
            Body::SaleCreated { sale, .. } => {
                self.recent_sales.remove(&sale.id);
            }
            Body::SaleVoided { sale, .. } => {
                self.recent_voids.remove(sale);
                self.voids_forgotten += 1;
            }
            _ => {}
        }
    }

    /// The event of a sale that is not in the ledger yet.
    pub fn recent(&self, sale: SaleId) -> Option<&Arc<Event>> {
        self.recent.get(self.recent_sales.get(&sale)?)
    }

    /// When a sale was taken back, while the ledger does not know of it.
    pub fn recent_void(&self, sale: SaleId) -> Option<Timestamp> {
        self.recent_voids.get(&sale).copied()
    }

    pub fn is_recent(&self, sale: SaleId) -> bool {
        self.recent_sales.contains_key(&sale)
    }

    pub fn recent_count(&self) -> usize {
        self.recent.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decimal::Money;
    use crate::domain::ids::{EventId, LocationId, TenantId};
    use crate::domain::sale::{PaymentMethod, Sale};
    use uuid::Uuid;

    fn state() -> TenantState {
        let tenant = Tenant {
            id: TenantId(Uuid::from_u128(1)),
            name: "Sur".into(),
            trade: "general".into(),
            active: true,
            created_at: Timestamp::from_micros(0),
        };
        TenantState::new(tenant, Vec::new(), Unbooked::default())
    }

    fn sale(sequence: u64) -> (SaleId, Arc<Event>) {
        let id = SaleId(Uuid::from_u128(sequence.into()));
        let location = LocationId(Uuid::from_u128(2));
        let payment = PaymentMethod::Efectivo;
        let sale = Sale { id, location, payment, total: Money::ZERO, lines: Vec::new() };
        let event = Event {
            id: EventId(Uuid::from_u128(3)),
            tenant: TenantId(Uuid::from_u128(1)),
            sequence,
            at: Timestamp::from_micros(0),
            user: "caja-1".into(),
            request_id: "r".into(),
            trace: None,
            body: Body::SaleCreated { sale, keyed: None },
        };
        (id, Arc::new(event))
    }

    #[test]
    fn a_sale_is_recent_until_the_ledger_has_it_whoever_tells_first() {
        let mut state = state();
        let ((one, first), (two, second)) = (sale(1), sale(2));
        state.keep_until_in_ledger(&first);
        let unbooked = state.unbooked.clone();
        assert!(state.is_recent(one) && unbooked.count() == 1);
        state.forget(1);
        assert!(!state.is_recent(one) && unbooked.count() == 0);
        // The ledger is faster than the answer of the journal.
        state.forget(2);
        state.keep_until_in_ledger(&second);
        assert!(!state.is_recent(two) && state.recent(two).is_none());
        // Told once more: nothing is remembered of what is long settled.
        state.forget(2);
        assert_eq!((state.recent_count(), state.early.len(), state.settled), (0, 0, 2));
        state.keep_until_in_ledger(&sale(3).1);
        assert_eq!(unbooked.count(), 1);
        drop(state);
        assert_eq!(unbooked.count(), 0, "a state that is gone does not count");
    }
}

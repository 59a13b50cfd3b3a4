//! Selling: key, rules, price, stock, in that order.

use super::gathering::Candidate;
use super::{Checkout, CheckoutResult, Denied, Done, Draft, Msg, Reservation, ShortLine, Sold, SoldSale};
use crate::actors::kit::{Cx, Fault, Reply};
use crate::domain::event::Body;
use crate::domain::idempotency::{Fingerprint, IdempotencyKey};
use crate::domain::ids::SaleId;
use crate::domain::reservation::{Keyed, Outcome, Reserve};
use crate::domain::sale::{Sale, price};
use crate::domain::stock::Shortage;
use crate::ports::PortError;
use crate::ports::ledger::StoredSale;
use std::sync::Arc;
use uuid::Uuid;

impl Reservation {
    /// A request as it comes in. A key that may have been used before is looked up first; the rest goes straight on.
    pub(super) async fn checkout(
        &mut self,
        checkout: Box<Checkout>,
        reply: Reply<CheckoutResult>,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        if let Err(denied) = self.active(checkout.tenant) {
            reply.send(Err(denied));
            return Ok(());
        }
        let Some(key) = &checkout.key else { return self.decide(checkout, None, reply, cx).await };
        let keyed = Keyed { key: key.hash(checkout.tenant), fingerprint: Fingerprint::of(&checkout.request) };
        // Every key that was ever bound is in the filter, so a new one asks neither the hot tier nor the ledger.
        if self.filter_complete && !self.filter.may_contain(keyed.key.indexed()) {
            return self.decide(checkout, Some(keyed), reply, cx).await;
        }
        let used = match self.stock.key_use(checkout.tenant, keyed.key).await {
            Ok(used) => used,
            Err(error) => return self.hold(error, Msg::Checkout(checkout, reply)),
        };
        if let Some(used) = used {
            if used.fingerprint == keyed.fingerprint {
                self.repeat(&checkout, used.sale, reply, cx);
            } else {
                reply.send(Err(Denied::KeyReused));
            }
            return Ok(());
        }
        let key = key.clone();
        self.look_up(checkout, key, reply, cx);
        Ok(())
    }

    /// Asks the ledger what it knows of a key.
    fn look_up(
        &mut self,
        checkout: Box<Checkout>,
        key: IdempotencyKey,
        reply: Reply<CheckoutResult>,
        cx: &mut Cx<Self>,
    ) {
        self.counts.key_lookups += 1;
        let (ledger, tenant, as_of) = (self.ports.ledger.clone(), checkout.tenant, self.forgettings);
        let look = async move { ledger.sale_by_key(tenant, key.hash(tenant).indexed(), key.as_str()).await };
        cx.pipe(look, move |found| Msg::KeyLooked { checkout, reply, found, as_of });
    }

    /// The ledger's word about a key.
    pub(super) async fn key_looked(
        &mut self,
        checkout: Box<Checkout>,
        reply: Reply<CheckoutResult>,
        found: Result<Option<StoredSale>, PortError>,
        as_of: u64,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let fingerprint = Fingerprint::of(&checkout.request);
        match found {
            Err(error) => reply.send(Err(error.into())),
            Ok(Some(stored)) if stored.fingerprint == Some(fingerprint) => self.replay_stored(stored, reply),
            Ok(Some(_)) => reply.send(Err(Denied::KeyReused)),
            // The key may have been used, written and forgotten here since the ledger was asked.
            Ok(None) if as_of != self.forgettings => {
                if let Some(key) = checkout.key.clone() {
                    self.look_up(checkout, key, reply, cx);
                }
            }
            Ok(None) => {
                let key = checkout.key.as_ref().map(|key| key.hash(checkout.tenant));
                let keyed = key.map(|key| Keyed { key, fingerprint });
                self.decide(checkout, keyed, reply, cx).await?;
            }
        }
        Ok(())
    }

    /// Rules, price, stock. What is reserved here is answered when its event is durable.
    async fn decide(
        &mut self,
        checkout: Box<Checkout>,
        keyed: Option<Keyed>,
        reply: Reply<CheckoutResult>,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let tenant = checkout.tenant;
        let state = match self.active(tenant) {
            Ok(state) => state,
            Err(denied) => {
                reply.send(Err(denied));
                return Ok(());
            }
        };
        let id = SaleId(Uuid::now_v7());
        let priced =
            price(&checkout.request, id, &state.catalogue, &state.locations, self.settings.max_quantity);
        let sale = match priced {
            Ok(sale) => sale,
            Err(refusal) => {
                self.counts.refused += 1;
                self.metrics.refused.increment(1);
                reply.send(Err(Denied::Refused(Box::new(refusal))));
                return Ok(());
            }
        };
        let reserve = Reserve { sale: id, location: sale.location, demand: sale.demand(), keyed };
        let candidate = Candidate { checkout, sale, reserve, reply };
        if self.stock.is_far() {
            self.gather(candidate, cx);
            return Ok(());
        }
        match self.stock.reserve(tenant, &candidate.reserve).await {
            Ok(outcome) => self.conclude(candidate, outcome, cx),
            Err(error) => self.hold(error, candidate.asked()),
        }
    }

    /// What becomes of a sale once the hot tier has spoken.
    pub(super) fn conclude(
        &mut self,
        candidate: Candidate,
        outcome: Outcome,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let Candidate { checkout, sale, reserve, reply } = candidate;
        match outcome {
            Outcome::Reserved => self.reserved(*checkout, sale, reserve.keyed, reply, cx),
            Outcome::Short(shortages) => {
                self.counts.short += 1;
                self.metrics.short.increment(1);
                reply.send(Err(Denied::Short(self.describe(&sale, &shortages))));
            }
            Outcome::Repeated(sale) => self.repeat(&checkout, sale, reply, cx),
            Outcome::KeyReused => reply.send(Err(Denied::KeyReused)),
            // Pricing lets only positive quantities through, so this is a fault in the engine, not in the request.
            Outcome::Invalid(unit) => {
                return Err(Fault::new(format!("demand for unit {unit} is not positive")));
            }
        }
        Ok(())
    }

    fn reserved(
        &mut self,
        checkout: Checkout,
        sale: Sale,
        keyed: Option<Keyed>,
        reply: Reply<CheckoutResult>,
        cx: &mut Cx<Self>,
    ) {
        if let Some(keyed) = keyed {
            self.filter.insert(keyed.key.indexed());
        }
        let at = self.moment(checkout.tenant);
        let Checkout { tenant, key, caller, .. } = checkout;
        let keyed = key.zip(keyed.map(|keyed| keyed.fingerprint));
        let body = Body::SaleCreated { sale, keyed };
        self.record(Draft { tenant, at, caller, body, done: Done::Sale(reply) }, cx);
    }

    /// The same request again: the same answer, from wherever the sale is by now.
    fn repeat(&mut self, checkout: &Checkout, sale: SaleId, reply: Reply<CheckoutResult>, cx: &mut Cx<Self>) {
        let tenant = checkout.tenant;
        if let Some(event) = self.tenants.get(&tenant).and_then(|state| state.recent(sale)) {
            let (event, at) = (event.clone(), event.at);
            self.replayed();
            reply.send(Ok(Sold { sale: SoldSale::Recent(event), at, replayed: true }));
            return;
        }
        if self.is_under_way(sale) {
            self.joined.entry(sale).or_default().push(reply);
            return;
        }
        self.replayed();
        let ledger = self.ports.ledger.clone();
        cx.pipe(async move { reply.send(from_ledger(ledger.sale(tenant, sale).await)) }, |()| Msg::Flush);
    }

    fn replay_stored(&mut self, stored: StoredSale, reply: Reply<CheckoutResult>) {
        self.replayed();
        reply.send(from_ledger(Ok(Some(stored))));
    }

    fn replayed(&mut self) {
        self.counts.replayed += 1;
        self.metrics.replayed.increment(1);
    }

    fn is_under_way(&self, sale: SaleId) -> bool {
        let is_it = |body: &Body| matches!(body, Body::SaleCreated { sale: other, .. } if other.id == sale);
        self.under_way.iter().flat_map(|batch| &batch.sent).any(|sent| is_it(&sent.event.body))
            || self.outbox.iter().any(|draft| is_it(&draft.body))
    }

    /// Shortages with the names a cashier reads.
    fn describe(&self, sale: &Sale, shortages: &[Shortage]) -> Vec<ShortLine> {
        let line = |short: &Shortage| {
            let sold = sale.lines.iter().find(|line| line.unit == short.unit);
            let text =
                |field: fn(&crate::domain::sale::SaleLine) -> Arc<str>| sold.map_or_else(|| "".into(), field);
            ShortLine {
                unit: short.unit,
                sku: text(|line| line.sku.clone()),
                name: text(|line| line.name.clone()),
                asked: short.asked,
                available: short.available,
            }
        };
        shortages.iter().map(line).collect()
    }

    /// A change of the tenant's catalogue is over, one way or the other.
    pub(super) fn end_change(&mut self, tenant: crate::domain::ids::TenantId) {
        if let Some(state) = self.tenants.get_mut(&tenant) {
            (state.changing, state.following) = (false, false);
        }
    }
}

fn from_ledger(found: Result<Option<StoredSale>, PortError>) -> CheckoutResult {
    match found? {
        Some(stored) => {
            let at = stored.at;
            Ok(Sold { sale: SoldSale::Stored(Arc::new(stored)), at, replayed: true })
        }
        // The key says that the sale is durable, so the ledger is about to have it: asking again will find it.
        None => Err(Denied::Port(PortError::Transient("the sale is not in the ledger yet".into()))),
    }
}

//! Changing a tenant: creation, imports. A change is part of the state once its events are durable, not before.

use super::{Caller, Delivery, Denied, Done, Draft, Msg, NewTenant, Reservation, TenantState};
use crate::actors::kit::{Cx, Fault, Reply};
use crate::domain::catalogue::Lookup;
use crate::domain::decimal::Quantity;
use crate::domain::event::{Body, Event, MAX_MOVEMENT, Movement};
use crate::domain::ids::TenantId;
use crate::domain::import::{Import, ImportCounts, plan};
use crate::domain::stock::Place;
use crate::domain::tenant::Tenant;
use crate::ports::PortError;
use crate::ports::ledger::{KeyCursor, KeyPage};
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// A place with more than this takes no delivery: half of what a quantity can be, so that what is under way at the
/// same moment cannot reach the bound.
pub(super) const FULL: Quantity = match Quantity::from_units(crate::domain::decimal::MAX_UNITS / 2) {
    Some(quantity) => quantity,
    None => Quantity::ZERO,
};

/// Movements of one delivery at most.
const MOST_MOVEMENTS: usize = 5_000;

impl Reservation {
    pub(super) fn create_tenant(
        &mut self,
        new: NewTenant,
        caller: Caller,
        reply: Reply<Result<Tenant, Denied>>,
        cx: &mut Cx<Self>,
    ) {
        // A second creation must not start over what was sold meanwhile.
        if let Some(state) = self.tenants.get(&new.tenant.id) {
            reply.send(Ok(state.tenant.clone()));
            return;
        }
        let (tenant, at) = (new.tenant, self.ports.clock.now());
        let done = Done::Tenant(reply, Box::new(tenant.clone()));
        let id = tenant.id;
        let body = Body::TenantCreated { tenant, locations: new.locations };
        self.record(Draft { tenant: id, at, caller, body, done }, cx);
    }

    pub(super) async fn import(
        &mut self,
        tenant: TenantId,
        import: Import,
        caller: Caller,
        reply: Reply<Result<ImportCounts, Denied>>,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let state = match self.active(tenant) {
            Ok(state) if state.following => {
                self.parked.push(Msg::Import { tenant, import: Box::new(import), caller, reply });
                return Ok(());
            }
            Ok(state) if state.changing => Err(Denied::ChangeUnderWay),
            other => other,
        };
        let state = match state {
            Ok(state) => state,
            Err(denied) => {
                reply.send(Err(denied));
                return Ok(());
            }
        };
        let levels = match self.stock.levels(tenant).await {
            Ok(levels) => levels,
            Err(error) => {
                return self.hold(error, Msg::Import { tenant, import: Box::new(import), caller, reply });
            }
        };
        let stocked: HashSet<Place> = levels.into_iter().map(|(place, _)| place).collect();
        let has_stock = |place| stocked.contains(&place);
        let plan = match plan(&import, &state.catalogue, &state.locations, has_stock, Uuid::now_v7) {
            Ok(plan) => plan,
            Err(problem) => {
                reply.send(Err(problem.into()));
                return Ok(());
            }
        };
        let mut bodies = plan.bodies;
        let Some(last) = bodies.pop() else {
            reply.send(Ok(plan.counts));
            return Ok(());
        };
        let at = self.moment(tenant);
        if let Some(state) = self.tenants.get_mut(&tenant) {
            state.changing = true;
        }
        for body in bodies {
            self.record(Draft { tenant, at, caller: caller.clone(), body, done: Done::Part }, cx);
        }
        let done = Done::Import(reply, plan.counts);
        self.record(Draft { tenant, at, caller, body: last, done }, cx);
        Ok(())
    }

    pub(super) async fn receive(
        &mut self,
        tenant: TenantId,
        delivery: Delivery,
        caller: Caller,
        reply: Reply<Result<(), Denied>>,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let mut checked = self.active(tenant).and_then(|state| check_delivery(state, &delivery));
        for moved in &delivery.movements {
            if checked.is_err() {
                break;
            }
            let level = match self.stock.check(tenant, (moved.unit, moved.location)).await {
                Ok(level) => level.unwrap_or_default(),
                Err(error) => return self.hold(error, Msg::Receive { tenant, delivery, caller, reply }),
            };
            if level.on_hand > FULL {
                checked = Err(Denied::Delivery(format!("there is too much of unit {} already", moved.unit)));
            }
        }
        if let Err(denied) = checked {
            reply.send(Err(denied));
            return Ok(());
        }
        let at = self.moment(tenant);
        let Delivery { kind, reference, movements } = delivery;
        let body = Body::StockMoved { kind, reference, movements };
        self.record(Draft { tenant, at, caller, body, done: Done::Delivery(reply) }, cx);
        Ok(())
    }

    /// Makes a durable event that is no sale part of the state.
    pub(super) async fn take_in(&mut self, event: &Arc<Event>) -> Result<(), Fault> {
        match &event.body {
            Body::TenantCreated { tenant, locations } => {
                if let Err(error) = self.stock.load(tenant.id, Vec::new()).await {
                    self.lose(error)?;
                }
                let unbooked = self.ports.unbooked.clone();
                let state = TenantState::new(tenant.clone(), locations.clone(), unbooked);
                self.tenants.insert(tenant.id, state);
            }
            Body::SaleVoided { .. } | Body::StockMoved { .. } | Body::ErpFollowed(_) => {
                // What an ERP took was held before, and has gone with its hold.
                let comes = |moved: &Movement| {
                    moved.delta > Quantity::ZERO || !matches!(event.body, Body::ErpFollowed(_))
                };
                let movements: Vec<_> = event
                    .movements()
                    .filter(comes)
                    .map(|moved| ((moved.unit, moved.location), moved.delta))
                    .collect();
                let fits = match self.stock.moved(event.tenant, &movements).await {
                    Ok(fits) => fits,
                    Err(error) => self.lose(error).map(|()| true)?,
                };
                if !fits {
                    return Err(PortError::Permanent(
                        "a stock movement leaves the bounds of a quantity".into(),
                    )
                    .into());
                }
            }
            _ => {}
        }
        if let Some(state) = self.tenants.get_mut(&event.tenant) {
            change_catalogue(state, &event.body);
            state.keep_until_in_ledger(event);
        }
        Ok(())
    }

    /// Asks the ledger for the next page of its keys.
    pub(super) fn load_filter(&mut self, after: Option<KeyCursor>, cx: &mut Cx<Self>) {
        const PAGE: usize = 20_000;
        let (ledger, generation) = (self.ports.ledger.clone(), self.generation);
        let page = async move { ledger.key_hashes(after, PAGE).await };
        cx.pipe(page, move |page| Msg::KnownKeys { generation, page });
    }

    pub(super) fn known_keys(&mut self, page: Result<KeyPage, PortError>, cx: &mut Cx<Self>) {
        match page {
            Ok(page) => {
                page.hashes.iter().for_each(|key| self.filter.insert(*key));
                match page.next {
                    Some(next) => self.load_filter(Some(next), cx),
                    None => self.filter_complete = true,
                }
            }
            // Without the filter every new key is looked up, which is slower and just as right.
            Err(error) => tracing::warn!(%error, "the keys of the ledger could not be read"),
        }
    }
}

fn check_delivery(state: &TenantState, delivery: &Delivery) -> Result<(), Denied> {
    let refuse = |why: String| Err(Denied::Delivery(why));
    if delivery.movements.is_empty() || delivery.movements.len() > MOST_MOVEMENTS {
        return refuse(format!("it must have 1 to {MOST_MOVEMENTS} movements"));
    }
    let mut places = HashSet::new();
    for moved in &delivery.movements {
        if moved.delta <= Quantity::ZERO || moved.delta > MAX_MOVEMENT {
            return refuse(format!("{} of unit {} is not above zero or too much", moved.delta, moved.unit));
        }
        if !places.insert((moved.unit, moved.location)) {
            return refuse(format!("unit {} stands twice for one location", moved.unit));
        }
        let known = matches!(state.catalogue.find(moved.unit.0), Lookup::Unit(unit) if unit.kind.has_stock());
        if !known || !state.locations.iter().any(|location| location.id == moved.location) {
            return refuse(format!("unit {} or location {} is unknown", moved.unit, moved.location));
        }
    }
    Ok(())
}

/// The part of an event that changes catalogue or locations.
pub(super) fn change_catalogue(state: &mut TenantState, body: &Body) {
    match body {
        Body::LocationsAdded { locations } => state.locations.extend(locations.iter().cloned()),
        Body::ProductsUpserted { units } => {
            units.iter().for_each(|unit| state.catalogue.upsert(unit.clone()))
        }
        Body::ErpFollowed(change) => state.take_erp(change),
        Body::TenantCreated { .. }
        | Body::SaleCreated { .. }
        | Body::SaleVoided { .. }
        | Body::StockMoved { .. } => {}
    }
}

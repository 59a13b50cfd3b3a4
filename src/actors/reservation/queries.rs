//! Reading: what a till, a stock screen or the checker asks.

use super::{
    Available, Denied, HotSnapshot, Msg, ProductPage, Reservation, SaleState, Scanned, SoldSale, UnitStock,
};
use crate::actors::kit::{Cx, Fault, Reply};
use crate::domain::catalogue::{Catalogue, Lookup, Unit};
use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::stock::{Level, Place};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Places that are asked for one by one at most.
const ASKED_SINGLY: usize = 32;

impl Reservation {
    pub(super) async fn answer(&mut self, query: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match query {
            Msg::Scan { tenant, code, location, reply } => match self.scan(tenant, &code, location).await {
                Err(Denied::Port(error)) => {
                    self.hold(error, Msg::Scan { tenant, code, location, reply })?;
                }
                answer => reply.send(answer),
            },
            Msg::Stock { tenant, product, reply } => match self.stock_of(tenant, product).await {
                Err(Denied::Port(error)) => self.hold(error, Msg::Stock { tenant, product, reply })?,
                answer => reply.send(answer),
            },
            Msg::Available { tenant, units, locations, reply } => {
                match self.available(tenant, &units, &locations).await {
                    Err(Denied::Port(error)) => {
                        self.hold(error, Msg::Available { tenant, units, locations, reply })?;
                    }
                    answer => reply.send(answer),
                }
            }
            Msg::Units { tenant, reply } => {
                reply.send(self.active(tenant).map(|state| state.catalogue.units().to_vec()));
            }
            Msg::FindSale { tenant, sale, reply } => self.find_sale(tenant, sale, reply, cx),
            Msg::Products { tenant, page, reply } => {
                reply.send(self.active(tenant).map(|state| products(&state.catalogue, &page)));
            }
            Msg::Locations { tenant, reply } => {
                reply.send(self.active(tenant).map(|state| state.locations.clone()))
            }
            Msg::ErpStates { tenant, reply } => reply.send(self.erp_states(tenant)),
            Msg::ErpRows { tenant, source, reply } => reply.send(self.erp_rows(tenant, &source)),
            Msg::Tenants(reply) => {
                let mut tenants: Vec<_> = self.tenants.values().map(|state| state.tenant.clone()).collect();
                tenants.sort_by_key(|tenant| tenant.id);
                reply.send(tenants);
            }
            Msg::Snapshot { tenant, reply } => match self.snapshot(tenant).await {
                Err(Denied::Port(error)) => self.hold(error, Msg::Snapshot { tenant, reply })?,
                answer => reply.send(answer),
            },
            _ => {}
        }
        Ok(())
    }

    async fn scan(
        &self,
        tenant: TenantId,
        code: &str,
        location: Option<LocationId>,
    ) -> Result<Option<Scanned>, Denied> {
        let state = self.active(tenant)?;
        let Some(unit) = state.catalogue.scan(code).filter(|unit| unit.active) else { return Ok(None) };
        let default = state.locations.iter().find(|place| place.is_default).map(|place| place.id);
        let mut available = crate::domain::decimal::Quantity::ZERO;
        if let Some(location) = location.or(default) {
            available = self.level(tenant, (unit.id, location)).await?.0;
        }
        Ok(Some(Scanned { unit: unit.clone(), available }))
    }

    async fn stock_of(&self, tenant: TenantId, product: Uuid) -> Result<Option<UnitStock>, Denied> {
        let state = self.active(tenant)?;
        let unit = match state.catalogue.find(product) {
            Lookup::Unit(unit) => unit,
            Lookup::Unknown | Lookup::SeveralVariants(_) => return Ok(None),
        };
        let mut places = Vec::with_capacity(state.locations.len());
        for location in &state.locations {
            let (available, reserved) = self.level(tenant, (unit.id, location.id)).await?;
            places.push((location.clone(), available, reserved));
        }
        Ok(Some(UnitStock { unit: unit.clone(), places }))
    }

    async fn available(
        &self,
        tenant: TenantId,
        units: &[UnitId],
        locations: &[LocationId],
    ) -> Result<Available, Denied> {
        let state = self.active(tenant)?;
        let settled = state.settled;
        let wanted = |place: &LocationId| locations.is_empty() || locations.contains(place);
        let places: Vec<LocationId> =
            state.locations.iter().map(|location| location.id).filter(wanted).collect();
        // A few are asked for one by one; of many, everything at once is cheaper.
        let levels = match units.len() * places.len() > ASKED_SINGLY {
            true => Some(self.stock.levels(tenant).await?.into_iter().collect::<HashMap<Place, Level>>()),
            false => None,
        };
        let mut found = Vec::with_capacity(units.len());
        for unit in units {
            let mut sum = Quantity::ZERO;
            // What is not for sale here is offered nowhere.
            if state.catalogue.unit(*unit).is_some_and(|unit| !unit.active) {
                found.push((*unit, sum));
                continue;
            }
            for place in &places {
                let level = match &levels {
                    Some(levels) => levels.get(&(*unit, *place)).copied(),
                    None => self.stock.check(tenant, (*unit, *place)).await?,
                };
                sum = sum.checked_add(level.unwrap_or_default().available()).unwrap_or(sum);
            }
            found.push((*unit, sum));
        }
        Ok(Available { settled, units: found })
    }

    async fn level(
        &self,
        tenant: TenantId,
        place: Place,
    ) -> Result<(crate::domain::decimal::Quantity, crate::domain::decimal::Quantity), Denied> {
        let level = self.stock.check(tenant, place).await?.unwrap_or_default();
        Ok((level.available(), level.reserved))
    }

    fn find_sale(
        &mut self,
        tenant: TenantId,
        sale: SaleId,
        reply: Reply<Result<Option<SaleState>, Denied>>,
        cx: &mut Cx<Self>,
    ) {
        let state = match self.active(tenant) {
            Ok(state) => state,
            Err(denied) => return reply.send(Err(denied)),
        };
        if let Some(event) = state.recent(sale) {
            let (sold, at, voided) = (SoldSale::Recent(event.clone()), event.at, state.recent_void(sale));
            return reply.send(Ok(Some(SaleState { sale: sold, at, in_ledger: false, voided })));
        }
        let (ledger, voided) = (self.ports.ledger.clone(), state.recent_void(sale));
        let look = async move {
            let found = ledger.sale(tenant, sale).await.map_err(Denied::from);
            let state = |stored: crate::ports::ledger::StoredSale| SaleState {
                at: stored.at,
                voided: stored.voided.or(voided),
                sale: SoldSale::Stored(Arc::new(stored)),
                in_ledger: true,
            };
            reply.send(found.map(|stored| stored.map(state)));
        };
        cx.pipe(look, |()| Msg::Flush);
    }

    async fn snapshot(&self, tenant: TenantId) -> Result<HotSnapshot, Denied> {
        let state = self.tenants.get(&tenant).ok_or(Denied::UnknownTenant)?;
        let levels = self.stock.levels(tenant).await?;
        let on_hand = levels.into_iter().map(|(place, level)| (place, level.on_hand)).collect();
        Ok(HotSnapshot { sequence: state.settled, on_hand })
    }
}

fn products(catalogue: &Catalogue, page: &ProductPage) -> Vec<Vec<Arc<Unit>>> {
    let search = page.search.as_ref().map(|text| text.to_lowercase());
    let fits = |unit: &Arc<Unit>| {
        page.active.is_none_or(|active| unit.active == active)
            && page.category.as_ref().is_none_or(|wanted| unit.category.as_deref() == Some(wanted.as_str()))
            && search.as_ref().is_none_or(|text| {
                unit.name.to_lowercase().contains(text) || unit.base_sku.to_lowercase().contains(text)
            })
    };
    let units = |product| catalogue.variants(product).cloned().collect::<Vec<_>>();
    let fitting =
        catalogue.products().iter().map(|product| units(*product)).filter(|units| units.iter().any(fits));
    fitting.skip(page.skip).take(page.limit).collect()
}

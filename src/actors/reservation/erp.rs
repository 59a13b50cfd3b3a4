//! Taking in what was read from an ERP: decided here like a sale, so that no difference takes units that are sold or
//! held, and part of the state once its event is durable.

use super::{Caller, Denied, Done, Draft, ErpState, Msg, Reservation, TenantState};
use crate::actors::kit::{Cx, Fault, Reply};
use crate::domain::decimal::Quantity;
use crate::domain::erp::{ErpChange, Follow, Followed, Following, Plan};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::reservation::{Outcome, Reserve};
use crate::domain::stock::Place;
use crate::ports::PortError;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

impl Reservation {
    pub(super) async fn follow(
        &mut self,
        tenant: TenantId,
        follow: Box<Follow>,
        caller: Caller,
        reply: Reply<Result<Followed, Denied>>,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let again = |follow, caller, reply| Msg::Follow { tenant, follow, caller, reply };
        let state = match self.active(tenant) {
            // The differences are those to the last reading: it has to be durable before the next is looked at.
            Ok(state) if state.changing => {
                self.parked.push(again(follow, caller, reply));
                return Ok(());
            }
            Ok(state) => state,
            Err(denied) => {
                reply.send(Err(denied));
                return Ok(());
            }
        };
        let nothing = Following::default();
        let following = state.erp.get(&follow.source).unwrap_or(&nothing);
        let mut levels: HashMap<Place, Quantity> = HashMap::new();
        if follow.needs_levels(following, &state.catalogue) {
            match self.stock.levels(tenant).await {
                Ok(all) => levels.extend(all.into_iter().map(|(place, level)| (place, level.on_hand))),
                Err(error) => return self.hold(error, again(follow, caller, reply)),
            }
        }
        let on_hand = |place| levels.get(&place).copied();
        let mut plan =
            Plan::new(&follow, following, &state.catalogue, &state.locations, on_hand, Uuid::now_v7);
        let mut holds = Vec::new();
        for (location, demand) in plan.demand() {
            match self.stock_up_to(tenant, location, demand, &mut plan).await {
                Ok(held) => holds.extend(held),
                // What was held until here goes with the tier.
                Err(error) => return self.hold(error, again(follow, caller, reply)),
            }
        }
        let Some(state) = self.tenants.get(&tenant) else { return Ok(()) };
        let following = state.erp.get(&follow.source).unwrap_or(&nothing);
        let reference = format!("LEGACY_{}_{}", follow.source, Uuid::now_v7()).into();
        let (mut bodies, mut followed) = plan.finish(following, reference);
        // Whoever pushes reads it in the answer; a poll has many lines, and nobody who reads them.
        if follow.batch.only_newer {
            for line in &mut followed.lines {
                let Some(place) = line.place else { continue };
                match self.stock.check(tenant, place).await {
                    Ok(level) => line.before = level.unwrap_or_default().on_hand,
                    Err(error) => return self.hold(error, again(follow, caller, reply)),
                }
            }
        }
        let Some(last) = bodies.pop() else {
            reply.send(Ok(followed));
            return Ok(());
        };
        let at = self.moment(tenant);
        if let Some(state) = self.tenants.get_mut(&tenant) {
            (state.changing, state.following) = (true, true);
        }
        for body in bodies {
            self.record(Draft { tenant, at, caller: caller.clone(), body, done: Done::Part }, cx);
        }
        let done = Done::Followed { reply, followed: Box::new(followed), holds };
        self.record(Draft { tenant, at, caller, body: last, done }, cx);
        Ok(())
    }

    /// Holds what the ERP took, as far as it is still here; the plan hears of what is not.
    async fn stock_up_to(
        &mut self,
        tenant: TenantId,
        location: LocationId,
        demand: Vec<(UnitId, Quantity)>,
        plan: &mut Plan,
    ) -> Result<Option<SaleId>, PortError> {
        let mut command = Reserve { sale: SaleId(Uuid::now_v7()), location, demand, keyed: None };
        // Whoever else sells from the same stock may take some between two tries; each leaves less to ask for.
        while !command.demand.is_empty() {
            match self.stock.reserve(tenant, &command).await? {
                Outcome::Reserved => return Ok(Some(command.sale)),
                Outcome::Short(short) => {
                    for shortage in short {
                        let granted = shortage.available.max(Quantity::ZERO);
                        plan.grant((shortage.unit, location), granted);
                        command.demand.retain_mut(|(unit, asked)| {
                            if *unit == shortage.unit {
                                *asked = granted;
                            }
                            *asked > Quantity::ZERO
                        });
                    }
                }
                other => {
                    return Err(PortError::Permanent(format!("holding what an ERP took: {other:?}")));
                }
            }
        }
        Ok(None)
    }

    /// What was held for an ERP is free again: its event was not recorded.
    pub(super) async fn void_holds(&mut self, tenant: TenantId, holds: &[SaleId]) -> Result<(), Fault> {
        for hold in holds {
            if let Err(error) = self.stock.void(tenant, *hold).await {
                self.lose(error)?;
            }
        }
        Ok(())
    }

    /// Lets in who waited for a change that is decided now.
    pub(super) fn unpark(&mut self, cx: &mut Cx<Self>) {
        if self.parked.is_empty() {
            return;
        }
        for msg in std::mem::take(&mut self.parked) {
            let waits = matches!(&msg, Msg::Follow { tenant, .. } | Msg::Import { tenant, .. }
                if self.tenants.get(tenant).is_some_and(|state| state.changing));
            if waits {
                self.parked.push(msg);
            } else {
                cx.notify(msg);
            }
        }
    }

    pub(super) fn erp_states(&self, tenant: TenantId) -> Result<Vec<ErpState>, Denied> {
        let state = self.active(tenant)?;
        let mut states: Vec<ErpState> = state
            .erp
            .iter()
            .map(|(source, following)| ErpState {
                source: source.clone(),
                cursor: following.cursor().cloned(),
                balances: following.len(),
                held: following.held(),
            })
            .collect();
        states.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(states)
    }

    pub(super) fn erp_rows(&self, tenant: TenantId, source: &str) -> Result<Vec<i64>, Denied> {
        let state = self.active(tenant)?;
        let mut rows: Vec<i64> =
            state.erp.get(source).map_or(Vec::new(), |following| following.rows().collect());
        rows.sort_unstable();
        Ok(rows)
    }
}

impl TenantState {
    /// Takes in what an event says of an ERP.
    pub fn take_erp(&mut self, change: &ErpChange) {
        let following = self.erp.entry(Arc::clone(&change.source)).or_default();
        change.entries.iter().for_each(|entry| following.apply(entry));
    }
}

//! Taking a sale back: once, all of it, whoever asks and however often.

use super::catalogue::FULL;
use super::{Denied, Done, Draft, Msg, Reservation, Void, Voided};
use crate::actors::kit::{Cx, Fault, Reply};
use crate::domain::event::{Body, Movement};
use crate::domain::ids::TenantId;
use crate::domain::sale::Sale;
use crate::ports::PortError;
use crate::ports::ledger::StoredSale;

/// Who waits for a sale to be taken back.
pub type VoidReply = Reply<Result<Voided, Denied>>;

impl Reservation {
    /// A request as it comes in. A sale that is not in memory is looked up in the ledger first.
    pub(super) async fn void_sale(
        &mut self,
        void: Box<Void>,
        reply: VoidReply,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let Some(reply) = self.known_void(&void, reply) else { return Ok(()) };
        let recent = self.tenants.get(&void.tenant).and_then(|state| state.recent(void.sale)).cloned();
        match recent.as_ref().map(|event| &event.body) {
            Some(Body::SaleCreated { sale, .. }) => self.decide_void(void, sale, reply, cx).await,
            _ => {
                self.look_up_sale(void, reply, cx);
                Ok(())
            }
        }
    }

    /// The ledger's word about the sale.
    pub(super) async fn void_looked(
        &mut self,
        void: Box<Void>,
        reply: VoidReply,
        found: Result<Option<StoredSale>, PortError>,
        as_of: u64,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let Some(reply) = self.known_void(&void, reply) else { return Ok(()) };
        match found {
            Err(error) => reply.send(Err(error.into())),
            Ok(None) => reply.send(Err(Denied::UnknownSale)),
            Ok(Some(StoredSale { voided: Some(at), .. })) => {
                reply.send(Ok(Voided { sale: void.sale, at, replayed: true }));
            }
            // It may have been taken back, written and forgotten here since the ledger was asked.
            Ok(Some(_)) if as_of != self.voids_forgotten(void.tenant) => self.look_up_sale(void, reply, cx),
            Ok(Some(stored)) => return self.decide_void(void, &stored.sale, reply, cx).await,
        }
        Ok(())
    }

    /// Answers, or joins the wait, if the sale is being or was just taken back; gives the reply back otherwise.
    fn known_void(&mut self, void: &Void, reply: VoidReply) -> Option<VoidReply> {
        let state = match self.active(void.tenant) {
            Ok(state) => state,
            Err(denied) => {
                reply.send(Err(denied));
                return None;
            }
        };
        if let Some(at) = state.recent_void(void.sale) {
            reply.send(Ok(Voided { sale: void.sale, at, replayed: true }));
            return None;
        }
        match self.voiding.get_mut(&void.sale) {
            Some(waiting) => {
                waiting.push(reply);
                None
            }
            None => Some(reply),
        }
    }

    fn look_up_sale(&mut self, void: Box<Void>, reply: VoidReply, cx: &mut Cx<Self>) {
        let (ledger, as_of) = (self.ports.ledger.clone(), self.voids_forgotten(void.tenant));
        let (tenant, sale) = (void.tenant, void.sale);
        cx.pipe(async move { ledger.sale(tenant, sale).await }, move |found| Msg::VoidLooked {
            void,
            reply,
            found,
            as_of,
        });
    }

    fn voids_forgotten(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |state| state.voids_forgotten)
    }

    async fn decide_void(
        &mut self,
        void: Box<Void>,
        sale: &Sale,
        reply: VoidReply,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let lines = sale.lines.iter().filter(|line| line.has_stock);
        let movements: Vec<Movement> = lines
            .map(|line| Movement { unit: line.unit, location: sale.location, delta: line.quantity })
            .collect();
        for moved in &movements {
            let level = match self.stock.check(void.tenant, (moved.unit, moved.location)).await {
                Ok(level) => level.unwrap_or_default(),
                Err(error) => return self.hold(error, Msg::Void(void, reply)),
            };
            if level.on_hand > FULL {
                let why = format!("there is too much of unit {} already", moved.unit);
                reply.send(Err(Denied::Delivery(why)));
                return Ok(());
            }
        }
        let at = self.moment(void.tenant);
        let Void { tenant, sale, reason, caller } = *void;
        self.voiding.insert(sale, Vec::new());
        let body = Body::SaleVoided { sale, reason, movements };
        self.record(Draft { tenant, at, caller, body, done: Done::Void(reply) }, cx);
        Ok(())
    }
}

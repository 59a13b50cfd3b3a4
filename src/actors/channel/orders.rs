//! Orders that were placed there take stock here, under the same laws as a till's sales.

use super::jobs::Job;
use super::{Channel, GRACE, Kind, later};
use crate::actors::kit::{Cx, Fault};
use crate::actors::reservation::{Caller, Checkout, Denied, Void};
use crate::domain::channel::order::{Demand, Order, OrderState};
use crate::domain::channel::{ChannelKind, Refused};
use crate::domain::decimal::Quantity;
use crate::domain::hook::Message;
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::ids::{LocationId, SaleId, UnitId};
use crate::domain::sale::{PaymentMethod, RequestedLine, SaleRequest};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{GivenUp, Missed, News, Notice, OrderRecord, Settled};
use std::sync::Arc;

/// What came of an order here.
pub struct Taken {
    pub notice: Notice,
    pub record: Option<OrderRecord>,
    /// Whether nothing was known of the order before, or something else.
    pub is_news: bool,
    /// What webhooks are told.
    pub told: Vec<Message>,
    /// Units that the order took, there as well: they show less by as much already.
    pub sold: Vec<(UnitId, i64)>,
}

impl<K: Kind> Channel<K> {
    /// A notice that was read.
    pub(super) fn told(&mut self, notice: Notice, news: News, cx: &mut Cx<Self>) {
        self.taking = true;
        match news {
            News::Nothing => self.settle(Taken::nothing(notice), cx),
            News::Level(item) => {
                match self.units.get(&item) {
                    // What we wrote ourselves is told as well: reading it finds no difference.
                    Some(unit) => self.jobs.push_front(Job::Read { units: vec![*unit], lost: false }),
                    None => self.counts.echoes += 1,
                }
                self.settle(Taken::nothing(notice), cx);
            }
            News::Order(order) => {
                let demand = order.demand(|item| self.units.get(item).copied());
                let taking = Taking {
                    store: self.ports.store.clone(),
                    shards: self.ports.shards.clone(),
                    tenant: self.connection.tenant,
                    connection: self.connection.id,
                    kind: self.connection.kind,
                    sources: self.connection.sources.clone(),
                    now: self.now(),
                };
                let take = async move { taking.take(notice, order, demand).await };
                cx.pipe(take, super::Msg::Taken);
            }
        }
    }

    /// News that nobody could deliver, taken in like any other: what came after all is known by its id.
    pub(super) async fn take_missed(&mut self, missed: Vec<Missed>, cx: &mut Cx<Self>) -> Result<(), Fault> {
        let (tenant, id, at) = (self.connection.tenant, self.connection.id, self.now());
        for Missed { id: news, topic, body } in missed {
            let notice = Notice { id: news, topic, body, at };
            self.news_due |= self.ports.store.receive(tenant, id, &notice).await?;
        }
        if self.news_due {
            self.look_for_news(cx);
        }
        Ok(())
    }

    /// What became of an order is known: it is kept, and the notice is done.
    pub(super) async fn taken(
        &mut self,
        taken: Result<Taken, PortError>,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        match taken {
            Ok(taken) => {
                if let Some(record) = &taken.record {
                    self.counts.orders += 1;
                    if record.state == SHORT && taken.is_news {
                        self.counts.oversold += 1;
                        self.metrics.oversold.increment(1);
                    }
                }
                self.settle(taken, cx);
            }
            // The notice is still at rest: it comes again.
            Err(error) => {
                (self.taking, self.in_hand) = (false, None);
                tracing::warn!(%error, connection = %self.connection.id, "an order cannot be taken in now");
                cx.notify_after(self.delays.next_delay(), super::Msg::News);
            }
        }
        self.work(cx);
        Ok(())
    }

    fn settle(&mut self, taken: Taken, cx: &mut Cx<Self>) {
        let (store, tenant, id) = (self.ports.store.clone(), self.connection.tenant, self.connection.id);
        let now = self.now();
        // The marketplace lowered what it shows by itself: pushing the same again would be our own echo.
        let mut shown = Vec::new();
        for (unit, quantity) in &taken.sold {
            if let Some(before) = self.board.shown(*unit) {
                let after = before.saturating_sub(*quantity);
                self.board.show(*unit, Some(after), now);
                // What should be shown is asked for anew; until then it must not be raised to what it was before.
                self.board.wait_before_raising(*unit, later(now, GRACE));
                shown.push((*unit, Some(after)));
            }
        }
        // Whether a read that came in between had seen it taken off already is not known: it is read again.
        let units: Vec<UnitId> = shown.iter().map(|(unit, _)| *unit).collect();
        if !units.is_empty() {
            self.jobs.push_front(Job::Read { units, lost: true });
        }
        self.mark(taken.sold.iter().map(|(unit, _)| (*unit, true)).collect::<Vec<_>>(), cx);
        let keep = async move {
            if !shown.is_empty() {
                store.shown(tenant, id, &shown, now).await?;
            }
            store.done(tenant, id, &taken.settled(now)).await
        };
        cx.pipe(keep, super::Msg::Kept);
    }

    /// A notice that nobody can read.
    pub(super) async fn give_up_notice(&mut self, notice: &Notice, refused: &Refused) -> Result<(), Fault> {
        self.in_hand = None;
        tracing::error!(connection = %self.connection.id, notice = notice.id, topic = notice.topic,
            cause = refused.cause, "a notice cannot be read and was given up");
        let given_up = GivenUp {
            notice: notice.id.clone(),
            topic: notice.topic.clone(),
            order: None,
            code: UNREADABLE.into(),
            cause: refused.cause.clone(),
            response: refused.response.clone(),
            at: self.now(),
        };
        let settled = Settled { notice: notice.id.clone(), given_up: Some(given_up), ..Settled::default() };
        Ok(self.ports.store.done(self.connection.tenant, self.connection.id, &settled).await?)
    }
}

impl Taken {
    /// A notice that is about no order, or tells nothing new of one.
    fn nothing(notice: Notice) -> Self {
        Self { notice, record: None, is_news: false, told: Vec::new(), sold: Vec::new() }
    }

    /// An order that could not be sold is given up together with its notice, so that it can be taken up again.
    fn settled(&self, now: Timestamp) -> Settled {
        let given_up =
            self.record.as_ref().filter(|record| waits_for_a_person(record)).map(|record| GivenUp {
                notice: self.notice.id.clone(),
                topic: self.notice.topic.clone(),
                order: Some(record.id.clone()),
                code: record.state.clone(),
                cause: record.remark.clone(),
                response: String::new(),
                at: now,
            });
        Settled {
            notice: self.notice.id.clone(),
            order: self.record.clone(),
            given_up,
            told: self.told.clone(),
        }
    }
}

/// Whether nothing is sold of it, for a reason that a person can mend.
fn waits_for_a_person(record: &OrderRecord) -> bool {
    [SHORT, UNMAPPED, REFUSED].contains(&record.state.as_str())
}

const SOLD: &str = "vendido";
const SHORT: &str = "sin_stock";
const CANCELLED: &str = "cancelado";
const UNMAPPED: &str = "sin_mapear";
const REFUSED: &str = "rechazado";
const UNREADABLE: &str = "ilegible";

/// Everything that taking an order in needs, apart from the actor.
struct Taking {
    store: Arc<dyn crate::ports::channel::ChannelStore>,
    shards: crate::actors::reservation::Shards,
    tenant: crate::domain::ids::TenantId,
    connection: crate::domain::ids::ConnectionId,
    kind: ChannelKind,
    sources: Vec<LocationId>,
    now: Timestamp,
}

impl Taking {
    async fn take(self, notice: Notice, order: Order, demand: Demand) -> Result<Taken, PortError> {
        let known = self.store.order(self.tenant, self.connection, &order.id).await?;
        // News comes in any order: what is older than what is known says nothing.
        if known.as_ref().is_some_and(|known| order.version < known.version) {
            return Ok(Taken::nothing(notice));
        }
        // All of it is taken from somewhere else.
        if known.is_none() && order.lines.is_empty() && order.state == OrderState::Placed {
            return Ok(Taken::nothing(notice));
        }
        let before = known.as_ref().map(|known| known.state.clone());
        let known_sale = known.as_ref().and_then(|known| known.sale);
        let (record, sold) = match (order.state, before.as_deref()) {
            (OrderState::Cancelled, Some(CANCELLED)) => return Ok(Taken::nothing(notice)),
            // It may be told before its beginning, and is then known to be over.
            (OrderState::Cancelled, _) => {
                if let Some(sale) = known_sale {
                    self.void(sale, &order, "cancelado").await?;
                }
                (self.record(&order, known_sale, CANCELLED, String::new()), Vec::new())
            }
            (OrderState::Placed, Some(CANCELLED)) => return Ok(Taken::nothing(notice)),
            (OrderState::Placed, Some(SOLD)) => match self.edit(&order, &demand, known_sale).await? {
                Some(edited) => edited,
                None => return Ok(Taken::nothing(notice)),
            },
            // New, or told again, or taken up again by a person: what was missing may be there now.
            (OrderState::Placed, _) => self.sell(&order, &demand, known_sale).await?,
        };
        let is_news = before.as_deref() != Some(&*record.state);
        let told = self.message(&order, &record).filter(|_| is_news);
        Ok(Taken { notice, record: Some(record), is_news, told: told.into_iter().collect(), sold })
    }

    /// An order that was sold takes other units than before: edited there, or refunded in part. What was sold is taken
    /// back whole and sold anew as the order stands now, each under a key of its own, so that whoever dies in between
    /// finds out what is done. Says what differs; nothing when it is the same.
    async fn edit(
        &self,
        order: &Order,
        demand: &Demand,
        sale: Option<SaleId>,
    ) -> Result<Option<(OrderRecord, Vec<(UnitId, i64)>)>, PortError> {
        let Some(sale) = sale else { return Ok(None) };
        let found = match self.shards.sale(self.tenant, sale).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(PortError::Transient(error.to_string())),
            Err(error) => return Err(PortError::Transient(error.to_string())),
        };
        let Some(lines) = found.as_ref().and_then(|found| found.sale.sale()).map(|sale| &sale.lines) else {
            return Ok(None);
        };
        let taken: Vec<(UnitId, i64)> =
            lines.iter().map(|line| (line.unit, line.quantity.units() / Quantity::ONE)).collect();
        let change = demand.change_from(&taken);
        if change.is_empty() {
            return Ok(None);
        }
        self.void(sale, order, "cambiado").await?;
        if demand.lines.is_empty() && demand.unknown.is_empty() {
            return Ok(Some((self.record(order, Some(sale), CANCELLED, "Devuelto entero".into()), change)));
        }
        let (record, _) = self.sell(order, demand, Some(sale)).await?;
        Ok(Some((record, change)))
    }

    fn message(&self, order: &Order, record: &OrderRecord) -> Option<Message> {
        let outcome = match (record.state.as_str(), record.sale) {
            (SOLD, Some(sale)) => Ok(sale),
            (SHORT, _) => Err(record.remark.as_str()),
            _ => return None,
        };
        Message::of_order(self.tenant, self.connection, self.kind, order, outcome, self.now)
    }

    fn record(&self, order: &Order, sale: Option<SaleId>, state: &str, remark: String) -> OrderRecord {
        let (id, name) = (order.id.clone(), order.name.clone());
        OrderRecord { id, name, sale, state: state.into(), remark, version: order.version, at: self.now }
    }

    fn caller(&self, order: &Order) -> Caller {
        let request_id = format!("{}:{}", self.kind, order.id).into();
        Caller { user: self.kind.as_str().into(), request_id, trace: None }
    }

    /// Sells the order whole or not at all, at the first location that has all of it. `before` is the sale of it that was
    /// taken back.
    async fn sell(
        &self,
        order: &Order,
        demand: &Demand,
        before: Option<SaleId>,
    ) -> Result<(OrderRecord, Vec<(UnitId, i64)>), PortError> {
        let unknown: Vec<&str> =
            demand.unknown.iter().map(|line| line.sku.as_deref().unwrap_or("sin SKU")).collect();
        if demand.lines.is_empty() {
            let remark = format!("Mapee los productos del pedido: {}", unknown.join(", "));
            return Ok((self.record(order, before, UNMAPPED, remark), Vec::new()));
        }
        let wheres: Vec<Option<LocationId>> = match self.sources.as_slice() {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        let mut refusal = None;
        for location in wheres {
            match self.checkout(order, demand, before, location).await? {
                Ok((sale, replayed)) => {
                    let remark = match unknown.as_slice() {
                        [] => String::new(),
                        some => format!("Sin mapear, no descontados: {}", some.join(", ")),
                    };
                    // A repeat was sold before a crash: what is shown is found by the next comparison.
                    let sold = if replayed { Vec::new() } else { demand.lines.clone() };
                    return Ok((self.record(order, Some(sale), SOLD, remark), sold));
                }
                Err(Denied::Short(lines)) => {
                    let short = lines
                        .iter()
                        .map(|line| format!("{} ({} de {})", line.sku, line.available, line.asked));
                    let short: Vec<String> = short.collect();
                    tracing::error!(order = order.id, tenant = %self.tenant, connection = %self.connection, short = short.join(", "),
                        "an order was placed for units that are not there: cancel it there, or bring stock in and take it up again");
                    let remark = format!(
                        "Vendido de más: {}. Cancele el pedido en el canal o ingrese stock.",
                        short.join(", ")
                    );
                    refusal = Some((SHORT, remark));
                }
                Err(denied) => refusal = Some((REFUSED, format!("No se pudo vender: {denied}"))),
            }
        }
        let (state, remark) = refusal.unwrap_or((REFUSED, String::new()));
        Ok((self.record(order, before, state, remark), Vec::new()))
    }

    /// The outer error passes; the inner one is the shard's word.
    async fn checkout(
        &self,
        order: &Order,
        demand: &Demand,
        before: Option<SaleId>,
        location: Option<LocationId>,
    ) -> Result<Result<(SaleId, bool), Denied>, PortError> {
        let line = |(unit, quantity): &(UnitId, i64)| {
            let quantity = Quantity::from_whole(*quantity)?;
            Some(RequestedLine { product: unit.0, quantity, seen_price: None })
        };
        let lines: Option<Vec<RequestedLine>> = demand.lines.iter().map(line).collect();
        let again = before.map(|sale| format!(":{sale}")).unwrap_or_default();
        let key = format!("{}:{}:{}{again}", self.kind, self.connection, order.id);
        let (Some(lines), Ok(key)) = (lines, IdempotencyKey::parse(&key)) else {
            return Ok(Err(Denied::Delivery("the order is not readable".into())));
        };
        let payment = match self.kind {
            ChannelKind::Shopify => PaymentMethod::Tarjeta,
            ChannelKind::Meli => PaymentMethod::Mercadopago,
        };
        let request = SaleRequest { lines, payment, location, seen_total: None };
        let checkout = Checkout { tenant: self.tenant, request, key: Some(key), caller: self.caller(order) };
        match self.shards.checkout(checkout).await {
            Ok(Ok(sold)) => match sold.sale.sale() {
                Some(sale) => Ok(Ok((sale.id, sold.replayed))),
                None => Err(PortError::Permanent("a sale's event is no sale".into())),
            },
            Ok(Err(Denied::Append(error))) => Err(PortError::Transient(error.to_string())),
            Ok(Err(Denied::Port(error))) => Err(error),
            Ok(Err(denied)) => Ok(Err(denied)),
            Err(error) => Err(PortError::Transient(error.to_string())),
        }
    }

    async fn void(&self, sale: SaleId, order: &Order, why: &str) -> Result<(), PortError> {
        let reason = format!("Pedido {} {why} en {}", order.name, self.kind).into();
        let void = Void { tenant: self.tenant, sale, reason, caller: self.caller(order) };
        match self.shards.void(void).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(PortError::Transient(error.to_string())),
            Err(error) => Err(PortError::Transient(error.to_string())),
        }
    }
}

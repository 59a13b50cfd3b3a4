//! What is said: `type`, `timestamp` and `data`, as Standard Webhooks has it; fields are Spanish as everywhere on the wire.

use super::News;
use crate::domain::channel::ChannelKind;
use crate::domain::channel::order::Order;
use crate::domain::decimal::{Money, Quantity};
use crate::domain::event::{Body, Event, Movement};
use crate::domain::ids::{ConnectionId, LocationId, SaleId, TenantId, UnitId};
use crate::domain::sale::{PaymentMethod, Sale};
use crate::domain::time::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same for the same news, however often it is heard and sent.
    pub id: String,
    /// Whose.
    pub tenant: TenantId,
    /// What it is.
    pub news: News,
    /// When it happened.
    pub at: Timestamp,
    /// The JSON, to the byte.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Envelope<'a, D: Serialize> {
    #[serde(rename = "type")]
    news: News,
    timestamp: Timestamp,
    data: &'a D,
}

#[derive(Serialize)]
struct SaleData<'a> {
    tienda_id: TenantId,
    secuencia: u64,
    venta_id: SaleId,
    ubicacion_id: LocationId,
    total: Money,
    metodo_pago: PaymentMethod,
    usuario_id: &'a str,
    items: Vec<LineData<'a>>,
}

#[derive(Serialize)]
struct LineData<'a> {
    producto_id: UnitId,
    producto_nombre: &'a str,
    producto_sku: &'a str,
    cantidad: Quantity,
    precio_unitario: Money,
    subtotal: Money,
}

#[derive(Serialize)]
struct VoidData<'a> {
    tienda_id: TenantId,
    secuencia: u64,
    venta_id: SaleId,
    motivo: &'a str,
}

#[derive(Serialize)]
struct StockData {
    tienda_id: TenantId,
    secuencia: u64,
    tipo: &'static str,
    referencia: String,
    movimientos: Vec<Movement>,
}

#[derive(Serialize)]
struct OrderData<'a> {
    tienda_id: TenantId,
    canal: ChannelKind,
    integracion_id: ConnectionId,
    pedido: &'a str,
    nombre: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    venta_id: Option<SaleId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    que_hacer: Option<&'a str>,
}

#[derive(Serialize)]
struct DepthData {
    cantidad: usize,
    limite: usize,
}

#[derive(Serialize)]
struct TestData {
    mensaje: &'static str,
}

impl Message {
    fn new(id: String, tenant: TenantId, news: News, at: Timestamp, data: &impl Serialize) -> Option<Self> {
        // Only a broken writer could refuse these, and a buffer is none.
        let body = serde_json::to_vec(&Envelope { news, timestamp: at, data }).ok()?;
        Some(Self { id, tenant, news, at, body })
    }

    fn of_event(event: &Event, news: News, data: &impl Serialize) -> Option<Self> {
        let id = format!("{}_{}", named(news), event.id);
        Self::new(id, event.tenant, news, event.at, data)
    }

    /// What an event is worth telling.
    pub fn of(event: &Event) -> Vec<Self> {
        let (tienda_id, secuencia) = (event.tenant, event.sequence);
        let mut all = Vec::new();
        match &event.body {
            Body::SaleCreated { sale, .. } => {
                all.extend(Self::of_event(event, News::SaleCreated, &sale_data(event, sale)));
            }
            Body::SaleVoided { sale, reason, .. } => {
                let data = VoidData { tienda_id, secuencia, venta_id: *sale, motivo: reason };
                all.extend(Self::of_event(event, News::SaleVoided, &data));
            }
            _ => {}
        }
        let movimientos: Vec<Movement> = event.movements().collect();
        if !movimientos.is_empty() {
            let (kind, referencia) = event.movement_origin();
            let data = StockData { tienda_id, secuencia, tipo: kind.as_str(), referencia, movimientos };
            all.extend(Self::of_event(event, News::StockChanged, &data));
        }
        all
    }

    /// What became of an order of a marketplace: a sale, or what somebody has to do about it.
    pub fn of_order(
        tenant: TenantId,
        connection: ConnectionId,
        kind: ChannelKind,
        order: &Order,
        outcome: Result<SaleId, &str>,
        at: Timestamp,
    ) -> Option<Self> {
        let news = if outcome.is_ok() { News::OrderImported } else { News::Oversold };
        let data = OrderData {
            tienda_id: tenant,
            canal: kind,
            integracion_id: connection,
            pedido: &order.id,
            nombre: &order.name,
            venta_id: outcome.ok(),
            que_hacer: outcome.err(),
        };
        let id = format!("{}_{connection}_{}", named(news), order.id.replace('.', "_"));
        Self::new(id, tenant, news, at, &data)
    }

    /// There are so many dead letters, and there should be no more than so many.
    pub fn of_depth(tenant: TenantId, depth: usize, limit: usize, at: Timestamp) -> Option<Self> {
        let data = DepthData { cantidad: depth, limite: limit };
        Self::new(fresh(News::DeadLetters), tenant, News::DeadLetters, at, &data)
    }

    /// Somebody wants to see one.
    pub fn test(tenant: TenantId, at: Timestamp) -> Option<Self> {
        let data = TestData { mensaje: "Funciona" };
        Self::new(fresh(News::Test), tenant, News::Test, at, &data)
    }
}

fn fresh(news: News) -> String {
    format!("{}_{}", named(news), Uuid::now_v7())
}

/// A dot would separate the parts of what is signed.
fn named(news: News) -> String {
    news.as_str().replace('.', "_")
}

fn sale_data<'a>(event: &'a Event, sale: &'a Sale) -> SaleData<'a> {
    let items = sale.lines.iter().map(|line| LineData {
        producto_id: line.unit,
        producto_nombre: &line.name,
        producto_sku: &line.sku,
        cantidad: line.quantity,
        precio_unitario: line.unit_price,
        subtotal: line.subtotal,
    });
    SaleData {
        tienda_id: event.tenant,
        secuencia: event.sequence,
        venta_id: sale.id,
        ubicacion_id: sale.location,
        total: sale.total,
        metodo_pago: sale.payment,
        usuario_id: &event.user,
        items: items.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Shop;
    use serde_json::Value;

    #[test]
    fn a_sale_is_told_with_its_lines_and_with_what_it_moved() {
        let mut shop = Shop::new(2);
        let event = shop.sold_at(0, &[(0, 2), (1, 1)], None);
        let messages = Message::of(&event);
        assert_eq!(messages, Message::of(&event), "heard twice it is the same");
        let [sale, stock] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!((sale.news, stock.news), (News::SaleCreated, News::StockChanged));
        assert!(sale.id != stock.id && !sale.id.contains('.'));
        let read = |message: &Message| -> Value { serde_json::from_slice(&message.body).unwrap() };
        let told = read(sale);
        assert_eq!(
            (&told["type"], &told["data"]["items"][0]["producto_sku"]),
            (&"venta.creada".into(), &"SKU-0".into())
        );
        assert_eq!(told["data"]["secuencia"], event.sequence);
        let moved = read(stock);
        assert_eq!(
            (&moved["data"]["tipo"], moved["data"]["movimientos"].as_array().unwrap().len()),
            (&"SALE".into(), 2)
        );
        assert!(Message::of(&shop.catalogued()).is_empty());
    }
}

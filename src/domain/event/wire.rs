//! Events as JSON, the form in which the journal keeps them and a broker carries them.
//!
//! `sales.created` keeps the field names that its consumers have always known. Readers ignore fields they do not
//! know; a version above ours is refused, because its meaning may have changed.

use super::{Body, Event, EventKind, Movement, MovementKind};
use crate::domain::catalogue::Unit;
use crate::domain::decimal::{Money, Quantity};
use crate::domain::idempotency::{Fingerprint, IdempotencyKey};
use crate::domain::ids::{EventId, LocationId, SaleId, TenantId, UnitId};
use crate::domain::sale::{PaymentMethod, Sale, SaleLine};
use crate::domain::tenant::{Location, Tenant};
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc};
use uuid::Uuid;

/// The version this build writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the JSON of this kind of event.
    #[error("event is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer build.
    #[error("event has version {0}; this build reads up to {VERSION}")]
    Newer(u32),
    /// No such kind.
    #[error("event kind {0:?} is unknown")]
    Kind(String),
    /// A field that breaks a rule JSON cannot express.
    #[error("event field {0} is invalid")]
    Field(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    event_id: EventId,
    version: u32,
    tienda_id: TenantId,
    secuencia: u64,
    timestamp: Timestamp,
    #[serde(borrow)]
    usuario_id: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    /// Both only where the request came with a trace: else it follows from the request's id.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    tracestate: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Outgoing<'a, B: Serialize> {
    #[serde(flatten)]
    header: Header<'a>,
    #[serde(flatten)]
    body: B,
}

#[derive(Serialize, Deserialize)]
struct SaleBody<'a> {
    venta_id: SaleId,
    ubicacion_id: LocationId,
    total: Money,
    metodo_pago: PaymentMethod,
    #[serde(borrow)]
    items: Vec<LineBody<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    idempotency_key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    huella: Option<Uuid>,
}

#[derive(Serialize, Deserialize)]
struct LineBody<'a> {
    producto_id: UnitId,
    #[serde(borrow)]
    producto_nombre: Cow<'a, str>,
    #[serde(borrow)]
    producto_sku: Cow<'a, str>,
    cantidad: Quantity,
    precio_unitario: Money,
    subtotal: Money,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sin_stock: bool,
}

#[derive(Serialize, Deserialize)]
struct TenantBody<'a> {
    tienda: Cow<'a, Tenant>,
    ubicaciones: Cow<'a, [Location]>,
}

#[derive(Serialize, Deserialize)]
struct LocationsBody<'a> {
    ubicaciones: Cow<'a, [Location]>,
}

#[derive(Serialize, Deserialize)]
struct ProductsBody<'a> {
    productos: Cow<'a, [Arc<Unit>]>,
}

#[derive(Serialize, Deserialize)]
struct VoidedBody<'a> {
    venta_id: SaleId,
    #[serde(borrow)]
    motivo: Cow<'a, str>,
    movimientos: Cow<'a, [Movement]>,
}

#[derive(Serialize, Deserialize)]
struct MovedBody<'a> {
    tipo: MovementKind,
    #[serde(borrow)]
    referencia: Cow<'a, str>,
    movimientos: Cow<'a, [Movement]>,
}

impl Event {
    /// Appends the event's JSON to a buffer that the caller reuses.
    pub fn encode(&self, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match &self.body {
            Body::SaleCreated { sale, keyed } => self.write(buffer, sale_body(sale, keyed.as_ref())),
            Body::TenantCreated { tenant, locations } => self.write(
                buffer,
                TenantBody { tienda: Cow::Borrowed(tenant), ubicaciones: Cow::Borrowed(locations) },
            ),
            Body::LocationsAdded { locations } => {
                self.write(buffer, LocationsBody { ubicaciones: Cow::Borrowed(locations) })
            }
            Body::ProductsUpserted { units } => {
                self.write(buffer, ProductsBody { productos: Cow::Borrowed(units) })
            }
            Body::SaleVoided { sale, reason, movements } => self.write(
                buffer,
                VoidedBody {
                    venta_id: *sale,
                    motivo: Cow::Borrowed(reason),
                    movimientos: Cow::Borrowed(movements),
                },
            ),
            Body::StockMoved { kind, reference, movements } => self.write(
                buffer,
                MovedBody {
                    tipo: *kind,
                    referencia: Cow::Borrowed(reference),
                    movimientos: Cow::Borrowed(movements),
                },
            ),
        }
    }

    fn write(&self, buffer: &mut Vec<u8>, body: impl Serialize) -> Result<(), serde_json::Error> {
        let header = Header {
            event_id: self.id,
            version: VERSION,
            tienda_id: self.tenant,
            secuencia: self.sequence,
            timestamp: self.at,
            usuario_id: Cow::Borrowed(&self.user),
            request_id: Cow::Borrowed(&self.request_id),
            traceparent: self.trace.as_ref().map(|_| Cow::Owned(self.traceparent())),
            tracestate: self.trace.as_ref().and_then(|trace| trace.state()).map(Cow::Borrowed),
        };
        serde_json::to_writer(buffer, &Outgoing { header, body })
    }

    /// Reads an event of a kind from its JSON.
    pub fn decode(kind: &str, json: &[u8]) -> Result<Self, DecodeError> {
        let kind = EventKind::parse(kind).ok_or_else(|| DecodeError::Kind(kind.to_owned()))?;
        let header: Header<'_> = serde_json::from_slice(json)?;
        if header.version > VERSION {
            return Err(DecodeError::Newer(header.version));
        }
        let body = match kind {
            EventKind::SaleCreated => read_sale(serde_json::from_slice(json)?)?,
            EventKind::TenantCreated => {
                let body: TenantBody<'_> = serde_json::from_slice(json)?;
                Body::TenantCreated {
                    tenant: body.tienda.into_owned(),
                    locations: body.ubicaciones.into_owned(),
                }
            }
            EventKind::LocationsAdded => {
                let body: LocationsBody<'_> = serde_json::from_slice(json)?;
                Body::LocationsAdded { locations: body.ubicaciones.into_owned() }
            }
            EventKind::ProductsUpserted => {
                let body: ProductsBody<'_> = serde_json::from_slice(json)?;
                Body::ProductsUpserted { units: body.productos.into_owned() }
            }
            EventKind::SaleVoided => {
                let body: VoidedBody<'_> = serde_json::from_slice(json)?;
                let movements = body.movimientos.into_owned();
                Body::SaleVoided { sale: body.venta_id, reason: body.motivo.into(), movements }
            }
            EventKind::StockMoved => {
                let body: MovedBody<'_> = serde_json::from_slice(json)?;
                let movements = body.movimientos.into_owned();
                Body::StockMoved { kind: body.tipo, reference: body.referencia.into(), movements }
            }
        };
        let trace = |parent: Cow<'_, str>| TraceContext::parse(&parent, header.tracestate.as_deref());
        Ok(Self {
            id: header.event_id,
            tenant: header.tienda_id,
            sequence: header.secuencia,
            at: header.timestamp,
            user: header.usuario_id.into(),
            request_id: header.request_id.into(),
            trace: header.traceparent.and_then(trace).map(Arc::new),
            body,
        })
    }
}

fn sale_body<'a>(sale: &'a Sale, keyed: Option<&'a (IdempotencyKey, Fingerprint)>) -> SaleBody<'a> {
    let line = |line: &'a SaleLine| LineBody {
        producto_id: line.unit,
        producto_nombre: Cow::Borrowed(&line.name),
        producto_sku: Cow::Borrowed(&line.sku),
        cantidad: line.quantity,
        precio_unitario: line.unit_price,
        subtotal: line.subtotal,
        sin_stock: !line.has_stock,
    };
    SaleBody {
        venta_id: sale.id,
        ubicacion_id: sale.location,
        total: sale.total,
        metodo_pago: sale.payment,
        items: sale.lines.iter().map(line).collect(),
        idempotency_key: keyed.map(|(key, _)| Cow::Borrowed(key.as_str())),
        huella: keyed.map(|(_, fingerprint)| Uuid::from_bytes(fingerprint.0)),
    }
}

fn read_sale(body: SaleBody<'_>) -> Result<Body, DecodeError> {
    let line = |line: LineBody<'_>| SaleLine {
        unit: line.producto_id,
        name: line.producto_nombre.into(),
        sku: line.producto_sku.into(),
        quantity: line.cantidad,
        unit_price: line.precio_unitario,
        subtotal: line.subtotal,
        has_stock: !line.sin_stock,
    };
    let keyed = match (body.idempotency_key, body.huella) {
        (Some(key), Some(print)) => {
            let key = IdempotencyKey::parse(&key).map_err(|_| DecodeError::Field("idempotency_key"))?;
            Some((key, Fingerprint(print.into_bytes())))
        }
        _ => None,
    };
    let lines = body.items.into_iter().map(line).collect();
    let (id, location, payment) = (body.venta_id, body.ubicacion_id, body.metodo_pago);
    Ok(Body::SaleCreated { sale: Sale { id, location, payment, total: body.total, lines }, keyed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::{UnitKind, tests::unit};
    use crate::domain::tenant::LocationKind;

    fn event(body: Body) -> Event {
        Event {
            id: EventId(Uuid::now_v7()),
            tenant: TenantId(Uuid::now_v7()),
            sequence: 42,
            at: Timestamp::from_micros(1_767_225_599_000_250),
            user: "cajera \"1\" ñ".into(),
            request_id: "req-1".into(),
            trace: None,
            body,
        }
    }

    fn sale() -> Body {
        let line = |sku: &str, quantity: &str, has_stock| SaleLine {
            unit: UnitId(Uuid::now_v7()),
            name: "Queso \\ Mar del Plata \"x\"".into(),
            sku: sku.into(),
            quantity: Quantity::parse(quantity).unwrap(),
            unit_price: Money::parse("8750.50").unwrap(),
            subtotal: Money::parse("3018.92").unwrap(),
            has_stock,
        };
        let sale = Sale {
            id: SaleId(Uuid::now_v7()),
            location: LocationId(Uuid::now_v7()),
            payment: PaymentMethod::TarjetaDebito,
            total: Money::parse("6037.84").unwrap(),
            lines: vec![line("Q-1", "0.345", true), line("S-1", "1", false)],
        };
        let key = IdempotencyKey::parse("till-1-77").unwrap();
        Body::SaleCreated { sale, keyed: Some((key, Fingerprint([7; 16]))) }
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let place = Location {
            id: LocationId(Uuid::now_v7()),
            code: "330".into(),
            name: "Sucursal 330".into(),
            kind: LocationKind::Store,
            is_default: true,
            active: true,
        };
        let tenant = Tenant {
            id: TenantId(Uuid::now_v7()),
            name: "Súper".into(),
            trade: "almacen".into(),
            active: true,
            created_at: Timestamp::from_micros(5),
        };
        let movement = Movement {
            unit: UnitId(Uuid::now_v7()),
            location: place.id,
            delta: Quantity::parse("-1.5").unwrap(),
        };
        let bodies = [
            Body::TenantCreated { tenant, locations: vec![place.clone()] },
            Body::LocationsAdded { locations: vec![place] },
            Body::ProductsUpserted { units: vec![Arc::new(unit("A\"1", UnitKind::Pesable, "10.01"))] },
            sale(),
            Body::SaleVoided {
                sale: SaleId(Uuid::now_v7()),
                reason: "se arrepintió \"x\"".into(),
                movements: vec![movement],
            },
            Body::StockMoved {
                kind: MovementKind::InitialStock,
                reference: "x".into(),
                movements: vec![movement],
            },
        ];
        for body in bodies {
            let (event, mut json) = (event(body), Vec::new());
            event.encode(&mut json).unwrap();
            let back = Event::decode(event.body.kind().as_str(), &json).unwrap();
            assert_eq!(back, event, "{}", String::from_utf8_lossy(&json));
        }
    }

    #[test]
    fn sales_created_keeps_the_known_fields_and_exact_numbers() {
        let mut json = Vec::new();
        event(sale()).encode(&mut json).unwrap();
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(text.contains("\"total\":6037.84") && text.contains("\"cantidad\":0.345"), "{text}");
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let fields =
            ["tienda_id", "total", "metodo_pago", "items", "timestamp", "event_id", "venta_id", "version"];
        for field in fields.into_iter().chain(["usuario_id", "ubicacion_id", "secuencia", "request_id"]) {
            assert!(value.get(field).is_some(), "{field} is missing");
        }
        let line =
            ["producto_id", "producto_nombre", "producto_sku", "cantidad", "precio_unitario", "subtotal"];
        assert!(line.iter().all(|field| value["items"][0].get(field).is_some()));
        assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn an_event_carries_the_trace_of_its_request() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut sold = event(sale());
        sold.trace = TraceContext::parse(given, Some("rojo=1,azul=2")).map(Arc::new);
        let mut json = Vec::new();
        sold.encode(&mut json).unwrap();
        assert_eq!(Event::decode("sales.created", &json).unwrap(), sold);
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["traceparent"], sold.traceparent());
        assert_eq!(value["tracestate"], "rojo=1,azul=2");
        assert_ne!(sold.traceparent(), given, "what follows is not the caller's own span");
        // A broken one is no reason to lose a sale.
        let broken = String::from_utf8(json).unwrap().replace("\"00-4bf9", "\"zz-4bf9");
        assert_eq!(Event::decode("sales.created", broken.as_bytes()).unwrap().trace, None);
    }

    #[test]
    fn newer_and_broken_events_are_refused() {
        let mut json = Vec::new();
        event(sale()).encode(&mut json).unwrap();
        let text = String::from_utf8(json).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":2");
        assert!(matches!(Event::decode("sales.created", newer.as_bytes()), Err(DecodeError::Newer(2))));
        assert!(matches!(Event::decode("sales.created", &text.as_bytes()[..99]), Err(DecodeError::Json(_))));
        assert!(matches!(Event::decode("sales.eaten", text.as_bytes()), Err(DecodeError::Kind(_))));
        let extended = text.replacen('{', "{\"nuevo\":[1],", 1);
        assert!(Event::decode("sales.created", extended.as_bytes()).is_ok());
    }
}

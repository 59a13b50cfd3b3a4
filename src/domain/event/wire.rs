//! Events as JSON, the form in which the journal keeps them and a broker carries them.
//!
//! `sales.created` keeps the field names that its consumers have always known. Readers ignore fields they do not
//! know; a version above ours is refused, because its meaning may have changed.

use super::{Body, Event, EventKind, Movement, MovementKind};
use crate::domain::catalogue::Unit;
use crate::domain::decimal::{Money, Quantity};
use crate::domain::erp::{Entry, ErpChange};
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

#[derive(Serialize, Deserialize)]
struct ErpBody<'a> {
    #[serde(borrow)]
    origen: Cow<'a, str>,
    #[serde(borrow)]
    referencia: Cow<'a, str>,
    movimientos: Cow<'a, [Movement]>,
    lecturas: Cow<'a, [Entry]>,
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
            Body::ErpFollowed(change) => self.write(
                buffer,
                ErpBody {
                    origen: Cow::Borrowed(&change.source),
                    referencia: Cow::Borrowed(&change.reference),
                    movimientos: Cow::Borrowed(&change.movements),
                    lecturas: Cow::Borrowed(&change.entries),
                },
            ),
        }
    }

    /// `body` is an object with a field that is always there.
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
        // One object of both: `{..}` and `{..}` become `{..,..}`. Flattening them does the same, field by field.
        serde_json::to_writer(&mut *buffer, &header)?;
        buffer.pop();
        let seam = buffer.len();
        serde_json::to_writer(&mut *buffer, &body)?;
        buffer[seam] = b',';
        Ok(())
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
            EventKind::ErpFollowed => {
                let body: ErpBody<'_> = serde_json::from_slice(json)?;
                Body::ErpFollowed(Arc::new(ErpChange {
                    source: body.origen.into(),
                    reference: body.referencia.into(),
                    movements: body.movimientos.into_owned(),
                    entries: body.lecturas.into_owned(),
                }))
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
mod tests;

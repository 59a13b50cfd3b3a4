//! `/api/v1/ventas`: checkout and its sales.

use super::super::{ApiError, Permission, Request, Response};
use super::denied::answered;
use super::{Allowed, Api, wire};
use crate::actors::reservation::{Checkout, SaleState, Sold, Void};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::sale::{MAX_LINES, PaymentMethod, RequestedLine, Sale, SaleLine, SaleRequest};
use crate::domain::time::Timestamp;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

#[derive(Deserialize)]
struct CheckoutBody<'a> {
    #[serde(borrow)]
    items: Vec<ItemBody<'a>>,
    #[serde(borrow)]
    metodo_pago: Cow<'a, str>,
    ubicacion_id: Option<LocationId>,
    #[serde(borrow)]
    total: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ItemBody<'a> {
    producto_id: Uuid,
    #[serde(borrow)]
    cantidad: &'a RawValue,
    #[serde(borrow)]
    precio_unitario: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct CheckoutAnswer {
    venta_id: SaleId,
    fecha: Timestamp,
    total: Money,
    metodo_pago: PaymentMethod,
    cantidad_items: usize,
    ubicacion_id: LocationId,
    mensaje: &'static str,
}

/// `POST /ventas/checkout`
pub async fn checkout(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, caller } = api.allow(&request, Permission::VentasCreate)?;
    let request_id = caller.request_id.clone();
    let sale = read_checkout(&request)?;
    let key = read_key(&request)?;
    let sold = answered(api.shards.checkout(Checkout { tenant, request: sale, key, caller }).await)?;
    api.ops.live.sold(&sold, request.received);
    let answer = checkout_answer(&sold)?;
    tracing::debug!(request_id = &*request_id, %tenant, venta_id = %answer.venta_id, replayed = sold.replayed, "sold");
    let response = Response::created(&answer)?;
    if sold.replayed {
        return Ok(response.with_header(REPLAYED, HeaderValue::from_static("true")));
    }
    Ok(response)
}

fn checkout_answer(sold: &Sold) -> Result<CheckoutAnswer, ApiError> {
    let sale = sold.sale.sale().ok_or_else(|| ApiError::internal().caused_by("a sale's event is no sale"))?;
    Ok(CheckoutAnswer {
        venta_id: sale.id,
        fecha: sold.at,
        total: sale.total,
        metodo_pago: sale.payment,
        cantidad_items: sale.lines.len(),
        ubicacion_id: sale.location,
        mensaje: "Venta procesada exitosamente",
    })
}

fn read_key(request: &Request) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut values = request.headers.get_all("idempotency-key").into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::field("Idempotency-Key", "repetido", "Debe venir una sola vez"));
    }
    let key = value.to_str().ok().and_then(|text| IdempotencyKey::parse(text).ok());
    let rule = "Debe tener entre 1 y 255 caracteres ASCII visibles";
    key.map(Some).ok_or_else(|| ApiError::field("Idempotency-Key", "formato", rule))
}

fn read_checkout(request: &Request) -> Result<SaleRequest, ApiError> {
    let body: CheckoutBody<'_> = request.json()?;
    if body.items.is_empty() || body.items.len() > MAX_LINES {
        let message = format!("Debe tener entre 1 y {MAX_LINES} elementos, tiene {}", body.items.len());
        return Err(ApiError::field("items", "fuera_de_rango", message));
    }
    let payment = PaymentMethod::parse(&body.metodo_pago).ok_or_else(|| {
        let known = PaymentMethod::ALL.map(PaymentMethod::as_str).join(", ");
        ApiError::field("metodo_pago", "opcion", format!("Debe ser uno de: {known}"))
    })?;
    let line = |(index, item): (usize, &ItemBody<'_>)| {
        let price = item.precio_unitario.filter(|raw| raw.get() != "null");
        Ok(RequestedLine {
            product: item.producto_id,
            quantity: wire::decimal(item.cantidad, || format!("items[{index}].cantidad"))?,
            seen_price: price
                .map(|raw| wire::decimal(raw, || format!("items[{index}].precio_unitario")))
                .transpose()?,
        })
    };
    Ok(SaleRequest {
        lines: body.items.iter().enumerate().map(line).collect::<Result<_, ApiError>>()?,
        payment,
        location: body.ubicacion_id,
        seen_total: body
            .total
            .filter(|raw| raw.get() != "null")
            .map(|raw| wire::decimal(raw, || "total".into()))
            .transpose()?,
    })
}

#[derive(Deserialize)]
struct VoidBody<'a> {
    #[serde(borrow)]
    motivo: Cow<'a, str>,
}

#[derive(Serialize)]
struct VoidAnswer {
    venta_id: SaleId,
    estado: &'static str,
    fecha_anulacion: Timestamp,
    mensaje: &'static str,
}

/// Characters of a reason at most.
const MAX_REASON: usize = 500;

/// `POST /ventas/{id}/anular`: all of the sale's units come back. A repeat changes nothing and says the same.
pub async fn void(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, caller } = api.allow(&request, Permission::VentasDelete)?;
    let sale: SaleId = request.param("id")?;
    let VoidBody { motivo } = request.json()?;
    let reason = motivo.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        let rule = format!("Debe tener entre 1 y {MAX_REASON} caracteres");
        return Err(ApiError::field("motivo", "largo", rule));
    }
    let request_id = caller.request_id.clone();
    let voided = answered(api.shards.void(Void { tenant, sale, reason: reason.into(), caller }).await)?;
    tracing::info!(request_id = &*request_id, %tenant, venta_id = %sale, replayed = voided.replayed, "sale voided");
    let response = Response::ok(&VoidAnswer {
        venta_id: voided.sale,
        estado: "anulada",
        fecha_anulacion: voided.at,
        mensaje: "Venta anulada: el stock volvió a su lugar",
    })?;
    if voided.replayed {
        return Ok(response.with_header(REPLAYED, HeaderValue::from_static("true")));
    }
    Ok(response)
}

#[derive(Serialize)]
struct SaleAnswer<'a> {
    id: SaleId,
    fecha: Timestamp,
    total: Money,
    metodo_pago: PaymentMethod,
    estado: &'static str,
    tienda_id: TenantId,
    ubicacion_id: LocationId,
    detalles: Vec<LineAnswer<'a>>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    fecha_anulacion: Option<Timestamp>,
}

#[derive(Serialize)]
struct LineAnswer<'a> {
    id: usize,
    producto_id: UnitId,
    producto_nombre: &'a str,
    producto_sku: &'a str,
    cantidad: Quantity,
    precio_unitario: Money,
    subtotal: Money,
}

/// `GET /ventas/{id}`
pub async fn show(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::VentasRead)?;
    let id: SaleId = request.param("id")?;
    let found = answered(api.shards.sale(tenant, id).await)?;
    let state = found.ok_or_else(|| ApiError::not_found("La venta no existe"))?;
    let sale =
        state.sale.sale().ok_or_else(|| ApiError::internal().caused_by("a sale's event is no sale"))?;
    Response::ok(&sale_answer(tenant, sale, &state))
}

fn sale_answer<'a>(tenant: TenantId, sale: &'a Sale, state: &SaleState) -> SaleAnswer<'a> {
    let estado = match state {
        SaleState { voided: Some(_), .. } => "anulada",
        SaleState { in_ledger: true, .. } => "registrada",
        SaleState { .. } => "procesando",
    };
    fn line((index, line): (usize, &SaleLine)) -> LineAnswer<'_> {
        LineAnswer {
            id: index + 1,
            producto_id: line.unit,
            producto_nombre: &line.name,
            producto_sku: &line.sku,
            cantidad: line.quantity,
            precio_unitario: line.unit_price,
            subtotal: line.subtotal,
        }
    }
    SaleAnswer {
        id: sale.id,
        fecha: state.at,
        total: sale.total,
        metodo_pago: sale.payment,
        estado,
        tienda_id: tenant,
        ubicacion_id: sale.location,
        detalles: sale.lines.iter().enumerate().map(line).collect(),
        created_at: state.at,
        fecha_anulacion: state.voided,
    }
}

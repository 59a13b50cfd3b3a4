//! What agents push.

use super::super::super::{ApiError, Permission, Request, Response};
use super::super::{Allowed, Api, wire};
use super::{MOST, follow, read_source};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::erp::{
    AccountKey, BalanceReading, Batch, FollowedLine, Identity, ProductReading, RowId, Stamp, branch_name,
};
use crate::domain::ids::{LocationId, UnitId};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// Who pushes when it does not say.
const AGENT: &str = "LEGACY_AGENT";

#[derive(Deserialize)]
struct PushBody<'a> {
    #[serde(borrow)]
    sku_legacy: Cow<'a, str>,
    #[serde(borrow)]
    descripcion: Cow<'a, str>,
    #[serde(borrow)]
    talle: Option<Cow<'a, str>>,
    #[serde(borrow)]
    color: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stock_real: &'a RawValue,
    #[serde(borrow)]
    ubicacion: Cow<'a, str>,
    #[serde(borrow)]
    precio: &'a RawValue,
    #[serde(borrow)]
    costo: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    fecha_movimiento: Cow<'a, str>,
}

#[derive(Serialize)]
struct PushAnswer<'a> {
    success: bool,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant_id: Option<UnitId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubicacion_id: Option<LocationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stock_before: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stock_after: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retenido: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    motivo: Option<&'static str>,
}

#[derive(Serialize)]
struct BatchAnswer<'a> {
    success: bool,
    aplicados: usize,
    retenidos: usize,
    omitidos: usize,
    resultados: Vec<PushAnswer<'a>>,
}

/// `POST /sync/legacy`: one message, or a list of them. The same message again moves nothing.
pub async fn push(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, caller } = api.allow(&request, Permission::InventarioAjuste)?;
    api.allow(&request, Permission::ProductosUpdate)?;
    let is_list = request.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let bodies: Vec<PushBody<'_>> = if is_list { request.json()? } else { vec![request.json()?] };
    if bodies.is_empty() || bodies.len() > MOST {
        let message = format!("Debe tener entre 1 y {MOST} elementos, tiene {}", bodies.len());
        return Err(ApiError::field("body", "fuera_de_rango", message));
    }
    let mut batch = Batch { only_newer: true, ..Batch::default() };
    let mut source: Option<Arc<str>> = None;
    for (index, body) in bodies.iter().enumerate() {
        let name = |field: &str| if is_list { format!("[{index}].{field}") } else { field.to_owned() };
        let its: Arc<str> = read_source(body.source.as_deref().unwrap_or(AGENT), || name("source"))?;
        if *source.get_or_insert_with(|| its.clone()) != its {
            return Err(ApiError::field(name("source"), "mezclado", "Debe ser la misma en todo el lote"));
        }
        if api.pollers.find(tenant, Some(&its)).is_some() {
            // Its rows are known one by one: a second voice about the same goods would count them twice.
            return Err(ApiError::field(name("source"), "sondeada", "Esa fuente la lee el servidor"));
        }
        let (reading, product) = read_message(body, name)?;
        batch.products.push(product);
        batch.balances.push(reading);
    }
    let followed =
        follow(&api, tenant, caller, source.unwrap_or_else(|| AGENT.into()), batch, Vec::new()).await?;
    let mut answers: Vec<PushAnswer<'_>> =
        followed.lines.iter().map(|line| push_answer(line, followed.reference.as_deref())).collect();
    if !is_list && let Some(answer) = answers.pop() {
        return Response::ok(&answer);
    }
    let count = |is: fn(&PushAnswer<'_>) -> bool| answers.iter().filter(|answer| is(answer)).count();
    Response::ok(&BatchAnswer {
        success: true,
        aplicados: count(|answer| answer.delta.is_some_and(|delta| !delta.is_zero())),
        retenidos: count(|answer| answer.retenido.is_some()),
        omitidos: count(|answer| answer.motivo.is_some()),
        resultados: answers,
    })
}

fn push_answer<'a>(line: &FollowedLine, reference: Option<&'a str>) -> PushAnswer<'a> {
    let moved = !line.delta.is_zero();
    let message = match (line.skipped, line.held, moved) {
        (Some("no_es_mas_nueva"), ..) => "Ya se conocía un dato igual o más nuevo",
        (Some(_), ..) => "No se puede aplicar",
        (None, Some(_), _) => "Retenido para confirmar",
        (None, None, true) => "Stock sincronizado",
        (None, None, false) => "Sin cambios",
    };
    let success = line.skipped.is_none_or(|why| why == "no_es_mas_nueva");
    let told = line.place.map(|_| line.before);
    PushAnswer {
        success,
        message,
        variant_id: line.place.map(|place| place.0),
        ubicacion_id: line.place.map(|place| place.1),
        transaction_id: reference.filter(|_| moved),
        stock_before: told,
        stock_after: told.and_then(|before| before.checked_add(line.delta)),
        delta: line.place.map(|_| line.delta),
        retenido: line.held.map(|held| held.as_str()),
        motivo: line.skipped,
    }
}

fn read_message(
    body: &PushBody<'_>,
    name: impl Fn(&str) -> String,
) -> Result<(BalanceReading, ProductReading), ApiError> {
    let wrong = |field: &str, why: String| ApiError::field(name(field), "formato", why);
    let item = Identity::new(&body.sku_legacy, body.talle.as_deref(), body.color.as_deref())
        .map_err(|error| wrong("sku_legacy", format!("No identifica un artículo: {error}")))?;
    let branch = branch_name(&body.ubicacion)
        .map_err(|error| wrong("ubicacion", format!("No identifica una sucursal: {error}")))?;
    let description = body.descripcion.trim();
    if description.is_empty() || description.chars().count() > 255 {
        return Err(wrong("descripcion", "Debe tener entre 1 y 255 caracteres".to_owned()));
    }
    let price: Money = wire::decimal(body.precio, || name("precio"))?;
    if price < Money::ZERO {
        return Err(ApiError::field(name("precio"), "fuera_de_rango", "No puede ser negativo"));
    }
    let cost = body.costo.filter(|raw| raw.get() != "null");
    let cost = cost.map(|raw| wire::decimal(raw, || name("costo"))).transpose()?;
    let quantity: Quantity = wire::decimal(body.stock_real, || name("stock_real"))?;
    let stamp = read_stamp(&body.fecha_movimiento).ok_or_else(|| {
        wrong("fecha_movimiento", "Debe ser una fecha ISO 8601, con zona o sin ella".to_owned())
    })?;
    let product = ProductReading {
        code: item.code.clone(),
        name: description.into(),
        price,
        cost,
        category: None,
        brand: None,
        supplier: None,
        active: true,
        stamp: Some(stamp.clone()),
    };
    let key = AccountKey { item, branch };
    Ok((BalanceReading { row: RowId::Pushed, key, quantity, stamp: Some(stamp) }, product))
}

/// By the agent's own clock; a zone is taken off, to the millisecond.
fn read_stamp(text: &str) -> Option<Stamp> {
    let text = text.trim().replacen(' ', "T", 1);
    if let Some(moment) = Timestamp::parse(&text) {
        let utc = moment.to_string();
        return Stamp::parse(utc.get(..23)?);
    }
    let end = text.len().min(23);
    let more = text.get(end..)?;
    if !more.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Stamp::parse(text.get(..end)?)
}

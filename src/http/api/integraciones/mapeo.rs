//! Which unit is which item: found by SKU, or said by a person.

use super::super::super::{ApiError, Permission, Request, Response};
use super::super::denied::answered;
use super::super::{Allowed, Api};
use super::{Said, named};
use crate::actors::channel::Msg;
use crate::domain::channel::mapping::{Listed, MatchReport};
use crate::domain::ids::UnitId;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Rows of each list of an automatic mapping at most; the counts are exact.
const LISTED: usize = 500;

/// Characters of an item's id at most.
const LONGEST: usize = 200;

fn unanswered(cause: String) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "canal_no_responde", "El canal no respondió lo que se esperaba")
        .with_details(serde_json::json!({ "motivo": cause }))
}

#[derive(Deserialize)]
struct MapBody<'a> {
    producto_id: UnitId,
    #[serde(borrow)]
    item: Cow<'a, str>,
}

#[derive(Serialize)]
struct MapAnswer<'a> {
    producto_id: UnitId,
    item: &'a str,
    /// What it shows there now.
    muestra: i64,
}

/// `PUT /integraciones/{id}/mapeo`: this unit is that item, whatever their SKUs say. What the unit or the item was mapped
/// to before is forgotten.
pub async fn map(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let body: MapBody<'_> = request.json()?;
    let item = body.item.trim();
    if item.is_empty() || item.chars().count() > LONGEST {
        let message = format!("Debe tener entre 1 y {LONGEST} caracteres");
        return Err(ApiError::field("item", "largo", message));
    }
    let units = answered(api.shards.units(tenant).await)?;
    let unit = units.iter().find(|unit| unit.id == body.producto_id);
    let has_stock = unit.map(|unit| unit.kind.has_stock());
    if has_stock != Some(true) {
        let message =
            if has_stock.is_none() { "El producto no existe" } else { "Un servicio no tiene stock" };
        return Err(ApiError::field("producto_id", "opcion", message));
    }
    let message = |reply| Msg::Map { unit: body.producto_id, item: item.to_owned(), reply };
    let mapped = named(api.channels.of(tenant, request.param("id")?, message).await)?;
    let muestra = mapped.map_err(unanswered)?;
    Response::ok(&MapAnswer { producto_id: body.producto_id, item, muestra })
}

/// `DELETE /integraciones/{id}/mapeo/{producto_id}`: this unit is no item any more.
pub async fn unmap(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let unit = request.param("producto_id")?;
    let message = |reply| Msg::Unmap(unit, reply);
    if named(api.channels.of(tenant, request.param("id")?, message).await)? {
        return Response::ok(&Said { mensaje: "El producto no está más en el canal" });
    }
    Err(ApiError::not_found("El producto no está mapeado"))
}

#[derive(Deserialize)]
struct MatchBody {
    /// Take over what is certain.
    #[serde(default)]
    aplicar: bool,
}

#[derive(Serialize)]
struct MatchAnswer<'a> {
    aplicado: bool,
    mapeadas: usize,
    sin_item: usize,
    sin_producto: usize,
    ambiguas: usize,
    detalle_sin_item: Vec<UnitAnswer<'a>>,
    detalle_sin_producto: Vec<ItemAnswer<'a>>,
    detalle_ambiguas: Vec<AmbiguousAnswer<'a>>,
}

#[derive(Serialize)]
struct UnitAnswer<'a> {
    producto_id: UnitId,
    sku: &'a str,
}

#[derive(Serialize)]
struct ItemAnswer<'a> {
    item: &'a str,
    sku: Option<&'a str>,
    titulo: &'a str,
}

#[derive(Serialize)]
struct AmbiguousAnswer<'a> {
    #[serde(flatten)]
    unidad: UnitAnswer<'a>,
    items: Vec<ItemAnswer<'a>>,
}

fn item_answer(item: &Listed) -> ItemAnswer<'_> {
    ItemAnswer { item: &item.item, sku: item.sku.as_deref(), titulo: &item.title }
}

/// `POST /integraciones/{id}/mapear`: finds by SKU which unit is which item; takes over what is certain if told to.
pub async fn match_items(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let MatchBody { aplicar } = request.json()?;
    let matched = named(api.channels.match_items(tenant, request.param("id")?, aplicar).await)?;
    let report: MatchReport = matched.map_err(unanswered)?;
    let unit = |(id, sku): &'_ (UnitId, Arc<str>)| (*id, sku.clone());
    let without: Vec<(UnitId, Arc<str>)> = report.unmatched_units.iter().take(LISTED).map(unit).collect();
    Response::ok(&MatchAnswer {
        aplicado: aplicar,
        mapeadas: report.matched.len(),
        sin_item: report.unmatched_units.len(),
        sin_producto: report.unmatched_items.len(),
        ambiguas: report.ambiguous.len(),
        detalle_sin_item: without.iter().map(|(id, sku)| UnitAnswer { producto_id: *id, sku }).collect(),
        detalle_sin_producto: report.unmatched_items.iter().take(LISTED).map(item_answer).collect(),
        detalle_ambiguas: report
            .ambiguous
            .iter()
            .take(LISTED)
            .map(|(id, sku, items)| AmbiguousAnswer {
                unidad: UnitAnswer { producto_id: *id, sku },
                items: items.iter().map(item_answer).collect(),
            })
            .collect(),
    })
}

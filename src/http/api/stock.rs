//! `/api/v1/stock`: what is there, and where.

use super::super::{ApiError, Permission, Request, Response};
use super::denied::answered;
use super::{Allowed, Api};
use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, TenantId, UnitId};
use crate::domain::tenant::LocationKind;
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Serialize)]
struct StockAnswer<'a> {
    producto_id: UnitId,
    sku: &'a str,
    nombre: &'a str,
    disponible: Quantity,
    reservado: Quantity,
    por_ubicacion: Vec<PlaceAnswer<'a>>,
}

#[derive(Serialize)]
struct PlaceAnswer<'a> {
    ubicacion_id: LocationId,
    codigo: &'a str,
    nombre: &'a str,
    disponible: Quantity,
    reservado: Quantity,
}

#[derive(Serialize)]
struct WarmupAnswer {
    productos_cacheados: usize,
    mensaje: &'static str,
}

/// `POST /cache/warmup`: rebuilds hot stock from the ledger. Nothing is sold meanwhile; tills wait.
pub async fn warm_up(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::InventarioAjuste)?;
    warmed_up(&api, tenant).await
}

pub(super) async fn warmed_up(api: &Api, tenant: TenantId) -> Result<Response, ApiError> {
    let productos_cacheados = answered(api.shards.warm_up(tenant).await)?;
    Response::ok(&WarmupAnswer { productos_cacheados, mensaje: "Stock recargado" })
}

/// `GET /stock/{producto_id}`: in all and per location. `reservado` is held by sales whose record is not durable yet.
pub async fn show(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::InventarioRead)?;
    let product: Uuid = request.param("producto_id")?;
    let found = answered(api.shards.stock(tenant, product).await)?;
    let found = found.ok_or_else(|| ApiError::not_found("El producto no existe"))?;
    let sum = |part: fn(&(_, Quantity, Quantity)) -> Quantity| {
        let add = |sum: Quantity, place| sum.checked_add(part(place));
        found.places.iter().try_fold(Quantity::ZERO, add)
    };
    let too_much = || ApiError::internal().caused_by("the sum over locations is out of bounds");
    Response::ok(&StockAnswer {
        producto_id: found.unit.id,
        sku: &found.unit.sku,
        nombre: &found.unit.full_name(),
        disponible: sum(|place| place.1).ok_or_else(too_much)?,
        reservado: sum(|place| place.2).ok_or_else(too_much)?,
        por_ubicacion: found
            .places
            .iter()
            .map(|(location, available, reserved)| PlaceAnswer {
                ubicacion_id: location.id,
                codigo: &location.code,
                nombre: &location.name,
                disponible: *available,
                reservado: *reserved,
            })
            .collect(),
    })
}

#[derive(Serialize)]
struct LocationAnswer<'a> {
    location_id: LocationId,
    tienda_id: TenantId,
    codigo: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: LocationKind,
    is_default: bool,
    is_active: bool,
}

/// `GET /stock/locations`, also under `/productos`
pub async fn locations(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::InventarioRead)?;
    let locations = answered(api.shards.locations(tenant).await)?;
    let answers: Vec<LocationAnswer<'_>> = locations
        .iter()
        .map(|location| LocationAnswer {
            location_id: location.id,
            tienda_id: tenant,
            codigo: &location.code,
            name: &location.name,
            kind: location.kind,
            is_default: location.is_default,
            is_active: location.active,
        })
        .collect();
    Response::ok(&answers)
}

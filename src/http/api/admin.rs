//! `/api/v1/admin`: tenants and their catalogues, for whoever runs the installation.

use super::super::{ApiError, Permission, Request, Response, Role};
use super::cluster::Place;
use super::denied::{answered, ask_error};
use super::{Api, caller};
use crate::actors::reservation::{Caller, NewTenant};
use crate::domain::ids::{LocationId, TenantId};
use crate::domain::import::Import;
use crate::domain::tenant::{Location, LocationKind, Tenant};
use crate::domain::time::Timestamp;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
struct TenantAnswer<'a> {
    id: TenantId,
    nombre: Cow<'a, str>,
    rubro: Cow<'a, str>,
    is_active: bool,
    created_at: Timestamp,
}

fn tenant_answer(tenant: &Tenant) -> TenantAnswer<'_> {
    TenantAnswer {
        id: tenant.id,
        nombre: Cow::Borrowed(&tenant.name),
        rubro: Cow::Borrowed(&tenant.trade),
        is_active: tenant.active,
        created_at: tenant.created_at,
    }
}

pub(super) fn super_admin(api: &Api, request: &Request) -> Result<Caller, ApiError> {
    let principal = api.authenticator.authenticate(&request.headers)?;
    if principal.role != Role::SuperAdmin {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "permiso_denegado",
            "Se requiere el rol super_admin",
        ));
    }
    Ok(caller(&principal, request))
}

/// `GET /admin/tiendas`
pub async fn list_tenants(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    super_admin(&api, &request)?;
    let tenants = api.shards.tenants().await.map_err(ask_error)?;
    let mut rows: Vec<_> = tenants.iter().map(tenant_answer).collect();
    let elsewhere = match &api.cluster {
        Some(cluster) => cluster.ask_others(&request).await?,
        None => Vec::new(),
    };
    for answer in &elsewhere {
        let more: Vec<TenantAnswer<'_>> = answer
            .json()
            .map_err(|error| ApiError::internal().caused_by(format_args!("another node: {error}")))?;
        rows.extend(more);
    }
    rows.sort_by_key(|row| row.id);
    // One that is on its way from node to node is told of by both.
    rows.dedup_by_key(|row| row.id);
    Response::ok(&rows)
}

/// Ids to try until one is of a shard that is here; of a few shards, even one of 64 comes soon.
const TRIES: usize = 10_000;

#[derive(Deserialize)]
struct NewTenantBody {
    nombre: String,
    #[serde(default)]
    rubro: String,
}

/// `POST /admin/tiendas`: with the default location that every tenant has from its first moment.
pub async fn create_tenant(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let caller = super_admin(&api, &request)?;
    let request = match &api.cluster {
        Some(cluster) => match cluster.place_anywhere(request).await? {
            Place::Here(request) => *request,
            Place::Answered(response) => return Ok(response),
        },
        None => request,
    };
    let body: NewTenantBody = request.json()?;
    let make = || new_tenant(&body.nombre, &body.rubro, api.ops.clock.now());
    let mut new = make().map_err(|(field, rule)| ApiError::field(field, "largo", rule))?;
    // It begins at this node; an id says which shard it is.
    for _ in 0..TRIES {
        if api.shards.is_here(new.tenant.id) {
            break;
        }
        new = make().map_err(|(field, rule)| ApiError::field(field, "largo", rule))?;
    }
    let tenant = answered(api.shards.create_tenant(new, caller).await)?;
    Response::ok(&tenant_answer(&tenant))
}

/// A tenant with its default location; the error is the field and its rule.
pub fn new_tenant(
    name: &str,
    trade: &str,
    now: Timestamp,
) -> Result<NewTenant, (&'static str, &'static str)> {
    let name = name.trim();
    if !(1..=255).contains(&name.chars().count()) {
        return Err(("nombre", "Debe tener entre 1 y 255 caracteres"));
    }
    if trade.chars().count() > 50 {
        return Err(("rubro", "Admite hasta 50 caracteres"));
    }
    let tenant = Tenant {
        id: TenantId(Uuid::now_v7()),
        name: name.into(),
        trade: trade.trim().to_lowercase().into(),
        active: true,
        created_at: now,
    };
    let default = Location {
        id: LocationId(Uuid::now_v7()),
        code: "principal".into(),
        name: "Local Principal".into(),
        kind: LocationKind::Store,
        is_default: true,
        active: true,
    };
    Ok(NewTenant { tenant, locations: vec![default] })
}

/// `POST /admin/tiendas/{id}/catalogo`: an import, whole or not at all.
pub async fn import(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let (tenant, caller) = tenant_in_path(&api, &request, Permission::ProductosUpdate)?;
    let import: Import = request.json()?;
    let counts = answered(api.shards.import(tenant, import, caller).await)?;
    Response::ok(&counts)
}

/// The tenant in the path: anyone's for a super admin, one's own for anybody else.
fn tenant_in_path(
    api: &Api,
    request: &Request,
    permission: Permission,
) -> Result<(TenantId, Caller), ApiError> {
    let principal = api.principal(request, permission)?;
    let tenant: TenantId = request.param("id")?;
    if principal.role != Role::SuperAdmin && principal.tenant != Some(tenant) {
        return Err(ApiError::not_found("La tienda no existe"));
    }
    Ok((tenant, caller(&principal, request)))
}

#[derive(Serialize)]
struct SnapshotAnswer {
    secuencia: u64,
    existencias: Vec<(crate::domain::ids::UnitId, LocationId, i64)>,
}

/// `POST /admin/tiendas/{id}/cache/warmup`: the same as `/cache/warmup`, for any tenant.
pub async fn warm_up(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let (tenant, _) = tenant_in_path(&api, &request, Permission::InventarioAjuste)?;
    super::stock::warmed_up(&api, tenant).await
}

/// `GET /admin/tiendas/{id}/existencias`: hot stock as of one event, in thousandths, for checking it.
pub async fn snapshot(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let (tenant, _) = tenant_in_path(&api, &request, Permission::InventarioRead)?;
    let snapshot = answered(api.shards.snapshot(tenant).await)?;
    let row = |((unit, location), quantity): (_, crate::domain::decimal::Quantity)| {
        (unit, location, quantity.units())
    };
    Response::ok(&SnapshotAnswer {
        secuencia: snapshot.sequence,
        existencias: snapshot.on_hand.into_iter().map(row).collect(),
    })
}

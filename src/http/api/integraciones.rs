//! `/api/v1/integraciones`: connections to marketplaces.

mod estado;
mod mapeo;

pub use estado::{list, show};
pub use mapeo::{map, match_items, unmap};

use super::super::{ApiError, Permission, Request, Response};
use super::denied::{ask_error, not_done};
use super::{Allowed, Api, wire};
use crate::actors::channel::{Change, Msg};
use crate::actors::channels::{Asked, NotDone};
use crate::domain::channel::guard::Guard;
use crate::domain::channel::{ChannelKind, Connection, DriftPolicy, Mode, Policy};
use crate::domain::decimal::Quantity;
use crate::domain::ids::{ConnectionId, LocationId, TenantId};
use crate::ports::channel::Credentials;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// Characters of a name, an account or a place at most.
const LONGEST: usize = 200;

#[derive(Deserialize)]
struct NewBody<'a> {
    #[serde(borrow)]
    canal: Cow<'a, str>,
    #[serde(borrow)]
    nombre: Cow<'a, str>,
    #[serde(borrow)]
    cuenta: Cow<'a, str>,
    #[serde(borrow)]
    ubicacion_externa: Option<Cow<'a, str>>,
    #[serde(default)]
    ubicaciones: Vec<LocationId>,
    credenciales: Credentials,
    #[serde(borrow)]
    reserva: Option<&'a RawValue>,
    #[serde(default)]
    modo: Mode,
    #[serde(default)]
    ante_diferencias: DriftPolicy,
    guardia: Option<Guard>,
}

#[derive(Serialize)]
struct NewAnswer {
    id: ConnectionId,
}

fn named<T>(asked: Asked<T>) -> Result<T, ApiError> {
    asked.map_err(ask_error)?.map_err(not_done)
}

fn text(value: &str, field: &'static str) -> Result<Arc<str>, ApiError> {
    let value = value.trim();
    if value.is_empty() || value.chars().count() > LONGEST {
        return Err(ApiError::field(field, "largo", format!("Debe tener entre 1 y {LONGEST} caracteres")));
    }
    Ok(value.into())
}

fn buffer(raw: Option<&RawValue>) -> Result<Option<Quantity>, ApiError> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    let buffer: Quantity = wire::decimal(raw, || "reserva".into())?;
    if buffer < Quantity::ZERO {
        return Err(ApiError::field("reserva", "fuera_de_rango", "No puede ser negativa"));
    }
    Ok(Some(buffer))
}

fn guard(guard: Guard) -> Result<Guard, ApiError> {
    if guard.units == 0 {
        return Err(ApiError::field("guardia.unidades", "fuera_de_rango", "Debe ser al menos 1"));
    }
    if guard.percent > 100 {
        return Err(ApiError::field("guardia.porcentaje", "fuera_de_rango", "Debe estar entre 0 y 100"));
    }
    Ok(guard)
}

fn credentials(given: Credentials) -> Result<Credentials, ApiError> {
    if given.access_token.is_empty() {
        return Err(ApiError::field("credenciales.access_token", "largo", "No puede estar vacío"));
    }
    Ok(given)
}

/// `POST /integraciones`: connects an account. Its credentials are kept sealed and are never shown again.
pub async fn create(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let body: NewBody<'_> = request.json()?;
    let kind = ChannelKind::parse(&body.canal).ok_or_else(|| {
        let known = ChannelKind::ALL.map(ChannelKind::as_str).join(", ");
        ApiError::field("canal", "opcion", format!("Debe ser uno de: {known}"))
    })?;
    let buffer = buffer(body.reserva)?.unwrap_or(Quantity::ZERO);
    let credentials = credentials(body.credenciales)?;
    let place = body.ubicacion_externa.as_deref().filter(|place| !place.is_empty());
    known_locations(&api, tenant, &body.ubicaciones).await?;
    let connection = Connection {
        id: ConnectionId(Uuid::now_v7()),
        tenant,
        kind,
        name: text(&body.nombre, "nombre")?,
        account: text(&body.cuenta, "cuenta")?,
        place: place.map(|place| text(place, "ubicacion_externa")).transpose()?,
        sources: body.ubicaciones,
        policy: Policy {
            buffer,
            mode: body.modo,
            drift: body.ante_diferencias,
            guard: body.guardia.map(guard).transpose()?.unwrap_or_default(),
        },
        paused: false,
        created_at: api.ops.clock.now(),
    };
    let id = named(api.channels.create(connection, credentials).await)?;
    Response::created(&NewAnswer { id })
}

#[derive(Deserialize)]
struct InstallBody<'a> {
    #[serde(borrow)]
    nombre: Cow<'a, str>,
    #[serde(borrow)]
    cuenta: Cow<'a, str>,
    #[serde(borrow)]
    ubicacion_externa: Cow<'a, str>,
    #[serde(default)]
    ubicaciones: Vec<LocationId>,
}

#[derive(Serialize)]
struct InstallAnswer {
    url: String,
}

/// `POST /integraciones/shopify/instalar`: where the shop's owner goes to agree.
pub async fn install(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let body: InstallBody<'_> = request.json()?;
    known_locations(&api, tenant, &body.ubicaciones).await?;
    let connection = Connection {
        id: ConnectionId(Uuid::now_v7()),
        tenant,
        kind: ChannelKind::Shopify,
        name: text(&body.nombre, "nombre")?,
        account: text(&body.cuenta, "cuenta")?,
        place: Some(text(&body.ubicacion_externa, "ubicacion_externa")?),
        sources: body.ubicaciones,
        policy: Policy::default(),
        paused: false,
        created_at: api.ops.clock.now(),
    };
    Response::ok(&InstallAnswer { url: named(api.channels.begin(connection).await)? })
}

/// `GET /integraciones/shopify/retorno`: the owner is back. Believed when Shopify signed it and the state is one that was
/// sent out, for that shop, lately, once.
pub async fn installed(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let id = named(api.channels.finish(request.raw_query().to_owned()).await)?;
    Response::ok(&NewAnswer { id })
}

async fn known_locations(api: &Api, tenant: TenantId, asked: &[LocationId]) -> Result<(), ApiError> {
    if asked.is_empty() {
        return Ok(());
    }
    let locations = super::denied::answered(api.shards.locations(tenant).await)?;
    match asked.iter().position(|id| locations.iter().all(|location| location.id != *id)) {
        Some(index) => {
            let field = format!("ubicaciones[{index}]");
            Err(ApiError::field(field, "opcion", "La ubicación no existe"))
        }
        None => Ok(()),
    }
}

#[derive(Deserialize)]
struct ChangeBody<'a> {
    #[serde(borrow)]
    nombre: Option<Cow<'a, str>>,
    ubicaciones: Option<Vec<LocationId>>,
    #[serde(borrow)]
    reserva: Option<&'a RawValue>,
    modo: Option<Mode>,
    ante_diferencias: Option<DriftPolicy>,
    guardia: Option<Guard>,
    credenciales: Option<Credentials>,
}

/// `PATCH /integraciones/{id}`: other rules from now on, or other tokens of the same app; what is not said stays.
pub async fn change(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let body: ChangeBody<'_> = request.json()?;
    if let Some(sources) = &body.ubicaciones {
        known_locations(&api, tenant, sources).await?;
    }
    let change = Change {
        name: body.nombre.map(|name| text(&name, "nombre")).transpose()?,
        sources: body.ubicaciones,
        buffer: buffer(body.reserva)?,
        mode: body.modo,
        drift: body.ante_diferencias,
        guard: body.guardia.map(guard).transpose()?,
        credentials: body.credenciales.map(credentials).transpose()?,
    };
    let message = |reply| Msg::Change(Box::new(change), reply);
    let changed = named(api.channels.of(tenant, request.param("id")?, message).await)?;
    changed.map_err(|why| not_done(NotDone::Refused(why)))?;
    Response::ok(&Said { mensaje: "Reglas cambiadas" })
}

/// `DELETE /integraciones/{id}`
pub async fn remove(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let id: ConnectionId = request.param("id")?;
    named(api.channels.remove(tenant, id).await)?;
    Response::ok(&Said { mensaje: "Integración eliminada" })
}

#[derive(Serialize)]
struct Said {
    mensaje: &'static str,
}

#[derive(Serialize)]
struct Counted {
    cantidad: usize,
    mensaje: &'static str,
}

#[derive(Serialize)]
struct Checked {
    funciona: bool,
    cuenta: Option<String>,
    motivo: Option<String>,
}

/// `POST /integraciones/{id}/probar`: whether account and token work, said with 200 either way.
pub async fn check(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let checked = named(api.channels.of(tenant, request.param("id")?, Msg::Check).await)?;
    Response::ok(&match checked {
        Ok(account) => Checked { funciona: true, cuenta: Some(account), motivo: None },
        Err(cause) => Checked { funciona: false, cuenta: None, motivo: Some(cause) },
    })
}

/// `POST /integraciones/{id}/pausar` and `/reanudar`
pub async fn pause(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    paused(&api, &request, true).await
}

pub async fn resume(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    paused(&api, &request, false).await
}

async fn paused(api: &Api, request: &Request, paused: bool) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(request, Permission::TiendaUpdate)?;
    named(api.channels.of(tenant, request.param("id")?, |reply| Msg::Pause(paused, reply)).await)?;
    Response::ok(&Said { mensaje: if paused { "Integración pausada" } else { "Integración en marcha" } })
}

/// `POST /integraciones/{id}/resincronizar`: everything is compared and read anew, what was given up is tried again.
pub async fn resync(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    named(api.channels.of(tenant, request.param("id")?, Msg::Resync).await)?;
    Response::ok(&Said { mensaje: "Se compara todo de nuevo" })
}

/// `POST /integraciones/{id}/confirmar_ceros`: the zeros that were held back are right.
pub async fn confirm_zeros(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let cantidad = named(api.channels.of(tenant, request.param("id")?, Msg::ConfirmZeros).await)?;
    Response::ok(&Counted { cantidad, mensaje: "Ceros confirmados" })
}

/// `POST /integraciones/{id}/corregir_diferencias`: ours is pushed wherever theirs differs.
pub async fn push_ours(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let cantidad = named(api.channels.of(tenant, request.param("id")?, Msg::PushOurs).await)?;
    Response::ok(&Counted { cantidad, mensaje: "Se envían nuestras cantidades" })
}

//! `/api/v1/webhooks/salientes`: what a tenant's own systems are told.

use super::super::{ApiError, Permission, Request, Response};
use super::denied::{ask_error, denied};
use super::{Allowed, Api};
use crate::actors::reservation::Denied;
use crate::actors::webhooks::{Asked, NotDone};
use crate::domain::hook::{Hook, News, Secret};
use crate::domain::ids::HookId;
use crate::domain::time::Timestamp;
use crate::ports::hooks::Logged;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// Lines of a log, unless the caller wants fewer.
const LISTED: usize = 100;

fn answered<T>(asked: Asked<T>) -> Result<T, ApiError> {
    asked.map_err(ask_error)?.map_err(|error| match error {
        NotDone::Unknown => ApiError::not_found("El webhook no existe"),
        NotDone::TooMany => {
            ApiError::conflict("demasiados_webhooks", "La tienda no puede tener más webhooks")
        }
        NotDone::TooManySecrets => ApiError::conflict(
            "demasiados_secretos",
            "El secreto cambió demasiadas veces en un día: espere a que venzan los anteriores",
        ),
        NotDone::BadUrl(rule) => ApiError::field("url", "formato", rule),
        NotDone::Port(error) if error.is_transient() => denied(Denied::Port(error)),
        NotDone::Port(error) => {
            let message = "El webhook no se puede guardar";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "webhook_invalido", message)
                .with_details(json!({ "motivo": error.to_string() }))
        }
    })
}

#[derive(Deserialize)]
struct NewBody<'a> {
    #[serde(borrow)]
    url: Cow<'a, str>,
    eventos: Vec<String>,
    #[serde(borrow)]
    secreto: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct NewAnswer {
    id: HookId,
    /// Shown here and never again.
    secreto: String,
}

/// `POST /webhooks/salientes`: wants to be told. The secret is made here unless the caller brings one.
pub async fn create(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let body: NewBody<'_> = request.json()?;
    let mut news = Vec::new();
    for (index, name) in body.eventos.iter().enumerate() {
        let known = News::FOR_TENANTS.into_iter().find(|news| news.as_str() == name);
        let known = known.ok_or_else(|| {
            let names = News::FOR_TENANTS.map(News::as_str).join(", ");
            ApiError::field(format!("eventos[{index}]"), "opcion", format!("Debe ser uno de: {names}"))
        })?;
        if !news.contains(&known) {
            news.push(known);
        }
    }
    if news.is_empty() {
        return Err(ApiError::field("eventos", "largo", "Debe tener al menos un evento"));
    }
    let secret = match &body.secreto {
        Some(text) => Secret::parse(text).ok_or_else(|| {
            ApiError::field("secreto", "formato", "Debe ser whsec_ y base64 de 24 a 64 bytes")
        })?,
        None => Secret::random().ok_or_else(ApiError::internal)?,
    };
    let hook = Hook {
        id: HookId(Uuid::now_v7()),
        tenant,
        url: body.url.as_ref().into(),
        news,
        paused: None,
        failing_since: None,
        lost: 0,
        created_at: api.ops.clock.now(),
    };
    let id = hook.id;
    answered(api.webhooks.create(hook, secret.clone()).await)?;
    Response::created(&NewAnswer { id, secreto: secret.reveal() })
}

#[derive(Serialize)]
struct HookAnswer {
    id: HookId,
    url: Arc<str>,
    eventos: Vec<News>,
    estado: &'static str,
    motivo: Option<Arc<str>>,
    falla_desde: Option<Timestamp>,
    pendientes: u64,
    perdidos: u64,
    created_at: Timestamp,
}

/// `GET /webhooks/salientes`
pub async fn list(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaRead)?;
    let hooks = answered(api.webhooks.list(tenant).await)?;
    let answer = |(hook, pendientes): (Hook, u64)| HookAnswer {
        id: hook.id,
        url: hook.url,
        eventos: hook.news,
        estado: match (&hook.paused, hook.failing_since) {
            (Some(_), _) => "pausado",
            (None, Some(_)) => "con_error",
            (None, None) => "activo",
        },
        motivo: hook.paused,
        falla_desde: hook.failing_since,
        pendientes,
        perdidos: hook.lost,
        created_at: hook.created_at,
    };
    Response::ok(&hooks.into_iter().map(answer).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct Said {
    mensaje: &'static str,
}

/// `DELETE /webhooks/salientes/{id}`
pub async fn remove(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    answered(api.webhooks.remove(tenant, request.param("id")?).await)?;
    Response::ok(&Said { mensaje: "Webhook eliminado" })
}

/// `POST /webhooks/salientes/{id}/pausar` and `/reanudar`
pub async fn pause(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    paused(&api, &request, true).await
}

pub async fn resume(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    paused(&api, &request, false).await
}

async fn paused(api: &Api, request: &Request, paused: bool) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(request, Permission::TiendaUpdate)?;
    answered(api.webhooks.pause(tenant, request.param("id")?, paused).await)?;
    Response::ok(&Said { mensaje: if paused { "Webhook pausado" } else { "Webhook en marcha" } })
}

#[derive(Serialize)]
struct RotatedAnswer {
    /// Shown here and never again.
    secreto: String,
    anterior_hasta: Timestamp,
}

/// `POST /webhooks/salientes/{id}/rotar`: a new secret, made here. The one before signs beside it for a day.
pub async fn rotate(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let secret = Secret::random().ok_or_else(ApiError::internal)?;
    let anterior_hasta = answered(api.webhooks.rotate(tenant, request.param("id")?, secret.clone()).await)?;
    Response::ok(&RotatedAnswer { secreto: secret.reveal(), anterior_hasta })
}

/// `POST /webhooks/salientes/{id}/probar`: a message of the type `prueba` goes out; the log says what came back.
pub async fn test(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    answered(api.webhooks.test(tenant, request.param("id")?).await)?;
    Response::ok(&Said { mensaje: "Se envía un mensaje de prueba" })
}

#[derive(Serialize)]
struct LoggedAnswer<'a> {
    entrega: i64,
    mensaje_id: &'a str,
    evento: News,
    estado: &'a str,
    intentos: u32,
    codigo_http: Option<u16>,
    respuesta: &'a str,
    fecha: Timestamp,
    ultimo_intento: Option<Timestamp>,
    cuerpo: Option<&'a RawValue>,
}

fn logged_answer(logged: &Logged) -> LoggedAnswer<'_> {
    LoggedAnswer {
        entrega: logged.position,
        mensaje_id: &logged.id,
        evento: logged.news,
        estado: &logged.state,
        intentos: logged.attempts,
        codigo_http: logged.status,
        respuesta: &logged.response,
        fecha: logged.at,
        ultimo_intento: logged.tried_at,
        cuerpo: serde_json::from_slice(&logged.body).ok(),
    }
}

/// `GET /webhooks/salientes/{id}/entregas`: what was told it, the newest first; `antes` is the last one of the page before.
pub async fn log(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaRead)?;
    let limit = request.query_in("limit", 1..=LISTED, LISTED)?;
    let before = request.query("antes")?;
    let log = answered(api.webhooks.log(tenant, request.param("id")?, before, limit).await)?;
    Response::ok(&log.iter().map(logged_answer).collect::<Vec<_>>())
}

/// `POST /webhooks/salientes/{id}/entregas/{entrega}/reenviar`: the same message again, whatever became of it.
pub async fn again(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaUpdate)?;
    let again = api.webhooks.again(tenant, request.param("id")?, request.param("entrega")?).await;
    if answered(again)? {
        return Response::ok(&Said { mensaje: "Se envía de nuevo" });
    }
    Err(ApiError::not_found("La entrega no existe"))
}

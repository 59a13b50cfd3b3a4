//! `/api/v1/webhooks`: news from marketplaces. Open to everybody, believed when signed; kept, then answered, then read.

use super::super::{ApiError, Request, Response};
use super::Api;
use super::denied::{ask_error, not_done};
use crate::domain::ids::ConnectionId;
use crate::ports::channel::Notice;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

#[derive(Serialize)]
struct Received {
    nuevo: bool,
}

/// Characters of an id or a topic at most.
const LONGEST: usize = 200;

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name)?.to_str().ok().filter(|text| !text.is_empty() && text.len() <= LONGEST)
}

/// `POST /webhooks/shopify/{id}`: signed with the app's secret over the bytes of the body. The same event comes once for
/// each subscription and again after every failure; its id and topic tell that it is known.
pub async fn shopify(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let connection: ConnectionId = request.param("id")?;
    let missing = |name: &'static str| ApiError::field(name, "obligatorio", "Falta la cabecera");
    let signature =
        header(&request, "x-shopify-hmac-sha256").ok_or_else(|| missing("X-Shopify-Hmac-Sha256"))?;
    let topic = header(&request, "x-shopify-topic").ok_or_else(|| missing("X-Shopify-Topic"))?;
    let id = header(&request, "x-shopify-event-id").or_else(|| header(&request, "x-shopify-webhook-id"));
    let id = id.ok_or_else(|| missing("X-Shopify-Event-Id"))?;
    let notice = Notice {
        id: format!("{topic} {id}"),
        topic: topic.to_owned(),
        body: request.body.to_vec(),
        at: api.ops.clock.now(),
    };
    let received = api.channels.signed(connection, signature.to_owned(), notice).await;
    let nuevo = received.map_err(ask_error)?.map_err(not_done)?;
    Response::ok(&Received { nuevo })
}

/// MercadoLibre spells its ids as numbers here and texts there, and its own id in two ways or not at all.
#[derive(Deserialize)]
struct MeliBody {
    _id: Option<String>,
    id: Option<String>,
    resource: String,
    topic: String,
    user_id: Value,
    application_id: Value,
    #[serde(default)]
    sent: String,
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `POST /webhooks/meli`: nobody signs it, so it is a hint; what it is about is asked for. Kept and answered at once:
/// MercadoLibre gives half a second.
pub async fn meli(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let body: MeliBody = request.json()?;
    for (field, text) in [("topic", &body.topic), ("resource", &body.resource)] {
        if text.is_empty() || text.len() > LONGEST {
            return Err(ApiError::field(
                field,
                "largo",
                format!("Debe tener entre 1 y {LONGEST} caracteres"),
            ));
        }
    }
    let known = body._id.or(body.id).filter(|id| !id.is_empty() && id.len() <= LONGEST);
    let id = known.unwrap_or_else(|| format!("{} {} {}", body.topic, body.resource, body.sent));
    let notice = Notice { id, topic: body.topic, body: request.body.to_vec(), at: api.ops.clock.now() };
    let (account, app) = (plain(&body.user_id), plain(&body.application_id));
    let received = api.channels.hinted(account, app, notice).await;
    let nuevo = received.map_err(ask_error)?.map_err(not_done)?;
    Response::ok(&Received { nuevo })
}

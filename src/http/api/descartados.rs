//! `/api/v1/admin/descartados`: what was given up, for whoever runs the installation.

use super::super::{ApiError, Request, Response};
use super::Api;
use super::admin::super_admin;
use super::denied::denied;
use crate::actors::reservation::Denied;
use crate::domain::dead_letter::{DeadLetter, Group, Selection, grouped};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Letters looked at at once.
const MOST: usize = 10_000;

/// Letters listed, unless the caller wants more.
const LISTED: usize = 1_000;

/// Letters tried again or thrown away at once, unless the caller says how many.
const AT_ONCE: usize = 100;

#[derive(Serialize)]
struct ListAnswer<'a> {
    grupos: Vec<GroupAnswer>,
    descartados: Vec<LetterAnswer<'a>>,
}

#[derive(Serialize)]
struct GroupAnswer {
    causa: String,
    cantidad: usize,
    ejemplo: String,
    primera_falla: Timestamp,
    ultima_falla: Timestamp,
}

#[derive(Serialize)]
struct LetterAnswer<'a> {
    id: &'a str,
    asunto: &'static str,
    consumidor: &'a str,
    tipo: &'a str,
    tienda_id: &'a str,
    intentos: u64,
    primera_falla: Timestamp,
    ultima_falla: Timestamp,
    causa: &'a str,
    /// Why it is not thrown away; nothing when it may be.
    no_se_borra: Option<&'static str>,
    /// Nothing when it is no JSON: it was damaged on the way, as its cause says.
    evento: Option<&'a RawValue>,
    /// What was sent or came, where that is no JSON.
    texto: Option<String>,
    respuesta: &'a str,
}

fn letter_answer(letter: &DeadLetter) -> LetterAnswer<'_> {
    let evento = serde_json::from_slice(&letter.payload).ok();
    LetterAnswer {
        id: &letter.id,
        asunto: letter.matter.as_str(),
        consumidor: &letter.group,
        tipo: &letter.kind,
        tienda_id: &letter.tenant,
        intentos: letter.attempts,
        primera_falla: letter.first_at,
        ultima_falla: letter.last_at,
        causa: &letter.cause,
        no_se_borra: letter.matter.kept_because(),
        texto: evento.is_none().then(|| String::from_utf8_lossy(&letter.payload).into_owned()),
        evento,
        respuesta: &letter.response,
    }
}

async fn letters(api: &Api, most: usize) -> Result<Vec<DeadLetter>, ApiError> {
    api.ops.dead_letters.list(most).await.map_err(|error| denied(Denied::Port(error)))
}

/// `GET /admin/descartados`: by cause, the largest group first, and one by one, the oldest first.
pub async fn list(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    super_admin(&api, &request)?;
    let most = request.query::<usize>("limit")?.unwrap_or(LISTED);
    if !(1..=MOST).contains(&most) {
        return Err(ApiError::field("limit", "fuera_de_rango", format!("Debe estar entre 1 y {MOST}")));
    }
    let letters = letters(&api, most).await?;
    let group = |group: Group| GroupAnswer {
        causa: group.cause,
        cantidad: group.ids.len(),
        ejemplo: group.example,
        primera_falla: group.first_at,
        ultima_falla: group.last_at,
    };
    Response::ok(&ListAnswer {
        grupos: grouped(&letters).into_iter().map(group).collect(),
        descartados: letters.iter().map(letter_answer).collect(),
    })
}

/// `GET /admin/descartados/{id}`: one, in full.
pub async fn show(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    super_admin(&api, &request)?;
    let id: String = request.param("id")?;
    let letters = letters(&api, MOST).await?;
    match letters.iter().find(|letter| letter.id == id) {
        Some(letter) => Response::ok(&letter_answer(letter)),
        None => Err(ApiError::not_found("Nada con ese id está descartado")),
    }
}

#[derive(Deserialize)]
struct SelectionBody {
    #[serde(default)]
    ids: Vec<String>,
    causa: Option<String>,
    maximo: Option<usize>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    ensayo: bool,
}

async fn chosen(api: &Api, body: SelectionBody) -> Result<Vec<DeadLetter>, ApiError> {
    let most = body.maximo.unwrap_or(AT_ONCE);
    if !(1..=MOST).contains(&most) {
        return Err(ApiError::field("maximo", "fuera_de_rango", format!("Debe estar entre 1 y {MOST}")));
    }
    let selection = Selection { ids: body.ids, cause: body.causa, most };
    Ok(selection.of(&letters(api, MOST).await?).into_iter().cloned().collect())
}

fn ids_of(letters: Vec<DeadLetter>) -> Vec<String> {
    letters.into_iter().map(|letter| letter.id).collect()
}

#[derive(Serialize)]
struct ReplayAnswer {
    ensayo: bool,
    elegidos: Vec<String>,
    reprocesados: usize,
}

/// `POST /admin/descartados/reprocesar`: tries some of them again.
pub async fn replay(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let caller = super_admin(&api, &request)?;
    let body: SelectionBody = request.json()?;
    let ensayo = body.ensayo;
    let elegidos = ids_of(chosen(&api, body).await?);
    let mut reprocesados = 0;
    if !ensayo && !elegidos.is_empty() {
        let replayed = api.ops.dead_letters.replay(&elegidos).await;
        reprocesados = replayed.map_err(|error| denied(Denied::Port(error)))?;
        let (user, request_id) = (&*caller.user, &*caller.request_id);
        tracing::info!(user, request_id, reprocesados, "dead letters are tried again");
    }
    Response::ok(&ReplayAnswer { ensayo, elegidos, reprocesados })
}

#[derive(Serialize)]
struct DiscardAnswer {
    ensayo: bool,
    elegidos: Vec<String>,
    borrados: usize,
}

/// `POST /admin/descartados/borrar`: throws some of them away, where that is safe. All or none: one that has to be kept
/// is named with the reason.
pub async fn discard(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let caller = super_admin(&api, &request)?;
    let body: SelectionBody = request.json()?;
    let ensayo = body.ensayo;
    let letters = chosen(&api, body).await?;
    let kept = letters.iter().find_map(|letter| Some((&letter.id, letter.matter.kept_because()?)));
    if let Some((id, why)) = kept {
        let message = "Un evento del libro no se borra: corrija la causa y reprocéselo";
        let details = serde_json::json!({ "id": id, "motivo": why });
        return Err(ApiError::conflict("no_se_borra", message).with_details(details));
    }
    let elegidos = ids_of(letters);
    let mut borrados = 0;
    if !ensayo && !elegidos.is_empty() {
        let discarded = api.ops.dead_letters.discard(&elegidos).await;
        borrados = discarded.map_err(|error| denied(Denied::Port(error)))?;
        let (user, request_id) = (&*caller.user, &*caller.request_id);
        tracing::warn!(user, request_id, borrados, "dead letters are thrown away");
    }
    Response::ok(&DiscardAnswer { ensayo, elegidos, borrados })
}

//! `/api/v1/admin/descartados`: events that were given up, for whoever runs the installation.

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

/// Letters tried again at once, unless the caller wants fewer.
const REPLAYED: usize = 100;

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
    consumidor: &'a str,
    tipo: &'a str,
    tienda_id: &'a str,
    intentos: u64,
    primera_falla: Timestamp,
    ultima_falla: Timestamp,
    causa: &'a str,
    /// Nothing when it is no JSON: it was damaged on the way, as its cause says.
    evento: Option<&'a RawValue>,
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
        descartados: letters
            .iter()
            .map(|letter| LetterAnswer {
                id: &letter.id,
                consumidor: &letter.group,
                tipo: &letter.kind,
                tienda_id: &letter.tenant,
                intentos: letter.attempts,
                primera_falla: letter.first_at,
                ultima_falla: letter.last_at,
                causa: &letter.cause,
                evento: serde_json::from_slice(&letter.payload).ok(),
            })
            .collect(),
    })
}

#[derive(Deserialize)]
struct ReplayBody {
    #[serde(default)]
    ids: Vec<String>,
    causa: Option<String>,
    maximo: Option<usize>,
    /// Say what would be done, and do nothing.
    #[serde(default)]
    ensayo: bool,
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
    let body: ReplayBody = request.json()?;
    let most = body.maximo.unwrap_or(REPLAYED);
    if !(1..=MOST).contains(&most) {
        return Err(ApiError::field("maximo", "fuera_de_rango", format!("Debe estar entre 1 y {MOST}")));
    }
    let selection = Selection { ids: body.ids, cause: body.causa, most };
    let letters = letters(&api, MOST).await?;
    let elegidos: Vec<String> = selection.of(&letters).into_iter().map(|letter| letter.id.clone()).collect();
    let mut reprocesados = 0;
    if !body.ensayo && !elegidos.is_empty() {
        let replayed = api.ops.dead_letters.replay(&elegidos).await;
        reprocesados = replayed.map_err(|error| denied(Denied::Port(error)))?;
        tracing::info!(
            user = &*caller.user,
            request_id = &*caller.request_id,
            reprocesados,
            "dead letters are tried again"
        );
    }
    Response::ok(&ReplayAnswer { ensayo: body.ensayo, elegidos, reprocesados })
}

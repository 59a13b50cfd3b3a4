//! What waits for a decision.

use super::super::super::{ApiError, FieldError, Permission, Request, Response};
use super::super::denied::answered;
use super::super::{Allowed, Api};
use super::{MOST, follow, read_source};
use crate::domain::decimal::Quantity;
use crate::domain::erp::{AccountKey, Batch, Decision, HeldAccount, Identity, Resolution, branch_name};
use crate::domain::ids::{LocationId, UnitId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Serialize)]
struct HeldAnswer {
    retenidos: Vec<HeldRow>,
}

#[derive(Serialize)]
struct HeldRow {
    fuente: Arc<str>,
    #[serde(flatten)]
    clave: AccountKey,
    motivo: &'static str,
    producto_id: UnitId,
    ubicacion_id: LocationId,
    erp: Quantity,
    aplicado: Quantity,
    pendiente: Quantity,
}

/// `GET /sync/legacy/retenidos`
pub async fn held(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::InventarioRead)?;
    let states = answered(api.shards.erp_states(tenant).await)?;
    let row = |source: &Arc<str>, held: HeldAccount| HeldRow {
        fuente: source.clone(),
        motivo: held.reason.as_str(),
        producto_id: held.account.unit,
        ubicacion_id: held.account.location,
        erp: held.account.seen(),
        aplicado: held.account.applied,
        pendiente: held.account.pending(),
        clave: held.key,
    };
    let rows = states.into_iter().flat_map(|state| {
        let source = state.source;
        state.held.into_iter().map(move |held| row(&source, held)).collect::<Vec<_>>()
    });
    Response::ok(&HeldAnswer { retenidos: rows.collect() })
}

#[derive(Deserialize)]
struct DecideBody<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    accion: Cow<'a, str>,
    #[serde(borrow)]
    items: Vec<DecidedItem<'a>>,
}

#[derive(Deserialize)]
struct DecidedItem<'a> {
    #[serde(borrow)]
    codigo: Cow<'a, str>,
    #[serde(borrow)]
    talle: Option<Cow<'a, str>>,
    #[serde(borrow)]
    color: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sucursal: Cow<'a, str>,
}

#[derive(Serialize)]
struct DecideAnswer {
    aplicados: usize,
    retenidos: usize,
}

/// `POST /sync/legacy/retenidos`: `aplicar` moves what is held, `descartar` forgets it.
pub async fn decide(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, caller } = api.allow(&request, Permission::InventarioAjuste)?;
    let body: DecideBody<'_> = request.json()?;
    let decision = match body.accion.as_ref() {
        "aplicar" => Decision::Apply,
        "descartar" => Decision::Dismiss,
        _ => return Err(ApiError::field("accion", "opcion", "Debe ser uno de: aplicar, descartar")),
    };
    if body.items.is_empty() || body.items.len() > MOST {
        let message = format!("Debe tener entre 1 y {MOST} elementos, tiene {}", body.items.len());
        return Err(ApiError::field("items", "fuera_de_rango", message));
    }
    let source = read_source(&body.source, || "source".to_owned())?;
    let states = answered(api.shards.erp_states(tenant).await)?;
    let state = states.into_iter().find(|state| state.source == source);
    let state = state.ok_or_else(|| ApiError::not_found("La fuente no existe"))?;
    let (mut resolutions, mut errors) = (Vec::new(), Vec::new());
    for (index, item) in body.items.iter().enumerate() {
        let identity = Identity::new(&item.codigo, item.talle.as_deref(), item.color.as_deref()).ok();
        let key =
            identity.zip(branch_name(&item.sucursal).ok()).map(|(item, branch)| AccountKey { item, branch });
        match key.filter(|key| state.held.iter().any(|held| held.key == *key)) {
            Some(key) => resolutions.push(Resolution { key, decision }),
            None => errors.push(FieldError {
                field: format!("items[{index}]"),
                message: "No está retenido".into(),
                kind: "inexistente".into(),
            }),
        }
    }
    if !errors.is_empty() {
        return Err(ApiError::validation(errors));
    }
    let followed = follow(&api, tenant, caller, source, Batch::default(), resolutions).await?;
    Response::ok(&DecideAnswer { aplicados: followed.applied, retenidos: followed.held })
}

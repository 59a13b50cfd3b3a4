//! How the sources stand.

use super::super::super::{ApiError, Permission, Request, Response};
use super::super::denied::{answered, ask_error};
use super::super::{Allowed, Api};
use crate::actors::legacy_poller::{Numbers, SourceStatus};
use crate::actors::reservation::ErpState;
use crate::domain::erp::{Cursor, Position};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize)]
struct StatusAnswer {
    fuentes: Vec<SourceAnswer>,
}

#[derive(Serialize)]
struct SourceAnswer {
    fuente: Arc<str>,
    modo: &'static str,
    estado: &'static str,
    saldos: usize,
    retenidos: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sondeo: Option<PolledAnswer>,
}

#[derive(Serialize)]
struct PolledAnswer {
    estrategia: &'static str,
    cargado: bool,
    leyendo_todo: Option<usize>,
    marca_saldos: Option<String>,
    marca_productos: Option<String>,
    reloj_erp: Option<String>,
    ultimo_sondeo: Option<Timestamp>,
    atraso_ms: Option<i64>,
    sondeos: u64,
    lecturas_completas: u64,
    filas_leidas: u64,
    aplicadas: u64,
    retenidas: u64,
    omitidas: BTreeMap<&'static str, u64>,
    filas_ilegibles: Vec<String>,
    creados: u64,
    actualizados: u64,
    conexiones: u64,
    fallos: u64,
    ultimo_error: Option<String>,
}

/// `GET /sync/legacy`
pub async fn status(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::InventarioRead)?;
    let states = answered(api.shards.erp_states(tenant).await)?;
    let polled = api.pollers.status(tenant);
    let mut names: Vec<Arc<str>> = states.iter().map(|state| state.source.clone()).collect();
    names.extend(polled.iter().map(|status| status.source.clone()));
    names.sort_unstable();
    names.dedup();
    let now = api.ops.clock.now();
    let fuentes = names.into_iter().map(|name| {
        let state = states.iter().find(|state| state.source == name);
        let status = polled.iter().find(|status| status.source == name);
        source_answer(name, state, status, now)
    });
    Response::ok(&StatusAnswer { fuentes: fuentes.collect() })
}

fn source_answer(
    fuente: Arc<str>,
    state: Option<&ErpState>,
    status: Option<&SourceStatus>,
    now: Timestamp,
) -> SourceAnswer {
    let estado = match status {
        None => "recibe",
        Some(status) if status.numbers.last_error.is_some() => "fallando",
        Some(status) if !status.loaded => "cargando",
        Some(_) => "al_dia",
    };
    SourceAnswer {
        fuente,
        modo: if status.is_some() { "sondeo" } else { "agente" },
        estado,
        saldos: state.map_or(0, |state| state.balances),
        retenidos: state.map_or(0, |state| state.held.len()),
        sondeo: status.map(|status| polled_answer(status, now)),
    }
}

fn polled_answer(status: &SourceStatus, now: Timestamp) -> PolledAnswer {
    let Numbers { last_poll, clock, last_error, .. } = &status.numbers;
    let numbers = &status.numbers;
    let mark = |position: fn(&Cursor) -> &Position| {
        let position = position(status.cursor.as_ref()?);
        let version = position.version.map(|version| format!("rowversion {version}"));
        version.or_else(|| position.stamp.as_ref().map(ToString::to_string))
    };
    PolledAnswer {
        estrategia: status.strategy.as_str(),
        cargado: status.loaded,
        leyendo_todo: status.scanned,
        marca_saldos: mark(|cursor| &cursor.balances),
        marca_productos: mark(|cursor| &cursor.products),
        reloj_erp: clock.as_ref().map(ToString::to_string),
        ultimo_sondeo: *last_poll,
        atraso_ms: last_poll.map(|last| (now.micros() - last.micros()).max(0) / 1_000),
        sondeos: numbers.polls,
        lecturas_completas: numbers.scans,
        filas_leidas: numbers.read,
        aplicadas: numbers.applied,
        retenidas: numbers.held,
        omitidas: numbers.skipped.clone(),
        filas_ilegibles: numbers.rejected.iter().cloned().collect(),
        creados: numbers.created,
        actualizados: numbers.updated,
        conexiones: status.connections,
        fallos: numbers.failures,
        ultimo_error: last_error.clone(),
    }
}

#[derive(Deserialize, Default)]
struct RunBody<'a> {
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    #[serde(default)]
    completa: bool,
}

/// `POST /sync/legacy/run`: polls now and says what came of it; `completa` also begins to read everything.
pub async fn run(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::InventarioAjuste)?;
    let body: RunBody<'_> = if request.body.is_empty() { RunBody::default() } else { request.json()? };
    let poller = api.pollers.find(tenant, body.source.as_deref());
    let poller =
        poller.ok_or_else(|| ApiError::not_found("No hay una única fuente con ese nombre que se sondee"))?;
    let run = poller.run(body.completa).await.map_err(ask_error)?;
    run.map_err(|error| {
        let message = "El ERP no se pudo leer: el estado dice por qué";
        ApiError::unavailable("erp_no_disponible", message, 5).caused_by(error)
    })?;
    status(api.clone(), request).await
}

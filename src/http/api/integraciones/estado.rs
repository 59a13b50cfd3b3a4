//! How connections stand.

use super::super::super::{ApiError, Permission, Request, Response};
use super::super::denied::{answered, ask_error};
use super::super::{Allowed, Api};
use super::named;
use crate::actors::channel::Status;
use crate::domain::catalogue::Unit;
use crate::domain::channel::{ChannelKind, Policy};
use crate::domain::decimal::Money;
use crate::domain::ids::{ConnectionId, LocationId, SaleId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Serialize)]
struct ConnectionAnswer<'a> {
    id: ConnectionId,
    canal: ChannelKind,
    nombre: &'a str,
    cuenta: &'a str,
    ubicacion_externa: Option<&'a str>,
    ubicaciones: &'a [LocationId],
    #[serde(flatten)]
    reglas: &'a Policy,
    estado: &'static str,
    motivo: Option<&'a str>,
    ultimo_error: Option<&'a str>,
    al_dia: usize,
    pendientes: usize,
    retenidas: usize,
    fallidas: usize,
    diferencias: usize,
    /// How long the unit that waits the longest has waited.
    atraso_ms: u64,
    llamadas: u64,
    enviadas: u64,
    created_at: Timestamp,
}

fn connection_answer(status: &Status) -> ConnectionAnswer<'_> {
    let connection = &status.connection;
    let [clean, dirty, held, failed] = status.counts;
    ConnectionAnswer {
        id: connection.id,
        canal: connection.kind,
        nombre: &connection.name,
        cuenta: &connection.account,
        ubicacion_externa: connection.place.as_deref(),
        ubicaciones: &connection.sources,
        reglas: &connection.policy,
        estado: match (&status.broken, connection.paused) {
            (Some(_), _) => "con_error",
            (None, true) => "pausada",
            (None, false) => "activa",
        },
        motivo: status.broken.as_deref(),
        ultimo_error: status.last_error.as_deref(),
        al_dia: clean,
        pendientes: dirty,
        retenidas: held,
        fallidas: failed,
        diferencias: status.drift.len(),
        atraso_ms: u64::try_from(status.lag.as_millis()).unwrap_or(u64::MAX),
        llamadas: status.calls,
        enviadas: status.pushed,
        created_at: connection.created_at,
    }
}

/// `GET /integraciones`
pub async fn list(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaRead)?;
    let connections = api.channels.list(tenant).await.map_err(ask_error)?;
    let mut all = Vec::with_capacity(connections.len());
    for connection in connections {
        all.push(named(api.channels.status(tenant, connection.id).await)?);
    }
    Response::ok(&all.iter().map(connection_answer).collect::<Vec<_>>())
}

#[derive(Serialize)]
struct StatusAnswer<'a> {
    #[serde(flatten)]
    integracion: ConnectionAnswer<'a>,
    unidades: Vec<RowAnswer<'a>>,
    descartadas: Vec<FailureAnswer<'a>>,
    avisos_descartados: Vec<GivenUpAnswer<'a>>,
    pedidos: Vec<OrderAnswer<'a>>,
    detalle_diferencias: Vec<DriftAnswer>,
}

#[derive(Serialize)]
struct RowAnswer<'a> {
    producto_id: UnitId,
    item: &'a str,
    estado: &'static str,
    debe_mostrar: Option<i64>,
    muestra: Option<i64>,
    atraso_ms: i64,
}

#[derive(Serialize)]
struct FailureAnswer<'a> {
    producto_id: UnitId,
    codigo: &'a str,
    causa: &'a str,
    pedido: &'a str,
    respuesta: &'a str,
    intentos: u32,
    fecha: Timestamp,
}

#[derive(Serialize)]
struct GivenUpAnswer<'a> {
    aviso: &'a str,
    tema: &'a str,
    pedido: Option<&'a str>,
    codigo: &'a str,
    causa: &'a str,
    fecha: Timestamp,
}

#[derive(Serialize)]
struct OrderAnswer<'a> {
    pedido: &'a str,
    nombre: &'a str,
    estado: &'a str,
    venta_id: Option<SaleId>,
    que_hacer: &'a str,
    fecha: Timestamp,
}

#[derive(Serialize)]
struct DriftAnswer {
    producto_id: UnitId,
    nuestro: i64,
    alla: Option<i64>,
    causa_probable: &'static str,
    importe: Option<Money>,
    antiguedad_ms: i64,
}

/// `GET /integraciones/{id}`: how it stands, unit by unit where it is not up to date.
pub async fn show(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::TiendaRead)?;
    let id: ConnectionId = request.param("id")?;
    let status = named(api.channels.status(tenant, id).await)?;
    let now = api.ops.clock.now().micros();
    let age = |since: Timestamp| now.saturating_sub(since.micros()) / 1_000;
    let prices = if status.drift.is_empty() { HashMap::new() } else { prices(&api, tenant).await? };
    Response::ok(&StatusAnswer {
        integracion: connection_answer(&status),
        unidades: status
            .rows
            .iter()
            .map(|row| RowAnswer {
                producto_id: row.unit,
                item: &row.item,
                estado: row.standing.as_str(),
                debe_mostrar: row.wanted,
                muestra: row.shown,
                atraso_ms: row.since.map_or(0, age),
            })
            .collect(),
        descartadas: status
            .failures
            .iter()
            .map(|failure| FailureAnswer {
                producto_id: failure.unit,
                codigo: &failure.code,
                causa: &failure.cause,
                pedido: &failure.request,
                respuesta: &failure.response,
                intentos: failure.attempts,
                fecha: failure.at,
            })
            .collect(),
        avisos_descartados: status
            .given_up
            .iter()
            .map(|given_up| GivenUpAnswer {
                aviso: &given_up.notice,
                tema: &given_up.topic,
                pedido: given_up.order.as_deref(),
                codigo: &given_up.code,
                causa: &given_up.cause,
                fecha: given_up.at,
            })
            .collect(),
        pedidos: status
            .orders
            .iter()
            .map(|order| OrderAnswer {
                pedido: &order.id,
                nombre: &order.name,
                estado: &order.state,
                venta_id: order.sale,
                que_hacer: &order.remark,
                fecha: order.at,
            })
            .collect(),
        detalle_diferencias: status
            .drift
            .iter()
            .map(|drift| DriftAnswer {
                producto_id: drift.unit,
                nuestro: drift.ours,
                alla: drift.theirs,
                causa_probable: drift.cause.as_str(),
                importe: prices.get(&drift.unit).and_then(|price| drift.worth(*price)),
                antiguedad_ms: age(drift.since),
            })
            .collect(),
    })
}

async fn prices(api: &Api, tenant: TenantId) -> Result<HashMap<UnitId, Money>, ApiError> {
    let units: Vec<Arc<Unit>> = answered(api.shards.units(tenant).await)?;
    Ok(units.iter().map(|unit| (unit.id, unit.price)).collect())
}

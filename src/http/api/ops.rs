//! What operators look at: health, metrics, actors, the live page.

use super::super::{ApiError, Request, Response, ops_allowed};
use super::Api;
use super::denied::{answered, ask_error};
use crate::actors::kit::{ActorState, Registry};
use crate::actors::reservation::{ProductPage, Sold};
use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, SaleId, TenantId};
use crate::domain::tenant::Tenant;
use crate::ports::clock::SharedClock;
use crate::ports::dead_letters::DeadLetters;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use metrics::Histogram;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Sales that the live page lists.
const RECENT_SALES: usize = 12;

/// Seconds of its sparkline.
const SECONDS: usize = 60;

/// Answers over which it takes the percentiles.
const LATENCIES: usize = 2_048;

/// Products whose stock it shows.
const SHELF: usize = 40;

/// Units whose first seen stock it remembers.
const SHELF_UNITS: usize = 1_000;

/// What the ops endpoints read.
pub struct Ops {
    /// Everyone's vitals.
    pub registry: Registry,
    /// Time.
    pub clock: SharedClock,
    /// Renders the metrics.
    pub prometheus: PrometheusHandle,
    /// Sales as they happen.
    pub live: LiveBoard,
    /// Durable events that the ledger does not have yet.
    pub ledger_lag: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Events that were given up.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Whether sales go on while the broker is away, and how many events wait for it; none without an outbox.
    pub outbox: Box<dyn Fn() -> Option<(bool, u64)> + Send + Sync>,
    /// What was wrong with the journal when it was opened.
    pub findings: Vec<String>,
    /// Circuit breakers by name, each with its state: `closed` when all is well.
    pub circuits: Box<dyn Fn() -> Vec<(&'static str, &'static str)> + Send + Sync>,
    /// Whether processes of this machine need no token.
    pub open_to_loopback: bool,
    /// Whether the live page shows sales and stock.
    pub shows_sales: bool,
    /// When the process started.
    pub started: Instant,
}

/// The last sales, in memory, for the live page.
pub struct LiveBoard {
    seconds: Histogram,
    inner: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    total: u64,
    recent: VecDeque<Sold>,
    /// (second since start, sales in it), oldest first.
    per_second: VecDeque<(u64, u32)>,
    latencies: VecDeque<u32>,
    first_seen: HashMap<(crate::domain::ids::UnitId, LocationId), Quantity>,
}

impl Default for LiveBoard {
    fn default() -> Self {
        let seconds = metrics::histogram!("sale_processing_seconds");
        Self { seconds, inner: Mutex::new(Board::default()) }
    }
}

/// Seconds since the first call: the sparkline needs no more of a clock.
fn second(of: Instant) -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    of.saturating_duration_since(*START.get_or_init(Instant::now)).as_secs()
}

impl LiveBoard {
    /// A checkout was answered.
    pub fn sold(&self, sold: &Sold, received: Instant) {
        if sold.replayed {
            return;
        }
        let now = Instant::now();
        let took = now.saturating_duration_since(received);
        self.seconds.record(took);
        let mut board = self.board();
        board.total += 1;
        let second = second(now);
        match board.per_second.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => board.per_second.push_back((second, 1)),
        }
        while board.per_second.len() > SECONDS + 1 {
            board.per_second.pop_front();
        }
        board.latencies.push_back(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        if board.latencies.len() > LATENCIES {
            board.latencies.pop_front();
        }
        board.recent.push_front(sold.clone());
        board.recent.truncate(RECENT_SALES);
    }

    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self, ledger_lag: u64) -> Value {
        let board = self.board();
        let now = second(Instant::now());
        let mut series = vec![0_u32; SECONDS];
        for (at, count) in &board.per_second {
            // The running second is not over yet: the newest one shown is the one before.
            let age = now.saturating_sub(1).checked_sub(*at).and_then(|age| usize::try_from(age).ok());
            if let Some(age) = age.filter(|age| *age < SECONDS) {
                series[SECONDS - 1 - age] = *count;
            }
        }
        let mut sorted: Vec<u32> = board.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let at = |per_mille: usize| sorted.get(sorted.len().saturating_sub(1) * per_mille / 1_000).copied();
        json!({
            "total": board.total, "por_segundo": series[SECONDS - 1], "serie": series,
            "atraso_ledger": ledger_lag, "p50_us": at(500), "p99_us": at(990),
        })
    }
}

/// `GET /health`: the process lives.
pub async fn health(api: Arc<Api>, _request: Request) -> Result<Response, ApiError> {
    Response::ok(&json!({
        "status": "healthy", "timestamp": api.ops.clock.now(), "service": "blend",
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// `GET /ready`: everything a sale needs works. 503 with the same checks as details when not.
pub async fn ready(api: Arc<Api>, _request: Request) -> Result<Response, ApiError> {
    let mut checks = serde_json::Map::new();
    let (mut all_run, mut all_well) = (true, true);
    for actor in api.ops.registry.report() {
        // A shard that rebuilds itself holds its queue: callers wait a moment, they are not turned away.
        let runs = matches!(actor.state, ActorState::Running);
        let is_needed = api.cluster.as_ref().is_none_or(|cluster| cluster.needs(&actor.name));
        all_run &= runs || !is_needed;
        all_well &= runs || is_needed || actor.name != "nodes";
        // The ledger writer of a database that is away waits for it; selling goes on.
        let waits = actor.observed["waiting"] == true;
        all_well &= !waits;
        let error = if waits { actor.observed["last_error"].clone() } else { json!(actor.last_error) };
        checks.insert(actor.name, json!({ "ok": runs && !waits, "state": actor.state, "last_error": error }));
    }
    let findings = &api.ops.findings;
    checks.insert("journal_file".into(), json!({ "ok": findings.is_empty(), "findings": findings }));
    all_well &= findings.is_empty();
    for (name, state) in (api.ops.circuits)() {
        let closed = state == "closed";
        all_well &= closed;
        checks.insert(format!("circuit_{name}"), json!({ "ok": closed, "state": state }));
    }
    if let Some(cluster) = &api.cluster {
        let missing = cluster.ownerless();
        all_run &= cluster.is_anybody_there();
        all_well &= missing.is_empty();
        checks.insert("shards".into(), json!({ "ok": missing.is_empty(), "without_a_node": missing }));
    }
    if let Some((sells_on, events)) = (api.ops.outbox)() {
        all_well &= events == 0;
        let check = json!({ "ok": events == 0, "events": events, "sells_without_broker": sells_on });
        checks.insert("outbox".into(), check);
    }
    checks.insert("ledger_lag".into(), json!({ "ok": true, "events": (api.ops.ledger_lag)() }));
    if !all_run {
        let error = ApiError::not_ready("No todos los actores están en marcha", 1);
        return Err(error.with_details(json!({ "status": "not_ready", "checks": checks })));
    }
    // Neither damage that was found and reported nor a ledger that is behind stops the shop.
    let word = if all_well { "ready" } else { "degraded" };
    Response::ok(&json!({ "status": word, "timestamp": api.ops.clock.now(), "checks": checks }))
}

/// `GET /metrics`
pub async fn metrics(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    allowed(&api, &request)?;
    let text = api.ops.prometheus.render();
    Ok(Response::bytes(
        StatusCode::OK,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        text,
    ))
}

/// `GET /ops/actors`
pub async fn actors(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    allowed(&api, &request)?;
    Response::ok(&json!({ "actors": api.ops.registry.report() }))
}

/// `GET /ops/live`: what the live page shows.
pub async fn live(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    allowed(&api, &request)?;
    let ops = &api.ops;
    let actor = |actor: crate::actors::kit::ActorReport| {
        json!({
            "name": actor.name, "kind": actor.kind, "parent": actor.parent, "state": actor.state,
            "depth": actor.mailbox_depth, "capacity": actor.mailbox_capacity, "handled": actor.handled,
            "failed": actor.failed, "restarts": actor.restarts, "last_error": actor.last_error,
        })
    };
    // Before the list of sales: a sale that is counted is also listed.
    let figures = ops.live.figures((ops.ledger_lag)());
    let tenant = match ops.shows_sales {
        true => api.shards.tenants().await.map_err(ask_error)?.into_iter().next(),
        false => None,
    };
    let (mut recent, mut stock) = (Vec::new(), Vec::new());
    if let Some(tenant) = &tenant {
        recent = recent_sales(&api, tenant).await?;
        stock = shelf(&api, tenant.id).await?;
    }
    Response::ok(&json!({
        "tienda": tenant.map_or_else(|| "Blend".into(), |tenant| tenant.name),
        "uptime_ms": u64::try_from(ops.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ventas": figures,
        "ultimas": recent,
        "stock": stock,
        "actores": ops.registry.report().into_iter().map(actor).collect::<Vec<_>>(),
    }))
}

async fn recent_sales(api: &Api, tenant: &Tenant) -> Result<Vec<Value>, ApiError> {
    let places = answered(api.shards.locations(tenant.id).await)?;
    let recent: Vec<Sold> = api.ops.live.board().recent.iter().cloned().collect();
    let mut rows = Vec::with_capacity(recent.len());
    for sold in recent {
        let Some(sale) = sold.sale.sale() else { continue };
        let state = in_ledger(api, tenant.id, sale.id).await?;
        // A sale of another tenant is not in this one's shop.
        let Some(state) = state else { continue };
        let place = places.iter().find(|place| place.id == sale.location).map(|place| place.name.clone());
        rows.push(json!({
            "venta_id": sale.id, "fecha": sold.at, "ubicacion": place, "items": sale.lines.len(),
            "total": sale.total.to_string(), "estado": if state { "registrada" } else { "procesando" },
        }));
    }
    Ok(rows)
}

async fn in_ledger(api: &Api, tenant: TenantId, sale: SaleId) -> Result<Option<bool>, ApiError> {
    Ok(answered(api.shards.sale(tenant, sale).await)?.map(|state| state.in_ledger))
}

async fn shelf(api: &Api, tenant: TenantId) -> Result<Vec<Value>, ApiError> {
    let page = ProductPage { skip: 0, limit: SHELF, search: None, category: None, active: Some(true) };
    let products = answered(api.shards.products(tenant, page).await)?;
    let mut rows = Vec::new();
    for unit in products.into_iter().flatten() {
        let Some(stock) = answered(api.shards.stock(tenant, unit.id.0).await)? else { continue };
        let Some((place, available, _)) = stock.places.into_iter().find(|(place, ..)| place.is_default)
        else {
            continue;
        };
        let first = api.ops.live.first_seen((unit.id, place.id), available);
        rows.push(json!({
            "sku": unit.sku, "nombre": unit.name, "talle": unit.size, "color": unit.color, "tipo": unit.kind,
            "ubicacion": place.name, "disponible": available.to_string(), "inicial": first.to_string(),
        }));
    }
    Ok(rows)
}

impl LiveBoard {
    /// The most that was seen of a unit since the start: what a full shelf is.
    fn first_seen(&self, place: (crate::domain::ids::UnitId, LocationId), now: Quantity) -> Quantity {
        let mut board = self.board();
        if board.first_seen.len() >= SHELF_UNITS && !board.first_seen.contains_key(&place) {
            return now;
        }
        let most = board.first_seen.entry(place).or_insert(now);
        *most = (*most).max(now);
        *most
    }
}

/// `GET /api/v1/openapi.json`
pub async fn openapi(_api: Arc<Api>, _request: Request) -> Result<Response, ApiError> {
    Ok(Response::raw_json(StatusCode::OK, include_str!("../../../openapi.json")))
}

/// `GET /`
pub async fn page(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    allowed(&api, &request)?;
    Ok(asset("text/html; charset=utf-8", include_str!("../../../web/index.html")))
}

/// `GET /app.js`
pub async fn script(_api: Arc<Api>, _request: Request) -> Result<Response, ApiError> {
    Ok(asset("text/javascript; charset=utf-8", include_str!("../../../web/app.js")))
}

/// `GET /style.css`
pub async fn style(_api: Arc<Api>, _request: Request) -> Result<Response, ApiError> {
    Ok(asset("text/css; charset=utf-8", include_str!("../../../web/style.css")))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'";
    Response::bytes(StatusCode::OK, HeaderValue::from_static(content_type), text)
        .with_header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))
        .with_header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
}

fn allowed(api: &Api, request: &Request) -> Result<(), ApiError> {
    ops_allowed(request, &api.authenticator, api.ops.open_to_loopback)
}

//! A Shopify that enforces the real contract of its Admin API 2026-10: the schema, the run-time rules that no schema
//! shows, idempotency keys, compare-and-swap, the cost bucket, tokens that expire and rotate. What a client may not do
//! it counts as a violation; on demand it fails in every way that a server can.

mod execute;

use apollo_compiler::Schema;
use apollo_compiler::validation::Valid;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The cut of Shopify's schema that Blend's documents use.
pub const SCHEMA: &str = include_str!("schema.graphql");

/// The one location of the shop.
pub const PLACE: &str = "gid://shopify/Location/1";

/// What a call is answered with instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with a page instead of JSON.
    Status(u16),
    /// 429 with this `Retry-After`.
    TooMany(u64),
    /// The connection is cut before anything happens.
    Cut,
    /// Everything happens, and the answer is lost.
    CutAfter,
    /// Half a JSON.
    Half,
    /// The answer comes late.
    Slow(Duration),
}

/// Something that is sold there.
#[derive(Clone, Debug)]
pub struct Item {
    pub sku: Option<String>,
    pub tracked: bool,
    /// May go below zero: Shopify does not protect against overselling.
    pub available: i64,
}

/// What it was asked, and what it should not have been asked.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub calls: u64,
    pub mutations: u64,
    /// Quantities that were written.
    pub lines: u64,
    pub throttled: u64,
    pub stale: u64,
    pub violations: Vec<String>,
}

struct State {
    items: BTreeMap<String, Item>,
    token: String,
    refresh: Option<String>,
    code: Option<String>,
    tokens: u64,
    scopes: bool,
    /// Thousandths of a point.
    points: u64,
    points_as_of: Instant,
    /// Most points, and points a second.
    max: u64,
    restore: u64,
    /// Key to what it was used for and what was answered.
    keys: HashMap<String, (String, Value)>,
    faults: VecDeque<Fault>,
    /// When which item was made to show what, by SKU.
    history: Vec<(Instant, String, i64)>,
    away: bool,
    counts: Counts,
}

/// The server; it is gone with this value.
pub struct Shopify {
    address: String,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    accepting: JoinHandle<()>,
}

impl Shopify {
    /// A shop of the plan Standard with these items (by number from 1) at its one location.
    pub async fn start(items: &[(&str, i64)]) -> Self {
        let item = |(number, (sku, available)): (usize, &(&str, i64))| {
            let id = format!("gid://shopify/InventoryItem/{}", number + 1);
            (id, Item { sku: Some((*sku).to_owned()), tracked: true, available: *available })
        };
        let state = State {
            items: items.iter().enumerate().map(item).collect(),
            token: "shpat_0".to_owned(),
            refresh: Some("refresh_0".to_owned()),
            code: None,
            tokens: 0,
            scopes: true,
            points: 2_000_000,
            points_as_of: Instant::now(),
            max: 2_000,
            restore: 100,
            keys: HashMap::new(),
            faults: VecDeque::new(),
            history: Vec::new(),
            away: false,
            counts: Counts::default(),
        };
        let state = Arc::new(Mutex::new(state));
        let schema = Arc::new(Schema::parse_and_validate(SCHEMA, "schema.graphql").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let changed = Arc::new(watch::Sender::new(0));
        let (shared, told) = (state.clone(), changed.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (state, schema, told) = (shared.clone(), schema.clone(), told.clone());
                let service = service_fn(move |request| {
                    let (state, schema, told) = (state.clone(), schema.clone(), told.clone());
                    async move { serve(request, &state, &schema, &told).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { address, state, changed, accepting }
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The token that is accepted now.
    pub fn token(&self) -> String {
        self.state().token.clone()
    }

    /// The refresh token that is accepted now.
    pub fn refresh(&self) -> Option<String> {
        self.state().refresh.clone()
    }

    /// The token is not accepted any more.
    pub fn expire_token(&self) {
        self.state().token = "nobody has this one".into();
    }

    /// An owner agreed: this code is good for a token.
    pub fn agree(&self, code: &str) {
        self.state().code = Some(code.to_owned());
    }

    /// How many tokens were given out.
    pub fn tokens(&self) -> u64 {
        self.state().tokens
    }

    /// The app loses its scopes.
    pub fn revoke_scopes(&self) {
        self.state().scopes = false;
    }

    /// Answers to the next calls.
    pub fn next(&self, faults: &[Fault]) {
        self.state().faults.extend(faults);
    }

    /// No more of those.
    pub fn no_more_faults(&self) {
        self.state().faults.clear();
    }

    /// Every call is a 503 until it is back.
    pub fn away(&self, away: bool) {
        self.state().away = away;
    }

    /// Another plan: most points, and points a second.
    pub fn plan(&self, max: u64, restore: u64) {
        let mut state = self.state();
        (state.max, state.restore) = (max, restore);
        state.points = state.points.min(max * 1_000);
    }

    /// What an item shows.
    pub fn available(&self, sku: &str) -> i64 {
        let state = self.state();
        state.items.values().find(|item| item.sku.as_deref() == Some(sku)).map(|item| item.available).unwrap()
    }

    /// What every item shows, by SKU.
    pub fn all(&self) -> BTreeMap<String, i64> {
        self.state()
            .items
            .values()
            .map(|item| (item.sku.clone().unwrap_or_default(), item.available))
            .collect()
    }

    /// Somebody, or an order, changes what an item shows.
    pub fn change(&self, sku: &str, by: i64) {
        let mut state = self.state();
        let found = state.items.values_mut().find(|item| item.sku.as_deref() == Some(sku));
        found.unwrap().available += by;
        drop(state);
        self.changed.send_modify(|times| *times += 1);
    }

    /// An item is deleted.
    pub fn delete(&self, sku: &str) {
        self.state().items.retain(|_, item| item.sku.as_deref() != Some(sku));
    }

    /// Another item.
    pub fn add(&self, number: u64, sku: Option<&str>, tracked: bool) {
        let item = Item { sku: sku.map(str::to_owned), tracked, available: 0 };
        self.state().items.insert(format!("gid://shopify/InventoryItem/{number}"), item);
    }

    /// When which item was made to show what, by SKU, in order.
    pub fn history(&self) -> Vec<(Instant, String, i64)> {
        self.state().history.clone()
    }

    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Waits until an item shows a quantity; panics when it does not within half a minute.
    pub async fn shows(&self, sku: &str, quantity: i64) {
        self.until(&format!("{sku} shows {quantity}"), || self.available(sku) == quantity).await;
    }

    /// Waits until something is so; looked at whenever a quantity was written.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !is_so() {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "never: {what}; {:?}; {:?}", self.counts(), self.all());
    }
}

impl Drop for Shopify {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

fn answer(status: u16, body: String) -> Result<Response<Full<Bytes>>, Cut> {
    let builder = Response::builder().status(StatusCode::from_u16(status).unwrap());
    Ok(builder.header("content-type", "application/json").body(Full::new(Bytes::from(body))).unwrap())
}

async fn serve(
    request: Request<Incoming>,
    state: &Mutex<State>,
    schema: &Valid<Schema>,
    told: &watch::Sender<u64>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let path = request.uri().path().to_owned();
    let token =
        request.headers().get("x-shopify-access-token").map(|token| token.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.map_err(|_| Cut)?.to_bytes();
    let (fault, away) = {
        let mut state = state.lock().unwrap();
        state.counts.calls += 1;
        (state.faults.pop_front(), state.away)
    };
    told.send_modify(|times| *times += 1);
    if away {
        return answer(503, "<html>Service Unavailable</html>".into());
    }
    match fault {
        Some(Fault::Status(status)) => return answer(status, "<html>Oops</html>".into()),
        Some(Fault::TooMany(seconds)) => {
            let mut response = answer(429, "Exceeded".into())?;
            response.headers_mut().insert("retry-after", seconds.to_string().parse().unwrap());
            return Ok(response);
        }
        Some(Fault::Cut) => return Err(Cut),
        Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
        Some(Fault::CutAfter | Fault::Half) | None => {}
    }
    let (status, value) = match path.as_str() {
        "/admin/oauth/access_token" => give_token(&mut state.lock().unwrap(), &body),
        "/admin/api/2026-10/graphql.json" => {
            let mut state = state.lock().unwrap();
            if token.as_deref() != Some(&state.token) {
                let why = "[API] Invalid API key or access token (unrecognized login or wrong password)";
                (401, json!({ "errors": why }))
            } else {
                (200, execute::run(&mut state, schema, &body))
            }
        }
        other => {
            state.lock().unwrap().counts.violations.push(format!("called {other}"));
            (404, json!({ "errors": "Not Found" }))
        }
    };
    told.send_modify(|times| *times += 1);
    let text = value.to_string();
    match fault {
        Some(Fault::CutAfter) => Err(Cut),
        Some(Fault::Half) => answer(200, text[..text.len() / 2].to_owned()),
        _ => answer(status, text),
    }
}

/// A refresh token is good for one use.
fn give_token(state: &mut State, body: &[u8]) -> (u16, Value) {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let known = asked["client_id"] == "app" && asked["client_secret"] == "hush";
    let granted = match asked["grant_type"].as_str() {
        Some("refresh_token") => {
            state.refresh.is_some() && asked["refresh_token"].as_str() == state.refresh.as_deref()
        }
        Some("client_credentials") => state.refresh.is_none(),
        // A code is good for one token.
        None => std::mem::take(&mut state.code).is_some_and(|code| asked["code"] == code),
        _ => false,
    };
    if !known || !granted {
        state.counts.violations.push(format!("asked for a token with {}", asked["grant_type"]));
        return (400, json!({ "error": "invalid_request" }));
    }
    state.tokens += 1;
    state.token = format!("shpat_{}", state.tokens);
    let mut given = json!({ "access_token": state.token, "scope": "write_inventory", "expires_in": 3_600 });
    if state.refresh.is_some() {
        let next = format!("refresh_{}", state.tokens);
        given["refresh_token"] = json!(next);
        state.refresh = Some(next);
    }
    (200, given)
}

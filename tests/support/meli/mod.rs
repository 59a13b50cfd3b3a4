//! A MercadoLibre that enforces the real contract: single-use refresh tokens, variations that are deleted when they are
//! not named, versions of stock, writes that warehouses ignore, limits per app and endpoint. What a client may not do
//! it counts as a violation; on demand it fails.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The one seller.
pub const SELLER: &str = "468424240";

/// What a call is answered with instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, as JSON.
    Status(u16),
    /// 429 as a proxy says it: plain text, and no word of how long.
    PlainTooMany,
    /// The connection is cut before anything happens.
    Cut,
    /// Everything happens, and the answer is lost.
    CutAfter,
}

/// Something that is sold there.
#[derive(Clone, Debug, Default)]
pub struct Item {
    pub sku: String,
    pub quantity: i64,
    /// Id, SKU, quantity.
    pub variations: Vec<(i64, String, i64)>,
    /// The seller's product whose stock it is.
    pub product: Option<String>,
    pub closed: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub calls: u64,
    pub writes: u64,
    pub refused: u64,
    pub violations: Vec<String>,
}

struct State {
    items: BTreeMap<String, Item>,
    /// Quantity and version of each product's stock.
    stocks: BTreeMap<String, (i64, i64)>,
    orders: BTreeMap<String, Value>,
    missed: Vec<Value>,
    warehouses: bool,
    token: String,
    refresh: String,
    tokens: u64,
    faults: VecDeque<Fault>,
    /// When writes happened lately.
    writes: VecDeque<Instant>,
    counts: Counts,
}

/// The server; it is gone with this value.
pub struct Meli {
    address: String,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    accepting: JoinHandle<()>,
}

impl Meli {
    pub async fn start(items: &[(&str, Item)]) -> Self {
        let state = State {
            items: items.iter().map(|(id, item)| ((*id).to_owned(), item.clone())).collect(),
            stocks: BTreeMap::new(),
            orders: BTreeMap::new(),
            missed: Vec::new(),
            warehouses: false,
            token: "APP_USR-0".into(),
            refresh: "TG-0".into(),
            tokens: 0,
            faults: VecDeque::new(),
            writes: VecDeque::new(),
            counts: Counts::default(),
        };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let changed = Arc::new(watch::Sender::new(0));
        let (shared, told) = (state.clone(), changed.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (state, told) = (shared.clone(), told.clone());
                let service = service_fn(move |request| {
                    let (state, told) = (state.clone(), told.clone());
                    async move { serve(request, &state, &told).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { address, state, changed, accepting }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn token(&self) -> String {
        self.state().token.clone()
    }

    pub fn refresh(&self) -> String {
        self.state().refresh.clone()
    }

    pub fn expire_token(&self) {
        self.state().token = "nobody has this one".into();
    }

    pub fn tokens(&self) -> u64 {
        self.state().tokens
    }

    pub fn next(&self, faults: &[Fault]) {
        self.state().faults.extend(faults);
    }

    /// The seller keeps stock in warehouses: a quantity of a product of this id.
    pub fn warehouse(&self, product: &str, quantity: i64) {
        let mut state = self.state();
        state.warehouses = true;
        state.stocks.insert(product.to_owned(), (quantity, 1));
    }

    /// Somebody else writes a product's stock.
    pub fn change_stock(&self, product: &str, by: i64) {
        let mut state = self.state();
        let stock = state.stocks.get_mut(product).unwrap();
        *stock = (stock.0 + by, stock.1 + 1);
    }

    pub fn stock(&self, product: &str) -> i64 {
        self.state().stocks[product].0
    }

    pub fn item(&self, id: &str) -> Item {
        self.state().items[id].clone()
    }

    /// Somebody, or an order, changes what an item shows.
    pub fn change(&self, id: &str, by: i64) {
        self.state().items.get_mut(id).unwrap().quantity += by;
        self.changed.send_modify(|times| *times += 1);
    }

    pub fn order(&self, id: &str, order: Value) {
        self.state().orders.insert(id.to_owned(), order);
    }

    /// A notice that could not be delivered.
    pub fn miss(&self, notice: Value) {
        self.state().missed.push(notice);
    }

    pub fn close(&self, id: &str) {
        self.state().items.get_mut(id).unwrap().closed = true;
    }

    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// Waits until an item shows a quantity; panics when it does not within half a minute.
    pub async fn shows(&self, id: &str, quantity: i64) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while self.item(id).quantity != quantity {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(waited.is_ok(), "{id} never shows {quantity}: {:?}; {:?}", self.item(id), self.counts());
    }
}

impl Drop for Meli {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

struct Reply {
    status: u16,
    body: String,
    version: Option<i64>,
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply { status, body: body.to_string(), version: None }
}

fn error(status: u16, error: &str, message: &str) -> Reply {
    json_reply(status, &json!({ "message": message, "error": error, "status": status, "cause": [] }))
}

async fn serve(
    request: Request<Incoming>,
    state: &Mutex<State>,
    told: &watch::Sender<u64>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let (reply, fault) = {
        let mut state = state.lock().unwrap();
        state.counts.calls += 1;
        let fault = state.faults.pop_front();
        let reply = match fault {
            Some(Fault::Status(status)) => error(status, "internal_error", "oops"),
            Some(Fault::PlainTooMany) => {
                Reply { status: 429, body: "local_rate_limited".into(), version: None }
            }
            Some(Fault::Cut) => return Err(Cut),
            Some(Fault::CutAfter) | None => {
                let query = head.uri.query().unwrap_or_default().to_owned();
                answer(&mut state, &head.method, head.uri.path(), &query, &head.headers, &body)
            }
        };
        (reply, fault)
    };
    told.send_modify(|times| *times += 1);
    if fault == Some(Fault::CutAfter) {
        return Err(Cut);
    }
    let mut builder = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
    if let Some(version) = reply.version {
        builder = builder.header("x-version", version);
    }
    Ok(builder.body(Full::new(Bytes::from(reply.body))).unwrap())
}

fn answer(
    state: &mut State,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Reply {
    if path == "/oauth/token" {
        return give_token(state, body);
    }
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if given != format!("Bearer {}", state.token) {
        return error(401, "unauthorized", "invalid access token");
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        (&Method::GET, ["users", SELLER]) => {
            let tags = if state.warehouses { json!(["warehouse_management"]) } else { json!(["normal"]) };
            json_reply(200, &json!({ "id": 468_424_240, "nickname": "SIMULADA", "tags": tags }))
        }
        (&Method::GET, ["users", SELLER, "items", "search"]) => {
            let first = !query.contains("scroll_id");
            let ids: Vec<&String> = if first { state.items.keys().collect() } else { Vec::new() };
            json_reply(
                200,
                &json!({ "seller_id": SELLER, "results": ids, "scroll_id": first.then_some("s1") }),
            )
        }
        (&Method::GET, ["items"]) => {
            let ids = query.split('&').find_map(|pair| pair.strip_prefix("ids=")).unwrap_or_default();
            let ids: Vec<&str> = ids.split(',').collect();
            if ids.len() > 20 {
                state.counts.violations.push(format!("{} items at once", ids.len()));
                return error(400, "bad_request", "too many ids");
            }
            let entries: Vec<Value> = ids.iter().map(|id| entry(state, id)).collect();
            json_reply(200, &json!(entries))
        }
        (&Method::PUT, ["items", id]) => limited(state, |state| write_item(state, id, body)),
        (&Method::GET, ["user-products", product, "stock"]) => match state.stocks.get(*product) {
            Some((quantity, version)) => {
                let location = json!({ "type": "seller_warehouse", "network_node_id": "ARP1", "store_id": "77",
                    "quantity": quantity });
                let body = json!({ "locations": [location], "user_id": SELLER, "id": product }).to_string();
                Reply { status: 200, body, version: Some(*version) }
            }
            None => error(404, "not_found", "stock-locations not found"),
        },
        (&Method::PUT, ["user-products", product, "stock", "type", "seller_warehouse"]) => {
            let version = headers.get("x-version").and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
            limited(state, |state| write_stock(state, product, version, body))
        }
        (&Method::GET, ["missed_feeds"]) => {
            let number = |name: &str| {
                let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
                pair.and_then(|value| value.parse::<usize>().ok()).unwrap_or_default()
            };
            let page = state.missed.iter().skip(number("offset")).take(number("limit").max(10));
            json_reply(200, &json!({ "messages": page.collect::<Vec<_>>() }))
        }
        (&Method::GET, ["orders", id]) => match state.orders.get(*id) {
            Some(order) => json_reply(200, order),
            None => error(404, "not_found", "order not found"),
        },
        _ => {
            state.counts.violations.push(format!("called {method} {path}"));
            error(404, "not_found", "no such path")
        }
    }
}

/// More than seven writes within a second are too many.
fn limited(state: &mut State, write: impl FnOnce(&mut State) -> Reply) -> Reply {
    let now = Instant::now();
    while state.writes.front().is_some_and(|then| now - *then > Duration::from_secs(1)) {
        state.writes.pop_front();
    }
    if state.writes.len() >= 7 {
        state.counts.refused += 1;
        state.counts.violations.push("more than seven writes in a second".into());
        return Reply { status: 429, body: "local_rate_limited".into(), version: None };
    }
    state.writes.push_back(now);
    state.counts.writes += 1;
    write(state)
}

fn entry(state: &State, id: &str) -> Value {
    let Some(item) = state.items.get(id) else {
        return json!({ "code": 404, "body": { "message": "Item not found", "error": "not_found" } });
    };
    let named = |sku: &str| json!([{ "id": "SELLER_SKU", "value_name": sku }]);
    let variation = |(id, sku, quantity): &(i64, String, i64)| json!({ "id": id, "available_quantity": quantity, "attributes": named(sku) });
    let total: i64 = item.variations.iter().map(|(.., quantity)| quantity).sum();
    let quantity = if item.variations.is_empty() { item.quantity } else { total };
    let status = if item.closed {
        "closed"
    } else if quantity == 0 {
        "paused"
    } else {
        "active"
    };
    json!({ "code": 200, "body": { "id": id, "title": format!("Artículo {}", item.sku), "status": status,
        "available_quantity": quantity, "attributes": named(&item.sku), "user_product_id": item.product,
        "variations": item.variations.iter().map(variation).collect::<Vec<_>>() } })
}

fn write_item(state: &mut State, id: &str, body: &[u8]) -> Reply {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let warehouses = state.warehouses;
    let Some(item) = state.items.get_mut(id) else { return error(404, "not_found", "Item not found") };
    if warehouses {
        // As it really is: it says 200 and does nothing.
        state.counts.violations.push("wrote an item whose stock is in a warehouse".into());
        return json_reply(200, &json!({ "id": id }));
    }
    if let Some(quantity) = asked["available_quantity"].as_i64() {
        if quantity < 0 {
            return error(400, "validation_error", "available_quantity is invalid");
        }
        item.quantity = quantity;
    }
    if let Some(named) = asked["variations"].as_array() {
        let before = item.variations.len();
        let quantity = |id: i64| {
            let found = named.iter().find(|variation| variation["id"] == id)?;
            Some(found["available_quantity"].as_i64())
        };
        // What is not named is deleted.
        item.variations.retain(|(id, ..)| quantity(*id).is_some());
        for (id, _, there) in &mut item.variations {
            *there = quantity(*id).flatten().unwrap_or(*there);
        }
        if item.variations.len() != before {
            state.counts.violations.push(format!("deleted variations of {id}"));
        }
    }
    json_reply(200, &json!({ "id": id }))
}

fn write_stock(state: &mut State, product: &str, version: Option<i64>, body: &[u8]) -> Reply {
    let Some(version) = version else {
        state.counts.violations.push("no x-version".into());
        return error(400, "bad_request", "Missing X-Version header");
    };
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(stock) = state.stocks.get_mut(product) else { return error(404, "not_found", "not found") };
    if stock.1 != version {
        return error(409, "conflict", "Version mismatch");
    }
    let location = &asked["locations"][0];
    let Some(quantity) = location["quantity"].as_i64().filter(|_| location["store_id"] == "77") else {
        return error(400, "bad_request", "store not found: 000");
    };
    *stock = (quantity, version + 1);
    json_reply(200, &json!({ "id": product }))
}

/// A refresh token is good for one use, and only the last one is.
fn give_token(state: &mut State, body: &[u8]) -> Reply {
    let form = String::from_utf8_lossy(body).into_owned();
    let field = |name: &str| {
        form.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or_default()
    };
    let known = field("client_id") == "app" && field("client_secret") == "hush";
    if !known || field("grant_type") != "refresh_token" || field("refresh_token") != state.refresh {
        state.counts.violations.push("used a refresh token that is not the last".into());
        let why = "Error validating grant. Your authorization code or refresh token may be expired or it was already used";
        return json_reply(
            400,
            &json!({ "error_description": why, "error": "invalid_grant", "status": 400, "cause": [] }),
        );
    }
    state.tokens += 1;
    state.token = format!("APP_USR-{}", state.tokens);
    state.refresh = format!("TG-{}", state.tokens);
    json_reply(
        200,
        &json!({ "access_token": state.token, "token_type": "bearer", "expires_in": 10_800,
        "user_id": 468_424_240, "refresh_token": state.refresh }),
    )
}

//! A MercadoLibre that enforces the real contract: single-use refresh tokens, variations that are deleted when they are
//! not named, versions of stock, writes that warehouses ignore, limits per app and endpoint.

use super::shell::{Called, Front, Reply, Shell, Site};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Deref;
use std::time::Duration;
use tokio::time::Instant;

/// The one seller.
pub const SELLER: &str = "468424240";

/// Writes of one second at most.
const WRITES: usize = 7;

/// How long somebody waits for something to be so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that is sold there.
#[derive(Clone, Debug, Default)]
pub struct Item {
    /// The seller's own name for it.
    pub sku: String,
    /// Where it has no variations.
    pub quantity: i64,
    /// Id, SKU, quantity.
    pub variations: Vec<(i64, String, i64)>,
    /// The seller's product whose stock it is.
    pub product: Option<String>,
    /// For good.
    pub closed: bool,
}

/// What it was asked, and what it should not have been asked.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// All calls, those that met a fault included.
    pub calls: u64,
    /// Calls that wrote.
    pub writes: u64,
    /// Calls beyond the limit.
    pub refused: u64,
    /// What a client may not do.
    pub violations: Vec<String>,
}

struct Seller {
    items: BTreeMap<String, Item>,
    /// Quantity and version of each product's stock.
    stocks: BTreeMap<String, (i64, i64)>,
    orders: BTreeMap<String, Value>,
    missed: Vec<Value>,
    warehouses: bool,
    token: String,
    refresh: String,
    tokens: u64,
    /// When writes happened lately.
    writes: VecDeque<Instant>,
    counts: Counts,
}

/// The server; it is gone with this value.
pub struct Meli(Shell<Seller>);

impl Meli {
    /// A seller with these items.
    pub async fn start(items: &[(&str, Item)]) -> io::Result<Self> {
        let seller = Seller {
            items: items.iter().map(|(id, item)| ((*id).to_owned(), item.clone())).collect(),
            stocks: BTreeMap::new(),
            orders: BTreeMap::new(),
            missed: Vec::new(),
            warehouses: false,
            token: "APP_USR-0".into(),
            refresh: "TG-0".into(),
            tokens: 0,
            writes: VecDeque::new(),
            counts: Counts::default(),
        };
        Shell::start(seller).await.map(Self)
    }

    /// The token that is accepted now.
    pub fn token(&self) -> String {
        self.0.site().token.clone()
    }

    /// The refresh token that is accepted now.
    pub fn refresh(&self) -> String {
        self.0.site().refresh.clone()
    }

    /// The token is not accepted any more.
    pub fn expire_token(&self) {
        self.0.site().token = "nobody has this one".into();
    }

    /// How many tokens were given out.
    pub fn tokens(&self) -> u64 {
        self.0.site().tokens
    }

    /// The seller keeps stock in warehouses: a quantity of a product of this id.
    pub fn warehouse(&self, product: &str, quantity: i64) {
        let mut seller = self.0.site();
        seller.warehouses = true;
        seller.stocks.insert(product.to_owned(), (quantity, 1));
    }

    /// Somebody else writes a product's stock.
    pub fn change_stock(&self, product: &str, by: i64) {
        if let Some(stock) = self.0.site().stocks.get_mut(product) {
            *stock = (stock.0 + by, stock.1 + 1);
        }
    }

    /// A product's stock; nothing when there is no such product.
    pub fn stock_of(&self, product: &str) -> Option<i64> {
        self.0.site().stocks.get(product).map(|stock| stock.0)
    }

    /// An item; an empty one when there is none of that id.
    pub fn item(&self, id: &str) -> Item {
        self.0.site().items.get(id).cloned().unwrap_or_default()
    }

    /// Somebody, or an order, changes what an item shows.
    pub fn change(&self, id: &str, by: i64) {
        self.0.change(|seller| {
            if let Some(item) = seller.items.get_mut(id) {
                item.quantity += by;
            }
        });
    }

    /// An order, as it stands now.
    pub fn order(&self, id: &str, order: Value) {
        self.0.site().orders.insert(id.to_owned(), order);
    }

    /// A notice that could not be delivered.
    pub fn miss(&self, notice: Value) {
        self.0.site().missed.push(notice);
    }

    /// An item is closed.
    pub fn close(&self, id: &str) {
        if let Some(item) = self.0.site().items.get_mut(id) {
            item.closed = true;
        }
    }

    /// What it was asked.
    pub fn counts(&self) -> Counts {
        let calls = self.calls();
        Counts { calls, ..self.0.site().counts.clone() }
    }

    /// Waits until an item shows a quantity.
    ///
    /// # Panics
    ///
    /// When it does not within half a minute.
    pub async fn shows(&self, id: &str, quantity: i64) {
        self.until(&format!("{id} shows {quantity}"), || self.item(id).quantity == quantity).await;
    }

    /// Waits until something is so; looked at whenever it was called, or something was changed.
    ///
    /// # Panics
    ///
    /// When it does not become so within half a minute.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let is_so = self.becomes(PATIENCE, is_so).await;
        assert!(is_so, "never: {what}; {:?}; {:?}", self.counts(), self.0.site().items);
    }
}

impl Deref for Meli {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.0
    }
}

fn error(status: u16, error: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "message": message, "error": error, "status": status, "cause": [] }))
}

impl Site for Seller {
    fn answer(&mut self, called: &Called) -> Reply {
        answer(self, called)
    }

    fn ill(&self, status: u16) -> Reply {
        error(status, "internal_error", "oops")
    }
}

fn answer(state: &mut Seller, called: &Called) -> Reply {
    let Called { method, path, query, body, .. } = called;
    if path == "/oauth/token" {
        return give_token(state, body);
    }
    if called.header("authorization") != format!("Bearer {}", state.token) {
        return error(401, "unauthorized", "invalid access token");
    }
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        (&Method::GET, ["users", SELLER]) => {
            let tags = if state.warehouses { json!(["warehouse_management"]) } else { json!(["normal"]) };
            Reply::json(200, &json!({ "id": 468_424_240, "nickname": "SIMULADA", "tags": tags }))
        }
        (&Method::GET, ["users", SELLER, "items", "search"]) => {
            let first = !query.contains("scroll_id");
            let ids: Vec<&String> = if first { state.items.keys().collect() } else { Vec::new() };
            Reply::json(
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
            Reply::json(200, &json!(entries))
        }
        (&Method::PUT, ["items", id]) => limited(state, |state| write_item(state, id, body)),
        (&Method::GET, ["user-products", product, "stock"]) => match state.stocks.get(*product) {
            Some((quantity, version)) => {
                let location = json!({ "type": "seller_warehouse", "network_node_id": "ARP1", "store_id": "77",
                    "quantity": quantity });
                let body = json!({ "locations": [location], "user_id": SELLER, "id": product }).to_string();
                Reply { status: 200, headers: vec![("x-version", version.to_string())], body }
            }
            None => error(404, "not_found", "stock-locations not found"),
        },
        (&Method::PUT, ["user-products", product, "stock", "type", "seller_warehouse"]) => {
            let version = called.header("x-version").parse::<i64>().ok();
            limited(state, |state| write_stock(state, product, version, body))
        }
        (&Method::GET, ["missed_feeds"]) => {
            let number = |name: &str| {
                let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
                pair.and_then(|value| value.parse::<usize>().ok()).unwrap_or_default()
            };
            let page = state.missed.iter().skip(number("offset")).take(number("limit").max(10));
            Reply::json(200, &json!({ "messages": page.collect::<Vec<_>>() }))
        }
        (&Method::GET, ["orders", id]) => match state.orders.get(*id) {
            Some(order) => Reply::json(200, order),
            None => error(404, "not_found", "order not found"),
        },
        _ => {
            state.counts.violations.push(format!("called {method} {path}"));
            error(404, "not_found", "no such path")
        }
    }
}

/// More than seven writes within a second are too many.
fn limited(state: &mut Seller, write: impl FnOnce(&mut Seller) -> Reply) -> Reply {
    let now = Instant::now();
    while state.writes.front().is_some_and(|then| now - *then > Duration::from_secs(1)) {
        state.writes.pop_front();
    }
    if state.writes.len() >= WRITES {
        state.counts.refused += 1;
        state.counts.violations.push("more than seven writes in a second".into());
        return Reply::text(429, "local_rate_limited");
    }
    state.writes.push_back(now);
    state.counts.writes += 1;
    write(state)
}

fn entry(state: &Seller, id: &str) -> Value {
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

fn write_item(state: &mut Seller, id: &str, body: &[u8]) -> Reply {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let warehouses = state.warehouses;
    let Some(item) = state.items.get_mut(id) else { return error(404, "not_found", "Item not found") };
    if warehouses {
        // As it really is: it says 200 and does nothing.
        state.counts.violations.push("wrote an item whose stock is in a warehouse".into());
        return Reply::json(200, &json!({ "id": id }));
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
    Reply::json(200, &json!({ "id": id }))
}

fn write_stock(state: &mut Seller, product: &str, version: Option<i64>, body: &[u8]) -> Reply {
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
    Reply::json(200, &json!({ "id": product }))
}

/// A refresh token is good for one use, and only the last one is.
fn give_token(state: &mut Seller, body: &[u8]) -> Reply {
    let form = String::from_utf8_lossy(body).into_owned();
    let field = |name: &str| {
        form.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or_default()
    };
    let known = field("client_id") == "app" && field("client_secret") == "hush";
    if !known || field("grant_type") != "refresh_token" || field("refresh_token") != state.refresh {
        state.counts.violations.push("used a refresh token that is not the last".into());
        let why = "Error validating grant. Your authorization code or refresh token may be expired or it was already used";
        return Reply::json(
            400,
            &json!({ "error_description": why, "error": "invalid_grant", "status": 400, "cause": [] }),
        );
    }
    state.tokens += 1;
    state.token = format!("APP_USR-{}", state.tokens);
    state.refresh = format!("TG-{}", state.tokens);
    Reply::json(
        200,
        &json!({ "access_token": state.token, "token_type": "bearer", "expires_in": 10_800,
        "user_id": 468_424_240, "refresh_token": state.refresh }),
    )
}

//! What a call comes to.

use super::{SELLER, Seller};
use crate::channels::simulator::shell::{Called, Reply};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Writes of one second at most.
const WRITES: usize = 7;

/// Calls for stock in warehouses of one minute at most.
const STOCK_CALLS: usize = 100;

pub(super) fn error(status: u16, error: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "message": message, "error": error, "status": status, "cause": [] }))
}

/// Carries it out.
pub(super) fn answer(state: &mut Seller, called: &Called) -> Reply {
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
        (&Method::GET, ["users", SELLER, "stores", "search"]) => {
            let depot = |(store, node): (&String, &String)| json!({ "id": store, "network_node_id": node });
            let depots: Vec<Value> = state.depots.iter().map(depot).collect();
            Reply::json(200, &json!({ "paging": { "limit": 50, "total": depots.len() }, "results": depots }))
        }
        (&Method::GET, ["user-products", product, "stock"]) => {
            by_the_minute(state, |state| read_stock(state, product))
        }
        (&Method::PUT, ["user-products", product, "stock", "type", "seller_warehouse"]) => {
            let version = called.header("x-version").parse::<i64>().ok();
            let write = |state: &mut Seller| write_stock(state, product, version, body);
            by_the_minute(state, |state| limited(state, write))
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

/// More than a hundred calls for stock in warehouses within a minute are too many.
fn by_the_minute(state: &mut Seller, call: impl FnOnce(&mut Seller) -> Reply) -> Reply {
    let now = Instant::now();
    while state.stock_calls.front().is_some_and(|then| now - *then > Duration::from_secs(60)) {
        state.stock_calls.pop_front();
    }
    if state.stock_calls.len() >= STOCK_CALLS {
        state.counts.refused += 1;
        state.counts.violations.push("more than a hundred calls for stock in a minute".into());
        return Reply::text(429, "local_rate_limited");
    }
    state.stock_calls.push_back(now);
    call(state)
}

fn read_stock(state: &Seller, product: &str) -> Reply {
    let Some((stock, version)) = state.stocks.get(product) else {
        return error(404, "not_found", "stock-locations not found");
    };
    let location = |(store, quantity): (&String, &i64)| json!({ "type": "seller_warehouse", "store_id": store, "network_node_id": state.depots.get(store), "quantity": quantity });
    let mut locations: Vec<Value> = stock.iter().map(location).collect();
    // What is with MercadoLibre is not the seller's to write.
    locations.push(json!({ "type": "meli_facility", "quantity": 1_000 }));
    let body = json!({ "locations": locations, "user_id": SELLER, "id": product }).to_string();
    Reply { status: 200, headers: vec![("x-version", version.to_string())], body }
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
    let mut written = BTreeMap::new();
    for location in asked["locations"].as_array().into_iter().flatten() {
        let store = location["store_id"].as_str().unwrap_or_default();
        match (state.depots.get(store), location["quantity"].as_i64()) {
            (Some(node), Some(quantity)) if location["network_node_id"] == **node && quantity >= 0 => {
                written.insert(store.to_owned(), quantity);
            }
            _ => return error(400, "bad_request", &format!("store not found: {store}")),
        }
    }
    if written.len() > 1 && state.depots.len() == 1 {
        let why = "seller with a single warehouse cannot update stock across multiple network nodes";
        return error(400, "bad_request", why);
    }
    // What becomes of a warehouse that is not named is not documented: nobody may rely on it.
    if let Some(left_out) = stock.0.keys().find(|store| !written.contains_key(*store)) {
        state.counts.violations.push(format!("a write of {product} does not name warehouse {left_out}"));
    }
    stock.0.extend(written);
    stock.1 += 1;
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

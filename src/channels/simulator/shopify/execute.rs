//! What a GraphQL call does: read, paid for, carried out, cut to what was selected.

use super::documents::Asked;
use super::{PLACE, Shop};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

const REASONS: &[&str] = &[
    "correction",
    "cycle_count_available",
    "damaged",
    "movement_canceled",
    "movement_created",
    "movement_received",
    "movement_updated",
    "other",
    "promotion",
    "quality_control",
    "received",
    "reservation_created",
    "reservation_deleted",
    "reservation_updated",
    "restock",
    "safety_stock",
    "shrinkage",
];

pub fn run(state: &mut Shop, body: &[u8]) -> Value {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let variables = &asked["variables"];
    let read = state.documents.read(asked["query"].as_str().unwrap_or_default(), variables);
    let Asked { is_mutation, fields, cut } = match read {
        Ok(read) => read,
        Err((why, answer)) => {
            state.counts.violations.push(why);
            return answer;
        }
    };
    let Some(field) = fields.first() else {
        return json!({ "errors": [{ "message": "nothing selected", "extensions": { "code": "BAD_REQUEST" } }] });
    };
    let name = field.name.as_str();
    // Objects cost one, a mutation ten.
    let requested = match name {
        _ if is_mutation => 12,
        "nodes" => 2 + 3 * variables["ids"].as_array().map_or(0, Vec::len) as u64,
        "inventoryItems" | "webhookSubscriptions" => 103,
        _ => 2,
    };
    refill(state);
    if requested * 1_000 > state.points {
        state.counts.throttled += 1;
        state.counts.violations.push(format!("overdrew the bucket: {requested} of {} / 1000", state.points));
        let error = json!({ "message": "Throttled", "extensions": { "code": "THROTTLED",
            "documentation": "https://shopify.dev/api/usage/rate-limits" } });
        return json!({ "errors": [error], "extensions": cost(state, requested, None) });
    }
    if !state.scopes {
        let error = json!({ "message": format!("Access denied for {name} field."), "path": [name],
            "extensions": { "code": "ACCESS_DENIED", "requiredAccess": "`write_inventory` access scope." } });
        return json!({ "errors": [error], "data": null });
    }
    if is_mutation {
        state.counts.mutations += 1;
        let result = match name {
            "webhookSubscriptionCreate" => Ok(subscribe(state, variables)),
            _ => mutate(state, name, field.idempotent, variables),
        };
        state.points -= requested * 1_000;
        return match result {
            Err(message) => {
                state.counts.violations.push(message.clone());
                let code =
                    if message.contains("@idempotent") { "BAD_REQUEST" } else { "INVALID_FIELD_ARGUMENTS" };
                json!({ "errors": [{ "message": message, "extensions": { "code": code }, "path": [name] }],
                    "data": { name: null }, "extensions": cost(state, requested, Some(requested)) })
            }
            Ok(payload) => json!({ "data": { name: cut(field, &payload) },
                "extensions": cost(state, requested, Some(requested)) }),
        };
    }
    let mut data = Map::new();
    for field in &fields {
        data.insert(field.name.clone(), cut(field, &query(state, &field.name, variables)));
    }
    // Less than what was asked for: the difference stays.
    let actual = match name {
        "inventoryItems" => 3 + state.items.len().min(100) as u64,
        "webhookSubscriptions" => 3 + state.subscriptions.len() as u64,
        _ => requested,
    };
    state.points -= actual * 1_000;
    json!({ "data": data, "extensions": cost(state, requested, Some(actual)) })
}

fn refill(state: &mut Shop) {
    let now = Instant::now();
    // Points a second are thousandths a millisecond; what is left of a millisecond counts the next time.
    let passed = (now - state.points_as_of).as_millis() as u64;
    state.points = (state.points + passed * state.restore).min(state.max * 1_000);
    state.points_as_of += Duration::from_millis(passed);
}

fn cost(state: &Shop, requested: u64, actual: Option<u64>) -> Value {
    json!({ "cost": { "requestedQueryCost": requested, "actualQueryCost": actual,
        "throttleStatus": { "maximumAvailable": state.max, "currentlyAvailable": state.points / 1_000,
            "restoreRate": state.restore } } })
}

fn subscribe(state: &mut Shop, variables: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (topic, uri) = (text(&variables["topic"]), text(&variables["uri"]));
    if !uri.starts_with("https://") {
        let error = json!({ "field": ["webhookSubscription", "uri"], "message": "Address is not valid" });
        return json!({ "webhookSubscription": null, "userErrors": [error] });
    }
    state.subscriptions.push((topic, uri));
    json!({ "webhookSubscription": { "id": "gid://shopify/WebhookSubscription/1" }, "userErrors": [] })
}

fn query(state: &Shop, name: &str, variables: &Value) -> Value {
    match name {
        "shop" => json!({ "id": "gid://shopify/Shop/1", "name": "Simulada" }),
        "location" if variables["place"] == PLACE => json!({ "id": PLACE, "name": "Centro" }),
        "nodes" => {
            let ids = variables["ids"].as_array().into_iter().flatten().filter_map(Value::as_str);
            ids.map(|id| node(state, id, variables["place"].as_str())).collect()
        }
        "inventoryItems" => {
            let after = variables["after"].as_str().unwrap_or_default();
            let behind = state.items.iter().filter(|(id, _)| id.as_str() > after);
            let page: Vec<_> = behind.clone().take(100).collect();
            let nodes: Vec<Value> = page
                .iter()
                .map(|(id, item)| json!({ "id": id, "sku": item.sku, "tracked": item.tracked }))
                .collect();
            let end = page.last().map(|(id, _)| (*id).clone());
            json!({ "nodes": nodes, "pageInfo": { "hasNextPage": behind.count() > 100, "endCursor": end } })
        }
        "webhookSubscriptions" => {
            let node = |(topic, uri): &(String, String)| json!({ "topic": topic, "uri": uri });
            json!({ "nodes": state.subscriptions.iter().map(node).collect::<Vec<_>>() })
        }
        _ => Value::Null,
    }
}

fn node(state: &Shop, id: &str, place: Option<&str>) -> Value {
    if let Some(number) = id.strip_prefix("gid://shopify/ProductVariant/") {
        let item = format!("gid://shopify/InventoryItem/{number}");
        return match state.items.contains_key(&item) {
            true => json!({ "__typename": "ProductVariant", "id": id, "inventoryItem": { "id": item } }),
            false => Value::Null,
        };
    }
    let Some(item) = state.items.get(id) else { return Value::Null };
    let level = (place == Some(PLACE))
        .then(|| json!({ "quantities": [{ "name": "available", "quantity": item.available }] }));
    json!({ "__typename": "InventoryItem", "id": id, "sku": item.sku, "inventoryLevel": level })
}

/// The payload, or the message of a run-time error.
fn mutate(state: &mut Shop, name: &str, idempotent: bool, variables: &Value) -> Result<Value, String> {
    let relative = name == "inventoryAdjustQuantities";
    let (list, input) = (if relative { "changes" } else { "quantities" }, &variables["input"]);
    if !idempotent {
        return Err("The @idempotent directive is required for this mutation but was not provided.".into());
    }
    let key = variables["key"].as_str().unwrap_or_default().to_owned();
    if key.trim().is_empty() {
        return Err("The idempotency key is blank (@idempotent).".into());
    }
    let lines = input[list].as_array().cloned().unwrap_or_default();
    if lines.iter().any(|line| line.get("changeFromQuantity").is_none()) {
        let what = if relative { "InventoryChangeInput" } else { "InventoryQuantityInput" };
        return Err(format!("{what} must include the following argument: changeFromQuantity."));
    }
    if lines.len() > 250 {
        return Err(format!("the array holds {} entries, at most 250", lines.len()));
    }
    let failed = |errors: Vec<Value>| json!({ "inventoryAdjustmentGroup": null, "userErrors": errors });
    let user_error =
        |field: Value, code: &str, message: &str| json!({ "field": field, "code": code, "message": message });
    if let Some((used_for, answered)) = state.keys.get(&key) {
        let same = serde_json::from_str::<Value>(used_for).is_ok_and(|before| before == *input);
        if same {
            return Ok(answered.clone());
        }
        state.counts.violations.push(format!("key {key} was used for something else"));
        let message = "The same idempotency key cannot be used with different operation parameters.";
        return Ok(failed(vec![user_error(Value::Null, "IDEMPOTENCY_KEY_PARAMETER_MISMATCH", message)]));
    }
    if !REASONS.contains(&input["reason"].as_str().unwrap_or_default()) {
        return Ok(failed(vec![user_error(
            json!(["input", "reason"]),
            "INVALID_REASON",
            "The specified reason is invalid.",
        )]));
    }
    let mut errors = Vec::new();
    let mut places = HashSet::new();
    for (index, line) in lines.iter().enumerate() {
        let field = |name: &str| json!(["input", list, index.to_string(), name]);
        let item = line["inventoryItemId"].as_str().unwrap_or_default();
        if !places.insert(item.to_owned()) {
            errors.push(user_error(
                field("inventoryItemId"),
                "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR",
                "twice",
            ));
        }
        let Some(there) = state.items.get(item) else {
            let message = "The specified inventory item could not be found.";
            errors.push(user_error(field("inventoryItemId"), "INVALID_INVENTORY_ITEM", message));
            continue;
        };
        if line["locationId"] != PLACE {
            errors.push(user_error(
                field("locationId"),
                "INVALID_LOCATION",
                "The specified location could not be found.",
            ));
        }
        if line["changeFromQuantity"].as_i64().is_some_and(|from| from != there.available) {
            state.counts.stale += 1;
            let message = "The changeFromQuantity value does not match persisted value.";
            errors.push(user_error(Value::Null, "CHANGE_FROM_QUANTITY_STALE", message));
        }
    }
    if !errors.is_empty() {
        // Nothing is kept under the key: the operation had no effect.
        return Ok(failed(errors));
    }
    let mut changes = 0;
    for line in &lines {
        let id = line["inventoryItemId"].as_str().unwrap_or_default();
        let Some(item) = state.items.get_mut(id) else { continue };
        let before = item.available;
        item.available = match relative {
            true => before + line["delta"].as_i64().unwrap_or_default(),
            false => line["quantity"].as_i64().unwrap_or(before),
        };
        changes += u64::from(item.available != before);
        let (sku, shows) = (item.sku.clone().unwrap_or_default(), item.available);
        state.history.push((Instant::now(), sku, shows));
    }
    state.counts.lines += lines.len() as u64;
    // A call that changes nothing has no group, and is no failure.
    let group = (changes > 0).then(|| json!({ "id": "gid://shopify/InventoryAdjustmentGroup/1" }));
    let payload = json!({ "inventoryAdjustmentGroup": group, "userErrors": [] });
    state.keys.insert(key, (input.to_string(), payload.clone()));
    Ok(payload)
}

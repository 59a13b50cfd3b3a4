//! openapi.json against the routes and the error codes of the program, and against itself.

use crate::none;
use crate::source::rust;
use blend::actors::kit::Registry;
use blend::actors::legacy_poller::Pollers;
use blend::actors::reservation::Shards;
use blend::domain::dead_letter::DeadLetter;
use blend::http::api::{Api, LiveBoard, Ops, routes};
use blend::http::{Authenticator, Secret};
use blend::ports::PortError;
use blend::ports::clock::SystemClock;
use blend::ports::dead_letters::DeadLetters;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

fn document() -> Value {
    serde_json::from_str(include_str!("../../openapi.json")).unwrap()
}

/// A bus that gives nothing up.
struct NoLetters;

impl DeadLetters for NoLetters {
    fn list(&self, _most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn replay<'a>(&'a self, _ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        Box::pin(async { Ok(0) })
    }
}

/// The program's routes, without a program behind them.
fn served() -> BTreeSet<String> {
    let api = Api {
        shards: Shards::new(Vec::new(), std::time::Duration::ZERO),
        channels: blend::actors::channels::Channels::none(),
        webhooks: blend::actors::webhooks::Webhooks::none(),
        pollers: Pollers::default(),
        cluster: None,
        authenticator: Authenticator::new(Secret::new("0".repeat(32)).unwrap(), Arc::new(|| 0)),
        ops: Ops {
            registry: Registry::new(),
            clock: Arc::new(SystemClock),
            prometheus: PrometheusBuilder::new().build_recorder().handle(),
            live: LiveBoard::default(),
            ledger_lag: Box::new(|| 0),
            dead_letters: Arc::new(NoLetters),
            outbox: Box::new(|| None),
            findings: Vec::new(),
            circuits: Box::new(Vec::new),
            open_to_loopback: true,
            shows_sales: false,
            started: Instant::now(),
        },
        max_import_bytes: 1,
    };
    let table = routes(Arc::new(api)).build().unwrap();
    table.paths().map(|(method, path)| format!("{method} {path}")).collect()
}

/// Every operation: its name, itself, and its path's own parameters.
fn operations(document: &Value) -> Vec<(String, &Map<String, Value>)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((format!("{} {path}", method.to_uppercase()), operation.as_object().unwrap()));
        }
    }
    operations
}

/// What a `$ref` points at, or the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(target) => {
            let pointer =
                target.strip_prefix('#').unwrap_or_else(|| panic!("{target} is not in this document"));
            document.pointer(pointer).unwrap_or_else(|| panic!("{target} points at nothing"))
        }
        None => value,
    }
}

fn each_value(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_value(item, visit)),
        Value::Object(fields) => fields.values().for_each(|field| each_value(field, visit)),
        _ => {}
    }
}

#[test]
fn it_lists_exactly_the_routes() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let listed: BTreeSet<String> = operations(&document).into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, served());
}

#[test]
fn every_reference_resolves_and_every_component_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    each_value(&document, &mut |value| {
        resolved(&document, value);
        used.extend(value.get("$ref").and_then(Value::as_str).map(str::to_owned));
    });
    let mut unused = Vec::new();
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            let target = format!("#/components/{kind}/{name}");
            if kind != "securitySchemes" && !used.contains(&target) {
                unused.push(target);
            }
        }
    }
    none("components that nothing refers to", unused);
}

/// What is told to do something that needs no more words.
const ORDERS: [&str; 9] = [
    "/reenviar",
    "/cache/warmup",
    "/probar",
    "/rotar",
    "/pausar",
    "/reanudar",
    "/resincronizar",
    "/confirmar_ceros",
    "/corregir_diferencias",
];

#[test]
fn every_operation_is_described() {
    let document = document();
    let mut findings = Vec::new();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let mut need = |fine: bool, what: &str| {
            if !fine {
                findings.push(format!("{name}: {what}"));
            }
        };
        need(operation.get("summary").is_some_and(Value::is_string), "no summary");
        need(operation.get("tags").and_then(Value::as_array).is_some_and(|tags| !tags.is_empty()), "no tags");
        need(operation.contains_key("security"), "no security; an open operation says []");
        let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
        need(!id.is_empty() && ids.insert(id.to_owned()), "no operationId of its own");
        let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
        let in_path: BTreeSet<&str> = parameters
            .map(|parameter| resolved(&document, parameter))
            .filter(|parameter| parameter["in"] == "path" && parameter["required"] == true)
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        let wanted = name.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        need(in_path == wanted, "path parameters differ from the path");
        let answers = operation["responses"].as_object().unwrap();
        need(answers.keys().any(|status| status.starts_with('2')), "no answer when all goes well");
        let writes = ["POST", "PUT", "PATCH"].iter().any(|verb| name.starts_with(verb));
        let takes_a_body = writes && !ORDERS.iter().any(|order| name.ends_with(order));
        need(takes_a_body == operation.contains_key("requestBody"), "request body");
        if operation["security"] != Value::Array(Vec::new()) {
            need(answers.contains_key("401") && answers.contains_key("403"), "no 401 or no 403");
        }
        for (status, answer) in answers {
            let answer = resolved(&document, answer);
            need(answer["description"].is_string(), &format!("{status} has no description"));
            let id = answer.pointer("/headers/X-Request-ID");
            need(id.is_some(), &format!("{status} does not name the X-Request-ID that every answer has"));
        }
    }
    none("operations", findings);
}

/// Each error code that the edge or a handler gives is told to the reader of the contract.
#[test]
fn every_error_code_is_listed() {
    const MAKERS: [&str; 6] = [
        "ApiError::new(",
        "ApiError::bad_request(",
        "ApiError::unauthorized(",
        "ApiError::conflict(",
        "unavailable(",
        "Self::new(",
    ];
    let mut codes = BTreeSet::new();
    for source in rust(&["src/http"]).iter().filter(|source| !source.is_test()) {
        let shipped = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for maker in MAKERS {
            for (at, _) in shipped.match_indices(maker) {
                // The code is the first literal of the call.
                let call: String = shipped[at..].chars().take(200).collect();
                codes.extend(call.split('"').nth(1).filter(|text| is_code(text)).map(str::to_owned));
            }
        }
        // hyper's own refusals are a table of pairs.
        if source.path.ends_with("refusal.rs") {
            codes.extend(
                shipped
                    .split("(\"")
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next())
                    .filter(|c| is_code(c))
                    .map(str::to_owned),
            );
        }
    }
    assert!(codes.len() > 25, "{codes:?}");
    let document = document();
    let listed: BTreeSet<String> = document
        .pointer("/components/schemas/Codigo/enum")
        .and_then(Value::as_array)
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, codes);
}

fn is_code(text: &str) -> bool {
    text.len() > 3 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn amounts_are_decimals_of_two_places_and_quantities_of_three() {
    let document = document();
    let schema = |name: &str| document["components"]["schemas"][name]["multipleOf"].to_string();
    assert_eq!((schema("Importe").as_str(), schema("Cantidad").as_str()), ("0.01", "0.001"));
    let mut bare = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if name == "Importe" || name == "Cantidad" {
            continue;
        }
        each_value(schema, &mut |value| {
            if value["type"] == "number" {
                bare.push(format!("{name}: {value}"));
            }
        });
    }
    none("numbers that are neither Importe nor Cantidad", bare);
}

//! What a node answers while it cannot start for want of a server.

use super::super::{ApiError, Request, Response, Routes};
use crate::ports::clock::SharedClock;
use hyper::Method;
use serde_json::{Value, json};
use std::future::ready;
use std::sync::Arc;

/// Tells the servers that are waited for, each with what is wrong with it.
pub type Missing = Arc<dyn Fn() -> Vec<(&'static str, String)> + Send + Sync>;

/// Seconds after which it is worth asking again.
const RETRY_AFTER: u32 = 1;

/// It lives, it is not ready, and it sells nothing.
pub fn starting(clock: SharedClock, missing: Missing) -> Routes {
    let mut routes = Routes::new();
    for path in ["/health", "/api/v1/health"] {
        let clock = clock.clone();
        routes = routes.get(path, move |_: Request| {
            ready(Response::ok(&json!({
                "status": "healthy", "timestamp": clock.now(), "service": "blend",
                "version": env!("CARGO_PKG_VERSION"),
            })))
        });
    }
    for path in ["/ready", "/api/v1/health/ready"] {
        let missing = missing.clone();
        routes = routes.get(path, move |_: Request| {
            let away = missing().into_iter();
            let checks: serde_json::Map<String, Value> = away
                .map(|(server, why)| (server.into(), json!({ "ok": false, "last_error": why })))
                .collect();
            let error = ApiError::not_ready("Esperando a los servidores", RETRY_AFTER);
            ready(Err::<Response, _>(error.with_details(json!({ "status": "not_ready", "checks": checks }))))
        });
    }
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for path in ["/", "/{*path}"] {
            let refuse = |_: Request| {
                let message = "El servicio está arrancando: reintente en un momento";
                Box::pin(ready(Err(ApiError::unavailable("no_disponible", message, RETRY_AFTER)))) as _
            };
            routes = routes.route(method.clone(), path, Arc::new(refuse));
        }
    }
    routes
}

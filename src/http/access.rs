//! What is said about an answered request: one log line if it was slow or refused, two metrics always.

use super::{reply::ApiError, request::RequestId};
use crate::domain::trace::{TraceContext, TraceId};
use hyper::{Method, StatusCode};
use metrics::{Counter, Histogram};
use std::{sync::OnceLock, time::Duration};

/// A request slower than this is logged even if all went well.
const SLOW: Duration = Duration::from_millis(500);

/// The label values of `status`, by hundreds.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics of one route, registered at first use and kept: a lookup by labels costs more than the route does.
pub(super) struct RouteMetrics {
    method: &'static str,
    route: &'static str,
    /// `blend_http_requests_total{method,route,status}`: answered requests; `status` is the class, such as `4xx`.
    requests: [OnceLock<Counter>; CLASSES.len()],
    /// `blend_http_request_seconds{method,route}`: from the header's arrival to the answer's first byte.
    seconds: OnceLock<Histogram>,
}

impl RouteMetrics {
    /// `route` is the pattern, never the path: a label has few values.
    pub(super) fn new(method: &'static str, route: &'static str) -> Self {
        Self { method, route, requests: [const { OnceLock::new() }; CLASSES.len()], seconds: OnceLock::new() }
    }

    /// Method and pattern.
    pub(super) const fn labels(&self) -> (&'static str, &'static str) {
        (self.method, self.route)
    }

    pub(super) fn record(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        let requests = self.requests[class].get_or_init(|| {
            metrics::counter!("blend_http_requests_total",
                "method" => self.method, "route" => self.route, "status" => CLASSES[class])
        });
        requests.increment(1);
        let seconds = self.seconds.get_or_init(|| {
            metrics::histogram!("blend_http_request_seconds",
                "method" => self.method, "route" => self.route)
        });
        seconds.record(took.as_secs_f64());
    }
}

impl Default for RouteMetrics {
    /// For what matched no route. Its method is the client's free text, so it is not a label value.
    fn default() -> Self {
        Self::new("any", "unmatched")
    }
}

/// Logs a request that was slow or refused. Never its body, its headers or its query, which may hold a token.
pub(super) fn log(
    request_id: &RequestId,
    trace: Option<&TraceContext>,
    method: &Method,
    path: &str,
    status: StatusCode,
    took: Duration,
    error: Option<&ApiError>,
) {
    if status.as_u16() < 400 && took < SLOW || error.is_some_and(|error| !error.is_news()) {
        return;
    }
    let (status, ms) = (status.as_u16(), took.as_millis() as u64);
    let (code, cause) = (error.map(ApiError::code), error.and_then(ApiError::cause));
    let trace_id = trace.map_or_else(|| TraceId::begun_by(request_id.as_str()), TraceContext::id);
    let tenant = error.and_then(ApiError::tenant).map(tracing::field::display);
    if status >= 500 {
        tracing::error!(%request_id, %trace_id, tenant, %method, path, status, code, ms, cause, "request failed");
    } else if status >= 400 {
        tracing::info!(%request_id, %trace_id, tenant, %method, path, status, code, ms, cause, "request refused");
    } else {
        tracing::warn!(%request_id, %trace_id, %method, path, status, ms, "request was slow");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_labelled_by_pattern_and_class() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let route = RouteMetrics::new("GET", "/ventas/{id}");
            for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND] {
                route.record(status, Duration::from_millis(3));
            }
            RouteMetrics::default().record(StatusCode::NOT_FOUND, Duration::ZERO);
        });
        let text = handle.render();
        for line in [
            r#"blend_http_requests_total{method="GET",route="/ventas/{id}",status="2xx"} 2"#,
            r#"blend_http_requests_total{method="GET",route="/ventas/{id}",status="4xx"} 1"#,
            r#"route="unmatched",status="4xx"} 1"#,
            r#"blend_http_request_seconds_count{method="GET",route="/ventas/{id}"} 3"#,
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
    }
}

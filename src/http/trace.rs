//! The trace that a request comes with: the headers `traceparent` and `tracestate` of W3C trace context.

use super::request::RequestId;
use crate::domain::trace::{TraceContext, TraceId, new_span};
use crate::ports::spans::{Fact, Role, Span, Spans};
use hyper::{HeaderMap, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// The trace in these headers. `None` where there is none, or none that is valid: the request begins one then.
pub(super) fn of(headers: &HeaderMap) -> Option<Arc<TraceContext>> {
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next()?.to_str().ok()?;
    // Two of them is an error of whoever sent them, and which one is meant nobody knows.
    if parents.next().is_some() {
        return None;
    }
    // A list may be spread over several headers.
    let states: Vec<&str> =
        headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok()).collect();
    let state = (!states.is_empty()).then(|| states.join(","));
    TraceContext::parse(parent, state.as_deref()).map(Arc::new)
}

/// A request as a step of a recorded trace, under way.
pub(super) struct Step {
    trace: Arc<TraceContext>,
    parent: u64,
}

impl Step {
    /// The step of this request, if its trace is recorded, and the trace as what is done for it continues it: a caller's
    /// own, or one that begins here. What asks every few seconds how things are begins none.
    pub(super) fn begin(
        spans: Option<&Arc<dyn Spans>>,
        path: &str,
        request_id: &RequestId,
        given: Option<Arc<TraceContext>>,
    ) -> (Option<Arc<TraceContext>>, Option<Self>) {
        let Some(spans) = spans else { return (given, None) };
        let (trace, parent) = match &given {
            Some(given) if given.is_recorded() => (given.under(new_span()), given.span()),
            Some(_) => return (given, None),
            None => match TraceId::begun_by(request_id.as_str()) {
                id if path.starts_with("/api/") && spans.takes(id) => {
                    (TraceContext::recorded(id, new_span()), 0)
                }
                _ => return (None, None),
            },
        };
        let trace = Arc::new(trace);
        (Some(trace.clone()), Some(Self { trace, parent }))
    }

    /// The step is over. Names and facts as in OpenTelemetry's conventions for HTTP servers.
    pub(super) fn end(
        self,
        spans: &dyn Spans,
        request_id: &RequestId,
        (method, route): (&'static str, &'static str),
        status: StatusCode,
        took: Duration,
    ) {
        let facts = vec![
            ("http.request.method", Fact::from(method)),
            ("http.route", Fact::from(route)),
            ("http.response.status_code", Fact::Number(status.as_u16().into())),
            ("blend.request_id", Fact::from(request_id.as_str())),
        ];
        // What a caller did wrong is no failure of the server's.
        let failure = status.is_server_error().then(|| format!("status {}", status.as_u16()));
        let (trace, id, parent) = (self.trace.id(), self.trace.span(), self.parent);
        let name = format!("{method} {route}").into();
        spans.record(Span { trace, id, parent, name, role: Role::Server, took, failure, facts });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sent(headers: &[(&'static str, &str)]) -> Option<Arc<TraceContext>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        of(&map)
    }

    #[test]
    fn one_valid_traceparent_is_taken_with_all_of_its_state() {
        let trace = sent(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]).unwrap();
        assert_eq!(trace.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.state(), Some("a=1,b=2"));
        assert_eq!(sent(&[]), None);
        assert_eq!(sent(&[("tracestate", "a=1")]), None);
        assert_eq!(sent(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        assert_eq!(sent(&[("traceparent", "00-nada")]), None);
    }
}

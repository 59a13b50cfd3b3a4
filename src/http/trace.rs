//! The trace that a request comes with: the headers `traceparent` and `tracestate` of W3C trace context.

use crate::domain::trace::TraceContext;
use hyper::HeaderMap;
use std::sync::Arc;

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

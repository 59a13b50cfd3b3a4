//! The one catch-all warp filter and the life of a request inside it.

use super::{
    access,
    reply::{ApiError, Response},
    request::{Request, RequestId},
    routes::{Lookup, Params, Route, Tables},
    trace::{self, Step},
};
use crate::domain::trace::TraceContext;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{FutureExt, Stream, StreamExt};
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use std::{
    any::Any,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};
use warp::{Filter, filters::path::FullPath};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// A body refused for its size is read on for a moment and thrown away: closing a socket with unread data sends a
/// reset, and the client would see that instead of the 413.
const LINGER_BYTES: usize = 16 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// What all connections of a server share.
pub(super) struct Edge {
    pub(super) tables: Arc<Tables>,
    pub(super) body_limit: usize,
    pub(super) body_timeout: Duration,
}

/// The filter for one connection. It never rejects: every path, method and body ends in an answer of ours.
pub(super) fn filter(
    edge: Arc<Edge>,
    peer: SocketAddr,
) -> impl Filter<Extract = (warp::reply::Response,), Error = warp::Rejection> + Clone {
    let raw_query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(raw_query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method, path: FullPath, query, headers, body| {
            let head = Head { method, path: path.as_str().into(), query, headers, peer };
            answer(edge.clone(), head, body)
        })
}

/// A request before its body.
struct Head {
    method: Method,
    path: Arc<str>,
    query: String,
    headers: HeaderMap,
    peer: SocketAddr,
}

async fn answer<S, B>(edge: Arc<Edge>, head: Head, body: S) -> warp::reply::Response
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let received = Instant::now();
    let request_id = RequestId::of(&head.headers);
    let table = edge.tables.in_force();
    let spans = table.spans.as_ref();
    let (trace, step) = Step::begin(spans, &head.path, &request_id, trace::of(&head.headers));
    let (method, path) = (head.method.clone(), head.path.clone());
    let (metrics, result) = match table.find(&method, &path) {
        Lookup::Found(route, params) => {
            let limit = route.body_limit.unwrap_or(edge.body_limit);
            let result = match read_body(&head.headers, body, limit, edge.body_timeout).await {
                Ok(body) => {
                    let named = (request_id.clone(), trace.clone());
                    run(route, request(head, body, params, named, received)).await
                }
                Err(error) => Err(error),
            };
            (&route.metrics, result)
        }
        Lookup::Options(allow) => {
            let options = Response::empty(StatusCode::NO_CONTENT).with_header(header::ALLOW, allow);
            (&table.unmatched, Ok(options))
        }
        Lookup::WrongMethod(allow) => (&table.unmatched, Err(ApiError::method_not_allowed(allow))),
        Lookup::Unknown => (&table.unmatched, Err(ApiError::not_found("Ruta no encontrada"))),
    };
    let took = received.elapsed();
    let response = match result {
        Ok(response) => {
            access::log(&request_id, trace.as_deref(), &method, &path, response.status(), took, None);
            response
        }
        Err(error) => {
            access::log(&request_id, trace.as_deref(), &method, &path, error.status(), took, Some(&error));
            error.into_response(&request_id)
        }
    };
    metrics.record(response.status(), took);
    if let (Some(step), Some(spans)) = (step, spans) {
        step.end(&**spans, &request_id, metrics.labels(), response.status(), took);
    }
    let mut response = response.into_warp();
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, request_id.header());
    headers.insert(X_PROCESS_TIME, milliseconds(took));
    response
}

fn request(
    head: Head,
    body: Bytes,
    params: Params,
    (request_id, trace): (RequestId, Option<Arc<TraceContext>>),
    received: Instant,
) -> Request {
    let Head { method, path, query, headers, peer } = head;
    // Whoever answers a GET need not know that only its head was asked for; hyper drops the body.
    let method = if method == Method::HEAD { Method::GET } else { method };
    Request { method, headers, body, request_id, trace, peer, received, path, query, params }
}

/// Runs the handler; a panic in it is a 500 and nobody else's business.
async fn run(route: &Route, request: Request) -> Result<Response, ApiError> {
    // The handler's own code before its first await may panic too, so it is called inside the guarded future.
    let guarded = AssertUnwindSafe(async { (route.handler)(request).await }).catch_unwind();
    guarded.await.unwrap_or_else(|panic| {
        let what = panic_text(&*panic);
        Err(ApiError::internal().caused_by(format_args!("handler of {} panicked: {what}", route.path)))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match panic.downcast_ref::<&'static str>() {
        Some(text) => text,
        None => panic.downcast_ref::<String>().map_or("not a text", String::as_str),
    }
}

/// Reads a body under a limit and one time-out for all of it. What is declared too large is refused unread.
async fn read_body<S, B>(
    headers: &HeaderMap,
    body: S,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, ApiError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    // Neither of the two headers means no body, as for nearly every GET.
    if declared.unwrap_or(0) == 0 && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(Bytes::new());
    }
    let mut body = pin!(body);
    let read = async {
        if declared.is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge);
        }
        collect(body.as_mut(), limit).await
    };
    match tokio::time::timeout(timeout, read).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(BodyError::TooLarge)) => {
            // A client that waits for a 100 Continue has sent nothing and must not be told to begin.
            if !headers.contains_key(header::EXPECT) {
                discard(body).await;
            }
            let message = format!("El cuerpo supera {limit} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "cuerpo_demasiado_grande", message))
        }
        Ok(Err(BodyError::Broken(error))) => {
            Err(ApiError::bad_request("cuerpo_incompleto", "El cuerpo llegó incompleto").caused_by(error))
        }
        Err(_) => {
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "tiempo_agotado", "El cuerpo no llegó a tiempo"))
        }
    }
}

enum BodyError {
    TooLarge,
    Broken(warp::Error),
}

async fn collect<S, B>(mut body: Pin<&mut S>, limit: usize) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    // A small body is one chunk, which is passed on as it is; only a second one is worth a copy.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(BodyError::Broken)?;
        let length = chunk.remaining();
        if first.len().max(all.len()) + length > limit {
            return Err(BodyError::TooLarge);
        }
        let chunk = chunk.copy_to_bytes(length);
        if first.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

async fn discard<S, B>(mut body: Pin<&mut S>)
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let drain = async {
        let mut dropped = 0;
        while let Some(Ok(chunk)) = body.next().await {
            dropped += chunk.remaining();
            if dropped > LINGER_BYTES {
                break;
            }
        }
    };
    // Whether it ended or the time did, the answer is the same.
    tokio::time::timeout(LINGER, drain).await.ok();
}

/// Milliseconds with three decimals, in integers.
fn milliseconds(took: Duration) -> HeaderValue {
    let mut text = [0_u8; 24];
    let mut at = text.len();
    let mut rest = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    // At least "0.000": three decimals, the point, one digit; 20 digits and a point fit in 24.
    for position in 0.. {
        if position == 3 {
            at -= 1;
            text[at] = b'.';
        }
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 && position >= 3 {
            break;
        }
    }
    HeaderValue::from_bytes(&text[at..]).unwrap_or(HeaderValue::from_static("0.000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_time_has_three_decimals() {
        let cases = [(0, "0.000"), (7, "0.007"), (999, "0.999"), (1_000, "1.000"), (1_234_567, "1234.567")];
        for (micros, text) in cases {
            assert_eq!(milliseconds(Duration::from_micros(micros)), text);
        }
        assert_eq!(milliseconds(Duration::MAX), "18446744073709551.615");
    }
}

//! What a handler gets: a [`Request`] with typed helpers, each of which answers 422 naming the field.

use super::{json, reply::ApiError, routes::Params};
use crate::domain::trace::TraceContext;
use bytes::Bytes;
use hyper::{HeaderMap, Method, header::HeaderValue};
use serde::Deserialize;
use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    str::FromStr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use uuid::Uuid;

/// Longest `X-Request-ID` taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// The name under which a request is found in logs and answers. Kept as the header value it is echoed in, so that
/// echoing costs a reference count.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own `X-Request-ID` if it is sane, else a new one.
    ///
    /// The characters are restricted because the id goes into logs as it is.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-request-id") {
            Some(value) if is_sane(value.as_bytes()) => Self(value.clone()),
            _ => Self::generate(),
        }
    }

    /// A new one: the UUIDv7 of this process's start plus a counter, because a request is too small a thing to ask
    /// the kernel for randomness.
    pub fn generate() -> Self {
        static BOOT: LazyLock<u128> = LazyLock::new(|| Uuid::now_v7().as_u128());
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = BOOT.wrapping_add(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)));
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        Uuid::from_u128(id).hyphenated().encode_lower(&mut text);
        // Hex digits and hyphens are always a header value.
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Only visible ASCII gets in, see `of` and `generate`.
        self.0.to_str().unwrap_or_default()
    }

    /// As the header it is echoed in.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_sane(id: &[u8]) -> bool {
    let fine =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(fine)
}

/// One HTTP request, body read, ready to be answered.
#[derive(Debug)]
pub struct Request {
    /// The method; GET for a HEAD.
    pub method: Method,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body, within the route's limit.
    pub body: Bytes,
    /// Its name in logs and in the answer.
    pub request_id: RequestId,
    /// The trace that came with it.
    pub trace: Option<Arc<TraceContext>>,
    /// Who is at the other end of the socket.
    pub peer: SocketAddr,
    /// When its header had arrived.
    pub received: Instant,
    pub(super) path: Arc<str>,
    pub(super) query: String,
    pub(super) params: Params,
}

impl Request {
    /// A request that came from no socket, for tests of handlers.
    pub fn for_test(method: Method, path_and_query: &str, body: impl Into<Bytes>) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        Self {
            method,
            headers: HeaderMap::new(),
            body: body.into(),
            request_id: RequestId::generate(),
            trace: None,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            received: Instant::now(),
            path: path.into(),
            query: query.to_owned(),
            params: Params::default(),
        }
    }

    /// The path as it was sent.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The query string as it was sent, without the `?`.
    pub fn raw_query(&self) -> &str {
        &self.query
    }

    /// A header's text; `None` if it is missing or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON, strictly; see [`json::read`].
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ApiError> {
        json::read(&self.headers, &self.body)
    }

    /// A segment of the path, `{name}` in the pattern. 422 naming it if it is not a `T`.
    pub fn param<T: FromStr>(&self, name: &'static str) -> Result<T, ApiError> {
        let raw = self.params.get(&self.path, name);
        let text = raw.and_then(|raw| decode(raw, false));
        text.and_then(|text| text.parse().ok()).ok_or_else(|| not_a::<T>(name))
    }

    /// A value of the query, the first of that name. 422 naming it if it is there and not a `T`.
    pub fn query<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(raw) = find(&self.query, name) else { return Ok(None) };
        let text = decode(raw, true);
        text.and_then(|text| text.parse().ok()).map(Some).ok_or_else(|| not_a::<T>(name))
    }

    /// A value of the query within a range, or the default if there is none. 422 naming it beyond the range.
    pub fn query_in<T: FromStr + PartialOrd + fmt::Display>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
        default: T,
    ) -> Result<T, ApiError> {
        let value = self.query(name)?.unwrap_or(default);
        if range.contains(&value) {
            return Ok(value);
        }
        let message = format!("Debe estar entre {} y {}", range.start(), range.end());
        Err(ApiError::field(name, "fuera_de_rango", message))
    }
}

fn not_a<T>(name: &str) -> ApiError {
    // The type's name would leak Rust into the wire; its kind is enough for a person.
    let (kind, message) = match std::any::type_name::<T>() {
        "u8" | "u16" | "u32" | "u64" | "usize" => ("entero", "Debe ser un número entero no negativo"),
        "i8" | "i16" | "i32" | "i64" | "isize" => ("entero", "Debe ser un número entero"),
        "bool" => ("booleano", "Debe ser true o false"),
        name if name.ends_with("Uuid") || name.contains("::ids::") => ("uuid", "Debe ser un UUID"),
        _ => ("formato", "Tiene un formato inválido"),
    };
    ApiError::field(name, kind, message)
}

/// The raw value of the first pair of that name.
fn find<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).find_map(|(key, value)| {
        let same = key == name || (key.contains(['%', '+']) && decode(key, true).as_deref() == Some(name));
        same.then_some(value)
    })
}

/// Percent-decodes, in a query also `+` to a space. `None` if an escape is broken or the result is not UTF-8.
fn decode(raw: &str, plus: bool) -> Option<Cow<'_, str>> {
    let escaped = raw.bytes().any(|b| b == b'%' || (plus && b == b'+'));
    if !escaped {
        return Some(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                high << 4 | low
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::SaleId;

    fn get(path_and_query: &str) -> Request {
        Request::for_test(Method::GET, path_and_query, "")
    }

    #[test]
    fn query_values_are_typed_and_ranged() {
        let request = get("/x?limit=20&q=caf%C3%A9+con+leche&vacio=&roto=%zz&limit=9&%61=1");
        assert_eq!(request.query::<u32>("limit").unwrap(), Some(20));
        assert_eq!(request.query::<String>("q").unwrap().as_deref(), Some("café con leche"));
        assert_eq!(request.query::<String>("vacio").unwrap().as_deref(), Some(""));
        assert_eq!(request.query::<u8>("a").unwrap(), Some(1));
        assert_eq!(request.query::<u8>("nada").unwrap(), None);
        assert_eq!(request.query_in("offset", 0..=100, 7_u32).unwrap(), 7);
        assert_eq!(request.query_in("limit", 1..=100, 7_u32).unwrap(), 20);
        let field = |error: ApiError| {
            let first = error.validation_errors()[0].clone();
            (error.status().as_u16(), first.field, first.kind.into_owned())
        };
        let refused = [
            (field(request.query_in("limit", 1..=10, 7_u32).unwrap_err()), "limit", "fuera_de_rango"),
            (field(request.query::<u32>("q").unwrap_err()), "q", "entero"),
            (field(request.query::<String>("roto").unwrap_err()), "roto", "formato"),
            (field(request.query::<SaleId>("q").unwrap_err()), "q", "uuid"),
        ];
        for (got, name, kind) in refused {
            assert_eq!(got, (422, name.to_owned(), kind.to_owned()));
        }
    }

    #[test]
    fn request_ids_are_taken_over_only_if_sane() {
        let with = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-request-id", HeaderValue::from_str(id).unwrap());
            RequestId::of(&headers)
        };
        assert_eq!(with("caja-7:42").as_str(), "caja-7:42");
        for id in ["", "a b", "a\"b", &"x".repeat(129)] {
            assert_ne!(with(id).as_str(), id);
        }
        let (one, two) = (RequestId::generate(), RequestId::generate());
        assert_ne!(one, two);
        assert_eq!(one.as_str().parse::<Uuid>().unwrap().get_version_num(), 7);
    }
}

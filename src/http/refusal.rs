//! Gives the envelope to what hyper refuses by itself.
//!
//! A request whose header cannot be read never reaches the filter: hyper answers with a bare status and closes. That
//! answer is recognised on its way to the socket and said again in full, so that a client has one kind of error.

use super::{access::RouteMetrics, reply::ApiError, request::RequestId};
use hyper::StatusCode;
use std::{sync::LazyLock, time::Duration};

/// All that is refused here, in the metrics.
static METRICS: LazyLock<RouteMetrics> = LazyLock::new(RouteMetrics::default);

/// hyper's refusals are a status line and three headers.
const MAX_HEAD: usize = 256;

/// The full answer in place of `head`, if that is a refusal of hyper's own.
pub(super) fn in_full(head: &[u8]) -> Option<Vec<u8>> {
    // The common case ends at the first comparison: an answer that is no error. The others keep a part of a body
    // that happens to look like a head from being taken for one.
    let bare = matches!(head.get(9), Some(b'4' | b'5'))
        && head.len() <= MAX_HEAD
        && head.starts_with(b"HTTP/1.")
        && head.ends_with(b"\r\n\r\n")
        && contains(head, b"\r\ncontent-length: 0\r\n")
        && !contains(head, b"\r\nx-request-id: ");
    if !bare {
        return None;
    }
    let status = StatusCode::from_bytes(head.get(9..12)?).ok()?;
    let (code, message) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("cabecera_demasiado_grande", "La cabecera es demasiado grande")
        }
        StatusCode::URI_TOO_LONG => ("uri_demasiado_larga", "La URI es demasiado larga"),
        _ => ("http_invalido", "La solicitud no es HTTP válido"),
    };
    let request_id = RequestId::generate();
    tracing::info!(%request_id, status = status.as_u16(), "unreadable request refused");
    METRICS.record(status, Duration::ZERO);
    let body = ApiError::new(status, code, message).envelope(&request_id);
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nx-request-id: {request_id}\r\n\
         x-process-time: 0.000\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    Some(answer)
}

fn contains(head: &[u8], part: &[u8]) -> bool {
    head.windows(part.len()).any(|w| w == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_error_is_replaced() {
        let bare = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let full = String::from_utf8(in_full(bare).unwrap()).unwrap();
        let (head, body) = full.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}");
        assert!(body.contains("http_invalido"));
        let others: [&[u8]; 6] = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\nand more",
            b"some 4xx5 bytes of a body",
            b"",
            b"HTTP/1.1 4",
        ];
        for other in others {
            assert_eq!(in_full(other), None);
        }
    }
}

//! What the clients share: one HTTP client with limits, and answers as far as they are looked at.

use crate::domain::channel::{Refused, Verdict};
use crate::ports::PortError;
use bytes::Bytes;
use hyper::header::{HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// From the first byte sent to the last one received, unless the settings say otherwise.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Most bytes of an answer that are read.
const MOST: usize = 8 << 20;

/// Most characters of a request or an answer that are kept for a person to look at.
const SHOWN: usize = 2_000;

/// An answer.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    /// `Retry-After` in seconds, if it is there and one.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        // Shopify sends decimals ("2.0").
        let whole = seconds.split('.').next()?.parse().ok()?;
        Some(Duration::from_secs(whole))
    }

    /// The body's beginning, for a person.
    pub fn shown(&self) -> String {
        format!("HTTP {}: {}", self.status, shorten(&String::from_utf8_lossy(&self.body)))
    }
}

/// A text's beginning.
pub fn shorten(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// A client. Redirects are not followed: no marketplace sends any, and a token must not travel.
pub fn client() -> Result<reqwest::Client, PortError> {
    patient_client(PATIENCE)
}

/// A client that waits so long for an answer.
pub fn patient_client(patience: Duration) -> Result<reqwest::Client, PortError> {
    let built = reqwest::Client::builder()
        .timeout(patience)
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("Blend/", env!("CARGO_PKG_VERSION")))
        .build();
    built.map_err(|error| PortError::Permanent(format!("no HTTP client: {error}")))
}

/// Sends, and reads the answer whatever its status. `request` is what a person may see of it.
pub async fn send(builder: reqwest::RequestBuilder, request: &str) -> Result<Answered, Refused> {
    let lost = |error: &reqwest::Error| Refused {
        // Whether it had an effect is not known: the same call again finds out.
        verdict: Verdict::Again { after: None },
        cause: format!("no answer: {}", plain(error)),
        request: shorten(request),
        response: String::new(),
    };
    let mut response = builder.send().await.map_err(|error| lost(&error))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(&error))? {
        if body.len() + chunk.len() > MOST {
            return Err(Refused {
                verdict: Verdict::Again { after: None },
                cause: format!("the answer has more than {MOST} bytes"),
                request: shorten(request),
                response: String::new(),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answered { status, headers, body: body.into() })
}

/// The error and its causes, without the address: it may hold a secret.
pub fn plain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timed out".to_owned() } else { String::new() };
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    if text.is_empty() { "the connection failed".to_owned() } else { text }
}

//! Where requests go and who sends them: parsed once, so that a request only clones header values.

use super::ClientError;
use hyper::{Uri, header::HeaderValue};
use std::fmt;

/// The server of a client, taken apart.
#[derive(Debug)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
    host_header: HeaderValue,
    prefix: String,
}

impl Target {
    /// Reads `http://host[:port][/prefix]`; a missing scheme means http.
    pub fn parse(base_url: &str) -> Result<Self, ClientError> {
        let text = base_url.trim();
        let bad = || ClientError::BadAddress(text.to_owned());
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|_| bad())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(ClientError::Https(text.to_owned())),
            _ => return Err(bad()),
        }
        let authority = uri.authority().ok_or_else(bad)?;
        // User names belong in a token, and a query in the path of a request.
        if authority.host().is_empty() || authority.as_str().contains('@') || uri.query().is_some() {
            return Err(bad());
        }
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => 80,
            None => return Err(bad()), // "host:" and "host:99999"
        };
        // The resolver wants an IPv6 address bare, the Host header wants its brackets.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self {
            host,
            port,
            authority: authority.as_str().to_owned(),
            host_header: HeaderValue::from_str(authority.as_str()).map_err(|_| bad())?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Name or address to resolve.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port to connect to.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` as it was written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The `Host` header.
    pub const fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// What goes before each path, without a final slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// A bearer token as the header it is sent in.
#[derive(Clone)]
pub struct Bearer(HeaderValue);

impl Bearer {
    /// Prepares a token.
    pub fn new(token: &str) -> Result<Self, ClientError> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| ClientError::BadRequest("the token"))?;
        header.set_sensitive(true);
        Ok(Self(header))
    }

    /// The `Authorization` header.
    pub const fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(secret)")
    }
}

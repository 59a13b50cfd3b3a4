//! Webhooks that go out: one POST, no redirect, and only to addresses that may be called.

use super::http;
use crate::domain::hook::is_public;
use crate::ports::PortError;
use crate::ports::hooks::{HookSender, Outgoing};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Most bytes of an answer that are read, for the log.
const SHOWN: usize = 2_000;

/// Longest address.
const LONGEST: usize = 2_000;

/// Sends.
pub struct Sender {
    /// For what tenants name: resolves to addresses of the internet only.
    careful: reqwest::Client,
    /// For what the installation's settings name.
    trusting: reqwest::Client,
    /// Whether tenants too may name anything.
    private_too: bool,
}

/// Finds addresses, and forgets those that are not public.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

impl Sender {
    /// `private_too` lets tenants name addresses of the installation's own network, and plain HTTP.
    pub fn new(private_too: bool) -> Result<Self, PortError> {
        let builder = || {
            reqwest::Client::builder()
                .timeout(PATIENCE)
                .connect_timeout(Duration::from_secs(5))
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("Blend/", env!("CARGO_PKG_VERSION")))
        };
        let made = |error: reqwest::Error| PortError::Permanent(format!("no HTTP client: {error}"));
        let careful = if private_too { builder() } else { builder().dns_resolver(Arc::new(PublicOnly)) };
        Ok(Self {
            careful: careful.build().map_err(made)?,
            trusting: builder().build().map_err(made)?,
            private_too,
        })
    }

    async fn post(&self, outgoing: Outgoing) -> Result<(u16, String), PortError> {
        let Outgoing { url, id, moment, signature, body, trusted } = outgoing;
        if !trusted {
            // Rules may have become stricter since it was named.
            self.check(&url).map_err(PortError::Permanent)?;
        }
        let client = if trusted { &self.trusting } else { &self.careful };
        let sent = client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", moment)
            .header("webhook-signature", signature)
            .body(body);
        let lost =
            |error: reqwest::Error| PortError::Transient(format!("no answer: {}", http::plain(&error)));
        let mut response = sent.send().await.map_err(lost)?;
        let status = response.status().as_u16();
        let mut answer = Vec::new();
        // The status is the answer; what follows is for people, as far as it comes.
        while answer.len() < SHOWN
            && let Ok(Some(chunk)) = response.chunk().await
        {
            answer.extend_from_slice(&chunk);
        }
        Ok((status, http::shorten(&String::from_utf8_lossy(&answer))))
    }
}

impl HookSender for Sender {
    fn check(&self, url: &str) -> Result<(), String> {
        let parsed = Url::parse(url).ok().filter(|_| url.len() <= LONGEST);
        let Some(parsed) = parsed else {
            return Err(format!("must be an address of at most {LONGEST} bytes"));
        };
        let schemes: &[&str] = if self.private_too { &["https", "http"] } else { &["https"] };
        if !schemes.contains(&parsed.scheme()) || !parsed.username().is_empty() || parsed.password().is_some()
        {
            return Err(format!("must begin with {}:// and hold no password", schemes.join(":// or ")));
        }
        let host = parsed.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if !self.private_too && literal.is_some_and(|address| !is_public(address)) {
            return Err("must be a public address".into());
        }
        Ok(())
    }

    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<(u16, String), PortError>> {
        self.post(outgoing).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_over_tls_unless_the_installation_says_otherwise() {
        let (strict, loose) = (Sender::new(false).unwrap(), Sender::new(true).unwrap());
        for url in ["https://erp.example/x?y=1", "https://8.8.8.8/", "https://[2800:3f0:4002::1]:8443/"] {
            assert_eq!((strict.check(url), loose.check(url)), (Ok(()), Ok(())), "{url}");
        }
        for url in
            ["http://erp.example/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest"]
        {
            assert!(strict.check(url).is_err() && loose.check(url).is_ok(), "{url}");
        }
        for url in ["", "ftp://erp.example/", "https://u:p@erp.example/", "erp.example", "https://"] {
            assert!(strict.check(url).is_err() && loose.check(url).is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_called() {
        let outgoing = Outgoing {
            url: "https://localhost:1/".into(),
            id: "x".into(),
            moment: 0,
            signature: "v1,".into(),
            body: Vec::new(),
            trusted: false,
        };
        let refused = Sender::new(false).unwrap().send(outgoing).await.unwrap_err().to_string();
        assert!(refused.contains("no public address"), "{refused}");
    }
}

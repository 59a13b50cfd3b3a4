//! Installing the app into a shop: its owner is sent to Shopify to agree and comes back with a code for a token.
//! Source: <https://shopify.dev/docs/apps/build/authentication-authorization/access-tokens/authorization-code-grant>.

use super::http;
use super::is_shop_domain;
use super::mapping::Renewed;
use super::retry;
use crate::domain::channel::signature;
use crate::domain::channel::{Refused, Verdict};
use crate::ports::PortError;
use crate::ports::channel::{Answer, Credentials, Installer};
use futures_util::FutureExt as _;
use serde_json::json;

/// What the app has to be allowed.
const SCOPES: &str = "write_inventory,read_inventory,read_locations,read_products,read_orders";

/// The app of this installation.
pub struct Install {
    http: reqwest::Client,
    base: String,
    client_id: String,
    client_secret: String,
    /// Where the owner comes back to.
    redirect: String,
}

impl Install {
    /// `base` as for [`Shopify::open`](super::Shopify::open); `public_url` is where this server is reached from outside.
    pub fn new(
        http: reqwest::Client,
        base: &str,
        client_id: &str,
        client_secret: &str,
        public_url: &str,
    ) -> Self {
        let redirect = format!("{}/api/v1/integraciones/shopify/retorno", public_url.trim_end_matches('/'));
        let [base, client_id, client_secret] = [base, client_id, client_secret].map(str::to_owned);
        Self { http, base, client_id, client_secret, redirect }
    }

    async fn exchanged(&self, account: &str, code: &str) -> Result<Credentials, Refused> {
        if !is_shop_domain(account) {
            let cause = "the account is no domain of a Shopify shop".to_owned();
            let (request, response) = (String::new(), String::new());
            return Err(Refused { verdict: Verdict::Broken, cause, request, response });
        }
        let base = self.base.replace("{cuenta}", account);
        let body = json!({ "client_id": self.client_id, "client_secret": self.client_secret, "code": code, "expiring": "1" });
        let request = self
            .http
            .post(format!("{base}/admin/oauth/access_token"))
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let answer = http::send(request, "a first token").await?;
        let Renewed { access_token, refresh_token } = retry::token(&answer)?;
        let (client_id, client_secret) = (Some(self.client_id.clone()), Some(self.client_secret.clone()));
        Ok(Credentials { client_id, client_secret, access_token, refresh_token })
    }
}

impl Installer for Install {
    fn authorize_url(&self, account: &str, state: &str) -> Result<String, PortError> {
        let refuse = |why: &str| Err(PortError::Permanent(why.to_owned()));
        if self.client_id.is_empty() || self.client_secret.is_empty() || self.redirect.starts_with('/') {
            return refuse(
                "channels.shopify_client_id, shopify_client_secret and public_url are not all set",
            );
        }
        if !is_shop_domain(account) {
            return refuse("the account is no domain of a Shopify shop (name.myshopify.com)");
        }
        let [id, redirect, state] = [&self.client_id, &self.redirect, state].map(signature::encoded);
        let scopes = signature::encoded(SCOPES);
        Ok(format!(
            "https://{account}/admin/oauth/authorize?client_id={id}&scope={scopes}&redirect_uri={redirect}&state={state}"
        ))
    }

    fn is_genuine(&self, query: &str) -> bool {
        !self.client_secret.is_empty() && signature::is_shopifys_query(&self.client_secret, query)
    }

    fn exchange<'a>(&'a self, account: &'a str, code: &'a str) -> Answer<'a, Credentials> {
        self.exchanged(account, code).boxed()
    }
}

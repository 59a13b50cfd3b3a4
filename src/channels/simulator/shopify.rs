//! A Shopify that enforces the real contract of its Admin API 2026-10: the run-time rules that no schema shows,
//! idempotency keys, compare-and-swap, the cost bucket, tokens that expire and rotate, webhooks that are subscribed to.
//! What is asked in GraphQL is read by [`Documents`]: tests bring one that validates against the schema.

mod documents;
mod execute;

pub use documents::{Asked, Documents, Field, Known};

use super::shell::{Called, Front, Reply, Shell, Site};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Deref;
use std::time::Duration;
use tokio::time::Instant;

/// The one location of the shop.
pub const PLACE: &str = "gid://shopify/Location/1";

/// How long somebody waits for something to be so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that is sold there.
#[derive(Clone, Debug)]
pub struct Item {
    /// Not unique.
    pub sku: Option<String>,
    /// Whether quantities mean anything.
    pub tracked: bool,
    /// May go below zero: Shopify does not protect against overselling.
    pub available: i64,
}

/// What it was asked, and what it should not have been asked.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// All calls, those that met a fault included.
    pub calls: u64,
    /// Calls that wrote.
    pub mutations: u64,
    /// Quantities that were written.
    pub lines: u64,
    /// Calls beyond the bucket.
    pub throttled: u64,
    /// Quantities that were not what the client thought.
    pub stale: u64,
    /// What a client may not do.
    pub violations: Vec<String>,
}

struct Shop {
    documents: Box<dyn Documents>,
    items: BTreeMap<String, Item>,
    token: String,
    refresh: Option<String>,
    code: Option<String>,
    tokens: u64,
    scopes: bool,
    /// Topic and address of each subscription.
    subscriptions: Vec<(String, String)>,
    /// Thousandths of a point.
    points: u64,
    points_as_of: Instant,
    /// Most points, and points a second.
    max: u64,
    restore: u64,
    /// Key to what it was used for and what was answered.
    keys: HashMap<String, (String, Value)>,
    /// When which item was made to show what, by SKU.
    history: Vec<(Instant, String, i64)>,
    counts: Counts,
}

/// The server; it is gone with this value.
pub struct Shopify(Shell<Shop>);

impl Shopify {
    /// A shop of the plan Standard with these items (by number from 1) at its one location.
    pub async fn start(items: &[(&str, i64)], documents: Box<dyn Documents>) -> io::Result<Self> {
        let item = |(number, (sku, available)): (usize, &(&str, i64))| {
            let id = format!("gid://shopify/InventoryItem/{}", number + 1);
            (id, Item { sku: Some((*sku).to_owned()), tracked: true, available: *available })
        };
        let shop = Shop {
            documents,
            items: items.iter().enumerate().map(item).collect(),
            token: "shpat_0".to_owned(),
            refresh: Some("refresh_0".to_owned()),
            code: None,
            tokens: 0,
            scopes: true,
            subscriptions: Vec::new(),
            points: 2_000_000,
            points_as_of: Instant::now(),
            max: 2_000,
            restore: 100,
            keys: HashMap::new(),
            history: Vec::new(),
            counts: Counts::default(),
        };
        Shell::start(shop).await.map(Self)
    }

    /// The token that is accepted now.
    pub fn token(&self) -> String {
        self.0.site().token.clone()
    }

    /// The refresh token that is accepted now.
    pub fn refresh(&self) -> Option<String> {
        self.0.site().refresh.clone()
    }

    /// The token is not accepted any more.
    pub fn expire_token(&self) {
        self.0.site().token = "nobody has this one".into();
    }

    /// An owner agreed: this code is good for a token.
    pub fn agree(&self, code: &str) {
        self.0.site().code = Some(code.to_owned());
    }

    /// How many tokens were given out.
    pub fn tokens(&self) -> u64 {
        self.0.site().tokens
    }

    /// The app loses its scopes.
    pub fn revoke_scopes(&self) {
        self.0.site().scopes = false;
    }

    /// Topic and address of each webhook that somebody subscribed to.
    pub fn subscriptions(&self) -> Vec<(String, String)> {
        self.0.site().subscriptions.clone()
    }

    /// After too many failures a subscription is deleted.
    pub fn unsubscribe(&self, topic: &str) {
        self.0.site().subscriptions.retain(|(subscribed, _)| subscribed != topic);
    }

    /// Another plan: most points, and points a second.
    pub fn plan(&self, max: u64, restore: u64) {
        let mut shop = self.0.site();
        (shop.max, shop.restore) = (max, restore);
        shop.points = shop.points.min(max * 1_000);
    }

    /// What an item shows; nothing when there is none of that SKU.
    pub fn showing(&self, sku: &str) -> Option<i64> {
        let shop = self.0.site();
        shop.items.values().find(|item| item.sku.as_deref() == Some(sku)).map(|item| item.available)
    }

    /// What every item shows, by SKU.
    pub fn all(&self) -> BTreeMap<String, i64> {
        let shop = self.0.site();
        shop.items.values().map(|item| (item.sku.clone().unwrap_or_default(), item.available)).collect()
    }

    /// Somebody, or an order, changes what an item shows.
    pub fn change(&self, sku: &str, by: i64) {
        self.0.change(|shop| {
            let found = shop.items.values_mut().find(|item| item.sku.as_deref() == Some(sku));
            if let Some(item) = found {
                item.available += by;
            }
        });
    }

    /// An item is deleted.
    pub fn delete(&self, sku: &str) {
        self.0.change(|shop| shop.items.retain(|_, item| item.sku.as_deref() != Some(sku)));
    }

    /// Another item.
    pub fn add(&self, number: u64, sku: Option<&str>, tracked: bool) {
        let item = Item { sku: sku.map(str::to_owned), tracked, available: 0 };
        self.0.change(|shop| shop.items.insert(format!("gid://shopify/InventoryItem/{number}"), item));
    }

    /// When which item was made to show what, by SKU, in order.
    pub fn history(&self) -> Vec<(Instant, String, i64)> {
        self.0.site().history.clone()
    }

    /// What it was asked.
    pub fn counts(&self) -> Counts {
        let calls = self.calls();
        Counts { calls, ..self.0.site().counts.clone() }
    }

    /// Waits until an item shows a quantity.
    ///
    /// # Panics
    ///
    /// When it does not within half a minute.
    pub async fn shows(&self, sku: &str, quantity: i64) {
        self.until(&format!("{sku} shows {quantity}"), || self.showing(sku) == Some(quantity)).await;
    }

    /// Waits until something is so; looked at whenever something was written.
    ///
    /// # Panics
    ///
    /// When it does not become so within half a minute.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let is_so = self.becomes(PATIENCE, is_so).await;
        assert!(is_so, "never: {what}; {:?}; {:?}", self.counts(), self.all());
    }
}

impl Deref for Shopify {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.0
    }
}

impl Site for Shop {
    fn answer(&mut self, called: &Called) -> Reply {
        let (status, value) = match called.path.as_str() {
            "/admin/oauth/access_token" => self.give_token(&called.body),
            "/admin/api/2026-10/graphql.json" => {
                if called.header("x-shopify-access-token") == self.token {
                    (200, execute::run(self, &called.body))
                } else {
                    let why = "[API] Invalid API key or access token (unrecognized login or wrong password)";
                    (401, json!({ "errors": why }))
                }
            }
            other => {
                self.counts.violations.push(format!("called {other}"));
                (404, json!({ "errors": "Not Found" }))
            }
        };
        Reply::json(status, &value)
    }
}

impl Shop {
    /// A refresh token is good for one use.
    fn give_token(&mut self, body: &[u8]) -> (u16, Value) {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let known = asked["client_id"] == "app" && asked["client_secret"] == "hush";
        let granted = match asked["grant_type"].as_str() {
            Some("refresh_token") => {
                self.refresh.is_some() && asked["refresh_token"].as_str() == self.refresh.as_deref()
            }
            Some("client_credentials") => self.refresh.is_none(),
            // A code is good for one token.
            None => std::mem::take(&mut self.code).is_some_and(|code| asked["code"] == code),
            _ => false,
        };
        if !known || !granted {
            self.counts.violations.push(format!("asked for a token with {}", asked["grant_type"]));
            return (400, json!({ "error": "invalid_request" }));
        }
        self.tokens += 1;
        self.token = format!("shpat_{}", self.tokens);
        let mut given =
            json!({ "access_token": self.token, "scope": "write_inventory", "expires_in": 3_600 });
        if self.refresh.is_some() {
            let next = format!("refresh_{}", self.tokens);
            given["refresh_token"] = json!(next);
            self.refresh = Some(next);
        }
        (200, given)
    }
}

//! Shopify, through its GraphQL Admin API 2026-10.
//!
//! Three rules of it show in no schema and are kept here: every inventory mutation carries `@idempotent`, every line of
//! one says what it believes is there (`changeFromQuantity`, `null` for anything), and an answer with HTTP 200 may be
//! a failure. Sources: <https://shopify.dev/docs/api/admin-graphql>, <https://shopify.dev/docs/api/usage/rate-limits>.

mod install;
mod mapping;
mod retry;
#[cfg(test)]
mod tests;

pub use install::Install;

use super::http::{self, Answered};
use crate::domain::channel::bucket::CostBucket;
use crate::domain::channel::mapping::Listed;
use crate::domain::channel::{Connection, Mode, Refused, Verdict};
use crate::ports::PortError;
use crate::ports::channel::{Answer, Call, Credentials, Limits, Marketplace, News, Notice};
use futures_util::FutureExt as _;
use mapping::{
    Data, ItemsData, LevelsData, Renewed, SetData, ShopData, SubscribedData, SubscriptionsData, VariantsData,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// The version every call is made for.
pub const VERSION: &str = "2026-10";

/// Lines of one mutation at most, a limit of Shopify's.
const BATCH: usize = 250;

/// Items read in one query: three points each, and no query may cost more than a thousand.
const READ: usize = 100;

/// The bucket of a plan of the smallest kind; the first answer says what it really is.
const STANDARD: (u64, u64) = (2_000, 100);

pub const SET: &str = include_str!("set.graphql");
pub const ADJUST: &str = include_str!("adjust.graphql");
pub const LEVELS: &str = include_str!("levels.graphql");
pub const ITEMS: &str = include_str!("items.graphql");
pub const VARIANTS: &str = include_str!("variants.graphql");
pub const SHOP: &str = include_str!("shop.graphql");
pub const SUBSCRIPTIONS: &str = include_str!("subscriptions.graphql");
pub const SUBSCRIBE: &str = include_str!("subscribe.graphql");

/// Points that a document may cost at most, by a little more than what Shopify asks: what is too much comes back.
fn cost_of(document: &str, variables: &Value) -> u64 {
    let ids = variables["ids"].as_array().map_or(0, Vec::len) as u64;
    match document {
        SET | ADJUST | SUBSCRIBE => 13,
        LEVELS | VARIANTS => 4 + 3 * ids,
        ITEMS | SUBSCRIPTIONS => 4 + 102,
        _ => 5,
    }
}

/// Whether a text is the domain of a shop and nothing else: a token is sent there.
pub fn is_shop_domain(text: &str) -> bool {
    let name = text.strip_suffix(".myshopify.com").unwrap_or_default();
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 100 && !name.starts_with('-') && name.chars().all(fine)
}

/// Variants whose item is remembered.
const REMEMBERED: usize = 50_000;

/// A client of one shop.
pub struct Shopify {
    http: reqwest::Client,
    /// Where the shop answers, without a slash at the end.
    base: String,
    place: String,
    /// Where the shop is to tell its news; nowhere when this server is not reached from outside.
    told_at: Option<String>,
    /// The item of each variant that was asked about: it stays the same for ever, and asking costs points.
    items: HashMap<String, String>,
    credentials: Credentials,
    bucket: CostBucket,
    /// Whether an answer has said what the bucket really holds.
    learnt: bool,
    epoch: Instant,
}

impl Shopify {
    /// `base` is `https://{cuenta}`, or where a simulator listens; `{cuenta}` stands for the shop's domain.
    pub fn open(
        http: reqwest::Client,
        base: &str,
        connection: &Connection,
        credentials: Credentials,
    ) -> Result<Self, PortError> {
        let refuse = |why: &str| PortError::Permanent(why.to_owned());
        if !is_shop_domain(&connection.account) {
            return Err(refuse("the account is no domain of a Shopify shop (name.myshopify.com)"));
        }
        let place = connection.place.as_deref().filter(|place| !place.is_empty());
        let place = place.ok_or_else(|| refuse("a Shopify connection needs the location there"))?;
        let place = match place.parse::<u64>() {
            Ok(number) => format!("gid://shopify/Location/{number}"),
            Err(_) => place.to_owned(),
        };
        let bucket = CostBucket::new(STANDARD.0, STANDARD.1, 0);
        let base = base.replace("{cuenta}", &connection.account);
        Ok(Self {
            http,
            base,
            place,
            told_at: None,
            items: HashMap::new(),
            credentials,
            bucket,
            learnt: false,
            epoch: Instant::now(),
        })
    }

    /// Where this server is reached from outside, if it is: the shop is asked to tell its news there.
    #[must_use]
    pub fn told_at(mut self, public_url: &str, connection: &Connection) -> Self {
        let base = public_url.trim_end_matches('/');
        self.told_at =
            (!base.is_empty()).then(|| format!("{base}/api/v1/webhooks/shopify/{}", connection.id));
        self
    }

    async fn subscribed(&mut self) -> Result<usize, Refused> {
        let Some(uri) = self.told_at.clone() else { return Ok(0) };
        let data: SubscriptionsData = self.call(SUBSCRIPTIONS, &json!({})).await?;
        let missing = data.missing(&uri);
        for topic in &missing {
            let variables = json!({ "topic": topic, "uri": uri });
            let data: SubscribedData = self.call(SUBSCRIBE, &variables).await?;
            retry::subscribed(data, &variables)?;
        }
        Ok(missing.len())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Calls; the first time only after a call that costs next to nothing, since another process may have spent the
    /// bucket just before.
    async fn call<T: DeserializeOwned>(
        &mut self,
        document: &'static str,
        variables: &Value,
    ) -> Result<T, Refused> {
        if !self.learnt && document != SHOP {
            self.send::<ShopData>(SHOP, &json!({ "place": self.place })).await?;
        }
        self.send(document, variables).await
    }

    /// Waits until the bucket has the points, then calls.
    async fn send<T: DeserializeOwned>(
        &mut self,
        document: &'static str,
        variables: &Value,
    ) -> Result<T, Refused> {
        while let Err(wait) = self.bucket.take(cost_of(document, variables), self.now()) {
            tokio::time::sleep(wait).await;
        }
        let url = format!("{}/admin/api/{VERSION}/graphql.json", self.base);
        let request = json!({ "query": document, "variables": variables });
        let shown = variables.to_string();
        let builder = self
            .http
            .post(url)
            .header("X-Shopify-Access-Token", &self.credentials.access_token)
            .header("Content-Type", "application/json")
            .body(request.to_string());
        let answer = http::send(builder, &shown).await?;
        if let Some(reason) = answer.headers.get("x-shopify-api-deprecated-reason") {
            tracing::warn!(?reason, "Shopify calls a part of this request deprecated");
        }
        self.learn(&answer);
        retry::data(&answer, &shown)
    }

    fn learn(&mut self, answer: &Answered) {
        let Some(status) = mapping::throttle_status(&answer.body) else { return };
        let now = self.now();
        self.learnt = true;
        self.bucket.learn(status.maximum_available, status.restore_rate, status.currently_available, now);
    }

    async fn levels(&mut self, items: &[String]) -> Result<Vec<Option<i64>>, Refused> {
        let mut levels = Vec::with_capacity(items.len());
        for items in items.chunks(READ) {
            let data: LevelsData = self.call(LEVELS, &json!({ "ids": items, "place": self.place })).await?;
            let found = data.by_item();
            levels.extend(items.iter().map(|item| found.get(item.as_str()).copied()));
        }
        Ok(levels)
    }

    async fn write(&mut self, call: &Call) -> Result<(), Refused> {
        let document = if call.mode == Mode::Relative { ADJUST } else { SET };
        let variables = mapping::quantities(call, &self.place);
        let data: SetData = self.call(document, &variables).await?;
        retry::written(data, &variables)
    }

    async fn listed(&mut self, after: Option<String>) -> Result<(Vec<Listed>, Option<String>), Refused> {
        let data: ItemsData = self.call(ITEMS, &json!({ "after": after })).await?;
        Ok(data.into_page())
    }

    async fn renewed(&mut self) -> Result<Credentials, Refused> {
        let Credentials { client_id, client_secret, refresh_token, .. } = &self.credentials;
        let (Some(id), Some(secret)) = (client_id, client_secret) else {
            return Err(Refused {
                verdict: Verdict::Broken,
                cause: "the token is not accepted, and there is no app to ask for another: connect again"
                    .into(),
                request: String::new(),
                response: String::new(),
            });
        };
        let body = match refresh_token {
            Some(refresh) => json!({ "client_id": id, "client_secret": secret, "refresh_token": refresh,
                "grant_type": "refresh_token" }),
            None => json!({ "client_id": id, "client_secret": secret, "grant_type": "client_credentials" }),
        };
        let builder = self
            .http
            .post(format!("{}/admin/oauth/access_token", self.base))
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let answer = http::send(builder, "a new token").await?;
        let renewed: Renewed = retry::token(&answer)?;
        self.credentials.access_token = renewed.access_token;
        if renewed.refresh_token.is_some() {
            self.credentials.refresh_token = renewed.refresh_token;
        }
        Ok(self.credentials.clone())
    }

    async fn told(&mut self, notice: &Notice) -> Result<News, Refused> {
        let unreadable = |error: serde_json::Error| Refused {
            verdict: Verdict::Rejected(Vec::new()),
            cause: format!("the notice is not what its topic says: {error}"),
            request: String::new(),
            response: http::shorten(&String::from_utf8_lossy(&notice.body)),
        };
        match notice.topic.as_str() {
            "orders/create" | "orders/paid" | "orders/updated" | "orders/cancelled" => {
                let order: mapping::OrderBody = serde_json::from_slice(&notice.body).map_err(unreadable)?;
                let mut unknown = order.variants();
                unknown.retain(|variant| !self.items.contains_key(variant));
                if self.items.len() > REMEMBERED {
                    self.items.clear();
                    unknown = order.variants();
                }
                for ids in unknown.chunks(READ) {
                    let data: VariantsData = self.call(VARIANTS, &json!({ "ids": ids })).await?;
                    self.items.extend(data.items());
                }
                Ok(News::Order(order.into_order(&self.items)))
            }
            "inventory_levels/update" => {
                let level: mapping::LevelBody = serde_json::from_slice(&notice.body).map_err(unreadable)?;
                let here = level.place() == self.place;
                Ok(if here { News::Level(level.item()) } else { News::Nothing })
            }
            _ => Ok(News::Nothing),
        }
    }
}

impl Marketplace for Shopify {
    fn limits(&self) -> Limits {
        Limits { batch: BATCH }
    }

    fn check(&mut self) -> Answer<'_, String> {
        async move {
            let data: ShopData = self.call(SHOP, &json!({ "place": self.place })).await?;
            match data.location {
                Some(place) => Ok(format!("{} ({})", data.shop.name, place.name)),
                None => Err(Refused {
                    verdict: Verdict::Broken,
                    cause: format!("the shop has no location {}", self.place),
                    request: String::new(),
                    response: String::new(),
                }),
            }
        }
        .boxed()
    }

    fn list(&mut self, after: Option<String>) -> Answer<'_, (Vec<Listed>, Option<String>)> {
        self.listed(after).boxed()
    }

    fn read<'a>(&'a mut self, items: &'a [String]) -> Answer<'a, Vec<Option<i64>>> {
        self.levels(items).boxed()
    }

    fn push<'a>(&'a mut self, call: &'a Call) -> Answer<'a, ()> {
        self.write(call).boxed()
    }

    fn renew(&mut self) -> Answer<'_, Credentials> {
        self.renewed().boxed()
    }

    fn subscribe(&mut self) -> Answer<'_, usize> {
        self.subscribed().boxed()
    }

    fn news<'a>(&'a mut self, notice: &'a Notice) -> Answer<'a, News> {
        self.told(notice).boxed()
    }
}

/// The longest that a throttled call waits, whatever Shopify says.
const LONGEST: Duration = Duration::from_secs(60);

impl<T> Data<T> {
    /// How long to wait after a refusal for lack of points.
    fn wait(&self) -> Duration {
        let Some(cost) = self.extensions.as_ref().and_then(|extensions| extensions.cost.as_ref()) else {
            return Duration::from_secs(1);
        };
        let missing = cost.requested_query_cost.saturating_sub(cost.throttle_status.currently_available);
        let rate = cost.throttle_status.restore_rate.max(1);
        Duration::from_secs(missing.div_ceil(rate).max(1)).min(LONGEST)
    }
}

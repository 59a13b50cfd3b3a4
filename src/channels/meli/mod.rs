//! MercadoLibre, through its REST API.
//!
//! There is no key that makes a second write harmless, and none is needed: quantities are absolute. There is no
//! compare-and-swap for plain items either, so each write reads first and is refused when something else is there than
//! was expected: an order may have taken it whose news is on its way. Stock of a seller with warehouses has a version
//! (`x-version`), which is compared by MercadoLibre itself.
//! Source: <https://developers.mercadolibre.com.ar>.
//!
//! A connection may be bound to one of the seller's warehouses (`warehouses.rs`).
//!
//! An item is `MLA123`, a variation of it `MLA123/456`, stock that belongs to a product of the seller `UP:MLAU789`.

mod limits;
mod mapping;
mod retry;
#[cfg(test)]
mod tests;
mod warehouses;

pub use limits::Budget;

use super::http::{self, Answered};
use crate::domain::channel::mapping::Listed;
use crate::domain::channel::signature::encoded;
use crate::domain::channel::{Connection, Push, Refused, Verdict};
use crate::ports::PortError;
use crate::ports::channel::{Answer, Call, Credentials, Limits, Marketplace, Missed, News, Notice};
use futures_util::FutureExt as _;
use limits::Endpoint;
use mapping::{Item, Place};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Items of one question at most, a limit of MercadoLibre's.
const READ: usize = 20;

/// News in a page of what was missed, and pages at most.
const MISSED: usize = 100;
const MISSED_PAGES: usize = 20;

/// A client of one seller.
pub struct Meli {
    http: reqwest::Client,
    /// Without a slash at the end.
    base: String,
    seller: String,
    credentials: Credentials,
    /// Shared by everybody who works with the same app.
    budget: Arc<Budget>,
    /// Whether the seller keeps stock in warehouses, once it is known: then items themselves have none.
    warehouses: Option<bool>,
    /// The warehouse that the connection is bound to, and that warehouse once it is known.
    store: Option<String>,
    depot: Option<mapping::Depot>,
}

/// What a write of one quantity goes to, with what was read just before.
struct Target {
    there: i64,
    path: String,
    version: Option<String>,
    body: Value,
    /// What it is counted towards, besides writes.
    endpoint: Option<Endpoint>,
}

impl Meli {
    /// `base` is `https://api.mercadolibre.com`, or where a simulator listens; the account is the seller's number.
    pub fn open(
        http: reqwest::Client,
        base: &str,
        budget: Arc<Budget>,
        connection: &Connection,
        credentials: Credentials,
    ) -> Result<Self, PortError> {
        let seller = connection.account.to_string();
        if seller.is_empty() || !seller.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(PortError::Permanent("the account is no number of a MercadoLibre seller".into()));
        }
        let base = base.trim_end_matches('/').to_owned();
        let store = connection.place.as_deref().map(str::to_owned);
        Ok(Self { http, base, seller, credentials, budget, warehouses: None, store, depot: None })
    }

    fn app(&self) -> &str {
        self.credentials.client_id.as_deref().unwrap_or_default()
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        endpoint: Endpoint,
    ) -> Result<(T, Answered), Refused> {
        self.budget.wait(self.app(), endpoint).await;
        let request = self.http.get(format!("{}{path}", self.base));
        let answer =
            http::send(request.bearer_auth(&self.credentials.access_token), &format!("GET {path}")).await?;
        let value = retry::data(&answer, &format!("GET {path}"))?;
        Ok((value, answer))
    }

    async fn put(&self, target: &Target) -> Result<(), Refused> {
        if let Some(endpoint) = target.endpoint {
            self.budget.wait(self.app(), endpoint).await;
        }
        let shown = format!("PUT {} {}", target.path, target.body);
        let mut request = self
            .http
            .put(format!("{}{}", self.base, target.path))
            .bearer_auth(&self.credentials.access_token)
            .header("Content-Type", "application/json")
            .body(target.body.to_string());
        if let Some(version) = &target.version {
            request = request.header("x-version", version);
        }
        let turn = self.budget.write(self.app()).await;
        let answer = http::send(request, &shown).await?;
        turn.answered();
        retry::written(&answer, &shown)
    }

    /// Items with their variations; nothing for one that is gone.
    async fn items(&self, ids: &[&str]) -> Result<HashMap<String, Item>, Refused> {
        let mut found = HashMap::new();
        for ids in ids.chunks(READ) {
            let path = format!("/items?ids={}&include_attributes=all", ids.join(","));
            let (entries, _): (Vec<mapping::Entry>, _) = self.get(&path, Endpoint::Reading).await?;
            found.extend(
                entries.into_iter().filter_map(mapping::Entry::found).map(|item| (item.id.clone(), item)),
            );
        }
        Ok(found)
    }

    async fn stock(&self, product: &str) -> Result<Option<(mapping::ProductStock, String)>, Refused> {
        let path = format!("/user-products/{product}/stock");
        match self.get::<mapping::ProductStock>(&path, Endpoint::ProductStock).await {
            Ok((stock, answer)) => {
                let version = answer.headers.get("x-version").and_then(|version| version.to_str().ok());
                Ok(Some((stock, version.unwrap_or_default().to_owned())))
            }
            Err(refused) if retry::is_gone(&refused) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    async fn levels(&mut self, items: &[String]) -> Result<Vec<Option<i64>>, Refused> {
        let depot = self.depot().await?;
        let places: Vec<Place<'_>> = items.iter().map(|item| Place::parse(item)).collect();
        let mut ids: Vec<&str> = places.iter().filter_map(Place::item).collect();
        ids.sort_unstable();
        ids.dedup();
        let found = self.items(&ids).await?;
        let mut levels = Vec::with_capacity(places.len());
        for place in &places {
            levels.push(match place {
                Place::Product(product) => {
                    self.stock(product).await?.map(|(stock, _)| stock.of_warehouses(depot.as_ref()))
                }
                Place::Item(id) => found.get(*id).map(|item| item.available_quantity),
                Place::Variation(id, variation) => found.get(*id).and_then(|item| item.variation(variation)),
            });
        }
        Ok(levels)
    }

    async fn target(&mut self, push: &Push) -> Result<Option<Target>, Refused> {
        let quantity = push.quantity;
        let depot = self.depot().await?;
        Ok(match Place::parse(&push.item) {
            Place::Product(product) => self.stock(product).await?.map(|(stock, version)| Target {
                there: stock.of_warehouses(depot.as_ref()),
                path: format!("/user-products/{product}/stock/type/seller_warehouse"),
                version: Some(version),
                body: stock.with(quantity, depot.as_ref()),
                endpoint: Some(Endpoint::ProductStock),
            }),
            _ if depot.is_some() => return Err(self.not_in_a_warehouse(&push.item)),
            Place::Item(id) => self.items(&[id]).await?.get(id).map(|item| Target {
                there: item.available_quantity,
                path: format!("/items/{id}"),
                version: None,
                body: json!({ "available_quantity": quantity }),
                endpoint: None,
            }),
            Place::Variation(id, variation) => {
                let found = self.items(&[id]).await?;
                let item = found.get(id).and_then(|item| Some((item, item.variation(variation)?)));
                item.map(|(item, there)| Target {
                    there,
                    path: format!("/items/{id}"),
                    version: None,
                    // A variation that is not named is deleted: all of them are.
                    body: item.with_variation(variation, quantity),
                    endpoint: None,
                })
            }
        })
    }

    async fn write(&mut self, push: &Push) -> Result<(), Refused> {
        let refuse = |verdict: Verdict, cause: String| {
            Err(Refused { verdict, cause, request: push.item.clone(), response: String::new() })
        };
        let Some(target) = self.target(push).await? else {
            return refuse(retry::gone(&push.item), format!("{} is not there", push.item));
        };
        if target.there == push.quantity {
            return Ok(());
        }
        if push.from.is_some_and(|from| from != target.there) {
            let cause = format!("{} shows {}, not what was confirmed", push.item, target.there);
            return refuse(Verdict::Stale, cause);
        }
        self.put(&target).await
    }

    async fn check_account(&mut self) -> Result<String, Refused> {
        let (user, _): (mapping::User, _) =
            self.get(&format!("/users/{}", self.seller), Endpoint::Reading).await?;
        self.warehouses = Some(user.tags.iter().any(|tag| tag == "warehouse_management"));
        self.check_place()?;
        self.depot().await?;
        Ok(user.nickname)
    }

    async fn page(&mut self, after: Option<String>) -> Result<(Vec<Listed>, Option<String>), Refused> {
        if self.warehouses.is_none() {
            self.check_account().await?;
        }
        let scroll = after.map(|scroll| format!("&scroll_id={scroll}")).unwrap_or_default();
        let path = format!("/users/{}/items/search?search_type=scan&limit=100{scroll}", self.seller);
        let (found, _): (mapping::Found, _) = self.get(&path, Endpoint::Reading).await?;
        if found.results.is_empty() {
            return Ok((Vec::new(), None));
        }
        let ids: Vec<&str> = found.results.iter().map(String::as_str).collect();
        let items = self.items(&ids).await?;
        let warehouses = self.warehouses == Some(true);
        let listed = ids.iter().filter_map(|id| items.get(*id)).flat_map(|item| item.listed(warehouses));
        Ok((listed.collect(), found.scroll_id))
    }

    async fn renewed(&mut self) -> Result<Credentials, Refused> {
        let Credentials { client_id, client_secret, refresh_token, .. } = &self.credentials;
        let (Some(id), Some(secret), Some(refresh)) = (client_id, client_secret, refresh_token) else {
            return Err(Refused {
                verdict: Verdict::Broken,
                cause: "the token is not accepted, and there is none to get another with: connect again"
                    .into(),
                request: String::new(),
                response: String::new(),
            });
        };
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", id),
            ("client_secret", secret),
            ("refresh_token", refresh),
        ];
        let body: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = self
            .http
            .post(format!("{}/oauth/token", self.base))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        let answer = http::send(request, "a new token").await?;
        let renewed: mapping::Renewed = retry::token(&answer)?;
        self.credentials.access_token = renewed.access_token;
        // Only the last one is good, for one use.
        self.credentials.refresh_token = renewed.refresh_token.or(self.credentials.refresh_token.take());
        Ok(self.credentials.clone())
    }

    /// What is kept for the app for two days, as far as it is this seller's. Page by page: it does not shrink by being
    /// read.
    async fn undelivered(&self) -> Result<Vec<Missed>, Refused> {
        let mut missed = Vec::new();
        for page in 0..MISSED_PAGES {
            let offset = page * MISSED;
            let path = format!("/missed_feeds?app_id={}&offset={offset}&limit={MISSED}", encoded(self.app()));
            let (found, _): (mapping::MissedPage, _) = self.get(&path, Endpoint::Reading).await?;
            missed.extend(found.messages.iter().filter_map(|message| mapping::missed(message, &self.seller)));
            if found.messages.len() < MISSED {
                break;
            }
        }
        Ok(missed)
    }

    async fn told(&mut self, notice: &Notice) -> Result<News, Refused> {
        let Some(resource) = mapping::resource(&notice.body) else {
            return Err(Refused {
                verdict: Verdict::Rejected(Vec::new()),
                cause: "the notice names no resource".into(),
                request: String::new(),
                response: http::shorten(&String::from_utf8_lossy(&notice.body)),
            });
        };
        match notice.topic.as_str() {
            "orders_v2" => {
                let depot = self.depot().await?;
                match self.get::<mapping::OrderBody>(&resource, Endpoint::Reading).await {
                    Ok((order, _)) => Ok(order.into_order(depot.as_ref()).map_or(News::Nothing, News::Order)),
                    Err(refused) if retry::is_gone(&refused) => Ok(News::Nothing),
                    Err(refused) => Err(refused),
                }
            }
            "items" => {
                Ok(resource.strip_prefix("/items/").map_or(News::Nothing, |id| News::Level(id.into())))
            }
            "stock-location" | "stock-locations" => {
                let product =
                    resource.strip_prefix("/user-products/").and_then(|rest| rest.strip_suffix("/stock"));
                Ok(product.map_or(News::Nothing, |product| News::Level(format!("UP:{product}"))))
            }
            _ => Ok(News::Nothing),
        }
    }
}

impl Marketplace for Meli {
    /// Every item is a call of its own.
    fn limits(&self) -> Limits {
        Limits { batch: 1 }
    }

    fn check(&mut self) -> Answer<'_, String> {
        self.check_account().boxed()
    }

    fn list(&mut self, after: Option<String>) -> Answer<'_, (Vec<Listed>, Option<String>)> {
        self.page(after).boxed()
    }

    fn read<'a>(&'a mut self, items: &'a [String]) -> Answer<'a, Vec<Option<i64>>> {
        self.levels(items).boxed()
    }

    fn push<'a>(&'a mut self, call: &'a Call) -> Answer<'a, ()> {
        async move {
            for push in &call.pushes {
                self.write(push).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn renew(&mut self) -> Answer<'_, Credentials> {
        self.renewed().boxed()
    }

    fn missed(&mut self) -> Answer<'_, Vec<Missed>> {
        self.undelivered().boxed()
    }

    fn news<'a>(&'a mut self, notice: &'a Notice) -> Answer<'a, News> {
        self.told(notice).boxed()
    }
}

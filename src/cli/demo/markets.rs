//! The shop's marketplaces: stand-ins for Shopify and MercadoLibre with what the shop sells, and people who order there.

use super::catalogue;
use super::shop::Shop;
use crate::app::Serving;
use crate::channels::simulator::{Known, Meli, MeliItem, SELLER, Shopify};
use crate::client::{Bearer, Connection, HttpClient};
use crate::config::Config;
use crate::domain::channel::signature;
use crate::http::{Claims, Role};
use crate::ports::clock::{Clock as _, SystemClock};
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// From one order to the next.
const BETWEEN_ORDERS: Duration = Duration::from_secs(4);

/// What MercadoLibre has of the shop: it takes a few writes a second, and the page should not wait for it.
const AT_MELI: usize = 24;

/// What the stand-ins' apps sign with; nobody outside can reach them.
const SECRET: &str = "hush";

/// Credentials of the stand-ins are worth nothing, but whoever keeps the demonstration opens them the next time.
const KEYS: &str = "demo:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Marketplaces that run while this is kept.
pub struct Markets {
    shopify: Shopify,
    meli: Meli,
    skus: Vec<String>,
}

#[derive(Deserialize)]
struct Connected {
    id: Uuid,
    canal: Option<String>,
}

/// A way in for the owner, and for the marketplaces, which need none.
struct Owner {
    client: Connection,
    token: Bearer,
}

impl Markets {
    /// Starts both on free ports, and has the shop reach them there.
    pub async fn start(config: &mut Config) -> anyhow::Result<Self> {
        let rows = catalogue::rows();
        let skus: Vec<String> = rows.into_iter().map(|row| row.sku).collect();
        let items: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 0)).collect();
        let shopify = Shopify::start(&items, Box::new(Known)).await.context("the demonstration's Shopify")?;
        let ids: Vec<String> = (1..=AT_MELI).map(|number| format!("MLA{number}")).collect();
        let item = |sku: &String| MeliItem { sku: sku.clone(), ..MeliItem::default() };
        let items: Vec<(&str, MeliItem)> =
            ids.iter().zip(&skus).map(|(id, sku)| (id.as_str(), item(sku))).collect();
        let meli = Meli::start(&items).await.context("the demonstration's MercadoLibre")?;
        config.channels.shopify_url = shopify.url();
        config.channels.meli_url = meli.url();
        config.channels.keys = KEYS.to_owned().into();
        Ok(Self { shopify, meli, skus })
    }

    /// Connects the shop to both, unless an earlier demonstration did, and maps what it sells.
    pub async fn connect(&self, serving: &Serving, shop: &Shop) -> anyhow::Result<()> {
        let mut owner = Owner::new(serving, shop)?;
        let known = owner.ask(Method::GET, "/api/v1/integraciones", None).await?;
        let known: Vec<Connected> = serde_json::from_value(known)?;
        let credentials = |token: String, refresh: Option<String>| json!({ "access_token": token, "refresh_token": refresh, "client_id": "app", "client_secret": SECRET });
        let new = [
            (
                "shopify",
                json!({ "canal": "shopify", "nombre": "Tienda web", "cuenta": "la-esquina.myshopify.com",
                "ubicacion_externa": "1", "credenciales": credentials(self.shopify.token(), self.shopify.refresh()) }),
            ),
            (
                "meli",
                json!({ "canal": "meli", "nombre": "MercadoLibre", "cuenta": SELLER,
                "credenciales": credentials(self.meli.token(), Some(self.meli.refresh())) }),
            ),
        ];
        for (kind, body) in new {
            let path = "/api/v1/integraciones";
            if let Some(there) = known.iter().find(|connected| connected.canal.as_deref() == Some(kind)) {
                // The stand-in knows nothing of what it was told before.
                owner.ask(Method::POST, &format!("{path}/{}/resincronizar", there.id), None).await?;
                continue;
            }
            let made: Connected = serde_json::from_value(owner.ask(Method::POST, path, Some(body)).await?)?;
            let all = json!({ "aplicar": true });
            owner.ask(Method::POST, &format!("{path}/{}/mapear", made.id), Some(all)).await?;
        }
        Ok(())
    }

    /// People order at both in turn, of what is shown there, until the process stops.
    pub async fn trade(&self, serving: &Serving, shop: &Shop) -> anyhow::Result<()> {
        let mut owner = Owner::new(serving, shop)?;
        let known = owner.ask(Method::GET, "/api/v1/integraciones", None).await?;
        let known: Vec<Connected> = serde_json::from_value(known)?;
        let at_shopify = known.iter().find(|connected| connected.canal.as_deref() == Some("shopify"));
        let at_shopify = at_shopify.context("the shop is not at Shopify")?.id;
        let mut tick = tokio::time::interval(BETWEEN_ORDERS);
        loop {
            for (index, sku) in self.skus.iter().enumerate() {
                tick.tick().await;
                let id = Uuid::now_v7().as_u64_pair().0 >> 16;
                if index % 3 == 2 {
                    self.order_at_meli(&mut owner, index % AT_MELI, id).await?;
                } else {
                    self.order_at_shopify(&mut owner, at_shopify, (index, sku), id).await?;
                }
            }
        }
    }

    async fn order_at_shopify(
        &self,
        owner: &mut Owner,
        at: Uuid,
        (index, sku): (usize, &str),
        id: u64,
    ) -> anyhow::Result<()> {
        if self.shopify.showing(sku).is_none_or(|shown| shown < 1) {
            return Ok(());
        }
        // It takes them off what it shows, and tells.
        self.shopify.change(sku, -1);
        let line = json!({ "id": 1, "variant_id": index + 1, "sku": sku, "quantity": 1 });
        let order = json!({ "id": id, "name": format!("#{}", id % 10_000), "cancelled_at": null, "line_items": [line] });
        let body = order.to_string().into_bytes();
        let headers = [
            ("x-shopify-topic", "orders/create".to_owned()),
            ("x-shopify-event-id", id.to_string()),
            ("x-shopify-hmac-sha256", signature::of_shopify(SECRET, &body)),
        ];
        owner.tell(&format!("/api/v1/webhooks/shopify/{at}"), &headers, body).await
    }

    async fn order_at_meli(&self, owner: &mut Owner, index: usize, id: u64) -> anyhow::Result<()> {
        let item = format!("MLA{}", index + 1);
        if self.meli.item(&item).quantity < 1 {
            return Ok(());
        }
        self.meli.change(&item, -1);
        let lines = json!([{ "item": { "id": item }, "quantity": 1 }]);
        self.meli.order(&id.to_string(), json!({ "id": id, "status": "paid", "order_items": lines }));
        let notice = json!({ "_id": format!("n{id}"), "topic": "orders_v2", "resource": format!("/orders/{id}"),
            "user_id": SELLER, "application_id": "app" });
        owner.tell("/api/v1/webhooks/meli", &[], notice.to_string().into_bytes()).await
    }
}

impl Owner {
    fn new(serving: &Serving, shop: &Shop) -> anyhow::Result<Self> {
        let claims = Claims {
            sub: "demo".into(),
            iat: SystemClock.now().seconds(),
            exp: i64::MAX,
            tienda_id: Some(shop.tenant),
            rol: Role::Owner,
        };
        let token = Bearer::new(&serving.authenticator.mint(&claims).context("token")?)?;
        let client = HttpClient::new(&format!("http://{}", serving.address))?.connection();
        Ok(Self { client, token })
    }

    async fn ask(&mut self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let answer = self.client.request(method, path, Some(&self.token), &[], body).await?;
        let text = || String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status.is_success(), "{path}: {} {}", answer.status, text());
        Ok(answer.json()?)
    }

    /// What is not taken now is told again by a real marketplace; here it is one order fewer.
    async fn tell(
        &mut self,
        path: &str,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> anyhow::Result<()> {
        let header = |(name, value): &(&'static str, String)| {
            anyhow::Ok((HeaderName::from_static(name), HeaderValue::from_str(value)?))
        };
        let headers = headers.iter().map(header).collect::<Result<Vec<_>, _>>()?;
        self.client.request(Method::POST, path, None, &headers, body.into()).await?;
        Ok(())
    }
}

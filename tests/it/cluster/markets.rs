//! Marketplaces beside several nodes: one of them looks after a connection, any of them is asked about it, and when that
//! one dies or freezes another goes on.

use super::{DURABLE, Servers, holds, settled};
use crate::servers::shopify as strict;
use crate::simulator::{Called, Fault, Reply, Shell, Shopify, Site};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::ledger::assert_verified;
use crate::support::process::{Blend, Server};
use crate::support::shop::catalogue;
use aws_lc_rs::hmac;
use base64::Engine as _;
use blend::http::Role;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

const KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What is sold on both sides.
const SKUS: [&str; 3] = ["P01", "P02", "P03"];

const STOCK: i64 = 1_000;

/// Two nodes, and a Shopify that one of them was told to connect.
struct Street {
    servers: Servers,
    there: Shopify,
    blends: [Blend; 2],
    nodes: [Server; 2],
    tenant: Uuid,
    units: Vec<String>,
    id: String,
    keys: std::cell::Cell<u32>,
}

/// Keeps which sales it is told of, each once, in the order in which they came first.
struct Receiver(Vec<Value>);

impl Site for Receiver {
    fn answer(&mut self, called: &Called) -> Reply {
        let told: Value = serde_json::from_slice(&called.body).unwrap();
        let sale = told["data"]["venta_id"].clone();
        if !self.0.contains(&sale) {
            self.0.push(sale);
        }
        Reply::text(200, "seen")
    }
}

impl Street {
    async fn open(settings: &[(&str, &str)]) -> Self {
        let servers = Servers::with_redis(DURABLE).await;
        let items: Vec<(&str, i64)> = SKUS.iter().map(|sku| (*sku, 0)).collect();
        let there = strict::open(&items).await;
        let url = there.url();
        let heartbeat = format!("{}?heartbeat=2", servers.rabbitmq.url());
        let mut blends = [servers.node(), servers.node()];
        for blend in &mut blends {
            blend.set("RABBITMQ_URL", &heartbeat);
            blend.set("BLEND_CHANNELS__KEYS", KEYS);
            blend.set("BLEND_CHANNELS__SHOPIFY_URL", &url);
            settings.iter().for_each(|(name, value)| blend.set(name, value));
        }
        let first = blends[0].serve().await;
        let tenant = blends[0].tenant("Almacén Sur").await;
        blends[0].import(tenant, catalogue(1_000), &[]).await.done();
        let nodes = [first, blends[1].serve().await];
        for node in &nodes {
            holds(node, 2).await;
        }
        let id = String::new();
        let mut street =
            Self { servers, there, blends, nodes, tenant, units: Vec::new(), id, keys: 0.into() };
        for sku in SKUS {
            let found = street.api(0).get(&format!("/api/v1/productos/scan/{sku}")).await;
            street.units.push(found.json["id"].as_str().unwrap().to_owned());
        }
        street.connect().await;
        street
    }

    /// At one node, mapped at the other, seen at both.
    async fn connect(&mut self) {
        let body = json!({ "canal": "shopify", "nombre": "Web", "cuenta": "simulada.myshopify.com",
            "ubicacion_externa": "1", "credenciales": { "access_token": self.there.token(), "client_id": "app",
                "client_secret": "hush", "refresh_token": self.there.refresh() } });
        let created = self.api(1).post("/api/v1/integraciones", body.to_string()).await;
        assert_eq!(created.status, 201, "{}", created.json);
        self.id = created.json["id"].as_str().unwrap().to_owned();
        let again = self.api(0).post("/api/v1/integraciones", body.to_string()).await;
        assert_eq!(again.outcome(), (409, "cuenta_ya_conectada"));
        let path = format!("/api/v1/integraciones/{}", self.id);
        let report = self.api(0).post(&format!("{path}/mapear"), r#"{"aplicar":true}"#).await;
        assert_eq!(report.json["mapeadas"], 3, "{}", report.json);
        for node in 0..2 {
            assert_eq!(self.api(node).get(&path).await.json["nombre"], "Web");
            assert_eq!(self.api(node).get("/api/v1/integraciones").await.json[0]["id"], self.id);
        }
    }

    fn api(&self, node: usize) -> Api {
        Api::new(&self.nodes[node].url(), &self.blends[0].token(self.tenant, Role::Owner))
    }

    /// Once, however often it has to be asked for; which sale it is.
    async fn sell(&self, node: usize, item: usize) -> Value {
        let basket = json!({ "items": [{ "producto_id": self.units[item], "cantidad": 1 }],
            "metodo_pago": "efectivo" });
        self.keys.set(self.keys.get() + 1);
        let key = format!("k-{}", self.keys.get());
        let api = self.api(node);
        eventually("it is sold", async || {
            let sold = api.checkout(basket.to_string(), Some(&key)).await;
            (sold.status == 201).then(|| sold.json["venta_id"].clone())
        })
        .await
    }

    /// An order there, told to a node, more than once.
    async fn order(&self, node: usize, number: u64, item: usize, quantity: i64) {
        self.there.change(SKUS[item], -quantity);
        let body = json!({ "id": number, "name": format!("#{number}"), "cancelled_at": null, "line_items": [
            { "variant_id": item + 1, "sku": SKUS[item], "quantity": quantity }] });
        let body = body.to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"hush");
        let signature = base64::prelude::BASE64_STANDARD.encode(hmac::sign(&key, body.as_bytes()).as_ref());
        let stranger = Api::anonymous(&self.nodes[node].url());
        for event in ["a", "a", "b"] {
            let event = format!("{number}{event}");
            let headers = [
                ("x-shopify-topic", "orders/create"),
                ("x-shopify-event-id", event.as_str()),
                ("x-shopify-hmac-sha256", signature.as_str()),
                ("content-type", "application/json"),
            ];
            let path = format!("/api/v1/webhooks/shopify/{}", self.id);
            let reply = stranger.send(Method::POST, &path, &headers, body.clone()).await.unwrap();
            assert_eq!(reply.status, 200, "{}", reply.json);
        }
    }

    /// So much is left of each, here and there.
    async fn left(&self, node: usize, left: [i64; 3]) {
        let api = self.api(node);
        for (item, left) in left.into_iter().enumerate() {
            eventually(&format!("{left} of {} are left", SKUS[item]), async || {
                let stock = api.get(&format!("/api/v1/stock/{}", self.units[item])).await;
                (stock.status == 200 && stock.raw("disponible") == left.to_string()).then_some(())
            })
            .await;
            self.there.shows(SKUS[item], left).await;
        }
    }

    /// The node that looks after the connection: one, and no other.
    async fn keeper(&self) -> usize {
        let name = format!("shopify-{}", self.id);
        eventually("one node looks after the connection", async || {
            let mut keepers = Vec::new();
            for (number, node) in self.nodes.iter().enumerate() {
                let actors = Api::anonymous(&node.url()).get("/ops/actors").await.json;
                let is_it = |actor: &&Value| actor["name"] == name.as_str() && actor["state"] == "running";
                keepers.extend(actors["actors"].as_array()?.iter().find(is_it).map(|_| number));
            }
            (keepers.len() == 1).then(|| keepers[0])
        })
        .await
    }

    /// Ends in order; what was sold is in the books once.
    async fn close(self, sales: usize) {
        assert_eq!(self.there.counts().violations, Vec::<String>::new());
        settled(&[&self.nodes[0], &self.nodes[1]]).await;
        assert_eq!(assert_verified(&self.blends[0]).await.sales.len(), sales);
        for node in self.nodes {
            assert!(node.sigterm().await.success());
        }
    }
}

#[tokio::test]
async fn whichever_node_dies_quantities_are_equal_and_orders_are_sold_once() {
    let mut street = Street::open(&[]).await;
    let mut left = [STOCK; 3];
    let mut sales = 0;
    for round in 0..2_u64 {
        for node in 0..2 {
            street.sell(node, 0).await;
            street.order(node, 10 * round + node as u64, 1, 2).await;
            left[0] -= 1;
            left[1] -= 2;
            sales += 2;
        }
        street.left(0, left).await;
        let keeper = street.keeper().await;
        let other = 1 - keeper;
        street.nodes[keeper].signal("KILL");
        street.nodes[keeper].ended().await;
        // Taken in while nobody looks after the connection.
        street.order(other, 10 * round + 5, 1, 1).await;
        street.sell(other, 2).await;
        left[1] -= 1;
        left[2] -= 1;
        sales += 2;
        street.left(other, left).await;
        street.nodes[keeper] = street.blends[keeper].serve().await;
        for node in &street.nodes {
            holds(node, 2).await;
        }
    }
    street.keeper().await;
    // Whoever ends in order keeps nobody waiting.
    street.close(sales).await;
}

/// Paused in the middle of getting a new token, which is good for one use.
#[tokio::test]
async fn a_node_that_was_paused_asks_for_no_second_token_and_changes_nothing() {
    let street = Street::open(&[("BLEND_CHANNELS__ANSWER_TIMEOUT_SECS", "5")]).await;
    street.left(0, [STOCK; 3]).await;
    let keeper = street.keeper().await;
    let other = 1 - keeper;
    let before = street.there.counts().calls;
    street.there.expire_token();
    // The call that finds out, then the one for a token, which is never answered.
    street.there.next(&[Fault::Late(Duration::ZERO), Fault::Hang]);
    street.sell(other, 0).await;
    street.there.until("a token is asked for", || street.there.counts().calls >= before + 2).await;
    street.nodes[keeper].signal("STOP");
    holds(&street.nodes[other], 4).await;
    street.sell(other, 1).await;
    street.left(other, [STOCK - 1, STOCK - 1, STOCK]).await;
    assert_eq!(street.there.tokens(), 1);
    street.nodes[keeper].signal("CONT");
    for node in &street.nodes {
        holds(node, 2).await;
    }
    street.sell(keeper, 2).await;
    street.sell(other, 2).await;
    street.left(keeper, [STOCK - 1, STOCK - 1, STOCK - 2]).await;
    street.keeper().await;
    assert_eq!(street.there.tokens(), 1);
    street.close(4).await;
}

/// Nothing is compared by time here: what is not heard over the bus is not shown.
#[tokio::test]
async fn what_happens_is_heard_over_the_bus_by_channels_and_webhooks_whoever_dies() {
    let there = Shell::start(Receiver(Vec::new())).await.unwrap();
    let mut street = Street::open(&[
        ("BLEND_CHANNELS__SWEEP_SECS", "3600"),
        ("BLEND_CHANNELS__RECONCILE_SECS", "3600"),
        ("BLEND_WEBHOOKS__PRIVATE_ADDRESSES", "true"),
        ("BLEND_WEBHOOKS__RETRY_SECS", "[1]"),
    ])
    .await;
    let queues = |street: &Street, part: &str| {
        street.servers.rabbitmq.queues().iter().filter(|name| name.contains(part)).count()
    };
    eventually("somebody listens", async || (queues(&street, "queue.sync.shopify") == 1).then_some(())).await;
    assert_eq!(queues(&street, "queue.webhooks") + queues(&street, "queue.sync.meli"), 0);
    street.sell(0, 2).await;
    let body = json!({ "url": there.url(), "eventos": ["venta.creada"] });
    let made = eventually("a webhook is there", async || {
        let made = street.api(1).post("/api/v1/webhooks/salientes", body.to_string()).await;
        (made.status == 201).then_some(made.json)
    })
    .await;
    assert!(queues(&street, "queue.webhooks") > 0);
    let (mut sold, mut left) = (Vec::new(), [STOCK, STOCK, STOCK - 1]);
    for round in 0..2 {
        for node in [0, 1, 0] {
            sold.push(street.sell(node, round).await);
            left[round] -= 1;
            street.left(node, left).await;
        }
        let keeper = street.keeper().await;
        street.nodes[keeper].signal("KILL");
        street.nodes[keeper].ended().await;
        for _ in 0..2 {
            sold.push(street.sell(1 - keeper, round).await);
            left[round] -= 1;
        }
        street.left(1 - keeper, left).await;
        street.nodes[keeper] = street.blends[keeper].serve().await;
        for node in &street.nodes {
            holds(node, 2).await;
        }
    }
    eventually("every sale is told", async || (there.site().0.len() >= sold.len()).then_some(())).await;
    assert_eq!(there.site().0, sold, "in the order in which they were sold, and none from before");
    // Nothing is heard of what is sold while the broker is away: then everything is compared all the time.
    let broker = &street.servers.rabbitmq;
    for queue in broker.queues().iter().filter(|name| name.contains("queue.webhooks")) {
        broker.await_written(queue).await;
    }
    street.servers.rabbitmq.kill();
    sold.push(street.sell(0, 0).await);
    left[0] -= 1;
    street.there.shows(SKUS[0], left[0]).await;
    street.servers.rabbitmq.restart().await;
    eventually("it is told", async || (there.site().0.len() == sold.len()).then_some(())).await;
    sold.push(street.sell(1, 1).await);
    left[1] -= 1;
    street.left(1, left).await;
    // Nobody wants to be told any more, so nothing is kept for anybody.
    let path = format!("/api/v1/webhooks/salientes/{}", made["id"].as_str().unwrap());
    eventually("it is removed", async || {
        let removed = street.api(0).send(Method::DELETE, &path, &[], "").await.unwrap();
        (removed.status == 200).then_some(())
    })
    .await;
    eventually("nothing is kept", async || (queues(&street, "queue.webhooks") == 0).then_some(())).await;
    street.close(sold.len() + 1).await;
}

//! What a tenant's own systems are told, and whoever runs the installation.

use crate::simulator::{Called, Reply, Shell, Site};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::Blend;
use crate::support::shop::{OTHER, PLAIN, Shop, catalogue};
use blend::domain::hook::Secret;
use blend::http::Role;
use hyper::Method;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

const KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const ALARMS: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Keeps what it is told: path, id, moment, signature, body.
struct Receiver {
    status: u16,
    told: Vec<(String, String, i64, String, Vec<u8>)>,
}

impl Site for Receiver {
    fn answer(&mut self, called: &Called) -> Reply {
        let header = |name: &str| called.header(name).to_owned();
        let moment = header("webhook-timestamp").parse().unwrap();
        let (id, signature) = (header("webhook-id"), header("webhook-signature"));
        self.told.push((called.path.clone(), id, moment, signature, called.body.to_vec()));
        Reply::text(self.status, "seen")
    }
}

struct Told {
    shop: Shop,
    there: Shell<Receiver>,
    owner: Api,
}

async fn open() -> Told {
    let there = Shell::start(Receiver { status: 200, told: Vec::new() }).await.unwrap();
    let alarms = format!("{}/alarmas", there.url());
    let settings = [
        ("BLEND_CHANNELS__KEYS", KEYS),
        ("BLEND_WEBHOOKS__PRIVATE_ADDRESSES", "true"),
        ("BLEND_WEBHOOKS__RETRY_SECS", "[1]"),
        ("BLEND_ALERTS__URL", alarms.as_str()),
        ("BLEND_ALERTS__SECRET", ALARMS),
        ("BLEND_ALERTS__DEAD_LETTERS", "2"),
    ];
    let shop = Shop::open_on(Blend::new(), &catalogue(1_000), &settings).await;
    let owner = shop.caller(Role::Owner);
    Told { shop, there, owner }
}

impl Told {
    async fn subscribe(&self, news: &[&str]) -> (String, Secret) {
        let body = json!({ "url": format!("{}/avisos", self.there.url()), "eventos": news });
        let made = self.owner.post("/api/v1/webhooks/salientes", body.to_string()).await;
        assert_eq!(made.status, 201, "{}", made.json);
        let text = |field: &str| made.json[field].as_str().unwrap().to_owned();
        (text("id"), Secret::parse(&text("secreto")).unwrap())
    }

    fn told(&self) -> Vec<(String, Value)> {
        let read = |(_, id, _, _, body): &(String, String, i64, String, Vec<u8>)| {
            (id.clone(), serde_json::from_slice(body).unwrap())
        };
        self.there.site().told.iter().map(read).collect()
    }

    /// Messages of a type, each once, in the order in which they came first.
    fn of(&self, kind: &str) -> Vec<Value> {
        let mut seen = std::collections::HashSet::new();
        let told = self.told().into_iter();
        told.filter(|(id, body)| body["type"] == kind && seen.insert(id.clone()))
            .map(|(_, body)| body)
            .collect()
    }

    async fn crash(&mut self) {
        self.shop.crash().await;
        self.owner = self.shop.caller(Role::Owner);
    }
}

#[tokio::test]
async fn sales_are_told_signed_in_order_and_through_kills_and_absence() {
    let mut street = open().await;
    let (id, secret) = street.subscribe(&["venta.creada", "venta.anulada", "stock.cambiado"]).await;
    let mut sold = Vec::new();
    for round in 0..30 {
        sold.push(street.shop.sell(&[(PLAIN, "1"), (OTHER, "2")]).await.sale());
        if round == 10 {
            street.crash().await;
        }
        street.there.away((15..25).contains(&round));
    }
    let voided = format!("/api/v1/ventas/{}/anular", sold[0]);
    let owner = street.shop.caller(Role::Owner);
    assert_eq!(owner.post(&voided, r#"{"motivo":"prueba"}"#).await.status, 200);
    eventually("everything is told", async || {
        let done = street.of("venta.creada").len() == 30 && street.of("venta.anulada").len() == 1;
        (done && street.of("stock.cambiado").len() == 31).then_some(())
    })
    .await;
    let told: Vec<String> = street
        .of("venta.creada")
        .iter()
        .map(|body| body["data"]["venta_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, sold, "in the order in which they were sold");
    for (path, id, moment, signature, body) in &street.there.site().told {
        assert_eq!((path.as_str(), signature), ("/avisos", &secret.sign(id, *moment, body)));
    }
    let listed = eventually("all is well", async || {
        let listed = street.owner.get("/api/v1/webhooks/salientes").await.json;
        (listed[0]["pendientes"] == 0 && listed[0]["estado"] == "activo").then_some(listed)
    })
    .await;
    assert!(!listed.to_string().contains("whsec_"));
    let path = format!("/api/v1/webhooks/salientes/{id}");
    let log = street.owner.get(&format!("{path}/entregas?limit=5")).await.json;
    assert_eq!((log.as_array().unwrap().len(), &log[0]["estado"]), (5, &json!("entregada")));
    let again = format!("{path}/entregas/{}/reenviar", log[0]["entrega"]);
    let before = street.told().len();
    assert_eq!(street.owner.post(&again, "").await.status, 200);
    eventually("it comes again", async || (street.told().len() > before).then_some(())).await;
    assert_eq!(street.owner.post(&format!("{path}/probar"), "").await.status, 200);
    eventually("it works", async || (street.of("prueba").len() == 1).then_some(())).await;
    // A new secret, through a kill: both sign, so whoever knows either is content.
    let rotated = street.owner.post(&format!("{path}/rotar"), "").await;
    assert_eq!(rotated.status, 200, "{}", rotated.json);
    assert!(rotated.json["anterior_hasta"].is_string());
    let newer = Secret::parse(rotated.json["secreto"].as_str().unwrap()).unwrap();
    street.crash().await;
    street.shop.sell(&[(PLAIN, "1")]).await.sale();
    eventually("it is told", async || (street.of("venta.creada").len() == 31).then_some(())).await;
    let (_, id, moment, signature, body) = street.there.site().told.last().unwrap().clone();
    let both = [&newer, &secret].map(|secret| secret.sign(&id, moment, &body)).join(" ");
    assert_eq!(signature, both);
    let file = std::fs::read(street.shop.blend.data_dir().join("channels.db-wal")).unwrap();
    assert!(!String::from_utf8_lossy(&file).contains("whsec_"), "secrets are readable at rest");
    // Nobody else's business.
    let neighbour = street.shop.neighbour().await;
    let stranger =
        Api::new(&street.shop.server.url(), &street.shop.blend.token(neighbour.tenant, Role::Owner));
    assert_eq!(stranger.get("/api/v1/webhooks/salientes").await.json, json!([]));
    assert_eq!(stranger.get(&format!("{path}/entregas")).await.outcome(), (404, "no_encontrado"));
    assert_eq!(stranger.post(&format!("{path}/rotar"), "").await.outcome(), (404, "no_encontrado"));
    let cashier = street.shop.caller(Role::Cajero);
    assert_eq!(cashier.get("/api/v1/webhooks/salientes").await.status, 403);
    let removed = street.owner.send(Method::DELETE, &path, &[], "").await.unwrap();
    assert_eq!(removed.status, 200);
    street.shop.close().await;
}

#[tokio::test]
async fn bad_subscriptions_name_the_field_and_the_rule() {
    let street = open().await;
    let url = street.there.url();
    for (body, field) in [
        (json!({ "url": url, "eventos": [] }), "eventos"),
        (json!({ "url": url, "eventos": ["venta.creada", "x"] }), "eventos[1]"),
        (json!({ "url": url, "eventos": ["prueba"] }), "eventos[0]"),
        (json!({ "url": "ftp://x", "eventos": ["venta.creada"] }), "url"),
        (json!({ "url": url, "eventos": ["venta.creada"], "secreto": "whsec_AAEC" }), "secreto"),
    ] {
        let refused = street.owner.post("/api/v1/webhooks/salientes", body.to_string()).await;
        assert_eq!(
            (refused.status, &refused.json["error"]["validation_errors"][0]["field"]),
            (422, &json!(field)),
            "{}",
            refused.json
        );
    }
    for n in 0..11 {
        let body = json!({ "url": url, "eventos": ["venta.creada"] });
        let made = street.owner.post("/api/v1/webhooks/salientes", body.to_string()).await;
        assert_eq!(made.status, if n < 10 { 201 } else { 409 });
    }
    street.shop.close().await;
}

#[tokio::test]
async fn too_many_dead_letters_are_told_to_whoever_runs_it_once_each_time() {
    let street = open().await;
    // Given up elsewhere: what counts is how many there are.
    for _ in 0..3 {
        street.shop.sell(&[(PLAIN, "1")]).await.sale();
    }
    street.shop.settled().await;
    let file = street.shop.blend.data_dir().join("journal.db");
    let mut journal = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let sql = "SELECT group_concat(CAST(lines AS TEXT), '') FROM segments";
    let lines = eventually("the sales are filed", async || {
        let lines: Option<String> = sqlx::query_scalar(sql).fetch_one(&mut journal).await.unwrap();
        lines.filter(|lines| lines.matches(" sales.created ").count() == 3)
    })
    .await;
    // Position, checksum, kind, JSON.
    for line in lines.lines() {
        let [position, _, kind, payload] = line.splitn(4, ' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        if kind == "sales.created" {
            let sql = "INSERT INTO dead_letters VALUES ('queue.sales.created', $1, x'0192f5a0000070008000000000000001',
                           4, 1767225600000000, 1767225614000000, 'unit is not known', $2, CAST($3 AS BLOB))";
            let insert = sqlx::query(sql).bind(position.parse::<i64>().unwrap()).bind(kind).bind(payload);
            insert.execute(&mut journal).await.unwrap();
        }
    }
    eventually("it is told", async || (street.of("descartados.demasiados").len() == 1).then_some(())).await;
    let (path, id, moment, signature, body) = street.there.site().told[0].clone();
    let secret = Secret::parse(ALARMS).unwrap();
    assert_eq!((path.as_str(), signature), ("/alarmas", secret.sign(&id, moment, &body)));
    assert_eq!(street.of("descartados.demasiados")[0]["data"], json!({ "cantidad": 3, "limite": 2 }));
    sqlx::Connection::close(journal).await.unwrap();
    let ran = street.shop.blend.command(&["dlq", "drop", "--all"]).await;
    assert!(
        ran.code == Some(1) && ran.stderr.contains("is not thrown away: stock counts it"),
        "{}",
        ran.stderr
    );
    street.shop.blend.command(&["dlq", "replay", "--all"]).await.done();
    street.shop.close().await;
}

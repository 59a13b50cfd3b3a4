//! Killed between two steps at MercadoLibre that cannot be one: a token that is good for one use is given and written
//! down; an order is sold and what became of it is written down.

use super::*;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::Path;

/// Longer than the test takes to kill the server.
const LATE: Duration = Duration::from_secs(30);

/// A shop that is connected to a MercadoLibre with two of its products, ten of each.
struct Seller {
    shop: Shop,
    there: Meli,
    owner: Api,
    path: String,
}

impl Seller {
    async fn open() -> Self {
        let item = |sku: &str| MeliItem { sku: sku.into(), ..MeliItem::default() };
        let there = Meli::start(&[("MLA1", item(PLAIN)), ("MLA2", item(OTHER))]).await.unwrap();
        let url = there.url();
        let settings = [
            ("BLEND_CHANNELS__KEYS", KEYS),
            ("BLEND_CHANNELS__MELI_URL", url.as_str()),
            ("BLEND_CHANNELS__WINDOW_MS", "50"),
            ("BLEND_CHANNELS__SWEEP_SECS", "1"),
        ];
        let shop = Shop::open_on(Blend::new(), &catalogue(10), &settings).await;
        let owner = shop.caller(Role::Owner);
        let body = json!({ "canal": "meli", "nombre": "ML", "cuenta": SELLER, "credenciales": {
            "access_token": there.token(), "client_id": "app", "client_secret": "hush",
            "refresh_token": there.refresh() } });
        let created = owner.post("/api/v1/integraciones", body.to_string()).await;
        assert_eq!(created.status, 201, "{}", created.json);
        let path = format!("/api/v1/integraciones/{}", created.json["id"].as_str().unwrap());
        let mapped = owner.post(&format!("{path}/mapear"), r#"{"aplicar":true}"#).await;
        assert_eq!(mapped.json["mapeadas"], 2, "{}", mapped.json);
        let seller = Self { shop, there, owner, path };
        seller.clean().await;
        seller
    }

    async fn status(&self) -> Value {
        self.owner.get(&self.path).await.json
    }

    async fn clean(&self) {
        eventually("all that differs is shown", async || {
            let status = self.status().await;
            (status["al_dia"] == 2 && status["estado"] == "activa").then_some(())
        })
        .await;
    }

    async fn crash(&mut self) {
        self.shop.crash().await;
        self.owner = self.shop.caller(Role::Owner);
    }

    /// Two of the plain one are ordered there: it takes them off by itself, and tells.
    async fn order(&self, id: u64) {
        let lines = json!([{ "item": { "id": "MLA1" }, "quantity": 2 }]);
        self.there.change("MLA1", -2);
        self.there.order(&id.to_string(), json!({ "id": id, "status": "paid", "order_items": lines }));
        let hint = json!({ "_id": format!("n{id}"), "resource": format!("/orders/{id}"), "topic": "orders_v2",
            "user_id": SELLER, "application_id": "app", "attempts": 1 });
        let stranger = Api::anonymous(&self.shop.server.url());
        let told = stranger.post("/api/v1/webhooks/meli", hint.to_string()).await;
        assert_eq!((told.status, &told.json["nuevo"]), (200, &json!(true)), "{}", told.json);
    }

    async fn is_sold(&self, id: u64) {
        let id = id.to_string();
        eventually("the order is known to be sold", async || {
            let orders = self.status().await["pedidos"].as_array().unwrap().clone();
            orders.iter().any(|it| it["pedido"] == *id && it["estado"] == "vendido").then_some(())
        })
        .await;
    }
}

async fn opened(file: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(file).connect().await.unwrap()
}

async fn count(file: &Path, of: &'static str) -> i64 {
    let mut connection = opened(file).await;
    let count = sqlx::query_scalar(of).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    count
}

#[tokio::test]
async fn a_token_that_was_given_and_never_written_down_is_a_persons_to_replace_and_nothing_is_lost() {
    let mut seller = Seller::open().await;
    // The one token there was is used up, and nobody has heard of the next one.
    seller.there.next_like(|called| called.path == "/oauth/token", Fault::Late(LATE));
    seller.there.expire_token();
    seller.shop.sell(&[(PLAIN, "1")]).await.sale();
    seller.there.until("a token is given", || seller.there.tokens() == 1).await;
    seller.crash().await;
    let broken = eventually("it says that it needs a person", async || {
        Some(seller.status().await).filter(|status| status["estado"] == "con_error")
    })
    .await;
    let why = broken["motivo"].as_str().unwrap().to_owned();
    assert!(why.contains("authorise the app again") && why.contains("new credentials"), "{why}");
    // Asked for once and not over and over: who asks too often with what is worth nothing is a stranger.
    let refused = || seller.there.counts().violations;
    assert_eq!(refused(), ["used a refresh token that is not the last"]);
    // Meanwhile the shop sells, and what is ordered there is kept.
    seller.shop.sell(&[(OTHER, "1")]).await.sale();
    seller.order(77).await;
    let checked = seller.owner.post(&format!("{}/probar", seller.path), "").await;
    assert_eq!((&checked.json["funciona"], checked.json["motivo"].as_str()), (&json!(false), Some(&*why)));
    assert_eq!((refused().len(), seller.shop.stock(PLAIN).await.as_str()), (2, "9"));
    // The seller agrees anew.
    let replace = async |app: Option<&str>| {
        let credentials = json!({ "access_token": seller.there.token(), "refresh_token": seller.there.refresh(),
            "client_id": app });
        let body = json!({ "credenciales": credentials }).to_string();
        seller.owner.send(Method::PATCH, &seller.path, &[], body).await.unwrap()
    };
    let other = replace(Some("another")).await;
    assert_eq!(other.outcome(), (422, "integracion_invalida"));
    assert!(other.details()["motivo"].as_str().unwrap().contains("another app"), "{}", other.json);
    let replaced = replace(None).await;
    assert_eq!(replaced.status, 200, "{}", replaced.json);
    seller.is_sold(77).await;
    seller.there.shows("MLA1", 7).await;
    seller.there.shows("MLA2", 9).await;
    seller.clean().await;
    // They are kept.
    seller.crash().await;
    seller.shop.sell(&[(PLAIN, "1")]).await.sale();
    seller.there.shows("MLA1", 6).await;
    assert_eq!((seller.there.tokens(), seller.there.counts().violations.len()), (1, 2));
    assert_eq!(seller.shop.close().await.sales.len(), 4);
}

#[tokio::test]
async fn a_token_that_was_written_down_just_before_the_kill_is_the_one_that_works() {
    let mut seller = Seller::open().await;
    // The first call with it is the last thing that this process does.
    let is_new = |called: &Called| called.header("authorization") == "Bearer APP_USR-1";
    seller.there.next_like(is_new, Fault::Hang);
    seller.there.expire_token();
    seller.shop.sell(&[(PLAIN, "1")]).await.sale();
    seller.there.until("the new token is used", || seller.there.all_met()).await;
    seller.crash().await;
    seller.there.shows("MLA1", 9).await;
    seller.clean().await;
    assert_eq!((seller.there.tokens(), seller.there.counts().violations), (1, Vec::<String>::new()));
    assert_eq!(seller.shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn an_order_whose_sale_is_made_and_not_written_down_is_sold_once() {
    const ORDERS: &str = "SELECT count(*) FROM orders";
    let mut seller = Seller::open().await;
    let file = |name: &str| seller.shop.blend.data_dir().join(name);
    let (connections, ledger) = (file("channels.db"), file("ledger.db"));
    seller.there.next_like(|called| called.path == "/orders/77", Fault::Held);
    seller.order(77).await;
    seller.there.until("the order is asked for", || seller.there.all_met()).await;
    // From now on nothing can be written down about it.
    let mut writer = opened(&connections).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut writer).await.unwrap();
    seller.there.let_go();
    eventually("the sale is in the ledger", async || {
        (count(&ledger, "SELECT count(*) FROM sales").await == 1).then_some(())
    })
    .await;
    assert_eq!(count(&connections, ORDERS).await, 0);
    seller.shop.server.signal("KILL");
    seller.shop.server.ended().await;
    sqlx::query("ROLLBACK").execute(&mut writer).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(count(&connections, ORDERS).await, 0);
    seller.shop.start_again().await;
    seller.owner = seller.shop.caller(Role::Owner);
    seller.is_sold(77).await;
    seller.there.shows("MLA1", 8).await;
    seller.clean().await;
    assert_eq!(seller.shop.stock(PLAIN).await, "8");
    assert_eq!(seller.there.counts().violations, Vec::<String>::new());
    assert_eq!(seller.shop.close().await.sales.len(), 1);
}

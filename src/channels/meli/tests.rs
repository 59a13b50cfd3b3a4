//! The client against a MercadoLibre that enforces the contract.

use super::*;
use crate::channels::simulator::{Fault, Meli as Shop, MeliItem as There, SELLER};
use crate::domain::channel::order::OrderState;
use crate::domain::channel::{ChannelKind, Mode, Policy};
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use std::time::Duration;
use uuid::Uuid;

fn open(shop: &Shop) -> Meli {
    let connection = Connection {
        id: ConnectionId(Uuid::now_v7()),
        tenant: TenantId(Uuid::now_v7()),
        kind: ChannelKind::Meli,
        name: "Tienda".into(),
        account: SELLER.into(),
        place: None,
        sources: Vec::new(),
        policy: Policy::default(),
        paused: false,
        created_at: Timestamp::from_micros(0),
    };
    let credentials = Credentials {
        client_id: Some("app".into()),
        client_secret: Some("hush".into()),
        access_token: shop.token(),
        refresh_token: Some(shop.refresh()),
    };
    Meli::open(http::client().unwrap(), &shop.url(), Arc::default(), &connection, credentials).unwrap()
}

fn plain(sku: &str, quantity: i64) -> There {
    There { sku: sku.into(), quantity, ..There::default() }
}

fn varied(variations: &[(i64, &str, i64)]) -> There {
    let variations =
        variations.iter().map(|(id, sku, quantity)| (*id, (*sku).to_owned(), *quantity)).collect();
    There { sku: "V".into(), variations, ..There::default() }
}

fn call(item: &str, quantity: i64, from: Option<i64>) -> Call {
    let push = Push { unit: UnitId(Uuid::nil()), item: item.into(), quantity, from };
    Call { key: Uuid::now_v7(), pushes: vec![push], mode: Mode::Absolute }
}

#[tokio::test]
async fn items_and_variations_are_listed_read_and_written() {
    let shop = Shop::start(&[
        ("MLA1", plain("A", 5)),
        ("MLA2", varied(&[(30_078_896_889, "B-1", 2), (30_078_896_890, "B-2", 7)])),
    ])
    .await
    .unwrap();
    let mut client = open(&shop);
    assert_eq!(client.check().await.unwrap(), "SIMULADA");
    let (listed, next) = client.list(None).await.unwrap();
    let items: Vec<_> =
        listed.iter().map(|item| (item.item.as_str(), item.sku.as_deref().unwrap())).collect();
    assert_eq!(items, [("MLA1", "A"), ("MLA2/30078896889", "B-1"), ("MLA2/30078896890", "B-2")]);
    assert_eq!(client.list(next).await.unwrap(), (Vec::new(), None));
    let asked = ["MLA2/30078896890", "MLA1", "MLA9", "MLA2/1"].map(str::to_owned);
    assert_eq!(client.read(&asked).await.unwrap(), [Some(7), Some(5), None, None]);
    client.push(&call("MLA1", 3, Some(5))).await.unwrap();
    client.push(&call("MLA2/30078896889", 1, Some(2))).await.unwrap();
    let left: Vec<i64> = shop.item("MLA2").variations.iter().map(|(.., quantity)| *quantity).collect();
    assert_eq!((shop.item("MLA1").quantity, left), (3, vec![1, 7]));
    // An order took one: what was expected is not there.
    shop.change("MLA1", -1);
    let stale = client.push(&call("MLA1", 9, Some(3))).await.unwrap_err();
    assert_eq!((stale.verdict, shop.item("MLA1").quantity), (Verdict::Stale, 2));
    let writes = shop.counts().writes;
    client.push(&call("MLA1", 2, Some(3))).await.unwrap();
    assert_eq!(shop.counts().writes, writes, "what shows what it should is not written");
    shop.close("MLA1");
    let gone = client.push(&call("MLA1", 1, Some(2))).await.unwrap_err();
    assert!(
        matches!(&gone.verdict, Verdict::Rejected(culprits) if culprits[0].code == "not_found"),
        "{gone:?}"
    );
    assert_eq!(shop.counts().violations, Vec::<String>::new());
}

#[tokio::test]
async fn stock_in_warehouses_is_written_with_its_version() {
    let shop =
        Shop::start(&[("MLA1", There { product: Some("MLAU7".into()), ..plain("A", 5) })]).await.unwrap();
    shop.warehouse("MLAU7", 5);
    let mut client = open(&shop);
    let (listed, _) = client.list(None).await.unwrap();
    assert_eq!((listed[0].item.as_str(), listed.len()), ("UP:MLAU7", 1));
    assert_eq!(client.read(&["UP:MLAU7".into(), "UP:MLAU8".into()]).await.unwrap(), [Some(5), None]);
    client.push(&call("UP:MLAU7", 4, Some(5))).await.unwrap();
    assert_eq!(shop.stock_of("MLAU7").unwrap(), 4);
    shop.change_stock("MLAU7", -2);
    let stale = client.push(&call("UP:MLAU7", 8, Some(4))).await.unwrap_err();
    assert_eq!((stale.verdict, shop.stock_of("MLAU7").unwrap()), (Verdict::Stale, 2));
    assert_eq!(shop.counts().violations, Vec::<String>::new());
}

#[tokio::test]
async fn each_refusal_is_told_apart_and_tokens_are_used_once() {
    let shop = Shop::start(&[("MLA1", plain("A", 5))]).await.unwrap();
    let mut client = open(&shop);
    let again = Verdict::Again { after: None };
    for (fault, verdict) in [
        (Fault::Status(500), again.clone()),
        (Fault::Status(503), again.clone()),
        (Fault::Cut, again.clone()),
        (Fault::PlainTooMany, Verdict::Throttled { after: Duration::from_secs(2) }),
        (Fault::Status(403), Verdict::Broken),
        (Fault::Status(409), Verdict::Again { after: Some(Duration::from_secs(2)) }),
    ] {
        shop.next(&[fault]);
        let refused = client.push(&call("MLA1", 1, None)).await.unwrap_err();
        assert_eq!(refused.verdict, verdict, "{fault:?}: {refused:?}");
        assert!(!format!("{refused:?}").contains("APP_USR"), "{refused:?}");
    }
    for round in 1..=2 {
        shop.expire_token();
        let refused = client.push(&call("MLA1", 1, None)).await.unwrap_err();
        assert_eq!(refused.verdict, Verdict::Unauthorized);
        let renewed = client.renew().await.unwrap();
        assert_eq!((renewed.refresh_token, shop.tokens()), (Some(shop.refresh()), round));
    }
    client.push(&call("MLA1", 1, None)).await.unwrap();
    // The answer to a write is lost: the same write finds it done.
    shop.next(&[]);
    assert_eq!(shop.item("MLA1").quantity, 1);
    let mut late = open(&shop);
    client.renew().await.unwrap();
    assert_eq!(late.renew().await.unwrap_err().verdict, Verdict::Broken, "only the last token is good");
}

#[tokio::test]
async fn what_was_missed_is_asked_for_page_by_page() {
    let shop = Shop::start(&[]).await.unwrap();
    let mut client = open(&shop);
    assert!(client.missed().await.unwrap().is_empty());
    for number in 0..150 {
        let user = if number % 10 == 9 { "1".to_owned() } else { SELLER.to_owned() };
        shop.miss(json!({ "_id": format!("n{number}"), "topic": "orders_v2", "resource": format!("/orders/{number}"),
            "user_id": user, "attempts": 8 }));
    }
    let missed = client.missed().await.unwrap();
    assert_eq!((missed.len(), missed[0].id.as_str(), missed[134].id.as_str()), (135, "n0", "n148"));
    assert_eq!(mapping::resource(&missed[0].body).as_deref(), Some("/orders/0"));
    assert_eq!(shop.counts().violations, Vec::<String>::new());
}

#[tokio::test]
async fn writes_keep_to_what_sellers_may() {
    let shop = Shop::start(&[("MLA1", plain("A", 100))]).await.unwrap();
    let mut client = open(&shop);
    for quantity in (90..100).rev() {
        client.push(&call("MLA1", quantity, Some(quantity + 1))).await.unwrap();
    }
    shop.shows("MLA1", 90).await;
    assert_eq!((shop.item("MLA1").quantity, shop.counts().violations), (90, Vec::<String>::new()));
}

#[tokio::test]
async fn notices_are_hints_and_orders_are_asked_for() {
    let shop = Shop::start(&[("MLA1", plain("A", 5))]).await.unwrap();
    let mut client = open(&shop);
    let item = json!({ "id": "MLA1", "variation_id": null, "seller_sku": "A" });
    let varied = json!({ "id": "MLA2", "variation_id": 30_078_896_889_i64 });
    let order = |status: &str| {
        json!({ "id": 2_195_160_686_i64, "status": status, "order_items": [
        { "item": item, "quantity": 2 }, { "item": varied, "quantity": 1 } ] })
    };
    let notice = |topic: &str, resource: &str| Notice {
        id: "1".into(),
        topic: topic.into(),
        body: json!({ "resource": resource }).to_string().into_bytes(),
        at: Timestamp::from_micros(0),
    };
    let told = notice("orders_v2", "/orders/2195160686");
    assert_eq!(client.news(&told).await.unwrap(), News::Nothing, "an order that is not there");
    for (status, state) in [
        ("payment_required", None),
        ("paid", Some(OrderState::Placed)),
        ("confirmed", Some(OrderState::Placed)),
        ("cancelled", Some(OrderState::Cancelled)),
        ("invalid", Some(OrderState::Cancelled)),
        ("never_heard_of", None),
    ] {
        shop.order("2195160686", order(status));
        let found = match client.news(&told).await.unwrap() {
            News::Order(order) => {
                let lines: Vec<_> =
                    order.lines.iter().map(|line| (line.item.as_str(), line.quantity)).collect();
                assert_eq!(lines, [("MLA1", 2), ("MLA2/30078896889", 1)]);
                assert_eq!(order.id, "2195160686");
                Some(order.state)
            }
            _ => None,
        };
        assert_eq!(found, state, "{status}");
    }
    let level = client.news(&notice("items", "/items/MLA1")).await.unwrap();
    assert_eq!(level, News::Level("MLA1".into()));
    let stock = client.news(&notice("stock-location", "/user-products/MLAU7/stock")).await.unwrap();
    assert_eq!(stock, News::Level("UP:MLAU7".into()));
    assert_eq!(client.news(&notice("questions", "/questions/1")).await.unwrap(), News::Nothing);
    let evil = client.news(&notice("orders_v2", "//evil.example/orders")).await.unwrap_err();
    assert!(matches!(evil.verdict, Verdict::Rejected(_)), "{evil:?}");
    assert_eq!(shop.counts().violations, Vec::<String>::new());
}

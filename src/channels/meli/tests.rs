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
    open_at(shop, None)
}

fn open_at(shop: &Shop, place: Option<&str>) -> Meli {
    let connection = Connection {
        id: ConnectionId(Uuid::now_v7()),
        tenant: TenantId(Uuid::now_v7()),
        kind: ChannelKind::Meli,
        name: "Tienda".into(),
        account: SELLER.into(),
        place: place.map(Into::into),
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
async fn a_connection_that_is_bound_to_a_warehouse_leaves_the_others_as_they_are() {
    let there = There { product: Some("MLAU7".into()), ..plain("A", 5) };
    let shop = Shop::start(&[("MLA1", there)]).await.unwrap();
    shop.warehouse_at("MLAU7", "77", 5);
    shop.warehouse_at("MLAU7", "88", 30);
    shop.warehouse_at("MLAU8", "77", 2);
    let of = |product: &str| ["77", "88"].map(|store| shop.stock_at(product, store));
    let mut client = open_at(&shop, Some("88"));
    assert_eq!(client.check().await.unwrap(), "SIMULADA");
    assert_eq!(client.list(None).await.unwrap().0[0].item, "UP:MLAU7");
    let asked = ["UP:MLAU7", "UP:MLAU8", "UP:MLAU9"].map(str::to_owned);
    assert_eq!(client.read(&asked).await.unwrap(), [Some(30), Some(0), None]);
    client.push(&call("UP:MLAU7", 29, Some(30))).await.unwrap();
    // The product was never in this one.
    client.push(&call("UP:MLAU8", 3, Some(0))).await.unwrap();
    assert_eq!((of("MLAU7"), of("MLAU8")), ([Some(5), Some(29)], [Some(2), Some(3)]));
    // Somebody writes the other one between our reading and writing: the version tells, and theirs stays.
    let next = call("UP:MLAU7", 28, Some(29));
    shop.next_like(|called| called.method == hyper::Method::PUT, Fault::Held);
    let (busy, ()) = tokio::join!(client.push(&next), async {
        shop.until("it is about to be written", || shop.all_met()).await;
        shop.change_stock("MLAU7", -1);
        shop.let_go();
    });
    assert_eq!(busy.unwrap_err().verdict, Verdict::Stale);
    client.push(&next).await.unwrap();
    assert_eq!(of("MLAU7"), [Some(4), Some(28)]);
    let refused = client.push(&call("MLA1", 1, None)).await.unwrap_err();
    let is_told =
        matches!(&refused.verdict, Verdict::Rejected(culprits) if culprits[0].code == "not_in_warehouse");
    assert!(is_told && refused.cause.contains("UP:"), "{refused:?}");
    let unknown = open_at(&shop, Some("99")).check().await.unwrap_err();
    assert_eq!(unknown.verdict, Verdict::Broken);
    assert!(
        unknown.cause.contains("no warehouse 99") && unknown.cause.contains("77, 88"),
        "{}",
        unknown.cause
    );
    let plain = Shop::start(&[]).await.unwrap();
    let without = open_at(&plain, Some("77")).check().await.unwrap_err();
    assert!(
        without.verdict == Verdict::Broken && without.cause.contains("no stock in warehouses"),
        "{without:?}"
    );
    assert_eq!(shop.counts().violations, Vec::<String>::new());
}

#[tokio::test]
async fn of_an_order_a_warehouse_takes_its_own_lines_and_those_that_name_none() {
    let shop = Shop::start(&[]).await.unwrap();
    shop.warehouse_at("MLAU7", "77", 5);
    shop.warehouse_at("MLAU7", "88", 30);
    let node = "ARP2";
    let line = |quantity: i64, more: serde_json::Value| {
        let mut line = json!({ "item": { "id": "MLA1", "user_product_id": "MLAU7" }, "quantity": quantity });
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line
    };
    let notice = Notice {
        id: "1".into(),
        topic: "orders_v2".into(),
        body: json!({ "resource": "/orders/1" }).to_string().into_bytes(),
        at: Timestamp::from_micros(0),
    };
    let taken = async |client: &mut Meli, order: serde_json::Value| {
        shop.order("1", order);
        match client.news(&notice).await.unwrap() {
            News::Order(order) => order.lines.iter().map(|line| line.quantity).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let order = |more: serde_json::Value| {
        let lines = [
            line(1, json!({ "stock": { "store_id": "77", "node_id": "ARP1" } })),
            line(2, json!({ "stock": { "store_id": 88 } })),
            line(4, json!({ "node_id": node })),
            line(8, json!({ "store_id": "77" })),
            line(16, json!({ "stock": null })),
        ];
        let mut order = json!({ "id": 1, "status": "paid", "order_items": lines });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    let mut client = open_at(&shop, Some("88"));
    assert_eq!(taken(&mut client, order(json!({}))).await, [2, 4, 16]);
    assert_eq!(taken(&mut client, order(json!({ "store_id": "77" }))).await, [2, 4]);
    assert_eq!(taken(&mut open(&shop), order(json!({}))).await, [1, 2, 4, 8, 16]);
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

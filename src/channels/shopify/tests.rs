//! The client against a Shopify that enforces the contract.

use super::*;
use crate::channels::simulator::{Fault, PLACE, Shopify as Shop};
use crate::domain::channel::{ChannelKind, Policy, Push};
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use crate::servers::shopify::{self as strict, SCHEMA};
use apollo_compiler::{ExecutableDocument, Schema};
use uuid::Uuid;

fn credentials(token: &str, refresh: Option<String>) -> Credentials {
    Credentials {
        client_id: Some("app".into()),
        client_secret: Some("hush".into()),
        access_token: token.into(),
        refresh_token: refresh,
    }
}

fn connection() -> Connection {
    Connection {
        id: ConnectionId(Uuid::now_v7()),
        tenant: TenantId(Uuid::now_v7()),
        kind: ChannelKind::Shopify,
        name: "Tienda".into(),
        account: "simulada.myshopify.com".into(),
        place: Some("1".into()),
        sources: Vec::new(),
        policy: Policy::default(),
        paused: false,
        created_at: Timestamp::from_micros(0),
    }
}

fn open(shop: &Shop) -> Shopify {
    let credentials = credentials(&shop.token(), shop.refresh());
    Shopify::open(http::client().unwrap(), &shop.url(), &connection(), credentials).unwrap()
}

fn item(number: usize) -> String {
    format!("gid://shopify/InventoryItem/{number}")
}

fn push(number: usize, quantity: i64, from: Option<i64>) -> Push {
    Push { unit: UnitId(Uuid::from_u128(number as u128)), item: item(number), quantity, from }
}

fn call(pushes: Vec<Push>) -> Call {
    Call { key: Uuid::now_v7(), pushes, mode: Mode::Absolute }
}

#[test]
fn every_document_fits_the_schema() {
    let schema = Schema::parse_and_validate(SCHEMA, "schema.graphql").unwrap();
    for document in [SET, ADJUST, LEVELS, ITEMS, VARIANTS, SHOP, SUBSCRIPTIONS, SUBSCRIBE] {
        if let Err(error) = ExecutableDocument::parse_and_validate(&schema, document, "document.graphql") {
            panic!("{document}\n{}", error.errors);
        }
    }
    // And one that does not is told apart.
    let removed = SET.replace("userErrors", "userMistakes");
    assert!(ExecutableDocument::parse_and_validate(&schema, removed, "document.graphql").is_err());
}

#[tokio::test]
async fn quantities_are_listed_read_and_written_with_compare_and_swap() {
    let shop = strict::open(&[("A", 5), ("B", 9)]).await;
    shop.add(7, None, true);
    shop.add(8, Some("C"), false);
    let mut client = open(&shop);
    assert_eq!(client.check().await.unwrap(), "Simulada (Centro)");
    let (listed, next) = client.list(None).await.unwrap();
    let skus: Vec<_> = listed.iter().map(|item| item.sku.as_deref()).collect();
    assert_eq!((skus, next), (vec![Some("A"), Some("B"), None], None), "what is not tracked is not offered");
    assert_eq!(client.read(&[item(2), item(99), item(1)]).await.unwrap(), [Some(9), None, Some(5)]);

    let first = call(vec![push(1, 3, Some(5)), push(2, 9, Some(9))]);
    client.push(&first).await.unwrap();
    // The same call again is the same call, and one that changes nothing is no failure.
    client.push(&first).await.unwrap();
    client.push(&call(vec![push(2, 9, Some(9))])).await.unwrap();
    assert_eq!(shop.showing("A").unwrap(), 3);
    shop.change("A", -1);
    let stale = client.push(&call(vec![push(1, 7, Some(3)), push(2, 8, Some(9))])).await.unwrap_err();
    assert_eq!((stale.verdict, shop.showing("B").unwrap()), (Verdict::Stale, 9));
    client.push(&call(vec![push(1, 7, None)])).await.unwrap();
    let relative = Call { mode: Mode::Relative, ..call(vec![push(1, 4, Some(7))]) };
    client.push(&relative).await.unwrap();
    client.push(&relative).await.unwrap();
    assert_eq!((shop.showing("A").unwrap(), shop.counts().violations), (4, Vec::<String>::new()));
}

#[tokio::test]
async fn each_refusal_is_told_apart() {
    let shop = strict::open(&[("A", 5)]).await;
    let mut client = open(&shop);
    client.check().await.unwrap();
    let again = Verdict::Again { after: None };
    for (fault, verdict) in [
        (Fault::Status(500), again.clone()),
        (Fault::Status(503), again.clone()),
        (Fault::Cut, again.clone()),
        (Fault::Half, again.clone()),
        (Fault::TooMany(2), Verdict::Throttled { after: Duration::from_secs(2) }),
        (Fault::Status(404), Verdict::Broken),
        (Fault::Status(402), Verdict::Broken),
    ] {
        shop.next(&[fault]);
        let refused = client.push(&call(vec![push(1, 1, None)])).await.unwrap_err();
        assert_eq!(refused.verdict, verdict, "{fault:?}: {refused:?}");
        assert!(!format!("{refused:?}").contains("shpat"), "{refused:?}");
    }
    // The answer to a call that was carried out is lost: the same one finds out.
    shop.next(&[Fault::CutAfter]);
    let lost = call(vec![push(1, 2, Some(1))]);
    let before = shop.showing("A").unwrap();
    assert_eq!(before, 1, "half an answer to a call that was carried out");
    assert_eq!(client.push(&lost).await.unwrap_err().verdict, again);
    client.push(&lost).await.unwrap();
    let missing = client.push(&call(vec![push(1, 9, Some(2)), push(5, 1, None)])).await.unwrap_err();
    let Verdict::Rejected(culprits) = &missing.verdict else { panic!("{missing:?}") };
    assert_eq!((culprits.len(), culprits[0].index), (1, Some(1)));
    assert_eq!(culprits[0].code, "INVALID_INVENTORY_ITEM");
    let reused = Call { pushes: vec![push(1, 4, None)], ..lost };
    assert_eq!(client.push(&reused).await.unwrap_err().verdict, Verdict::NewKey);
    shop.revoke_scopes();
    let denied = client.push(&call(vec![push(1, 1, None)])).await.unwrap_err();
    assert!(denied.verdict == Verdict::Broken && denied.cause.contains("ACCESS_DENIED"), "{denied:?}");
    assert_eq!(shop.showing("A").unwrap(), 2);
}

#[tokio::test]
async fn tokens_are_renewed_once_each() {
    let shop = strict::open(&[("A", 5)]).await;
    let mut client = open(&shop);
    for round in 1..4 {
        shop.expire_token();
        assert_eq!(client.read(&[item(1)]).await.unwrap_err().verdict, Verdict::Unauthorized);
        let renewed = client.renew().await.unwrap();
        assert_eq!((renewed.access_token, renewed.refresh_token), (shop.token(), shop.refresh()));
        assert_eq!((client.read(&[item(1)]).await.unwrap(), shop.tokens()), (vec![Some(5)], round));
    }
    let mut late = Shopify::open(
        http::client().unwrap(),
        &shop.url(),
        &connection(),
        credentials("old", Some("refresh_0".into())),
    )
    .unwrap();
    let refused = late.renew().await.unwrap_err();
    assert!(refused.verdict == Verdict::Broken && refused.cause.contains("connected again"), "{refused:?}");
}

#[tokio::test]
async fn the_bucket_is_spent_and_never_overdrawn() {
    let shop = strict::open(&[("A", 0)]).await;
    shop.plan(60, 400);
    let mut client = open(&shop);
    client.check().await.unwrap();
    for quantity in 1..=30 {
        client.push(&call(vec![push(1, quantity, Some(quantity - 1))])).await.unwrap();
    }
    let counts = shop.counts();
    assert_eq!((counts.throttled, counts.mutations, counts.violations), (0, 30, Vec::<String>::new()));
    let written: Vec<i64> = shop.history().into_iter().map(|(_, _, shown)| shown).collect();
    assert_eq!(written, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn notices_are_read_and_their_items_looked_up() {
    let shop = strict::open(&[("A", 5), ("B", 9)]).await;
    let mut client = open(&shop);
    let notice = |topic: &str, body: Value| Notice {
        id: "1".into(),
        topic: topic.into(),
        body: body.to_string().into_bytes(),
        at: Timestamp::from_micros(0),
    };
    let body = json!({ "id": 820_982_911_946_154_508_i64, "name": "#1001", "cancelled_at": null, "line_items": [
        { "variant_id": 2, "sku": "B", "quantity": 3, "current_quantity": 2, "price": "1.00" },
        { "variant_id": 77, "sku": "Z", "quantity": 1 }, { "variant_id": null, "sku": null, "quantity": 1 } ] });
    let News::Order(order) = client.news(&notice("orders/create", body.clone())).await.unwrap() else {
        panic!("no order")
    };
    let lines: Vec<_> = order.lines.iter().map(|line| (line.item.clone(), line.quantity)).collect();
    assert_eq!(lines, [(item(2), 2), (String::new(), 1), (String::new(), 1)]);
    assert_eq!((order.id.as_str(), order.name.as_str()), ("820982911946154508", "#1001"));
    let level =
        json!({ "inventory_item_id": 271_878_346_596_884_015_i64, "location_id": 1, "available": 10 });
    let told = client.news(&notice("inventory_levels/update", level.clone())).await.unwrap();
    assert_eq!(told, News::Level("gid://shopify/InventoryItem/271878346596884015".into()));
    let mut elsewhere = level;
    elsewhere["location_id"] = json!(2);
    assert_eq!(client.news(&notice("inventory_levels/update", elsewhere)).await.unwrap(), News::Nothing);
    assert_eq!(client.news(&notice("products/update", json!({}))).await.unwrap(), News::Nothing);
    let broken = client.news(&notice("orders/create", json!({ "id": "x" }))).await.unwrap_err();
    assert!(matches!(broken.verdict, Verdict::Rejected(_)), "{broken:?}");
}

#[test]
fn only_a_shops_own_domain_gets_a_token() {
    assert!(is_shop_domain("mi-tienda-2.myshopify.com"));
    let long = format!("{}.myshopify.com", "a".repeat(101));
    for bad in [
        "",
        "myshopify.com",
        ".myshopify.com",
        "a.b.myshopify.com",
        "A.myshopify.com",
        "x.myshopify.com.ar",
        "x.com/y.myshopify.com",
        "x@y.myshopify.com",
        "-x.myshopify.com",
        &long,
    ] {
        assert!(!is_shop_domain(bad), "{bad}");
    }
    let mut wrong = connection();
    wrong.account = "evil.example".into();
    let refused = Shopify::open(http::client().unwrap(), "http://x", &wrong, credentials("t", None));
    assert!(refused.is_err());
    assert_eq!(PLACE, "gid://shopify/Location/1");
}

#[tokio::test]
async fn news_that_is_not_told_any_more_is_subscribed_to_again() {
    let shop = strict::open(&[("A", 5)]).await;
    let mut nowhere = open(&shop);
    assert_eq!((nowhere.subscribe().await.unwrap(), shop.subscriptions().len()), (0, 0));
    let connection = connection();
    let mut client = open(&shop).told_at("https://blend.example/", &connection);
    assert_eq!((client.subscribe().await.unwrap(), client.subscribe().await.unwrap()), (5, 0));
    let at = format!("https://blend.example/api/v1/webhooks/shopify/{}", connection.id);
    assert!(shop.subscriptions().iter().all(|(_, uri)| *uri == at));
    shop.unsubscribe("ORDERS_PAID");
    assert_eq!((client.subscribe().await.unwrap(), shop.subscriptions().len()), (1, 5));
    let refused = open(&shop).told_at("http://blend.example", &connection).subscribe().await.unwrap_err();
    assert!(
        matches!(refused.verdict, Verdict::Rejected(_)) && refused.cause.contains("not valid"),
        "{refused:?}"
    );
    assert_eq!(shop.counts().violations, Vec::<String>::new());
}

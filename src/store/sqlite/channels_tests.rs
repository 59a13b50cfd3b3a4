//! Connections at rest.

use super::*;
use crate::domain::channel::Policy;
use crate::domain::ids::LocationId;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn connection(tenant: TenantId, account: &str) -> Connection {
    Connection {
        id: ConnectionId(Uuid::now_v7()),
        tenant,
        kind: ChannelKind::Shopify,
        name: "Tienda \"ñ\"".into(),
        account: account.into(),
        place: Some("1".into()),
        sources: vec![LocationId(Uuid::now_v7())],
        policy: Policy::default(),
        paused: false,
        created_at: at(1),
    }
}

async fn file() -> (tempfile::TempDir, Channels) {
    let dir = tempfile::tempdir().unwrap();
    let channels = Channels::open(&dir.path().join("channels.db")).await.unwrap();
    (dir, channels)
}

fn sealed(byte: u8) -> Sealed {
    Sealed { key_id: format!("k{byte}"), bytes: vec![byte; 3] }
}

#[tokio::test]
async fn connections_are_kept_with_their_credentials_and_an_account_is_connected_once() {
    let (dir, channels) = file().await;
    let mut one = connection(TenantId(Uuid::now_v7()), "a");
    channels.save(&one, Some(&sealed(1))).await.unwrap();
    let thief = connection(TenantId(Uuid::now_v7()), "a");
    let refused = channels.save(&thief, Some(&sealed(2))).await.unwrap_err();
    assert!(matches!(refused, PortError::Permanent(_)), "{refused}");
    (one.paused, one.name, one.policy.buffer) = (true, "Otra".into(), crate::fixtures::whole(2));
    channels.save(&one, None).await.unwrap();
    channels.close().await.unwrap();
    let channels = Channels::open(&dir.path().join("channels.db")).await.unwrap();
    assert_eq!(channels.connections().await.unwrap(), [(one.clone(), sealed(1))]);
    channels.save(&one, Some(&sealed(3))).await.unwrap();
    assert_eq!(channels.connections().await.unwrap(), [(one.clone(), sealed(3))]);
    // Without credentials there is no first time.
    assert!(channels.save(&connection(one.tenant, "b"), None).await.is_err());
    channels.remove(one.tenant, one.id).await.unwrap();
    assert!(channels.connections().await.unwrap().is_empty());
    channels.save(&thief, Some(&sealed(2))).await.unwrap();
}

#[tokio::test]
async fn what_is_confirmed_is_kept_and_ends_the_failures_about_it() {
    let (_dir, channels) = file().await;
    let one = connection(TenantId(Uuid::now_v7()), "a");
    let other = connection(one.tenant, "b");
    for connection in [&one, &other] {
        channels.save(connection, Some(&sealed(1))).await.unwrap();
    }
    let units: Vec<UnitId> = (0..3).map(|_| UnitId(Uuid::now_v7())).collect();
    let mapping = |unit: UnitId, item: &str, shown| Mapping { unit, item: item.into(), shown };
    let first =
        [mapping(units[0], "i0", None), mapping(units[1], "i1", Some(4)), mapping(units[2], "i2", None)];
    for connection in [&one, &other] {
        channels.map(one.tenant, connection.id, &first).await.unwrap();
    }
    let failure = |unit, second| Failure {
        unit,
        code: "GONE".into(),
        cause: "no está".into(),
        request: "{}".into(),
        response: "r".into(),
        attempts: 3,
        at: at(second),
    };
    channels.fail(one.tenant, one.id, &[failure(units[0], 5), failure(units[1], 6)]).await.unwrap();
    channels.fail(one.tenant, one.id, &[failure(units[0], 7)]).await.unwrap();
    let failed = async || channels.failures(one.tenant, one.id, 9).await.unwrap();
    assert_eq!(failed().await, [failure(units[0], 7), failure(units[1], 6)]);
    // A confirmation from before the failure does not end it.
    channels.shown(one.tenant, one.id, &[(units[0], Some(1))], at(6)).await.unwrap();
    assert_eq!(failed().await.len(), 2);
    let shown = [(units[0], Some(-2)), (units[1], None), (UnitId(Uuid::now_v7()), Some(9))];
    channels.shown(one.tenant, one.id, &shown, at(8)).await.unwrap();
    assert!(failed().await.is_empty());
    let mut found = channels.mappings(one.tenant, one.id).await.unwrap();
    found.sort_by(|one, other| one.item.cmp(&other.item));
    assert_eq!(
        found,
        [mapping(units[0], "i0", Some(-2)), mapping(units[1], "i1", None), mapping(units[2], "i2", None)]
    );
    // An item moves to another unit: neither is there twice.
    channels.map(one.tenant, one.id, &[mapping(units[2], "i0", Some(5))]).await.unwrap();
    let mut found = channels.mappings(one.tenant, one.id).await.unwrap();
    found.sort_by(|one, other| one.item.cmp(&other.item));
    assert_eq!(found, [mapping(units[2], "i0", Some(5)), mapping(units[1], "i1", None)]);
    assert_eq!(channels.mappings(one.tenant, other.id).await.unwrap().len(), 3);
    assert!(channels.mappings(TenantId(Uuid::now_v7()), one.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn news_is_taken_in_once_and_done_once() {
    let (_dir, channels) = file().await;
    let one = connection(TenantId(Uuid::now_v7()), "a");
    channels.save(&one, Some(&sealed(1))).await.unwrap();
    let notice = |id: &str, second| Notice {
        id: id.into(),
        topic: "orders/create".into(),
        body: vec![0, 255, 7],
        at: at(second),
    };
    for (id, second, new) in [("b", 2, true), ("a", 1, true), ("b", 3, false)] {
        let received = channels.receive(one.tenant, one.id, &notice(id, second)).await.unwrap();
        assert_eq!(received, new, "{id}");
    }
    let waiting = channels.notices(one.tenant, one.id, 9).await.unwrap();
    assert_eq!(waiting, [notice("a", 1), notice("b", 2)]);
    let mut order = OrderRecord {
        id: "77".into(),
        name: "#77".into(),
        sale: Some(SaleId(Uuid::now_v7())),
        state: "vendido".into(),
        remark: String::new(),
        at: at(4),
    };
    channels.done(one.tenant, one.id, "a", Some(&order)).await.unwrap();
    assert!(!channels.receive(one.tenant, one.id, &notice("a", 9)).await.unwrap());
    // A later word about the order keeps its sale.
    let cancelled = OrderRecord { sale: None, state: "cancelado".into(), at: at(5), ..order.clone() };
    channels.done(one.tenant, one.id, "b", Some(&cancelled)).await.unwrap();
    order.state = "cancelado".into();
    order.at = at(5);
    assert_eq!(channels.order(one.tenant, one.id, "77").await.unwrap(), Some(order.clone()));
    assert_eq!(channels.orders(one.tenant, one.id, 9).await.unwrap(), [order]);
    assert_eq!(channels.order(one.tenant, one.id, "78").await.unwrap(), None);
    assert!(channels.notices(one.tenant, one.id, 9).await.unwrap().is_empty());
}

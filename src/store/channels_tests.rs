//! What every store of connections must do, as functions over an empty one. An adapter's tests call each of them.

use crate::domain::channel::{ChannelKind, Connection, Policy};
use crate::domain::ids::{ConnectionId, LocationId, SaleId, TenantId, UnitId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::channel::{ChannelStore, Failure, GivenUp, Mapping, Notice, OrderRecord, Sealed, Settled};
use std::time::Duration;
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

pub fn connection(tenant: TenantId, account: &str) -> Connection {
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

/// Connected, by whoever looks after it.
pub async fn connect(channels: &dyn ChannelStore, connection: &Connection, sealed: &Sealed) {
    assert!(channels.claim_one(connection.tenant, connection.id.0).await.unwrap());
    channels.save(connection, Some(sealed)).await.unwrap();
}

pub fn sealed(byte: u8) -> Sealed {
    Sealed { key_id: format!("k{byte}"), bytes: vec![byte; 3] }
}

pub async fn connections_are_kept_with_their_credentials_and_an_account_is_connected_once(
    channels: &dyn ChannelStore,
) {
    let mut one = connection(TenantId(Uuid::now_v7()), "a");
    connect(channels, &one, &sealed(1)).await;
    let thief = connection(TenantId(Uuid::now_v7()), "a");
    assert!(channels.claim_one(thief.tenant, thief.id.0).await.unwrap());
    let refused = channels.save(&thief, Some(&sealed(2))).await.unwrap_err();
    assert!(matches!(refused, PortError::Permanent(_)), "{refused}");
    (one.paused, one.name, one.policy.buffer) = (true, "Otra".into(), crate::fixtures::whole(2));
    channels.save(&one, None).await.unwrap();
    assert_eq!(channels.connections().await.unwrap(), [(one.clone(), sealed(1))]);
    channels.save(&one, Some(&sealed(3))).await.unwrap();
    assert_eq!(channels.connections().await.unwrap(), [(one.clone(), sealed(3))]);
    assert_eq!(channels.connection(one.tenant, one.id).await.unwrap(), Some((one.clone(), sealed(3))));
    assert_eq!(channels.connection(thief.tenant, one.id).await.unwrap(), None);
    // Without credentials there is no first time.
    let new = connection(one.tenant, "b");
    assert!(channels.claim_one(new.tenant, new.id.0).await.unwrap());
    assert!(channels.save(&new, None).await.is_err());
    channels.remove(one.tenant, one.id).await.unwrap();
    assert!(channels.connections().await.unwrap().is_empty());
    channels.save(&thief, Some(&sealed(2))).await.unwrap();
}

pub async fn credentials_are_changed_by_whoever_got_them_for_those_at_rest(channels: &dyn ChannelStore) {
    let one = connection(TenantId(Uuid::now_v7()), "a");
    connect(channels, &one, &sealed(1)).await;
    let patience = Duration::from_secs(30);
    let renewing =
        async |from: u8| channels.renewing(one.tenant, one.id, &sealed(from), patience).await.unwrap();
    let renewed = async |from: u8, fresh: u8| {
        channels.renewed(one.tenant, one.id, &sealed(from), &sealed(fresh)).await.unwrap()
    };
    assert_eq!(renewing(1).await, None, "nobody was faster");
    assert!(renewed(1, 2).await);
    assert_eq!(renewing(1).await, Some(sealed(2)), "somebody was");
    assert!(!renewed(1, 3).await, "they were given for others than those at rest");
    assert_eq!(channels.connections().await.unwrap(), [(one.clone(), sealed(2))]);
    let lost = channels.hold(&[(one.tenant, one.id.0)]).await.unwrap();
    assert!(lost.is_empty());
    channels.release(&[(one.tenant, one.id.0)]).await.unwrap();
    assert!(channels.claim_one(one.tenant, one.id.0).await.unwrap());
}

pub async fn what_is_confirmed_is_kept_and_ends_the_failures_about_it(channels: &dyn ChannelStore) {
    let one = connection(TenantId(Uuid::now_v7()), "a");
    let other = connection(one.tenant, "b");
    for connection in [&one, &other] {
        connect(channels, connection, &sealed(1)).await;
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

pub async fn news_is_taken_in_once_and_done_once(channels: &dyn ChannelStore) {
    let one = connection(TenantId(Uuid::now_v7()), "a");
    connect(channels, &one, &sealed(1)).await;
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
    assert_eq!(channels.with_news().await.unwrap(), [one.id]);
    let mut order = OrderRecord {
        id: "77".into(),
        name: "#77".into(),
        sale: Some(SaleId(Uuid::now_v7())),
        state: "vendido".into(),
        remark: String::new(),
        version: at(0),
        at: at(4),
    };
    channels.done(one.tenant, one.id, &settled("a", &order)).await.unwrap();
    assert!(!channels.receive(one.tenant, one.id, &notice("a", 9)).await.unwrap());
    // A later word about the order keeps its sale.
    let cancelled = OrderRecord { sale: None, state: "cancelado".into(), at: at(5), ..order.clone() };
    channels.done(one.tenant, one.id, &settled("b", &cancelled)).await.unwrap();
    order.state = "cancelado".into();
    order.at = at(5);
    assert_eq!(channels.order(one.tenant, one.id, "77").await.unwrap(), Some(order.clone()));
    assert_eq!(channels.orders(one.tenant, one.id, 9).await.unwrap(), [order]);
    assert_eq!(channels.order(one.tenant, one.id, "78").await.unwrap(), None);
    assert!(channels.notices(one.tenant, one.id, 9).await.unwrap().is_empty());
    assert!(channels.with_news().await.unwrap().is_empty());
}

fn settled(notice: &str, order: &OrderRecord) -> Settled {
    Settled { notice: notice.into(), order: Some(order.clone()), ..Settled::default() }
}

pub async fn what_is_given_up_is_listed_revived_and_forgotten_with_its_order(channels: &dyn ChannelStore) {
    let one = connection(TenantId(Uuid::now_v7()), "a");
    connect(channels, &one, &sealed(1)).await;
    let (tenant, id) = (one.tenant, one.id);
    let receive = async |notice: &str, second| {
        let body = notice.as_bytes().to_vec();
        let notice = Notice { id: notice.into(), topic: "orders/create".into(), body, at: at(second) };
        channels.receive(tenant, id, &notice).await.unwrap()
    };
    let give_up = async |notice: &str, order: Option<&str>, second| {
        let given_up = GivenUp {
            notice: notice.into(),
            topic: "orders/create".into(),
            order: order.map(str::to_owned),
            code: "sin_stock".into(),
            cause: "falta".into(),
            response: "r".into(),
            at: at(second),
        };
        let settled = Settled { notice: notice.into(), given_up: Some(given_up), ..Settled::default() };
        channels.done(tenant, id, &settled).await.unwrap();
    };
    for (second, notice) in (1..).zip(["a/1", "b", "c"]) {
        assert!(receive(notice, second).await);
        give_up(notice, Some(notice).filter(|notice| *notice != "c"), second).await;
    }
    let unit = UnitId(Uuid::now_v7());
    let failure = Failure {
        unit,
        code: "GONE".into(),
        cause: "no está".into(),
        request: "q".into(),
        response: "r".into(),
        attempts: 3,
        at: at(2),
    };
    channels.fail(tenant, id, &[failure]).await.unwrap();
    let letters = channels.letters(9).await.unwrap();
    let ids: Vec<_> = letters.iter().map(|letter| letter.id.clone()).collect();
    let notice = |notice: &str| format!("aviso/{id}/{notice}");
    assert_eq!((ids[0].clone(), ids[3].clone()), (notice("a/1"), notice("c")));
    assert!(ids.contains(&notice("b")) && ids.contains(&format!("envio/{id}/{unit}")));
    assert_eq!((channels.letters(2).await.unwrap().len(), channels.letter_count().await.unwrap()), (2, 4));
    let first = &letters[0];
    assert_eq!((first.payload.as_slice(), first.cause.as_str()), (b"a/1".as_slice(), "sin_stock: falta"));
    assert_eq!((first.group.as_str(), first.tenant.clone()), ("queue.sync.shopify", tenant.to_string()));
    // Taken up twice at once it is given up once, and still there.
    give_up("b", Some("b"), 9).await;
    assert_eq!(channels.letter_count().await.unwrap(), 4);
    // Told again it is still known; revived it waits as it came.
    assert!(!receive("a/1", 9).await && channels.notices(tenant, id, 9).await.unwrap().is_empty());
    assert_eq!(channels.revive(tenant, id, Some("a/1")).await.unwrap(), 1);
    assert_eq!(channels.notices(tenant, id, 9).await.unwrap()[0].body, b"a/1");
    // Whatever becomes of its order ends what was given up about it.
    let order = OrderRecord {
        id: "b".into(),
        name: "#b".into(),
        sale: None,
        state: "cancelado".into(),
        remark: String::new(),
        version: at(0),
        at: at(5),
    };
    channels.done(tenant, id, &settled("a/1", &order)).await.unwrap();
    assert_eq!(channels.given_up(tenant, id, 9).await.unwrap()[0].notice, "c");
    assert_eq!(channels.forget(tenant, id, &[unit, UnitId(Uuid::now_v7())]).await.unwrap(), 1);
    assert!(!channels.bury(tenant, id, "b").await.unwrap() && channels.bury(tenant, id, "c").await.unwrap());
    assert_eq!(
        (channels.letter_count().await.unwrap(), channels.revive(tenant, id, None).await.unwrap()),
        (0, 0)
    );
}

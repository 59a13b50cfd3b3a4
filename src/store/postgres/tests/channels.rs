//! The contracts of connections and webhooks, and what several processes that share them may do.

use super::*;
use crate::domain::hook::News;
use crate::domain::ids::UnitId;
use crate::domain::ids::{ConnectionId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::channel::{ChannelStore as _, Mapping, Settled};
use crate::ports::hooks::{Attempt, Fate, HookStore as _};
use crate::ports::leases::Leases as _;
use crate::store::channels_contract::{connect, connection, sealed};
use crate::store::hooks_contract::{hook, message, subscribe};
use crate::store::{channels_contract, hooks_contract};
use std::collections::HashSet;
use uuid::Uuid;

/// Calls each function of a contract on empty tables of its own.
macro_rules! keep_the_contract {
    ($cluster:expr; $contract:ident: $($name:ident),+ $(,)?) => {$(
        println!("{}", stringify!($name));
        let home = $cluster.home().await;
        let channels = home.ledger.channels();
        $contract::$name(&channels).await;
        channels.close().await;
    )+};
}

#[tokio::test]
async fn the_contracts_of_connections_and_webhooks_are_kept() {
    let cluster = Cluster::start().await;
    keep_the_contract! {
        cluster; channels_contract:
        connections_are_kept_with_their_credentials_and_an_account_is_connected_once,
        credentials_are_changed_by_whoever_got_them_for_those_at_rest,
        what_is_confirmed_is_kept_and_ends_the_failures_about_it,
        news_is_taken_in_once_and_done_once,
        what_is_given_up_is_listed_revived_and_forgotten_with_its_order,
    }
    keep_the_contract! {
        cluster; hooks_contract:
        who_wants_it_is_told_once_and_in_order,
        what_is_refused_is_a_letter_until_it_is_sent_again_or_forgotten,
        an_alarm_is_told_once_until_it_is_over,
    }
}

/// As if so much time had passed for the server.
async fn expire(home: &Database, id: Uuid) {
    let sql = "UPDATE leases SET until = micros_now() - 1 WHERE id = $1";
    sqlx::query(sql).bind(id).execute(&mut home.connect().await).await.unwrap();
}

#[tokio::test]
async fn what_is_claimed_is_one_process_s_and_a_later_one_shuts_the_earlier_out() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let (first, second) = (home.ledger.channels(), home.ledger.channels());
    let one = connection(TenantId(Uuid::now_v7()), "a");
    let (tenant, id) = (one.tenant, one.id);
    assert!(first.save(&one, Some(&sealed(1))).await.is_err(), "nobody looks after it");
    connect(&first, &one, &sealed(1)).await;
    assert!(!second.claim_one(tenant, id.0).await.unwrap());
    let mapping = [Mapping { unit: UnitId(Uuid::now_v7()), item: "i".into(), shown: None }];
    assert!(second.map(tenant, id, &mapping).await.unwrap_err().is_transient());
    first.map(tenant, id, &mapping).await.unwrap();
    // It was paused for longer than its claim lasts, but nobody wanted it.
    expire(&home, id.0).await;
    first.shown(tenant, id, &[(mapping[0].unit, Some(3))], Timestamp::from_micros(1)).await.unwrap();
    assert!(!second.claim_one(tenant, id.0).await.unwrap(), "writing is holding");
    expire(&home, id.0).await;
    assert!(second.claim_one(tenant, id.0).await.unwrap());
    // The first goes on: nothing of it is taken, and it is told.
    for refused in [
        first.map(tenant, id, &mapping).await,
        first.shown(tenant, id, &[(mapping[0].unit, Some(9))], Timestamp::from_micros(2)).await,
        first.save(&one, Some(&sealed(9))).await,
        first.fail(tenant, id, &[]).await,
        first.unmap(tenant, id, mapping[0].unit).await.map(drop),
        first.done(tenant, id, &Settled { notice: "n".into(), ..Settled::default() }).await,
        first.renewing(tenant, id, &sealed(1), Duration::from_secs(9)).await.map(drop),
    ] {
        assert!(refused.unwrap_err().is_transient());
    }
    assert_eq!(first.hold(&[(tenant, id.0)]).await.unwrap(), [id.0]);
    assert!(!first.claim_one(tenant, id.0).await.unwrap());
    assert_eq!(second.mappings(tenant, id).await.unwrap()[0].shown, Some(3));
    // Another's claim is not let go, its own is.
    first.release(&[(tenant, id.0)]).await.unwrap();
    assert!(!first.claim_one(tenant, id.0).await.unwrap());
    assert!(second.hold(&[(tenant, id.0)]).await.unwrap().is_empty());
    second.release_all().await.unwrap();
    assert!(first.claim_one(tenant, id.0).await.unwrap(), "whoever ends in order keeps nobody waiting");
}

/// When a node dies, whoever goes on takes everything at once.
#[tokio::test]
async fn many_are_claimed_and_let_go_at_once_each_in_the_name_of_its_tenant() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let (first, second) = (home.ledger.channels(), home.ledger.channels());
    let all: Vec<_> = (0..300).map(|_| (TenantId(Uuid::now_v7()), Uuid::now_v7())).collect();
    let (some, others) = all.split_at(100);
    let ids = |of: &[(TenantId, Uuid)]| of.iter().map(|(_, id)| *id).collect::<HashSet<_>>();
    assert!(first.claim(&[]).await.unwrap().is_empty());
    let claimed = first.claim(some).await.unwrap();
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), ids(some));
    let (one, other) = tokio::join!(first.claim(&all), second.claim(&all));
    let (one, other): (HashSet<_>, HashSet<_>) =
        (one.unwrap().into_iter().collect(), other.unwrap().into_iter().collect());
    assert!(one.is_disjoint(&other) && one.is_superset(&ids(some)));
    assert_eq!(one.union(&other).copied().collect::<HashSet<_>>(), ids(&all));
    let lost: HashSet<_> = first.hold(&all).await.unwrap().into_iter().collect();
    assert_eq!(lost, other);
    // Only one's own are let go.
    first.release(others).await.unwrap();
    second.release(some).await.unwrap();
    let free: HashSet<_> = second.claim(&all).await.unwrap().into_iter().collect();
    assert_eq!(free, ids(others));
    first.release_all().await.unwrap();
    assert_eq!(second.claim(some).await.unwrap().len(), some.len());
}

/// A refresh token is good for one use.
#[tokio::test]
async fn nobody_takes_a_connection_while_its_credentials_are_renewed_and_what_was_given_is_kept() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let (first, second) = (home.ledger.channels(), home.ledger.channels());
    let one = connection(TenantId(Uuid::now_v7()), "a");
    let (tenant, id) = (one.tenant, one.id);
    connect(&first, &one, &sealed(1)).await;
    assert_eq!(first.renewing(tenant, id, &sealed(1), Duration::from_secs(30)).await.unwrap(), None);
    assert!(first.hold(&[(tenant, id.0)]).await.unwrap().is_empty());
    let left = "SELECT (until - micros_now()) / 1000000 FROM leases WHERE id = $1";
    let left = async || -> i64 {
        sqlx::query_scalar(left).bind(id.0).fetch_one(&mut home.connect().await).await.unwrap()
    };
    assert!(left().await > 20, "holding on does not shorten it");
    // It was paused for longer than that, and what it asked for arrived all the same.
    expire(&home, id.0).await;
    assert!(second.claim_one(tenant, id.0).await.unwrap());
    assert!(first.renewed(tenant, id, &sealed(1), &sealed(2)).await.unwrap());
    assert_eq!(
        second.renewing(tenant, id, &sealed(1), Duration::from_secs(30)).await.unwrap(),
        Some(sealed(2))
    );
    assert!(left().await < 10, "nothing was asked for");
    assert_eq!(second.renewing(tenant, id, &sealed(2), Duration::from_secs(30)).await.unwrap(), None);
    assert!(second.renewed(tenant, id, &sealed(2), &sealed(3)).await.unwrap());
    assert!(left().await < 10, "whoever waits need not wait longer");
    assert!(!first.renewed(tenant, id, &sealed(2), &sealed(4)).await.unwrap());
    assert_eq!(second.connections().await.unwrap()[0].1, sealed(3));
    assert_eq!(second.connection(tenant, ConnectionId(Uuid::now_v7())).await.unwrap(), None);
}

#[tokio::test]
async fn a_webhook_is_sent_to_by_one_process() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let (first, second) = (home.ledger.channels(), home.ledger.channels());
    let tenant = TenantId(Uuid::now_v7());
    let receiver = hook(tenant, &[News::SaleCreated]);
    subscribe(&first, &receiver).await;
    // Anybody may have something to tell.
    assert_eq!(second.tell(&[message(tenant, News::SaleCreated, "a")]).await.unwrap(), 1);
    assert!(second.next(tenant, receiver.id).await.is_err());
    let waiting = first.next(tenant, receiver.id).await.unwrap().unwrap();
    expire(&home, receiver.id.0).await;
    assert!(second.claim_one(tenant, receiver.id.0).await.unwrap());
    let attempt = Attempt {
        position: waiting.position,
        fate: Fate::Delivered,
        status: Some(200),
        response: String::new(),
        at: Timestamp::from_micros(3),
    };
    assert!(first.tried(tenant, receiver.id, &attempt).await.is_err());
    assert!(first.save_hook(&receiver, None).await.is_err());
    assert_eq!(second.next(tenant, receiver.id).await.unwrap().unwrap().id, "a");
}

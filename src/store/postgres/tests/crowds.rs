//! Two writers at once: one that was taken for dead and goes on, and the one that took over.

use super::contract::chains_are_whole;
use super::*;
use crate::domain::event::Event;
use crate::fixtures::{Shop, whole};
use crate::ports::ledger::Applied;
use crate::store::contract::snapshot;
use std::time::Instant;
use tokio::sync::Notify;

/// Many batches of the shops' sales, all shops in each.
fn sales(shops: &mut [Shop], batches: usize, size: usize) -> Vec<Vec<Arc<Event>>> {
    let batch =
        |_| (0..size).flat_map(|_| shops.iter_mut().map(|shop| shop.sold(1)).collect::<Vec<_>>()).collect();
    (0..batches).map(batch).collect()
}

/// D31 and D32: the same events applied by two writers at the same time, each in its own batches and order of tenants.
#[tokio::test]
async fn d31_d32_two_writers_of_the_same_events_write_each_once() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let mut shops = vec![Shop::new(2), Shop::new(2), Shop::new(2)];
    let opened: Vec<Vec<_>> = shops.iter_mut().map(|shop| shop.opened(1_000)).collect();
    let mut batches = vec![opened.concat()];
    batches.extend(sales(&mut shops, 12, 10));
    let all: Vec<Arc<Event>> = batches.concat();
    let (mut one, mut other) = ((home.store())().await.unwrap(), (home.store())().await.unwrap());
    // Each has something to itself before both go on at once, so that they do meet.
    let (opened, begun) = (Notify::new(), Notify::new());
    let old = async {
        let mut sum = Applied::default();
        for (number, batch) in batches.iter().enumerate() {
            let applied = one.apply(batch).await.unwrap();
            sum.events += applied.events;
            sum.sales += applied.sales;
            if number == 0 {
                opened.notify_one();
                begun.notified().await;
            }
        }
        sum
    };
    let new = async {
        let mut sum = Applied::default();
        opened.notified().await;
        // Other bounds between batches, and the tenants the other way round.
        for batch in all.chunks(47) {
            let mut batch = batch.to_vec();
            batch.sort_by_key(|event| (std::cmp::Reverse(event.tenant), event.sequence));
            let applied = other.apply(&batch).await.unwrap();
            sum.events += applied.events;
            sum.sales += applied.sales;
            begun.notify_one();
        }
        sum
    };
    let (old, new) = tokio::join!(old, new);
    assert_eq!((old.events + new.events, old.sales + new.sales), (all.len(), 360));
    assert!(old.events > 0 && new.events > 0, "they did not meet: {old:?} {new:?}");
    for shop in &shops {
        let found = snapshot(&home, shop.id()).await;
        assert_eq!((found.sequence, found.holes.len()), (123, 0));
        let stock: std::collections::HashMap<_, _> = found.stock.into_iter().collect();
        assert_eq!(stock[&(shop.units[0].id, shop.here())], whole(1_000 - 120));
    }
    chains_are_whole(&home, &shops).await;
}

/// The old writer stopped inside its transaction: the server ends that, and the new one goes on.
#[tokio::test]
async fn a_writer_that_froze_with_the_lock_does_not_keep_it() {
    let cluster = Cluster::start().await;
    let url = cluster.database().await;
    let limits = PostgresSettings { timeout: Duration::from_secs(2), ..settings(url.clone()) };
    let home = Database { ledger: Ledger::open(&limits).await.unwrap(), url };
    let mut shop = Shop::new(1);
    let mut store = (home.store())().await.unwrap();
    store.apply(&shop.opened(10)).await.unwrap();
    let mut frozen = home.connect_as_blend().await;
    sqlx::raw_sql("BEGIN").execute(&mut frozen).await.unwrap();
    let take =
        format!("SELECT set_config('blend.tenant', '{}', true); SELECT * FROM applied FOR UPDATE", shop.id());
    let locked = sqlx::raw_sql(AssertSqlSafe(take)).fetch_all(&mut frozen).await.unwrap();
    assert_eq!(locked.len(), 2, "the setting, and the mark that is locked");
    let sale = [shop.sold(1)];
    let began = Instant::now();
    while let Err(error) = store.apply(&sale).await {
        assert!(error.is_transient(), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{error}");
    }
    assert_eq!(snapshot(&home, shop.id()).await.sequence, 4);
    sqlx::raw_sql("COMMIT").execute(&mut frozen).await.expect_err("its session was ended");
}

/// The answer to a commit was lost: the same batch again finds itself applied.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_harmless_and_errors_are_told_apart() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let mut shop = Shop::new(1);
    let mut store = (home.store())().await.unwrap();
    store.apply(&shop.opened(10)).await.unwrap();
    let mut admin = home.connect().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'blend' AND datname = current_database()";
    // Committed by a writer whose caller never heard of it.
    let sale = [shop.sold(1)];
    drop((home.store())().await.unwrap().apply(&sale).await);
    sqlx::raw_sql(end).execute(&mut admin).await.unwrap();
    let lost = store.apply(&sale).await.unwrap_err();
    assert!(lost.is_transient(), "{lost:?}");
    assert_eq!(store.apply(&sale).await.unwrap(), Applied { events: 0, duplicates: 1, sales: 0 });
    // Read-only, as a standby is: passing.
    let next = [shop.sold(1)];
    sqlx::raw_sql("ALTER ROLE postgres SET default_transaction_read_only = on")
        .execute(&mut admin)
        .await
        .unwrap();
    let mut standby = (home.store())().await.unwrap();
    let error = standby.apply(&next).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("25006"), "{error:?}");
    sqlx::raw_sql("ALTER ROLE postgres RESET default_transaction_read_only")
        .execute(&mut admin)
        .await
        .unwrap();
    assert_eq!(standby.apply(&next).await.unwrap().events, 1);
    // A right that was taken away is not the event's fault.
    let next = [shop.sold(1)];
    sqlx::raw_sql("REVOKE INSERT ON sales FROM blend_app").execute(&mut admin).await.unwrap();
    let error = store.apply(&next).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("permission denied"), "{error:?}");
    sqlx::raw_sql("GRANT INSERT ON sales TO blend_app").execute(&mut admin).await.unwrap();
    assert_eq!(store.apply(&next).await.unwrap().events, 1);
    // What the data can never do is permanent, and says which rule.
    let mut twice = (*shop.sold(1)).clone();
    twice.body = next[0].body.clone();
    let error = store.apply(&[Arc::new(twice)]).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("sales_pkey"), "{error:?}");
}

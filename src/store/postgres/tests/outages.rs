//! The server dies and comes back.

use super::contract::chains_are_whole;
use super::*;
use crate::domain::event::Event;
use crate::fixtures::{Shop, sale_of, whole};
use crate::store::contract::snapshot;
use tokio::sync::watch;

/// D21: nothing is given up because the database restarts; nothing is lost or doubled by it either.
#[tokio::test]
async fn d21_a_server_killed_while_batches_are_applied_loses_and_doubles_nothing() {
    const BATCHES: usize = 60;
    const KILLS: usize = 3;
    let mut cluster = Cluster::start().await;
    let home = cluster.home().await;
    let mut shop = Shop::new(2);
    let mut store = (home.store())().await.unwrap();
    store.apply(&shop.opened(10_000)).await.unwrap();
    let batches: Vec<Vec<Arc<Event>>> = (0..BATCHES)
        .map(|n| (0..20).map(|i| shop.sold_at(0, &[(0, 1), (1, 1)], Some(&format!("k-{n}-{i}")))).collect())
        .collect();
    let (applied, mut seen) = watch::channel(0);
    let mut failed = 0;
    let write = async {
        for batch in &batches {
            // As the ledger writer does: again until it works.
            loop {
                match store.apply(batch).await {
                    Ok(done) => {
                        assert_eq!(done.events + done.duplicates, batch.len());
                        assert!(
                            done.events == 0 || done.duplicates == 0,
                            "a part of a batch was kept: {done:?}"
                        );
                        break;
                    }
                    Err(error) => {
                        assert!(error.is_transient(), "{error:?}");
                        failed += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            applied.send_modify(|applied| *applied += 1);
        }
    };
    let kill = async {
        for round in 1..=KILLS {
            seen.wait_for(|applied| *applied >= BATCHES * round / (KILLS + 1)).await.unwrap();
            cluster.server.kill();
            cluster.server.restart().await;
        }
    };
    tokio::join!(write, kill);
    assert!(failed >= KILLS, "the writer noticed {failed} of {KILLS} deaths");
    // Every sale is there, once, through the pool whose connections died too.
    let found = snapshot(&home, shop.id()).await;
    assert_eq!((found.sequence, found.holes.len()), (3 + 20 * BATCHES as u64, 0));
    let stock: std::collections::HashMap<_, _> = found.stock.into_iter().collect();
    assert_eq!(stock[&(shop.units[1].id, shop.here())], whole(10_000 - 20 * BATCHES as i64));
    let mut owner = home.connect().await;
    let counted = "SELECT (SELECT count(*) FROM sales), (SELECT count(*) FROM sale_lines), (SELECT count(*) FROM ledger)";
    let counted: (i64, i64, i64) = sqlx::query_as(counted).fetch_one(&mut owner).await.unwrap();
    let sales = 20 * BATCHES as i64;
    assert_eq!(counted, (sales, 2 * sales, 2 * sales + 2));
    for event in batches.concat() {
        let found = home.reader().sale(shop.id(), sale_of(&event).id).await.unwrap();
        assert_eq!(&found.expect("it is there").sale, sale_of(&event));
    }
    chains_are_whole(&home, &[shop]).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_passing_trouble_that_takes_no_longer_than_the_limit() {
    let mut cluster = Cluster::start().await;
    let url = cluster.database().await;
    let limits = PostgresSettings { timeout: Duration::from_secs(2), ..settings(url) };
    let ledger = Ledger::open(&limits).await.unwrap();
    let mut shop = Shop::new(1);
    let opened = shop.opened(1);
    let mut store = ledger.store()().await.unwrap();
    cluster.server.kill();
    let began = std::time::Instant::now();
    for error in [
        store.apply(&opened).await.unwrap_err(),
        store.give_up(&opened[0], "no").await.unwrap_err(),
        ledger.reader().snapshots(0, 1).await.unwrap_err(),
        ledger.reader().given_up(0, 1).await.unwrap_err(),
        ledger.reader().key_hashes(None, 1).await.unwrap_err(),
        Ledger::open(&limits).await.map(|_| ()).unwrap_err(),
    ] {
        assert!(error.is_transient(), "{error:?}");
        assert!(!error.to_string().contains("secreto"), "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    // Something that accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u:secreto@{}/d?sslmode=disable", silent.local_addr().unwrap());
    let error = Ledger::open(&PostgresSettings { url, ..limits }).await.map(|_| ()).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("took longer"), "{error:?}");
    cluster.server.restart().await;
    assert_eq!(store.apply(&opened).await.unwrap().events, 3);
    assert_eq!(ledger.reader().snapshots(0, 1).await.unwrap().len(), 1);
}

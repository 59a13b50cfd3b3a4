//! Batches that PostgreSQL takes in its own way.

use super::contract::chains_are_whole;
use super::*;
use crate::domain::event::MovementKind;
use crate::fixtures::Shop;
use crate::ports::ledger::Applied;
use crate::store::contract::snapshot;

#[tokio::test]
async fn what_a_batch_changes_twice_is_as_the_last_event_says() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let mut shop = Shop::new(3);
    let mut batch = shop.opened(5);
    // Two units exchange their SKUs, and one is renamed after it; one text has what PostgreSQL cannot hold.
    let (first, second) = (shop.units[0].sku.clone(), shop.units[1].sku.clone());
    Arc::make_mut(&mut shop.units[0]).sku = second;
    Arc::make_mut(&mut shop.units[1]).sku = first;
    batch.push(shop.catalogued());
    Arc::make_mut(&mut shop.units[1]).name = "Otro\0nombre".into();
    batch.push(shop.catalogued());
    batch.push(shop.moved(MovementKind::Adjustment, &[(0, 0, -2), (0, 0, 3), (0, 1, 1)]));
    let mut store = (home.store())().await.unwrap();
    store.apply(&batch[..3]).await.unwrap();
    assert_eq!(store.apply(&batch).await.unwrap(), Applied { events: 3, duplicates: 3, sales: 0 });
    Arc::make_mut(&mut shop.units[1]).name = "Otro\u{FFFD}nombre".into();
    shop.units.sort_by_key(|unit| unit.id);
    let found = snapshot(&home, shop.id()).await;
    assert_eq!((&found.units, found.stock.len()), (&shop.units, 4));
    chains_are_whole(&home, &[shop]).await;
}

/// The server plans how it checks references while there is hardly a unit; the plan must not outlive that, or checking
/// them takes the square of their number, which is longer than the time limit.
#[tokio::test]
async fn a_large_catalogue_behind_a_small_one_is_written_in_time() {
    const UNITS: usize = 20_000;
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let mut store = (home.store())().await.unwrap();
    let mut small = Shop::new(1);
    store.apply(&small.opened(100)).await.unwrap();
    for _ in 0..10 {
        store.apply(&[small.sold(1)]).await.unwrap();
    }
    let mut large = Shop::new(UNITS);
    for event in large.opened(1) {
        store.apply(&[event]).await.unwrap();
    }
    assert_eq!(snapshot(&home, large.id()).await.stock.len(), UNITS);
}

#[tokio::test]
async fn an_event_that_creates_another_tenant_is_refused() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let (mut shop, other) = (Shop::new(1), Shop::new(1));
    let mut created = (*shop.created()).clone();
    created.tenant = other.id();
    let error = (home.store())().await.unwrap().apply(&[Arc::new(created)]).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("creates tenant"), "{error:?}");
}

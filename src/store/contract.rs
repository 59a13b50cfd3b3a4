//! What every ledger must do, as functions over whatever opens one. An adapter's tests call each of them on an empty
//! ledger.

use crate::domain::catalogue::UnitKind;
use crate::domain::decimal::{Money, Quantity};
use crate::domain::erp::{Cursor, Entry, ErpChange};
use crate::domain::event::{Body, Event, Movement, MovementKind};
use crate::domain::idempotency::{Fingerprint, IdempotencyKey};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::stock::Place;
use crate::domain::tenant::{Location, LocationKind, shard_of};
use crate::fixtures::{Shop, sale_of, whole};
use crate::ports::ledger::{Applied, KeyPage, LedgerReader, LedgerStore, TenantSnapshot};
use crate::ports::{Open, PortError};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// An empty ledger: where both its ends come from.
pub trait Home {
    fn store(&self) -> Open<Box<dyn LedgerStore>>;
    fn reader(&self) -> Arc<dyn LedgerReader>;
}

async fn store(home: &dyn Home) -> Box<dyn LedgerStore> {
    (home.store())().await.unwrap()
}

pub async fn snapshot(home: &dyn Home, tenant: TenantId) -> TenantSnapshot {
    let snapshots = home.reader().snapshots(0, 1).await.unwrap();
    snapshots.into_iter().find(|snapshot| snapshot.tenant.id == tenant).expect("the tenant is not there")
}

fn stock(snapshot: &TenantSnapshot) -> HashMap<Place, Quantity> {
    snapshot.stock.iter().copied().collect()
}

const fn applied(events: usize, duplicates: usize, sales: usize) -> Applied {
    Applied { events, duplicates, sales }
}

pub async fn a_ledger_without_tenants_can_be_read(home: &dyn Home) {
    let reader = home.reader();
    assert!(reader.snapshots(0, 1).await.unwrap().is_empty());
    assert_eq!(reader.key_hashes(None, 10).await.unwrap(), KeyPage::default());
    let (tenant, sale) = (TenantId(Uuid::now_v7()), SaleId(Uuid::now_v7()));
    assert_eq!(reader.sale(tenant, sale).await.unwrap(), None);
    assert_eq!(store(home).await.apply(&[]).await.unwrap(), Applied::default());
}

pub async fn every_kind_of_event_is_read_back_as_it_was(home: &dyn Home) {
    let mut shop = Shop::new(3);
    let full = Arc::make_mut(&mut shop.units[1]);
    full.kind = UnitKind::Pesable;
    full.barcode = Some("7790001".into());
    (full.size, full.color) = (Some("XL".into()), Some("azul \"marino\"".into()));
    (full.category, full.brand) = (Some("quesos\\duros".into()), Some("Ñ & Cía, 100%".into()));
    Arc::make_mut(&mut shop.units[2]).active = false;
    let mut events = shop.opened(10);
    let more = Location {
        id: LocationId(Uuid::now_v7()),
        code: "3".into(),
        name: "Depósito".into(),
        kind: LocationKind::Warehouse,
        is_default: false,
        active: false,
    };
    events.push(shop.event(Body::LocationsAdded { locations: vec![more.clone()] }));
    shop.locations.push(more);
    events.push(shop.sold_at(0, &[(0, 2), (1, 1), (0, 1)], Some("k-1")));
    events.push(shop.moved(MovementKind::Transfer, &[(0, 0, -3), (0, 1, 3)]));
    assert_eq!(store(home).await.apply(&events).await.unwrap(), applied(6, 0, 1));
    let found = snapshot(home, shop.id()).await;
    assert_eq!(found.tenant, shop.tenant);
    shop.locations.sort_by_key(|location| location.id);
    shop.units.sort_by_key(|unit| unit.id);
    let mut found_locations = found.locations.clone();
    found_locations.sort_by_key(|location| location.id);
    assert_eq!((&found_locations, &found.units), (&shop.locations, &shop.units));
    assert_eq!((found.sequence, found.last_at, &found.holes), (6, events[5].at, &BTreeSet::new()));
    let mut model = HashMap::new();
    replay(&mut model, &events);
    assert_eq!(stock(&found), model);
}

pub async fn later_versions_of_a_unit_replace_it(home: &dyn Home) {
    let mut shop = Shop::new(2);
    let mut events = shop.opened(1);
    for (name, price) in [("Primero", "11"), ("Segundo", "12.50")] {
        let unit = Arc::make_mut(&mut shop.units[0]);
        (unit.name, unit.price) = (name.into(), Money::parse(price).unwrap());
        events.push(shop.catalogued());
    }
    let mut store = store(home).await;
    store.apply(&events[..4]).await.unwrap();
    store.apply(&events[4..]).await.unwrap();
    let found = snapshot(home, shop.id()).await;
    shop.units.sort_by_key(|unit| unit.id);
    assert_eq!(found.units, shop.units);
}

pub async fn facts_about_an_erp_are_written_with_its_movements(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let fact = |name: &str, location| Entry::Branch { name: name.into(), location };
    let cursor = |page| Entry::Cursor { cursor: Cursor { page: Some(page), ..Cursor::default() } };
    let followed = |shop: &mut Shop, source: &str, delta: i64, entries: Vec<Entry>| {
        let moved = Movement { unit: shop.units[0].id, location: shop.here(), delta: whole(delta) };
        let movements = if delta == 0 { Vec::new() } else { vec![moved] };
        shop.event(Body::ErpFollowed(Arc::new(ErpChange {
            source: source.into(),
            reference: "LEGACY_1".into(),
            movements,
            entries,
        })))
    };
    let (here, there) = (shop.here(), shop.locations[1].id);
    let mut events = shop.opened(10);
    events.push(followed(&mut shop, "lince", -4, vec![fact("CENTRO \"Ñ\"", here), cursor(1)]));
    events.push(followed(&mut shop, "lince", 0, vec![fact("NORTE", here), fact("NORTE", there), cursor(2)]));
    events.push(followed(&mut shop, "otro", 1, vec![fact("NORTE", here)]));
    let mut store = store(home).await;
    assert_eq!(store.apply(&events).await.unwrap(), applied(6, 0, 0));
    let last = followed(&mut shop, "lince", -1, vec![cursor(3)]);
    events.push(last.clone());
    store.apply(std::slice::from_ref(&last)).await.unwrap();
    store.apply(std::slice::from_ref(&last)).await.unwrap();
    let found = snapshot(home, shop.id()).await;
    let mut model = HashMap::new();
    replay(&mut model, &events);
    assert_eq!(stock(&found), model);
    let mut facts = found.erp.clone();
    facts.sort_by_key(|(source, entry)| (source.clone(), entry.key()));
    let known: Vec<(&str, Entry)> = facts.iter().map(|(source, entry)| (&**source, entry.clone())).collect();
    let centre = fact("CENTRO \"Ñ\"", here);
    let expected = [
        ("lince", centre),
        ("lince", fact("NORTE", there)),
        ("lince", cursor(3)),
        ("otro", fact("NORTE", here)),
    ];
    assert_eq!(known, expected);
    // Another tenant has nothing of it.
    let mut other = Shop::new(1);
    store.apply(&other.opened(1)).await.unwrap();
    assert!(snapshot(home, other.id()).await.erp.is_empty());
}

pub async fn a_batch_applied_again_changes_nothing(home: &dyn Home) {
    let mut shop = Shop::new(2);
    let mut events = shop.opened(10);
    events.push(shop.sold_at(0, &[(0, 1), (1, 2)], Some("k")));
    let mut store = store(home).await;
    assert_eq!(store.apply(&events).await.unwrap(), applied(4, 0, 1));
    let before = snapshot(home, shop.id()).await;
    assert_eq!(store.apply(&events).await.unwrap(), applied(0, 4, 0));
    let after = snapshot(home, shop.id()).await;
    assert_eq!((stock(&after), after.sequence), (stock(&before), 4));
    assert_eq!(home.reader().key_hashes(None, 10).await.unwrap().hashes.len(), 1);
}

pub async fn overlapping_batches_write_each_event_once(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let mut events = shop.opened(100);
    events.extend((0..6).map(|_| shop.sold(1)));
    let mut store = store(home).await;
    assert_eq!(store.apply(&events[..5]).await.unwrap(), applied(5, 0, 2));
    assert_eq!(store.apply(&events[2..8]).await.unwrap(), applied(3, 3, 3));
    assert_eq!(store.apply(&events[1..]).await.unwrap(), applied(1, 7, 1));
    let found = snapshot(home, shop.id()).await;
    assert_eq!(stock(&found)[&(shop.units[0].id, shop.here())], whole(94));
}

pub async fn an_event_twice_in_one_batch_is_written_once(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let mut events = shop.opened(100);
    let sale = shop.sold(1);
    events.extend([sale.clone(), sale]);
    assert_eq!(store(home).await.apply(&events).await.unwrap(), applied(4, 1, 1));
    assert_eq!(stock(&snapshot(home, shop.id()).await)[&(shop.units[0].id, shop.here())], whole(99));
}

pub async fn a_number_that_was_given_up_is_a_hole_until_it_is_replayed(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let events = shop.opened(10);
    let (given_up, next) = (shop.sold(2), shop.sold(1));
    let mut store = store(home).await;
    store.apply(&events).await.unwrap();
    store.give_up(&given_up, "unit unknown").await.unwrap();
    store.apply(std::slice::from_ref(&next)).await.unwrap();
    let found = snapshot(home, shop.id()).await;
    assert_eq!((found.sequence, &found.holes), (5, &BTreeSet::from([4])));
    assert!(found.has(5) && found.has(3) && !found.has(4) && !found.has(6));
    let place = (shop.units[0].id, shop.here());
    assert_eq!(stock(&found)[&place], whole(9));
    // Skipping what is applied, or again, changes nothing.
    for event in [&given_up, &next] {
        store.give_up(event, "again").await.unwrap();
    }
    assert_eq!(snapshot(home, shop.id()).await.holes, BTreeSet::from([4]));
    assert_eq!(home.reader().given_up(0, 1).await.unwrap(), std::slice::from_ref(&given_up));
    let other = (shard_of(shop.id(), 2) + 1) % 2;
    assert_eq!(home.reader().given_up(other, 2).await.unwrap(), []);
    let late = std::slice::from_ref(&given_up);
    assert_eq!(store.apply(late).await.unwrap(), applied(1, 0, 1));
    assert_eq!(store.apply(late).await.unwrap(), applied(0, 1, 0));
    let found = snapshot(home, shop.id()).await;
    assert_eq!((found.sequence, found.holes.len(), stock(&found)[&place]), (5, 0, whole(7)));
    assert_eq!(found.last_at, next.at, "a late replay does not turn time back");
    assert_eq!(home.reader().given_up(0, 1).await.unwrap(), []);
}

pub async fn what_arrives_late_only_to_be_given_up_is_kept_too(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let events = shop.opened(10);
    let (late, next) = (shop.sold(2), shop.sold(1));
    // A tenant of whom the ledger has nothing else.
    let unknown = Shop::new(1).sold(1);
    {
        let mut store = store(home).await;
        store.apply(&events).await.unwrap();
        store.apply(&[next]).await.unwrap();
        assert_eq!(home.reader().given_up(0, 1).await.unwrap(), []);
        store.give_up(&late, "unit unknown").await.unwrap();
        store.give_up(&unknown, "tenant unknown").await.unwrap();
    }
    let kept = home.reader().given_up(0, 1).await.unwrap();
    assert!(kept.len() == 2 && kept.contains(&late) && kept.contains(&unknown), "{kept:?}");
    assert_eq!(snapshot(home, shop.id()).await.holes, BTreeSet::from([4]));
}

pub async fn numbers_that_never_arrived_are_holes(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let events = shop.opened(10);
    let lost: Vec<_> = (0..3).map(|_| shop.sold(1)).collect();
    let next = shop.sold(1);
    {
        let mut store = store(home).await;
        store.apply(&events).await.unwrap();
        store.apply(&[next]).await.unwrap();
        assert_eq!(snapshot(home, shop.id()).await.holes, BTreeSet::from([4, 5, 6]));
    }
    // A store that is opened later knows them too.
    assert_eq!(store(home).await.apply(&lost).await.unwrap(), applied(3, 0, 3));
    let found = snapshot(home, shop.id()).await;
    assert_eq!((found.sequence, found.holes.len()), (7, 0));
    assert_eq!(stock(&found)[&(shop.units[0].id, shop.here())], whole(6));
}

pub async fn a_batch_that_fails_leaves_nothing_and_the_store_goes_on(home: &dyn Home) {
    let (mut shop, mut other) = (Shop::new(2), Shop::new(1));
    let mut store = store(home).await;
    store.apply(&shop.opened(10)).await.unwrap();
    let good = shop.sold(1);
    let mut stranger = shop.clone();
    stranger.units[0] = Shop::new(1).units[0].clone();
    let bad = stranger.sold(1);
    let mut batch = other.opened(5);
    batch.extend([good.clone(), bad]);
    let refused = store.apply(&batch).await;
    assert!(matches!(refused, Err(PortError::Permanent(_))), "{refused:?}");
    let all = home.reader().snapshots(0, 1).await.unwrap();
    assert_eq!(all.len(), 1, "a part of the batch is there");
    assert_eq!((all[0].sequence, home.reader().sale(shop.id(), sale_of(&good).id).await.unwrap()), (3, None));
    // The same events without the bad one go through: nothing of them is taken for done.
    batch.pop();
    assert_eq!(store.apply(&batch).await.unwrap(), applied(4, 0, 1));
}

pub async fn a_sale_is_read_back_exactly(home: &dyn Home) {
    let mut shop = Shop::new(3);
    let mut store = store(home).await;
    store.apply(&shop.opened(10)).await.unwrap();
    let keyed = shop.sold_at(1, &[(2, 1), (0, 3), (2, 2)], Some("till-1:77"));
    let plain = shop.sold(1);
    store.apply(&[keyed.clone(), plain.clone()]).await.unwrap();
    let reader = home.reader();
    for (event, fingerprint) in [(&keyed, Some(Fingerprint([9; 16]))), (&plain, None)] {
        let found = reader.sale(shop.id(), sale_of(event).id).await.unwrap().expect("it is there");
        assert_eq!((&found.sale, found.at, found.fingerprint), (sale_of(event), event.at, fingerprint));
    }
    let other = TenantId(Uuid::now_v7());
    assert_eq!(reader.sale(other, sale_of(&plain).id).await.unwrap(), None);
}

pub async fn a_sale_is_taken_back_once(home: &dyn Home) {
    let mut shop = Shop::new(2);
    let mut store = store(home).await;
    let mut events = shop.opened(10);
    // One made and taken back in the same batch, one later.
    let (first, second) = (shop.sold_at(0, &[(0, 2), (1, 1), (0, 1)], Some("k")), shop.sold(4));
    let void = shop.voided(sale_of(&first));
    events.extend([first.clone(), second.clone(), void.clone()]);
    assert_eq!(store.apply(&events).await.unwrap(), applied(6, 0, 2));
    let (reader, place) = (home.reader(), (shop.units[0].id, shop.here()));
    let find = async |event: &Event| reader.sale(shop.id(), sale_of(event).id).await.unwrap().unwrap();
    assert_eq!((find(&first).await.voided, find(&second).await.voided), (Some(void.at), None));
    assert_eq!(stock(&snapshot(home, shop.id()).await)[&place], whole(6));
    assert_eq!(store.apply(&[void]).await.unwrap(), applied(0, 1, 0));
    let mut later = shop.clone();
    let (again, other) = (later.voided(sale_of(&first)), shop.voided(sale_of(&second)));
    let refused = store.apply(&[again]).await;
    assert!(matches!(refused, Err(PortError::Permanent(_))), "{refused:?}");
    store.apply(std::slice::from_ref(&other)).await.unwrap();
    assert_eq!(stock(&snapshot(home, shop.id()).await)[&place], whole(10));
    let by_key = reader
        .sale_by_key(shop.id(), IdempotencyKey::parse("k").unwrap().hash(shop.id()).indexed(), "k")
        .await
        .unwrap();
    assert!(by_key.expect("it is there").voided.is_some());
}

pub async fn a_key_finds_the_sale_of_its_own_tenant_only(home: &dyn Home) {
    let (mut one, mut two, mut three) = (Shop::new(1), Shop::new(1), Shop::new(1));
    let mut store = store(home).await;
    let mut events = Vec::new();
    for shop in [&mut one, &mut two, &mut three] {
        events.extend(shop.opened(10));
    }
    let (first, second) = (one.sold_at(0, &[(0, 1)], Some("same")), two.sold_at(0, &[(0, 1)], Some("same")));
    events.extend([first.clone(), second.clone(), three.sold_at(0, &[(0, 1)], Some("other"))]);
    store.apply(&events).await.unwrap();
    let (reader, key) = (home.reader(), IdempotencyKey::parse("same").unwrap());
    let find = async |tenant: TenantId, hash_of: TenantId| {
        reader.sale_by_key(tenant, key.hash(hash_of).indexed(), "same").await.unwrap()
    };
    assert_eq!(&find(one.id(), one.id()).await.expect("it is there").sale, sale_of(&first));
    assert_eq!(&find(two.id(), two.id()).await.expect("it is there").sale, sale_of(&second));
    assert_eq!(find(three.id(), three.id()).await, None);
    // Not even under another's hash: the tenant itself is compared.
    assert_eq!(find(two.id(), one.id()).await, None);
    // Nor another key that happens to have the same indexed half.
    let indexed = key.hash(one.id()).indexed();
    assert_eq!(reader.sale_by_key(one.id(), indexed, "samE").await.unwrap(), None);
}

pub async fn key_hashes_come_in_pages(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let mut events = shop.opened(100);
    for n in 0..25 {
        events.push(shop.sold_at(0, &[(0, 1)], Some(&format!("k{n}"))));
        events.push(shop.sold(1));
    }
    store(home).await.apply(&events).await.unwrap();
    let mut expected: Vec<i64> =
        (0..25).map(|n| IdempotencyKey::parse(&format!("k{n}")).unwrap().hash(shop.id()).indexed()).collect();
    expected.sort_unstable();
    let (reader, mut found, mut after) = (home.reader(), Vec::new(), None);
    loop {
        let page = reader.key_hashes(after, 7).await.unwrap();
        assert!(page.hashes.len() <= 7);
        found.extend(page.hashes);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.sort_unstable();
    assert_eq!(found, expected);
}

pub async fn snapshots_come_to_the_shard_of_their_tenant(home: &dyn Home) {
    let mut shops: Vec<Shop> = (0..12).map(|_| Shop::new(1)).collect();
    let events: Vec<_> = shops.iter_mut().flat_map(|shop| shop.opened(3)).collect();
    store(home).await.apply(&events).await.unwrap();
    let mut seen = 0;
    for shard in 0..3 {
        for snapshot in home.reader().snapshots(shard, 3).await.unwrap() {
            assert_eq!(shard_of(snapshot.tenant.id, 3), shard);
            let shop = shops.iter().find(|shop| shop.id() == snapshot.tenant.id).expect("a tenant of ours");
            assert_eq!((&snapshot.units, snapshot.stock.len()), (&shop.units, 1));
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}

pub async fn a_store_that_is_opened_again_knows_what_is_applied(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let mut events = shop.opened(100);
    events.push(shop.sold(1));
    store(home).await.apply(&events).await.unwrap();
    events.push(shop.sold(1));
    assert_eq!(store(home).await.apply(&events).await.unwrap(), applied(1, 4, 1));
    assert_eq!(stock(&snapshot(home, shop.id()).await)[&(shop.units[0].id, shop.here())], whole(98));
}

pub async fn readers_see_whole_batches_while_one_is_written(home: &dyn Home) {
    let mut shop = Shop::new(1);
    let mut writer = store(home).await;
    writer.apply(&shop.opened(10_000)).await.unwrap();
    let place = (shop.units[0].id, shop.here());
    let batches: Vec<Vec<Arc<Event>>> = (0..12).map(|_| (0..50).map(|_| shop.sold(1)).collect()).collect();
    let written = std::cell::Cell::new(false);
    let write = async {
        for batch in &batches {
            writer.apply(batch).await.unwrap();
        }
        written.set(true);
    };
    let read = async {
        let mut seen = BTreeSet::new();
        while !written.get() {
            let found = snapshot(home, shop.id()).await;
            let sold = found.sequence - 3;
            assert_eq!(sold % 50, 0, "a part of a batch is visible");
            assert_eq!(stock(&found)[&place], whole(10_000 - i64::try_from(sold).unwrap()));
            seen.insert(sold);
        }
        seen
    };
    let ((), seen) = tokio::join!(write, read);
    assert!(!seen.is_empty(), "nothing was read beside the writer");
    assert_eq!(snapshot(home, shop.id()).await.sequence, 603);
}

/// One step of a random history: which shop, and its lines (unit, location, wholes); a sale when all are positive
/// and at one location.
#[derive(Clone, Debug)]
pub struct Step {
    shop: usize,
    sale: bool,
    lines: Vec<(usize, usize, i64)>,
}

/// Random batches of sales and movements of two shops with three units and two locations each.
pub fn batches() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let line = (0_usize..3, 0_usize..2, prop_oneof![-50_i64..=-1, 1_i64..=50]);
    let step = (0_usize..2, any::<bool>(), prop::collection::vec(line, 1..5))
        .prop_map(|(shop, sale, lines)| Step { shop, sale, lines });
    prop::collection::vec(prop::collection::vec(step, 1..20), 1..8)
}

/// Applies the batches, each also overlapping the one before, and compares with sums kept in a map.
pub async fn the_projection_agrees_with_a_plain_model(home: &dyn Home, batches: Vec<Vec<Step>>) -> Vec<Shop> {
    let mut shops = vec![Shop::new(3), Shop::new(3)];
    let mut model: HashMap<TenantId, HashMap<Place, Quantity>> = HashMap::new();
    let mut writer = store(home).await;
    let mut before: Vec<Arc<Event>> = shops.iter_mut().flat_map(|shop| shop.opened(1_000)).collect();
    writer.apply(&before).await.unwrap();
    for shop in &shops {
        replay(model.entry(shop.id()).or_default(), before.iter().filter(|event| event.tenant == shop.id()));
    }
    for batch in batches {
        let mut events = Vec::new();
        for Step { shop, sale, lines } in batch {
            let shop = &mut shops[shop];
            events.push(if sale {
                let sold: Vec<_> = lines.iter().map(|&(unit, _, count)| (unit, count.abs())).collect();
                shop.sold_at(lines[0].1, &sold, None)
            } else {
                shop.moved(MovementKind::Adjustment, &lines)
            });
        }
        for event in &events {
            replay(model.entry(event.tenant).or_default(), [event]);
        }
        let overlapping: Vec<_> = before.iter().rev().take(3).rev().chain(&events).cloned().collect();
        let done = writer.apply(&overlapping).await.unwrap();
        assert_eq!((done.events, done.duplicates), (events.len(), overlapping.len() - events.len()));
        before = events;
    }
    for shop in &shops {
        let found = snapshot(home, shop.id()).await;
        assert_eq!(&stock(&found), &model[&shop.id()]);
        assert_eq!((found.sequence, found.holes.len()), (shop.sequence, 0));
    }
    shops
}

fn replay<'a>(
    model: &mut HashMap<(UnitId, LocationId), Quantity>,
    events: impl IntoIterator<Item = &'a Arc<Event>>,
) {
    for moved in events.into_iter().flat_map(|event| event.movements().collect::<Vec<_>>()) {
        let level = model.entry((moved.unit, moved.location)).or_default();
        *level = level.checked_add(moved.delta).unwrap();
    }
}

//! Creating tenants and taking in catalogues.

use super::*;
use crate::domain::catalogue::UnitKind;
use crate::domain::decimal::Money;
use crate::domain::event::{Movement, MovementKind};
use crate::domain::import::{Import, ImportedUnit};

/// A product of ten of whatever, with five in stock.
pub fn row(sku: &str) -> ImportedUnit {
    ImportedUnit {
        sku: sku.into(),
        name: format!("Producto {sku}").into(),
        base_sku: None,
        barcode: None,
        kind: UnitKind::General,
        price: Money::parse("10").unwrap(),
        active: true,
        size: None,
        color: None,
        category: None,
        brand: None,
        stock: Some(whole(5)),
    }
}

pub fn import(units: Vec<ImportedUnit>) -> Import {
    Import { reference: "catalogo.csv".into(), units, locations: vec![] }
}

async fn scan(world: &World, shop: &Shop, sku: &str) -> Option<Scanned> {
    world.shards.scan(shop.id(), sku.into(), None).await.unwrap().unwrap()
}

/// The shop with a unit that was imported as its only one.
async fn of_imported(world: &World, shop: &Shop, sku: &str) -> Shop {
    let unit = scan(world, shop, sku).await.expect("it was imported").unit;
    Shop { units: vec![unit], ..shop.clone() }
}

#[test]
fn an_import_that_is_not_recorded_changes_nothing_and_can_be_repeated() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let take_in = || world.shards.import(shop.id(), import(vec![row("N-1"), row("N-2")]), caller());
        world.bus.next(&[Fate::Full]);
        let failed = take_in().await.unwrap();
        assert!(matches!(failed, Err(Denied::Append(AppendError::Full(_)))), "{failed:?}");
        assert!(scan(&world, &shop, "N-1").await.is_none());
        assert_eq!(world.bus.durable().len(), 3);
        let counts = take_in().await.unwrap().unwrap();
        assert_eq!((counts.created, counts.stocked), (2, 2));
        assert_eq!(scan(&world, &shop, "N-2").await.unwrap().available, whole(5));
        world.history_is_sound();
        // Again: nothing differs, no stock is given twice, nothing is recorded.
        let counts = take_in().await.unwrap().unwrap();
        assert_eq!((counts.unchanged, counts.stocked, world.bus.durable().len()), (2, 0, 5));
    });
}

#[test]
fn imported_units_are_for_sale_once_they_are_durable_and_imports_go_one_at_a_time() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.on_hand(&shop).await;
        world.bus.hold();
        let shards = world.shards.clone();
        let tenant = shop.id();
        let first =
            actix_rt::spawn(async move { shards.import(tenant, import(vec![row("N-1")]), caller()).await });
        world.bus.begun(1).await;
        assert!(scan(&world, &shop, "N-1").await.is_none());
        let second = world.shards.import(tenant, import(vec![row("N-2")]), caller()).await.unwrap();
        assert!(matches!(second, Err(Denied::ChangeUnderWay)), "{second:?}");
        world.bus.release();
        assert_eq!(first.await.unwrap().unwrap().unwrap().created, 1);
        let imported = of_imported(&world, &shop, "N-1").await;
        assert!(world.sell(&imported, &[(0, 5)], None).await.is_ok());
        assert!(matches!(world.sell(&imported, &[(0, 1)], None).await, Err(Denied::Short(_))));
        assert!(world.shards.import(tenant, import(vec![row("N-2")]), caller()).await.unwrap().is_ok());
    });
}

#[test]
fn a_sale_that_fails_does_not_end_the_import_that_waits_behind_it() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.on_hand(&shop).await;
        world.bus.next(&[Fate::NotDurable]);
        world.bus.hold();
        let sale = actix_rt::spawn(world.shards.clone().checkout_owned(ask(&shop, &[(0, 1)], None)));
        world.bus.begun(1).await;
        let import_of = |sku: &'static str| {
            let (shards, tenant) = (world.shards.clone(), shop.id());
            actix_rt::spawn(async move { shards.import(tenant, import(vec![row(sku)]), caller()).await })
        };
        let first = import_of("N-1");
        until(|| world.shards.handles()[0].depth() == 2).await;
        world.bus.release_one();
        append_error(sale.await.unwrap().unwrap());
        world.bus.begun(2).await;
        let second = import_of("N-1").await.unwrap().unwrap();
        assert!(matches!(second, Err(Denied::ChangeUnderWay)), "{second:?}");
        world.bus.release();
        assert!(first.await.unwrap().unwrap().is_ok());
        assert_eq!(scan(&world, &shop, "N-1").await.unwrap().available, whole(5));
    });
}

#[test]
fn a_created_tenant_can_be_used_at_once_and_survives_a_rebuild() {
    on_system(async {
        let world = World::with(vec![]);
        let mut shop = Shop::new(0);
        let new = NewTenant { tenant: shop.tenant.clone(), locations: shop.locations.clone() };
        let created = world.shards.create_tenant(new.clone(), caller()).await.unwrap().unwrap();
        assert_eq!(created, shop.tenant);
        world.shards.import(shop.id(), import(vec![row("N-1")]), caller()).await.unwrap().unwrap();
        shop = of_imported(&world, &shop, "N-1").await;
        assert!(world.sell(&shop, &[(0, 2)], None).await.is_ok());
        // Creating it again gives the one that is there, with everything in it.
        assert_eq!(world.shards.create_tenant(new, caller()).await.unwrap().unwrap(), shop.tenant);
        assert_eq!(world.on_hand(&shop).await, [3]);
        world.history_is_sound();
        let rebuilt = World::with(world.bus.durable());
        assert_eq!(rebuilt.on_hand(&shop).await, [3]);
        assert_eq!(rebuilt.shards.tenants().await.unwrap(), [shop.tenant.clone()]);
    });
}

#[test]
fn a_delivery_adds_what_came_once_it_is_durable_and_never_near_the_bound() {
    on_system(async {
        let mut shop = Shop::new(2);
        let world = World::with(shop.opened(10));
        let came = |unit: usize, delta: i64| {
            let (unit, location) = (shop.units[unit].id, shop.here());
            Movement { unit, location, delta: Quantity::from_units(delta * Quantity::ONE).unwrap() }
        };
        let deliver = |movements: Vec<Movement>| {
            let delivery = Delivery { kind: MovementKind::Purchase, reference: "remito".into(), movements };
            world.shards.receive(shop.id(), delivery, caller())
        };
        world.bus.next(&[Fate::Full]);
        let failed = deliver(vec![came(0, 5)]).await.unwrap();
        assert!(matches!(failed, Err(Denied::Append(AppendError::Full(_)))), "{failed:?}");
        assert_eq!(world.on_hand(&shop).await, [10, 10]);
        deliver(vec![came(0, 5), came(1, 1)]).await.unwrap().unwrap();
        assert_eq!(world.on_hand(&shop).await, [15, 11]);

        let stranger = Movement { unit: Shop::new(1).units[0].id, ..came(0, 1) };
        let elsewhere = Movement { location: Shop::new(1).here(), ..came(0, 1) };
        let bad = [
            vec![],
            vec![came(0, 0)],
            vec![came(0, -1)],
            vec![came(0, 1_000_000_001)],
            vec![came(0, 1), came(0, 1)],
        ];
        for movements in bad.into_iter().chain([vec![came(1, 1), stranger], vec![elsewhere]]) {
            let refused = deliver(movements.clone()).await.unwrap();
            assert!(matches!(refused, Err(Denied::Delivery(_))), "{movements:?}: {refused:?}");
        }
        assert_eq!(world.on_hand(&shop).await, [15, 11]);

        // Full long before a quantity's bound, and the shard lives on.
        let mut delivered = 0;
        while deliver(vec![came(0, 1_000_000_000)]).await.unwrap().is_ok() {
            delivered += 1;
            assert!(delivered < 10_000, "it never fills");
        }
        assert!(world.sell(&shop, &[(0, 1)], None).await.is_ok());
        world.history_is_sound();
    });
}

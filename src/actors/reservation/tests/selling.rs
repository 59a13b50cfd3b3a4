//! Selling and looking at what was sold.

use super::*;
use crate::domain::sale::Refusal;
use uuid::Uuid;

#[test]
fn two_hundred_at_once_sell_exactly_what_there_is() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(50));
        let answers = join_all((0..200).map(|_| world.sell(&shop, &[(0, 1)], None))).await;
        let sold: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).map(id_of).collect();
        let short = answers.iter().filter(|answer| matches!(answer, Err(Denied::Short(_)))).count();
        assert_eq!((sold.len(), short), (50, 150));
        assert_eq!(world.bus.sales().iter().map(|event| sale_of(event).id).collect::<Vec<_>>(), sold);
        assert_eq!(world.on_hand(&shop).await, [0]);
        world.history_is_sound();
        assert!(world.bus.commits().len() < 50, "the sales did not share commits: {:?}", world.bus.commits());
    });
}

#[test]
fn a_short_sale_names_every_unit_with_the_sum_of_its_lines_and_takes_nothing() {
    on_system(async {
        let mut shop = Shop::new(3);
        let world = World::with(shop.opened(5));
        let refused = world.sell(&shop, &[(0, 3), (1, 5), (2, 6), (0, 3)], None).await;
        let Err(Denied::Short(mut lines)) = refused else { panic!("{refused:?}") };
        lines.sort_by(|a, b| a.sku.cmp(&b.sku));
        let line = |n: usize| ShortLine {
            unit: shop.units[n].id,
            sku: shop.units[n].sku.clone(),
            name: shop.units[n].name.clone(),
            asked: whole(6),
            available: whole(5),
        };
        assert_eq!(lines, [line(0), line(2)]);
        assert_eq!(world.on_hand(&shop).await, [5, 5, 5]);
        assert!(world.sell(&shop, &[(0, 5), (1, 5), (2, 5)], None).await.is_ok());
    });
}

/// A batch that went out early must not have the next commit for itself.
#[test]
fn who_comes_during_a_commit_shares_the_next_one() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(100));
        world.on_hand(&shop).await;
        world.bus.hold();
        let mut sales = Vec::new();
        for batches in 1..=5 {
            sales.push(actix_rt::spawn(world.shards.clone().checkout_owned(ask(&shop, &[(0, 1)], None))));
            until(|| world.registry.find("journal").unwrap().mailbox_depth == batches).await;
        }
        world.bus.release();
        for sale in sales {
            assert!(sale.await.unwrap().unwrap().is_ok());
        }
        assert_eq!(world.bus.commits(), [1, 4]);
    });
}

#[test]
fn units_that_wait_for_the_journal_are_not_for_sale_and_are_shown_as_held() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(5));
        world.on_hand(&shop).await;
        world.bus.hold();
        let first = actix_rt::spawn(world.shards.clone().checkout_owned(ask(&shop, &[(0, 4)], None)));
        world.bus.begun(1).await;
        assert!(matches!(world.sell(&shop, &[(0, 2)], None).await, Err(Denied::Short(_))));
        let stock = world.shards.stock(shop.id(), shop.units[0].id.0).await.unwrap().unwrap().unwrap();
        assert_eq!((stock.places[0].1, stock.places[0].2), (whole(1), whole(4)));
        world.bus.release();
        assert!(first.await.unwrap().unwrap().is_ok());
        let stock = world.shards.stock(shop.id(), shop.units[0].id.0).await.unwrap().unwrap().unwrap();
        assert_eq!((stock.places[0].1, stock.places[0].2), (whole(1), whole(0)));
    });
}

#[test]
fn a_clock_that_is_set_back_does_not_turn_the_order_of_events_around() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(50));
        let hour = 3_600_000_000;
        let mut times = Vec::new();
        for moment in [1, 0, -5, 2] {
            world.clock.set(Timestamp::from_micros(OPENING.micros() + moment * hour));
            times.push(world.sell(&shop, &[(0, 1)], None).await.unwrap().at);
        }
        world.history_is_sound();
        assert_eq!((times[1], times[2]), (times[0], times[0]));
        assert!(times[3] > times[0]);
    });
}

#[test]
fn a_sale_can_be_looked_up_from_its_answer_on_and_is_never_absent() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(500));
        for _ in 0..50 {
            let id = id_of(&world.sell(&shop, &[(0, 1)], None).await.unwrap());
            let find = || async { world.shards.sale(shop.id(), id).await.unwrap().unwrap() };
            let found = find().await.expect("it is absent right after the answer");
            assert!(!found.in_ledger && found.sale.sale().is_some_and(|sale| sale.id == id));
            // Asked over and over while the ledger takes it in.
            let (before, (), after) =
                tokio::join!(find(), async { world.catch_up() }, join_all((0..4).map(|_| find())));
            assert!(before.is_some() && after.iter().all(Option::is_some), "absent in between");
            assert!(find().await.expect("it is absent from the ledger").in_ledger);
        }
        assert!(world.shards.sale(shop.id(), SaleId(Uuid::now_v7())).await.unwrap().unwrap().is_none());
    });
}

#[test]
fn tenants_that_are_unknown_or_inactive_may_do_nothing() {
    on_system(async {
        let (mut open, mut closed, unknown) = (Shop::new(1), Shop::new(1), Shop::new(1));
        closed.tenant.active = false;
        let mut events = open.opened(5);
        events.extend(closed.opened(5));
        let world = World::with(events);
        let denied = world.sell(&unknown, &[(0, 1)], Some("k")).await;
        assert!(matches!(denied, Err(Denied::UnknownTenant)), "{denied:?}");
        let denied = world.sell(&closed, &[(0, 1)], Some("k")).await;
        assert!(matches!(denied, Err(Denied::InactiveTenant)), "{denied:?}");
        let sale = SaleId(Uuid::now_v7());
        assert!(matches!(world.shards.sale(unknown.id(), sale).await, Ok(Err(Denied::UnknownTenant))));
        assert!(matches!(world.shards.sale(closed.id(), sale).await, Ok(Err(Denied::InactiveTenant))));
        let scanned = world.shards.scan(closed.id(), "SKU-0".into(), None).await;
        assert!(matches!(scanned, Ok(Err(Denied::InactiveTenant))));
    });
}

#[test]
fn tenants_do_not_see_each_other() {
    on_system(async {
        let (mut one, mut two) = (Shop::new(1), Shop::new(1));
        let mut events = one.opened(5);
        events.extend(two.opened(7));
        let world = World::with(events);
        // The same SKU is another unit, and another's unit is no product at all.
        let scanned = world.shards.scan(two.id(), "SKU-0".into(), None).await.unwrap().unwrap().unwrap();
        assert_eq!((scanned.unit.id, scanned.available), (two.units[0].id, whole(7)));
        let mut foreign = one.clone();
        foreign.units = two.units.clone();
        let refused = world.sell(&foreign, &[(0, 1)], None).await;
        let Err(Denied::Refused(refusal)) = refused else { panic!("{refused:?}") };
        assert!(matches!(*refusal, Refusal::UnknownProduct { line: 0, .. }), "{refusal:?}");
        let sold = world.sell(&one, &[(0, 5)], Some("same")).await.unwrap();
        assert!(world.shards.sale(two.id(), id_of(&sold)).await.unwrap().unwrap().is_none());
        // The same key in another shop is another key.
        let other = world.sell(&two, &[(0, 5)], Some("same")).await.unwrap();
        assert!(!other.replayed && id_of(&other) != id_of(&sold));
        assert_eq!((world.on_hand(&one).await, world.on_hand(&two).await), (vec![0], vec![2]));
    });
}

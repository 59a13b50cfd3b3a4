//! Idempotency keys: the same answer again, wherever the sale is by now.

use super::*;
use crate::stock::memory::MemoryStock;
use std::sync::atomic::Ordering;

#[test]
fn the_same_key_gives_the_same_answer_and_another_request_is_refused() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let first = world.sell(&shop, &[(0, 2)], Some("k")).await.unwrap();
        assert!(!first.replayed);
        for in_ledger in [false, true] {
            let again = world.sell(&shop, &[(0, 2)], Some("k")).await.unwrap();
            assert!(again.replayed, "{in_ledger}");
            assert_eq!((again.sale.sale(), again.at), (first.sale.sale(), first.at), "{in_ledger}");
            let other = world.sell(&shop, &[(0, 3)], Some("k")).await;
            assert!(matches!(other, Err(Denied::KeyReused)), "{other:?}");
            world.catch_up();
        }
        assert_eq!((world.on_hand(&shop).await, world.bus.sales().len()), (vec![8], 1));
    });
}

#[test]
fn the_same_key_at_the_same_time_sells_once_and_answers_all() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.on_hand(&shop).await;
        world.bus.hold();
        let asks: Vec<_> = (0..20)
            .map(|_| actix_rt::spawn(world.shards.clone().checkout_owned(ask(&shop, &[(0, 1)], Some("k")))))
            .collect();
        world.bus.begun(1).await;
        world.bus.release();
        let sold: Vec<Sold> =
            join_all(asks).await.into_iter().map(|answer| answer.unwrap().unwrap().unwrap()).collect();
        assert!(sold.iter().all(|one| id_of(one) == id_of(&sold[0])));
        assert_eq!(sold.iter().filter(|one| !one.replayed).count(), 1);
        assert_eq!((world.on_hand(&shop).await, world.bus.sales().len()), (vec![9], 1));
    });
}

#[test]
fn an_old_key_that_only_the_ledger_knows_is_found_there() {
    on_system(async {
        let mut shop = Shop::new(1);
        let bus = FakeBus::with(shop.opened(10));
        let world = World::over(bus, FakeLedger::default(), Arc::new(|| Box::new(MemoryStock::new(0))));
        let first = world.sell(&shop, &[(0, 2)], Some("old")).await.unwrap();
        world.catch_up();
        let again = world.sell(&shop, &[(0, 2)], Some("old")).await.unwrap();
        assert!(again.replayed && matches!(again.sale, SoldSale::Stored(_)), "{again:?}");
        assert_eq!((again.sale.sale(), again.at), (first.sale.sale(), first.at));
        assert!(matches!(world.sell(&shop, &[(0, 1)], Some("old")).await, Err(Denied::KeyReused)));
        assert_eq!(world.bus.sales().len(), 1);
    });
}

#[test]
fn a_key_of_before_the_restart_is_found_even_while_the_keys_are_still_being_read() {
    on_system(async {
        let mut shop = Shop::new(1);
        let before = World::with(shop.opened(10));
        let first = before.sell(&shop, &[(0, 2)], Some("old")).await.unwrap();
        before.catch_up();
        before.ledger.keys_held.store(true, Ordering::Relaxed);
        let after = World::over(
            before.bus.clone(),
            before.ledger.clone(),
            Arc::new(|| Box::new(MemoryStock::new(9))),
        );
        for held in [true, false] {
            after.ledger.keys_held.store(held, Ordering::Relaxed);
            let again = after.sell(&shop, &[(0, 2)], Some("old")).await.unwrap();
            assert!(again.replayed && id_of(&again) == id_of(&first));
            let new = after.sell(&shop, &[(0, 1)], Some(&format!("new-{held}"))).await.unwrap();
            assert!(!new.replayed);
        }
        assert_eq!(after.on_hand(&shop).await, [6]);
    });
}

#[test]
fn a_new_key_asked_for_twice_while_it_is_looked_up_sells_once() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.ledger.keys_held.store(true, Ordering::Relaxed);
        let both = join_all((0..2).map(|_| world.sell(&shop, &[(0, 1)], Some("k")))).await;
        let both: Vec<Sold> = both.into_iter().map(Result::unwrap).collect();
        assert_eq!((id_of(&both[0]), both[0].replayed, both[1].replayed), (id_of(&both[1]), false, true));
        world.ledger.keys_held.store(false, Ordering::Relaxed);
    });
}

#[test]
fn a_repeated_sale_is_as_it_was_though_its_price_has_changed_and_it_is_no_longer_sold() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let first = world.sell(&shop, &[(0, 2)], Some("k")).await.unwrap();
        let mut row = changes::row("SKU-0");
        (row.name, row.active) = ("Otro nombre".into(), false);
        row.price = crate::domain::decimal::Money::parse("99").unwrap();
        let counts =
            world.shards.import(shop.id(), changes::import(vec![row]), caller()).await.unwrap().unwrap();
        assert_eq!(counts.updated, 1);
        assert!(matches!(world.sell(&shop, &[(0, 2)], None).await, Err(Denied::Refused(_))));
        for _ in 0..2 {
            let again = world.sell(&shop, &[(0, 2)], Some("k")).await.unwrap();
            assert_eq!((again.replayed, again.sale.sale()), (true, first.sale.sale()));
            world.catch_up();
        }
    });
}

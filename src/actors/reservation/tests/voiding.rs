//! Taking sales back.

use super::*;
use crate::actors::reservation::Void;
use crate::domain::ids::SaleId;

async fn void(world: &World, shop: &Shop, sale: SaleId) -> Result<Voided, Denied> {
    let void = Void { tenant: shop.id(), sale, reason: "se arrepintió".into(), caller: caller() };
    world.shards.void(void).await.expect("the shard answers")
}

fn voids(world: &World) -> usize {
    let is_void = |event: &&std::sync::Arc<Event>| matches!(event.body, Body::SaleVoided { .. });
    world.bus.durable().iter().filter(is_void).count()
}

#[test]
fn a_sale_is_taken_back_once_wherever_it_is_by_then() {
    on_system(async {
        let mut shop = Shop::new(2);
        let world = World::with(shop.opened(10));
        let mut sold = Vec::new();
        for _ in 0..3 {
            sold.push(id_of(&world.sell(&shop, &[(0, 2), (1, 1), (0, 1)], None).await.unwrap()));
        }
        assert_eq!(world.on_hand(&shop).await, [1, 7]);
        // In memory.
        let first = void(&world, &shop, sold[0]).await.unwrap();
        assert!(!first.replayed);
        assert_eq!(world.on_hand(&shop).await, [4, 8]);
        // In the ledger; then again in memory, then again in the ledger.
        world.catch_up();
        assert!(!void(&world, &shop, sold[1]).await.unwrap().replayed);
        for _ in 0..2 {
            for sale in &sold[..2] {
                assert!(void(&world, &shop, *sale).await.unwrap().replayed);
            }
            world.catch_up();
        }
        assert_eq!(void(&world, &shop, sold[0]).await.unwrap().at, first.at);
        assert_eq!((world.on_hand(&shop).await, voids(&world)), (vec![7, 9], 2));
        // What came back can be sold again, and a rebuilt shard is the same.
        assert!(world.sell(&shop, &[(0, 7)], None).await.is_ok());
        let states = |world: World| async move {
            let mut states = Vec::new();
            for sale in &sold {
                let state = world.shards.sale(shop.id(), *sale).await.unwrap().unwrap().unwrap();
                states.push(state.voided.is_some());
            }
            let again = void(&world, &shop, sold[0]).await.unwrap();
            (states, again.replayed, world.on_hand(&shop).await)
        };
        let (durable, ledger) = (world.bus.durable(), world.ledger.clone());
        world.history_is_sound();
        let stock: MakeStock = std::sync::Arc::new(|| Box::new(crate::stock::memory::MemoryStock::new(9)));
        let rebuilt = World::over(FakeBus::with(durable), ledger, stock);
        assert_eq!(states(rebuilt).await, (vec![true, true, false], true, vec![0, 9]));
    });
}

#[test]
fn many_who_take_the_same_sale_back_at_once_take_it_back_once() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let sale = id_of(&world.sell(&shop, &[(0, 4)], None).await.unwrap());
        for in_ledger in [false, true] {
            if in_ledger {
                world.catch_up();
            }
            let answers = join_all((0..50).map(|_| void(&world, &shop, sale))).await;
            let first = answers.iter().filter(|answer| !answer.as_ref().unwrap().replayed).count();
            assert_eq!(first, usize::from(!in_ledger));
        }
        assert_eq!((world.on_hand(&shop).await, voids(&world)), (vec![10], 1));
    });
}

#[test]
fn a_void_that_is_not_recorded_did_not_happen() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let sale = id_of(&world.sell(&shop, &[(0, 4)], None).await.unwrap());
        world.bus.next(&[Fate::NotDurable]);
        let failed = void(&world, &shop, sale).await;
        assert!(matches!(failed, Err(Denied::Append(AppendError::NotDurable(_)))), "{failed:?}");
        assert_eq!(world.on_hand(&shop).await, [6]);
        assert!(!void(&world, &shop, sale).await.unwrap().replayed);
        assert_eq!(world.on_hand(&shop).await, [10]);
        world.history_is_sound();
    });
}

#[test]
fn what_was_never_sold_here_is_not_taken_back() {
    on_system(async {
        let (mut shop, mut other) = (Shop::new(1), Shop::new(1));
        let mut durable = shop.opened(10);
        durable.extend(other.opened(10));
        let world = World::with(durable);
        let sale = id_of(&world.sell(&shop, &[(0, 4)], None).await.unwrap());
        for (shop, sale) in [(&other, sale), (&shop, SaleId(uuid::Uuid::now_v7()))] {
            let refused = void(&world, shop, sale).await;
            assert!(matches!(refused, Err(Denied::UnknownSale)), "{refused:?}");
        }
        assert_eq!((world.on_hand(&shop).await, world.on_hand(&other).await), (vec![6], vec![10]));
    });
}

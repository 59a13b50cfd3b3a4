//! A rebuilt shard is the shard it was, however the events are split between ledger and journal.

use super::*;
use crate::actors::reservation::ProductPage;
use crate::stock::memory::MemoryStock;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Split {
    /// Sales and movements of (unit, wholes).
    history: Vec<(bool, usize, i64)>,
    /// So many are in the ledger.
    applied: usize,
    /// Of those, so many are confirmed on the bus.
    confirmed: usize,
    /// Applied ones that were given up, which the ledger only keeps.
    given_up: Vec<usize>,
    /// Whether the bus tells them too.
    told_twice: bool,
}

fn split() -> impl Strategy<Value = Split> {
    let step = (any::<bool>(), 0_usize..3, 1_i64..20);
    prop::collection::vec(step, 0..30).prop_flat_map(|history| {
        let all = history.len() + 3;
        let given_up = prop::collection::vec(3..all.max(4), 0..3);
        (Just(history), 0..=all, 0..=all, given_up, any::<bool>()).prop_map(
            |(history, applied, confirmed, given_up, told_twice)| Split {
                history,
                applied,
                confirmed: confirmed.min(applied),
                given_up,
                told_twice,
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_split_between_ledger_and_journal_gives_the_same_state(split in split()) {
        on_system(async move {
            let (mut shop, mut model) = (Shop::new(3), vec![1_000_i64; 3]);
            let mut events = shop.opened(1_000);
            for (n, &(sale, unit, count)) in split.history.iter().enumerate() {
                model[unit] -= count;
                events.push(if sale {
                    shop.sold_at(0, &[(unit, count)], Some(&format!("k{n}")))
                } else {
                    shop.moved(MovementKind::Adjustment, &[(unit, 0, -count)])
                });
            }
            let (bus, ledger) = (FakeBus::with(events.clone()), FakeLedger::default());
            for (index, event) in events.iter().enumerate() {
                let given_up = split.given_up.contains(&index);
                if index < split.applied && !given_up {
                    ledger.apply(std::slice::from_ref(event));
                }
                if index < split.applied && given_up {
                    ledger.given_up.lock().unwrap().push(event.clone());
                }
                if index < split.confirmed && !(given_up && split.told_twice) {
                    bus.confirm([index]);
                }
            }
            let world = World::over(bus, ledger, Arc::new(|| Box::new(MemoryStock::new(1_000))));
            let snapshot = world.shards.snapshot(shop.id()).await.unwrap().unwrap();
            assert_eq!(snapshot.sequence, shop.sequence);
            assert_eq!(world.on_hand(&shop).await, model);
            let page = ProductPage { skip: 0, limit: 9, search: None, category: None, active: None };
            assert_eq!(world.shards.products(shop.id(), page).await.unwrap().unwrap().len(), 3);
            // Every key of the history is known, every sale is found, and the next number is the next.
            for event in &events {
                let Body::SaleCreated { sale, keyed: Some((key, _)) } = &event.body else { continue };
                let reused = world.sell(&shop, &[(0, 1)], Some(key.as_str())).await;
                assert!(matches!(reused, Err(Denied::KeyReused)), "{reused:?}");
                assert!(world.shards.sale(shop.id(), sale.id).await.unwrap().unwrap().is_some());
            }
            world.sell(&shop, &[(0, 1)], None).await.unwrap();
            world.history_is_sound();
        });
    }
}

#[test]
fn events_of_a_tenant_that_nobody_knows_do_not_stop_the_others() {
    on_system(async {
        let (mut lost, mut shop) = (Shop::new(1), Shop::new(1));
        let mut events = lost.opened(5);
        events.remove(0);
        events.extend(shop.opened(5));
        let world = World::with(events);
        assert!(world.sell(&shop, &[(0, 1)], None).await.is_ok());
        assert!(matches!(world.sell(&lost, &[(0, 1)], None).await, Err(Denied::UnknownTenant)));
    });
}

#[test]
fn a_log_that_was_opened_anew_may_hold_what_another_node_sold_so_the_shard_looks_again() {
    on_system(async {
        let (mut shop, mut other) = (Shop::new(1), Shop::new(1));
        let world = World::with(shop.opened(10));
        assert_eq!(world.on_hand(&shop).await, [10]);
        // The log is lost and opened again, while this shard has nothing under way and hears nothing of it.
        world.bus.next(&[Fate::InDoubt { durable: false }]);
        assert!(world.journal.lane(1).append(other.opened(1)).await.is_err());
        assert_eq!(world.journal.barrier().await, Ok(2));
        assert_eq!(world.journal.lane(2).append(vec![shop.sold(4)]).await, Ok(()));
        // It still believes in ten.
        let refused = append_error(world.sell(&shop, &[(0, 10)], Some("k")).await);
        assert!(matches!(refused, AppendError::NotDurable(_)), "{refused}");
        assert!(matches!(world.sell(&shop, &[(0, 10)], Some("k")).await, Err(Denied::Short(_))));
        assert!(!world.sell(&shop, &[(0, 6)], Some("k")).await.unwrap().replayed);
        world.history_is_sound();
    });
}

//! Following an ERP: what it took is taken like a sale, what was read is known once it is durable.

use super::changes::{import, row};
use super::*;
use crate::domain::decimal::Money;
use crate::domain::erp::{
    AccountKey, Authority, BalanceReading, Batch, Decision, Follow, Followed, Held, Identity, ProductReading,
    Resolution, RowId, Rules, Stamp,
};
use std::collections::BTreeMap;

fn rules() -> Arc<Rules> {
    Arc::new(Rules {
        authority: Authority::Erp,
        branch_authority: BTreeMap::new(),
        branches: BTreeMap::from([("CENTRO".into(), "1".into())]),
        create_locations: true,
        max_jump: whole(10_000),
        mass_zero_rows: 20,
        mass_zero_percent: 50,
    })
}

fn key(code: &str) -> AccountKey {
    AccountKey { item: Identity::new(code, Some("M"), None).unwrap(), branch: "CENTRO".into() }
}

pub fn read(balances: &[(&str, i64)]) -> Follow {
    let product = |(code, _): &(&str, i64)| ProductReading {
        code: (*code).into(),
        name: "REMERA".into(),
        price: Money::parse("100").unwrap(),
        cost: None,
        category: None,
        brand: None,
        supplier: None,
        active: true,
        stamp: None,
    };
    let reading = |(id, (code, count)): (i64, &(&str, i64))| BalanceReading {
        row: RowId::Numbered(id),
        key: key(code),
        quantity: whole(*count),
        stamp: Stamp::parse("2026-11-27T10:00:00"),
    };
    let batch = Batch {
        balances: (1..).zip(balances).map(reading).collect(),
        products: balances.iter().map(product).collect(),
        ..Batch::default()
    };
    Follow { source: "lince".into(), rules: rules(), batch, resolutions: Vec::new() }
}

impl World {
    async fn follow(&self, shop: &Shop, balances: &[(&str, i64)]) -> Result<Followed, Denied> {
        self.shards.follow(shop.id(), read(balances), caller()).await.unwrap()
    }
}

/// The shop with an item of the ERP as its only unit.
pub async fn of_item(world: &World, shop: &Shop, code: &str) -> Shop {
    let unit = world.shards.scan(shop.id(), format!("{code}-M"), None).await.unwrap().unwrap();
    Shop { units: vec![unit.expect("it was followed").unit], ..shop.clone() }
}

#[test]
fn l14_what_comes_from_the_erp_can_be_sold_at_once() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let followed = world.follow(&shop, &[("A", 3)]).await.unwrap();
        assert_eq!((followed.created, followed.applied, followed.lines[0].delta), (1, 1, whole(3)));
        let item = of_item(&world, &shop, "A").await;
        assert!(world.sell(&item, &[(0, 2)], None).await.is_ok());
        assert!(matches!(world.sell(&item, &[(0, 2)], None).await, Err(Denied::Short(_))));
        assert_eq!(world.on_hand(&item).await, [1]);
        world.history_is_sound();
    });
}

#[test]
fn what_the_erp_took_is_never_what_is_sold_or_held_here() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.follow(&shop, &[("A", 5)]).await.unwrap();
        let item = of_item(&world, &shop, "A").await;
        // A sale of four waits for its commit while the ERP says that three are gone.
        let begun = world.bus.commits().len();
        world.bus.hold();
        let selling = actix_rt::spawn(world.shards.clone().checkout_owned(ask(&item, &[(0, 4)], None)));
        world.bus.begun(begun + 1).await;
        let (shards, id) = (world.shards.clone(), shop.id());
        let following = actix_rt::spawn(async move { shards.follow(id, read(&[("A", 2)]), caller()).await });
        until(|| world.bus.commits().len() == begun).await;
        world.bus.release();
        assert!(selling.await.unwrap().unwrap().is_ok());
        let followed = following.await.unwrap().unwrap().unwrap();
        assert_eq!((followed.lines[0].delta, followed.lines[0].held), (whole(-1), Some(Held::Short)));
        assert_eq!((followed.short, world.on_hand(&item).await), (1, vec![0]));
        let states = world.shards.erp_states(shop.id()).await.unwrap().unwrap();
        assert_eq!((states[0].balances, states[0].held.len()), (1, 1));
        assert_eq!(states[0].held[0].account.pending(), whole(-2));
        // A person decides that the number here is right.
        let mut decided = read(&[]);
        decided.resolutions = vec![Resolution { key: key("A"), decision: Decision::Dismiss }];
        let followed = world.shards.follow(shop.id(), decided, caller()).await.unwrap().unwrap();
        assert_eq!((followed.short, world.on_hand(&item).await), (0, vec![0]));
    });
}

/// L1 and L11: the hand-over fails, is repeated, and comes twice at once.
#[test]
fn l1_l11_a_reading_that_is_not_recorded_is_not_known_and_one_that_comes_twice_moves_once() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.follow(&shop, &[("A", 5)]).await.unwrap();
        let item = of_item(&world, &shop, "A").await;
        world.bus.next(&[Fate::NotDurable]);
        let failed = world.follow(&shop, &[("A", 2)]).await;
        assert!(matches!(failed, Err(Denied::Append(AppendError::NotDurable(_)))), "{failed:?}");
        assert_eq!(world.on_hand(&item).await, [5]);
        // What was held for it is free again.
        assert!(world.sell(&item, &[(0, 5)], None).await.is_ok());
        world.follow(&shop, &[("A", 10)]).await.unwrap();
        assert_eq!(world.on_hand(&item).await, [5]);
        let twice = join_all((0..8).map(|_| world.follow(&shop, &[("A", 7)]))).await;
        let moved = twice.into_iter().filter(|followed| followed.as_ref().unwrap().applied > 0).count();
        assert_eq!((moved, world.on_hand(&item).await), (1, vec![2]));
        world.history_is_sound();
    });
}

#[test]
fn what_is_known_of_an_erp_survives_a_crash_before_and_after_the_ledger_has_it() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.follow(&shop, &[("A", 5), ("B", 1)]).await.unwrap();
        let item = of_item(&world, &shop, "A").await;
        for durable in [true, false] {
            let before = world.on_hand(&item).await[0];
            world.bus.next(&[Fate::InDoubt { durable }]);
            let seen = before - 1;
            let unknown = world.shards.follow(shop.id(), read(&[("A", seen)]), caller()).await.unwrap();
            assert!(matches!(unknown, Err(Denied::Append(AppendError::InDoubt(_)))), "{unknown:?}");
            // Read again, as a poller would: it is applied if it was not, and not twice.
            let followed = world.follow(&shop, &[("A", seen)]).await.unwrap();
            assert_eq!((followed.applied, world.on_hand(&item).await), (usize::from(!durable), vec![seen]));
            world.catch_up();
        }
        assert_eq!(world.shards.erp_rows(shop.id(), "lince".into()).await.unwrap().unwrap(), [1, 2]);
        world.history_is_sound();
    });
}

#[test]
fn an_import_waits_for_what_an_erp_said_and_does_not_fail_for_it() {
    on_system(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let begun = world.bus.commits().len();
        world.bus.hold();
        let (shards, id) = (world.shards.clone(), shop.id());
        let following = actix_rt::spawn(async move { shards.follow(id, read(&[("A", 2)]), caller()).await });
        world.bus.begun(begun + 1).await;
        let (shards, id) = (world.shards.clone(), shop.id());
        let importing =
            actix_rt::spawn(async move { shards.import(id, import(vec![row("N-1")]), caller()).await });
        world.shards.locations(shop.id()).await.unwrap().unwrap();
        world.bus.release();
        assert!(following.await.unwrap().unwrap().is_ok());
        assert_eq!(importing.await.unwrap().unwrap().unwrap().created, 1);
        world.history_is_sound();
    });
}

//! What every hot tier must do, as functions over one that is empty. An adapter's tests call each of them.

use crate::domain::decimal::{MAX_UNITS, Quantity};
use crate::domain::idempotency::{Fingerprint, KeyHash};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::reservation::{Book, KeyUse, Keyed, Outcome, Reserve};
use crate::domain::stock::{Level, Levels, Place, Shortage};
use crate::ports::PortError;
use crate::ports::stock::HotStock;
use proptest::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

fn tenant(n: u8) -> TenantId {
    TenantId(Uuid::from_u128(u128::from(n) + 1))
}

fn unit(n: u8) -> UnitId {
    UnitId(Uuid::from_u128(u128::from(n) + 1))
}

fn sale(n: u64) -> SaleId {
    SaleId(Uuid::from_u128(u128::from(n) + 1))
}

fn location(n: u8) -> LocationId {
    LocationId(Uuid::from_u128(u128::from(n) + 1))
}

fn place(n: u8) -> Place {
    (unit(n), location(0))
}

fn quantity(units: i64) -> Quantity {
    Quantity::from_units(units).unwrap()
}

fn keyed(key: u8, body: u8) -> Keyed {
    Keyed { key: KeyHash(u128::from(key)), fingerprint: Fingerprint([body; 16]) }
}

fn ask(n: u64, demand: &[(u8, i64)], keyed: Option<Keyed>) -> Reserve {
    let demand = demand.iter().map(|(n, count)| (unit(*n), quantity(*count))).collect();
    Reserve { sale: sale(n), location: location(0), demand, keyed }
}

async fn loaded(stock: &mut dyn HotStock, levels: &[(u8, i64)]) {
    let levels = levels.iter().map(|(n, count)| (place(*n), quantity(*count))).collect();
    stock.load(tenant(0), levels).await.unwrap();
}

async fn level(stock: &dyn HotStock, n: u8) -> Option<(i64, i64)> {
    let level = stock.check(tenant(0), place(n)).await.unwrap();
    level.map(|level| (level.on_hand.units(), level.reserved.units()))
}

/// Settles one sale; whether it was open.
pub async fn settle(stock: &mut dyn HotStock, tenant: TenantId, sale: SaleId) -> Result<bool, PortError> {
    stock.settle(&[(tenant, sale)]).await.map(|settled| settled == 1)
}

pub async fn all_units_are_taken_or_none(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10), (1, 5), (2, 0)]).await;
    let reserved = stock.reserve(tenant(0), &ask(1, &[(0, 4), (1, 5)], None)).await.unwrap();
    assert_eq!(reserved, Outcome::Reserved);
    let short = |n, asked, available| Shortage {
        unit: unit(n),
        asked: quantity(asked),
        available: quantity(available),
    };
    // Every unit that is short is named, the one that would do is not taken.
    let refused = stock.reserve(tenant(0), &ask(2, &[(0, 6), (1, 1), (2, 2), (9, 3)], None)).await.unwrap();
    assert_eq!(refused, Outcome::Short(vec![short(1, 1, 0), short(2, 2, 0), short(9, 3, 0)]));
    assert_eq!(level(stock, 0).await, Some((10, 4)));
    assert!(!settle(stock, tenant(0), sale(2)).await.unwrap());
    let rest = stock.reserve(tenant(0), &ask(3, &[(0, 6)], None)).await.unwrap();
    assert_eq!(rest, Outcome::Reserved);
    let other_location = Reserve { location: location(1), ..ask(4, &[(0, 1)], None) };
    assert!(matches!(stock.reserve(tenant(0), &other_location).await.unwrap(), Outcome::Short(_)));
}

pub async fn what_is_not_positive_is_invalid_and_touches_nothing(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10)]).await;
    for bad in [0, -1, -MAX_UNITS] {
        let refused =
            stock.reserve(tenant(0), &ask(1, &[(0, 1), (1, bad)], Some(keyed(1, 1)))).await.unwrap();
        assert_eq!(refused, Outcome::Invalid(unit(1)), "{bad}");
    }
    assert_eq!(level(stock, 0).await, Some((10, 0)));
    assert_eq!(stock.key_use(tenant(0), KeyHash(1)).await.unwrap(), None);
    // A sale of services takes nothing and is a reservation all the same.
    assert_eq!(stock.reserve(tenant(0), &ask(2, &[], None)).await.unwrap(), Outcome::Reserved);
    assert!(settle(stock, tenant(0), sale(2)).await.unwrap());
}

pub async fn a_place_that_never_had_stock_is_not_an_empty_one(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 0), (1, 3)]).await;
    assert_eq!((level(stock, 0).await, level(stock, 2).await), (Some((0, 0)), None));
    stock.reserve(tenant(0), &ask(1, &[(1, 3)], None)).await.unwrap();
    settle(stock, tenant(0), sale(1)).await.unwrap();
    assert_eq!(level(stock, 1).await, Some((0, 0)));
    // Being asked for does not make a place, nor does a movement that is refused.
    stock.reserve(tenant(0), &ask(2, &[(2, 1)], None)).await.unwrap();
    let beyond = [(place(3), quantity(5)), (place(1), quantity(MAX_UNITS)), (place(1), quantity(1))];
    assert!(!stock.moved(tenant(0), &beyond).await.unwrap());
    assert_eq!((level(stock, 2).await, level(stock, 3).await), (None, None));
    assert_eq!(stock.levels(tenant(0)).await.unwrap().len(), 2);
}

pub async fn what_is_reserved_together_meets_in_its_order(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 400), (1, 1)]).await;
    stock.load(tenant(1), vec![(place(0), quantity(1))]).await.unwrap();
    let mut commands: Vec<_> = (0..500).map(|n| (tenant(0), ask(n, &[(0, 1)], None))).collect();
    commands.extend([(tenant(1), ask(0, &[(0, 1)], None)), (tenant(1), ask(1, &[(0, 1)], None))]);
    commands.extend([(tenant(0), ask(600, &[(1, 1)], Some(keyed(1, 1))))]);
    commands.extend([(tenant(0), ask(601, &[(1, 1)], Some(keyed(1, 1))))]);
    let asked: Vec<_> = commands.iter().map(|(tenant, command)| (*tenant, command)).collect();
    let outcomes = stock.reserve_all(&asked).await.unwrap();
    let reserved =
        |from: usize, to| outcomes[from..to].iter().filter(|outcome| **outcome == Outcome::Reserved).count();
    assert_eq!((reserved(0, 500), reserved(500, 501), reserved(501, 502)), (400, 1, 0));
    assert_eq!(outcomes[502..], [Outcome::Reserved, Outcome::Repeated(sale(600))]);
    assert_eq!((level(stock, 0).await, level(stock, 1).await), (Some((400, 400)), Some((1, 1))));
    assert!(stock.reserve_all(&[]).await.unwrap().is_empty());
}

pub async fn settle_and_void_happen_once(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10)]).await;
    stock.reserve(tenant(0), &ask(1, &[(0, 4)], None)).await.unwrap();
    assert_eq!(level(stock, 0).await, Some((10, 4)));
    assert!(settle(stock, tenant(0), sale(1)).await.unwrap());
    assert!(!settle(stock, tenant(0), sale(1)).await.unwrap());
    assert!(!stock.void(tenant(0), sale(1)).await.unwrap(), "what is settled is final");
    assert_eq!(level(stock, 0).await, Some((6, 0)));
    stock.reserve(tenant(0), &ask(2, &[(0, 6)], None)).await.unwrap();
    assert!(stock.void(tenant(0), sale(2)).await.unwrap());
    assert!(!stock.void(tenant(0), sale(2)).await.unwrap());
    assert!(!settle(stock, tenant(0), sale(2)).await.unwrap(), "what is void is final");
    assert_eq!(level(stock, 0).await, Some((6, 0)));
    assert!(!stock.void(tenant(0), sale(99)).await.unwrap());
}

pub async fn a_key_is_bound_with_the_units_and_free_after_a_void(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10)]).await;
    let first = ask(1, &[(0, 1)], Some(keyed(7, 1)));
    assert_eq!(stock.reserve(tenant(0), &first).await.unwrap(), Outcome::Reserved);
    let again = ask(2, &[(0, 1)], Some(keyed(7, 1)));
    let other = ask(3, &[(0, 2)], Some(keyed(7, 2)));
    for settled in [false, true] {
        assert_eq!(stock.reserve(tenant(0), &again).await.unwrap(), Outcome::Repeated(sale(1)), "{settled}");
        assert_eq!(stock.reserve(tenant(0), &other).await.unwrap(), Outcome::KeyReused, "{settled}");
        settle(stock, tenant(0), sale(1)).await.unwrap();
    }
    assert_eq!(level(stock, 0).await, Some((9, 0)));
    let used = KeyUse { fingerprint: Fingerprint([1; 16]), sale: sale(1) };
    assert_eq!(stock.key_use(tenant(0), KeyHash(7)).await.unwrap(), Some(used));
    // A key whose sale was short or void is free.
    let short = ask(4, &[(0, 99)], Some(keyed(8, 1)));
    assert!(matches!(stock.reserve(tenant(0), &short).await.unwrap(), Outcome::Short(_)));
    assert_eq!(stock.key_use(tenant(0), KeyHash(8)).await.unwrap(), None);
    stock.reserve(tenant(0), &ask(5, &[(0, 1)], Some(keyed(8, 2)))).await.unwrap();
    stock.void(tenant(0), sale(5)).await.unwrap();
    let third = ask(6, &[(0, 1)], Some(keyed(8, 3)));
    assert_eq!(stock.reserve(tenant(0), &third).await.unwrap(), Outcome::Reserved);
}

pub async fn a_load_starts_the_tenant_over(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10), (1, 10)]).await;
    stock.reserve(tenant(0), &ask(1, &[(0, 4)], Some(keyed(1, 1)))).await.unwrap();
    stock
        .remember_key(tenant(0), KeyHash(2), KeyUse { fingerprint: Fingerprint([2; 16]), sale: sale(9) })
        .await
        .unwrap();
    loaded(stock, &[(0, 3)]).await;
    assert_eq!((level(stock, 0).await, level(stock, 1).await), (Some((3, 0)), None));
    assert!(
        !settle(stock, tenant(0), sale(1)).await.unwrap() && !stock.void(tenant(0), sale(1)).await.unwrap()
    );
    for key in [1, 2] {
        assert_eq!(stock.key_use(tenant(0), KeyHash(key)).await.unwrap(), None);
    }
}

pub async fn movements_are_all_or_none_at_the_bounds(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10), (1, MAX_UNITS)]).await;
    let beyond = [(place(0), quantity(5)), (place(0), quantity(-2)), (place(1), quantity(1))];
    assert!(!stock.moved(tenant(0), &beyond).await.unwrap());
    assert_eq!((level(stock, 0).await, level(stock, 1).await), (Some((10, 0)), Some((MAX_UNITS, 0))));
    // Taken in order: room that is made first may be used after.
    let swapped =
        [(place(1), quantity(-1)), (place(1), quantity(1)), (place(0), quantity(5)), (place(5), quantity(2))];
    assert!(stock.moved(tenant(0), &swapped).await.unwrap());
    assert_eq!((level(stock, 0).await, level(stock, 1).await), (Some((15, 0)), Some((MAX_UNITS, 0))));
    assert_eq!(level(stock, 5).await, Some((2, 0)));
    assert!(stock.moved(tenant(0), &[]).await.unwrap());
}

pub async fn a_tenant_that_is_not_loaded_is_an_error(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10)]).await;
    let stranger = tenant(1);
    assert!(stock.reserve(stranger, &ask(1, &[(0, 1)], None)).await.unwrap_err().is_transient());
    assert!(stock.check(stranger, place(0)).await.is_err() && stock.levels(stranger).await.is_err());
    assert!(settle(stock, stranger, sale(1)).await.is_err() && stock.void(stranger, sale(1)).await.is_err());
    assert!(stock.moved(stranger, &[]).await.is_err() && stock.key_use(stranger, KeyHash(1)).await.is_err());
    let used = KeyUse { fingerprint: Fingerprint([1; 16]), sale: sale(1) };
    assert!(stock.remember_key(stranger, KeyHash(1), used).await.is_err());
    // A tenant that is loaded empty is not one that is missing.
    stock.load(stranger, vec![]).await.unwrap();
    assert!(matches!(stock.reserve(stranger, &ask(1, &[(0, 1)], None)).await.unwrap(), Outcome::Short(_)));
}

pub async fn tenants_with_the_same_units_do_not_meet(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 10)]).await;
    stock.load(tenant(1), vec![(place(0), quantity(2))]).await.unwrap();
    let key = Some(keyed(1, 1));
    assert_eq!(stock.reserve(tenant(1), &ask(1, &[(0, 2)], key)).await.unwrap(), Outcome::Reserved);
    assert_eq!(level(stock, 0).await, Some((10, 0)));
    assert_eq!(stock.key_use(tenant(0), KeyHash(1)).await.unwrap(), None);
    assert!(!settle(stock, tenant(0), sale(1)).await.unwrap());
    assert!(settle(stock, tenant(1), sale(1)).await.unwrap());
}

pub async fn a_batch_is_settled_together_whatever_its_tenants(stock: &mut dyn HotStock) {
    loaded(stock, &[(0, 1_000), (1, 1_000)]).await;
    stock.load(tenant(1), vec![(place(0), quantity(1_000))]).await.unwrap();
    assert_eq!(stock.settle(&[]).await.unwrap(), 0);
    let mut batch = Vec::new();
    for n in 0..300 {
        let (of, lines) =
            if n % 3 == 2 { (tenant(1), &[(0, 3)][..]) } else { (tenant(0), &[(0, 2), (1, 1)][..]) };
        assert_eq!(stock.reserve(of, &ask(n, lines, None)).await.unwrap(), Outcome::Reserved);
        batch.push((of, sale(n)));
    }
    // One that was never made, one that stands there twice, one under the name of another tenant.
    batch.extend([(tenant(0), sale(999)), batch[0], (tenant(1), sale(0))]);
    assert_eq!(stock.settle(&batch).await.unwrap(), 300);
    assert_eq!((level(stock, 0).await, level(stock, 1).await), (Some((600, 0)), Some((800, 0))));
    let other = stock.check(tenant(1), place(0)).await.unwrap().unwrap();
    assert_eq!((other.on_hand, other.reserved), (quantity(700), quantity(0)));
    assert_eq!(stock.settle(&batch).await.unwrap(), 0, "settled twice");
}

/// `stock` keeps `keep` settled keys.
pub async fn the_oldest_keys_are_forgotten_once_the_ledger_has_them(stock: &mut dyn HotStock, keep: usize) {
    loaded(stock, &[(0, 1_000)]).await;
    let count = u64::try_from(keep).unwrap() + 3;
    for n in 0..count {
        stock.reserve(tenant(0), &ask(n, &[(0, 1)], Some(keyed(u8::try_from(n).unwrap(), 1)))).await.unwrap();
        settle(stock, tenant(0), sale(n)).await.unwrap();
    }
    let known = async |stock: &dyn HotStock| {
        let mut known = Vec::new();
        for n in 0..count {
            if stock.key_use(tenant(0), KeyHash(u128::from(n))).await.unwrap().is_some() {
                known.push(n);
            }
        }
        known
    };
    stock.forget_keys(tenant(0), &|id| id < sale(2)).await.unwrap();
    assert_eq!(known(stock).await, (2..count).collect::<Vec<_>>(), "a key was forgotten that only we know");
    stock.forget_keys(tenant(0), &|_| true).await.unwrap();
    assert_eq!(known(stock).await, (3..count).collect::<Vec<_>>());
}

/// Lines of a sale, and its key and body.
type Asked = (Vec<(u8, i64)>, Option<(u8, u8)>);

/// One command of a random sequence.
#[derive(Clone, Debug)]
pub enum Step {
    Load(Vec<(u8, i64)>),
    Moved(Vec<(u8, i64)>),
    /// One, or several together.
    Reserve(Vec<Asked>),
    Settle(u64),
    Void(u64),
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amount = || prop_oneof![12 => -3_i64..12, 1 => Just(MAX_UNITS), 1 => Just(-MAX_UNITS)];
    let stock = prop_oneof![12 => 0_i64..30, 1 => Just(MAX_UNITS)];
    // Each unit once: summing lines is the caller's.
    let demand =
        prop::collection::btree_map(0_u8..4, amount(), 0..4).prop_map(|map| map.into_iter().collect());
    let asked = (demand, prop::option::of((0_u8..5, 0_u8..2)));
    let step = prop_oneof![
        1 => prop::collection::vec((0_u8..4, stock), 0..4).prop_map(dedup).prop_map(Step::Load),
        3 => prop::collection::vec((0_u8..4, amount()), 0..4).prop_map(Step::Moved),
        8 => prop::collection::vec(asked, 1..5).prop_map(Step::Reserve),
        4 => (0_u64..300).prop_map(Step::Settle),
        2 => (0_u64..300).prop_map(Step::Void),
    ];
    prop::collection::vec(step, 1..80)
}

fn dedup(levels: Vec<(u8, i64)>) -> Vec<(u8, i64)> {
    levels.into_iter().collect::<HashMap<_, _>>().into_iter().collect()
}

/// Every step comes to what the pure book comes to.
pub async fn does_what_the_book_does(stock: &mut dyn HotStock, steps: Vec<Step>) {
    loaded(stock, &[]).await;
    let mut book = Book::default();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Load(levels) => {
                loaded(stock, &levels).await;
                let mut fresh = Levels::default();
                for (n, count) in levels {
                    fresh.move_by(place(n), quantity(count));
                }
                book = Book::new(fresh);
            }
            Step::Moved(movements) => {
                let movements: Vec<_> =
                    movements.into_iter().map(|(n, count)| (place(n), quantity(count))).collect();
                let mut sums: HashMap<Place, Option<Quantity>> = HashMap::new();
                for (place, delta) in &movements {
                    let now = sums.entry(*place).or_insert_with(|| Some(book.levels().at(*place).on_hand));
                    *now = now.and_then(|now| now.checked_add(*delta));
                }
                let fits = sums.values().all(Option::is_some);
                assert_eq!(stock.moved(tenant(0), &movements).await.unwrap(), fits);
                if fits {
                    for (place, delta) in &movements {
                        book.levels_mut().move_by(*place, *delta);
                    }
                }
            }
            Step::Reserve(asked) => {
                let commands: Vec<_> = (n as u64 * 5..)
                    .zip(asked)
                    .map(|(n, (lines, key))| ask(n, &lines, key.map(|(key, body)| keyed(key, body))))
                    .collect();
                let expected: Vec<_> = commands.iter().map(|command| book.reserve(command)).collect();
                let found = match &commands[..] {
                    [one] => vec![stock.reserve(tenant(0), one).await.unwrap()],
                    all => {
                        let all: Vec<_> = all.iter().map(|command| (tenant(0), command)).collect();
                        stock.reserve_all(&all).await.unwrap()
                    }
                };
                assert_eq!(found, expected);
            }
            Step::Settle(n) => {
                assert_eq!(settle(stock, tenant(0), sale(n)).await.unwrap(), book.settle(sale(n)));
            }
            Step::Void(n) => assert_eq!(stock.void(tenant(0), sale(n)).await.unwrap(), book.void(sale(n))),
        }
        let found: HashMap<Place, Level> = stock.levels(tenant(0)).await.unwrap().into_iter().collect();
        assert_eq!(found, book.levels().iter().collect());
        for key in 0..5 {
            let key = KeyHash(key);
            assert_eq!(stock.key_use(tenant(0), key).await.unwrap(), book.key_use(key));
        }
    }
}

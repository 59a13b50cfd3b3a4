//! The book against a model of a hundred lines that does the same the slow and obvious way.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

fn unit(n: u8) -> UnitId {
    UnitId(Uuid::from_u128(u128::from(n) + 1))
}

fn sale(n: u64) -> SaleId {
    SaleId(Uuid::from_u128(u128::from(n) + 1))
}

fn here() -> LocationId {
    LocationId(Uuid::from_u128(7))
}

fn quantity(units: i64) -> Quantity {
    Quantity::from_units(units).unwrap()
}

fn keyed(key: u8, body: u8) -> Keyed {
    Keyed { key: KeyHash(u128::from(key)), fingerprint: Fingerprint([body; 16]) }
}

/// What the model keeps of a reservation.
type Entry = (Vec<(UnitId, i64)>, Option<Keyed>, State);

/// The model: stock per unit, reservations as lists, no sums kept, everything recomputed.
#[derive(Default)]
struct Model {
    stock: BTreeMap<UnitId, i128>,
    reservations: BTreeMap<SaleId, Entry>,
}

impl Model {
    fn available(&self, unit: UnitId) -> i128 {
        let taken: i128 = self
            .reservations
            .values()
            .filter(|(_, _, state)| *state != State::Voided)
            .flat_map(|(demand, _, _)| demand)
            .filter(|(taken, _)| *taken == unit)
            .map(|(_, quantity)| i128::from(*quantity))
            .sum();
        self.stock.get(&unit).copied().unwrap_or(0) - taken
    }

    fn reserve(&mut self, id: SaleId, demand: &[(UnitId, i64)], keyed: Option<Keyed>) -> Outcome {
        if let Some(keyed) = keyed {
            let alive = |(_, other, state): &&Entry| {
                *state != State::Voided && other.is_some_and(|other| other.key == keyed.key)
            };
            let owner = self.reservations.iter().find(|(_, entry)| alive(entry));
            if let Some((owner, (_, Some(used), _))) = owner {
                let same = used.fingerprint == keyed.fingerprint;
                return if same { Outcome::Repeated(*owner) } else { Outcome::KeyReused };
            }
        }
        if let Some((unit, _)) = demand.iter().find(|(_, quantity)| *quantity <= 0) {
            return Outcome::Invalid(*unit);
        }
        let short: Vec<Shortage> = demand
            .iter()
            .filter(|(unit, asked)| i128::from(*asked) > self.available(*unit))
            .map(|(unit, asked)| Shortage {
                unit: *unit,
                asked: quantity(*asked),
                available: quantity(i64::try_from(self.available(*unit)).unwrap()),
            })
            .collect();
        if !short.is_empty() {
            return Outcome::Short(short);
        }
        self.reservations.insert(id, (demand.to_vec(), keyed, State::Reserved));
        Outcome::Reserved
    }

    fn finish(&mut self, id: SaleId, transition: Transition) -> bool {
        match self.reservations.get_mut(&id) {
            Some((_, _, state)) if *state == State::Reserved => {
                *state = state.apply(transition).unwrap();
                true
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Stock(u8, i64),
    Reserve(Vec<(u8, i64)>, Option<(u8, u8)>),
    Settle(u64),
    Void(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Small numbers meet each other; the big ones reach for the bound.
    let amount = prop_oneof![8 => -2_i64..9, 1 => Just(crate::domain::decimal::MAX_UNITS)];
    let lines = prop::collection::vec((0_u8..4, amount), 1..6);
    prop_oneof![
        2 => (0_u8..4, prop_oneof![8 => 1_i64..20, 1 => Just(crate::domain::decimal::MAX_UNITS)])
            .prop_map(|(unit, amount)| Step::Stock(unit, amount)),
        5 => (lines, prop::option::of((0_u8..6, 0_u8..2))).prop_map(|(lines, key)| Step::Reserve(lines, key)),
        3 => (0_u64..40).prop_map(Step::Settle),
        2 => (0_u64..40).prop_map(Step::Void),
    ]
}

/// Lines as a basket has them, duplicates and all, summed the way a sale sums them; `None` beyond the bound.
fn demand(lines: &[(u8, i64)]) -> Option<Vec<(UnitId, i64)>> {
    let mut sums: BTreeMap<UnitId, i64> = BTreeMap::new();
    for (n, amount) in lines {
        let sum = sums.entry(unit(*n)).or_default();
        *sum = quantity(*sum).checked_add(quantity(*amount))?.units();
    }
    Some(sums.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_book_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
        let (mut book, mut model) = (Book::default(), Model::default());
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Stock(u, amount) => {
                    let sum = model.stock.get(&unit(u)).copied().unwrap_or(0) + i128::from(amount);
                    let settled = book.levels().at((unit(u), here())).on_hand.units();
                    let fits = Quantity::from_units(settled + amount).is_some();
                    prop_assert_eq!(book.levels_mut().move_by((unit(u), here()), quantity(amount)), fits);
                    if fits { model.stock.insert(unit(u), sum); }
                }
                Step::Reserve(lines, key) => {
                    let Some(demand) = demand(&lines) else { continue };
                    let key = key.map(|(key, body)| keyed(key, body));
                    let command = Reserve {
                        sale: sale(n as u64),
                        location: here(),
                        demand: demand.iter().map(|(unit, amount)| (*unit, quantity(*amount))).collect(),
                        keyed: key,
                    };
                    prop_assert_eq!(book.reserve(&command), model.reserve(sale(n as u64), &demand, key));
                }
                Step::Settle(id) => {
                    prop_assert_eq!(book.settle(sale(id)), model.finish(sale(id), Transition::Settle));
                }
                Step::Void(id) => prop_assert_eq!(book.void(sale(id)), model.finish(sale(id), Transition::Void)),
            }
            for u in 0..4 {
                let level = book.levels().at((unit(u), here()));
                prop_assert_eq!(i128::from(level.available().units()), model.available(unit(u)));
                prop_assert!(level.available() >= Quantity::ZERO && level.reserved >= Quantity::ZERO);
            }
        }
        let open = model.reservations.values().filter(|(_, _, state)| *state == State::Reserved).count();
        prop_assert_eq!(book.open_count(), open);
    }
}

#[test]
fn final_states_are_final() {
    assert_eq!(State::Reserved.apply(Transition::Settle), Some(State::Settled));
    assert_eq!(State::Reserved.apply(Transition::Void), Some(State::Voided));
    assert_eq!(State::Settled.apply(Transition::Settle), Some(State::Settled));
    assert_eq!(State::Settled.apply(Transition::Void), None);
    assert_eq!(State::Voided.apply(Transition::Settle), None);
}

#[test]
fn a_voided_key_is_free_and_a_settled_one_is_kept_until_the_ledger_has_it() {
    let mut book = Book::default();
    book.levels_mut().move_by((unit(0), here()), quantity(10_000));
    let ask = |n, key| Reserve {
        sale: sale(n),
        location: here(),
        demand: vec![(unit(0), quantity(1_000))],
        keyed: Some(keyed(key, 0)),
    };
    assert_eq!(book.reserve(&ask(1, 1)), Outcome::Reserved);
    assert!(book.void(sale(1)));
    for n in 2..6 {
        assert_eq!(book.reserve(&ask(n, n as u8 - 1)), Outcome::Reserved);
        assert!(book.settle(sale(n)));
    }
    assert_eq!(book.reserve(&ask(9, 1)), Outcome::Repeated(sale(2)));
    let in_ledger = |id: SaleId| id <= sale(3);
    assert_eq!(book.forget_keys(1, in_ledger), [KeyHash(1), KeyHash(2)]);
    assert!(book.key_use(KeyHash(2)).is_none() && book.key_use(KeyHash(3)).is_some());
}

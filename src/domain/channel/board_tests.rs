//! The board, alone: nothing is lost, doubled or reordered, whatever happens to pushes.

use super::*;
use proptest::prelude::*;
use uuid::Uuid;

const LOOSE: Guard = Guard { units: usize::MAX, percent: 100 };

fn unit(n: u128) -> UnitId {
    UnitId(Uuid::from_u128(n))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn board(units: u128, shown: i64) -> Board {
    let mut board = Board::default();
    (0..units).for_each(|n| board.map(unit(n), format!("i{n}"), Some(shown)));
    board
}

#[test]
fn ten_sales_of_one_unit_are_one_push_of_the_newest_quantity() {
    let mut board = board(2, 20);
    (1..=10).for_each(|n| board.want(unit(0), 20 - n, true, at(n)));
    board.want(unit(1), 20, true, at(1));
    let push = Push { unit: unit(0), item: "i0".into(), quantity: 10, from: Some(20) };
    assert_eq!(board.take(9, LOOSE, at(11)), [push]);
    assert_eq!(board.oldest(), Some(at(1)), "the lag counts from the first");
    // While it is on its way more is sold: the next push waits and starts from what was confirmed.
    board.want(unit(0), 7, true, at(12));
    assert!(board.take(9, LOOSE, at(12)).is_empty());
    board.show(unit(0), Some(10), at(13));
    let next = board.take(9, LOOSE, at(13));
    assert_eq!((next[0].quantity, next[0].from), (7, Some(10)));
    board.show(unit(0), Some(7), at(14));
    assert!(!board.has_work() && board.oldest().is_none() && board.counts() == [2, 0, 0, 0]);
}

#[test]
fn what_failed_stays_failed_until_it_changes_or_is_asked_for() {
    let mut board = board(1, 5);
    board.want(unit(0), 4, true, at(1));
    let pushed = board.take(1, LOOSE, at(1));
    board.fail(unit(0), pushed[0].quantity);
    assert_eq!((board.has_work(), board.counts()), (false, [0, 0, 0, 1]));
    assert_eq!((board.try_again(Some(unit(9))), board.try_again(None)), (0, 1));
    assert_eq!(board.take(1, LOOSE, at(3))[0].quantity, 4);
    board.fail(unit(0), 4);
    board.want(unit(0), 3, true, at(2));
    assert!(board.has_work(), "another quantity is another push");
    board.want(unit(0), 4, true, at(2));
    assert_eq!(board.take(1, LOOSE, at(3)).len(), 1, "and so is the first one when it comes back");
    board.show(unit(0), Some(4), at(4));
    assert_eq!(board.counts(), [1, 0, 0, 0]);
}

#[test]
fn a_dead_letter_means_nothing_once_something_else_is_wanted_or_shown() {
    let mut board = board(5, 5);
    for n in 0..4 {
        board.want(unit(n), 4, true, at(1));
        board.take(1, LOOSE, at(1));
        board.fail(unit(n), 4);
    }
    assert!(board.superseded().is_empty());
    board.want(unit(0), 3, true, at(2));
    board.want(unit(1), 5, true, at(2));
    board.unmap(unit(2));
    board.try_again(Some(unit(3)));
    board.failed_before(unit(4));
    board.failed_before(unit(9));
    let mut gone = board.superseded();
    gone.sort();
    assert_eq!(gone, [unit(0), unit(1), unit(2), unit(9)]);
    board.want(unit(4), 4, false, at(3));
    assert!(board.superseded().is_empty(), "it is tried again first");
    board.want(unit(4), 5, false, at(4));
    assert_eq!(board.superseded(), [unit(4)]);
}

#[test]
fn zeros_that_nobody_sold_are_held_until_somebody_confirms_them() {
    let guard = Guard { units: 3, percent: 20 };
    let mut board = board(10, 5);
    (0..3).for_each(|n| board.want(unit(n), 0, false, at(1)));
    board.want(unit(3), 0, true, at(1));
    board.want(unit(4), 2, false, at(1));
    let taken: Vec<_> = board.take(99, guard, at(2)).iter().map(|push| push.unit).collect();
    assert_eq!(taken, [unit(3), unit(4)]);
    assert_eq!(board.counts(), [5, 2, 3, 0]);
    // Held although the others come back; one that has stock again is let go.
    board.want(unit(0), 1, false, at(3));
    assert_eq!(board.take(99, guard, at(3)).len(), 1);
    assert_eq!(board.confirm_zeros(), 2);
    assert_eq!(board.take(99, guard, at(4)).len(), 2);
}

#[test]
fn what_shows_less_than_it_should_is_lowered_at_once_and_raised_later() {
    let mut board = board(2, 5);
    for (n, wanted) in [(0, 4), (1, 2)] {
        board.want(unit(n), wanted, true, at(1));
        board.take(9, LOOSE, at(1));
        board.show(unit(n), Some(3), at(2));
        board.wait_before_raising(unit(n), at(5));
    }
    let now: Vec<_> = board.take(9, LOOSE, at(2)).iter().map(|push| push.unit).collect();
    assert_eq!((now, board.has_work()), (vec![unit(1)], true));
    assert_eq!(board.take(9, LOOSE, at(5))[0].unit, unit(0));
}

#[derive(Clone, Debug)]
enum Step {
    Want(u128, i64),
    Take(usize),
    Land,
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u128..5, 0_i64..20).prop_map(|(unit, wanted)| Step::Want(unit, wanted)),
        2 => (1_usize..4).prop_map(Step::Take),
        2 => Just(Step::Land),
        1 => Just(Step::Lose),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Whatever happens in whatever order: never two pushes of a unit at once, each from what is confirmed, and
    /// when all is taken the marketplace shows what it should.
    #[test]
    fn the_marketplace_ends_at_what_it_should_show(steps in steps()) {
        let mut board = board(5, 9);
        let mut there: HashMap<UnitId, i64> = (0..5).map(|n| (unit(n), 9)).collect();
        let mut wanted = there.clone();
        let mut under_way: Vec<Push> = Vec::new();
        let all = steps.into_iter().chain((0..50).flat_map(|_| [Step::Land, Step::Take(9)]));
        for (second, step) in (0..).zip(all) {
            match step {
                Step::Want(n, quantity) => {
                    wanted.insert(unit(n), quantity);
                    board.want(unit(n), quantity, true, at(second));
                }
                Step::Take(max) => {
                    for push in board.take(max, LOOSE, at(second)) {
                        prop_assert!(under_way.iter().all(|other| other.unit != push.unit));
                        prop_assert_eq!(push.from, Some(there[&push.unit]));
                        under_way.push(push);
                    }
                }
                Step::Land => {
                    if let Some(push) = under_way.pop() {
                        there.insert(push.unit, push.quantity);
                        board.show(push.unit, Some(push.quantity), at(second));
                    }
                }
                Step::Lose => {
                    if let Some(push) = under_way.pop() {
                        board.give_back(push.unit);
                    }
                }
            }
        }
        prop_assert_eq!(there, wanted);
        prop_assert!(!board.has_work() && board.oldest().is_none());
    }
}

use super::*;
use proptest::prelude::*;
use uuid::Uuid;

fn id(n: u8) -> NodeId {
    NodeId(Uuid::from_u128(n.into()))
}

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn says(n: u8, holds: &[(usize, i64)]) -> Announcement {
    let holds = holds.iter().map(|(shard, since)| (*shard, at(*since))).collect();
    Announcement { node: id(n), address: format!("n{n}:80"), holds, leaving: false }
}

proptest! {
    #[test]
    fn parts_are_even_and_nobody_gives_away_more_than_is_needed(
        nodes in prop::collection::btree_set(0_u8..6, 1..6),
        held in prop::collection::vec(prop::option::of(0_u8..8), 0..20),
    ) {
        let nodes: BTreeSet<NodeId> = nodes.into_iter().map(id).collect();
        let held: Vec<_> = held.into_iter().map(|holder| holder.map(id)).collect();
        let assigned = divide(&nodes, &held);
        prop_assert_eq!(assigned.len(), held.len());
        let count = |of: &[Option<NodeId>], node: &NodeId| of.iter().filter(|at| at.as_ref() == Some(node)).count();
        let parts: Vec<usize> = nodes.iter().map(|node| count(&assigned, node)).collect();
        prop_assert_eq!(parts.iter().sum::<usize>(), held.len(), "a shard without a node");
        let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{:?}", parts);
        for node in &nodes {
            let kept = held.iter().zip(&assigned).filter(|(was, is)| was == is && was.as_ref() == Some(node)).count();
            prop_assert_eq!(kept, count(&held, node).min(count(&assigned, node)), "given away for nothing");
        }
        // Once everybody has what it should, nothing moves.
        prop_assert_eq!(divide(&nodes, &assigned), assigned);
    }
}

#[test]
fn a_node_that_joins_gets_its_part_and_one_that_goes_leaves_it_to_the_rest() {
    let start = Instant::now();
    let mut roll = Roll::new(id(1), "n1:80".into(), 4);
    assert_eq!(roll.view().assigned, [None; 4], "before it has listened");
    roll.take_part();
    assert_eq!(roll.view().assigned, [Some(id(1)); 4]);
    (0..4).for_each(|shard| roll.hold(shard, at(1)));
    assert!(roll.heard(says(2, &[]), start) && !roll.heard(says(2, &[]), start));
    let view = roll.view();
    assert_eq!(view.assigned, [Some(id(1)), Some(id(1)), Some(id(2)), Some(id(2))]);
    // It is still here until it is handed over.
    assert_eq!(view.owner(2, id(1)), Owner::Here);
    roll.let_go(2);
    assert_eq!(roll.view().owner(2, id(1)), Owner::Nobody);
    roll.heard(says(2, &[(2, 5)]), start);
    let view = roll.view();
    assert_eq!((view.owner(2, id(1)), view.owner(3, id(1))), (Owner::At("n2:80".into()), Owner::Here));
    // Silence is only counted while one listens.
    roll.listen_again(start + SILENCE);
    roll.expire(start + SILENCE + SILENCE / 2);
    assert_eq!(roll.view().nodes.len(), 2);
    roll.expire(start + SILENCE * 2);
    let view = roll.view();
    assert_eq!((&view.assigned, &view.holders[2]), (&vec![Some(id(1)); 4], &None));
    assert_eq!(view.owner(2, id(1)), Owner::Nobody);
}

#[test]
fn one_that_leaves_gets_nothing_and_is_asked_as_long_as_it_holds() {
    let mut roll = Roll::new(id(1), "n1:80".into(), 2);
    roll.take_part();
    roll.heard(Announcement { leaving: true, ..says(2, &[(0, 1), (1, 1)]) }, Instant::now());
    let view = roll.view();
    assert_eq!(view.assigned, [Some(id(1)); 2]);
    assert_eq!(view.owner(0, id(1)), Owner::At("n2:80".into()));
    roll.leave();
    assert_eq!(roll.view().assigned, [None, None]);
}

#[test]
fn of_two_that_say_they_hold_a_shard_the_later_one_is_right() {
    let mut roll = Roll::new(id(1), "n1:80".into(), 1);
    roll.hold(0, at(10));
    roll.heard(says(2, &[(0, 9)]), Instant::now());
    assert_eq!(roll.view().owner(0, id(1)), Owner::Here);
    roll.heard(says(2, &[(0, 11), (7, 1)]), Instant::now());
    assert_eq!(roll.view().owner(0, id(1)), Owner::At("n2:80".into()));
    // The claim comes here, and the clock here is behind.
    roll.hold(0, at(3));
    assert_eq!((roll.view().owner(0, id(1)), roll.announcement().holds[&0]), (Owner::Here, at(12)));
    roll.let_go(0);
    // A command that serves nobody cannot be asked.
    roll.heard(Announcement { address: String::new(), ..says(2, &[(0, 11)]) }, Instant::now());
    assert_eq!(roll.view().owner(0, id(1)), Owner::Nobody);
}

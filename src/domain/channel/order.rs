//! An order that was placed at a marketplace, as far as stock is concerned. Nothing about the buyer is kept.

use crate::domain::ids::UnitId;
use crate::domain::time::Timestamp;
use std::collections::BTreeMap;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderState {
    /// It takes stock.
    Placed,
    /// It does not, or not any more.
    Cancelled,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderLine {
    /// The item there, in the form in which it is mapped.
    pub item: String,
    /// Its SKU there, for whoever has to sort it out.
    pub sku: Option<String>,
    /// Wholes.
    pub quantity: i64,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id there: what makes a second telling harmless.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Where it stands.
    pub state: OrderState,
    /// When it changed last, as far as that is said: news of an older state says nothing.
    pub version: Timestamp,
    /// Its lines.
    pub lines: Vec<OrderLine>,
}

/// What an order asks of us, once its items are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Units and wholes, each unit once.
    pub lines: Vec<(UnitId, i64)>,
    /// Lines whose item is not mapped: they take no stock here, and somebody has to know.
    pub unknown: Vec<OrderLine>,
}

impl Order {
    /// Sums the lines per unit.
    pub fn demand(&self, unit_of: impl Fn(&str) -> Option<UnitId>) -> Demand {
        let mut demand = Demand { lines: Vec::new(), unknown: Vec::new() };
        for line in self.lines.iter().filter(|line| line.quantity > 0) {
            let Some(unit) = unit_of(&line.item) else {
                demand.unknown.push(line.clone());
                continue;
            };
            match demand.lines.iter_mut().find(|(known, _)| *known == unit) {
                Some((_, quantity)) => *quantity = quantity.saturating_add(line.quantity),
                None => demand.lines.push((unit, line.quantity)),
            }
        }
        demand
    }
}

impl Demand {
    /// Units of which the order takes more (+) or less (-) than what was taken for it; none when it is the same.
    pub fn change_from(&self, taken: &[(UnitId, i64)]) -> Vec<(UnitId, i64)> {
        let mut change: BTreeMap<UnitId, i64> = BTreeMap::new();
        for (unit, quantity) in &self.lines {
            let entry = change.entry(*unit).or_default();
            *entry = entry.saturating_add(*quantity);
        }
        for (unit, quantity) in taken {
            let entry = change.entry(*unit).or_default();
            *entry = entry.saturating_sub(*quantity);
        }
        change.into_iter().filter(|(_, by)| *by != 0).collect()
    }
}

#[test]
fn an_edit_is_what_differs_from_what_was_taken() {
    let [a, b, c] = [1, 2, 3].map(|n| UnitId(uuid::Uuid::from_u128(n)));
    let demand = Demand { lines: vec![(a, 2), (b, 5)], unknown: Vec::new() };
    assert!(demand.change_from(&[(b, 5), (a, 1), (a, 1)]).is_empty());
    assert_eq!(demand.change_from(&[(a, 3), (c, 4)]), [(a, -1), (b, 5), (c, -4)]);
}

#[test]
fn lines_are_summed_per_unit_and_unknown_ones_are_named() {
    let (a, b) = (UnitId(uuid::Uuid::from_u128(1)), UnitId(uuid::Uuid::from_u128(2)));
    let line = |item: &str, quantity| OrderLine { item: item.into(), sku: None, quantity };
    let lines = vec![line("a", 2), line("b", 1), line("x", 4), line("a", 3), line("b", 0), line("y", -1)];
    let (state, version) = (OrderState::Placed, Timestamp::default());
    let order = Order { id: "1".into(), name: "#1".into(), state, version, lines };
    let demand = order.demand(|item| match item {
        "a" => Some(a),
        "b" => Some(b),
        _ => None,
    });
    assert_eq!(demand.lines, [(a, 5), (b, 1)]);
    assert_eq!(demand.unknown, [line("x", 4)]);
}

//! Which unit of ours is which item of theirs: found by SKU, never guessed.

use crate::domain::catalogue::Unit;
use crate::domain::ids::UnitId;
use std::collections::HashMap;
use std::sync::Arc;

/// An item as the marketplace lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id there.
    pub item: String,
    /// Its SKU there, if it has one. Not unique.
    pub sku: Option<String>,
    /// What it is called there.
    pub title: String,
}

/// What was found out about all units and items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchReport {
    /// One unit, one item.
    pub matched: Vec<(UnitId, Listed)>,
    /// Units that nothing there has the SKU of.
    pub unmatched_units: Vec<(UnitId, Arc<str>)>,
    /// Items whose SKU no unit has.
    pub unmatched_items: Vec<Listed>,
    /// Several items with the SKU of one unit: a person has to choose.
    pub ambiguous: Vec<(UnitId, Arc<str>, Vec<Listed>)>,
}

/// Compares SKUs, without the spaces around them and in any letter case: marketplaces trim and fold them as they like.
pub fn match_by_sku(units: &[Arc<Unit>], listed: &[Listed]) -> MatchReport {
    let folded = |sku: &str| sku.trim().to_lowercase();
    let mut by_sku: HashMap<String, Vec<&Listed>> = HashMap::new();
    for item in listed {
        let sku = item.sku.as_deref().map(folded).unwrap_or_default();
        by_sku.entry(sku).or_default().push(item);
    }
    let nameless = by_sku.remove("").unwrap_or_default();
    let mut report = MatchReport::default();
    let mut claims: HashMap<String, usize> = HashMap::new();
    let mine = || units.iter().filter(|unit| unit.kind.has_stock());
    for unit in mine() {
        *claims.entry(folded(&unit.sku)).or_default() += 1;
    }
    for unit in mine() {
        let sku = folded(&unit.sku);
        match by_sku.get(&sku).map(Vec::as_slice) {
            None => report.unmatched_units.push((unit.id, unit.sku.clone())),
            // Two units of ours that differ in letter case only: neither may be taken for the item.
            Some([item]) if claims.get(&sku) == Some(&1) => report.matched.push((unit.id, (*item).clone())),
            Some(items) => {
                let items = items.iter().map(|item| (*item).clone()).collect();
                report.ambiguous.push((unit.id, unit.sku.clone(), items));
            }
        }
    }
    let unknown =
        by_sku.into_iter().filter(|(sku, _)| !claims.contains_key(sku)).flat_map(|(_, items)| items);
    report.unmatched_items = unknown.chain(nameless).cloned().collect();
    report.unmatched_items.sort_by(|one, other| one.item.cmp(&other.item));
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::{UnitKind, tests::unit};

    #[test]
    fn each_unit_and_item_is_in_exactly_one_list() {
        let units: Vec<Arc<Unit>> = ["A-1", "B-2", "C-3", "d-4", "D-4"]
            .map(|sku| Arc::new(unit(sku, UnitKind::General, "1")))
            .into_iter()
            .chain([Arc::new(unit("SERV", UnitKind::Servicio, "1"))])
            .collect();
        let item = |id: &str, sku: Option<&str>| Listed {
            item: id.into(),
            sku: sku.map(str::to_owned),
            title: String::new(),
        };
        let listed = [
            item("1", Some(" a-1 ")),
            item("2", Some("B-2")),
            item("3", Some("b-2")),
            item("4", Some("D-4")),
            item("5", Some("Z-9")),
            item("6", None),
            item("7", Some("  ")),
            item("8", Some("SERV")),
        ];
        let report = match_by_sku(&units, &listed);
        let ids = |items: &[Listed]| items.iter().map(|item| item.item.clone()).collect::<Vec<_>>();
        assert_eq!(report.matched, [(units[0].id, listed[0].clone())]);
        assert_eq!(report.unmatched_units, [(units[2].id, units[2].sku.clone())]);
        assert_eq!(ids(&report.unmatched_items), ["5", "6", "7", "8"]);
        let ambiguous: Vec<_> =
            report.ambiguous.iter().map(|(unit, _, items)| (*unit, items.len())).collect();
        assert_eq!(ambiguous, [(units[1].id, 2), (units[3].id, 1), (units[4].id, 1)]);
    }
}

//! Taking in a catalogue file: which locations, units and opening balances it means, as a few events.
//!
//! A row is found again by its SKU, so a second import of a corrected file changes what is there instead of doubling
//! it. Opening stock is given only where a unit has never had any: what a shop counted later is not overwritten.

use super::catalogue::{Catalogue, Unit, UnitKind};
use super::decimal::{Money, Quantity};
use super::event::{Body, MAX_MOVEMENT, Movement, MovementKind};
use super::ids::{LocationId, ProductId, UnitId};
use super::stock::Place;
use super::tenant::{Location, LocationKind};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Units in one event, so that no single event grows without bound.
const UNITS_PER_EVENT: usize = 1_000;

/// Movements in one event.
const MOVEMENTS_PER_EVENT: usize = 5_000;

/// One product row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedUnit {
    /// SKU, unique in the tenant.
    pub sku: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// The product it is a variant of; its own SKU when absent.
    pub base_sku: Option<Arc<str>>,
    /// Barcode.
    pub barcode: Option<Arc<str>>,
    /// How it may be sold.
    pub kind: UnitKind,
    /// Price of one whole.
    pub price: Money,
    /// Whether it may be sold.
    #[serde(default = "yes")]
    pub active: bool,
    /// Size.
    pub size: Option<Arc<str>>,
    /// Colour.
    pub color: Option<Arc<str>>,
    /// Category.
    pub category: Option<Arc<str>>,
    /// Brand.
    pub brand: Option<Arc<str>>,
    /// Opening stock at the default location.
    pub stock: Option<Quantity>,
}

const fn yes() -> bool {
    true
}

/// A location to open, with opening stock of what it sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedLocation {
    /// Its code, unique in the tenant; an existing one is used as it is.
    pub code: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: LocationKind,
    /// Opening stock, by SKU.
    pub stock: Vec<(Arc<str>, Quantity)>,
}

/// A whole import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Where it comes from, for the ledger.
    pub reference: Arc<str>,
    /// Rows.
    pub units: Vec<ImportedUnit>,
    /// Locations.
    #[serde(default)]
    pub locations: Vec<ImportedLocation>,
}

/// What an import comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImportPlan {
    /// The events, to be recorded together or not at all.
    pub bodies: Vec<Body>,
    /// What will be new, changed, opened, stocked.
    pub counts: ImportCounts,
}

/// How much an import does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCounts {
    /// Units that did not exist.
    pub created: usize,
    /// Units that existed and differ.
    pub updated: usize,
    /// Units that existed and are the same.
    pub unchanged: usize,
    /// Locations opened.
    pub locations: usize,
    /// Opening balances given.
    pub stocked: usize,
}

/// Why an import is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportProblem {
    /// The barcode belongs to another SKU.
    #[error("barcode {barcode} of SKU {sku} belongs to SKU {owner} already")]
    BarcodeTaken { barcode: Arc<str>, sku: Arc<str>, owner: Arc<str> },
    /// Opening stock for a SKU that is neither known nor in the import.
    #[error("location {location} is given stock of SKU {sku}, which is not in the catalogue")]
    UnknownSku { location: Arc<str>, sku: Arc<str> },
    /// A negative balance, one above [`MAX_MOVEMENT`], or a fraction of what is not sold by weight.
    #[error("opening stock {quantity} of SKU {sku} is not possible")]
    BadStock { sku: Arc<str>, quantity: Quantity },
}

/// Works out the events of an import. `has_stock` tells whether a place ever had stock; `new_id` makes ids.
pub fn plan(
    import: &Import,
    catalogue: &Catalogue,
    locations: &[Location],
    has_stock: impl Fn(Place) -> bool,
    mut new_id: impl FnMut() -> Uuid,
) -> Result<ImportPlan, ImportProblem> {
    let mut plan = ImportPlan::default();
    let places = open_locations(import, locations, &mut plan, &mut new_id);
    let units = plan_units(import, catalogue, &mut plan, &mut new_id)?;
    let mut movements = Vec::new();
    // A row that stands twice in the import gives its stock once.
    let mut given: HashSet<Place> = HashSet::new();
    let mut give = |unit: &Unit, location: LocationId, quantity: Quantity| {
        let impossible = quantity.is_fractional() && !unit.kind.may_be_fractional();
        if impossible || quantity < Quantity::ZERO || quantity > MAX_MOVEMENT {
            return Err(ImportProblem::BadStock { sku: unit.sku.clone(), quantity });
        }
        let place = (unit.id, location);
        if quantity > Quantity::ZERO && unit.kind.has_stock() && !has_stock(place) && given.insert(place) {
            movements.push(Movement { unit: unit.id, location, delta: quantity });
        }
        Ok(())
    };
    if let Some(default) = locations.iter().find(|location| location.is_default) {
        for row in &import.units {
            if let (Some(quantity), Some(unit)) = (row.stock, units.get(&row.sku)) {
                give(unit, default.id, quantity)?;
            }
        }
    }
    for (location, id) in import.locations.iter().zip(places) {
        for (sku, quantity) in &location.stock {
            let unit = units.get(sku).or_else(|| catalogue.scan(sku)).ok_or_else(|| {
                ImportProblem::UnknownSku { location: location.code.clone(), sku: sku.clone() }
            })?;
            give(unit, id, *quantity)?;
        }
    }
    plan.counts.stocked = movements.len();
    for chunk in movements.chunks(MOVEMENTS_PER_EVENT) {
        let reference = import.reference.clone();
        plan.bodies.push(Body::StockMoved {
            kind: MovementKind::InitialStock,
            reference,
            movements: chunk.to_vec(),
        });
    }
    Ok(plan)
}

/// The id of each location of the import, new or known.
fn open_locations(
    import: &Import,
    known: &[Location],
    plan: &mut ImportPlan,
    new_id: &mut impl FnMut() -> Uuid,
) -> Vec<LocationId> {
    let mut opened = Vec::new();
    let mut ids = Vec::with_capacity(import.locations.len());
    for wanted in &import.locations {
        let same = |location: &&Location| location.code == wanted.code;
        if let Some(found) = known.iter().find(same).or_else(|| opened.iter().find(same)) {
            ids.push(found.id);
            continue;
        }
        let id = LocationId(new_id());
        let (code, name, kind) = (wanted.code.clone(), wanted.name.clone(), wanted.kind);
        opened.push(Location { id, code, name, kind, is_default: false, active: true });
        ids.push(id);
    }
    plan.counts.locations = opened.len();
    if !opened.is_empty() {
        plan.bodies.push(Body::LocationsAdded { locations: opened });
    }
    ids
}

/// The units of the import by SKU, and the events for those that are new or differ.
fn plan_units(
    import: &Import,
    catalogue: &Catalogue,
    plan: &mut ImportPlan,
    new_id: &mut impl FnMut() -> Uuid,
) -> Result<HashMap<Arc<str>, Arc<Unit>>, ImportProblem> {
    let mut products: HashMap<Arc<str>, ProductId> = HashMap::new();
    if import.units.iter().any(|row| row.base_sku.is_some()) {
        products.extend(catalogue.units().iter().map(|unit| (unit.base_sku.clone(), unit.product_id)));
    }
    let mut units: HashMap<Arc<str>, Arc<Unit>> = HashMap::with_capacity(import.units.len());
    let mut changed = Vec::new();
    for row in &import.units {
        let known =
            units.get(&row.sku).or_else(|| catalogue.scan(&row.sku).filter(|unit| unit.sku == row.sku));
        if let Some(barcode) = &row.barcode
            && let Some(owner) = catalogue.scan(barcode).filter(|owner| owner.sku != row.sku)
        {
            let (barcode, sku, owner) = (barcode.clone(), row.sku.clone(), owner.sku.clone());
            return Err(ImportProblem::BarcodeTaken { barcode, sku, owner });
        }
        let id = known.map_or_else(|| UnitId(new_id()), |unit| unit.id);
        let base_sku = row.base_sku.clone().unwrap_or_else(|| row.sku.clone());
        let product_id = match known {
            Some(unit) if unit.base_sku == base_sku => unit.product_id,
            // A simple product shares its unit's id; variants of one base share an id of their own.
            _ if row.base_sku.is_none() => ProductId(id.0),
            _ => *products.entry(base_sku.clone()).or_insert_with(|| ProductId(new_id())),
        };
        let unit = Arc::new(Unit {
            id,
            product_id,
            base_sku,
            name: row.name.clone(),
            sku: row.sku.clone(),
            barcode: row.barcode.clone(),
            kind: row.kind,
            price: row.price,
            active: row.active,
            size: row.size.clone(),
            color: row.color.clone(),
            category: row.category.clone(),
            brand: row.brand.clone(),
        });
        match known {
            Some(known) if **known == *unit => plan.counts.unchanged += 1,
            Some(_) => {
                plan.counts.updated += 1;
                changed.push(unit.clone());
            }
            None => {
                plan.counts.created += 1;
                changed.push(unit.clone());
            }
        }
        units.insert(row.sku.clone(), unit);
    }
    for chunk in changed.chunks(UNITS_PER_EVENT) {
        plan.bodies.push(Body::ProductsUpserted { units: chunk.to_vec() });
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sku: &str, base: Option<&str>, stock: Option<&str>) -> ImportedUnit {
        ImportedUnit {
            sku: sku.into(),
            name: "Remera".into(),
            base_sku: base.map(Arc::from),
            barcode: None,
            kind: UnitKind::Ropa,
            price: Money::parse("19999").unwrap(),
            active: true,
            size: None,
            color: None,
            category: None,
            brand: None,
            stock: stock.map(|text| Quantity::parse(text).unwrap()),
        }
    }

    fn place(code: &str, is_default: bool) -> Location {
        let (id, kind) = (LocationId(Uuid::now_v7()), LocationKind::Store);
        Location { id, code: code.into(), name: code.into(), kind, is_default, active: true }
    }

    /// Applies a plan the way the actor does once it is durable.
    fn apply(
        plan: &ImportPlan,
        catalogue: &mut Catalogue,
        locations: &mut Vec<Location>,
        stocked: &mut HashSet<Place>,
    ) {
        for body in &plan.bodies {
            match body {
                Body::LocationsAdded { locations: more } => locations.extend(more.iter().cloned()),
                Body::ProductsUpserted { units } => {
                    units.iter().for_each(|unit| catalogue.upsert(unit.clone()))
                }
                Body::StockMoved { movements, .. } => {
                    stocked.extend(movements.iter().map(|m| (m.unit, m.location)))
                }
                other => panic!("an import makes no {other:?}"),
            }
        }
    }

    #[test]
    fn a_second_import_changes_only_what_differs_and_gives_no_stock_twice() {
        let (mut catalogue, mut locations, mut stocked) =
            (Catalogue::default(), vec![place("principal", true)], HashSet::new());
        let store = |sku: &str| ImportedLocation {
            code: "330".into(),
            name: "Sucursal 330".into(),
            kind: LocationKind::Store,
            stock: vec![(sku.into(), Quantity::from_whole(7).unwrap())],
        };
        let mut import = Import {
            reference: "catalogo.csv".into(),
            units: vec![
                row("R-N-S", Some("R"), Some("5")),
                row("R-N-M", Some("R"), None),
                row("G-1", None, Some("0")),
            ],
            locations: vec![store("R-N-M")],
        };
        let first = plan(&import, &catalogue, &locations, |p| stocked.contains(&p), Uuid::now_v7).unwrap();
        assert_eq!(first.counts, ImportCounts { created: 3, locations: 1, stocked: 2, ..Default::default() });
        apply(&first, &mut catalogue, &mut locations, &mut stocked);
        let product = |sku: &str| catalogue.scan(sku).unwrap().product_id;
        assert_eq!(product("R-N-S"), product("R-N-M"));
        assert_eq!(product("G-1").0, catalogue.scan("G-1").unwrap().id.0);

        import.units.push(import.units[0].clone());
        import.units[1].price = Money::parse("21999").unwrap();
        let second = plan(&import, &catalogue, &locations, |p| stocked.contains(&p), Uuid::now_v7).unwrap();
        assert_eq!(second.counts, ImportCounts { updated: 1, unchanged: 3, ..Default::default() });
        let id = catalogue.scan("R-N-M").unwrap().id;
        assert!(matches!(&second.bodies[..], [Body::ProductsUpserted { units }] if units[0].id == id));
    }

    #[test]
    fn a_row_that_stands_twice_gives_its_stock_once() {
        let rows = vec![row("R", None, Some("5")), row("R", None, Some("5"))];
        let import = Import { reference: "x".into(), units: rows, locations: vec![] };
        let (catalogue, places) = (Catalogue::default(), [place("principal", true)]);
        let plan = plan(&import, &catalogue, &places, |_| false, Uuid::now_v7).unwrap();
        assert_eq!((plan.counts.created, plan.counts.unchanged, plan.counts.stocked), (1, 1, 1));
    }

    #[test]
    fn impossible_imports_are_refused_whole() {
        let (mut catalogue, locations) = (Catalogue::default(), vec![place("principal", true)]);
        let mut taken = row("A", None, None);
        taken.barcode = Some("779".into());
        let import = |units| Import { reference: "x".into(), units, locations: vec![] };
        let first =
            plan(&import(vec![taken.clone()]), &catalogue, &locations, |_| false, Uuid::now_v7).unwrap();
        apply(&first, &mut catalogue, &mut vec![], &mut HashSet::new());
        taken.sku = "B".into();
        let refusal =
            |units| plan(&import(units), &catalogue, &locations, |_| false, Uuid::now_v7).unwrap_err();
        assert!(matches!(refusal(vec![taken]), ImportProblem::BarcodeTaken { .. }));
        assert!(matches!(refusal(vec![row("C", None, Some("1.5"))]), ImportProblem::BadStock { .. }));
        assert!(matches!(refusal(vec![row("C", None, Some("-1"))]), ImportProblem::BadStock { .. }));
        assert!(matches!(refusal(vec![row("C", None, Some("1000000001"))]), ImportProblem::BadStock { .. }));
        let mut unknown = import(vec![]);
        unknown.locations.push(ImportedLocation {
            code: "1".into(),
            name: "1".into(),
            kind: LocationKind::Store,
            stock: vec![("Z".into(), Quantity::from_whole(1).unwrap())],
        });
        let refused = plan(&unknown, &catalogue, &locations, |_| false, Uuid::now_v7).unwrap_err();
        assert!(matches!(refused, ImportProblem::UnknownSku { .. }));
    }
}

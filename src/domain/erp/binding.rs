//! Which unit an item is and which location a branch is: bound once, and to the same ones for ever.

use super::change::{Entry, Following};
use super::identity::Identity;
use super::plan::{Known, Plan};
use super::reading::ProductReading;
use crate::domain::catalogue::{Catalogue, Lookup, Unit, UnitKind};
use crate::domain::ids::{LocationId, ProductId, UnitId};
use crate::domain::tenant::{Location, LocationKind};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// The items of one plan, found or made.
pub(super) struct Items {
    /// Codes that are new or say something new.
    products: HashMap<Arc<str>, ProductReading>,
    units: HashMap<Identity, Arc<Unit>>,
    /// SKUs that this plan has given out.
    skus: HashSet<Arc<str>>,
    /// The parent of each base SKU; read from the catalogue when the first unit is made.
    parents: Option<HashMap<Arc<str>, ProductId>>,
}

impl Items {
    pub fn new(products: HashMap<Arc<str>, ProductReading>) -> Self {
        Self { products, units: HashMap::new(), skus: HashSet::new(), parents: None }
    }

    /// The unit that an item of this plan is.
    pub fn find(&self, item: &Identity) -> Option<&Arc<Unit>> {
        self.units.get(item)
    }

    fn product<'a>(&'a self, following: &'a Following, code: &str) -> Option<&'a ProductReading> {
        self.products.get(code).or_else(|| following.product(code))
    }

    fn parent(
        &mut self,
        catalogue: &Catalogue,
        code: &Arc<str>,
        new_id: &mut impl FnMut() -> Uuid,
    ) -> ProductId {
        let read = || catalogue.units().iter().map(|unit| (unit.base_sku.clone(), unit.product_id)).collect();
        let parents = self.parents.get_or_insert_with(read);
        // Never a unit's own id: a second variant would make that ambiguous for a till that knows it.
        *parents.entry(code.clone()).or_insert_with(|| ProductId(new_id()))
    }
}

impl Plan {
    /// The readings of codes that count, by code: those of this batch, checked against what is known.
    pub(super) fn take_products(&mut self, known: &Known<'_>) -> HashMap<Arc<str>, ProductReading> {
        let mut taken: HashMap<Arc<str>, ProductReading> = HashMap::new();
        for reading in &known.follow.batch.products {
            let last = taken.get(&reading.code).or_else(|| known.following.product(&reading.code));
            let late = known.follow.batch.only_newer
                && last.is_some_and(|last| last.stamp.is_some() && reading.stamp <= last.stamp);
            if !late && last.is_none_or(|last| !last.says_the_same(reading)) {
                taken.insert(reading.code.clone(), reading.clone());
            }
        }
        for reading in taken.values() {
            self.entries.push(Entry::Product { reading: reading.clone() });
        }
        taken
    }

    /// Brings the units of changed codes up to date.
    pub(super) fn change_units(&mut self, known: &Known<'_>, items: &mut Items) {
        let mut codes: Vec<ProductReading> = items.products.values().cloned().collect();
        codes.sort_by(|a, b| a.code.cmp(&b.code));
        for reading in codes {
            for item in known.following.items_of(&reading.code) {
                let id = known.following.unit(item);
                if let Some(unit) = id.and_then(|id| unit_by_id(known.catalogue, id)) {
                    self.update(unit, &reading, item, items);
                }
            }
        }
    }

    /// Gives a unit what the ERP says of its code. What the ERP does not know stays.
    fn update(&mut self, unit: &Arc<Unit>, reading: &ProductReading, item: &Identity, items: &mut Items) {
        let changed = Arc::new(Unit {
            name: reading.name.clone(),
            price: reading.price,
            active: reading.active,
            category: reading.category.clone().or_else(|| unit.category.clone()),
            brand: reading.brand.clone().or_else(|| unit.brand.clone()),
            ..(**unit).clone()
        });
        if changed != *unit {
            self.followed.updated += 1;
            self.units.push(changed.clone());
        }
        items.units.insert(item.clone(), changed);
    }

    /// The location that a branch is: bound before, or named by the rules, or of the branch's name, or new.
    pub(super) fn location_of(
        &mut self,
        known: &Known<'_>,
        branch: &Arc<str>,
        new_id: &mut impl FnMut() -> Uuid,
    ) -> Result<LocationId, &'static str> {
        if let Some(bound) = known.following.branch(branch) {
            return Ok(bound);
        }
        let bound = self.entries.iter().find_map(|entry| match entry {
            Entry::Branch { name, location } if name == branch => Some(*location),
            _ => None,
        });
        if let Some(bound) = bound {
            return Ok(bound);
        }
        let rules = &known.follow.rules;
        let code = rules.branches.get(branch).unwrap_or(branch);
        let same = |location: &&Location| location.code.to_uppercase() == code.to_uppercase();
        let found = known.locations.iter().find(same).or_else(|| self.locations.iter().find(same));
        let location = match found.map(|location| location.id) {
            Some(id) => id,
            None if rules.create_locations => {
                let id = LocationId(new_id());
                let kind = LocationKind::Store;
                let (code, name) = (code.clone(), branch.clone());
                self.locations.push(Location { id, code, name, kind, is_default: false, active: true });
                id
            }
            None => return Err("sucursal_desconocida"),
        };
        self.entries.push(Entry::Branch { name: branch.clone(), location });
        Ok(location)
    }

    /// The unit that an item is: bound before, or of its SKU, or new under the one parent of its code.
    pub(super) fn unit_of(
        &mut self,
        known: &Known<'_>,
        item: &Identity,
        items: &mut Items,
        new_id: &mut impl FnMut() -> Uuid,
    ) -> Result<UnitId, &'static str> {
        let (following, catalogue) = (known.following, known.catalogue);
        if let Some(id) = items.find(item).map(|unit| unit.id).or_else(|| following.unit(item)) {
            return Ok(id);
        }
        let reading = items.product(following, &item.code).ok_or("sin_producto")?.clone();
        let sku = item.sku();
        // The codes A and A-B may have variants whose SKUs are the same text; the second one has to wait for a person.
        if !items.skus.insert(sku.clone()) {
            return Err("sku_de_otro");
        }
        if let Some(unit) = catalogue.scan(&sku) {
            if unit.sku != sku || following.item(unit.id).is_some() {
                return Err("sku_de_otro");
            }
            self.update(unit, &reading, item, items);
            return Ok(unit.id);
        }
        let id = UnitId(new_id());
        let apparel = item.size.is_some() || item.color.is_some();
        let unit = Arc::new(Unit {
            id,
            product_id: items.parent(catalogue, &item.code, new_id),
            base_sku: item.code.clone(),
            name: reading.name,
            sku,
            barcode: None,
            kind: if apparel { UnitKind::Ropa } else { UnitKind::General },
            price: reading.price,
            active: reading.active,
            size: item.size.clone(),
            color: item.color.clone(),
            category: reading.category,
            brand: reading.brand,
        });
        self.followed.created += 1;
        self.units.push(unit.clone());
        items.units.insert(item.clone(), unit);
        Ok(id)
    }
}

/// A unit by its own id, also when a product of several variants has the same.
pub(super) fn unit_by_id(catalogue: &Catalogue, id: UnitId) -> Option<&Arc<Unit>> {
    match catalogue.find(id.0) {
        Lookup::Unit(unit) => Some(unit),
        Lookup::SeveralVariants(_) | Lookup::Unknown => catalogue.units().iter().find(|unit| unit.id == id),
    }
}

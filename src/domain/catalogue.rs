//! What a tenant sells: units (variants) with price, kind and state, found by id, product, SKU or barcode.

use super::decimal::{Money, Quantity};
use super::ids::{ProductId, UnitId};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt, sync::Arc};
use uuid::Uuid;

/// The kind of a product (`tipo`), which decides how it may be sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// Anything sold by the piece.
    #[default]
    General,
    /// Apparel, with size and colour.
    Ropa,
    /// Sold by weight: the only kind that may have a fractional quantity.
    Pesable,
    /// A service: it has no stock.
    Servicio,
    /// Food by the piece.
    Alimento,
    /// A drink.
    Bebida,
}

impl UnitKind {
    /// Every kind, in wire order.
    pub const ALL: [Self; 6] =
        [Self::General, Self::Ropa, Self::Pesable, Self::Servicio, Self::Alimento, Self::Bebida];

    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Ropa => "ropa",
            Self::Pesable => "pesable",
            Self::Servicio => "servicio",
            Self::Alimento => "alimento",
            Self::Bebida => "bebida",
        }
    }

    /// Reads a wire name, in any letter case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text))
    }

    /// Whether a sale takes stock.
    pub const fn has_stock(self) -> bool {
        !matches!(self, Self::Servicio)
    }

    /// Whether a quantity may have decimals.
    pub const fn may_be_fractional(self) -> bool {
        matches!(self, Self::Pesable)
    }
}

impl fmt::Display for UnitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A sellable unit. A simple product has one unit that carries the product's own id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The unit's id.
    pub id: UnitId,
    /// The parent product.
    pub product_id: ProductId,
    /// The product's SKU, shared by its variants.
    pub base_sku: Arc<str>,
    /// The product's name.
    pub name: Arc<str>,
    /// The unit's own SKU, unique in the tenant.
    pub sku: Arc<str>,
    /// Barcode, unique in the tenant.
    pub barcode: Option<Arc<str>>,
    /// How it may be sold.
    pub kind: UnitKind,
    /// Current price of one whole.
    pub price: Money,
    /// Whether it may be sold now.
    pub active: bool,
    /// Size (`talle`).
    pub size: Option<Arc<str>>,
    /// Colour.
    pub color: Option<Arc<str>>,
    /// Category.
    pub category: Option<Arc<str>>,
    /// Brand.
    pub brand: Option<Arc<str>>,
}

impl Unit {
    /// The name a receipt shows: product, colour and size.
    pub fn full_name(&self) -> Arc<str> {
        match (&self.color, &self.size) {
            (None, None) => self.name.clone(),
            (Some(one), None) | (None, Some(one)) => format!("{} {one}", self.name).into(),
            (Some(color), Some(size)) => format!("{} {color} {size}", self.name).into(),
        }
    }

    /// The price of `quantity`, rounded half up to the centavo; `None` when it is too much money.
    pub fn price_of(&self, quantity: Quantity) -> Option<Money> {
        let exact = i128::from(self.price.units()) * i128::from(quantity.units());
        let rounded = (exact + i128::from(Quantity::ONE / 2)).div_euclid(i128::from(Quantity::ONE));
        i64::try_from(rounded).ok().and_then(Money::from_units)
    }
}

/// A unit or the reason why an id names none.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The unit.
    Unit(&'a Arc<Unit>),
    /// The id is that of a product with these several variants; one of them must be named.
    SeveralVariants(&'a [u32]),
    /// Nothing of this tenant has that id.
    Unknown,
}

/// A tenant's units with their indexes.
#[derive(Debug, Default)]
pub struct Catalogue {
    units: Vec<Arc<Unit>>,
    by_id: HashMap<Uuid, u32>,
    by_product: HashMap<Uuid, Vec<u32>>,
    products: Vec<ProductId>,
    by_code: HashMap<Arc<str>, u32>,
}

impl Catalogue {
    /// Adds a unit or replaces the one with its id.
    pub fn upsert(&mut self, unit: Arc<Unit>) {
        let index = match self.by_id.get(&unit.id.0) {
            Some(&index) => {
                let old = std::mem::replace(&mut self.units[index as usize], unit.clone());
                self.by_code.remove(&old.sku);
                if let Some(barcode) = &old.barcode {
                    self.by_code.remove(barcode);
                }
                index
            }
            None => {
                let index = u32::try_from(self.units.len()).unwrap_or(u32::MAX);
                self.units.push(unit.clone());
                self.by_id.insert(unit.id.0, index);
                let variants = self.by_product.entry(unit.product_id.0).or_default();
                if variants.is_empty() {
                    self.products.push(unit.product_id);
                }
                variants.push(index);
                index
            }
        };
        // A SKU wins over another unit's barcode of the same text: it was put in by hand.
        if let Some(barcode) = &unit.barcode {
            self.by_code.entry(barcode.clone()).or_insert(index);
        }
        self.by_code.insert(unit.sku.clone(), index);
    }

    /// The unit of exactly this id.
    pub fn unit(&self, id: UnitId) -> Option<&Arc<Unit>> {
        self.by_id.get(&id.0).map(|&index| &self.units[index as usize])
    }

    /// The unit that an id names: a unit's own, or that of a product with a single unit.
    pub fn find(&self, id: Uuid) -> Lookup<'_> {
        if let Some(&index) = self.by_id.get(&id) {
            let unit = &self.units[index as usize];
            // A simple product shares its id with its unit; once it has more variants the id is ambiguous.
            return match self.by_product.get(&id) {
                Some(variants) if variants.len() > 1 => Lookup::SeveralVariants(variants),
                _ => Lookup::Unit(unit),
            };
        }
        match self.by_product.get(&id).map(Vec::as_slice) {
            Some([one]) => Lookup::Unit(&self.units[*one as usize]),
            Some(several) => Lookup::SeveralVariants(several),
            None => Lookup::Unknown,
        }
    }

    /// The unit with this SKU or barcode.
    pub fn scan(&self, code: &str) -> Option<&Arc<Unit>> {
        self.by_code.get(code).map(|&index| &self.units[index as usize])
    }

    /// Every unit, in the order in which they came.
    pub fn units(&self) -> &[Arc<Unit>] {
        &self.units
    }

    /// The products, in the order in which they came.
    pub fn products(&self) -> &[ProductId] {
        &self.products
    }

    /// The units of one product.
    pub fn variants(&self, product: ProductId) -> impl Iterator<Item = &Arc<Unit>> {
        self.by_product.get(&product.0).into_iter().flatten().map(|&index| &self.units[index as usize])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A plain active unit for tests.
    pub(crate) fn unit(sku: &str, kind: UnitKind, price: &str) -> Unit {
        let id = Uuid::now_v7();
        Unit {
            id: UnitId(id),
            product_id: ProductId(id),
            base_sku: sku.into(),
            name: format!("Producto {sku}").into(),
            sku: sku.into(),
            barcode: None,
            kind,
            price: Money::parse(price).unwrap(),
            active: true,
            size: None,
            color: None,
            category: None,
            brand: None,
        }
    }

    #[test]
    fn found_by_id_product_sku_and_barcode_and_follows_changes() {
        let mut catalogue = Catalogue::default();
        let mut one = unit("A-1", UnitKind::General, "10.00");
        one.barcode = Some("7791234567898".into());
        catalogue.upsert(Arc::new(one.clone()));
        assert!(matches!(catalogue.find(one.id.0), Lookup::Unit(_)));
        assert_eq!(catalogue.scan("7791234567898").unwrap().sku, one.sku);
        let renamed = Unit { sku: "A-2".into(), barcode: None, ..one.clone() };
        catalogue.upsert(Arc::new(renamed));
        assert!(catalogue.scan("A-1").is_none() && catalogue.scan("7791234567898").is_none());
        assert_eq!(catalogue.scan("A-2").unwrap().id, one.id);
        let second = Unit { id: UnitId(Uuid::now_v7()), sku: "A-3".into(), ..one.clone() };
        catalogue.upsert(Arc::new(second.clone()));
        assert!(matches!(catalogue.find(one.product_id.0), Lookup::SeveralVariants(v) if v.len() == 2));
        assert!(matches!(catalogue.find(second.id.0), Lookup::Unit(_)));
        assert_eq!(catalogue.find(Uuid::now_v7()), Lookup::Unknown);
    }

    #[test]
    fn price_rounds_half_up_and_refuses_too_much() {
        let weighed = unit("Q", UnitKind::Pesable, "9.99");
        let price = |q: &str| weighed.price_of(Quantity::parse(q).unwrap()).map(|m| m.to_string());
        assert_eq!(price("0.35").as_deref(), Some("3.50")); // 3.4965
        assert_eq!(price("0.05").as_deref(), Some("0.50")); // 0.4995
        let dear = unit("D", UnitKind::Pesable, "9999.99");
        assert_eq!(dear.price_of(Quantity::parse("9007199254740.991").unwrap()), None);
    }
}

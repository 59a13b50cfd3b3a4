//! From what a till asks for to a priced sale, or to the reason why not. Prices come from the catalogue alone.

use super::catalogue::{Catalogue, Lookup, Unit};
use super::decimal::{Money, Quantity};
use super::ids::{LocationId, SaleId, UnitId};
use super::tenant::Location;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// Most lines a sale may have.
pub const MAX_LINES: usize = 1_000;

/// How a sale is paid (`metodo_pago`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethod {
    /// Cash.
    Efectivo,
    /// A card, kind unknown.
    Tarjeta,
    /// Debit card.
    TarjetaDebito,
    /// Credit card.
    TarjetaCredito,
    /// Bank transfer.
    Transferencia,
    /// Mercado Pago.
    Mercadopago,
    /// QR payment.
    Qr,
}

impl PaymentMethod {
    /// Every method, in wire order.
    pub const ALL: [Self; 7] = [
        Self::Efectivo,
        Self::Tarjeta,
        Self::TarjetaDebito,
        Self::TarjetaCredito,
        Self::Transferencia,
        Self::Mercadopago,
        Self::Qr,
    ];

    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Efectivo => "efectivo",
            Self::Tarjeta => "tarjeta",
            Self::TarjetaDebito => "tarjeta_debito",
            Self::TarjetaCredito => "tarjeta_credito",
            Self::Transferencia => "transferencia",
            Self::Mercadopago => "mercadopago",
            Self::Qr => "qr",
        }
    }

    /// Reads a wire name in any letter case: tills send `EFECTIVO` and `efectivo` alike.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for PaymentMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedLine {
    /// A unit's id, or that of a product with one unit.
    pub product: Uuid,
    /// How much.
    pub quantity: Quantity,
    /// The unit price that the client showed its customer; a different current price refuses the sale.
    pub seen_price: Option<Money>,
}

/// A sale as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleRequest {
    /// The lines, in order.
    pub lines: Vec<RequestedLine>,
    /// How it is paid.
    pub payment: PaymentMethod,
    /// Where the units are taken from; the tenant's default location when absent.
    pub location: Option<LocationId>,
    /// The total that the client showed its customer; a different one refuses the sale.
    pub seen_total: Option<Money>,
}

/// One priced line. Name, SKU and price are kept as they were at the moment of the sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaleLine {
    /// The unit sold.
    pub unit: UnitId,
    /// Its name at that moment.
    pub name: Arc<str>,
    /// Its SKU at that moment.
    pub sku: Arc<str>,
    /// How much.
    pub quantity: Quantity,
    /// Price of one whole.
    pub unit_price: Money,
    /// `unit_price x quantity`, rounded half up.
    pub subtotal: Money,
    /// Whether stock is taken (services have none).
    pub has_stock: bool,
}

/// A priced sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    /// Its id, given to the till at once.
    pub id: SaleId,
    /// Where the units are taken from.
    pub location: LocationId,
    /// How it is paid.
    pub payment: PaymentMethod,
    /// Sum of the subtotals.
    pub total: Money,
    /// The lines, in the order in which they were asked for.
    pub lines: Vec<SaleLine>,
}

impl Sale {
    /// What the sale takes from its location, summed per unit (a unit may stand on several lines).
    pub fn demand(&self) -> Vec<(UnitId, Quantity)> {
        let mut demand: Vec<(UnitId, Quantity)> = Vec::with_capacity(self.lines.len());
        for line in self.lines.iter().filter(|line| line.has_stock) {
            demand.push((line.unit, line.quantity));
        }
        demand.sort_unstable_by_key(|(unit, _)| *unit);
        demand.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                // Each line is within the quantity limit and lines are at most a thousand: far below the bound.
                kept.1 = kept.1.checked_add(next.1).unwrap_or(kept.1);
            }
            same
        });
        demand
    }
}

/// Why a sale is refused before any stock is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No lines, or more than [`MAX_LINES`].
    LineCount(usize),
    /// Zero, negative or above the limit; carries the line's index and the limit.
    QuantityRange { line: usize, quantity: Quantity, max: Quantity },
    /// A fraction of something that is not sold by weight.
    Fractional { line: usize, sku: Arc<str>, name: Arc<str>, quantity: Quantity },
    /// Not a product of this tenant.
    UnknownProduct { line: usize, product: Uuid },
    /// A product with several variants: one of them must be named.
    SeveralVariants { line: usize, product: Uuid, variants: Vec<UnitId> },
    /// Not for sale now.
    Inactive { line: usize, sku: Arc<str>, name: Arc<str> },
    /// Not a location of this tenant.
    UnknownLocation(LocationId),
    /// The location is closed.
    InactiveLocation(LocationId),
    /// The price moved since the client saw it.
    PriceMoved { line: usize, sku: Arc<str>, seen: Money, current: Money },
    /// The declared total is not the sum of the lines.
    TotalDiffers { seen: Money, current: Money },
    /// More money than can be represented.
    TooMuch,
}

/// Prices a request against a tenant's catalogue and locations. Pure; nothing is taken yet.
pub fn price(
    request: &SaleRequest,
    id: SaleId,
    catalogue: &Catalogue,
    locations: &[Location],
    max_quantity: Quantity,
) -> Result<Sale, Refusal> {
    if request.lines.is_empty() || request.lines.len() > MAX_LINES {
        return Err(Refusal::LineCount(request.lines.len()));
    }
    let location = find_location(request.location, locations)?;
    let mut lines = Vec::with_capacity(request.lines.len());
    let mut total = Money::ZERO;
    for (index, asked) in request.lines.iter().enumerate() {
        let unit = find_unit(asked, index, catalogue, max_quantity)?;
        if let Some(seen) = asked.seen_price.filter(|seen| *seen != unit.price) {
            return Err(Refusal::PriceMoved {
                line: index,
                sku: unit.sku.clone(),
                seen,
                current: unit.price,
            });
        }
        let subtotal = unit.price_of(asked.quantity).ok_or(Refusal::TooMuch)?;
        total = total.checked_add(subtotal).ok_or(Refusal::TooMuch)?;
        lines.push(SaleLine {
            unit: unit.id,
            name: unit.full_name(),
            sku: unit.sku.clone(),
            quantity: asked.quantity,
            unit_price: unit.price,
            subtotal,
            has_stock: unit.kind.has_stock(),
        });
    }
    match request.seen_total {
        Some(seen) if seen != total => Err(Refusal::TotalDiffers { seen, current: total }),
        _ => Ok(Sale { id, location, payment: request.payment, total, lines }),
    }
}

fn find_location(asked: Option<LocationId>, locations: &[Location]) -> Result<LocationId, Refusal> {
    let found = match asked {
        Some(id) => {
            locations.iter().find(|location| location.id == id).ok_or(Refusal::UnknownLocation(id))?
        }
        // A tenant without a default location cannot exist; a nil id reads as "no such location".
        None => locations
            .iter()
            .find(|location| location.is_default)
            .ok_or(Refusal::UnknownLocation(LocationId(Uuid::nil())))?,
    };
    if found.active { Ok(found.id) } else { Err(Refusal::InactiveLocation(found.id)) }
}

fn find_unit<'a>(
    asked: &RequestedLine,
    line: usize,
    catalogue: &'a Catalogue,
    max: Quantity,
) -> Result<&'a Arc<Unit>, Refusal> {
    if asked.quantity <= Quantity::ZERO || asked.quantity > max {
        return Err(Refusal::QuantityRange { line, quantity: asked.quantity, max });
    }
    let unit = match catalogue.find(asked.product) {
        Lookup::Unit(unit) => unit,
        Lookup::Unknown => return Err(Refusal::UnknownProduct { line, product: asked.product }),
        Lookup::SeveralVariants(variants) => {
            let variants = variants.iter().map(|&index| catalogue.units()[index as usize].id).collect();
            return Err(Refusal::SeveralVariants { line, product: asked.product, variants });
        }
    };
    if !unit.active {
        return Err(Refusal::Inactive { line, sku: unit.sku.clone(), name: unit.name.clone() });
    }
    if asked.quantity.is_fractional() && !unit.kind.may_be_fractional() {
        let (sku, name) = (unit.sku.clone(), unit.name.clone());
        return Err(Refusal::Fractional { line, sku, name, quantity: asked.quantity });
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::{UnitKind, tests::unit};
    use super::super::tenant::LocationKind;
    use super::*;

    struct Shop {
        catalogue: Catalogue,
        locations: Vec<Location>,
    }

    fn shop(units: &[Unit]) -> Shop {
        let mut catalogue = Catalogue::default();
        units.iter().for_each(|unit| catalogue.upsert(Arc::new(unit.clone())));
        let place = |code: &str, is_default, active| Location {
            id: LocationId(Uuid::now_v7()),
            code: code.into(),
            name: code.into(),
            kind: LocationKind::Store,
            is_default,
            active,
        };
        Shop { catalogue, locations: vec![place("1", true, true), place("2", false, false)] }
    }

    fn ask(lines: &[(&Unit, &str)]) -> SaleRequest {
        let line = |(unit, quantity): &(&Unit, &str)| RequestedLine {
            product: unit.id.0,
            quantity: Quantity::parse(quantity).unwrap(),
            seen_price: None,
        };
        let lines = lines.iter().map(line).collect();
        SaleRequest { lines, payment: PaymentMethod::Efectivo, location: None, seen_total: None }
    }

    fn priced(shop: &Shop, request: &SaleRequest) -> Result<Sale, Refusal> {
        let max = Quantity::from_whole(10_000).unwrap();
        price(request, SaleId(Uuid::now_v7()), &shop.catalogue, &shop.locations, max)
    }

    #[test]
    fn totals_are_exact_and_demand_is_summed_per_unit() {
        let (shirt, cheese) =
            (unit("R", UnitKind::Ropa, "19999.99"), unit("Q", UnitKind::Pesable, "8750.50"));
        let service = unit("S", UnitKind::Servicio, "100.00");
        let shop = shop(&[shirt.clone(), cheese.clone(), service.clone()]);
        let sale = priced(&shop, &ask(&[(&shirt, "2"), (&cheese, "0.345"), (&shirt, "1"), (&service, "1")]))
            .unwrap();
        // 3 x 19999.99 + 3018.92 (3018.9225) + 100
        assert_eq!(sale.total.to_string(), "63118.89");
        let mut demand = sale.demand();
        demand.sort_by_key(|(_, quantity)| *quantity);
        let expected =
            [(cheese.id, Quantity::parse("0.345").unwrap()), (shirt.id, Quantity::from_whole(3).unwrap())];
        assert_eq!(demand, expected);
    }

    #[test]
    fn each_rule_refuses_by_name() {
        let mut closed = unit("C", UnitKind::General, "5");
        closed.active = false;
        let (plain, weighed) = (unit("A", UnitKind::General, "5"), unit("Q", UnitKind::Pesable, "5"));
        let shop = shop(&[closed.clone(), plain.clone(), weighed.clone()]);
        let refusal = |request: &SaleRequest| priced(&shop, request).unwrap_err();
        assert_eq!(refusal(&ask(&[])), Refusal::LineCount(0));
        assert_eq!(refusal(&ask(&vec![(&plain, "1"); 1_001])), Refusal::LineCount(1_001));
        for bad in ["0", "-1", "10000.001", "9007199254740.991"] {
            assert!(
                matches!(refusal(&ask(&[(&weighed, bad)])), Refusal::QuantityRange { line: 0, .. }),
                "{bad}"
            );
        }
        assert!(matches!(
            refusal(&ask(&[(&plain, "1"), (&plain, "1.5")])),
            Refusal::Fractional { line: 1, .. }
        ));
        assert!(matches!(refusal(&ask(&[(&closed, "1")])), Refusal::Inactive { .. }));
        assert!(matches!(
            refusal(&ask(&[(&unit("X", UnitKind::General, "1"), "1")])),
            Refusal::UnknownProduct { .. }
        ));
        let mut request = ask(&[(&plain, "2")]);
        request.location = Some(shop.locations[1].id);
        assert_eq!(refusal(&request), Refusal::InactiveLocation(shop.locations[1].id));
        request.location = Some(LocationId(Uuid::now_v7()));
        assert!(matches!(refusal(&request), Refusal::UnknownLocation(_)));
        request = ask(&[(&plain, "2")]);
        request.seen_total = Money::from_units(999);
        assert!(matches!(refusal(&request), Refusal::TotalDiffers { .. }));
        request.seen_total = Money::from_units(1_000);
        assert!(priced(&shop, &request).is_ok());
        request.lines[0].seen_price = Money::from_units(499);
        assert!(matches!(refusal(&request), Refusal::PriceMoved { .. }));
    }
}

//! A shop and its events, for the benches, and what else they share.

#![allow(dead_code, reason = "each bench uses a part of it")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on stops")]

use blend::actors::reservation::{Caller, Checkout};
use blend::domain::catalogue::{Unit, UnitKind};
use blend::domain::decimal::{Money, Quantity};
use blend::domain::event::{Body, Event, Movement, MovementKind};
use blend::domain::idempotency::{Fingerprint, IdempotencyKey};
use blend::domain::ids::{EventId, LocationId, ProductId, SaleId, TenantId, UnitId};
use blend::domain::sale::{PaymentMethod, RequestedLine, Sale, SaleLine, SaleRequest};
use blend::domain::tenant::{Location, LocationKind, Tenant};
use blend::domain::time::Timestamp;
use std::sync::Arc;
use uuid::Uuid;

/// A number from the command line.
pub fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| value.parse().expect("a number"))
}

/// A tenant with one location, since a moment.
pub fn tenant(created_at: Timestamp) -> (Tenant, Location) {
    let tenant = Tenant {
        id: TenantId(Uuid::now_v7()),
        name: "Kiosco".into(),
        trade: "kiosco".into(),
        active: true,
        created_at,
    };
    let location = Location {
        id: LocationId(Uuid::now_v7()),
        code: "principal".into(),
        name: "Principal".into(),
        kind: LocationKind::Store,
        is_default: true,
        active: true,
    };
    (tenant, location)
}

/// Who the ledger names.
pub fn caller() -> Caller {
    Caller { user: "bench".into(), request_id: "bench".into(), trace: None }
}

/// The sale of one of a unit.
pub fn one_of(tenant: TenantId, unit: UnitId) -> Checkout {
    let quantity = Quantity::from_whole(1).unwrap_or_default();
    let lines = vec![RequestedLine { product: unit.0, quantity, seen_price: None }];
    let payment = PaymentMethod::Efectivo;
    let request = SaleRequest { lines, payment, location: None, seen_total: None };
    Checkout { tenant, request, key: None, caller: caller() }
}

/// Units of a shop.
pub const UNITS: usize = 1_000;

/// A tenant with one location.
pub struct Shop {
    pub tenant: Tenant,
    pub location: Location,
    pub units: Vec<Arc<Unit>>,
    sequence: u64,
}

impl Shop {
    pub fn new() -> Self {
        let (tenant, location) = tenant(Timestamp::from_micros(1));
        let unit = |n: usize| {
            let id = Uuid::now_v7();
            Arc::new(Unit {
                id: UnitId(id),
                product_id: ProductId(id),
                base_sku: format!("SKU-{n}").into(),
                name: format!("Remera lisa de algodón {n}").into(),
                sku: format!("SKU-{n}").into(),
                barcode: Some(format!("779{n:010}").into()),
                kind: UnitKind::General,
                price: Money::from_units(1_999_900).unwrap_or_default(),
                active: true,
                size: None,
                color: None,
                category: None,
                brand: None,
            })
        };
        Self { tenant, location, units: (0..UNITS).map(unit).collect(), sequence: 0 }
    }

    fn event(&mut self, body: Body) -> Arc<Event> {
        self.sequence += 1;
        Arc::new(Event {
            id: EventId(Uuid::now_v7()),
            tenant: self.tenant.id,
            sequence: self.sequence,
            at: Timestamp::from_micros(1_767_225_599_000_250 + self.sequence as i64),
            user: "cajera-1".into(),
            request_id: "0199a2b4-7d1e-7c3a-9d5e-2f1b6c8a4e00".into(),
            trace: None,
            body,
        })
    }

    /// Creation, catalogue and opening stock of 1,000,000 of everything.
    pub fn opened(&mut self) -> Vec<Arc<Event>> {
        let (tenant, locations) = (self.tenant.clone(), vec![self.location.clone()]);
        let units = self.units.clone();
        let opening = Quantity::from_whole(1_000_000).unwrap_or_default();
        let location = self.location.id;
        let movements =
            units.iter().map(|unit| Movement { unit: unit.id, location, delta: opening }).collect();
        vec![
            self.event(Body::TenantCreated { tenant, locations }),
            self.event(Body::ProductsUpserted { units }),
            self.event(Body::StockMoved {
                kind: MovementKind::InitialStock,
                reference: "bench".into(),
                movements,
            }),
        ]
    }

    /// A sale with a key, of so many lines of different units.
    pub fn sale(&mut self, lines: usize) -> Arc<Event> {
        let from = self.sequence as usize * 7;
        let line = |n: usize| {
            let unit = &self.units[(from + n) % UNITS];
            SaleLine {
                unit: unit.id,
                name: unit.name.clone(),
                sku: unit.sku.clone(),
                quantity: Quantity::from_whole(1).unwrap_or_default(),
                unit_price: unit.price,
                subtotal: unit.price,
                has_stock: true,
            }
        };
        let sale = Sale {
            id: SaleId(Uuid::now_v7()),
            location: self.location.id,
            payment: PaymentMethod::Efectivo,
            total: Money::from_units(1_999_900 * lines as i64).unwrap_or_default(),
            lines: (0..lines).map(line).collect(),
        };
        let key = IdempotencyKey::parse(&Uuid::now_v7().to_string()).ok();
        let keyed = key.map(|key| (key, Fingerprint([7; 16])));
        self.event(Body::SaleCreated { sale, keyed })
    }

    pub fn sales(&mut self, count: usize, lines: usize) -> Vec<Arc<Event>> {
        (0..count).map(|_| self.sale(lines)).collect()
    }
}

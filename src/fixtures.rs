//! Shops and events for tests, numbered and dated the way a shard does it.

use crate::domain::catalogue::{Unit, UnitKind, tests::unit};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::event::{Body, Event, Movement, MovementKind};
use crate::domain::idempotency::{Fingerprint, IdempotencyKey};
use crate::domain::ids::{EventId, LocationId, SaleId, TenantId};
use crate::domain::sale::{PaymentMethod, Sale, SaleLine};
use crate::domain::tenant::{Location, LocationKind, Tenant};
use crate::domain::time::Timestamp;
use std::sync::Arc;
use uuid::Uuid;

/// The moment at which every test shop opens.
pub const OPENING: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// So many wholes.
pub fn whole(count: i64) -> Quantity {
    Quantity::from_whole(count).unwrap()
}

/// A tenant with two locations and some units; it makes the tenant's events in order.
#[derive(Clone, Debug)]
pub struct Shop {
    pub tenant: Tenant,
    pub locations: Vec<Location>,
    pub units: Vec<Arc<Unit>>,
    /// The number of the last event made.
    pub sequence: u64,
}

impl Shop {
    /// With units `SKU-0`, `SKU-1` and so on at 10.00 each, the same SKUs in every shop.
    pub fn new(units: usize) -> Self {
        let tenant = Tenant {
            id: TenantId(Uuid::now_v7()),
            name: "Kiosco \"Ñandú\"".into(),
            trade: "kiosco".into(),
            active: true,
            created_at: OPENING,
        };
        let place = |code: &str, kind, is_default| Location {
            id: LocationId(Uuid::now_v7()),
            code: code.into(),
            name: format!("Sucursal {code}").into(),
            kind,
            is_default,
            active: true,
        };
        let units =
            (0..units).map(|n| Arc::new(unit(&format!("SKU-{n}"), UnitKind::General, "10"))).collect();
        Self {
            tenant,
            locations: vec![
                place("1", LocationKind::Store, true),
                place("2", LocationKind::Warehouse, false),
            ],
            units,
            sequence: 0,
        }
    }

    pub const fn id(&self) -> TenantId {
        self.tenant.id
    }

    /// The default location.
    pub fn here(&self) -> LocationId {
        self.locations[0].id
    }

    /// The next event.
    pub fn event(&mut self, body: Body) -> Arc<Event> {
        self.sequence += 1;
        Arc::new(Event {
            id: EventId(Uuid::now_v7()),
            tenant: self.id(),
            sequence: self.sequence,
            at: Timestamp::from_micros(OPENING.micros() + i64::try_from(self.sequence).unwrap()),
            user: "cajera".into(),
            request_id: format!("req-{}", self.sequence).into(),
            trace: None,
            body,
        })
    }

    pub fn created(&mut self) -> Arc<Event> {
        let (tenant, locations) = (self.tenant.clone(), self.locations.clone());
        self.event(Body::TenantCreated { tenant, locations })
    }

    pub fn catalogued(&mut self) -> Arc<Event> {
        let units = self.units.clone();
        self.event(Body::ProductsUpserted { units })
    }

    /// Movements of (unit, location, wholes), by index.
    pub fn moved(&mut self, kind: MovementKind, movements: &[(usize, usize, i64)]) -> Arc<Event> {
        let movement = |&(unit, location, count): &(usize, usize, i64)| Movement {
            unit: self.units[unit].id,
            location: self.locations[location].id,
            delta: whole(count),
        };
        let movements = movements.iter().map(movement).collect();
        self.event(Body::StockMoved { kind, reference: "remito 0001".into(), movements })
    }

    /// So many of every unit at the default location.
    pub fn stocked(&mut self, count: i64) -> Arc<Event> {
        let all: Vec<_> = (0..self.units.len()).map(|unit| (unit, 0, count)).collect();
        self.moved(MovementKind::InitialStock, &all)
    }

    /// Creation, catalogue and opening stock.
    pub fn opened(&mut self, count: i64) -> Vec<Arc<Event>> {
        vec![self.created(), self.catalogued(), self.stocked(count)]
    }

    /// A sale at a location of (unit, wholes), by index.
    pub fn sold_at(&mut self, location: usize, lines: &[(usize, i64)], key: Option<&str>) -> Arc<Event> {
        let line = |&(unit, count): &(usize, i64)| {
            let (unit, quantity) = (&self.units[unit], whole(count));
            SaleLine {
                unit: unit.id,
                name: unit.full_name(),
                sku: unit.sku.clone(),
                quantity,
                unit_price: unit.price,
                subtotal: unit.price_of(quantity).unwrap(),
                has_stock: true,
            }
        };
        let lines: Vec<SaleLine> = lines.iter().map(line).collect();
        let total = lines.iter().fold(Money::ZERO, |sum, line| sum.checked_add(line.subtotal).unwrap());
        let sale = Sale {
            id: SaleId(Uuid::now_v7()),
            location: self.locations[location].id,
            payment: PaymentMethod::TarjetaDebito,
            total,
            lines,
        };
        let keyed = key.map(|key| (IdempotencyKey::parse(key).unwrap(), Fingerprint([9; 16])));
        self.event(Body::SaleCreated { sale, keyed })
    }

    /// A sale is taken back.
    pub fn voided(&mut self, sale: &Sale) -> Arc<Event> {
        let back =
            |line: &SaleLine| Movement { unit: line.unit, location: sale.location, delta: line.quantity };
        let movements = sale.lines.iter().map(back).collect();
        self.event(Body::SaleVoided { sale: sale.id, reason: "devuelta".into(), movements })
    }

    /// A sale of so many of the first unit, without a key.
    pub fn sold(&mut self, count: i64) -> Arc<Event> {
        self.sold_at(0, &[(0, count)], None)
    }
}

/// The sale of an event that is one.
pub fn sale_of(event: &Event) -> &Sale {
    match &event.body {
        Body::SaleCreated { sale, .. } => sale,
        other => panic!("not a sale: {other:?}"),
    }
}

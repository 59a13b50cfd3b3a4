//! The demonstration shop itself: opened once, then visited by customers over HTTP like any till's.

use super::catalogue::{self, STORE, WAREHOUSE};
use super::traffic::{Buyable, Traffic};
use crate::actors::reservation::{Caller, Delivery, NewTenant, ProductPage, Shards};
use crate::app::Serving;
use crate::cli::import::unit;
use crate::client::{Bearer, HttpClient};
use crate::domain::catalogue::{Unit, UnitKind};
use crate::domain::decimal::Quantity;
use crate::domain::event::{Movement, MovementKind};
use crate::domain::ids::{LocationId, TenantId, UnitId};
use crate::domain::import::{Import, ImportedLocation};
use crate::domain::tenant::{Location, LocationKind, Tenant};
use crate::http::{Claims, Role};
use crate::ports::clock::{Clock as _, SystemClock};
use anyhow::Context as _;
use bytes::Bytes;
use hyper::Method;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Mean pause between two customers.
const BETWEEN_CUSTOMERS: Duration = Duration::from_millis(350);

/// How often the shelves are looked at.
const BETWEEN_DELIVERIES: Duration = Duration::from_secs(15);

/// An open shop.
pub struct Shop {
    pub tenant: TenantId,
    pub name: Arc<str>,
    /// A product to try.
    pub example: Arc<Unit>,
    units: Vec<Arc<Unit>>,
    store: LocationId,
}

impl Shop {
    /// Finds the shop of an earlier demonstration in the data directory, or opens a new one under this id.
    pub async fn open(shards: &Shards, id: TenantId) -> anyhow::Result<Self> {
        let tenant = match shards.tenants().await?.into_iter().next() {
            Some(tenant) => tenant,
            None => create(shards, id).await?,
        };
        let page = ProductPage { skip: 0, limit: 500, search: None, category: None, active: Some(true) };
        let units: Vec<_> = shards.products(tenant.id, page).await??.into_iter().flatten().collect();
        let places = shards.locations(tenant.id).await??;
        let store =
            places.iter().find(|place| place.is_default).context("the shop has no default location")?.id;
        let example = units.iter().find(|unit| unit.kind == UnitKind::Ropa).or(units.first());
        let example = example.context("the shop sells nothing")?.clone();
        Ok(Self { tenant: tenant.id, name: tenant.name, example, units, store })
    }

    /// Customers come and buy, and what runs out is delivered, until the process stops.
    pub async fn trade(&self, serving: &Serving) -> anyhow::Result<()> {
        let now = SystemClock.now().seconds();
        let claims = Claims {
            sub: "caja-1".into(),
            iat: now,
            exp: i64::MAX,
            tienda_id: Some(self.tenant),
            rol: Role::Cajero,
        };
        let token = Bearer::new(&serving.authenticator.mint(&claims).context("token")?)?;
        let mut till = HttpClient::new(&format!("http://{}", serving.address))?.connection();
        let buyable = |unit: &Arc<Unit>| Buyable { key: unit.id, weighed: unit.kind.may_be_fractional() };
        let mut traffic =
            Traffic::new(self.units.iter().map(buyable).collect(), Uuid::now_v7().as_u64_pair().1);
        let mut next_delivery = Instant::now() + BETWEEN_DELIVERIES;
        loop {
            let items: Vec<_> = traffic
                .next_basket()
                .into_iter()
                .map(|(id, quantity): (UnitId, Quantity)| serde_json::json!({ "producto_id": id, "cantidad": quantity }))
                .collect();
            let body = serde_json::json!({ "items": items, "metodo_pago": "efectivo" });
            let body = Bytes::from(serde_json::to_vec(&body)?);
            till.request(Method::POST, "/api/v1/ventas/checkout", Some(&token), &[], body).await?;
            if Instant::now() >= next_delivery {
                self.deliver(&serving.shards).await?;
                next_delivery = Instant::now() + BETWEEN_DELIVERIES;
            }
            tokio::time::sleep(traffic.next_pause(BETWEEN_CUSTOMERS)).await;
        }
    }

    /// Fills the shelves of what is nearly gone.
    async fn deliver(&self, shards: &Shards) -> anyhow::Result<()> {
        let low = Quantity::from_whole(4).context("quantity")?;
        let delta = Quantity::from_whole(20).context("quantity")?;
        let mut movements = Vec::new();
        for unit in self.units.iter().filter(|unit| unit.kind.has_stock()) {
            let Some(stock) = shards.stock(self.tenant, unit.id.0).await?? else { continue };
            let here = stock.places.iter().find(|(place, ..)| place.id == self.store);
            if here.is_some_and(|(_, available, _)| *available < low) {
                movements.push(Movement { unit: unit.id, location: self.store, delta });
            }
        }
        if !movements.is_empty() {
            let delivery = Delivery { kind: MovementKind::Purchase, reference: "remito".into(), movements };
            shards.receive(self.tenant, delivery, caller()).await??;
        }
        Ok(())
    }
}

fn caller() -> Caller {
    Caller { user: "demo".into(), request_id: "demo".into(), trace: None }
}

async fn create(shards: &Shards, id: TenantId) -> anyhow::Result<Tenant> {
    let tenant = Tenant {
        id,
        name: "Almacén y Ropería La Esquina".into(),
        trade: "general".into(),
        active: true,
        created_at: SystemClock.now(),
    };
    let place = |place: &catalogue::DemoLocation| Location {
        id: LocationId(Uuid::now_v7()),
        code: place.codigo.into(),
        name: place.name.into(),
        kind: LocationKind::parse(place.kind).unwrap_or(LocationKind::Store),
        is_default: place.is_default,
        active: true,
    };
    let new = NewTenant { tenant, locations: vec![place(&STORE), place(&WAREHOUSE)] };
    let tenant = shards.create_tenant(new, caller()).await??;
    let units = catalogue::rows().into_iter().map(|row| unit(row, None)).collect::<Result<_, _>>()?;
    let reserve = catalogue::opening().into_iter().filter(|opening| opening.location == WAREHOUSE);
    let warehouse = ImportedLocation {
        code: WAREHOUSE.codigo.into(),
        name: WAREHOUSE.name.into(),
        kind: LocationKind::Warehouse,
        stock: reserve.map(|opening| (Arc::from(opening.sku), opening.quantity)).collect(),
    };
    let import = Import { reference: "apertura".into(), units, locations: vec![warehouse] };
    shards.import(tenant.id, import, caller()).await??;
    Ok(tenant)
}

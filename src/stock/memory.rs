//! The hot tier in memory: one [`Book`] per tenant, owned by the reservation actor of the tenant's shard.

use crate::domain::decimal::Quantity;
use crate::domain::idempotency::KeyHash;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::reservation::{Book, KeyUse, Outcome, Reserve};
use crate::domain::stock::{Level, Levels, Place};
use crate::ports::PortError;
use crate::ports::stock::HotStock;
use std::collections::HashMap;

/// Stock of the tenants of one shard.
#[derive(Debug, Default)]
pub struct MemoryStock {
    books: HashMap<TenantId, Book>,
}

impl MemoryStock {
    fn book(&mut self, tenant: TenantId) -> Result<&mut Book, PortError> {
        self.books.get_mut(&tenant).ok_or_else(|| not_loaded(tenant))
    }
}

fn not_loaded(tenant: TenantId) -> PortError {
    PortError::Transient(format!("tenant {tenant} is not loaded"))
}

impl HotStock for MemoryStock {
    async fn load(&mut self, tenant: TenantId, levels: Vec<(Place, Quantity)>) -> Result<(), PortError> {
        let mut fresh = Levels::default();
        fresh.reserve_capacity(levels.len());
        for (place, quantity) in levels {
            fresh.move_by(place, quantity);
        }
        self.books.insert(tenant, Book::new(fresh));
        Ok(())
    }

    fn is_loaded(&self, tenant: TenantId) -> bool {
        self.books.contains_key(&tenant)
    }

    async fn reserve(&mut self, tenant: TenantId, command: &Reserve) -> Result<Outcome, PortError> {
        Ok(self.book(tenant)?.reserve(command))
    }

    async fn settle(&mut self, tenant: TenantId, sale: SaleId) -> Result<bool, PortError> {
        Ok(self.book(tenant)?.settle(sale))
    }

    async fn void(&mut self, tenant: TenantId, sale: SaleId) -> Result<bool, PortError> {
        Ok(self.book(tenant)?.void(sale))
    }

    async fn moved(&mut self, tenant: TenantId, movements: &[(Place, Quantity)]) -> Result<bool, PortError> {
        let levels = self.book(tenant)?.levels_mut();
        for (done, (place, delta)) in movements.iter().enumerate() {
            if !levels.move_by(*place, *delta) {
                for (place, delta) in &movements[..done] {
                    levels.move_by(*place, delta.negated());
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn check(&self, tenant: TenantId, place: Place) -> Result<Level, PortError> {
        let book = self.books.get(&tenant).ok_or_else(|| not_loaded(tenant))?;
        Ok(book.levels().at(place))
    }

    async fn key_use(&self, tenant: TenantId, key: KeyHash) -> Result<Option<KeyUse>, PortError> {
        let book = self.books.get(&tenant).ok_or_else(|| not_loaded(tenant))?;
        Ok(book.key_use(key))
    }

    async fn remember_key(&mut self, tenant: TenantId, key: KeyHash, used: KeyUse) -> Result<(), PortError> {
        self.book(tenant)?.remember(key, used);
        Ok(())
    }
}

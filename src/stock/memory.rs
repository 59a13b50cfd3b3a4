//! The hot tier in memory: one [`Book`] per tenant, owned by the reservation actor of the tenant's shard.

use crate::domain::decimal::Quantity;
use crate::domain::idempotency::KeyHash;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::reservation::{Book, KeyUse, Outcome, Reserve};
use crate::domain::stock::{Level, Levels, Place};
use crate::ports::PortError;
use crate::ports::stock::{Answer, HotStock};
use futures_util::FutureExt;
use std::collections::HashMap;
use std::future::ready;

/// Stock of the tenants of one shard.
#[derive(Debug)]
pub struct MemoryStock {
    books: HashMap<TenantId, Book>,
    keys_per_tenant: usize,
}

impl MemoryStock {
    /// Empty; keeps so many settled keys per tenant before the ledger has to be asked.
    pub fn new(keys_per_tenant: usize) -> Self {
        Self { books: HashMap::new(), keys_per_tenant }
    }

    fn with<T: 'static>(&self, tenant: TenantId, ask: impl FnOnce(&Book) -> T) -> Answer<'static, T> {
        ready(self.books.get(&tenant).map(ask).ok_or_else(|| not_loaded(tenant))).boxed_local()
    }

    fn change<T: 'static>(
        &mut self,
        tenant: TenantId,
        change: impl FnOnce(&mut Book) -> T,
    ) -> Answer<'static, T> {
        ready(self.books.get_mut(&tenant).map(change).ok_or_else(|| not_loaded(tenant))).boxed_local()
    }
}

fn not_loaded(tenant: TenantId) -> PortError {
    PortError::Transient(format!("tenant {tenant} is not loaded"))
}

/// All movements or none.
fn move_all(levels: &mut Levels, movements: &[(Place, Quantity)]) -> bool {
    for (done, (place, delta)) in movements.iter().enumerate() {
        if !levels.move_by(*place, *delta) {
            for (place, delta) in &movements[..done] {
                levels.move_by(*place, delta.negated());
            }
            return false;
        }
    }
    true
}

impl HotStock for MemoryStock {
    fn load(&mut self, tenant: TenantId, levels: Vec<(Place, Quantity)>) -> Answer<'_, ()> {
        let mut fresh = Levels::default();
        fresh.reserve_capacity(levels.len());
        for (place, quantity) in levels {
            fresh.move_by(place, quantity);
        }
        self.books.insert(tenant, Book::new(fresh));
        ready(Ok(())).boxed_local()
    }

    fn reserve<'a>(&'a mut self, tenant: TenantId, command: &'a Reserve) -> Answer<'a, Outcome> {
        self.change(tenant, |book| book.reserve(command))
    }

    fn settle(&mut self, tenant: TenantId, sale: SaleId) -> Answer<'_, bool> {
        self.change(tenant, |book| book.settle(sale))
    }

    fn void(&mut self, tenant: TenantId, sale: SaleId) -> Answer<'_, bool> {
        self.change(tenant, |book| book.void(sale))
    }

    fn moved<'a>(&'a mut self, tenant: TenantId, movements: &'a [(Place, Quantity)]) -> Answer<'a, bool> {
        self.change(tenant, |book| move_all(book.levels_mut(), movements))
    }

    fn check(&self, tenant: TenantId, place: Place) -> Answer<'_, Option<Level>> {
        self.with(tenant, |book| book.levels().find(place))
    }

    fn levels(&self, tenant: TenantId) -> Answer<'_, Vec<(Place, Level)>> {
        self.with(tenant, |book| book.levels().iter().collect())
    }

    fn key_use(&self, tenant: TenantId, key: KeyHash) -> Answer<'_, Option<KeyUse>> {
        self.with(tenant, |book| book.key_use(key))
    }

    fn remember_key(&mut self, tenant: TenantId, key: KeyHash, used: KeyUse) -> Answer<'_, ()> {
        self.change(tenant, |book| book.remember(key, used))
    }

    fn forget_keys<'a>(
        &'a mut self,
        tenant: TenantId,
        in_ledger: &'a dyn Fn(SaleId) -> bool,
    ) -> Answer<'a, ()> {
        let keep = self.keys_per_tenant;
        self.change(tenant, |book| {
            book.forget_keys(keep, in_ledger);
        })
    }
}

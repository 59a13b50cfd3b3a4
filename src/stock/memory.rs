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

/// All movements or none: first where every place ends, then the change, so that a refusal leaves no trace.
fn move_all(levels: &mut Levels, movements: &[(Place, Quantity)]) -> bool {
    let mut ends: HashMap<Place, Quantity> = HashMap::with_capacity(movements.len());
    for (place, delta) in movements {
        let end = ends.entry(*place).or_insert_with(|| levels.at(*place).on_hand);
        match end.checked_add(*delta) {
            Some(sum) => *end = sum,
            None => return false,
        }
    }
    movements.iter().all(|(place, delta)| levels.move_by(*place, *delta))
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

    fn settle<'a>(&'a mut self, sales: &'a [(TenantId, SaleId)]) -> Answer<'a, usize> {
        let mut settled = 0;
        for (tenant, sale) in sales {
            let Some(book) = self.books.get_mut(tenant) else {
                return ready(Err(not_loaded(*tenant))).boxed_local();
            };
            settled += usize::from(book.settle(*sale));
        }
        ready(Ok(settled)).boxed_local()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::contract;
    use proptest::prelude::*;

    const KEEP: usize = 4;

    fn run(test: impl AsyncFnOnce(&mut dyn HotStock)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(test(&mut MemoryStock::new(KEEP)));
    }

    macro_rules! keeps_the_contract {
        ($($name:ident),+ $(,)?) => {$(
            #[test]
            fn $name() {
                run(contract::$name);
            }
        )+};
    }

    keeps_the_contract! {
        all_units_are_taken_or_none,
        what_is_not_positive_is_invalid_and_touches_nothing,
        a_place_that_never_had_stock_is_not_an_empty_one,
        what_is_reserved_together_meets_in_its_order,
        settle_and_void_happen_once,
        a_batch_is_settled_together_whatever_its_tenants,
        a_key_is_bound_with_the_units_and_free_after_a_void,
        a_load_starts_the_tenant_over,
        movements_are_all_or_none_at_the_bounds,
        a_tenant_that_is_not_loaded_is_an_error,
        tenants_with_the_same_units_do_not_meet,
    }

    #[test]
    fn the_oldest_keys_are_forgotten_once_the_ledger_has_them() {
        run(async |stock| {
            contract::the_oldest_keys_are_forgotten_once_the_ledger_has_them(stock, KEEP).await;
        });
    }

    proptest! {
        #[test]
        fn every_step_comes_to_what_the_book_comes_to(steps in contract::steps()) {
            run(async |stock| contract::does_what_the_book_does(stock, steps).await);
        }
    }
}

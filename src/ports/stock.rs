//! The hot tier: atomic reservation.
//!
//! One instance serves the tenants of one shard, for one caller at a time; each command is decided as a whole.

use super::PortError;
use crate::domain::decimal::Quantity;
use crate::domain::idempotency::KeyHash;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::reservation::{KeyUse, Outcome, Reserve};
use crate::domain::stock::{Level, Place};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::sync::Arc;

/// What a call comes to, in a while.
pub type Answer<'a, T> = LocalBoxFuture<'a, Result<T, PortError>>;

/// Makes the hot tier of a shard, empty, whenever the shard is rebuilt.
pub type NewStock = Arc<dyn Fn() -> Box<dyn HotStock> + Send + Sync>;

/// Stock that answers in microseconds. It may be lost at any moment and is then loaded again from the ledger and the
/// events that the ledger does not have yet. A tenant that is not loaded is an error, never "no stock".
pub trait HotStock {
    /// A rebuild begins: what will be loaded is read from now on. A tier that others can load too must let nothing undo
    /// it that was read earlier and arrives later.
    fn begin(&mut self) {}

    /// Starts a tenant over from rebuilt levels; whatever was there is gone.
    fn load(&mut self, tenant: TenantId, levels: Vec<(Place, Quantity)>) -> Answer<'_, ()>;

    /// Takes every unit of a command or none, and binds its key in the same step.
    fn reserve<'a>(&'a mut self, tenant: TenantId, command: &'a Reserve) -> Answer<'a, Outcome>;

    /// Whether every command is a round trip, so that many at once are cheaper than one after the other.
    fn is_far(&self) -> bool {
        false
    }

    /// Reserves each as if it had been asked for alone, in this order.
    fn reserve_all<'a>(&'a mut self, commands: &'a [(TenantId, &'a Reserve)]) -> Answer<'a, Vec<Outcome>> {
        async move {
            let mut outcomes = Vec::with_capacity(commands.len());
            for (tenant, command) in commands {
                outcomes.push(self.reserve(*tenant, command).await?);
            }
            Ok(outcomes)
        }
        .boxed_local()
    }

    /// These sales are durable; of whatever tenants, together, for they come in batches. Tells how many of them were
    /// open reservations: one that is not open is passed over, so settling twice changes nothing.
    fn settle<'a>(&'a mut self, sales: &'a [(TenantId, SaleId)]) -> Answer<'a, usize>;

    /// The sale never happened. False when no such reservation is open, so a second void changes nothing.
    fn void(&mut self, tenant: TenantId, sale: SaleId) -> Answer<'_, bool>;

    /// Adds durable movements that are no sale, all or (when one leaves the bounds: false) none.
    fn moved<'a>(&'a mut self, tenant: TenantId, movements: &'a [(Place, Quantity)]) -> Answer<'a, bool>;

    /// Level at a place; `None` where there never was any stock, which is not the same as none left.
    fn check(&self, tenant: TenantId, place: Place) -> Answer<'_, Option<Level>>;

    /// Every place of a tenant with its level.
    fn levels(&self, tenant: TenantId) -> Answer<'_, Vec<(Place, Level)>>;

    /// What a recent key was used for.
    fn key_use(&self, tenant: TenantId, key: KeyHash) -> Answer<'_, Option<KeyUse>>;

    /// Remembers a key whose sale is durable.
    fn remember_key(&mut self, tenant: TenantId, key: KeyHash, used: KeyUse) -> Answer<'_, ()>;

    /// Forgets the oldest keys beyond the tier's own bound, as long as `in_ledger` says that their sale can be found
    /// in the ledger.
    fn forget_keys<'a>(
        &'a mut self,
        tenant: TenantId,
        in_ledger: &'a dyn Fn(SaleId) -> bool,
    ) -> Answer<'a, ()>;
}

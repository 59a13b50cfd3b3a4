//! The hot tier: atomic reservation.
//!
//! One instance serves one tenant at a time and in order; who calls it sees each command decided as a whole.

use super::PortError;
use crate::domain::decimal::Quantity;
use crate::domain::idempotency::KeyHash;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::reservation::{KeyUse, Outcome, Reserve};
use crate::domain::stock::{Level, Place};
use std::future::Future;

/// Stock that answers in microseconds. It may be lost at any moment and is then loaded again from the ledger and the
/// events that the ledger does not have yet.
pub trait HotStock {
    /// Starts a tenant over from rebuilt levels; whatever was there is gone.
    fn load(
        &mut self,
        tenant: TenantId,
        levels: Vec<(Place, Quantity)>,
    ) -> impl Future<Output = Result<(), PortError>>;

    /// Whether a tenant is loaded: a tenant that is not is never read as "no stock".
    fn is_loaded(&self, tenant: TenantId) -> bool;

    /// Takes every unit of a command or none, and binds its key in the same step.
    fn reserve(
        &mut self,
        tenant: TenantId,
        command: &Reserve,
    ) -> impl Future<Output = Result<Outcome, PortError>>;

    /// The sale is durable.
    fn settle(&mut self, tenant: TenantId, sale: SaleId) -> impl Future<Output = Result<bool, PortError>>;

    /// The sale never happened; a second void changes nothing.
    fn void(&mut self, tenant: TenantId, sale: SaleId) -> impl Future<Output = Result<bool, PortError>>;

    /// Adds durable movements that are no sale, all or none.
    fn moved(
        &mut self,
        tenant: TenantId,
        movements: &[(Place, Quantity)],
    ) -> impl Future<Output = Result<bool, PortError>>;

    /// Level at a place.
    fn check(&self, tenant: TenantId, place: Place) -> impl Future<Output = Result<Level, PortError>>;

    /// What a recent key was used for.
    fn key_use(
        &self,
        tenant: TenantId,
        key: KeyHash,
    ) -> impl Future<Output = Result<Option<KeyUse>, PortError>>;

    /// Remembers a key whose sale is durable.
    fn remember_key(
        &mut self,
        tenant: TenantId,
        key: KeyHash,
        used: KeyUse,
    ) -> impl Future<Output = Result<(), PortError>>;
}

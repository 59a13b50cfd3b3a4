//! Talking to the shards: each call finds the shard of its tenant.

use super::{
    Available, Caller, Checkout, CheckoutResult, Delivery, Denied, ErpState, HotSnapshot, Msg, NewTenant,
    ProductPage, Reservation, SaleState, Scanned, UnitStock, Void, Voided, Written,
};
use crate::actors::kit::{AskError, Handle, Reply};
use crate::domain::catalogue::Unit;
use crate::domain::erp::{Follow, Followed};
use crate::domain::ids::{LocationId, SaleId, TenantId, UnitId};
use crate::domain::import::{Import, ImportCounts};
use crate::domain::tenant::{Location, Tenant, shard_of};
use crate::ports::PortError;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use uuid::Uuid;

/// The shards, as far as this process has them. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    slots: Arc<[Slot]>,
    patience: Duration,
}

/// Empty while another node has the shard.
type Slot = RwLock<Option<Handle<Reservation>>>;

/// An answer, or why there is none: the actor's state is rebuilt in every case but `Full`.
pub type Asked<T> = Result<Result<T, Denied>, AskError>;

impl Shards {
    /// Over the kit's handles, in shard order. A sale that is not decided within `patience` is answered as unknown:
    /// the till is told to repeat it rather than left waiting for a server that may be away for hours.
    pub fn new(handles: Vec<Handle<Reservation>>, patience: Duration) -> Self {
        Self { slots: handles.into_iter().map(|handle| RwLock::new(Some(handle))).collect(), patience }
    }

    /// Of a process that has none of them yet.
    pub fn none_of(count: usize, patience: Duration) -> Self {
        Self { slots: (0..count).map(|_| RwLock::new(None)).collect(), patience }
    }

    /// This process has a shard from now on, or has not. What was asked before is answered by whom it was asked.
    pub fn set(&self, shard: usize, handle: Option<Handle<Reservation>>) {
        if let Some(slot) = self.slots.get(shard) {
            *slot.write().unwrap_or_else(PoisonError::into_inner) = handle;
        }
    }

    /// The kit's handles of the shards that are here, for draining.
    pub fn handles(&self) -> Vec<Handle<Reservation>> {
        self.slots.iter().filter_map(handle_in).collect()
    }

    /// How many shards there are, wherever they are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Whether a tenant's shard is here.
    pub fn is_here(&self, tenant: TenantId) -> bool {
        self.of(tenant).is_some()
    }

    /// For each shard, whether it is here.
    pub fn here(&self) -> Vec<bool> {
        self.slots.iter().map(|slot| handle_in(slot).is_some()).collect()
    }

    fn of(&self, tenant: TenantId) -> Option<Handle<Reservation>> {
        self.slots.get(shard_of(tenant, self.slots.len())).and_then(handle_in)
    }

    async fn ask<T>(
        &self,
        tenant: TenantId,
        message: impl FnOnce(Reply<Result<T, Denied>>) -> Msg,
    ) -> Asked<T> {
        match self.of(tenant) {
            Some(shard) => shard.ask(message).await,
            // The edge sends such requests on; whoever else asks tries again until the shard comes here.
            None => Ok(Err(PortError::Transient("another node has the tenant's shard".into()).into())),
        }
    }

    /// Sells.
    pub async fn checkout(&self, checkout: Checkout) -> Result<CheckoutResult, AskError> {
        let sold = self.ask(checkout.tenant, |reply| Msg::Checkout(Box::new(checkout), reply));
        tokio::time::timeout(self.patience, sold).await.unwrap_or(Err(AskError::TimedOut))
    }

    /// Takes a sale back; a second time changes nothing and says the same.
    pub async fn void(&self, void: Void) -> Asked<Voided> {
        let voided = self.ask(void.tenant, |reply| Msg::Void(Box::new(void), reply));
        tokio::time::timeout(self.patience, voided).await.unwrap_or(Err(AskError::TimedOut))
    }

    /// Finds a unit by SKU or barcode, with its stock at a location or the default one.
    pub async fn scan(
        &self,
        tenant: TenantId,
        code: String,
        location: Option<LocationId>,
    ) -> Asked<Option<Scanned>> {
        self.ask(tenant, |reply| Msg::Scan { tenant, code, location, reply }).await
    }

    /// Stock of a unit, at every location.
    pub async fn stock(&self, tenant: TenantId, product: Uuid) -> Asked<Option<UnitStock>> {
        self.ask(tenant, |reply| Msg::Stock { tenant, product, reply }).await
    }

    /// What there is of some units at some locations; at all of them when none is named.
    pub async fn available(
        &self,
        tenant: TenantId,
        units: Vec<UnitId>,
        locations: Vec<LocationId>,
    ) -> Asked<Available> {
        self.ask(tenant, |reply| Msg::Available { tenant, units, locations, reply }).await
    }

    /// The whole catalogue.
    pub async fn units(&self, tenant: TenantId) -> Asked<Vec<Arc<Unit>>> {
        self.ask(tenant, |reply| Msg::Units { tenant, reply }).await
    }

    /// A sale, from the moment it was answered.
    pub async fn sale(&self, tenant: TenantId, sale: SaleId) -> Asked<Option<SaleState>> {
        self.ask(tenant, |reply| Msg::FindSale { tenant, sale, reply }).await
    }

    /// A page of products, each with its units.
    pub async fn products(&self, tenant: TenantId, page: ProductPage) -> Asked<Vec<Vec<Arc<Unit>>>> {
        self.ask(tenant, |reply| Msg::Products { tenant, page, reply }).await
    }

    /// The locations of a tenant.
    pub async fn locations(&self, tenant: TenantId) -> Asked<Vec<Location>> {
        self.ask(tenant, |reply| Msg::Locations { tenant, reply }).await
    }

    /// Creates a tenant.
    pub async fn create_tenant(&self, new: NewTenant, caller: Caller) -> Asked<Tenant> {
        self.ask(new.tenant.id, |reply| Msg::CreateTenant { new: Box::new(new), caller, reply }).await
    }

    /// Every tenant whose shard is here, oldest first.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, AskError> {
        let mut all = Vec::new();
        for shard in self.handles() {
            all.extend(shard.ask_when_room(Msg::Tenants).await?);
        }
        all.sort_by_key(|tenant| tenant.id);
        Ok(all)
    }

    /// Takes in a catalogue, whole or not at all.
    pub async fn import(&self, tenant: TenantId, import: Import, caller: Caller) -> Asked<ImportCounts> {
        self.ask(tenant, |reply| Msg::Import { tenant, import: Box::new(import), caller, reply }).await
    }

    /// Adds goods that came in.
    pub async fn receive(&self, tenant: TenantId, delivery: Delivery, caller: Caller) -> Asked<()> {
        self.ask(tenant, |reply| Msg::Receive { tenant, delivery, caller, reply }).await
    }

    /// Takes in what was read from an ERP, whole or not at all. Of one tenant one after the other.
    pub async fn follow(&self, tenant: TenantId, follow: Follow, caller: Caller) -> Asked<Followed> {
        self.ask(tenant, |reply| Msg::Follow { tenant, follow: Box::new(follow), caller, reply }).await
    }

    /// What is known of a tenant's ERPs.
    pub async fn erp_states(&self, tenant: TenantId) -> Asked<Vec<ErpState>> {
        self.ask(tenant, |reply| Msg::ErpStates { tenant, reply }).await
    }

    /// Every row of an ERP that is known, in order.
    pub async fn erp_rows(&self, tenant: TenantId, source: Arc<str>) -> Asked<Vec<i64>> {
        self.ask(tenant, |reply| Msg::ErpRows { tenant, source, reply }).await
    }

    /// Rebuilds the hot tier of the tenant's shard from the ledger; selling waits meanwhile. Says how many units the
    /// tenant has.
    pub async fn warm_up(&self, tenant: TenantId) -> Asked<usize> {
        self.ask(tenant, |reply| Msg::Warmup { tenant, reply }).await
    }

    /// Hot stock as of one event.
    pub async fn snapshot(&self, tenant: TenantId) -> Asked<HotSnapshot> {
        self.ask(tenant, |reply| Msg::Snapshot { tenant, reply }).await
    }

    /// Tells each shard which of its events the ledger has.
    pub fn in_ledger(&self, written: Vec<Written>) {
        let mut by_shard: Vec<Vec<Written>> = vec![Vec::new(); self.slots.len()];
        for one in written {
            by_shard[shard_of(one.tenant, self.slots.len())].push(one);
        }
        let news = self.slots.iter().zip(by_shard).filter(|(_, written)| !written.is_empty());
        for (shard, written) in news.filter_map(|(slot, written)| Some((handle_in(slot)?, written))) {
            // A stopped shard needs no news, and a rebuilt one reads it from the ledger.
            shard.feedback(Msg::InLedger(written)).ok();
        }
    }
}

fn handle_in(slot: &Slot) -> Option<Handle<Reservation>> {
    slot.read().unwrap_or_else(PoisonError::into_inner).clone()
}

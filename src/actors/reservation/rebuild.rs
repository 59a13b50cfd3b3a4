//! Rebuilding a shard: the ledger's snapshot plus every durable event that is not in it.

use super::catalogue::change_catalogue;
use super::{Reservation, TenantState};
use crate::actors::kit::Fault;
use crate::domain::decimal::Quantity;
use crate::domain::event::{Body, Event};
use crate::domain::ids::TenantId;
use crate::domain::reservation::KeyUse;
use crate::domain::stock::Place;
use crate::domain::tenant::shard_of;
use crate::ports::PortError;
use crate::ports::ledger::TenantSnapshot;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

impl Reservation {
    /// First the barrier, so that nothing an earlier incarnation sent is still undecided; then the events that the
    /// ledger may lack; last the ledger, which can only have more of them by then.
    pub(super) async fn rebuild(&mut self) -> Result<(), Fault> {
        let started = Instant::now();
        self.counts.rebuilds += 1;
        self.stock.begin();
        self.generation = self.ports.journal.barrier().await?;
        self.lane = self.ports.journal.lane(self.generation);
        let mut events = self.ports.history.unconfirmed().await?;
        let (shard, shards) = (self.settings.shard, self.settings.shards);
        events.extend(self.ports.ledger.given_up(shard, shards).await?);
        let snapshots = self.ports.ledger.snapshots(shard, shards).await?;
        let mut missing: HashMap<TenantId, Vec<Arc<Event>>> = HashMap::new();
        for event in events {
            if shard_of(event.tenant, shards) == shard {
                missing.entry(event.tenant).or_default().push(event);
            }
        }
        for events in missing.values_mut() {
            events.sort_by_key(|event| event.sequence);
            events.dedup_by_key(|event| event.sequence);
        }
        let mut replayed = 0;
        for snapshot in snapshots {
            let mut events = missing.remove(&snapshot.tenant.id).unwrap_or_default();
            events.retain(|event| !snapshot.has(event.sequence));
            replayed += events.len();
            self.restore(snapshot, events).await?;
        }
        // Tenants that the ledger does not know at all yet.
        for (_, events) in missing {
            replayed += events.len();
            self.restore_new(events).await?;
        }
        metrics::histogram!("blend_rebuild_seconds").record(started.elapsed());
        let (tenants, ms) = (self.tenants.len(), started.elapsed().as_millis());
        tracing::info!(shard, tenants, replayed, ms, "shard rebuilt");
        Ok(())
    }

    async fn restore_new(&mut self, events: Vec<Arc<Event>>) -> Result<(), Fault> {
        let created = events.iter().find_map(|event| match &event.body {
            Body::TenantCreated { tenant, locations } => {
                Some((tenant.clone(), locations.clone(), event.sequence))
            }
            _ => None,
        });
        let Some((tenant, locations, first)) = created else {
            let tenant = events.first().map(|event| event.tenant.to_string()).unwrap_or_default();
            let why =
                format!("the journal has events of tenant {tenant}, which neither it nor the ledger knows");
            tracing::error!("{why}");
            return Ok(());
        };
        let snapshot = TenantSnapshot {
            last_at: tenant.created_at,
            tenant,
            locations,
            units: Vec::new(),
            stock: Vec::new(),
            erp: Vec::new(),
            sequence: first,
            holes: Default::default(),
        };
        let rest = events.into_iter().filter(|event| event.sequence != first).collect();
        self.restore(snapshot, rest).await
    }

    async fn restore(&mut self, snapshot: TenantSnapshot, events: Vec<Arc<Event>>) -> Result<(), Fault> {
        let tenant = snapshot.tenant.id;
        let mut state = TenantState::new(snapshot.tenant, snapshot.locations, self.ports.unbooked.clone());
        (state.sequence, state.settled) = (snapshot.sequence, snapshot.sequence);
        state.last_at = state.last_at.max(snapshot.last_at);
        snapshot.units.into_iter().for_each(|unit| state.catalogue.upsert(unit));
        for (source, entry) in snapshot.erp {
            state.erp.entry(source).or_default().apply(&entry);
        }
        let mut levels: HashMap<Place, Quantity> = snapshot.stock.into_iter().collect();
        for event in &events {
            change_catalogue(&mut state, &event.body);
            for moved in event.movements() {
                let level = levels.entry((moved.unit, moved.location)).or_default();
                *level = level.checked_add(moved.delta).ok_or_else(|| {
                    PortError::Permanent(format!("stock of {} is out of bounds", moved.unit))
                })?;
            }
            state.keep_until_in_ledger(event);
        }
        self.stock.load(tenant, levels.into_iter().collect()).await?;
        for event in &events {
            if let Body::SaleCreated { sale, keyed: Some((key, fingerprint)) } = &event.body {
                let key = key.hash(tenant);
                self.filter.insert(key.indexed());
                let used = KeyUse { fingerprint: *fingerprint, sale: sale.id };
                self.stock.remember_key(tenant, key, used).await?;
            }
        }
        self.tenants.insert(tenant, state);
        Ok(())
    }
}

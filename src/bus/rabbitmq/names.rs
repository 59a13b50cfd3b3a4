//! The topology: what exchanges, queues and routing keys are called.
//!
//! ```text
//! blend_events (topic)        sales.created, stock.moved, ...   whoever binds them
//!                             ledger.<p> (BCC)                  queue.sales.created.<p>
//!                                                               queue.webhooks.<p>, queue.sync.<kind>.<shard>.<id>
//!                             sales.failed                      whoever binds it
//! blend_events.retry (topic)  <group>.retry.<step>.<p>          queue.sales.created.retry.<step>
//! blend_events.dlx (topic)    <group>.retry.*.<p>               queue.sales.created.<p>
//!                             <group>                           queue.sales.created.dlq
//! ```
//!
//! The ledger needs the events of a tenant in order, whatever their kind, so its queue is split by tenant and not by
//! kind. The partition is a second routing key in the `BCC` header (sender-selected distribution): the broker routes
//! once by both keys, confirms once for all queues, and removes the header. The public key stays what it always was,
//! and nobody else needs to know of partitions. A hash in the public key would break every binding there is; a
//! second publish would make two confirms of one fact; the consistent-hash exchange is a plugin.
//!
//! The other groups come and go with those who want to hear (`group.rs`): a copy of every event costs the broker as much
//! as the ledger's does. They are bound under the keys of partitions too, for their events too come in order.
//!
//! What waits for its next try expires out of the queue of its step and comes back through the dead-letter exchange
//! under the same key. The time is the message's own (`expiration`), so that it may be spread, so that what waits
//! behind it comes right behind it (the broker expires from the head only), and so that another schedule needs no
//! other queue.

use crate::domain::ids::TenantId;
use crate::domain::tenant::shard_of;
use crate::ports::bus::LEDGER_GROUP;

/// Names with the prefix of the installation. Routing keys have none: their exchange has one.
pub struct Names {
    pub prefix: String,
    pub events: String,
    pub retry: String,
    pub dead: String,
    pub dead_letters: String,
    pub partitions: usize,
    pub steps: usize,
}

/// The routing key under which a dead letter reaches its queue.
pub const DEAD_KEY: &str = LEDGER_GROUP;

/// The kind of the message that tells the world of an event that was given up.
pub const FAILED: &str = "sales.failed";

impl Names {
    pub fn new(prefix: &str, partitions: usize, steps: usize) -> Self {
        Self {
            prefix: prefix.to_owned(),
            events: format!("{prefix}blend_events"),
            retry: format!("{prefix}blend_events.retry"),
            dead: format!("{prefix}blend_events.dlx"),
            dead_letters: format!("{prefix}{LEDGER_GROUP}.dlq"),
            partitions: partitions.max(1),
            steps,
        }
    }

    /// The queue of a partition.
    pub fn partition(&self, partition: usize) -> String {
        format!("{}{LEDGER_GROUP}.{partition}", self.prefix)
    }

    /// The queue of another group that is kept, for a partition.
    pub fn kept(&self, group: &str, partition: usize) -> String {
        format!("{}{group}.{partition}", self.prefix)
    }

    /// The queue in which deliveries wait after so many failures, from 1.
    pub fn step(&self, step: usize) -> String {
        format!("{}{LEDGER_GROUP}.retry.{step}", self.prefix)
    }

    /// The partition of a tenant.
    pub fn partition_of(&self, tenant: TenantId) -> usize {
        shard_of(tenant, self.partitions)
    }
}

/// The routing key of a partition.
pub fn ledger_key(partition: usize) -> String {
    format!("ledger.{partition}")
}

/// The routing key of a retry; `*` is every step or partition.
pub fn retry_key(step: impl std::fmt::Display, partition: impl std::fmt::Display) -> String {
    format!("{LEDGER_GROUP}.retry.{step}.{partition}")
}

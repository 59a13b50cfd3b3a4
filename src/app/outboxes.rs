//! Where the events of shards wait while the broker is away.

use crate::bus::outbox::{OutboxSettings, WithOutbox};
use crate::config::{Config, SellWithoutBroker};
use crate::ports::bus::EventLog;
use crate::ports::{Open, PortError};
use crate::stock::redis::RedisHome;
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Outboxes in Redis, one for each shard.
pub struct Outboxes {
    redis: Arc<RedisHome>,
    settings: OutboxSettings,
    waiting: Vec<Arc<AtomicU64>>,
}

impl Outboxes {
    /// Of what the settings and the server say.
    pub async fn of(config: &Config, redis: Arc<RedisHome>) -> Result<Self, PortError> {
        let is_durable = redis.keeps_every_write().await?;
        let takes = match config.bus.sell_without_broker {
            SellWithoutBroker::Auto => is_durable,
            SellWithoutBroker::Always => true,
            SellWithoutBroker::Never => false,
        };
        match (takes, is_durable) {
            (true, false) => tracing::warn!(
                "sales go on while RabbitMQ is away, and are lost when Redis loses its last writes then: set appendonly \
                 yes and appendfsync always"
            ),
            (false, _) => tracing::info!(
                "sales wait while RabbitMQ is away (bus.sell_without_broker; auto needs a Redis with appendonly yes and \
                 appendfsync always)"
            ),
            (true, true) => {}
        }
        let waiting = (0..config.engine.shards).map(|_| Arc::default()).collect();
        Ok(Self { redis, settings: OutboxSettings { takes, most: config.bus.outbox_max_events }, waiting })
    }

    /// Opens writing ends of a shard that go on while the bus is away. What was left in the outbox goes out first.
    pub fn log(&self, shard: usize, open: Open<Box<dyn EventLog>>) -> Open<Box<dyn EventLog>> {
        let (redis, settings) = (self.redis.clone(), self.settings.clone());
        let count: Arc<AtomicU64> = self.waiting.get(shard).cloned().unwrap_or_default();
        Arc::new(move || {
            let opened =
                WithOutbox::open(open.clone(), redis.new_outbox(shard), settings.clone(), count.clone());
            async move { Ok(Box::new(opened.await?) as Box<dyn EventLog>) }.boxed()
        })
    }

    /// Whether sales go on while the bus is away.
    pub const fn takes(&self) -> bool {
        self.settings.takes
    }

    /// Events of this process's shards that wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

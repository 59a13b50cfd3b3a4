//! What the ledger has not got of a shard: a barrier through the shard's part of the bus.
//!
//! A queue cannot be read back. So a rebuild publishes a message into every partition, and the feed answers it when
//! everything before it is settled, retries included. Then the ledger has applied what was published before, or has
//! it as given up. The dead letters are not asked: reading a queue means standing in line for it, and a reader that
//! went while the broker was killed may stand there for good.

use super::connection::{Outgoing, confirming, connect, in_time, publish, transient};
use super::{RabbitBus, Shared, message, topology};
use crate::domain::event::Event;
use crate::ports::PortError;
use crate::ports::bus::EventHistory;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// A feed that was ended forgets who asked it, so whoever was not answered asks again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Of one shard.
struct History {
    shared: Arc<Shared>,
    shard: usize,
}

impl RabbitBus {
    /// What the ledger has not got of the tenants of a shard.
    pub fn history(&self, shard: usize) -> Arc<dyn EventHistory> {
        Arc::new(History { shared: self.shared.clone(), shard })
    }
}

impl EventHistory for History {
    fn unconfirmed(&self) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>> {
        async move {
            let shared = &self.shared;
            let connection = connect(&shared.settings, "rebuild").await?;
            topology::declare(&connection, shared).await?;
            wait_for_the_ledger(&connection, shared, self.shard).await?;
            Ok(Vec::new())
        }
        .boxed()
    }
}

async fn wait_for_the_ledger(
    connection: &Connection,
    shared: &Shared,
    shard: usize,
) -> Result<(), PortError> {
    let deadline = Instant::now() + shared.settings.catch_up_timeout;
    let begin = async {
        let channel = confirming(connection).await?;
        let replies = channel.queue_declare("".into(), topology::of_its_own(), FieldTable::default());
        let replies = replies.await.map_err(transient)?.name().to_string();
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let none = FieldTable::default();
        let consumer = channel.basic_consume(replies.as_str().into(), "".into(), options, none);
        let consumer = consumer.await.map_err(transient)?;
        Ok((channel, replies, consumer))
    };
    let (channel, replies, mut consumer) =
        in_time(shared.settings.confirm_timeout, "a rebuild", begin).await?;
    let asker = Uuid::now_v7();
    let ids = shared.partitions_of(shard).map(|partition| (format!("{asker}.{partition}"), partition));
    let mut open: BTreeMap<String, usize> = ids.collect();
    while !open.is_empty() {
        let now = Instant::now();
        if now >= deadline {
            let partitions: Vec<_> = open.values().collect();
            return Err(PortError::Transient(format!(
                "the ledger has not caught up with partitions {partitions:?} in {:?}; is the ledger writer running?",
                shared.settings.catch_up_timeout
            )));
        }
        ask(&channel, shared, &open, &replies, deadline - now).await?;
        collect(&mut consumer, &mut open, deadline.min(now + ASK_AGAIN_AFTER)).await?;
    }
    Ok(())
}

async fn ask(
    channel: &Channel,
    shared: &Shared,
    open: &BTreeMap<String, usize>,
    replies: &str,
    left: Duration,
) -> Result<(), PortError> {
    let barrier = |(correlation, partition): (&String, &usize)| Outgoing {
        exchange: String::new(),
        key: shared.names.partition(*partition),
        mandatory: true,
        body: Vec::new(),
        // It is worth nothing once nobody waits for it any more.
        properties: message::expiring(message::barrier(replies, correlation), left),
    };
    let barriers = open.iter().map(barrier).collect();
    Ok(publish(channel, barriers, shared.settings.confirm_timeout).await?)
}

async fn collect(
    consumer: &mut Consumer,
    open: &mut BTreeMap<String, usize>,
    until: Instant,
) -> Result<(), PortError> {
    while !open.is_empty() {
        match timeout_at(until, consumer.next()).await {
            Ok(Some(Ok(answer))) => {
                open.remove(&message::correlation(&answer.properties));
            }
            Ok(Some(Err(error))) => return Err(transient(error)),
            Ok(None) => {
                return Err(PortError::Transient("RabbitMQ ended the consumer of the answers".into()));
            }
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

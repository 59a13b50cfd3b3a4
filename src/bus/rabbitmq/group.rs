//! Consumer groups beside the ledger's, for those who come and go.
//!
//! | group | its queues | when nobody listens |
//! |---|---|---|
//! | `queue.webhooks` | one for each partition, durable, of the ledger's kind | what happens waits in them, until nobody wants to be told any more and they are deleted |
//! | `queue.sync.<kind>` | one for each listener, in memory, gone with its connection | nothing is kept: a channel shows how much there is now, and whoever begins to listen compares everything |
//!
//! Nothing is bound where nobody wants to hear, so an installation without marketplaces or webhooks pays nothing.

use super::connection::{connect, in_time, transient};
use super::message::{self, Content};
use super::partition::acknowledge;
use super::{Shared, topology};
use crate::ports::PortError;
use crate::ports::bus::{Delivery, EventFeed, Rejection, Subscription};
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::{BoxStream, SelectAll, StreamExt, select_all};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

type Arrival = Result<lapin::message::Delivery, lapin::Error>;

/// A group, for the tenants of a shard.
#[derive(Clone)]
pub struct Group {
    pub shared: Arc<Shared>,
    pub name: &'static str,
    pub shard: usize,
    pub is_kept: bool,
}

impl Group {
    fn partitions(&self) -> impl Iterator<Item = usize> + use<> {
        self.shared.partitions_of(self.shard)
    }

    /// A connection on which the queues are there, and their names.
    async fn declare(&self) -> Result<(Connection, Vec<String>), PortError> {
        let connection = connect(&self.shared.settings, self.name).await?;
        topology::declare(&connection, &self.shared).await?;
        if self.is_kept {
            topology::declare_kept(&connection, &self.shared, self.name, self.partitions()).await?;
            let queues = self.partitions().map(|partition| self.shared.names.kept(self.name, partition));
            return Ok((connection, queues.collect()));
        }
        let prefix = &self.shared.names.prefix;
        let queue = format!("{prefix}{}.{}.{}", self.name, self.shard, Uuid::now_v7().simple());
        topology::declare_own(&connection, &self.shared, &queue, self.partitions()).await?;
        Ok((connection, vec![queue]))
    }

    async fn listen(&self) -> Result<Feed, PortError> {
        let (connection, queues) = self.declare().await?;
        // One for all its queues: they are confirmed together.
        let channel = connection.create_channel().await.map_err(transient)?;
        let qos = channel.basic_qos(self.shared.settings.prefetch, BasicQosOptions::default());
        qos.await.map_err(transient)?;
        let mut streams = Vec::new();
        for queue in queues {
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = channel.basic_consume(queue.into(), "".into(), options, none);
            let consumer = consumer.await.map_err(transient)?;
            streams.push(consumer.map(Some).chain(future::ready(None).into_stream()).boxed());
        }
        Ok(Feed {
            name: self.name,
            channel,
            arrivals: select_all(streams),
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            skipped: Vec::new(),
            _connection: connection,
        })
    }

    fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, PortError>>,
    ) -> impl Future<Output = Result<T, PortError>> {
        in_time(self.shared.settings.confirm_timeout * 2, self.name, work)
    }
}

impl Subscription for Group {
    fn shard(&self) -> Option<usize> {
        Some(self.shard)
    }

    fn is_kept(&self) -> bool {
        self.is_kept
    }

    fn begin(&self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            if self.is_kept {
                self.in_time(self.declare()).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn open(&self) -> BoxFuture<'static, Result<Box<dyn EventFeed>, PortError>> {
        let group = self.clone();
        async move { Ok(Box::new(group.in_time(group.listen()).await?) as Box<dyn EventFeed>) }.boxed()
    }

    fn end<'a>(&'a self, shards: &'a [usize]) -> BoxFuture<'a, Result<(), PortError>> {
        let delete = async move {
            let connection = connect(&self.shared.settings, self.name).await?;
            let partitions = shards.iter().flat_map(|shard| self.shared.partitions_of(*shard));
            let queues = partitions.map(|partition| self.shared.names.kept(self.name, partition));
            topology::delete_unheard(&connection, queues).await
        };
        async move { if self.is_kept { self.in_time(delete).await } else { Ok(()) } }.boxed()
    }
}

/// The reading end.
struct Feed {
    name: &'static str,
    channel: Channel,
    /// None when the broker ended a consumer.
    arrivals: SelectAll<BoxStream<'static, Option<Arrival>>>,
    /// Events that came and were not handed out.
    ready: VecDeque<Delivery>,
    /// Delivered and not confirmed.
    held: BTreeMap<u64, ()>,
    /// What came and is no event for anybody.
    skipped: Vec<u64>,
    _connection: Connection,
}

impl Feed {
    fn receive(&mut self, arrival: Option<Arrival>) -> Result<(), PortError> {
        let ended = || PortError::Transient(format!("RabbitMQ ended the consumer of {}", self.name));
        let delivery = arrival.ok_or_else(ended)?.map_err(transient)?;
        let position = delivery.delivery_tag;
        self.held.insert(position, ());
        match message::read(&delivery.properties, &delivery.data) {
            Content::Event(event) => self.ready.push_back(Delivery { position, attempt: 0, event }),
            content => {
                if let Content::Unreadable(why) = content {
                    // The ledger's copy is the one that becomes a dead letter.
                    tracing::warn!(group = self.name, why, "a message that is not an event this build reads");
                }
                self.skipped.push(position);
            }
        }
        Ok(())
    }

    async fn confirm(&mut self, positions: &[u64]) -> Result<(), PortError> {
        acknowledge(&self.channel, &mut self.held, positions).await
    }

    fn tries_nothing_again<T>(&self) -> Result<T, PortError> {
        Err(PortError::Permanent(format!("{} tries nothing again", self.name)))
    }
}

impl EventFeed for Feed {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        async move {
            loop {
                while let Some(Some(arrival)) = self.arrivals.next().now_or_never() {
                    self.receive(arrival)?;
                }
                // Nothing is handed out before the last await: what is dropped meanwhile is still in `ready`.
                if !self.skipped.is_empty() {
                    let skipped = self.skipped.clone();
                    self.confirm(&skipped).await?;
                    self.skipped.clear();
                }
                if !self.ready.is_empty() {
                    let most = max.min(self.ready.len());
                    return Ok(self.ready.drain(..most).collect());
                }
                let arrival = self.arrivals.next().await.flatten();
                self.receive(arrival)?;
            }
        }
        .boxed()
    }

    fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            let positions: Vec<u64> = deliveries.iter().map(|delivery| delivery.position).collect();
            self.confirm(&positions).await
        }
        .boxed()
    }

    fn gives_up(&self, _: &Delivery) -> bool {
        false
    }

    fn reject<'a>(&'a mut self, _: &'a Delivery, _: &'a str) -> BoxFuture<'a, Result<Rejection, PortError>> {
        future::ready(self.tries_nothing_again()).boxed()
    }

    fn postpone<'a>(&'a mut self, _: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        future::ready(self.tries_nothing_again()).boxed()
    }
}

//! The reading end of the ledger group: one consumer on every partition.
//!
//! A failed delivery is published again, confirmed, into the queue of its step, and then acknowledged; its later
//! events follow it there, so that they come back behind it. A crash in between brings it twice, never not at all.

use super::connection::{connect, in_time, transient};
use super::message::{self, Content, History};
use super::partition::{Elsewhere, Partition};
use super::publisher::Publisher;
use super::{Shared, topology};
use crate::domain::event::Event;
use crate::domain::ids::{EventId, TenantId};
use crate::ports::PortError;
use crate::ports::bus::{Delivery, EventFeed, Rejection};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, SelectAll, StreamExt};
use futures_util::{FutureExt, stream::select_all};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// A message from a partition, which is known by its place among those of the feed, or the end of its stream.
type Arrival = (usize, Option<Result<lapin::message::Delivery, lapin::Error>>);

/// How much longer than planned a retry may be away before its tenant does not wait for it any more.
const LATE: Duration = Duration::from_secs(5);

/// The feed. It belongs to the ledger writer actor.
pub struct Feed {
    shared: Arc<Shared>,
    shard: usize,
    id: Uuid,
    publisher: Publisher,
    partitions: Vec<Partition>,
    arrivals: SelectAll<BoxStream<'static, Arrival>>,
    /// Events that came and were not handed out.
    ready: VecDeque<Ready>,
    /// What came and is not understood.
    unreadable: VecDeque<Unreadable>,
    /// The feed's own messages, read and not acknowledged.
    read: VecDeque<(usize, u64)>,
    parked: HashMap<TenantId, Parked>,
    _connection: Connection,
}

struct Ready {
    partition: usize,
    tag: u64,
    event: Arc<Event>,
}

struct Unreadable {
    partition: usize,
    tag: u64,
    properties: BasicProperties,
    body: Vec<u8>,
    why: String,
}

/// The older event behind which a tenant's events wait.
struct Parked {
    behind: EventId,
    step: usize,
    until: Instant,
}

impl Feed {
    /// Declares the topology and begins to consume the partitions of a shard.
    pub async fn open(shared: Arc<Shared>, shard: usize) -> Result<Self, PortError> {
        let connection = connect(&shared.settings, "ledger").await?;
        topology::declare(&connection, &shared).await?;
        let limit = shared.settings.confirm_timeout;
        in_time(limit, "the ledger", Self::consume(connection, shared, shard)).await
    }

    async fn consume(connection: Connection, shared: Arc<Shared>, shard: usize) -> Result<Self, PortError> {
        let publisher = Publisher::open(&connection, shared.clone()).await?;
        let (mut partitions, mut streams) = (Vec::new(), Vec::new());
        for (at, partition) in shared.partitions_of(shard).enumerate() {
            // A channel each: delivery tags are the channel's, and so one acknowledgement covers many.
            let channel = connection.create_channel().await.map_err(transient)?;
            let qos = channel.basic_qos(shared.settings.prefetch, BasicQosOptions::default());
            qos.await.map_err(transient)?;
            let (queue, options) = (shared.names.partition(partition), BasicConsumeOptions::default());
            let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
            let consumer = consumer.await.map_err(transient)?.map(Some).chain(stream::iter([None]));
            streams.push(consumer.map(move |arrival| (at, arrival)).boxed());
            partitions.push(Partition::new(partition, channel));
        }
        Ok(Self {
            shared,
            shard,
            id: Uuid::now_v7(),
            publisher,
            partitions,
            arrivals: select_all(streams),
            ready: VecDeque::new(),
            unreadable: VecDeque::new(),
            read: VecDeque::new(),
            parked: HashMap::new(),
            _connection: connection,
        })
    }

    async fn next_batch(&mut self, max: usize) -> Result<Vec<Delivery>, PortError> {
        loop {
            while let Some(Some(arrival)) = self.arrivals.next().now_or_never() {
                self.receive(arrival)?;
            }
            // Nothing is handed out before the last await: what is dropped meanwhile is still in `ready`.
            self.tidy_up().await?;
            if !self.ready.is_empty() {
                return Ok(self.hand_out(max));
            }
            let arrival = self.arrivals.next().await;
            self.receive(arrival.unwrap_or((0, None)))?;
        }
    }

    fn hand_out(&mut self, max: usize) -> Vec<Delivery> {
        let count = self.partitions.len() as u64;
        let (partitions, most) = (&self.partitions, max.min(self.ready.len()));
        let delivery = |Ready { partition, tag, event }| {
            let attempt = partitions[partition].held.get(&tag).map_or(0, |history| history.failures);
            Delivery { position: tag * count + partition as u64, attempt, event }
        };
        self.ready.drain(..most).map(delivery).collect()
    }

    fn receive(&mut self, (partition, arrival): Arrival) -> Result<(), PortError> {
        let delivery = match arrival {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(transient(error)),
            None => return Err(PortError::Transient("RabbitMQ ended the consumer of the ledger".into())),
        };
        let lapin::message::Delivery { delivery_tag: tag, properties, data: body, .. } = delivery;
        let Some(at) = self.partitions.get_mut(partition) else { return Ok(()) };
        let history = History::of(&properties);
        match message::read(&properties, &body) {
            Content::Event(event) => {
                // What comes back from a retry waited elsewhere.
                if history.failures == 0 && !at.moved.contains(&event.id) {
                    self.shared.waiting[self.shard].fetch_sub(1, Ordering::Relaxed);
                }
                self.ready.push_back(Ready { partition, tag, event });
            }
            Content::Barrier { reply_to, correlation } => {
                at.wait(tag, reply_to, correlation);
                self.read.push_back((partition, tag));
            }
            Content::Marker { feed, step } => {
                if feed == self.id.to_string() {
                    at.came_back(tag, step);
                }
                self.read.push_back((partition, tag));
            }
            Content::Unreadable(why) => {
                self.unreadable.push_back(Unreadable { partition, tag, properties, body, why });
            }
        }
        at.held.insert(tag, history);
        self.count_held();
        Ok(())
    }

    fn count_held(&self) {
        let held: usize = self.partitions.iter().map(|partition| partition.held.len()).sum();
        self.shared.unsettled[self.shard].store(held as u64, Ordering::Relaxed);
    }

    /// Everything that needs the broker before events can be handed out. Dropped in the middle it is done again.
    async fn tidy_up(&mut self) -> Result<(), PortError> {
        while let Some((partition, tag)) = self.read.front().copied() {
            self.acknowledge(partition, &[tag]).await?;
            self.read.pop_front();
        }
        self.bury_unreadable().await?;
        self.send_markers().await?;
        self.follow().await?;
        self.answer_barriers().await
    }

    async fn bury_unreadable(&mut self) -> Result<(), PortError> {
        while let Some(Unreadable { partition, tag, properties, body, why }) = self.unreadable.front() {
            let (partition, tag) = (*partition, *tag);
            tracing::error!(
                partition = self.partitions[partition].number,
                why,
                "a message that is not an event this build reads; it is a dead letter now"
            );
            let properties = message::unreadable(properties, self.shared.clock.now(), why);
            self.publisher.publish(vec![self.publisher.dead(body.clone(), properties)]).await?;
            self.acknowledge(partition, &[tag]).await?;
            self.unreadable.pop_front();
        }
        Ok(())
    }

    /// Through every step's queue, so that they come back behind everything an earlier feed sent there.
    async fn send_markers(&mut self) -> Result<(), PortError> {
        let steps = self.shared.names.steps;
        for partition in 0..self.partitions.len() {
            if self.partitions[partition].elsewhere != Elsewhere::ToAsk {
                continue;
            }
            let number = self.partitions[partition].number;
            let markers = (1..=steps).map(|step| self.publisher.marker(self.id, step, number)).collect();
            self.publisher.publish(markers).await?;
            let asked = Elsewhere::Asked((1..=steps).collect());
            self.partitions[partition].elsewhere = if steps == 0 { Elsewhere::Nothing } else { asked };
        }
        Ok(())
    }

    /// Sends events whose tenant waits for an older one behind that.
    async fn follow(&mut self) -> Result<(), PortError> {
        if self.parked.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        self.parked.retain(|_, parked| parked.until > now);
        let mut following = Vec::new();
        for ready in &self.ready {
            match self.parked.get(&ready.event.tenant) {
                // It is back, and those behind it need not go away any more.
                Some(parked) if parked.behind == ready.event.id => {
                    self.parked.remove(&ready.event.tenant);
                }
                Some(_) => following.push((ready.partition, ready.tag, ready.event.clone())),
                None => {}
            }
        }
        let gone: HashSet<_> = following.iter().map(|(partition, tag, _)| (*partition, *tag)).collect();
        self.send_behind(following).await?;
        self.ready.retain(|ready| !gone.contains(&(ready.partition, ready.tag)));
        Ok(())
    }

    /// Publishes events into the queue in which the older one of their tenant waits, untried, and acknowledges them.
    async fn send_behind(&mut self, events: Vec<(usize, u64, Arc<Event>)>) -> Result<(), PortError> {
        let mut messages = Vec::new();
        for (partition, tag, event) in &events {
            let step = self.parked.get(&event.tenant).map_or(1, |parked| parked.step);
            let history = self.partitions[*partition].held.get(tag).cloned().unwrap_or_default();
            let properties = message::expiring(message::event(event, &history, None), Duration::ZERO);
            let number = self.partitions[*partition].number;
            messages.push(self.publisher.retry(step, number, message::body(event)?, properties));
        }
        self.publisher.publish(messages).await?;
        for (partition, tag, event) in events {
            self.partitions[partition].moved.insert(event.id);
            self.acknowledge(partition, &[tag]).await?;
        }
        Ok(())
    }

    async fn answer_barriers(&mut self) -> Result<(), PortError> {
        let passed: Vec<_> = self.partitions.iter_mut().flat_map(Partition::passed).collect();
        self.publisher.publish(passed.into_iter().map(Publisher::answer).collect()).await
    }

    async fn settle(&mut self, deliveries: &[Delivery]) -> Result<(), PortError> {
        let mut tags = vec![Vec::new(); self.partitions.len()];
        for delivery in deliveries {
            let (partition, tag) = self.place(delivery.position);
            self.partitions[partition].moved.remove(&delivery.event.id);
            tags[partition].push(tag);
        }
        for (partition, tags) in tags.iter().enumerate().filter(|(_, tags)| !tags.is_empty()) {
            self.acknowledge(partition, tags).await?;
        }
        self.answer_barriers().await
    }

    async fn reject_one(&mut self, delivery: &Delivery, cause: &str) -> Result<Rejection, PortError> {
        let (partition, tag) = self.place(delivery.position);
        let event = &delivery.event;
        let before = self.partitions[partition].held.get(&tag).cloned().unwrap_or_default();
        let history = before.failed(self.shared.clock.now(), cause);
        let properties = message::event(event, &history, None);
        let dice = Uuid::now_v7().as_u64_pair().1;
        let rejection = match self.shared.settings.retries.wait_after(history.failures, dice) {
            Some(wait) => {
                let step = history.failures as usize;
                let properties = message::expiring(properties, wait);
                let number = self.partitions[partition].number;
                let retry = self.publisher.retry(step, number, message::body(event)?, properties);
                self.publisher.publish(vec![retry]).await?;
                let parked = Parked { behind: event.id, step, until: Instant::now() + wait * 2 + LATE };
                self.parked.insert(event.tenant, parked);
                self.partitions[partition].moved.insert(event.id);
                Rejection::Retry
            }
            None => {
                let properties = message::given_up(properties);
                let news = self.publisher.news(message::body(event)?, &properties);
                let letter = self.publisher.dead(message::body(event)?, properties);
                self.publisher.publish(vec![letter, news]).await?;
                self.partitions[partition].moved.remove(&event.id);
                Rejection::DeadLettered
            }
        };
        self.acknowledge(partition, &[tag]).await?;
        self.answer_barriers().await?;
        Ok(rejection)
    }

    async fn acknowledge(&mut self, partition: usize, tags: &[u64]) -> Result<(), PortError> {
        self.partitions[partition].acknowledge(tags).await?;
        self.count_held();
        Ok(())
    }

    /// Partition and delivery tag of a position.
    fn place(&self, position: u64) -> (usize, u64) {
        let count = self.partitions.len() as u64;
        ((position % count) as usize, position / count)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let in_hand = self.shared.unsettled[self.shard].swap(0, Ordering::Relaxed);
        if *self.shared.writing[self.shard].borrow() != 0 {
            // They go back to where they waited.
            self.shared.waiting[self.shard]
                .fetch_add(i64::try_from(in_hand).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }
}

impl EventFeed for Feed {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        self.next_batch(max).boxed()
    }

    fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        self.settle(deliveries).boxed()
    }

    fn gives_up(&self, delivery: &Delivery) -> bool {
        self.shared.settings.retries.is_over_after(delivery.attempt + 1)
    }

    fn reject<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        cause: &'a str,
    ) -> BoxFuture<'a, Result<Rejection, PortError>> {
        self.reject_one(delivery, cause).boxed()
    }

    fn postpone<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            let place = |delivery: &Delivery| {
                let (partition, tag) = self.place(delivery.position);
                (partition, tag, delivery.event.clone())
            };
            let events = deliveries.iter().map(place).collect();
            self.send_behind(events).await?;
            self.answer_barriers().await
        }
        .boxed()
    }
}

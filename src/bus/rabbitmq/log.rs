//! The writing end: a batch is published as one pipeline and is durable when all of it is confirmed.

use super::connection::{Outgoing, Unpublished, confirming, connect, in_time, publish, transient};
use super::message::{self, History};
use super::names::ledger_key;
use super::topology::{self, RESOURCE_LOCKED, code};
use super::{RabbitSettings, Shared};
use crate::domain::event::Event;
use crate::ports::PortError;
use crate::ports::bus::{AppendError, EventLog};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at the queues.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Between two looks at whether the claim is free. Whoever hands a shard over frees it within moments.
const KNOCK_EVERY: Duration = Duration::from_millis(100);

/// The writer of a shard. It belongs to the shard's journal writer actor.
pub struct Log {
    shared: Arc<Shared>,
    shard: usize,
    number: u64,
    /// Gone once it was found broken: others may have written since, so this log is over.
    link: Option<Link>,
    next_look: Instant,
}

struct Link {
    connection: Connection,
    channel: Channel,
}

impl Log {
    /// Opens a connection of its own, and waits until the broker has closed that of the log before.
    pub async fn open(shared: Arc<Shared>, shard: usize) -> Result<Self, PortError> {
        let link = Link::open(&shared, shard).await?;
        let number = shared.logs.fetch_add(1, Ordering::Relaxed) + 1;
        let mut log = Self { number, shared, shard, link: Some(link), next_look: Instant::now() };
        // What waits is known before anything is added to it, or taken off it.
        log.look().await?;
        log.shared.writing[shard].send_replace(number);
        Ok(log)
    }

    async fn append_batch(&mut self, batch: &[Arc<Event>]) -> Result<(), AppendError> {
        if batch.is_empty() {
            return Ok(());
        }
        let not_durable = |error: PortError| AppendError::NotDurable(error.to_string());
        // All of it before anything is sent, so that a batch does not end in the middle.
        let messages: Result<Vec<_>, _> = batch.iter().map(|event| self.outgoing(event)).collect();
        let messages = messages.map_err(not_durable)?;
        let Some(link) = self.link.take().filter(Link::is_open) else {
            return Err(AppendError::NotDurable("the connection to RabbitMQ is closed".into()));
        };
        match publish(&link.channel, messages, self.shared.settings.confirm_timeout).await {
            Ok(()) => {
                self.shared.waiting[self.shard].fetch_add(signed(batch.len()), Ordering::Relaxed);
                self.link = Some(link);
                Ok(())
            }
            Err(Unpublished::NotSent(why)) => Err(AppendError::NotDurable(why)),
            Err(Unpublished::Unknown(why)) => Err(AppendError::InDoubt(why)),
        }
    }

    fn outgoing(&self, event: &Event) -> Result<Outgoing, PortError> {
        let key = ledger_key(self.shared.names.partition_of(event.tenant));
        Ok(Outgoing {
            exchange: self.shared.names.events.clone(),
            key: event.body.kind().as_str().to_owned(),
            mandatory: true,
            body: message::body(event)?,
            properties: message::event(event, &History::default(), Some(&key)),
        })
    }

    /// Counts what waits, and puts back a queue that somebody deleted: as long as another queue takes an event, the
    /// broker does not return it, and nobody would notice that the ledger's copy is gone.
    async fn look(&mut self) -> Result<(), PortError> {
        if Instant::now() < self.next_look {
            return Ok(());
        }
        self.next_look = Instant::now() + LOOK_EVERY;
        let Some(link) = self.link.take().filter(Link::is_open) else {
            return Err(PortError::Transient("the connection to RabbitMQ is closed".into()));
        };
        let RabbitSettings { confirm_timeout, .. } = self.shared.settings;
        let partitions = self.shared.partitions_of(self.shard);
        let waiting = topology::waiting(&link.connection, &self.shared, partitions);
        let waiting = in_time(confirm_timeout, "what waits for the ledger", waiting).await?;
        match waiting {
            Some(waiting) => self.shared.waiting[self.shard].store(signed(waiting), Ordering::Relaxed),
            None => {
                tracing::error!(
                    "a queue of the ledger is gone from RabbitMQ, with what was in it; declaring it again"
                );
                topology::declare(&link.connection, &self.shared).await?;
            }
        }
        self.link = Some(link);
        Ok(())
    }
}

fn signed<N: TryInto<i64>>(count: N) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

impl Link {
    async fn open(shared: &Shared, shard: usize) -> Result<Self, PortError> {
        let connection = connect(&shared.settings, &format!("journal {shard}")).await?;
        lock_out_others(&connection, shared, shard).await?;
        topology::declare(&connection, shared).await?;
        let ready = async {
            topology::check_partitions(&connection, shared).await?;
            confirming(&connection).await
        };
        let channel = in_time(shared.settings.confirm_timeout, "a shard's writer", ready).await?;
        Ok(Self { connection, channel })
    }

    fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

/// A log claims its shard: it owns an exclusive queue on the connection that it publishes on. No other node has it, no
/// other node writes for the shard, and the broker frees it only when it has closed the connection. So nothing that was
/// still in the buffers of an earlier log, of this process or of a paused one, can become durable after somebody else
/// has begun.
async fn lock_out_others(connection: &Connection, shared: &Shared, shard: usize) -> Result<(), PortError> {
    let name = format!("{}blend.writer.{shard}", shared.names.prefix);
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let mut told = false;
    loop {
        // An error closes the channel.
        let channel = connection.create_channel().await.map_err(transient)?;
        match channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await {
            Ok(_) => return Ok(()),
            Err(error) if code(&error) == Some(RESOURCE_LOCKED) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(
                        shard,
                        "waiting for the claim: another node has it, or RabbitMQ has not closed a connection yet"
                    );
                }
                tokio::time::sleep(KNOCK_EVERY).await;
            }
            Err(error) => return Err(transient(error)),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let number = self.number;
        let writing = &self.shared.writing[self.shard];
        if writing.send_if_modified(|log| *log == number && std::mem::take(log) != 0) {
            self.shared.waiting[self.shard].store(0, Ordering::Relaxed);
        }
    }
}

impl EventLog for Log {
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>> {
        self.append_batch(batch).boxed()
    }

    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        self.look().boxed()
    }

    fn is_lost(&self) -> bool {
        self.link.as_ref().is_none_or(|link| !link.is_open())
    }
}

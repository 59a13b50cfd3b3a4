//! Declaring exchanges and queues. Publisher, consumer and rebuild all do it, so that none depends on who came first.

use super::connection::{in_time, transient};
use super::names::{DEAD_KEY, ledger_key, retry_key};
use super::{QueueType, Shared};
use crate::ports::PortError;
use crate::ports::bus::WEBHOOK_GROUP;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, Consumer, ErrorKind, ExchangeKind};
use std::time::{Duration, Instant};

/// Reply codes of AMQP 0-9-1, section 1.8 of its reference.
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;
/// Somebody else has it to himself.
pub const RESOURCE_LOCKED: u16 = 405;

/// Quorum queues drop what is redelivered too often (from RabbitMQ 4.0 on by default, after 20 times). Whether an
/// event is given up is decided by its failures, which the message counts itself, never by restarts of consumers.
const UNLIMITED_DELIVERIES: i32 = i32::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Quorum,
    Classic,
}

/// Declares everything. An error names the queue or exchange that is not what the settings say.
pub async fn declare(connection: &Connection, shared: &Shared) -> Result<(), PortError> {
    let limit = shared.settings.confirm_timeout.max(Duration::from_secs(10));
    in_time(limit, "the declaration of its queues", declare_all(connection, shared)).await
}

async fn declare_all(connection: &Connection, shared: &Shared) -> Result<(), PortError> {
    let names = &shared.names;
    let mut at = Declarer::open(connection).await?;
    for exchange in [&names.events, &names.retry, &names.dead] {
        at.exchange(exchange).await?;
    }
    let made = at.made(shared).await?;
    at.queue(&names.dead_letters, single_active(made)).await?;
    at.bind(&names.dead_letters, &names.dead, DEAD_KEY).await?;
    for step in 1..=names.steps {
        at.queue(&names.step(step), delaying(made, &names.dead)).await?;
        at.bind(&names.step(step), &names.retry, &retry_key(step, "*")).await?;
    }
    for partition in 0..names.partitions {
        at.queue(&names.partition(partition), single_active(made)).await?;
        at.bind(&names.partition(partition), &names.events, &ledger_key(partition)).await?;
        at.bind(&names.partition(partition), &names.dead, &retry_key("*", partition)).await?;
    }
    Ok(())
}

/// Declares the queues of a group that is kept, for these partitions, and binds them.
pub async fn declare_kept(
    connection: &Connection,
    shared: &Shared,
    group: &str,
    partitions: impl Iterator<Item = usize>,
) -> Result<(), PortError> {
    let names = &shared.names;
    let mut at = Declarer::open(connection).await?;
    // As the ledger's are made.
    let made = at.made(shared).await?;
    for partition in partitions {
        let queue = names.kept(group, partition);
        at.queue(&queue, single_active(made)).await?;
        at.bind(&queue, &names.events, &ledger_key(partition)).await?;
    }
    Ok(())
}

/// Events that wait for a listener for whom nothing is kept, at most: one that is paused must not fill the broker. What is
/// dropped, the oldest first, is found when everything is compared.
const MOST_UNHEARD: i32 = 100_000;

/// Declares a queue that goes with its connection, and binds it to these partitions.
pub async fn declare_own(
    connection: &Connection,
    shared: &Shared,
    queue: &str,
    partitions: impl Iterator<Item = usize>,
) -> Result<(), PortError> {
    let at = Declarer::open(connection).await?;
    let declared = at.channel.queue_declare(queue.into(), of_its_own(), bounded());
    declared.await.map_err(transient)?;
    for partition in partitions {
        at.bind(queue, &shared.names.events, &ledger_key(partition)).await?;
    }
    Ok(())
}

/// Deletes queues that nobody consumes. Quorum queues do not know the option for it.
pub async fn delete_unheard(
    connection: &Connection,
    queues: impl Iterator<Item = String>,
) -> Result<(), PortError> {
    for queue in queues {
        // An error closes the channel.
        let channel = connection.create_channel().await.map_err(transient)?;
        match channel.queue_declare(queue.as_str().into(), passive(), FieldTable::default()).await {
            Ok(found) if found.consumer_count() > 0 => {
                return Err(PortError::Transient(format!("somebody listens to {queue}")));
            }
            Ok(_) => {
                let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
                deleted.await.map_err(transient)?;
            }
            Err(error) if code(&error) == Some(NOT_FOUND) => {}
            Err(error) => return Err(transient(error)),
        }
    }
    Ok(())
}

/// Makes sure that no partition was left behind when their number was lowered.
pub async fn check_partitions(connection: &Connection, shared: &Shared) -> Result<(), PortError> {
    let names = &shared.names;
    for beyond in [names.partition(names.partitions), names.kept(WEBHOOK_GROUP, names.partitions)] {
        // An error closes the channel.
        let channel = connection.create_channel().await.map_err(transient)?;
        nothing_left_in(&channel, &beyond, names.partitions).await?;
    }
    Ok(())
}

/// A queue beyond the last partition is one that nobody reads any more.
async fn nothing_left_in(channel: &Channel, queue: &str, partitions: usize) -> Result<(), PortError> {
    match channel.queue_declare(queue.into(), passive(), FieldTable::default()).await {
        Ok(found) if found.message_count() == 0 => Ok(()),
        Ok(found) => Err(PortError::Permanent(format!(
            "queue {queue} holds {} events but bus.partitions is {partitions}: run with more partitions until it is \
             empty, then delete it",
            found.message_count()
        ))),
        Err(error) if code(&error) == Some(NOT_FOUND) => Ok(()),
        Err(error) => Err(transient(error)),
    }
}

/// A queue that only this connection has, and that goes with it.
pub fn of_its_own() -> QueueDeclareOptions {
    QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() }
}

/// How long the number of shards stands at the broker after the last node was there.
const COUNTED_FOR: Duration = Duration::from_secs(10);

/// Makes sure that a node which must be alone is, and that all nodes count shards alike: two that do not would both sell
/// for a tenant, each under a claim of its own. The number is an argument of a queue, so the broker refuses another one.
/// The queue goes when no node has consumed it for a while, so that a chain that is stopped can be started with another
/// number, and so that a broker which starts again finds the nodes that were there before it, and not one that is wrong.
/// It is consumed for as long as the consumer that comes back is kept.
pub async fn count_shards(connection: &Connection, shared: &Shared) -> Result<Consumer, PortError> {
    let channel = connection.create_channel().await.map_err(transient)?;
    let (name, shards) = (format!("{}blend.shards", shared.names.prefix), shared.settings.shards);
    let mut arguments = FieldTable::default();
    let expires = i32::try_from(COUNTED_FOR.as_millis()).unwrap_or(i32::MAX);
    arguments.insert("x-expires".into(), AMQPValue::LongInt(expires));
    arguments
        .insert("x-max-length".into(), AMQPValue::LongLongInt(i64::try_from(shards).unwrap_or(i64::MAX)));
    let options = QueueDeclareOptions { exclusive: shared.settings.alone, ..QueueDeclareOptions::durable() };
    match channel.queue_declare(name.as_str().into(), options, arguments).await {
        Ok(_) => *shared.counted_otherwise() = None,
        Err(error) if code(&error) == Some(RESOURCE_LOCKED) => {
            return Err(PortError::Transient(
                "another node uses this broker, and the ledger of one of them is a file: give all of them the same \
                 ledger.url"
                    .into(),
            ));
        }
        Err(error) if code(&error) == Some(PRECONDITION_FAILED) => {
            return Err(counted_otherwise(connection, shared, &name, &error).await);
        }
        Err(error) => return Err(transient(error)),
    }
    let consumer =
        channel.basic_consume(name.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    consumer.await.map_err(transient)
}

/// Another number stands at the broker. Where a node is behind it, one of the two is set wrongly; else it goes. Looking
/// keeps it there for a while longer, so that is done once in such a while.
async fn counted_otherwise(
    connection: &Connection,
    shared: &Shared,
    name: &str,
    error: &lapin::Error,
) -> PortError {
    let shards = shared.settings.shards;
    let theirs =
        number_there(&error.to_string()).map_or_else(|| "another".to_owned(), |there| there.to_string());
    let left_behind = || {
        PortError::Transient(format!(
            "engine.shards is {shards} here and was {theirs} at the last nodes: that is forgotten within seconds"
        ))
    };
    if shared.counted_otherwise().is_some_and(|since| since.elapsed() < COUNTED_FOR * 2) {
        return left_behind();
    }
    let looked = async {
        let channel = connection.create_channel().await?;
        channel.queue_declare(name.into(), passive(), FieldTable::default()).await
    };
    match looked.await {
        Ok(found) if found.consumer_count() > 0 => PortError::Permanent(format!(
            "engine.shards is {shards} here and {theirs} at nodes of this installation that run: give all nodes the same, \
             and change it only while all of them are stopped"
        )),
        Ok(_) => {
            *shared.counted_otherwise() = Some(Instant::now());
            left_behind()
        }
        Err(error) => transient(error),
    }
}

/// The argument that is there, of a broker's complaint about another one: "... but current is the value '4' of type
/// 'long'".
fn number_there(complaint: &str) -> Option<usize> {
    let (_, current) = complaint.split_once("current is")?;
    current.split('\'').find_map(|part| part.parse().ok())
}

struct Declarer<'a> {
    connection: &'a Connection,
    channel: Channel,
}

impl<'a> Declarer<'a> {
    async fn open(connection: &'a Connection) -> Result<Self, PortError> {
        Ok(Self { connection, channel: connection.create_channel().await.map_err(transient)? })
    }

    async fn exchange(&self, name: &str) -> Result<(), PortError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared =
            self.channel.exchange_declare(name.into(), ExchangeKind::Topic, options, FieldTable::default());
        declared.await.map_err(|error| mismatch("exchange", name, error))
    }

    async fn queue(&self, name: &str, arguments: FieldTable) -> Result<(), PortError> {
        let declared = self.channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments);
        declared.await.map(drop).map_err(|error| mismatch("queue", name, error))
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), PortError> {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none);
        bound.await.map_err(transient)
    }

    /// What queues of events are to be made of.
    async fn made(&mut self, shared: &Shared) -> Result<Made, PortError> {
        match shared.settings.queue_type {
            QueueType::Quorum => Ok(Made::Quorum),
            QueueType::Classic => Ok(Made::Classic),
            QueueType::Auto => self.made_already(&shared.names.dead_letters).await,
        }
    }

    /// What the installation's queues are made of, by this one; quorum when it is not there.
    async fn made_already(&mut self, queue: &str) -> Result<Made, PortError> {
        let (name, arguments) = (queue.into(), single_active(Made::Quorum));
        match self.channel.queue_declare(name, QueueDeclareOptions::durable(), arguments).await {
            Ok(_) => Ok(Made::Quorum),
            Err(error) if code(&error) == Some(PRECONDITION_FAILED) => {
                // The channel is closed by the error. Whether classic is right, its own declaration tells.
                self.channel = self.connection.create_channel().await.map_err(transient)?;
                Ok(Made::Classic)
            }
            Err(error) => Err(transient(error)),
        }
    }
}

/// Messages that wait in these partitions; `None` when one of them is not there.
pub async fn waiting(
    connection: &Connection,
    shared: &Shared,
    partitions: impl Iterator<Item = usize>,
) -> Result<Option<u64>, PortError> {
    let channel = connection.create_channel().await.map_err(transient)?;
    let mut waiting = 0;
    for partition in partitions {
        let name = shared.names.partition(partition).into();
        match channel.queue_declare(name, passive(), FieldTable::default()).await {
            Ok(queue) => waiting += u64::from(queue.message_count()),
            Err(error) if code(&error) == Some(NOT_FOUND) => return Ok(None),
            Err(error) => return Err(transient(error)),
        }
    }
    Ok(Some(waiting))
}

/// Messages that wait in a queue.
pub async fn depth(connection: &Connection, queue: &str) -> Result<u32, PortError> {
    let channel = connection.create_channel().await.map_err(transient)?;
    let found = channel.queue_declare(queue.into(), passive(), FieldTable::default()).await;
    found.map(|queue| queue.message_count()).map_err(transient)
}

/// The reply code of an error that the broker sent.
pub fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() }
}

fn mismatch(what: &str, name: &str, error: lapin::Error) -> PortError {
    if code(&error) != Some(PRECONDITION_FAILED) {
        return transient(error);
    }
    PortError::Permanent(format!(
        "{what} {name} exists with other arguments than the settings of the bus ask for ({error}): set bus.queue_type \
         to what it is, or empty and delete it"
    ))
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn bounded() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(MOST_UNHEARD));
    arguments
}

/// One consumer at a time; nothing in it ever expires by the queue's own doing.
fn single_active(made: Made) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    made_of(made, &mut arguments);
    arguments
}

/// What expires in it goes on to the dead-letter exchange under its own key.
fn delaying(made: Made, exchange: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    if made == Made::Quorum {
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
    }
    made_of(made, &mut arguments);
    arguments
}

fn made_of(made: Made, arguments: &mut FieldTable) {
    match made {
        Made::Quorum => {
            arguments.insert("x-queue-type".into(), text("quorum"));
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(UNLIMITED_DELIVERIES));
        }
        Made::Classic => {
            arguments.insert("x-queue-type".into(), text("classic"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_is_there_is_read_out_of_the_brokers_complaint() {
        let told = "AMQP soft error: PRECONDITION-FAILED: PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue \
                    'blend.shards' in vhost '/': received the value '2' of type 'long' but current is the value '8' of \
                    type 'long'";
        assert_eq!(number_there(told), Some(8));
        for other in ["", "current is none", "received '2' but current is the value 'x' of type 'longstr'"] {
            assert_eq!(number_there(other), None, "{other}");
        }
    }

    #[test]
    fn d19_nothing_leaves_a_queue_of_events_unread() {
        for arguments in [single_active(Made::Quorum), single_active(Made::Classic)] {
            for forgets in
                ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-dead-letter-exchange"]
            {
                assert!(!arguments.contains_key(forgets), "{forgets}");
            }
        }
    }
}

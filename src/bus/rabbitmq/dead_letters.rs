//! Looking at the dead letters without taking them, and giving some back to the ledger.
//!
//! What is given back is published into its partition, confirmed, and then acknowledged here: a crash in between leaves it
//! in both places, and the ledger takes it once.
//!
//! The queue lets one consumer at a time have everything (single active consumer); it reads up to a mark that it
//! published itself, and gives all back by closing the channel. With `basic.get` two readers at once would each see a
//! part, and neither could know.

use super::connection::{Outgoing, confirming, connect, in_time, publish, transient};
use super::message::{self, Content, History};
use super::{RabbitBus, Shared, topology};
use crate::domain::dead_letter::{DeadLetter as Letter, Matter};
use crate::domain::event::Event;
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::bus::LEDGER_GROUP;
use crate::ports::dead_letters::DeadLetters;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer};
use std::sync::Arc;
use tokio::time::timeout;
use uuid::Uuid;

/// Something that was given up.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event; `None` when it is not one that this build reads.
    pub event: Option<Arc<Event>>,
    /// Its id, or what stood in its place.
    pub id: String,
    /// Its kind, or what stood in its place.
    pub kind: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first and last, RFC 3339.
    pub first_failure: Option<String>,
    pub last_failure: Option<String>,
    /// Why it failed last.
    pub cause: String,
    /// As it came.
    pub body: Vec<u8>,
}

/// A mark whose reader must be gone by now, in multiples of the longest a reader waits.
const ABANDONED_AFTER: u32 = 10;

/// Seen at a broker of version 3.10 that was killed together with nodes: the queue kept the consumer of a connection that
/// was gone, with what it had been given, and let nobody else read.
const BUSY: &str = "the dead letters are being read by somebody else; try again. If that lasts, look with `rabbitmqctl \
                    list_consumers` for a reader whose connection is gone, and restart RabbitMQ if there is one";

/// All there are, oldest first.
pub(super) async fn read(connection: &Connection, shared: &Shared) -> Result<Vec<DeadLetter>, PortError> {
    visit(connection, shared, &[]).await.map(|(letters, _)| letters)
}

/// Reads all, and gives those of these ids back to the ledger; tells how many. What this build cannot read stays.
async fn visit(
    connection: &Connection,
    shared: &Shared,
    ids: &[String],
) -> Result<(Vec<DeadLetter>, usize), PortError> {
    let (reader, limit) = (Uuid::now_v7(), shared.settings.confirm_timeout);
    let (publisher, channel, mut consumer) =
        in_time(limit, "the dead letters", begin(connection, shared, reader)).await?;
    let work = async {
        let letters = read_to_mark(&mut consumer, &channel, reader, shared).await?;
        let given_back = give_back(&letters, ids, (&publisher, &channel), shared).await?;
        let letters = letters.into_iter().map(|(_, letter)| letter).collect();
        Ok::<_, PortError>((letters, given_back))
    };
    let done = timeout(shared.settings.catch_up_timeout, work).await;
    // With the consumer still there: cancelled first, it would leave the queue to the next reader while it still has
    // the messages.
    let close = async { channel.close(REPLY_SUCCESS, "OK".into()).await.map_err(transient) };
    let closed = in_time(limit, "the dead letters", close).await;
    let busy = || PortError::Transient(BUSY.into());
    let done = done.map_err(|_| busy())??;
    closed?;
    Ok(done)
}

/// Stands in line for the queue, with a mark behind what is in it.
async fn begin(
    connection: &Connection,
    shared: &Shared,
    reader: Uuid,
) -> Result<(Channel, Channel, Consumer), PortError> {
    let publisher = confirming(connection).await?;
    let channel = connection.create_channel().await.map_err(transient)?;
    let queue = &shared.names.dead_letters;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = consumer.await.map_err(transient)?;
    let mark = Outgoing {
        exchange: String::new(),
        key: queue.clone(),
        mandatory: true,
        body: Vec::new(),
        properties: message::end(reader, shared.clock.now()),
    };
    publish(&publisher, vec![mark], shared.settings.confirm_timeout).await?;
    Ok((publisher, channel, consumer))
}

async fn give_back(
    letters: &[(u64, DeadLetter)],
    ids: &[String],
    (publisher, channel): (&Channel, &Channel),
    shared: &Shared,
) -> Result<usize, PortError> {
    let (mut tags, mut messages) = (Vec::new(), Vec::new());
    for (tag, letter) in letters.iter().filter(|(_, letter)| ids.contains(&letter.id)) {
        let Some(event) = &letter.event else { continue };
        // Attempts are counted anew; since when it fails is not forgotten.
        let history = History { first_failure: letter.first_failure.clone(), ..History::default() };
        tags.push(*tag);
        messages.push(Outgoing {
            exchange: String::new(),
            key: shared.names.partition(shared.names.partition_of(event.tenant)),
            mandatory: true,
            body: message::body(event)?,
            properties: message::event(event, &history, None),
        });
    }
    if !messages.is_empty() {
        publish(publisher, messages, shared.settings.confirm_timeout).await?;
    }
    for tag in &tags {
        channel.basic_ack(*tag, BasicAckOptions::default()).await.map_err(transient)?;
    }
    Ok(tags.len())
}

impl DeadLetters for RabbitBus {
    fn list(&self, most: usize) -> BoxFuture<'_, Result<Vec<Letter>, PortError>> {
        async move {
            let letters = self.dead_letters().await?;
            let moment =
                |text: &Option<String>| text.as_deref().and_then(Timestamp::parse).unwrap_or_default();
            let letter = |letter: DeadLetter| Letter {
                matter: Matter::Event,
                response: String::new(),
                group: LEDGER_GROUP.to_owned(),
                tenant: letter.event.as_ref().map(|event| event.tenant.to_string()).unwrap_or_default(),
                attempts: letter.attempts.into(),
                first_at: moment(&letter.first_failure),
                last_at: moment(&letter.last_failure),
                id: letter.id,
                kind: letter.kind,
                cause: letter.cause,
                payload: letter.body,
            };
            Ok(letters.into_iter().take(most).map(letter).collect())
        }
        .boxed()
    }

    fn depth(&self, most: usize) -> BoxFuture<'_, Result<usize, PortError>> {
        async move {
            let connection = connect(&self.shared.settings, "dead letters").await?;
            topology::declare(&connection, &self.shared).await?;
            // Marks of readers are counted with them.
            let depth = topology::depth(&connection, &self.shared.names.dead_letters).await?;
            Ok(usize::try_from(depth).unwrap_or(usize::MAX).min(most))
        }
        .boxed()
    }

    fn replay<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        async move {
            let connection = connect(&self.shared.settings, "dead letters").await?;
            topology::declare(&connection, &self.shared).await?;
            visit(&connection, &self.shared, ids).await.map(|(_, given_back)| given_back)
        }
        .boxed()
    }
}

async fn read_to_mark(
    consumer: &mut Consumer,
    channel: &Channel,
    reader: Uuid,
    shared: &Shared,
) -> Result<Vec<(u64, DeadLetter)>, PortError> {
    let old =
        i64::try_from((shared.settings.catch_up_timeout * ABANDONED_AFTER).as_micros()).unwrap_or(i64::MAX);
    let mut letters = Vec::new();
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery.map_err(transient)?;
        let Some((owner, since)) = message::read_end(&delivery.properties) else {
            letters.push((delivery.delivery_tag, letter(&delivery.properties, delivery.data)));
            continue;
        };
        let is_own = owner == reader.to_string();
        if is_own || shared.clock.now().micros().saturating_sub(since.micros()) > old {
            let acknowledged = channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
            acknowledged.await.map_err(transient)?;
        }
        if is_own {
            return Ok(letters);
        }
    }
    Err(PortError::Transient("RabbitMQ ended the consumer of the dead letters".into()))
}

fn letter(properties: &BasicProperties, body: Vec<u8>) -> DeadLetter {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let History { failures: attempts, first_failure, last_failure, cause } = History::of(properties);
    let event = match message::read(properties, &body) {
        Content::Event(event) => Some(event),
        _ => None,
    };
    DeadLetter {
        event,
        id: text(properties.message_id().as_ref().map(|id| id.as_str())),
        kind: text(properties.kind().as_ref().map(|kind| kind.as_str())),
        attempts,
        first_failure,
        last_failure,
        cause: cause.unwrap_or_default(),
        body,
    }
}

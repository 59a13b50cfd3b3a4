//! Connections, and publishing with confirms.

use super::RabbitSettings;
use super::topology::code;
use crate::ports::PortError;
use futures_util::FutureExt;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::LongString;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind};
use std::time::Duration;
use tokio::time::timeout;

/// From the first packet to the end of the handshake, at most. The driver itself waits as long as the kernel does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reply codes of AMQP.
const ACCESS_REFUSED: u16 = 403;
const NOT_ALLOWED: u16 = 530;

/// A peer that is silent for twice as long is gone.
const HEARTBEAT_SECS: u16 = 10;

/// A message to be published.
pub struct Outgoing {
    pub exchange: String,
    pub key: String,
    /// Whether it must reach a queue.
    pub mandatory: bool,
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

/// Why messages are not (known to be) published.
pub enum Unpublished {
    /// The channel was gone before the first was sent.
    NotSent(String),
    /// It may be any part of them.
    Unknown(String),
}

impl From<Unpublished> for PortError {
    fn from(unpublished: Unpublished) -> Self {
        match unpublished {
            Unpublished::NotSent(why) | Unpublished::Unknown(why) => Self::Transient(why),
        }
    }
}

/// Opens a connection under a name that the broker's operator will understand.
pub async fn connect(settings: &RabbitSettings, role: &str) -> Result<Connection, PortError> {
    let mut uri: AMQPUri = settings.url.parse().map_err(|_| {
        PortError::Permanent("bus.url is not of the form amqp://user:password@host:port/vhost".into())
    })?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECS);
    let place = format!("{}:{}", uri.authority.host, uri.authority.port);
    let name = LongString::from(format!("blend {role}"));
    let properties = ConnectionProperties::default().with_connection_name(name);
    match timeout(CONNECT_TIMEOUT, Connection::connect_uri(uri, properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(match code(&error) {
            // Waiting does not mend these.
            Some(ACCESS_REFUSED) => PortError::Permanent(format!(
                "RabbitMQ at {place} refuses the user or the password of bus.url ({error})"
            )),
            Some(NOT_ALLOWED) => PortError::Permanent(format!(
                "RabbitMQ at {place} has no such virtual host, or not for this user; correct bus.url ({error})"
            )),
            _ => PortError::Transient(format!("RabbitMQ at {place} is out of reach: {error}")),
        }),
        Err(_) => Err(PortError::Transient(format!("RabbitMQ at {place} does not answer"))),
    }
}

/// What the broker is asked within a limit: it lets whoever consumes a quorum queue without a leader wait for as long as
/// that takes, and whoever is left waiting would keep others from the queue.
pub async fn in_time<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    let slow = || PortError::Transient(format!("RabbitMQ does not answer for {what} within {limit:?}"));
    timeout(limit, work).await.map_err(|_| slow())?
}

/// What the driver says, for a port. Everything passes: the next connection is another one.
pub fn transient(error: lapin::Error) -> PortError {
    PortError::Transient(format!("RabbitMQ: {error}"))
}

/// A channel in confirm mode.
pub async fn confirming(connection: &Connection) -> Result<Channel, PortError> {
    let channel = connection.create_channel().await.map_err(transient)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(transient)?;
    Ok(channel)
}

/// Publishes all, one behind the other, and waits until the broker has confirmed each and returned none. After an
/// error the channel must not be used again: confirms may still be under way.
pub async fn publish(channel: &Channel, messages: Vec<Outgoing>, limit: Duration) -> Result<(), Unpublished> {
    let count = messages.len();
    match timeout(limit, publish_all(channel, messages)).await {
        Ok(result) => result,
        Err(_) => Err(Unpublished::Unknown(format!(
            "RabbitMQ did not confirm {count} messages in {limit:?}; is it short of memory or disk?"
        ))),
    }
}

async fn publish_all(channel: &Channel, messages: Vec<Outgoing>) -> Result<(), Unpublished> {
    let unknown = |error: lapin::Error| Unpublished::Unknown(format!("RabbitMQ: {error}"));
    let mut sending = Vec::with_capacity(messages.len());
    for Outgoing { exchange, key, mandatory, body, properties } in messages {
        let mut sent = Box::pin(async move {
            let options = BasicPublishOptions { mandatory, immediate: false };
            channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await
        });
        // Begun, it is in the driver's queue; the rest of it waits until it is written, for which two threads would
        // take turns for every message.
        let begun = sent.as_mut().now_or_never();
        sending.push((sent, begun));
    }
    let (mut confirms, mut failed) = (Vec::with_capacity(sending.len()), None);
    // Here and below the last is waited for first: then it is woken once and finds the others done.
    for (number, (sent, begun)) in sending.into_iter().enumerate().rev() {
        let sent = match begun {
            Some(sent) => sent,
            None => sent.await,
        };
        match sent {
            Ok(confirm) => confirms.push(confirm),
            // Written in order: without the first, none is.
            Err(error) if number == 0 && was_not_sent(&error) => {
                return Err(Unpublished::NotSent(format!("RabbitMQ: {error}")));
            }
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = failed {
        return Err(unknown(error));
    }
    let (mut returned, mut refused) = (Vec::new(), 0_usize);
    for confirm in confirms {
        // A returned message comes with its own confirm or with that of a neighbour, so it is known by its id only.
        match confirm.await.map_err(unknown)? {
            Confirmation::Ack(back) => returned.extend(back),
            Confirmation::Nack(back) => {
                refused += 1;
                returned.extend(back);
            }
            Confirmation::NotRequested => refused += 1,
        }
    }
    if let Some(first) = returned.last() {
        return Err(Unpublished::Unknown(format!(
            "RabbitMQ has no queue for {} of the messages, the first is {}",
            returned.len(),
            describe(first)
        )));
    }
    if refused > 0 {
        return Err(Unpublished::Unknown(format!("RabbitMQ refused {refused} messages")));
    }
    Ok(())
}

/// These two are found before anything is written.
fn was_not_sent(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_))
}

fn describe(returned: &BasicReturnMessage) -> String {
    let id = returned.properties.message_id().as_ref().map_or("without an id", |id| id.as_str());
    format!("{id}, to {:?}, key {:?}", returned.exchange.as_str(), returned.routing_key.as_str())
}

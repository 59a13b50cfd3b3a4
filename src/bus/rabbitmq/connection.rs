//! Connections, and publishing with confirms.

use super::RabbitSettings;
use crate::ports::PortError;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::LongString;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind};
use std::time::Duration;
use tokio::time::timeout;

/// From the first packet to the end of the handshake, at most. The driver itself waits as long as the kernel does.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
        Ok(Err(error)) => Err(PortError::Transient(format!("RabbitMQ at {place} is out of reach: {error}"))),
        Err(_) => Err(PortError::Transient(format!("RabbitMQ at {place} does not answer"))),
    }
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
    let mut confirms = Vec::with_capacity(messages.len());
    for message in messages {
        let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
        let (exchange, key) = (message.exchange.into(), message.key.into());
        let sent = channel.basic_publish(exchange, key, options, &message.body, message.properties);
        match sent.await {
            Ok(confirm) => confirms.push(confirm),
            Err(error) if confirms.is_empty() && was_not_sent(&error) => {
                return Err(Unpublished::NotSent(format!("RabbitMQ: {error}")));
            }
            Err(error) => return Err(Unpublished::Unknown(format!("RabbitMQ: {error}"))),
        }
    }
    let (mut returned, mut refused) = (Vec::new(), 0_usize);
    for confirm in confirms {
        // A returned message comes with its own confirm or with that of a neighbour, so it is known by its id only.
        match confirm.await {
            Ok(Confirmation::Ack(back)) => returned.extend(back),
            Ok(Confirmation::Nack(back)) => {
                refused += 1;
                returned.extend(back);
            }
            Ok(Confirmation::NotRequested) => refused += 1,
            Err(error) => return Err(Unpublished::Unknown(format!("RabbitMQ: {error}"))),
        }
    }
    if let Some(first) = returned.first() {
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

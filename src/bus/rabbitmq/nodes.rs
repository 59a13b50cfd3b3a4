//! Where the nodes hear each other: a fanout exchange, and a queue of its own for each of them.
//!
//! It is at the broker because the claims are: whoever can take a claim can also hear who else wants one, and while
//! the broker is away neither happens.

use super::connection::{connect, in_time, transient};
use super::{RabbitBus, Shared, topology};
use crate::domain::nodes::{Announcement, SILENCE};
use crate::ports::nodes::Assembly;
use crate::ports::{Open, PortError};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer, ExchangeKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// A node that cannot speak for so long opens another connection.
const SPEAK: Duration = SILENCE;

struct Square {
    exchange: String,
    channel: Channel,
    consumer: Mutex<Consumer>,
    /// Keeps the number of shards at the broker: dropped, it is cancelled.
    _counted: Consumer,
    _connection: Connection,
}

impl RabbitBus {
    /// Opens this node's place among the others. Nodes that count shards differently cannot share an installation: the
    /// later one is refused, permanently where others run.
    pub fn assembly(&self) -> Open<Arc<dyn Assembly>> {
        let shared = self.shared.clone();
        Arc::new(move || {
            let shared = shared.clone();
            async move { Ok(Arc::new(open(&shared).await?) as Arc<dyn Assembly>) }.boxed()
        })
    }
}

async fn open(shared: &Shared) -> Result<Square, PortError> {
    let connection = connect(&shared.settings, "nodes").await?;
    in_time(shared.settings.confirm_timeout * 2, "the nodes", take_place(connection, shared)).await
}

async fn take_place(connection: Connection, shared: &Shared) -> Result<Square, PortError> {
    let counted = topology::count_shards(&connection, shared).await?;
    let channel = connection.create_channel().await.map_err(transient)?;
    let exchange = format!("{}blend_events.nodes", shared.names.prefix);
    let (options, none) =
        (ExchangeDeclareOptions { durable: true, ..Default::default() }, FieldTable::default());
    let declared =
        channel.exchange_declare(exchange.as_str().into(), ExchangeKind::Fanout, options, none.clone());
    declared.await.map_err(transient)?;
    let queue =
        channel.queue_declare("".into(), topology::of_its_own(), none.clone()).await.map_err(transient)?;
    let queue = queue.name().as_str();
    let bound = channel.queue_bind(
        queue.into(),
        exchange.as_str().into(),
        "".into(),
        QueueBindOptions::default(),
        none.clone(),
    );
    bound.await.map_err(transient)?;
    let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, none).await.map_err(transient)?;
    let consumer = Mutex::new(consumer);
    Ok(Square { exchange, channel, consumer, _counted: counted, _connection: connection })
}

impl Assembly for Square {
    fn say<'a>(&'a self, announcement: &'a Announcement) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            let body =
                serde_json::to_vec(announcement).map_err(|error| PortError::Permanent(error.to_string()))?;
            let (exchange, options) = (self.exchange.as_str().into(), BasicPublishOptions::default());
            let said =
                self.channel.basic_publish(exchange, "".into(), options, &body, BasicProperties::default());
            let slow =
                |_| PortError::Transient("RabbitMQ does not take what this node tells the others".into());
            timeout(SPEAK, said).await.map_err(slow)?.map_err(transient)?;
            Ok(())
        }
        .boxed()
    }

    fn hear(&self) -> BoxFuture<'_, Result<Announcement, PortError>> {
        async move {
            loop {
                let heard = self.consumer.lock().await.next().await;
                let over = || PortError::Transient("RabbitMQ ended the consumer of the nodes".into());
                let delivery = heard.ok_or_else(over)?.map_err(transient)?;
                match serde_json::from_slice(&delivery.data) {
                    Ok(announcement) => return Ok(announcement),
                    Err(error) => {
                        tracing::warn!(%error, "a node says something that this build does not understand")
                    }
                }
            }
        }
        .boxed()
    }
}

//! What a feed publishes: retries, dead letters and the news of them, markers, answers.

use super::Shared;
use super::connection::{Outgoing, confirming, publish};
use super::message;
use super::names::{DEAD_KEY, FAILED, retry_key};
use super::partition::Barrier;
use crate::ports::PortError;
use lapin::{BasicProperties, Channel, Connection};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A channel in confirm mode, and where things go.
pub struct Publisher {
    shared: Arc<Shared>,
    channel: Channel,
}

impl Publisher {
    pub async fn open(connection: &Connection, shared: Arc<Shared>) -> Result<Self, PortError> {
        Ok(Self { channel: confirming(connection).await?, shared })
    }

    /// Publishes all and waits for the confirms.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), PortError> {
        if messages.is_empty() {
            return Ok(());
        }
        Ok(publish(&self.channel, messages, self.shared.settings.confirm_timeout).await?)
    }

    /// Into the queue of a step, back into the partition when it expires.
    pub fn retry(
        &self,
        step: usize,
        partition: usize,
        body: Vec<u8>,
        properties: BasicProperties,
    ) -> Outgoing {
        let (exchange, key) = (self.shared.names.retry.clone(), retry_key(step, partition));
        Outgoing { exchange, key, mandatory: true, body, properties }
    }

    /// Among the dead letters.
    pub fn dead(&self, body: Vec<u8>, properties: BasicProperties) -> Outgoing {
        let (exchange, key) = (self.shared.names.dead.clone(), DEAD_KEY.to_owned());
        Outgoing { exchange, key, mandatory: true, body, properties }
    }

    /// For whoever wants to know of a dead letter; nobody has to.
    pub fn news(&self, body: Vec<u8>, dead_letter: &BasicProperties) -> Outgoing {
        let (exchange, key) = (self.shared.names.events.clone(), FAILED.to_owned());
        Outgoing { exchange, key, mandatory: false, body, properties: message::failed(dead_letter) }
    }

    /// Goes behind everything that is in the queue of a step, and back into the partition.
    pub fn marker(&self, feed: Uuid, step: usize, partition: usize) -> Outgoing {
        let properties = message::expiring(message::marker(feed, step), Duration::ZERO);
        self.retry(step, partition, Vec::new(), properties)
    }

    /// To the queue that asked; when its owner is gone nobody needs the answer.
    pub fn answer(barrier: Barrier) -> Outgoing {
        let properties = message::answer(&barrier.correlation);
        Outgoing {
            exchange: String::new(),
            key: barrier.reply_to,
            mandatory: false,
            body: Vec::new(),
            properties,
        }
    }
}

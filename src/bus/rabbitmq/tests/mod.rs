//! Tests against a broker of their own, by subject. One broker each, for it takes seconds to start; every installation
//! on it has names of its own.

mod crash;
mod delivery;
mod groups;
mod messages;
mod queues;

use super::*;
use crate::bus::contract;
use crate::domain::event::Event;
use crate::fixtures::Shop;
use crate::ports::bus::EventHistory;
use crate::ports::clock::SystemClock;
use crate::servers::rabbitmq::RabbitMq;
use std::sync::atomic::AtomicUsize;

/// Longer than anything here takes; a test that gets there has failed.
const LONG: Duration = Duration::from_secs(60);

fn settings(url: String, prefix: &str) -> RabbitSettings {
    RabbitSettings {
        url,
        prefetch: 500,
        confirm_timeout: Duration::from_secs(3),
        catch_up_timeout: Duration::from_secs(20),
        shards: 1,
        alone: false,
        partitions: 2,
        queue_type: QueueType::Quorum,
        retries: RetrySchedule([50, 100].map(Duration::from_millis).to_vec()),
        prefix: prefix.to_owned(),
    }
}

fn bus(settings: RabbitSettings) -> RabbitBus {
    RabbitBus::new(settings, Arc::new(SystemClock))
}

async fn log(bus: &RabbitBus) -> Box<dyn EventLog> {
    contract::reopened(bus).await
}

/// The supervisor opens again until it succeeds; so does this.
async fn feed(bus: &RabbitBus) -> Box<dyn EventFeed> {
    let opening = async {
        loop {
            match (bus.feed(0))().await {
                Ok(feed) => return feed,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, opening).await.expect("no feed opens")
}

/// So many sales of a shop.
fn sales(shop: &mut Shop, count: usize) -> Vec<Arc<Event>> {
    (0..count).map(|_| shop.sold(1)).collect()
}

/// A connection that has nothing to do with the bus under test.
async fn outsider(bus: &RabbitBus) -> lapin::Connection {
    connection::connect(&bus.shared.settings, "outsider").await.unwrap()
}

impl contract::Home for RabbitBus {
    fn log(&self) -> Open<Box<dyn EventLog>> {
        Self::log(self, 0)
    }

    fn feed(&self) -> Open<Box<dyn EventFeed>> {
        Self::feed(self, 0)
    }

    fn history(&self) -> Arc<dyn EventHistory> {
        Self::history(self, 0)
    }

    /// They come by themselves, soon.
    fn let_retries_come(&self) {}
}

async fn the_contract_holds(queue_type: QueueType) {
    let (server, count) = (RabbitMq::start().await, AtomicUsize::new(0));
    contract::all(async || {
        let prefix = format!("test{}.", count.fetch_add(1, Ordering::Relaxed));
        bus(RabbitSettings { queue_type, ..settings(server.url(), &prefix) })
    })
    .await;
}

#[tokio::test]
async fn the_contract_holds_on_quorum_queues() {
    the_contract_holds(QueueType::Quorum).await;
}

#[tokio::test]
async fn the_contract_holds_on_classic_queues() {
    the_contract_holds(QueueType::Classic).await;
}

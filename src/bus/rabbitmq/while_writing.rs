//! A feed that ends when this process loses the writer of its shard.

use crate::ports::PortError;
use crate::ports::bus::{Delivery, EventFeed, Rejection};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// The feed, and what tells whether it may go on.
pub struct WhileWriting {
    pub feed: Box<dyn EventFeed>,
    pub writing: watch::Receiver<u64>,
    /// The number of the log that it goes with.
    pub log: u64,
}

impl EventFeed for WhileWriting {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        let log = self.log;
        async move {
            tokio::select! {
                biased;
                _ = self.writing.wait_for(|now| *now != log) => {
                    Err(PortError::Transient("this node does not have the shard any more".into()))
                }
                next = self.feed.next(max) => next,
            }
        }
        .boxed()
    }

    fn has_more(&self) -> bool {
        self.feed.has_more()
    }

    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        self.feed.done(deliveries)
    }

    fn gives_up(&self, delivery: &Delivery) -> bool {
        self.feed.gives_up(delivery)
    }

    fn reject<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        cause: &'a str,
    ) -> BoxFuture<'a, Result<Rejection, PortError>> {
        self.feed.reject(delivery, cause)
    }

    fn postpone<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        self.feed.postpone(deliveries)
    }
}

//! Waiting for the events of a consumer group beside the mailbox.

use super::kit::{Behaviour, Cx};
use crate::ports::PortError;
use crate::ports::bus::{Delivery, EventFeed};

/// Waits for at most so many events; they come as a message, together with the feed. An actor that is being drained is
/// told at once that there are none.
pub fn listen<B: Behaviour>(
    mut feed: Box<dyn EventFeed>,
    most: usize,
    cx: &mut Cx<B>,
    heard: impl FnOnce(Box<dyn EventFeed>, Result<Vec<Delivery>, PortError>) -> B::Msg + 'static,
) {
    let draining = cx.until_shutdown();
    let fetch = async move {
        let fetched = tokio::select! {
            biased;
            fetched = feed.next(most) => fetched,
            () = draining => Ok(Vec::new()),
        };
        (feed, fetched)
    };
    cx.pipe(fetch, |(feed, fetched)| heard(feed, fetched));
}

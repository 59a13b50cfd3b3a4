//! Waiting for servers that are away while a node starts.
//!
//! What passes is waited for, without end: whoever starts the node would only start it again. What does not pass (a
//! password that is refused, a schema or a queue that does not fit) ends the start at once.

use crate::ports::PortError;
use crate::resilience::backoff::BackoffPolicy;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Between two looks at a server that is away.
const AGAIN: BackoffPolicy = BackoffPolicy::doubling(Duration::from_millis(200), Duration::from_secs(5));

/// The servers that a start waits for, and what was wrong with each when it was last tried.
#[derive(Default)]
pub struct Waiting {
    servers: Mutex<BTreeMap<&'static str, String>>,
    begun: Notify,
}

impl Waiting {
    /// Opens what is at a server, as often as it takes.
    pub async fn until_there<T>(
        &self,
        server: &'static str,
        open: impl AsyncFn() -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let mut delays = AGAIN.delays();
        loop {
            match open().await {
                Err(error) if error.is_transient() => {
                    let error = error.to_string();
                    if self.servers().insert(server, error.clone()).as_ref() != Some(&error) {
                        tracing::warn!(server, error, "waiting for a server before this node can start");
                    }
                    self.begun.notify_one();
                    tokio::time::sleep(delays.next_delay()).await;
                }
                done => {
                    if self.servers().remove(server).is_some() && done.is_ok() {
                        tracing::info!(server, "the server is there");
                    }
                    return done;
                }
            }
        }
    }

    /// Resolves once something is waited for.
    pub async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Who is waited for, and why.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        self.servers().iter().map(|(server, error)| (*server, error.clone())).collect()
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for_and_named_and_what_does_not_ends_it() {
        let (waiting, tries) = (Waiting::default(), Cell::new(0));
        let open = async || {
            tries.set(tries.get() + 1);
            match tries.get() {
                1..=3 => Err(PortError::Transient("it refuses connections".into())),
                4 => Ok(()),
                _ => Err(PortError::Permanent("wrong password".into())),
            }
        };
        let seen = async {
            waiting.begun().await;
            waiting.list()
        };
        let (opened, seen) = tokio::join!(waiting.until_there("Redis", open), seen);
        opened.unwrap();
        assert_eq!(seen, [("Redis", "it refuses connections".to_owned())]);
        assert!(waiting.list().is_empty());
        let refused = waiting.until_there("Redis", open).await.unwrap_err();
        assert_eq!((refused.to_string().as_str(), tries.get()), ("wrong password", 5));
    }
}

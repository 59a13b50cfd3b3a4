//! A task beside the actors that the process cannot do without: nobody supervises it, so when it panics the process has
//! to end and be started again.

use futures_util::FutureExt;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use tokio::sync::watch;

/// Runs on this thread until it ends in its own way.
pub struct Task<T> {
    handle: actix_rt::task::JoinHandle<Option<T>>,
    fallen: watch::Receiver<bool>,
}

impl<T: 'static> Task<T> {
    /// Begins it.
    pub fn spawn(future: impl Future<Output = T> + 'static) -> Self {
        let (fell, fallen) = watch::channel(false);
        let handle = actix_rt::spawn(async move {
            let ended = AssertUnwindSafe(future).catch_unwind().await.ok();
            fell.send_replace(ended.is_none());
            ended
        });
        Self { handle, fallen }
    }

    /// Resolves once it has panicked, and else never.
    pub fn fallen(&self) -> impl Future<Output = ()> + Send + use<T> {
        let mut fallen = self.fallen.clone();
        async move {
            if fallen.wait_for(|fallen| *fallen).await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// What it came to; nothing when it panicked.
    pub async fn ended(self) -> Option<T> {
        self.handle.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::oneshot;

    #[test]
    fn a_panic_is_noticed_at_once_and_an_end_is_none() {
        actix_rt::System::new().block_on(async {
            let (go_on, wait) = oneshot::channel::<()>();
            let task = Task::spawn(async {
                wait.await.ok();
                assert!(std::hint::black_box(false), "on purpose");
            });
            let fallen = task.fallen();
            drop(go_on);
            tokio::time::timeout(Duration::from_secs(10), fallen).await.expect("nobody noticed");
            assert_eq!(task.ended().await, None);

            let task = Task::spawn(async { 7 });
            let fallen = task.fallen();
            assert_eq!(task.ended().await, Some(7));
            assert!(fallen.now_or_never().is_none());
        });
    }
}

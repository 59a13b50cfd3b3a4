//! What the tests share: an installation, a shop in it, tills at work, and a reader of the books.

pub mod api;
pub mod dice;
pub mod ledger;
pub mod process;
pub mod proxy;
pub mod shop;
pub mod tills;

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything may take that happens sooner or later. Generous, because the machine may be busy; nothing
/// waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

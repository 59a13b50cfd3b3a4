//! Taking the write-ahead log into the file, beside the commits.
//!
//! SQLite does it at the end of whichever commit finds the log long enough, and every till waits for it: thousands of
//! pages and two syncs. Here a connection of its own copies while commits go on, until next to nothing is left; the
//! writer then copies that, and the log begins anew. Without the writer's part it would not: a log is only begun anew
//! when all of it has been copied.

use super::Shared;
use crate::ports::PortError;
use crate::sqlite::port_error;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Appended bytes after which a copy is made.
const EVERY: usize = 16 << 20;

/// Pages of the log at which SQLite does it at the end of a commit after all, when copying beside the commits does not
/// work: 256 MiB, or a quarter of that in a file that an older build made with its smaller pages.
pub const AT_THE_LATEST: &str = "16384";

/// Rounds beside the commits: what these add during the first is left for the second, and next to nothing for the writer.
const ROUNDS: usize = 2;

/// What was appended since the last copy, and the one that is being made.
#[derive(Default)]
pub struct Checkpoints {
    bytes: usize,
    copying: Option<JoinHandle<Result<(), PortError>>>,
}

impl Checkpoints {
    /// Some bytes more are in the log; starts a copy when it is time.
    pub fn appended(&mut self, bytes: usize, shared: &Arc<Shared>) {
        self.bytes += bytes;
        if self.bytes >= EVERY && self.copying.is_none() {
            self.copying = Some(tokio::spawn(copy(shared.clone())));
        }
    }

    /// Copies what a copy beside the commits has left over, once it is done. Between two commits.
    pub async fn finish(&mut self, writer: &mut SqliteConnection) {
        let Some(copying) = self.copying.take_if(|copying| copying.is_finished()) else { return };
        self.bytes = 0;
        let copied = match copying.await {
            Ok(Ok(())) => checkpoint(writer).await,
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(PortError::Transient(panic.to_string())),
        };
        if let Err(error) = copied {
            tracing::warn!(%error, "the journal's write-ahead log was not taken into its file, trying again later");
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some(copying) = &self.copying {
            copying.abort();
        }
    }
}

async fn copy(shared: Arc<Shared>) -> Result<(), PortError> {
    let mut connection = shared.connect().await?;
    for _ in 0..ROUNDS {
        checkpoint(&mut connection).await?;
    }
    sqlx::Connection::close(connection).await.map_err(port_error)
}

/// Copies what is in the log now, without waiting for anybody.
async fn checkpoint(connection: &mut SqliteConnection) -> Result<(), PortError> {
    let copied = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(connection).await;
    copied.map(|_| ()).map_err(port_error)
}

//! Reading a whole file as of one moment, beside a running server or where one was.
//!
//! The files are in WAL mode, and reading one without writing to it depends on what lies beside it:
//!
//! - A server runs: its `-wal` and `-shm` are there. A read-only connection takes part in the locking through `-shm`
//!   and sees everything that is committed. It never checkpoints: that needs a lock on the file itself that a
//!   read-only file handle cannot take, so the frames of the WAL stay where they are.
//! - A server was killed: the `-wal` is there and holds commits that the file lacks. A read-only connection rebuilds
//!   the index of the WAL in `-shm` (made if it is missing) and reads both. Neither file nor `-wal` changes, so the
//!   next start of the server still finds, checks and reports what the kill left behind.
//! - A server ended in order: only the file is there. SQLite makes an empty `-wal` and a `-shm`, which it leaves
//!   behind and the server takes over at its next start; as root it gives them to the owner of the file.
//! - The directory cannot be written to and there is no `-shm` (a read-only mount, a backup): then no server can be
//!   running on it, and the file is read as immutable. That would silently leave out a `-wal`, so with one that holds
//!   anything it is refused.
//!
//! See <https://www.sqlite.org/wal.html#read_only_databases>.

use super::{code, error_of, port_error, primary_code, reading};
use crate::ports::PortError;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::path::{Path, PathBuf};

/// Rows on their way from SQLite's thread to the reader: enough that neither waits for the other at every row.
const ROWS_AHEAD: usize = 1_024;

/// Opens a file for reading as of one moment. The moment begins with [`pin`].
pub async fn open(path: &Path, steps: &[(i64, &str, &str)]) -> Result<SqliteConnection, PortError> {
    if !path.exists() {
        return Err(PortError::Permanent(format!("{} does not exist", path.display())));
    }
    let options = reading(path).row_buffer_size(ROWS_AHEAD);
    let named =
        |error: sqlx::Error| PortError::Permanent(format!("{}: {}", path.display(), error_of(&error)));
    let mut connection = match connect_and_look(&options).await {
        Err(error) if matches!(primary_code(&error), Some(code::CANTOPEN | code::READONLY)) => {
            if beside(path, "-shm").exists() {
                return Err(named(error));
            }
            if !is_empty(&beside(path, "-wal")) {
                let error = error_of(&error);
                return Err(PortError::Permanent(format!(
                    "{0}: {error}. Its -wal holds commits, and reading those needs a directory that can be written to: \
                     copy {0} with its -wal to one and look there",
                    path.display()
                )));
            }
            connect_and_look(&options.immutable(true)).await.map_err(named)?
        }
        opened => opened.map_err(named)?,
    };
    check_schema(&mut connection, path, steps).await?;
    Ok(connection)
}

/// The moment begins: from here on the connection sees the file as it is now.
///
/// While it lasts the writer cannot start its WAL over, so the WAL grows by what is written meanwhile.
pub async fn pin(connection: &mut SqliteConnection) -> Result<(), PortError> {
    sqlx::query("BEGIN").execute(&mut *connection).await.map_err(port_error)?;
    // BEGIN alone takes no snapshot; the first read does.
    let look = sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut *connection).await;
    look.map(|_| ()).map_err(port_error)
}

/// The moment is over.
pub async fn unpin(connection: &mut SqliteConnection) -> Result<(), PortError> {
    sqlx::query("ROLLBACK").execute(connection).await.map(|_| ()).map_err(port_error)
}

/// The first read is where SQLite needs what lies beside the file; connecting may read already.
async fn connect_and_look(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&mut connection).await?;
    Ok(connection)
}

/// Refuses a file whose schema this build would misread.
async fn check_schema(
    connection: &mut SqliteConnection,
    path: &Path,
    steps: &[(i64, &str, &str)],
) -> Result<(), PortError> {
    let path = path.display();
    let newest = steps.last().map_or(0, |step| step.0);
    let sql = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success";
    let found: i64 = sqlx::query_scalar(sql)
        .fetch_one(connection)
        .await
        .map_err(|_| PortError::Permanent(format!("{path} has no schema of Blend")))?;
    if found == newest {
        return Ok(());
    }
    let why = if found > newest {
        "was written by a newer Blend"
    } else {
        "is of an older Blend: start the server once"
    };
    Err(PortError::Permanent(format!("{path} {why} (schema {found}, this one reads {newest})")))
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |file| file.len() == 0)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

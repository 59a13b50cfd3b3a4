//! What the two SQLite adapters share: opening a file the durable way, migrations, and what its errors mean.

use crate::migrations::{self, Steps};
use crate::ports::PortError;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use std::path::Path;
use std::time::Duration;

pub mod rows;
pub mod snapshot;

/// How long a connection waits for another one's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Options for a file that must survive the loss of power: WAL, and a sync at every commit.
///
/// A checkpoint every 8 MiB of WAL costs a commit a few milliseconds now and then; larger ones cost it more at once.
pub fn durable(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", "2000")
        .pragma("cache_size", "-65536")
        .statement_cache_capacity(64)
        .disable_statement_logging()
}

/// Options for reading beside the writer, from this process or another.
pub fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", "-32768")
        .disable_statement_logging()
}

/// Opens a connection; the error names the file.
pub async fn connect(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, PortError> {
    options.connect().await.map_err(|error| match error_of(&error) {
        PortError::Transient(why) => PortError::Transient(format!("{}: {why}", path.display())),
        PortError::Permanent(why) => PortError::Permanent(format!("{}: {why}", path.display())),
    })
}

/// Moves what is in a file's write-ahead log into the file, so that an ordered end leaves one whole file behind. Those
/// who wrote it have left by then, but perhaps not closed it yet.
pub async fn tidy(path: &Path) -> Result<(), PortError> {
    let mut connection = connect(path, &durable(path)).await?;
    let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
    checkpoint.execute(&mut connection).await.map_err(port_error)?;
    sqlx::Connection::close(connection).await.map_err(port_error)
}

/// Brings a file's schema up to date; refuses one that a newer build has changed.
pub async fn migrate(connection: &mut SqliteConnection, path: &Path, steps: &Steps) -> Result<(), PortError> {
    let migrated = migrations::migrator(steps).run(connection).await;
    migrated.map_err(|error| migrations::refusal(error, &path.display().to_string(), steps, error_of))
}

/// SQLite's primary result codes that matter here, from <https://www.sqlite.org/rescode.html>.
mod code {
    pub const BUSY: i32 = 5;
    pub const LOCKED: i32 = 6;
    pub const NOMEM: i32 = 7;
    pub const READONLY: i32 = 8;
    pub const IOERR: i32 = 10;
    pub const FULL: i32 = 13;
    pub const CANTOPEN: i32 = 14;
}

/// The primary result code of an error, if SQLite gave one.
fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<i32>().ok().map(|extended| extended & 0xFF)
}

/// Whether there is no room left.
pub fn is_full(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(code::FULL)
}

/// An error in the terms of the ports.
pub fn error_of(error: &sqlx::Error) -> PortError {
    let passing = match error {
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed | sqlx::Error::PoolTimedOut => true,
        _ => matches!(
            primary_code(error),
            Some(code::BUSY | code::LOCKED | code::NOMEM | code::IOERR | code::FULL | code::CANTOPEN)
        ),
    };
    let why = match error.as_database_error() {
        Some(database) => {
            format!("{} (SQLite code {})", database.message(), database.code().unwrap_or_default())
        }
        None => error.to_string(),
    };
    if passing { PortError::Transient(why) } else { PortError::Permanent(why) }
}

/// [`error_of`] for `map_err`.
pub fn port_error(error: sqlx::Error) -> PortError {
    error_of(&error)
}

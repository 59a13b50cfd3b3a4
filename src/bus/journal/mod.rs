//! The embedded bus: an append-only journal in SQLite, with consumer groups, retries and dead letters.
//!
//! One [`EventLog`] writes; every group has one [`EventFeed`]. A commit goes into the commit log, two small files that
//! are written over and over, and is filed in the table `segments` a moment later. What was written last also stays in
//! memory (the tail), so that a consumer that keeps up never reads the file, and none misses what is not filed yet. Positions are confirmed in memory and written down with
//! the upkeep: after a crash a group sees a few events again, which every consumer has to bear anyway.

/// A segment's line of the columns of a row, as older builds kept events, in SQL. The schema's third step says the same.
macro_rules! line_of_row {
    () => {
        "printf('%d %08x ', position, checksum) || kind || ' ' || payload || x'0a'"
    };
}

mod archive;
pub mod audit;
mod checkpoint;
mod commit_log;
mod dead_letters;
mod feed;
mod log;
pub mod recovery;
mod segment;
mod tail;
#[cfg(test)]
pub mod tampering;

use crate::domain::event::Event;
use crate::ports::bus::{EventFeed, EventHistory, EventLog, LEDGER_GROUP, Subscription};
use crate::ports::clock::SharedClock;
use crate::ports::{Open, PortError};
use crate::resilience::retry::RetrySchedule;
use crate::sqlite::{self, port_error};
use commit_log::CommitLog;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tail::Tail;
use tokio::sync::watch;

/// Steps of the journal's schema.
pub const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "journal", include_str!("../../../migrations/journal/0001_journal.sql")),
    (2, "writer", include_str!("../../../migrations/journal/0002_writer.sql")),
    (3, "segments", include_str!("../../../migrations/journal/0003_segments.sql")),
];

/// Numbers of the journal.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// Most bytes the file may have; beyond it appends are refused as "full".
    pub max_bytes: u64,
    /// Most events the slowest group may be behind; beyond it appends are refused.
    pub max_backlog: u64,
    /// Confirmed events kept for looking back.
    pub retain_events: u64,
    /// Most events kept in memory for consumers that keep up.
    pub tail_events: usize,
    /// Most bytes of those, counted as they are in the file.
    pub tail_bytes: usize,
    /// When failed deliveries come again.
    pub retries: RetrySchedule,
}

/// The page size of a new journal. Half the pages and calls that SQLite's own 4 KiB would cost.
const PAGE_BYTES: u32 = 8_192;

/// The journal of one installation.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    settings: JournalSettings,
    clock: SharedClock,
    tail: Mutex<Tail>,
    commit_log: Mutex<CommitLog>,
    /// The last durable position.
    durable: watch::Sender<u64>,
    /// How often dead letters were given back to their groups.
    given_back: watch::Sender<u64>,
    /// How far each group has confirmed.
    confirmed: Mutex<HashMap<&'static str, u64>>,
}

impl Shared {
    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while something is written, so not for the thread that sells.
    fn commit_log(&self) -> MutexGuard<'_, CommitLog> {
        self.commit_log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirmed(&self, group: &'static str) -> u64 {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.get(group).copied().unwrap_or_default()
    }

    /// Where a group stands, from the file when it is opened for the first time. One that was never there begins at the
    /// end: what was before is nothing that it missed.
    async fn join(&self, group: &'static str, connection: &mut SqliteConnection) -> Result<u64, PortError> {
        let known = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).get(group).copied();
        if let Some(position) = known {
            return Ok(position);
        }
        let sql = "SELECT position FROM positions WHERE consumer_group = $1";
        let found: Option<i64> =
            sqlx::query_scalar(sql).bind(group).fetch_optional(&mut *connection).await.map_err(port_error)?;
        let position = match found {
            Some(position) => position.unsigned_abs(),
            None => {
                // Written down before anything is handed out: who dies before the first upkeep goes on from here, and not
                // from whatever is the end by then.
                let position = self.last();
                let sql = "INSERT INTO positions (consumer_group, position) VALUES ($1, $2)
                           ON CONFLICT (consumer_group) DO NOTHING";
                let query = sqlx::query(sql).bind(group).bind(number(position));
                query.execute(connection).await.map_err(port_error)?;
                position
            }
        };
        self.confirm(group, position);
        Ok(position)
    }

    fn confirm(&self, group: &'static str, position: u64) {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).insert(group, position);
    }

    fn all_confirmed(&self) -> Vec<(&'static str, u64)> {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        confirmed.iter().map(|(group, position)| (*group, *position)).collect()
    }

    fn last(&self) -> u64 {
        *self.durable.borrow()
    }

    async fn connect(&self) -> Result<SqliteConnection, PortError> {
        let mut connection = sqlite::connect(&self.path, &options(&self.path)).await?;
        // A file that an older build made keeps its smaller pages.
        let page: i64 =
            sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut connection).await.map_err(port_error)?;
        let pages = (self.settings.max_bytes / page.unsigned_abs().max(512)).max(16);
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(limit).execute(&mut connection).await.map_err(port_error)?;
        Ok(connection)
    }
}

/// A group of the journal's.
struct Group {
    open: Open<Box<dyn EventFeed>>,
}

impl Subscription for Group {
    fn open(&self) -> BoxFuture<'static, Result<Box<dyn EventFeed>, PortError>> {
        (self.open)()
    }
}

impl Journal {
    /// Opens or creates the journal, repairs what can be repaired and says what it found.
    pub async fn open(
        path: &Path,
        settings: JournalSettings,
        clock: SharedClock,
    ) -> Result<(Self, recovery::Findings), PortError> {
        let mut findings = recovery::inspect_wal(path)?;
        let opened = recovery::open(path, &clock, &mut findings).await?;
        let failed = |error| PortError::Permanent(format!("the commit log of {}: {error}", path.display()));
        let commit_log = CommitLog::open(path).map_err(failed)?;
        commit_log.clear().map_err(failed)?;
        let shared = Shared {
            path: path.to_owned(),
            tail: Mutex::new(Tail::new(settings.tail_events, settings.tail_bytes, opened.last)),
            commit_log: Mutex::new(commit_log),
            settings,
            clock,
            durable: watch::Sender::new(opened.last),
            given_back: watch::Sender::new(0),
            confirmed: Mutex::new(HashMap::from([(LEDGER_GROUP, opened.ledger_position)])),
        };
        Ok((Self { shared: Arc::new(shared) }, findings))
    }

    /// Opens writing ends.
    pub fn log(&self) -> Open<Box<dyn EventLog>> {
        let shared = self.shared.clone();
        Arc::new(move || {
            let shared = shared.clone();
            async move { Ok(Box::new(log::Log::open(shared).await?) as Box<dyn EventLog>) }.boxed()
        })
    }

    /// Opens the reading ends of a group.
    pub fn feed(&self, group: &'static str) -> Open<Box<dyn EventFeed>> {
        let shared = self.shared.clone();
        Arc::new(move || {
            let shared = shared.clone();
            async move { Ok(Box::new(feed::Feed::open(shared, group).await?) as Box<dyn EventFeed>) }.boxed()
        })
    }

    /// A group as those have it who come and go. It is kept as it stands here, whoever listens.
    pub fn group(&self, name: &'static str) -> Arc<dyn Subscription> {
        Arc::new(Group { open: self.feed(name) })
    }

    /// How many events the ledger group is behind.
    pub fn backlog(&self) -> u64 {
        self.shared.last().saturating_sub(self.shared.confirmed(LEDGER_GROUP))
    }

    /// The last durable position.
    pub fn last(&self) -> u64 {
        self.shared.last()
    }

    /// Leaves one whole file behind, once nobody writes any more.
    pub async fn close(&self) -> Result<(), PortError> {
        // Files what the last log had no time to file, and writes down where the groups stand.
        log::Log::open(self.shared.clone()).await?.maintain().await?;
        sqlite::tidy(&self.shared.path).await?;
        commit_log::remove(&self.shared.path).map_err(|error| PortError::Transient(error.to_string()))
    }
}

impl EventHistory for Journal {
    fn unconfirmed(&self) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>> {
        async move {
            let mut connection = sqlite::connect(&self.shared.path, &sqlite::reading(&self.shared.path)).await?;
            let confirmed = self.shared.confirmed(LEDGER_GROUP);
            // Before the file is read: what is not filed now is in the tail now.
            let tail = self.shared.tail().all();
            // What waits or was given up lies before all others.
            let sql = "SELECT position, kind, payload FROM retries WHERE consumer_group = $2 AND position <= $1
                       UNION ALL SELECT position, kind, payload FROM dead_letters WHERE consumer_group = $2 AND position <= $1
                       ORDER BY position";
            let query = sqlx::query(sql).bind(number(confirmed)).bind(LEDGER_GROUP);
            let rows = query.fetch_all(&mut connection).await.map_err(port_error)?;
            let mut events: Vec<_> = rows.iter().map(read_event).collect::<Result<_, _>>()?;
            events.extend(segment::events_behind(&mut connection, confirmed, usize::MAX).await?);
            let read = events.last().map_or(confirmed, |(position, _)| confirmed.max(*position));
            events.extend(tail.into_iter().filter(|(position, _)| *position > read));
            Ok(events.into_iter().map(|(_, event)| event).collect())
        }
        .boxed()
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    sqlite::durable(path).page_size(PAGE_BYTES).pragma("wal_autocheckpoint", checkpoint::AT_THE_LATEST)
}

/// Reads (position, kind, payload) from the first three columns.
fn read_event(row: &SqliteRow) -> Result<(u64, Arc<Event>), PortError> {
    let position: i64 = row.try_get(0).map_err(port_error)?;
    let position = position.unsigned_abs();
    let (kind, payload) = (row.try_get(1).map_err(port_error)?, row.try_get(2).map_err(port_error)?);
    Ok((position, segment::read_event(position, kind, payload)?))
}

/// A file beside another one.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A position or count as SQLite holds it.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

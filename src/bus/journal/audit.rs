//! The journal's facts, for the checker of the laws.
//!
//! The journal is read as of two moments, one before and one after the ledger's, see [`JournalFacts::pin_after`].

use super::commit_log::{self, Batch};
use super::segment::{self, Line, Segment};
use super::{MIGRATIONS, archive};
use crate::domain::audit::{Detail, Fact, Parked, Part};
use crate::domain::event::Event;
use crate::ports::PortError;
use crate::ports::audit::{BusFactSource, FactSource, Sink};
use crate::sqlite::{port_error, snapshot};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt as _};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The journal of an installation, as of two moments.
pub struct JournalFacts {
    before: SqliteConnection,
    after: SqliteConnection,
    path: PathBuf,
    /// The last position that was filed as of the first moment.
    last: u64,
    /// What was in the commit log only as of the second.
    unfiled: Vec<Batch>,
}

impl JournalFacts {
    /// Opens the file for reading only.
    pub async fn open(path: &Path) -> Result<Self, PortError> {
        let before = snapshot::open(path, MIGRATIONS).await?;
        let after = snapshot::open(path, MIGRATIONS).await?;
        Ok(Self { before, after, path: path.to_owned(), last: 0, unfiled: Vec::new() })
    }

    async fn standing(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        let sql = "SELECT consumer_group, position FROM positions";
        // What was confirmed as of the first moment is in every later state of the ledger.
        for row in sqlx::query(sql).fetch_all(&mut self.before).await.map_err(port_error)? {
            sink(Fact::GroupPosition { group: text(&row, 0)?, position: whole(&row, 1)? });
        }
        let sql = "SELECT position, reason FROM quarantine";
        for row in sqlx::query(sql).fetch_all(&mut self.after).await.map_err(port_error)? {
            sink(Fact::Quarantined { position: whole(&row, 0)?, reason: text(&row, 1)? });
        }
        let mut unreadable = HashSet::new();
        // Of both moments: an event leaves the retries for the ledger or for the dead letters in between.
        for connection in [&mut self.before, &mut self.after] {
            parked(connection, "retries", &mut unreadable, sink).await?;
            parked(connection, "dead_letters", &mut unreadable, sink).await?;
        }
        Ok(())
    }

    async fn history(&mut self, sink: Sink<'_>) -> Result<(), PortError> {
        for (connection, after) in [(&mut self.before, 0), (&mut self.after, self.last)] {
            let mut rows = sqlx::query(segment::BEHIND).bind(super::number(after)).fetch(connection);
            while let Some(row) = rows.try_next().await.map_err(port_error)? {
                Segment::of(&row)?
                    .lines()
                    .filter(|line| line.position > after)
                    .for_each(|line| recorded(&line, sink));
            }
        }
        for batch in &self.unfiled {
            batch.segment().lines().for_each(|line| recorded(&line, sink));
        }
        Ok(())
    }

    async fn events_about(&mut self, about: &Detail) -> Result<Vec<String>, PortError> {
        let Some(position) = about.position else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        let said = |line: Line<'_>| {
            let payload = String::from_utf8_lossy(line.payload);
            (line.position == position).then(|| format!("journal {position} {}: {payload}", line.kind))
        };
        let around = sqlx::query(segment::AROUND).bind(super::number(position));
        for row in around.fetch_all(&mut self.after).await.map_err(port_error)? {
            lines.extend(Segment::of(&row)?.lines().filter_map(said));
        }
        let unfiled = self.unfiled.iter().flat_map(|batch| batch.segment().lines());
        lines.extend(unfiled.filter_map(said));
        let sql = "SELECT 'retries', position, kind, payload FROM retries WHERE position = $1
                   UNION ALL SELECT 'dead letters', position, kind, payload FROM dead_letters WHERE position = $1
                   UNION ALL SELECT 'quarantine', position, kind, payload FROM quarantine WHERE position = $1";
        let query = sqlx::query(sql).bind(super::number(position));
        for row in query.fetch_all(&mut self.after).await.map_err(port_error)? {
            let payload = String::from_utf8_lossy(blob(&row, 3)?).into_owned();
            lines.push(format!("{} {position} {}: {payload}", text(&row, 0)?, text(&row, 2)?));
        }
        Ok(lines)
    }
}

fn recorded(line: &Line<'_>, sink: Sink<'_>) {
    let position = line.position;
    if !line.whole {
        let reason = "it does not match its checksum";
        return sink(Fact::Unreadable { table: "journal", position, reason });
    }
    match Event::decode(line.kind, line.payload) {
        Ok(event) => sink(Fact::Recorded { position, event: &event }),
        Err(error) => sink(Fact::Unreadable { table: "journal", position, reason: &error.to_string() }),
    }
}

/// The events in one of the two tables that have set them aside.
async fn parked(
    connection: &mut SqliteConnection,
    table: &'static str,
    unreadable: &mut HashSet<(&'static str, String, u64)>,
    sink: Sink<'_>,
) -> Result<(), PortError> {
    let sql = match table {
        "retries" => {
            "SELECT consumer_group, position, attempt, last_error, kind, payload FROM retries ORDER BY 2"
        }
        _ => "SELECT consumer_group, position, attempts, cause, kind, payload FROM dead_letters ORDER BY 2",
    };
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        let (group, position) = (text(&row, 0)?, whole(&row, 1)?);
        match Event::decode(text(&row, 4)?, blob(&row, 5)?) {
            Ok(event) => {
                let (attempts, cause) = (whole(&row, 2)?, text(&row, 3)?);
                let parked = Parked { group, position, attempts, cause, event: &event };
                sink(if table == "retries" { Fact::Retry(parked) } else { Fact::DeadLetter(parked) });
            }
            Err(error) => {
                if unreadable.insert((table, group.to_owned(), position)) {
                    sink(Fact::Unreadable { table, position, reason: &error.to_string() });
                }
            }
        }
    }
    Ok(())
}

impl FactSource for JournalFacts {
    fn total(&mut self) -> BoxFuture<'_, Result<u64, PortError>> {
        async move {
            let sql = "SELECT coalesce(sum(last - first + 1), 0) FROM segments";
            let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut self.after).await.map_err(port_error)?;
            let unfiled: u64 = self.unfiled.iter().map(|batch| batch.last - batch.first + 1).sum();
            Ok(count.unsigned_abs() + unfiled)
        }
        .boxed()
    }

    fn facts<'a>(&'a mut self, part: Part, sink: Sink<'a>) -> BoxFuture<'a, Result<(), PortError>> {
        match part {
            Part::Standing => self.standing(sink).boxed(),
            Part::History => self.history(sink).boxed(),
        }
    }

    fn evidence<'a>(&'a mut self, about: &'a Detail) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        self.events_about(about).boxed()
    }
}

fn text(row: &SqliteRow, column: usize) -> Result<&str, PortError> {
    row.try_get::<Option<&str>, _>(column).map(Option::unwrap_or_default).map_err(port_error)
}

fn blob(row: &SqliteRow, column: usize) -> Result<&[u8], PortError> {
    row.try_get::<Option<&[u8]>, _>(column).map(Option::unwrap_or_default).map_err(port_error)
}

fn whole(row: &SqliteRow, column: usize) -> Result<u64, PortError> {
    let value: i64 = row.try_get(column).map_err(port_error)?;
    // No number in the journal is negative; one that is matches nothing.
    Ok(u64::try_from(value).unwrap_or(u64::MAX))
}

impl BusFactSource for JournalFacts {
    fn pin_before(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            snapshot::pin(&mut self.before).await?;
            self.last = archive::last_filed(&mut self.before).await.map_err(port_error)?;
            Ok(())
        }
        .boxed()
    }

    /// They do not join when events that came after the first moment are trimmed already.
    fn pin_after(&mut self) -> BoxFuture<'_, Result<bool, PortError>> {
        async move {
            // First the commit log: what is filed meanwhile is in the snapshot.
            let (left, _) = commit_log::read(&self.path)?;
            snapshot::pin(&mut self.after).await?;
            let last = archive::last_filed(&mut self.after).await.map_err(port_error)?;
            self.unfiled = left.into_iter().filter(|batch| batch.first > last).collect();
            let sql = "SELECT coalesce(min(max(first, $1 + 1)), 0) FROM segments WHERE last > $1";
            let query = sqlx::query_scalar(sql).bind(super::number(self.last));
            let next: i64 = query.fetch_one(&mut self.after).await.map_err(port_error)?;
            if last <= self.last || self.last == 0 || next.unsigned_abs() == self.last + 1 {
                return Ok(true);
            }
            snapshot::unpin(&mut self.before).await?;
            snapshot::unpin(&mut self.after).await?;
            Ok(false)
        }
        .boxed()
    }
}

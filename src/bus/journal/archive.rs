//! The journal's file, for whoever writes it: filing what the commit log holds, upkeep.

use super::checkpoint::Checkpoints;
use super::commit_log::Batch;
use super::{Shared, number};
use crate::ports::PortError;
use crate::ports::bus::AppendError;
use crate::sqlite::{self, port_error};
use sqlx::sqlite::SqliteConnection;
use std::fmt::Write as _;
use std::sync::Arc;

/// Events deleted at most in one upkeep, so that it never holds up filing for long.
const TRIM_AT_ONCE: u64 = 5_000;

/// Bytes of a segment at which the next batch begins another one: readers take a segment apart as a whole.
const SEGMENT_BYTES: usize = 64 << 10;

/// Adds a batch to what is to be filed: to the segment that was begun last, if that is small and ends where it begins.
pub fn gather(segments: &mut Vec<Batch>, first: u64, last: u64, lines: &[u8]) {
    let goes_on = |segment: &&mut Batch| segment.lines.len() < SEGMENT_BYTES && segment.last + 1 == first;
    match segments.last_mut().filter(goes_on) {
        Some(segment) => {
            segment.last = last;
            segment.lines.extend_from_slice(lines);
        }
        None => {
            let mut begun = Vec::with_capacity(SEGMENT_BYTES + lines.len());
            begun.extend_from_slice(lines);
            segments.push(Batch { first, last, lines: begun });
        }
    }
}

/// The last position that is filed. The newest segment is never trimmed, so this never goes back.
pub async fn last_filed(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let sql = "SELECT last FROM segments ORDER BY first DESC LIMIT 1";
    let last: Option<i64> = sqlx::query_scalar(sql).fetch_optional(connection).await?;
    Ok(last.unwrap_or_default().unsigned_abs())
}

/// Files those of the batches that are not filed yet.
pub async fn file_new(
    connection: &mut SqliteConnection,
    generation: i64,
    batches: &[Batch],
) -> Result<(), AppendError> {
    let filed = last_filed(connection).await.map_err(|error| explain(&error))?;
    let mut segments = Vec::new();
    for batch in batches.iter().filter(|batch| batch.first > filed) {
        gather(&mut segments, batch.first, batch.last, &batch.lines);
    }
    insert(connection, generation, &segments).await
}

/// One statement is one transaction: they are there as a whole or not at all. Not where another log has taken over, nor
/// over what is there already.
async fn insert(
    connection: &mut SqliteConnection,
    generation: i64,
    segments: &[Batch],
) -> Result<(), AppendError> {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return Ok(()) };
    let mut sql = String::from("INSERT INTO segments (first, last, lines) SELECT * FROM (VALUES ");
    for index in 0..segments.len() {
        let (comma, at) = (if index == 0 { "" } else { ", " }, 3 * index + 3);
        // Writing into memory does not fail.
        write!(sql, "{comma}(${at}, ${}, ${})", at + 1, at + 2).ok();
    }
    sql.push_str(
        ") WHERE (SELECT generation FROM writer) = $1
           AND coalesce((SELECT last FROM segments ORDER BY first DESC LIMIT 1), 0) < $2",
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(generation).bind(number(first.first));
    for segment in segments {
        query = query.bind(number(segment.first)).bind(number(segment.last)).bind(segment.lines.clone());
    }
    let inserted = query.execute(&mut *connection).await.map_err(|error| explain(&error))?.rows_affected();
    if inserted == 0 && last_filed(connection).await.map_err(|error| explain(&error))? != last.last {
        return Err(AppendError::InDoubt("another log has taken over the journal".into()));
    }
    Ok(())
}

/// What is not filed is in the commit log still, so nothing is in doubt.
fn explain(error: &sqlx::Error) -> AppendError {
    let why = sqlite::error_of(error).to_string();
    if sqlite::is_full(error) { AppendError::Full(why) } else { AppendError::NotDurable(why) }
}

/// The writing end of the file. It goes to and fro between the log and the task that files.
pub struct Archive {
    shared: Arc<Shared>,
    connection: SqliteConnection,
    /// What a log that was dropped has in hand may still be on its way to the file; the number of a newer log stops it.
    generation: i64,
    checkpoints: Checkpoints,
    written_positions: Vec<(&'static str, u64)>,
    trimmed_to: u64,
    /// Where the newest segment begins. It is never trimmed, for it says what is filed.
    newest: u64,
}

impl Archive {
    /// Opens a connection of its own. From then on no older archive writes any more.
    pub async fn open(shared: Arc<Shared>) -> Result<Self, PortError> {
        let mut connection = shared.connect().await?;
        // It waits for what is being written and stops every later write of an older log.
        let take = "UPDATE writer SET generation = generation + 1 RETURNING generation";
        let generation = sqlx::query_scalar(take).fetch_one(&mut connection).await.map_err(port_error)?;
        let sql = "SELECT coalesce(min(first), 1), coalesce(max(first), 0) FROM segments";
        let (first, newest): (i64, i64) =
            sqlx::query_as(sql).fetch_one(&mut connection).await.map_err(port_error)?;
        Ok(Self {
            shared,
            connection,
            generation,
            checkpoints: Checkpoints::default(),
            written_positions: Vec::new(),
            trimmed_to: u64::try_from(first - 1).unwrap_or_default(),
            newest: newest.unsigned_abs(),
        })
    }

    /// Files what a log that is gone has left in the commit log; returns the last position ever given out.
    pub async fn take_over(&mut self, left: &[Batch]) -> Result<u64, AppendError> {
        let newest = left.last().map_or(self.newest, |batch| batch.first);
        file_new(&mut self.connection, self.generation, left).await?;
        self.newest = self.newest.max(newest);
        last_position(&mut self.connection).await.map_err(|error| explain(&error))
    }

    /// Files segments, whole or not at all. They may be filed already, for all that a failure before has told.
    pub async fn file(&mut self, segments: &[Batch]) -> Result<(), AppendError> {
        self.checkpoints.finish(&mut self.connection).await;
        insert(&mut self.connection, self.generation, segments).await?;
        let bytes = segments.iter().map(|segment| segment.lines.len()).sum();
        self.checkpoints.appended(bytes, &self.shared);
        if let Some(newest) = segments.last() {
            self.newest = newest.first;
            self.shared.tail().filed(newest.last);
        }
        Ok(())
    }

    /// The last position that is filed.
    pub async fn last_filed(&mut self) -> Result<u64, PortError> {
        last_filed(&mut self.connection).await.map_err(port_error)
    }

    /// Writes down how far the groups have confirmed.
    pub async fn write_positions(&mut self) -> Result<(), PortError> {
        let confirmed = self.shared.all_confirmed();
        if confirmed == self.written_positions {
            return Ok(());
        }
        for (group, position) in &confirmed {
            sqlx::query(
                "INSERT INTO positions (consumer_group, position) VALUES ($1, $2)
                 ON CONFLICT (consumer_group) DO UPDATE SET position = excluded.position",
            )
            .bind(*group)
            .bind(number(*position))
            .execute(&mut self.connection)
            .await
            .map_err(port_error)?;
        }
        self.written_positions = confirmed;
        Ok(())
    }

    /// Drops what every group has confirmed (and written down as confirmed), but for the newest ones.
    pub async fn trim(&mut self) -> Result<(), PortError> {
        let slowest = self.written_positions.iter().map(|(_, position)| *position).min().unwrap_or_default();
        let keep_from = slowest.saturating_sub(self.shared.settings.retain_events);
        let upto = keep_from.min(self.trimmed_to + TRIM_AT_ONCE).min(self.newest.saturating_sub(1));
        if upto > self.trimmed_to {
            let sql = "DELETE FROM segments WHERE first <= $1 AND last <= $1";
            let delete = sqlx::query(sql).bind(number(upto));
            delete.execute(&mut self.connection).await.map_err(port_error)?;
            self.trimmed_to = upto;
        }
        Ok(())
    }
}

/// The last position that was ever given out, trimmed or not, as far as the file says.
pub async fn last_position(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let sql = "SELECT max(coalesce((SELECT last FROM segments ORDER BY first DESC LIMIT 1), 0),
                          coalesce((SELECT max(position) FROM positions), 0),
                          coalesce((SELECT max(position) FROM quarantine), 0))";
    let last: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
    Ok(u64::try_from(last).unwrap_or_default())
}

//! The writing end of the journal: group commit, upkeep.

use super::checkpoint::Checkpoints;
use super::{Shared, number, segment};
use crate::domain::event::Event;
use crate::ports::PortError;
use crate::ports::bus::{AppendError, EventLog};
use crate::sqlite::{self, port_error};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;

/// Events deleted at most in one upkeep, so that it never holds up commits for long.
const TRIM_AT_ONCE: u64 = 5_000;

/// One statement is one transaction: it is there as a whole or not at all, and costs one sync. Not where another log has
/// taken over, nor over what is there already.
const APPEND: &str = "INSERT INTO segments (first, last, lines) SELECT $1, $2, $3
     WHERE (SELECT generation FROM writer) = $4
     AND coalesce((SELECT last FROM segments ORDER BY first DESC LIMIT 1), 0) < $1";

/// The writer. There is one at a time: it belongs to the journal writer actor.
pub struct Log {
    shared: Arc<Shared>,
    connection: SqliteConnection,
    /// An append whose actor was rebuilt may still be on its way to the file; the number of a newer log stops it.
    generation: i64,
    checkpoints: Checkpoints,
    lines: Vec<u8>,
    sizes: Vec<usize>,
    written_positions: Vec<(&'static str, u64)>,
    trimmed_to: u64,
}

impl Log {
    /// Opens a connection of its own and takes over where the file ends.
    pub async fn open(shared: Arc<Shared>) -> Result<Self, PortError> {
        let mut connection = shared.connect().await?;
        // First the number: it waits for an append that is being written and stops every later one of an older log.
        let take = "UPDATE writer SET generation = generation + 1 RETURNING generation";
        let generation = sqlx::query_scalar(take).fetch_one(&mut connection).await.map_err(port_error)?;
        let last = last_position(&mut connection).await.map_err(port_error)?;
        // After an append in doubt the file may hold more than was announced.
        shared.tail().skip_to(last);
        shared.durable.send_if_modified(|durable| {
            let more = last > *durable;
            *durable = (*durable).max(last);
            more
        });
        let first: i64 = sqlx::query_scalar("SELECT coalesce(min(first), 1) FROM segments")
            .fetch_one(&mut connection)
            .await
            .map_err(port_error)?;
        Ok(Self {
            shared,
            connection,
            generation,
            checkpoints: Checkpoints::default(),
            lines: Vec::new(),
            sizes: Vec::new(),
            written_positions: Vec::new(),
            trimmed_to: u64::try_from(first - 1).unwrap_or_default(),
        })
    }

    async fn append_batch(&mut self, batch: &[Arc<Event>]) -> Result<(), AppendError> {
        if batch.is_empty() {
            return Ok(());
        }
        let durable = self.shared.last();
        let slowest =
            self.shared.all_confirmed().iter().map(|(_, position)| *position).min().unwrap_or(durable);
        let backlog = durable.saturating_sub(slowest);
        if backlog >= self.shared.settings.max_backlog {
            return Err(AppendError::NotDurable(format!(
                "{backlog} events wait for the ledger, the most allowed"
            )));
        }
        self.checkpoints.finish(&mut self.connection).await;
        self.encode(batch, durable + 1)?;
        // The statement keeps the bytes; the next batch is about as large.
        let next = Vec::with_capacity(self.lines.len());
        let lines = std::mem::replace(&mut self.lines, next);
        self.checkpoints.appended(lines.len(), &self.shared);
        let last = durable + batch.len() as u64;
        let insert = sqlx::query(APPEND).bind(number(durable + 1)).bind(number(last)).bind(lines);
        let insert = insert.bind(self.generation);
        match insert.execute(&mut self.connection).await {
            Err(error) => return Err(self.explain(&error, durable).await),
            Ok(done) if done.rows_affected() == 0 => {
                return Err(AppendError::InDoubt("another log has taken over the journal".into()));
            }
            Ok(_) => {}
        }
        let mut tail = self.shared.tail();
        for ((position, event), bytes) in (durable + 1..).zip(batch).zip(&self.sizes) {
            tail.push(position, event.clone(), *bytes);
        }
        drop(tail);
        self.shared.durable.send_replace(last);
        Ok(())
    }

    fn encode(&mut self, batch: &[Arc<Event>], first: u64) -> Result<(), AppendError> {
        self.lines.clear();
        self.sizes.clear();
        for (position, event) in (first..).zip(batch) {
            let pushed = segment::push(&mut self.lines, position, event);
            self.sizes.push(pushed.map_err(|error| AppendError::NotDurable(error.to_string()))?);
        }
        Ok(())
    }

    /// A failed statement is rolled back by SQLite; only seeing that it is gone makes that certain.
    async fn explain(&mut self, error: &sqlx::Error, before: u64) -> AppendError {
        let why = port_error_text(error);
        match last_position(&mut self.connection).await {
            Ok(last) if last <= before && sqlite::is_full(error) => AppendError::Full(why),
            Ok(last) if last <= before => AppendError::NotDurable(why),
            Ok(last) => AppendError::InDoubt(format!("{why}; the journal now ends at {last}, not {before}")),
            Err(second) => AppendError::InDoubt(format!("{why}; then {}", port_error_text(&second))),
        }
    }

    async fn write_positions(&mut self) -> Result<(), PortError> {
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
    async fn trim(&mut self) -> Result<(), PortError> {
        let slowest = self.written_positions.iter().map(|(_, position)| *position).min().unwrap_or_default();
        let keep_from = slowest.saturating_sub(self.shared.settings.retain_events);
        let upto = keep_from.min(self.trimmed_to + TRIM_AT_ONCE);
        if upto > self.trimmed_to {
            let sql = "DELETE FROM segments WHERE first <= $1 AND last <= $1";
            let delete = sqlx::query(sql).bind(number(upto));
            delete.execute(&mut self.connection).await.map_err(port_error)?;
            self.trimmed_to = upto;
        }
        Ok(())
    }
}

impl EventLog for Log {
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>> {
        self.append_batch(batch).boxed()
    }

    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            self.write_positions().await?;
            self.trim().await
        }
        .boxed()
    }
}

/// The last position that was ever given out, trimmed or not.
pub(super) async fn last_position(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let sql = "SELECT max(coalesce((SELECT last FROM segments ORDER BY first DESC LIMIT 1), 0),
                          coalesce((SELECT max(position) FROM positions), 0),
                          coalesce((SELECT max(position) FROM quarantine), 0))";
    let last: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
    Ok(u64::try_from(last).unwrap_or_default())
}

fn port_error_text(error: &sqlx::Error) -> String {
    sqlite::error_of(error).to_string()
}

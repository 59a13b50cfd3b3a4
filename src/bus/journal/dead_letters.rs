//! The journal's dead letters: looked at beside the groups, and given back to them.

use super::{Journal, number, port_error};
use crate::domain::dead_letter::{DeadLetter, Matter};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::dead_letters::DeadLetters;
use crate::sqlite;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row as _};
use uuid::Uuid;

/// In one step: it is a dead letter or waits for its next try, never neither. Attempts are counted anew.
const GIVE_BACK: [&str; 2] = [
    "INSERT INTO retries (consumer_group, position, tenant_id, attempt, due_at, first_at, last_error, kind, payload)
     SELECT consumer_group, position, tenant_id, 0, $3, first_at, cause, kind, payload FROM dead_letters
     WHERE consumer_group = $1 AND position = $2
     ON CONFLICT (consumer_group, position) DO NOTHING",
    "DELETE FROM dead_letters WHERE consumer_group = $1 AND position = $2",
];

impl Journal {
    async fn letters(&self, most: usize) -> Result<Vec<DeadLetter>, PortError> {
        let path = &self.shared.path;
        let mut connection = sqlite::connect(path, &sqlite::reading(path)).await?;
        let sql =
            "SELECT consumer_group, position, tenant_id, attempts, first_at, last_at, cause, kind, payload
                   FROM dead_letters ORDER BY position, consumer_group LIMIT $1";
        let rows = sqlx::query(sql).bind(number(most as u64)).fetch_all(&mut connection).await;
        rows.map_err(port_error)?.iter().map(|row| letter(row).map_err(port_error)).collect()
    }

    async fn give_back(&self, ids: &[String]) -> Result<usize, PortError> {
        let mut connection = self.shared.connect().await?;
        let now = self.shared.clock.now().micros();
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
        let mut given_back = 0;
        for id in ids {
            let Some((group, position)) = id.rsplit_once('/') else { continue };
            let Ok(position) = position.parse::<i64>() else { continue };
            let mut gone = 0;
            for sql in GIVE_BACK {
                let query = sqlx::query(sql).bind(group).bind(position).bind(now);
                gone = query.execute(&mut *transaction).await.map_err(port_error)?.rows_affected();
            }
            given_back += usize::from(gone > 0);
        }
        transaction.commit().await.map_err(port_error)?;
        // The groups know by heart whose events wait.
        self.shared.given_back.send_modify(|times| *times += 1);
        Ok(given_back)
    }
}

fn letter(row: &SqliteRow) -> Result<DeadLetter, sqlx::Error> {
    let (group, position): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(DeadLetter {
        id: format!("{group}/{position}"),
        matter: Matter::Event,
        response: String::new(),
        group,
        tenant: row.try_get::<Uuid, _>(2)?.to_string(),
        attempts: row.try_get::<i64, _>(3)?.unsigned_abs(),
        first_at: Timestamp::from_micros(row.try_get(4)?),
        last_at: Timestamp::from_micros(row.try_get(5)?),
        cause: row.try_get(6)?,
        kind: row.try_get(7)?,
        payload: row.try_get(8)?,
    })
}

impl DeadLetters for Journal {
    fn list(&self, most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>> {
        self.letters(most).boxed()
    }

    fn replay<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        self.give_back(ids).boxed()
    }
}

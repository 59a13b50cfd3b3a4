//! For tests that change what is in the file: the events as rows of a table `journal`, as older builds kept them, and
//! back into the segments they came from.

use super::segment::{BEHIND, Segment};
use super::{SqliteConnection, number};

/// The events as rows of `journal`.
pub async fn unpack(connection: &mut SqliteConnection) {
    let table =
        "CREATE TABLE journal (position INTEGER PRIMARY KEY, kind TEXT NOT NULL, payload BLOB NOT NULL,
                 checksum INTEGER NOT NULL) STRICT";
    sqlx::query(table).execute(&mut *connection).await.unwrap();
    let rows = sqlx::query(BEHIND).bind(0).fetch_all(&mut *connection).await.unwrap();
    for row in &rows {
        for line in Segment::of(row).unwrap().lines() {
            let text = std::str::from_utf8(line.bytes).unwrap();
            let sum = u32::from_str_radix(text.split(' ').nth(1).unwrap(), 16).unwrap();
            let insert =
                sqlx::query("INSERT INTO journal VALUES ($1, $2, $3, $4)").bind(number(line.position));
            let insert = insert.bind(line.kind).bind(line.payload).bind(i64::from(sum));
            insert.execute(&mut *connection).await.unwrap();
        }
    }
}

/// What is left of them, each in its segment; one that is empty goes.
pub async fn pack(connection: &mut SqliteConnection) {
    let pack = concat!(
        "UPDATE segments SET lines = (SELECT coalesce(CAST(group_concat(line, '') AS BLOB), x'') FROM (
             SELECT ",
        line_of_row!(),
        " AS line FROM journal WHERE position BETWEEN first AND last ORDER BY position));
         DELETE FROM segments WHERE lines = x'';
         DROP TABLE journal"
    );
    sqlx::raw_sql(pack).execute(connection).await.unwrap();
}

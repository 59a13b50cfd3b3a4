//! Opening a journal that may have been damaged: find it, say it, keep everything that is still whole.

use super::segment::{self, Line, Segment};
use super::{MIGRATIONS, archive, beside, commit_log, number};
use crate::domain::event::Event;
use crate::ports::PortError;
use crate::ports::bus::{AppendError, LEDGER_GROUP};
use crate::ports::clock::SharedClock;
use crate::sqlite::{self, port_error};
use futures_util::TryStreamExt as _;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use std::collections::BTreeSet;
use std::path::Path;

/// What was found wrong, in words for the operator. Empty for a whole journal.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings(pub Vec<String>);

/// A journal that is ready for use.
pub struct Opened {
    /// The last position ever given out.
    pub last: u64,
    /// How far the ledger group has confirmed.
    pub ledger_position: u64,
}

/// Looks at the write-ahead log before SQLite does. SQLite silently drops everything from the first frame on whose
/// checksum fails: after a crash that is an unfinished write, but it can also be an acknowledged sale on a bad disk.
///
/// Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>
pub fn inspect_wal(journal: &Path) -> Result<Findings, PortError> {
    let wal = beside(journal, "-wal");
    let bytes = match std::fs::read(&wal) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Findings::default()),
        Err(error) => return Err(PortError::Permanent(format!("{}: {error}", wal.display()))),
    };
    let Some(damage) = damaged_frame(&bytes) else { return Ok(Findings::default()) };
    let copy = beside(journal, "-wal.damaged");
    std::fs::write(&copy, &bytes)
        .map_err(|error| PortError::Permanent(format!("{}: {error}", copy.display())))?;
    Ok(Findings(vec![format!(
        "the journal's tail is damaged: {damage} of {} does not match its checksum; events before it are kept, what \
         came after is not readable. The damaged file was copied to {}",
        wal.display(),
        copy.display()
    )]))
}

/// The first frame that belongs to the current generation of the log and fails its checksum.
fn damaged_frame(wal: &[u8]) -> Option<String> {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let word = |at: usize| -> Option<u32> { Some(u32::from_be_bytes(wal.get(at..at + 4)?.try_into().ok()?)) };
    if wal.is_empty() {
        return None;
    }
    let (Some(magic), Some(page)) = (word(0), word(8)) else { return Some("the header".into()) };
    let big_endian = match magic {
        0x377f_0683 => true,
        0x377f_0682 => false,
        // A log that was just created may have an all-zero header.
        0 => return None,
        _ => return Some("the header".into()),
    };
    let mut sum = wal_checksum((0, 0), wal.get(..24)?, big_endian);
    if (word(24), word(28)) != (Some(sum.0), Some(sum.1)) {
        return Some("the header".into());
    }
    let salts = wal.get(16..24)?;
    let size = FRAME_HEADER + usize::try_from(page).ok()?;
    let frames = wal.get(HEADER..)?;
    for (index, frame) in frames.chunks(size).enumerate() {
        if frame.len() < FRAME_HEADER || frame.get(8..16) != Some(salts) {
            // Cut off in its header, or left over from an earlier generation of the log: nothing follows.
            return None;
        }
        if frame.len() < size {
            return Some(format!("frame {} (cut short)", index + 1));
        }
        sum = wal_checksum(sum, &frame[..8], big_endian);
        sum = wal_checksum(sum, &frame[FRAME_HEADER..], big_endian);
        let at = HEADER + index * size + 16;
        if (word(at), word(at + 4)) != (Some(sum.0), Some(sum.1)) {
            return Some(format!("frame {}", index + 1));
        }
    }
    None
}

fn wal_checksum(mut sum: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let read = |word: &[u8]| {
        let word = [word[0], word[1], word[2], word[3]];
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        sum.0 = sum.0.wrapping_add(read(&pair[..4])).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(read(&pair[4..])).wrapping_add(sum.0);
    }
    sum
}

/// Opens the file, brings its schema up to date and checks every event that a consumer may still need.
pub async fn open(path: &Path, clock: &SharedClock, findings: &mut Findings) -> Result<Opened, PortError> {
    match open_and_check(path, clock, findings).await {
        Err(PortError::Permanent(why)) if is_malformed(&why) => {
            findings.0.push(format!("the journal file is damaged: {why}"));
            let failed = |error| PortError::Permanent(format!("{}: {why}, and {error}", path.display()));
            salvage(path, clock, findings).await.map_err(failed)?;
            open_and_check(path, clock, findings).await
        }
        other => other,
    }
}

/// SQLite's word for a file whose structure is broken somewhere (code 11), as against one that is no database at all.
fn is_malformed(why: &str) -> bool {
    why.contains("malformed")
}

async fn open_and_check(
    path: &Path,
    clock: &SharedClock,
    findings: &mut Findings,
) -> Result<Opened, PortError> {
    let mut connection = sqlite::connect(path, &super::options(path)).await?;
    sqlite::migrate(&mut connection, path, MIGRATIONS).await?;
    let sql = "SELECT position FROM positions WHERE consumer_group = $1";
    let position: Option<i64> = sqlx::query_scalar(sql)
        .bind(LEDGER_GROUP)
        .fetch_optional(&mut connection)
        .await
        .map_err(port_error)?;
    let ledger_position = u64::try_from(position.unwrap_or_default()).unwrap_or_default();
    file_the_rest(&mut connection, path, findings).await?;
    quarantine_unreadable(&mut connection, ledger_position, clock, findings).await?;
    let last = archive::last_position(&mut connection).await.map_err(port_error)?;
    Ok(Opened { last, ledger_position })
}

/// Files what the commit log holds, damaged lines included: what becomes of those is decided where all lines are.
async fn file_the_rest(
    connection: &mut SqliteConnection,
    path: &Path,
    findings: &mut Findings,
) -> Result<(), PortError> {
    let (left, damages) = commit_log::read(path)?;
    for damage in damages {
        let copy = beside(&damage.path, ".damaged");
        std::fs::copy(&damage.path, &copy)
            .map_err(|error| PortError::Permanent(format!("{}: {error}", copy.display())))?;
        findings.0.push(format!(
            "the commit log is damaged, or its last write was cut short: bytes {} to {} of {} do not match their \
             checksum; whatever else can be read is kept. The damaged file was copied to {}",
            damage.at.start,
            damage.at.end,
            damage.path.display(),
            copy.display()
        ));
    }
    let generation = sqlx::query_scalar("SELECT generation FROM writer").fetch_one(&mut *connection).await;
    let generation = generation.map_err(port_error)?;
    let filed = archive::file_new(connection, generation, &left).await;
    filed.map_err(|error| match error {
        AppendError::NotDurable(why) if is_malformed(&why) => PortError::Permanent(why),
        error => {
            PortError::Transient(format!("the commit log of {} cannot be filed: {error}", path.display()))
        }
    })
}

/// Moves what is not what was written out of the consumers' way, and reports positions that are gone.
async fn quarantine_unreadable(
    connection: &mut SqliteConnection,
    after: u64,
    clock: &SharedClock,
    findings: &mut Findings,
) -> Result<(), PortError> {
    let (mut expected, mut damaged) = (after + 1, Vec::new());
    let mut rows = sqlx::query(segment::BEHIND).bind(number(after)).fetch(&mut *connection);
    let mut gaps = Vec::new();
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        let segment = Segment::of(&row)?;
        let mut there: BTreeSet<u64> = BTreeSet::new();
        let mut is_damaged = false;
        for line in segment.lines().filter(|line| line.position > after) {
            there.insert(line.position);
            is_damaged |= !is_readable(&line);
        }
        for position in there.into_iter().chain([segment.last + 1]) {
            if position > expected {
                gaps.push((expected, position - 1));
            }
            expected = expected.max(position + 1);
        }
        expected = segment.last.max(after) + 1;
        if is_damaged {
            damaged.push(segment.first);
        }
    }
    drop(rows);
    for (from, to) in gaps {
        let sql = "SELECT count(*) FROM quarantine WHERE position BETWEEN $1 AND $2";
        let query = sqlx::query_scalar(sql).bind(number(from)).bind(number(to));
        let known: i64 = query.fetch_one(&mut *connection).await.map_err(port_error)?;
        if number(to - from + 1) > known {
            findings.0.push(format!("journal positions {from} to {to} are missing"));
        }
    }
    for first in damaged {
        quarantine_lines(connection, first, after, clock, findings).await?;
    }
    Ok(())
}

fn is_readable(line: &Line<'_>) -> bool {
    line.whole && Event::decode(line.kind, line.payload).is_ok()
}

/// Leaves of a segment what is whole, and puts the rest aside.
async fn quarantine_lines(
    connection: &mut SqliteConnection,
    first: u64,
    after: u64,
    clock: &SharedClock,
    findings: &mut Findings,
) -> Result<(), PortError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(port_error)?;
    let query = sqlx::query(segment::AROUND).bind(number(first));
    let row = query.fetch_one(&mut *transaction).await.map_err(port_error)?;
    let segment = Segment::of(&row)?;
    let mut whole = Vec::with_capacity(segment.bytes.len());
    for line in segment.lines().filter(|line| line.position <= after || is_readable(line)) {
        whole.extend_from_slice(line.bytes);
        whole.push(b'\n');
    }
    let kept: BTreeSet<u64> = segment::lines(first, &whole).map(|line| line.position).collect();
    for line in segment.lines().filter(|line| line.position > after && !is_readable(line)) {
        let position = line.position;
        if kept.contains(&position) {
            continue; // a piece that only seems to be that of its neighbour
        }
        let reason = match Event::decode(line.kind, line.payload) {
            Err(error) if line.whole => error.to_string(),
            _ => "does not match its checksum".to_owned(),
        };
        findings.0.push(format!("journal position {position} {reason}; it was put into quarantine"));
        let sql = "INSERT OR IGNORE INTO quarantine (position, found_at, reason, kind, payload) VALUES ($1, $2, $3, $4, $5)";
        let insert = sqlx::query(sql).bind(number(position)).bind(clock.now().micros()).bind(reason);
        let insert = insert.bind(line.kind).bind(line.payload);
        insert.execute(&mut *transaction).await.map_err(port_error)?;
    }
    let rest = sqlx::query("UPDATE segments SET lines = $2 WHERE first = $1").bind(number(first)).bind(whole);
    rest.execute(&mut *transaction).await.map_err(port_error)?;
    transaction.commit().await.map_err(port_error)
}

/// The same rows out of a file that was damaged before it was brought up to date, as the schema's third step makes them.
const BEFORE_SEGMENTS: &str = concat!(
    "(SELECT position AS first, position AS last, CAST(",
    line_of_row!(),
    " AS BLOB) AS lines FROM damaged.journal)"
);

/// Copies what can still be read into a new file and puts it in the place of the damaged one, which is kept aside.
async fn salvage(path: &Path, clock: &SharedClock, findings: &mut Findings) -> Result<(), PortError> {
    let fresh = beside(path, ".salvaged");
    remove(&fresh)?;
    let mut target = sqlite::connect(&fresh, &super::options(&fresh)).await?;
    sqlite::migrate(&mut target, &fresh, MIGRATIONS).await?;
    // Without this SQLite refuses every page of a file that is shorter than its header says.
    sqlx::query("PRAGMA writable_schema = ON").execute(&mut target).await.map_err(port_error)?;
    let attach = sqlx::query("ATTACH DATABASE $1 AS damaged").bind(path.display().to_string());
    attach.execute(&mut target).await.map_err(port_error)?;
    // The small tables first: positions say what consumers already have.
    for table in ["positions", "retries", "dead_letters", "quarantine"] {
        let copy = format!("INSERT OR IGNORE INTO main.{table} SELECT * FROM damaged.{table}");
        if let Err(error) = sqlx::query(sqlx::AssertSqlSafe(copy)).execute(&mut target).await {
            findings.0.push(format!("table {table} of the damaged journal could not be copied: {error}"));
        }
    }
    let found = sqlx::query("SELECT 1 FROM damaged.sqlite_schema WHERE name = 'segments'")
        .fetch_all(&mut target)
        .await;
    let source = match found {
        Ok(found) if found.is_empty() => BEFORE_SEGMENTS,
        _ => "damaged.segments",
    };
    let mut kept = 0;
    // From the front until the damage, then from the back until the damage.
    for order in ["ASC", "DESC"] {
        let mut last: Option<i64> = None;
        loop {
            let bound = match (order, last) {
                (_, None) => String::new(),
                ("ASC", Some(last)) => format!("WHERE first > {last}"),
                (_, Some(last)) => format!("WHERE first < {last}"),
            };
            let sql =
                format!("SELECT first, last, lines FROM {source} {bound} ORDER BY first {order} LIMIT 1");
            let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_optional(&mut target).await;
            let Ok(Some(row)) = row else { break };
            let Ok(segment) = Segment::of(&row) else { break };
            let insert =
                sqlx::query("INSERT OR IGNORE INTO main.segments (first, last, lines) VALUES ($1, $2, $3)");
            let insert = insert.bind(number(segment.first)).bind(number(segment.last)).bind(segment.bytes);
            if insert.execute(&mut target).await.map_err(port_error)?.rows_affected() == 0 {
                break;
            }
            kept += segment.lines().count();
            last = Some(number(segment.first));
        }
    }
    sqlx::query("DETACH DATABASE damaged").execute(&mut target).await.map_err(port_error)?;
    sqlx::Connection::close(target).await.map_err(port_error)?;
    let aside = beside(path, &format!(".damaged-{}", clock.now().micros()));
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        if from.exists() {
            std::fs::rename(&from, &to).map_err(|error| PortError::Permanent(error.to_string()))?;
        }
    }
    std::fs::rename(&fresh, path).map_err(|error| PortError::Permanent(error.to_string()))?;
    findings.0.push(format!(
        "{kept} events were copied out of the damaged journal; the damaged file is kept as {}",
        aside.display()
    ));
    Ok(())
}

fn remove(path: &Path) -> Result<(), PortError> {
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(PortError::Permanent(format!("{}: {error}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

//! How events lie in the journal: what one commit made durable is one row, a segment, with a line for each event:
//!
//! ```text
//! 4711 9bd366ae sales.created {"event_id":"0193a5b2-...",...}
//! ```
//!
//! A row for each event would cost a commit of fifty sales more than its sync does. A line stands for itself (its
//! position, and CRC-32 (IEEE) over position, kind and payload), so that damage to one costs no other. The payload is
//! JSON on one line; whoever looks into the file with `sqlite3` reads it as it is.

use super::{number, port_error};
use crate::domain::event::Event;
use crate::ports::PortError;
use futures_util::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use std::io::Write as _;
use std::sync::Arc;

/// The segments that may have events behind a position ($1): the one it lies in comes first.
pub const BEHIND: &str = "SELECT first, last, lines FROM segments
     WHERE first >= coalesce((SELECT max(first) FROM segments WHERE first <= $1), 0) ORDER BY first";

/// The segment that a position ($1) lies in.
pub const AROUND: &str = "SELECT first, last, lines FROM segments
     WHERE first = (SELECT max(first) FROM segments WHERE first <= $1) AND last >= $1";

/// One event as it lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub position: u64,
    /// The routing key; empty where the line cannot be taken apart.
    pub kind: &'a str,
    /// The JSON, or all of a line that cannot be taken apart.
    pub payload: &'a [u8],
    /// Whether it is what was written.
    pub whole: bool,
    /// All of it, but for its end.
    pub bytes: &'a [u8],
}

impl Line<'_> {
    pub fn event(&self) -> Result<Arc<Event>, PortError> {
        read_event(self.position, self.kind, self.payload)
    }
}

/// An event of the file, from its parts.
pub fn read_event(position: u64, kind: &str, payload: &[u8]) -> Result<Arc<Event>, PortError> {
    let event = Event::decode(kind, payload);
    event.map(Arc::new).map_err(|error| PortError::Permanent(format!("journal position {position}: {error}")))
}

/// Appends an event's line; returns the bytes of its payload.
pub fn push(lines: &mut Vec<u8>, position: u64, event: &Event) -> Result<usize, serde_json::Error> {
    let kind = event.body.kind().as_str();
    write!(lines, "{position} ").map_err(serde_json::Error::io)?;
    let sum_at = lines.len();
    write!(lines, "00000000 {kind} ").map_err(serde_json::Error::io)?;
    let start = lines.len();
    event.encode(lines)?;
    let sum = checksum(position, kind, &lines[start..]);
    lines[sum_at..sum_at + sum.len()].copy_from_slice(&sum);
    let bytes = lines.len() - start;
    lines.push(b'\n');
    Ok(bytes)
}

/// The lines of a segment that begins at `first`. One that is not what was written has the position that its place says.
pub fn lines(first: u64, lines: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut next = first;
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(move |bytes| {
        let line = match take_apart(bytes) {
            Some(line) if line.whole => line,
            Some(line) => Line { position: next, ..line },
            None => Line { position: next, kind: "", payload: bytes, whole: false, bytes },
        };
        next = line.position.saturating_add(1);
        line
    })
}

fn take_apart(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (position, sum, kind, payload) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let position = std::str::from_utf8(position).ok()?.parse().ok()?;
    let kind = std::str::from_utf8(kind).ok()?;
    Some(Line { position, kind, payload, whole: sum == checksum(position, kind, payload), bytes: line })
}

fn checksum(position: u64, kind: &str, payload: &[u8]) -> [u8; 8] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&position.to_be_bytes());
    crc.update(kind.as_bytes());
    crc.update(&[0]);
    crc.update(payload);
    hexadecimal(crc.finalize())
}

/// A sum as it is written.
pub fn hexadecimal(sum: u32) -> [u8; 8] {
    [28, 24, 20, 16, 12, 8, 4, 0].map(|at| b"0123456789abcdef"[(sum >> at & 0xf) as usize])
}

/// A row of [`BEHIND`] or [`AROUND`].
pub struct Segment<'a> {
    pub first: u64,
    pub last: u64,
    pub bytes: &'a [u8],
}

impl<'a> Segment<'a> {
    pub fn of(row: &'a SqliteRow) -> Result<Self, PortError> {
        let first: i64 = row.try_get(0).map_err(port_error)?;
        let last: i64 = row.try_get(1).map_err(port_error)?;
        let bytes = row.try_get(2).map_err(port_error)?;
        Ok(Self { first: first.unsigned_abs(), last: last.unsigned_abs(), bytes })
    }

    /// Garbage may have ends of lines in it: what would be behind the last line is a piece of one before.
    pub fn lines(&self) -> impl Iterator<Item = Line<'a>> + use<'a> {
        let last = self.last;
        lines(self.first, self.bytes).filter(move |line| line.position <= last)
    }
}

/// The next events behind a position, at most `max`.
pub async fn events_behind(
    connection: &mut SqliteConnection,
    position: u64,
    max: usize,
) -> Result<Vec<(u64, Arc<Event>)>, PortError> {
    let mut found = Vec::new();
    let mut rows = sqlx::query(BEHIND).bind(number(position)).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(port_error)? {
        for line in Segment::of(&row)?.lines().filter(|line| line.position > position) {
            found.push((line.position, line.event()?));
            if found.len() == max {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Shop;

    fn written(events: &[Arc<Event>], first: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (position, event) in (first..).zip(events) {
            push(&mut bytes, position, event).unwrap();
        }
        bytes
    }

    fn three() -> (Vec<Arc<Event>>, Vec<u8>) {
        let mut shop = Shop::new(1);
        let events: Vec<_> = (0..3).map(|_| shop.sold(1)).collect();
        let bytes = written(&events, 7);
        (events, bytes)
    }

    #[test]
    fn what_was_written_is_read() {
        let (events, bytes) = three();
        let read: Vec<_> = lines(7, &bytes).collect();
        assert!(read.iter().all(|line| line.whole && line.kind == "sales.created"));
        assert_eq!(read.iter().map(|line| line.position).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(read.iter().map(|line| line.event().unwrap()).collect::<Vec<_>>(), events);
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!(text.lines().count(), 3, "a line for each");
    }

    #[test]
    fn whatever_byte_changes_the_other_lines_are_whole() {
        let (_, bytes) = three();
        let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        let (from, to) = (ends.next().unwrap() + 1, ends.next().unwrap());
        for at in from..to {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let whole: Vec<u64> =
                    lines(7, &damaged).filter(|line| line.whole).map(|line| line.position).collect();
                assert_eq!(whole, [7, 9], "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn garbage_with_ends_of_lines_in_it_is_no_more_lines_than_there_were() {
        let (_, mut bytes) = three();
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        bytes[at..].chunks_mut(9).for_each(|piece| piece[0] = b'\n');
        let segment = Segment { first: 7, last: 9, bytes: &bytes };
        let read: Vec<_> = segment.lines().map(|line| (line.position, line.whole)).collect();
        assert_eq!(read, [(7, true), (8, false), (9, false)]);
    }

    #[test]
    fn a_damaged_line_has_the_position_of_its_place() {
        let (_, bytes) = three();
        for damage in ["\nx ", "\n9 ", "\n80000"] {
            let text = String::from_utf8(bytes.clone()).unwrap().replacen("\n8 ", damage, 1);
            let read: Vec<_> = lines(7, text.as_bytes()).map(|line| (line.position, line.whole)).collect();
            assert_eq!(read, [(7, true), (8, false), (9, true)]);
        }
    }
}

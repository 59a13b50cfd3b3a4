//! Where a commit is written first: two files of a fixed size, written over and over, in turns.
//!
//! What a till waits for is one write and one sync of bytes that have their place on the disk already. A row in the
//! table would be six pages for the same, half of them the table's own, and twenty calls. Beside the commits the log
//! files what was written here into the table ([`super::archive`]), many commits in one transaction, and goes on in the
//! other file. A file is written over only when all that is in it has been filed.
//!
//! A batch, as it lies in a file:
//!
//! ```text
//! batch 4711 4740 15234 1c2d3e4f 9bd366ae
//! 4711 9bd366ae sales.created {"event_id":"0193a5b2-...",...}
//! ...
//! end
//! ```
//!
//! The numbers are its first and last position and the bytes of its lines; the sums are CRC-32 (IEEE) of the lines and
//! of the head before it. The next batch is written over the `end`, and what lies behind that is from an earlier turn.

use super::segment::{Segment, hexadecimal};
use crate::ports::PortError;
use crate::ports::bus::AppendError;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The size of a file. While one is being filed the other takes the commits; when that is full, they wait.
pub const FILE_BYTES: usize = 1 << 20;

const END: &[u8] = b"end\n";
const HEAD: &[u8] = b"batch ";
/// Three numbers of twenty digits at most, two sums, and what is between them.
const LONGEST_HEAD: usize = 6 + 3 * 21 + 2 * 9;

/// The files of a journal's commit log.
pub fn paths(journal: &Path) -> [PathBuf; 2] {
    ["-log0", "-log1"].map(|suffix| super::beside(journal, suffix))
}

/// Where in the files the next batch goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    file: usize,
    offset: usize,
}

impl Place {
    /// The beginning of the other file.
    pub fn other_file(self) -> Self {
        Self { file: 1 - self.file, offset: 0 }
    }

    /// Whether a written batch of this size would end within the file.
    pub fn has_room_for(self, batch: usize) -> bool {
        self.offset + batch <= FILE_BYTES
    }

    /// Behind a written batch of this size; the next one is written over its end.
    pub fn behind(self, batch: usize) -> Self {
        Self { offset: self.offset + batch - END.len(), ..self }
    }
}

/// A batch that lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub first: u64,
    pub last: u64,
    /// As they lie in a segment. A line of one that was damaged may not be whole.
    pub lines: Vec<u8>,
}

impl Batch {
    /// As readers take it.
    pub fn segment(&self) -> Segment<'_> {
        Segment { first: self.first, last: self.last, bytes: &self.lines }
    }
}

/// Appends a batch as it lies in a file.
pub fn push(to: &mut Vec<u8>, first: u64, last: u64, lines: &[u8]) {
    let at = to.len();
    to.extend_from_slice(HEAD);
    // Writing into memory does not fail.
    write!(to, "{first} {last} {} ", lines.len()).ok();
    to.extend_from_slice(&hexadecimal(crc32fast::hash(lines)));
    let sum = crc32fast::hash(&to[at..]);
    to.push(b' ');
    to.extend_from_slice(&hexadecimal(sum));
    to.push(b'\n');
    to.extend_from_slice(lines);
    to.extend_from_slice(END);
}

/// The two files, open for writing. A blocking call each: not on the thread that sells.
pub struct CommitLog {
    files: [File; 2],
    /// A write whose log was dropped may still be on its way; the number of a newer log stops it.
    generation: u64,
}

impl CommitLog {
    /// Opens the files; makes them, all zeros, where they are not there.
    pub fn open(journal: &Path) -> io::Result<Self> {
        let [one, other] = paths(journal);
        let files = [open(&one)?, open(&other)?];
        if let Some(directory) = journal.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        Ok(Self { files, generation: 0 })
    }

    /// Whoever has the number that is returned may write, and nobody else any more.
    pub fn take_over(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Says that nothing is in the files: all of it was filed.
    pub fn clear(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| {
            file.write_all_at(END, 0)?;
            file.sync_data()
        })
    }

    /// Makes a batch durable.
    pub fn write(&self, generation: u64, at: Place, batch: &[u8]) -> Result<(), AppendError> {
        if generation != self.generation {
            return Err(AppendError::InDoubt("another log has taken over the journal".into()));
        }
        let (file, offset) = (&self.files[at.file], at.offset as u64);
        let Err(error) = file.write_all_at(batch, offset).and_then(|()| file.sync_data()) else {
            return Ok(());
        };
        // Only with the end before it again it is certain that nobody will read it.
        match file.write_all_at(END, offset).and_then(|()| file.sync_data()) {
            Err(second) => Err(AppendError::InDoubt(format!("{error}; then {second}"))),
            Ok(()) if error.kind() == ErrorKind::StorageFull => Err(AppendError::Full(error.to_string())),
            Ok(()) => Err(AppendError::NotDurable(error.to_string())),
        }
    }
}

/// Zeros are written, not only promised: a place that is new to the file system is noted in its own journal at the
/// first sync, which a commit would have to wait for.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length < FILE_BYTES {
        file.write_all_at(&vec![0; FILE_BYTES - length], length as u64)?;
        file.sync_all()?;
    }
    Ok(file)
}

/// What is in the files, in the order of positions, and what cannot be read, in words. Batches that were filed long ago
/// may be among them.
pub fn read(journal: &Path) -> Result<(Vec<Batch>, Vec<Damage>), PortError> {
    let (mut batches, mut damages) = (Vec::new(), Vec::new());
    for path in paths(journal) {
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            read => read.map_err(|error| PortError::Permanent(format!("{}: {error}", path.display())))?,
        };
        let (found, damaged) = take_apart(&bytes);
        batches.extend(found);
        damages.extend(damaged.into_iter().map(|at| Damage { path: path.clone(), at }));
    }
    batches.sort_by_key(|batch| batch.first);
    Ok((batches, damages))
}

/// A part of a file that is not what was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    pub at: Range<usize>,
}

/// Takes the files away; they have been filed.
pub fn remove(journal: &Path) -> io::Result<()> {
    for path in paths(journal) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// The batches of a file, and the parts that are none.
///
/// A batch that does not match its sum was written whole when another one follows it; its lines tell which of them are
/// damaged. When none follows it was cut short, or is damaged: nobody knows, and it does not count.
fn take_apart(bytes: &[u8]) -> (Vec<Batch>, Vec<Range<usize>>) {
    let (mut batches, mut damaged) = (Vec::new(), Vec::new());
    let (mut at, mut last) = (0, 0);
    while bytes.get(at).is_some_and(|byte| *byte != 0) && !bytes[at..].starts_with(END) {
        // What is older lay here in an earlier turn.
        let newer = |head: &Head| head.first > last;
        let Some(head) = Head::at(bytes, at).filter(newer) else {
            let next =
                heads_behind(bytes, at).find(|next| Head::at(bytes, *next).is_some_and(|it| newer(&it)));
            damaged.push(at..next.unwrap_or(bytes.len()));
            let Some(next) = next else { break };
            at = next;
            continue;
        };
        let end = head.lines.end;
        let lines = &bytes[head.lines];
        let is_whole = crc32fast::hash(lines) == head.sum;
        if !is_whole {
            damaged.push(at..end);
            if Head::at(bytes, end).is_none_or(|next| next.first != head.last + 1) {
                break;
            }
        }
        batches.push(Batch { first: head.first, last: head.last, lines: lines.to_vec() });
        (at, last) = (end, head.last);
    }
    (batches, damaged)
}

/// Where heads may begin behind a place: at the beginning of lines.
fn heads_behind(bytes: &[u8], at: usize) -> impl Iterator<Item = usize> {
    let lines = bytes[at..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    lines.map(move |(line, _)| at + line + 1).filter(|at| bytes[*at..].starts_with(HEAD))
}

struct Head {
    first: u64,
    last: u64,
    /// Of the lines.
    sum: u32,
    lines: Range<usize>,
}

impl Head {
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let rest = bytes.get(at..bytes.len().min(at + LONGEST_HEAD))?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        let text = std::str::from_utf8(&rest[..length]).ok()?;
        let (head, sum) = text.rsplit_once(' ')?;
        if sum.as_bytes() != hexadecimal(crc32fast::hash(head.as_bytes())) {
            return None;
        }
        let mut fields = head.strip_prefix("batch ")?.split(' ');
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (first, last, bytes_of_lines) = (number()?, number()?, usize::try_from(number()?).ok()?);
        let sum = u32::from_str_radix(fields.next()?, 16).ok()?;
        let begin = at + length + 1;
        let end = begin.checked_add(bytes_of_lines).filter(|end| *end <= bytes.len())?;
        Some(Self { first, last, sum, lines: begin..end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(first: u64, last: u64) -> Vec<u8> {
        (first..=last).flat_map(|position| format!("{position} 00000000 test {{}}\n").into_bytes()).collect()
    }

    /// A file into which these batches were written one behind the other, over what was there.
    fn written(mut file: Vec<u8>, batches: &[(u64, u64)]) -> Vec<u8> {
        let mut at = Place::default();
        for (first, last) in batches {
            let mut batch = Vec::new();
            push(&mut batch, *first, *last, &lines(*first, *last));
            file[at.offset..at.offset + batch.len()].copy_from_slice(&batch);
            at = at.behind(batch.len());
        }
        file
    }

    fn positions(batches: &[Batch]) -> Vec<(u64, u64)> {
        batches.iter().map(|batch| (batch.first, batch.last)).collect()
    }

    #[test]
    fn what_was_written_is_read_and_nothing_from_an_earlier_turn() {
        let earlier = written(vec![0; 4_096], &[(1, 9), (10, 30), (31, 40)]);
        assert_eq!(positions(&take_apart(&earlier).0), [(1, 9), (10, 30), (31, 40)]);
        for batches in [&[(41, 44)][..], &[(41, 44), (45, 45)], &[]] {
            let file = written(earlier.clone(), batches);
            let (found, damaged) = take_apart(&file);
            if !batches.is_empty() {
                assert_eq!((positions(&found).as_slice(), damaged.as_slice()), (batches, &[][..]));
                assert!(found.iter().all(|batch| batch.lines == lines(batch.first, batch.last)));
            }
        }
    }

    #[test]
    fn whatever_bit_changes_the_batches_before_and_behind_are_read() {
        let batches = [(41, 44), (45, 46), (47, 50)];
        let file = written(written(vec![0; 4_096], &[(1, 9), (10, 30)]), &batches);
        let (whole, _) = take_apart(&file);
        let mut head = 0;
        for (index, batch) in whole.iter().enumerate() {
            let mut bytes = Vec::new();
            push(&mut bytes, batch.first, batch.last, &batch.lines);
            let end = head + bytes.len() - END.len();
            for bit in head * 8..end * 8 {
                let mut damaged = file.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let (found, parts) = take_apart(&damaged);
                assert!(!parts.is_empty(), "bit {bit} is not noticed");
                for (other, expected) in whole.iter().enumerate().filter(|(other, _)| *other != index) {
                    assert!(found.contains(expected), "bit {bit} of batch {index} costs batch {other}");
                }
            }
            head = end;
        }
    }

    /// Power is lost while the last batch is written: any of its pages may be missing.
    #[test]
    fn a_batch_that_was_cut_short_does_not_count() {
        let before = written(written(vec![0; 4_096], &[(1, 9), (10, 60)]), &[(61, 64)]);
        let after = written(before.clone(), &[(61, 64), (65, 90)]);
        let mut first = Vec::new();
        push(&mut first, 61, 64, &lines(61, 64));
        let from = first.len() - END.len();
        let mut second = Vec::new();
        push(&mut second, 65, 90, &lines(65, 90));
        let to = from + second.len();
        for cut in from..=to {
            for missing in [from..cut, cut..to] {
                let mut torn = after.clone();
                torn[missing.clone()].copy_from_slice(&before[missing.clone()]);
                // Its end is not missed when all else is there.
                let is_whole = torn[..to - END.len()] == after[..to - END.len()];
                let expected: &[(u64, u64)] = if is_whole { &[(61, 64), (65, 90)] } else { &[(61, 64)] };
                assert_eq!(positions(&take_apart(&torn).0), expected, "{missing:?} missing");
            }
        }
    }

    #[test]
    fn a_write_that_fails_and_cannot_be_taken_back_is_in_doubt() {
        let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
        let log = CommitLog { files: [full(), full()], generation: 0 };
        let failed = log.write(0, Place::default(), b"batch");
        assert!(matches!(failed, Err(AppendError::InDoubt(_))), "{failed:?}");
    }

    #[test]
    fn a_log_that_was_replaced_writes_nothing_and_a_cleared_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal.db");
        let mut log = CommitLog::open(&journal).unwrap();
        let (old, new) = (log.take_over(), log.take_over());
        let mut batch = Vec::new();
        push(&mut batch, 1, 3, &lines(1, 3));
        let refused = log.write(old, Place::default(), &batch);
        assert!(matches!(refused, Err(AppendError::InDoubt(_))), "{refused:?}");
        assert_eq!(read(&journal).unwrap(), (vec![], vec![]));
        log.write(new, Place::default().other_file(), &batch).unwrap();
        assert_eq!(positions(&read(&journal).unwrap().0), [(1, 3)]);
        // Another one that opens it finds it as it is.
        drop(CommitLog::open(&journal).unwrap());
        assert_eq!(positions(&read(&journal).unwrap().0), [(1, 3)]);
        log.clear().unwrap();
        assert_eq!(read(&journal).unwrap(), (vec![], vec![]));
        remove(&journal).unwrap();
        assert!(!paths(&journal)[1].exists());
    }
}

//! The writing end of the journal: group commit into the commit log, and filing beside it.

use super::archive::{self, Archive};
use super::commit_log::{self, Batch, FILE_BYTES, Place};
use super::{Shared, segment};
use crate::domain::event::Event;
use crate::ports::PortError;
use crate::ports::bus::{AppendError, EventLog};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes at which what is in the commit log is filed.
const FILE_AT: usize = 256 << 10;

/// A batch beyond this is filed at once, without the commit log: a whole catalogue, and no till waits for it.
const LARGE: usize = FILE_BYTES / 2;

/// The writer. There is one at a time: it belongs to the journal writer actor.
pub struct Log {
    shared: Arc<Shared>,
    /// Whose writes the commit log takes.
    generation: u64,
    /// Where the next batch goes.
    place: Place,
    /// Whether the file that is not written now holds what is not filed yet.
    other_is_taken: bool,
    /// None while something is being filed.
    archive: Option<Archive>,
    filing: Option<JoinHandle<Filed>>,
    /// What the commit log holds and nobody files yet.
    unfiled: Vec<Batch>,
    lines: Vec<u8>,
    sizes: Vec<usize>,
}

/// What comes back from filing.
struct Filed {
    archive: Archive,
    segments: Vec<Batch>,
    result: Result<(), AppendError>,
}

impl Log {
    /// Takes over where the journal ends.
    pub async fn open(shared: Arc<Shared>) -> Result<Self, PortError> {
        let mut archive = Archive::open(shared.clone()).await?;
        let opened = shared.clone();
        let taken = spawn_blocking(move || {
            // A write that is under way has the lock until it is over; later ones of an older log are refused.
            let generation = opened.commit_log().take_over();
            commit_log::read(&opened.path).map(|(left, damages)| (generation, left, damages))
        });
        let (generation, left, damages) =
            taken.await.map_err(|error| PortError::Transient(error.to_string()))??;
        // After an append in doubt there may be more than was announced.
        let last = archive.take_over(&left).await.map_err(|error| PortError::Transient(error.to_string()))?;
        if !(left.is_empty() && damages.is_empty()) {
            let filed = shared.clone();
            let cleared =
                spawn_blocking(move || filed.commit_log().clear()).await.map_err(std::io::Error::from);
            cleared.flatten().map_err(|error| PortError::Transient(error.to_string()))?;
        }
        shared.tail().skip_to(last);
        shared.tail().filed(last);
        shared.durable.send_if_modified(|durable| {
            let more = last > *durable;
            *durable = (*durable).max(last);
            more
        });
        Ok(Self {
            shared,
            generation,
            place: Place::default(),
            other_is_taken: false,
            archive: Some(archive),
            filing: None,
            unfiled: Vec::new(),
            lines: Vec::new(),
            sizes: Vec::new(),
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
        if self.filing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.take_back().await?;
        }
        if self.is_stuck() {
            self.file_all().await?;
        }
        self.encode(batch, durable + 1)?;
        let last = durable + batch.len() as u64;
        if self.lines.len() > LARGE {
            self.file_at_once(durable + 1, last).await?;
        } else {
            self.write(durable + 1, last).await?;
        }
        let mut tail = self.shared.tail();
        for ((position, event), bytes) in (durable + 1..).zip(batch).zip(&self.sizes) {
            tail.push(position, event.clone(), *bytes);
        }
        drop(tail);
        self.shared.durable.send_replace(last);
        let unfiled: usize = self.unfiled.iter().map(|segment| segment.lines.len()).sum();
        if unfiled >= FILE_AT && self.archive.is_some() {
            self.start_filing();
        }
        Ok(())
    }

    /// Whether what is in the commit log could not be filed. While it is so, nothing more comes in.
    fn is_stuck(&self) -> bool {
        self.other_is_taken && self.filing.is_none()
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

    /// Writes the lines into the commit log, one write and one sync.
    async fn write(&mut self, first: u64, last: u64) -> Result<(), AppendError> {
        let mut batch = Vec::with_capacity(self.lines.len() + 128);
        commit_log::push(&mut batch, first, last, &self.lines);
        if !self.place.has_room_for(batch.len()) {
            self.file_all().await?;
            self.place = self.place.other_file();
        }
        let (shared, generation, place, bytes) =
            (self.shared.clone(), self.generation, self.place, batch.len());
        let written = spawn_blocking(move || shared.commit_log().write(generation, place, &batch));
        // A thread that did not come to its end may have written.
        written.await.map_err(|error| AppendError::InDoubt(error.to_string()))??;
        self.place = place.behind(bytes);
        archive::gather(&mut self.unfiled, first, last, &self.lines);
        Ok(())
    }

    async fn file_at_once(&mut self, first: u64, last: u64) -> Result<(), AppendError> {
        self.file_all().await?;
        let lines = std::mem::take(&mut self.lines);
        self.unfiled.push(Batch { first, last, lines });
        self.start_filing();
        let Err(error) = self.take_back().await else { return Ok(()) };
        // It is in no commit log, so it is not kept for another try.
        self.unfiled.clear();
        self.other_is_taken = false;
        // A failed statement is rolled back; only seeing that it is gone makes that certain.
        let filed = match &mut self.archive {
            Some(archive) => archive.last_filed().await.ok(),
            None => None,
        };
        if filed.is_some_and(|filed| filed < first) {
            return Err(error);
        }
        Err(AppendError::InDoubt(error.to_string()))
    }

    /// Files what the commit log holds, while commits go on in its other file.
    fn start_filing(&mut self) {
        let Some(mut archive) = self.archive.take() else { return };
        if !self.other_is_taken {
            self.place = self.place.other_file();
            self.other_is_taken = true;
        }
        let segments = std::mem::take(&mut self.unfiled);
        self.filing = Some(tokio::spawn(async move {
            let result = archive.file(&segments).await;
            Filed { archive, segments, result }
        }));
    }

    /// Waits for the end of what is being filed.
    async fn take_back(&mut self) -> Result<(), AppendError> {
        let Some(filing) = self.filing.as_mut() else { return Ok(()) };
        let joined = filing.await;
        self.filing = None;
        let filed = joined.map_err(|panic| AppendError::InDoubt(panic.to_string()))?;
        self.archive = Some(filed.archive);
        match filed.result {
            Ok(()) => self.other_is_taken = false,
            Err(_) => drop(self.unfiled.splice(..0, filed.segments)),
        }
        filed.result
    }

    /// Files all that the commit log holds.
    async fn file_all(&mut self) -> Result<(), AppendError> {
        // What failed is tried again below.
        if let Err(error @ AppendError::InDoubt(_)) = self.take_back().await {
            return Err(error);
        }
        if self.is_lost() {
            return Err(AppendError::InDoubt("what was being filed was lost".into()));
        }
        if self.unfiled.is_empty() {
            return Ok(());
        }
        self.start_filing();
        self.take_back().await
    }
}

impl EventLog for Log {
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>> {
        self.append_batch(batch).boxed()
    }

    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            let mut filed = self.file_all().await;
            if let Some(archive) = &mut self.archive {
                archive.write_positions().await?;
                archive.trim().await?;
            }
            if filed.is_err() && !self.is_lost() {
                // That may have made room.
                filed = self.file_all().await;
            }
            filed.map_err(|error| PortError::Transient(error.to_string()))
        }
        .boxed()
    }

    /// The task that filed did not come to its end, and has taken the file with it.
    fn is_lost(&self) -> bool {
        self.archive.is_none() && self.filing.is_none()
    }
}

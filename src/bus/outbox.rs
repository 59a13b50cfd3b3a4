//! A log that goes on while its bus takes nothing: events wait in an outbox, durable, and are published from there.
//!
//! ```text
//!   direct   append -> bus.               The bus fails:              -> away
//!   away     append -> outbox.            The bus is open again and the outbox is empty: -> direct
//! ```
//!
//! Nothing goes to the bus past an event that waits, so the order stays. What is in doubt at the bus goes to the outbox
//! too, under the number it has: twice on the bus, it is once in the ledger. The outbox has one owner, and whoever opens
//! the log (he has the claim) takes it over first and publishes what the one before left; then that one can put nothing
//! in any more, finds out at his next event, and is lost.
//!
//! The outbox may lose what is in it, like everything in the hot tier. What waits is therefore also in memory, and is put
//! in again: it is lost only when the outbox is emptied and this process ends before the bus is back.

use crate::domain::event::Event;
use crate::ports::bus::{AppendError, EventLog};
use crate::ports::outbox::{Outbox, OutboxError};
use crate::ports::{Open, PortError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinHandle;

/// Events that are published or put in together. A batch that is larger is an import; it needs the bus.
pub const CHUNK: usize = 4_096;

/// Chunks that are published between two looks at what else there is to do.
const CHUNKS_AT_ONCE: usize = 4;

/// Times that a batch is put in when the outbox does not answer, or has lost something.
const TRIES: usize = 3;

/// What an outbox is for.
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    /// Whether it takes events while the bus is away. If not, only what was left in it is published.
    pub takes: bool,
    /// Events in it at most.
    pub most: usize,
}

/// A log with an outbox.
pub struct WithOutbox {
    settings: OutboxSettings,
    open: Open<Box<dyn EventLog>>,
    /// None while the bus is away.
    log: Option<Box<dyn EventLog>>,
    opening: Option<JoinHandle<Result<Box<dyn EventLog>, PortError>>>,
    outbox: Box<dyn Outbox>,
    /// What is in the outbox and not on the bus, oldest first.
    waiting: VecDeque<Arc<Event>>,
    lost: bool,
    count: Arc<AtomicU64>,
}

impl WithOutbox {
    /// Opens the bus's log, takes the outbox over and publishes what is in it. `count` tells how many wait.
    pub async fn open(
        open: Open<Box<dyn EventLog>>,
        mut outbox: Box<dyn Outbox>,
        settings: OutboxSettings,
        count: Arc<AtomicU64>,
    ) -> Result<Self, PortError> {
        let log = open().await?;
        let left = outbox.take_over().await.map_err(|error| PortError::Transient(error.to_string()))?;
        let waiting = VecDeque::from(left);
        if !waiting.is_empty() {
            tracing::info!(events = waiting.len(), "publishing what was left in the outbox");
        }
        let mut this =
            Self { settings, open, log: Some(log), opening: None, outbox, waiting, lost: false, count };
        while !this.waiting.is_empty() {
            this.publish_chunk().await?;
        }
        match this.lost {
            false => Ok(this),
            true => Err(PortError::Transient("another node has taken the outbox over".into())),
        }
    }

    async fn append_batch(&mut self, batch: &[Arc<Event>]) -> Result<(), AppendError> {
        if self.lost {
            return Err(AppendError::NotDurable("another node has taken the outbox over".into()));
        }
        let mut in_doubt = None;
        if let Some(log) = self.log.as_mut().filter(|_| self.waiting.is_empty()) {
            let error = match log.append(batch).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Refused for its own sake, or nowhere else to go.
            if !log.is_lost() || !self.settings.takes {
                return Err(error);
            }
            if let AppendError::InDoubt(why) = &error {
                in_doubt = Some(why.clone());
            }
            self.go_away(&error.to_string());
        }
        let put = self.put(batch).await;
        put.map_err(|error| match (error, in_doubt) {
            (AppendError::NotDurable(why) | AppendError::Full(why), Some(doubt)) => {
                AppendError::InDoubt(format!("{doubt}; {why}"))
            }
            (error, _) => error,
        })
    }

    async fn put(&mut self, batch: &[Arc<Event>]) -> Result<(), AppendError> {
        if batch.len() > CHUNK {
            return Err(AppendError::NotDurable(
                "so many events at once need the bus, and it is away".into(),
            ));
        }
        if self.waiting.len() + batch.len() > self.settings.most {
            return Err(AppendError::Full("the outbox is full, and the bus is away".into()));
        }
        let mut in_doubt = None;
        for _ in 0..TRIES {
            match self.outbox.put(batch).await {
                Ok(()) => {
                    self.keep(batch);
                    return Ok(());
                }
                Err(OutboxError::TakenOver) => {
                    self.lost = true;
                    return Err(doubt_or(in_doubt, "another node has taken the outbox over".into()));
                }
                Err(OutboxError::Port(error)) if !error.is_transient() => {
                    return Err(doubt_or(in_doubt, error.to_string()));
                }
                Err(OutboxError::Port(error)) => in_doubt = Some(error.to_string()),
                Err(OutboxError::Lost) => tracing::warn!("the outbox has lost events; putting them in again"),
            }
            // What is there says what became of it.
            match self.put_right(batch).await {
                Ok(true) => {
                    self.keep(batch);
                    return Ok(());
                }
                Ok(false) => in_doubt = None,
                Err(error) => {
                    self.lost |= matches!(error, OutboxError::TakenOver);
                    in_doubt.get_or_insert_with(|| error.to_string());
                }
            }
        }
        Err(doubt_or(in_doubt, "the outbox does not keep what is put in".into()))
    }

    fn keep(&mut self, batch: &[Arc<Event>]) {
        self.waiting.extend(batch.iter().cloned());
        self.tell();
    }

    /// Makes the outbox hold exactly what waits, in order, unless it holds that with the batch behind it: true then.
    async fn put_right(&mut self, batch: &[Arc<Event>]) -> Result<bool, OutboxError> {
        let there = self.outbox.take_over().await?;
        let is = |events: &mut dyn Iterator<Item = &Arc<Event>>| {
            events.map(|event| event.id).eq(there.iter().map(|event| event.id))
        };
        if is(&mut self.waiting.iter().chain(batch)) {
            return Ok(true);
        }
        if !is(&mut self.waiting.iter()) {
            self.outbox.published(there.len()).await?;
            let waiting: Vec<_> = self.waiting.iter().cloned().collect();
            for chunk in waiting.chunks(CHUNK) {
                self.outbox.put(chunk).await?;
            }
        }
        Ok(false)
    }

    /// The bus does not take events any more; another log is opened beside.
    fn go_away(&mut self, why: &str) {
        tracing::warn!(why, "the bus is away; events wait in the outbox");
        self.log = None;
        self.reopen();
    }

    fn reopen(&mut self) {
        self.opening = Some(tokio::spawn((self.open)()));
    }

    /// Publishes some of what waits, once the bus is back.
    async fn catch_up(&mut self) -> Result<(), PortError> {
        if self.log.is_none() {
            let opened = match &mut self.opening {
                Some(opening) => opening.now_or_never(),
                None => {
                    self.reopen();
                    None
                }
            };
            match opened {
                None => return Ok(()),
                Some(Ok(Ok(log))) => {
                    (self.log, self.opening) = (Some(log), None);
                    self.still_owned().await?;
                }
                Some(failed) => {
                    self.opening = None;
                    if let Ok(Err(error)) = failed {
                        return Err(error);
                    }
                }
            }
        }
        for _ in 0..CHUNKS_AT_ONCE {
            if self.lost || self.log.is_none() || self.waiting.is_empty() {
                break;
            }
            self.publish_chunk().await?;
            if self.waiting.is_empty() {
                tracing::info!("the bus has everything that waited in the outbox");
            }
        }
        Ok(())
    }

    /// Whoever had the claim meanwhile has taken the outbox over, and published what was in it.
    async fn still_owned(&mut self) -> Result<(), PortError> {
        let owned = self.outbox.published(0).await;
        let checked = self.checked(owned).await;
        if checked.is_err() {
            self.log = None;
        }
        checked
    }

    async fn checked(&mut self, done: Result<(), OutboxError>) -> Result<(), PortError> {
        let done = match done {
            Err(OutboxError::Lost) => self.put_right(&[]).await.map(drop),
            done => done,
        };
        match done {
            Ok(()) => Ok(()),
            Err(OutboxError::TakenOver) => {
                self.lost = true;
                Ok(())
            }
            Err(error) => Err(PortError::Transient(error.to_string())),
        }
    }

    async fn publish_chunk(&mut self) -> Result<(), PortError> {
        let Some(log) = self.log.as_mut() else { return Ok(()) };
        let chunk: Vec<_> = self.waiting.iter().take(CHUNK).cloned().collect();
        if let Err(error) = log.append(&chunk).await {
            if log.is_lost() {
                self.log = None;
            }
            return Err(PortError::Transient(error.to_string()));
        }
        self.waiting.drain(..chunk.len());
        self.tell();
        // What is not taken out is published again by whoever finds it there, and ignored by the ledger.
        let taken = self.outbox.published(chunk.len()).await;
        self.checked(taken).await
    }

    fn tell(&self) {
        self.count.store(self.waiting.len() as u64, Ordering::Relaxed);
    }
}

fn doubt_or(in_doubt: Option<String>, why: String) -> AppendError {
    match in_doubt {
        Some(doubt) => AppendError::InDoubt(format!("{doubt}; {why}")),
        None => AppendError::NotDurable(why),
    }
}

impl Drop for WithOutbox {
    fn drop(&mut self) {
        if let Some(opening) = &self.opening {
            opening.abort();
        }
        self.count.store(0, Ordering::Relaxed);
    }
}

impl EventLog for WithOutbox {
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>> {
        self.append_batch(batch).boxed()
    }

    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            if let Some(log) = self.log.as_mut().filter(|_| self.waiting.is_empty()) {
                let kept = log.maintain().await;
                if self.settings.takes && log.is_lost() {
                    self.go_away("its connection is closed");
                    return Ok(());
                }
                return kept;
            }
            self.catch_up().await
        }
        .boxed()
    }

    fn is_lost(&self) -> bool {
        self.lost || (!self.settings.takes && self.log.as_ref().is_none_or(|log| log.is_lost()))
    }

    fn has_arrived(&self) -> bool {
        self.waiting.is_empty() && self.log.is_some()
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

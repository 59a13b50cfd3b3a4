//! The legacy poller: follows one old ERP, so that what changes there is stock here within seconds.
//!
//! Owns the reading end of one ERP ([`ErpSource`]). It decides nothing about stock: it reads, asks the tenant's shard to
//! take in what it read, and goes on once that is durable. What is known of the ERP is the shard's; a poller that is
//! rebuilt asks it where to go on, and reading something twice changes nothing.
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`]; it drives itself, one statement at a time |
//! | restart | with back-off; connects afresh and goes on from the durable cursor |
//! | messages in | its own, and [`Msg::Run`] from the edge |
//! | messages out | [`reservation::Msg::Follow`] to the shard of its tenant, one at a time, each answered first |
//!
//! A poll is one round trip: the ERP's clock, changed balances with their products, changed products, and once more
//! what was applied lately, for a scan without locks may have seen what was rolled back. The first time everything is
//! read, page by page; so it is once a day, which finds what no moment tells: deleted rows, rows without a date, rows
//! dated back. Polls go on between the pages.

mod board;
mod pollers;
mod scan;
#[cfg(test)]
mod tests;

pub use board::{Board, Numbers, SourceStatus};
pub use pollers::{Poller, Pollers};

use super::kit::{AskError, Behaviour, Cx, Fault, Reply};
use super::reservation::{Asked, Caller, Shards};
use crate::domain::erp::{Batch, Cursor, Follow, Followed, RowId, Rules};
use crate::domain::ids::TenantId;
use crate::ports::PortError;
use crate::ports::clock::SharedClock;
use crate::ports::erp::{Changes, ErpSource, Head, NewErp, Rows, Strategy, Within};
use crate::resilience::backoff::{BackoffPolicy, Delays};
use scan::Scan;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// It talks to itself, and to whoever wants a poll now.
pub const CAPACITY: usize = 16;

/// A message may take this long: a connection, a statement, and the shard's answer.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Polls after which a row that was applied is not looked at again.
const LOOKED_AT_AGAIN: usize = 5;

/// Rows that are looked at again in one poll at most.
const MOST_AGAIN: usize = 1_000;

/// Failures in a row at which a warning is written.
const WARN_AT: u32 = 3;

/// How long to wait after a failure.
const AGAIN: BackoffPolicy = BackoffPolicy::doubling(Duration::from_secs(1), Duration::from_secs(60));

/// What the poller works with.
#[derive(Clone)]
pub struct Ports {
    /// Makes a reading end.
    pub erp: NewErp,
    /// Whom to tell.
    pub shards: Shards,
    /// Time.
    pub clock: SharedClock,
    /// Where everybody sees how it stands.
    pub board: Board,
}

/// Numbers and names of one source.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub source: Arc<str>,
    /// Whose ERP it is.
    pub tenant: TenantId,
    /// How readings are taken.
    pub rules: Arc<Rules>,
    /// From the beginning of one poll to that of the next, while there are changes.
    pub interval: Duration,
    /// The same while there are none.
    pub idle_interval: Duration,
    /// From one full scan to the next; `None` for never.
    pub full_scan: Option<Duration>,
    /// Whether what is not committed may have been read.
    pub dirty: bool,
}

/// What a poller is told.
pub enum Msg {
    /// Do what is due.
    Step,
    /// Poll now; with `full`, and read everything once more.
    Run { full: bool, reply: Reply<Result<Numbers, PortError>> },
}

/// The state: the connection and where it is in its work.
pub struct LegacyPoller {
    ports: Ports,
    settings: Settings,
    erp: Box<dyn ErpSource>,
    /// How far the source has been read; `None` until the shard was asked.
    cursor: Option<Cursor>,
    /// Rows applied in the last polls, newest last.
    applied: VecDeque<Vec<i64>>,
    scan: Option<Scan>,
    /// Whether somebody asked for everything to be read.
    scan_wanted: bool,
    next_poll: Instant,
    delays: Delays,
    /// Balances that wait for stock to be taken from.
    short: usize,
    failed_in_row: u32,
    numbers: Numbers,
}

impl LegacyPoller {
    /// A poller that has not connected yet.
    pub fn new(ports: Ports, settings: Settings) -> Self {
        Self {
            erp: (ports.erp)(),
            ports,
            settings,
            cursor: None,
            applied: VecDeque::new(),
            scan: None,
            scan_wanted: false,
            next_poll: Instant::now(),
            delays: AGAIN.delays(),
            short: 0,
            failed_in_row: 0,
            numbers: Numbers::default(),
        }
    }

    /// Does what is due: a poll, else a page of a scan. Says how long nothing is due. Of several nodes only the one that
    /// has the shop's shard reads the ERP; the others stand by.
    async fn step(&mut self) -> Result<Duration, PortError> {
        if !self.ports.shards.is_here(self.settings.tenant) {
            // The node that has the shop's shard follows the ERP. What is known here is old when the shard comes back.
            (self.cursor, self.scan) = (None, None);
            self.applied.clear();
            return Ok(self.settings.idle_interval);
        }
        if self.cursor.is_none() {
            self.ask_where().await?;
        }
        let loading = self.cursor.as_ref().is_none_or(|cursor| !cursor.loaded);
        if loading || self.erp.strategy() == Strategy::Full {
            if self.scan.is_none() && (loading || Instant::now() >= self.next_poll) {
                self.begin_scan().await?;
            }
        } else if Instant::now() >= self.next_poll {
            let changed = self.poll().await?;
            self.next_poll += if changed { self.settings.interval } else { self.settings.idle_interval };
            self.next_poll = self.next_poll.max(Instant::now());
            if self.scan.is_none() && self.full_scan_is_due() {
                self.begin_scan().await?;
            }
            return Ok(if self.scan.is_some() { Duration::ZERO } else { self.wait() });
        }
        if self.scan.is_some() {
            self.scan_page().await?;
            if self.scan.is_none() && self.erp.strategy() == Strategy::Full {
                self.next_poll = Instant::now() + self.settings.interval;
            }
        }
        Ok(if self.scan.is_some() { Duration::ZERO } else { self.wait() })
    }

    fn wait(&self) -> Duration {
        self.next_poll.saturating_duration_since(Instant::now())
    }

    fn full_scan_is_due(&self) -> bool {
        if self.scan_wanted {
            return true;
        }
        let Some(every) = self.settings.full_scan else { return false };
        let last = self.cursor.as_ref().and_then(|cursor| cursor.reconciled).unwrap_or_default();
        let since = self.ports.clock.now().micros().saturating_sub(last.micros());
        since >= i64::try_from(every.as_micros()).unwrap_or(i64::MAX)
    }

    /// Learns from the shard where to go on.
    async fn ask_where(&mut self) -> Result<(), PortError> {
        let states = answered(self.ports.shards.erp_states(self.settings.tenant).await)?;
        let ours = states.into_iter().find(|state| state.source == self.settings.source);
        let cursor = ours.and_then(|state| state.cursor).unwrap_or_default();
        if !cursor.loaded {
            // The load goes on where the shard says, not where this poller believes.
            self.scan = None;
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    /// One poll, in as many round trips as there are pages of changes. Says whether anything changed here.
    async fn poll(&mut self) -> Result<bool, PortError> {
        let Some(mut cursor) = self.cursor.clone() else { return Ok(false) };
        let (mut within, mut again, mut changed) = (Within::default(), self.rows_again(), false);
        let mut applied = Vec::new();
        self.numbers.polls += 1;
        loop {
            let found = self.erp.changes(&cursor, &within, &std::mem::take(&mut again)).await?;
            let Changes { head, rows, cursor: next, more, fresh: _ } = found;
            self.see(&head);
            if *head.database != *cursor.database {
                tracing::warn!(source = %self.settings.source, "the ERP's database is another one: loading it whole");
                self.cursor = Some(Cursor::default());
                return Ok(true);
            }
            if rows.read > 0 || !rows.products.is_empty() || !rows.rejected.is_empty() || self.short > 0 {
                let ids: Vec<Option<i64>> = rows.balances.iter().map(|reading| number(reading.row)).collect();
                let followed = self.follow(rows, Vec::new(), Some(next.clone()), false).await?;
                changed |= followed.reference.is_some();
                let moved = followed.lines.iter().zip(ids).filter(|(line, _)| !line.delta.is_zero());
                applied.extend(moved.filter_map(|(_, id)| id));
            }
            cursor = next.clone();
            self.cursor = Some(next);
            match more {
                Some(more) => within = more,
                None => break,
            }
        }
        self.applied.push_back(applied);
        if self.applied.len() > LOOKED_AT_AGAIN {
            self.applied.pop_front();
        }
        self.numbers.last_poll = Some(self.ports.clock.now());
        Ok(changed)
    }

    /// Rows applied lately: what was not committed then may have been rolled back since, and its stamp with it.
    fn rows_again(&self) -> Vec<i64> {
        if !self.settings.dirty || self.erp.strategy() != Strategy::Datetime {
            return Vec::new();
        }
        let mut rows: Vec<i64> = self.applied.iter().rev().flatten().take(MOST_AGAIN).copied().collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// Has the shard take in what was read. Nothing moves on before this has succeeded.
    async fn follow(
        &mut self,
        rows: Rows,
        missing: Vec<i64>,
        cursor: Option<Cursor>,
        keep_cursor: bool,
    ) -> Result<Followed, PortError> {
        let Rows { balances, products, rejected, read } = rows;
        let batch = Batch { balances, products, missing, cursor, keep_cursor, only_newer: false };
        let Settings { source, tenant, rules, .. } = &self.settings;
        let follow = Follow { source: source.clone(), rules: rules.clone(), batch, resolutions: Vec::new() };
        let request_id = format!("erp-{source}-{}", self.numbers.polls);
        let user = format!("erp:{source}").into();
        let caller = Caller { user, request_id: request_id.into(), trace: None };
        let asked = self.ports.shards.follow(*tenant, follow, caller).await;
        let followed = answered(asked).inspect_err(|_| {
            // Whether it was taken in is not known: the shard knows where to go on.
            self.cursor = None;
        })?;
        self.short = followed.short;
        self.numbers.count(read, &followed, rejected);
        Ok(followed)
    }

    fn see(&mut self, head: &Head) {
        self.numbers.clock = Some(head.clock.clone());
    }

    /// After an error: what was under way is begun again, the page of a scan included.
    fn fail(&mut self, error: &PortError) -> Duration {
        let delay = self.delays.next_delay();
        self.numbers.failures += 1;
        metrics::counter!("blend_erp_failures_total").increment(1);
        let (source, retry_ms) = (&self.settings.source, delay.as_millis());
        self.failed_in_row += 1;
        // One failure is nothing to wake anybody for: a server restarts, a scan meets a page split.
        if self.failed_in_row == WARN_AT {
            tracing::warn!(%source, %error, retry_ms, "the ERP cannot be followed; trying again");
        } else {
            tracing::debug!(%source, %error, retry_ms, "the ERP could not be followed");
        }
        self.numbers.last_error = Some(error.to_string());
        self.next_poll = Instant::now() + delay;
        delay
    }

    fn succeed(&mut self) {
        self.numbers.last_error = None;
        if std::mem::take(&mut self.failed_in_row) >= WARN_AT {
            tracing::info!(source = %self.settings.source, "the ERP is followed again");
        }
        self.delays.reset();
        self.numbers.last_success = Some(self.ports.clock.now());
    }

    fn show(&self) {
        let scanned = self.scan.as_ref().map(|scan| scan.seen.len());
        let loaded = self.cursor.as_ref().is_some_and(|cursor| cursor.loaded);
        self.ports.board.show(SourceStatus {
            source: self.settings.source.clone(),
            tenant: self.settings.tenant,
            strategy: self.erp.strategy(),
            loaded,
            scanned,
            cursor: self.cursor.clone(),
            connections: self.erp.connections(),
            numbers: self.numbers.clone(),
        });
    }

    /// A step and what follows from it: when the next one is due.
    async fn step_and_wait(&mut self) -> Duration {
        let wait = match self.step().await {
            Ok(wait) => {
                self.succeed();
                wait
            }
            Err(error) => self.fail(&error),
        };
        self.show();
        wait
    }
}

impl Behaviour for LegacyPoller {
    const KIND: &'static str = "legacy";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.show();
        cx.notify(Msg::Step);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Step => {
                let wait = self.step_and_wait().await;
                if !cx.shutting_down() {
                    cx.notify_after(wait, Msg::Step);
                }
            }
            Msg::Run { full, reply } => {
                let before = self.numbers.failures;
                self.next_poll = Instant::now();
                self.scan_wanted |= full;
                self.step_and_wait().await;
                let failed = self.numbers.failures > before;
                let error = self.numbers.last_error.clone().filter(|_| failed);
                reply.send(
                    error.map_or_else(|| Ok(self.numbers.clone()), |why| Err(PortError::Transient(why))),
                );
            }
        }
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        let Numbers { polls, read, applied, held, failures, last_error, .. } = &self.numbers;
        json!({
            "source": &*self.settings.source, "polls": polls, "read": read, "applied": applied, "held": held,
            "failures": failures, "last_error": last_error, "connections": self.erp.connections(),
            "loaded": self.cursor.as_ref().is_some_and(|cursor| cursor.loaded),
        })
    }
}

fn number(row: RowId) -> Option<i64> {
    match row {
        RowId::Numbered(id) => Some(id),
        RowId::Pushed => None,
    }
}

/// The shard's answer, or why there is none, in words.
fn answered<T>(asked: Asked<T>) -> Result<T, PortError> {
    let refused =
        |why: String| PortError::Transient(format!("what the ERP said could not be taken in: {why}"));
    match asked {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(denied)) => Err(refused(denied.to_string())),
        Err(error @ (AskError::Full | AskError::Stopped | AskError::Crashed | AskError::TimedOut)) => {
            Err(refused(error.to_string()))
        }
    }
}

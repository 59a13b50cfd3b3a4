//! How the sources stand, for whoever asks: looked up without asking a poller, which may be waiting for its ERP.

use crate::domain::erp::{Cursor, Followed, Stamp};
use crate::domain::ids::TenantId;
use crate::domain::time::Timestamp;
use crate::ports::erp::Strategy;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows passed over that are kept for looking at.
const REJECTED: usize = 20;

/// What a poller has done since it was built.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Polls begun.
    pub polls: u64,
    /// Full scans finished, first loads included.
    pub scans: u64,
    /// Balance rows read.
    pub read: u64,
    /// Balances that moved stock.
    pub applied: u64,
    /// Times that a difference, or a part of one, was held.
    pub held: u64,
    /// Units created.
    pub created: u64,
    /// Units changed.
    pub updated: u64,
    /// Readings passed over, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// The last rows that could not be understood.
    pub rejected: VecDeque<String>,
    /// Steps that failed.
    pub failures: u64,
    /// What went wrong, until something succeeds.
    pub last_error: Option<String>,
    /// When a poll was last complete.
    pub last_poll: Option<Timestamp>,
    /// When anything last succeeded.
    pub last_success: Option<Timestamp>,
    /// The ERP's clock, as last seen.
    pub clock: Option<Stamp>,
}

impl Numbers {
    /// Counts what became of a batch.
    pub(super) fn count(&mut self, read: usize, followed: &Followed, rejected: Vec<String>) {
        let add = |number: &mut u64, more: usize| *number += u64::try_from(more).unwrap_or(u64::MAX);
        add(&mut self.read, read);
        add(&mut self.applied, followed.applied);
        add(&mut self.held, followed.held);
        add(&mut self.created, followed.created);
        add(&mut self.updated, followed.updated);
        for (reason, times) in &followed.skipped {
            add(self.skipped.entry(reason).or_default(), *times);
        }
        for row in rejected {
            add(self.skipped.entry("ilegible").or_default(), 1);
            // The same row comes with every poll of the overlap.
            if !self.rejected.contains(&row) {
                self.rejected.push_back(row);
            }
        }
        while self.rejected.len() > REJECTED {
            self.rejected.pop_front();
        }
        metrics::counter!("blend_erp_rows_total").increment(u64::try_from(read).unwrap_or(u64::MAX));
        metrics::counter!("blend_erp_applied_total")
            .increment(u64::try_from(followed.applied).unwrap_or(u64::MAX));
    }
}

/// How one source stands.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// Its name.
    pub source: Arc<str>,
    /// Whose it is.
    pub tenant: TenantId,
    /// How changes are found.
    pub strategy: Strategy,
    /// Whether the first load is complete.
    pub loaded: bool,
    /// Rows of the scan under way, if there is one.
    pub scanned: Option<usize>,
    /// How far it has been read.
    pub cursor: Option<Cursor>,
    /// Connections made.
    pub connections: u64,
    /// The rest.
    pub numbers: Numbers,
}

/// All sources of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<Arc<str>, SourceStatus>>>);

impl Board {
    pub(super) fn show(&self, status: SourceStatus) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.insert(status.source.clone(), status);
    }

    /// The sources of a tenant, by name.
    pub fn of(&self, tenant: TenantId) -> Vec<SourceStatus> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.values().filter(|status| status.tenant == tenant).cloned().collect()
    }
}

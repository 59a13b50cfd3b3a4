//! Reading everything, page by page: the first load, and later what finds what polls cannot.

use super::{LegacyPoller, PortError};
use crate::domain::erp::Cursor;
use crate::ports::erp::{Page, Rows};
use std::collections::HashSet;

/// Rows that are looked for a second time in one statement.
const SECOND_LOOK: usize = 500;

/// A scan under way.
pub struct Scan {
    /// The last row read.
    after: Option<i64>,
    /// Every row that was there.
    pub seen: HashSet<i64>,
    /// Whether the scan saw the table from its first row on; one that was taken up half-way did not, and says nothing
    /// of what is missing.
    whole: bool,
}

impl LegacyPoller {
    pub(super) async fn begin_scan(&mut self) -> Result<(), PortError> {
        let head = self.erp.head().await?;
        self.scan_wanted = false;
        self.see(&head);
        let known = self.cursor.clone().unwrap_or_default();
        let (cursor, after) = if known.loaded {
            (known, None)
        } else if known.must_begin(&head.database) {
            let version = head.version.map(|version| version.saturating_sub(1));
            (Cursor::start(head.database, &head.clock, version), None)
        } else {
            let after = known.page;
            (known, after)
        };
        self.cursor = Some(cursor);
        self.scan = Some(Scan { after, seen: HashSet::new(), whole: after.is_none() });
        Ok(())
    }

    /// One page. The last one of a first load makes the source loaded.
    pub(super) async fn scan_page(&mut self) -> Result<(), PortError> {
        let Some(after) = self.scan.as_ref().map(|scan| scan.after) else { return Ok(()) };
        let Page { rows, ids, next } = self.erp.page(after).await?;
        let loading = self.cursor.as_ref().is_some_and(|cursor| !cursor.loaded);
        let cursor = self.cursor.clone().filter(|_| loading).map(|cursor| Cursor { page: next, ..cursor });
        self.follow(rows, Vec::new(), cursor.clone(), false).await?;
        if let Some(cursor) = cursor {
            self.cursor = Some(cursor);
        }
        let Some(scan) = &mut self.scan else { return Ok(()) };
        scan.seen.extend(ids);
        scan.after = next;
        if next.is_some() {
            return Ok(());
        }
        self.end_scan().await
    }

    /// Looks once more for rows that were not there, and tells the shard which still are not.
    async fn end_scan(&mut self) -> Result<(), PortError> {
        let Some(scan) = self.scan.take() else { return Ok(()) };
        let (tenant, source) = (self.settings.tenant, self.settings.source.clone());
        if scan.whole {
            let known = super::answered(self.ports.shards.erp_rows(tenant, source.clone()).await)?;
            let unseen: Vec<i64> = known.into_iter().filter(|id| !scan.seen.contains(id)).collect();
            for some in unseen.chunks(SECOND_LOOK) {
                let Page { rows, ids, .. } = self.erp.rows(some).await?;
                let there: HashSet<i64> = ids.into_iter().collect();
                let missing = some.iter().copied().filter(|id| !there.contains(id)).collect();
                self.follow(rows, missing, None, false).await?;
            }
        }
        let Some(cursor) = self.cursor.clone() else { return Ok(()) };
        let reconciled = Some(self.ports.clock.now());
        let done = Cursor { loaded: true, page: None, reconciled, ..cursor };
        self.follow(Rows::default(), Vec::new(), Some(done.clone()), true).await?;
        let rows = scan.seen.len();
        tracing::info!(%source, rows, "the ERP was read whole");
        self.numbers.scans += 1;
        self.cursor = Some(done);
        Ok(())
    }
}

//! When the hot tier has lost something: whoever needs it waits, what is under way is finished, everything is rebuilt,
//! and the shard goes on. Callers see a pause and no error.

use super::gathering::Candidate;
use super::{Msg, Reservation};
use crate::actors::kit::{Cx, Fault};
use crate::ports::PortError;

impl Reservation {
    /// The hot tier failed. What it still has is not trusted any more.
    pub(super) fn lose(&mut self, error: PortError) -> Result<(), Fault> {
        if !error.is_transient() {
            return Err(error.into());
        }
        if !self.lost {
            tracing::warn!(%error, shard = self.settings.shard, "the hot tier is lost; rebuilding it");
            self.lost = true;
        }
        Ok(())
    }

    /// The same, and what needed it comes again when it is rebuilt.
    pub(super) fn hold(&mut self, error: PortError, msg: Msg) -> Result<(), Fault> {
        self.lose(error)?;
        self.held.push(msg);
        Ok(())
    }

    /// Whether a message has to wait until the hot tier is rebuilt. Each has a caller whose place in the mailbox it
    /// keeps, so there are never more of them than the mailbox holds.
    pub(super) fn must_wait(&self, msg: &Msg) -> bool {
        self.lost
            && matches!(
                msg,
                Msg::Checkout(..)
                    | Msg::KeyLooked { .. }
                    | Msg::Void(..)
                    | Msg::VoidLooked { .. }
                    | Msg::CreateTenant { .. }
                    | Msg::Import { .. }
                    | Msg::Receive { .. }
                    | Msg::Follow { .. }
                    | Msg::Scan { .. }
                    | Msg::Stock { .. }
                    | Msg::Available { .. }
                    | Msg::Snapshot { .. }
            )
    }

    /// Rebuilds once nothing is under way: until then the journal does not say what became of it.
    pub(super) async fn mend(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        if !self.lost || !self.outbox.is_empty() || !self.under_way.is_empty() {
            return Ok(());
        }
        // What is known of their keys may not be so any more.
        self.held.extend(self.candidates.drain(..).map(Candidate::asked));
        let before = self.generation;
        self.rebuild().await?;
        self.lost = false;
        if self.generation != before {
            // Another node may have bound keys meanwhile: until the ledger has told them all, each is looked up.
            self.filter_complete = false;
            self.load_filter(None, cx);
        }
        for msg in self.held.drain(..) {
            cx.notify(msg);
        }
        for (tenant, asker) in std::mem::take(&mut self.warmups) {
            asker.send(self.active(tenant).map(|state| state.catalogue.units().len()));
        }
        Ok(())
    }
}

//! What was given up: tried again, thrown away, or forgotten because it means nothing any more.

use super::{Channel, Kind};
use crate::actors::kit::{Cx, Fault};
use crate::domain::dead_letter::LetterId;
use crate::domain::ids::UnitId;
use std::collections::HashSet;

impl<K: Kind> Channel<K> {
    /// These again, now.
    pub(super) async fn retry(&mut self, letters: &[LetterId], cx: &mut Cx<Self>) -> Result<usize, Fault> {
        let (tenant, id) = (self.connection.tenant, self.connection.id);
        let (units, notices) = sorted(letters);
        // From rest first: a process that ends in between finds by comparing that it has to push.
        let mut there = self.ports.store.forget(tenant, id, &units).await?;
        for unit in units {
            self.board.try_again(Some(unit));
        }
        for notice in notices {
            there += self.ports.store.revive(tenant, id, Some(notice)).await?;
        }
        self.look_for_news(cx);
        self.work(cx);
        Ok(there)
    }

    /// Everything again.
    pub(super) async fn retry_all(&mut self) -> Result<(), Fault> {
        let (tenant, id) = (self.connection.tenant, self.connection.id);
        let failures = self.ports.store.failures(tenant, id, usize::MAX).await?;
        let units: Vec<UnitId> = failures.iter().map(|failure| failure.unit).collect();
        self.ports.store.forget(tenant, id, &units).await?;
        self.board.try_again(None);
        self.ports.store.revive(tenant, id, None).await?;
        Ok(())
    }

    /// These are nobody's business any more. A unit stays as it is there until something else is to be shown, or
    /// everything is compared anew.
    pub(super) async fn discard(&mut self, letters: &[LetterId]) -> Result<usize, Fault> {
        let (tenant, id) = (self.connection.tenant, self.connection.id);
        let (units, notices) = sorted(letters);
        let mut there = self.ports.store.forget(tenant, id, &units).await?;
        for notice in notices {
            there += usize::from(self.ports.store.bury(tenant, id, notice).await?);
        }
        Ok(there)
    }

    /// Pushes whose letters were taken away by way of another node: they are to be tried again.
    pub(super) async fn retry_forgotten(&mut self) -> Result<(), Fault> {
        let [.., failed] = self.board.counts();
        if failed == 0 || !self.ports.store.is_shared() {
            return Ok(());
        }
        let failures =
            self.ports.store.failures(self.connection.tenant, self.connection.id, usize::MAX).await?;
        let kept: HashSet<UnitId> = failures.iter().map(|failure| failure.unit).collect();
        let is_free = |unit: &UnitId| self.board.has_failed(*unit) && !kept.contains(unit);
        let free: Vec<UnitId> = self.board.units().filter(is_free).collect();
        for unit in free {
            self.board.try_again(Some(unit));
        }
        Ok(())
    }

    /// Letters about pushes that nobody would make any more.
    pub(super) async fn forget_superseded(&mut self) -> Result<(), Fault> {
        let units = self.board.superseded();
        if !units.is_empty() {
            self.ports.store.forget(self.connection.tenant, self.connection.id, &units).await?;
        }
        Ok(())
    }
}

fn sorted(letters: &[LetterId]) -> (Vec<UnitId>, Vec<&str>) {
    let (mut units, mut notices) = (Vec::new(), Vec::new());
    for letter in letters {
        match letter {
            LetterId::Push(_, unit) => units.push(*unit),
            LetterId::Notice(_, notice) => notices.push(notice.as_str()),
            LetterId::Message(..) => {}
        }
    }
    (units, notices)
}

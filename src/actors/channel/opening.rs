//! How a channel begins: its connection, its client, and what was confirmed, from rest.

use super::jobs::Job;
use super::{Channel, Kind};
use crate::actors::kit::{Cx, Fault};
use crate::domain::channel::Board;
use crate::ports::channel::Mapping;

impl<K: Kind> Channel<K> {
    /// The connection as it is at rest: an earlier life may have paused it, or got it another token.
    pub(super) async fn open(&mut self) -> Result<(), Fault> {
        let id = self.connection.id;
        let found = self.ports.store.connections().await?.into_iter().find(|(stored, _)| stored.id == id);
        let Some((connection, sealed)) = found else {
            return Err(Fault::new("the connection is not at rest any more"));
        };
        self.connection = connection;
        let opened = self.ports.vault.open(id, &sealed).and_then(|credentials| {
            if self.ports.vault.is_outdated(&sealed) {
                tracing::info!(connection = %id, "credentials were sealed with an older key; they are sealed anew");
            }
            let resealed = self.ports.vault.is_outdated(&sealed).then(|| self.ports.vault.seal(id, &credentials));
            Ok(((self.ports.open)(&self.connection, credentials)?, resealed.transpose()?))
        });
        match opened {
            Ok((market, resealed)) => {
                if let Some(sealed) = resealed {
                    self.ports.store.save(&self.connection, Some(&sealed)).await?;
                }
                self.market = Some(market);
            }
            Err(error) => {
                tracing::error!(connection = %id, %error, "a channel cannot be opened");
                self.broken = Some(error.to_string());
            }
        }
        Ok(())
    }

    /// What was confirmed, from rest; then everything is compared.
    pub(super) async fn load(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        let mappings = self.ports.store.mappings(self.connection.tenant, self.connection.id).await?;
        self.board = Board::default();
        self.units.clear();
        self.take_mappings(&mappings);
        for failure in
            self.ports.store.failures(self.connection.tenant, self.connection.id, usize::MAX).await?
        {
            tracing::info!(unit = %failure.unit, code = failure.code, "an earlier push was given up; it is tried again");
        }
        self.sweep(cx);
        Ok(())
    }

    pub(super) fn take_mappings(&mut self, mappings: &[Mapping]) {
        let mut unknown = Vec::new();
        for mapping in mappings {
            if let Some(before) = self.board.item(mapping.unit) {
                self.units.remove(before);
            }
            if let Some(before) = self.units.insert(mapping.item.clone(), mapping.unit) {
                self.board.unmap(before);
            }
            self.board.map(mapping.unit, mapping.item.clone(), mapping.shown);
            if mapping.shown.is_none() {
                unknown.push(mapping.unit);
            }
        }
        // Compare-and-swap needs to know what is there.
        if !unknown.is_empty() {
            self.jobs.push_back(Job::Read { units: unknown, lost: false });
        }
    }
}

//! How a channel begins: its connection, its client, and what was confirmed, from rest.

use super::jobs::Job;
use super::{Change, Channel, Kind};
use crate::actors::kit::{Cx, Fault};
use crate::domain::channel::Board;
use crate::domain::ids::UnitId;
use crate::ports::PortError;
use crate::ports::channel::{Credentials, Mapping, Marketplace, Sealed};

impl<K: Kind> Channel<K> {
    /// The connection as it is at rest: an earlier life may have paused it, or got it another token.
    pub(super) async fn open(&mut self) -> Result<(), Fault> {
        let (tenant, id) = (self.connection.tenant, self.connection.id);
        let Some((connection, sealed)) = self.ports.store.connection(tenant, id).await? else {
            return Err(Fault::new("the connection is not at rest any more"));
        };
        (self.connection, self.sealed) = (connection, sealed.clone());
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
                    self.sealed = sealed;
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

    /// Other rules or other tokens, from now on. Everything that waited goes on waiting.
    pub(super) async fn change(
        &mut self,
        change: Change,
        cx: &mut Cx<Self>,
    ) -> Result<Result<(), String>, Fault> {
        let fresh = match &change.credentials {
            Some(given) => match self.opened_anew(given).await? {
                Ok(fresh) => Some(fresh),
                Err(why) => return Ok(Err(why)),
            },
            None => None,
        };
        let changed = change.of(&self.connection);
        // Only by whoever has the claim. A renewal that is out for the tokens before these keeps nothing any more: it
        // finds others at rest.
        self.ports.store.save(&changed, fresh.as_ref().map(|(_, sealed)| sealed)).await?;
        self.connection = changed;
        if let Some((market, sealed)) = fresh {
            self.sealed = sealed;
            (self.broken, self.last_error, self.not_before) = (None, None, None);
            self.jobs.retain(|job| !matches!(job, Job::Renew));
            let place = if self.is_out { &mut self.fresh } else { &mut self.market };
            *place = Some(market);
            tracing::info!(connection = %self.connection.id, tenant = %self.connection.tenant, "connected anew");
        }
        self.sweep(cx);
        self.work(cx);
        Ok(Ok(()))
    }

    /// A client with other tokens of the same app: others check what the app signs, and know its secret.
    async fn opened_anew(
        &self,
        given: &Credentials,
    ) -> Result<Result<(Box<dyn Marketplace>, Sealed), String>, Fault> {
        let (tenant, id) = (self.connection.tenant, self.connection.id);
        let Some((_, sealed)) = self.ports.store.connection(tenant, id).await? else {
            return Err(Fault::new("the connection is not at rest any more"));
        };
        let opened = || -> Result<_, PortError> {
            let before = self.ports.vault.open(id, &sealed)?;
            let is_other = |given: Option<&String>, before| given.is_some() && given != before;
            if is_other(given.client_id.as_ref(), before.client_id.as_ref())
                || is_other(given.client_secret.as_ref(), before.client_secret.as_ref())
            {
                let why = "the credentials are of another app: remove the connection and connect again";
                return Err(PortError::Permanent(why.into()));
            }
            let merged = Credentials {
                client_id: before.client_id,
                client_secret: before.client_secret,
                access_token: given.access_token.clone(),
                refresh_token: given.refresh_token.clone(),
            };
            let sealed = self.ports.vault.seal(id, &merged)?;
            Ok(((self.ports.open)(&self.connection, merged)?, sealed))
        };
        Ok(opened().map_err(|error| error.to_string()))
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
            self.board.failed_before(failure.unit);
        }
        self.sweep(cx);
        Ok(())
    }

    /// A person chose; nothing when there is no such item, or it is not stocked at the place.
    pub(super) async fn mapped_by_hand(
        &mut self,
        unit: UnitId,
        item: String,
        shown: Option<i64>,
        cx: &mut Cx<Self>,
    ) -> Result<Result<i64, String>, Fault> {
        let Some(shown) = shown else {
            return Ok(Err(format!("{item} is not there, or not stocked at the place")));
        };
        let (tenant, id) = (self.connection.tenant, self.connection.id);
        let mapping = Mapping { unit, item, shown: Some(shown) };
        self.ports.store.map(tenant, id, std::slice::from_ref(&mapping)).await?;
        self.take_mappings(&[mapping]);
        self.forget_superseded().await?;
        self.mark([(unit, false)], cx);
        Ok(Ok(shown))
    }

    /// What it shows there is nobody's business here any more.
    pub(super) async fn unmap(&mut self, unit: UnitId) -> Result<bool, Fault> {
        let there = self.ports.store.unmap(self.connection.tenant, self.connection.id, unit).await?;
        if let Some(item) = self.board.item(unit) {
            self.units.remove(item);
        }
        self.board.unmap(unit);
        self.drift.remove(&unit);
        self.forget_superseded().await?;
        Ok(there)
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

//! Talking to the pollers, and to the shards about ERPs on behalf of people and agents.

use super::{Board, LegacyPoller, Msg, Numbers, SourceStatus};
use crate::actors::kit::{AskError, Handle};
use crate::domain::erp::Rules;
use crate::domain::ids::TenantId;
use crate::ports::PortError;
use std::sync::Arc;

/// One poller, for whom it works and how.
#[derive(Clone)]
pub struct Poller {
    /// Whose ERP.
    pub tenant: TenantId,
    /// Its name.
    pub source: Arc<str>,
    /// How its readings are taken.
    pub rules: Arc<Rules>,
    /// The actor.
    pub handle: Handle<LegacyPoller>,
}

/// All pollers of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pollers {
    /// How they stand.
    pub board: Board,
    pollers: Arc<[Poller]>,
    rules: Arc<Rules>,
}

impl Pollers {
    /// `rules` hold for agents that push, which no poller knows.
    pub fn new(board: Board, pollers: Vec<Poller>, rules: Arc<Rules>) -> Self {
        Self { board, pollers: pollers.into(), rules }
    }

    /// The kit's handles, for draining.
    pub fn handles(&self) -> impl Iterator<Item = &Handle<LegacyPoller>> {
        self.pollers.iter().map(|poller| &poller.handle)
    }

    /// How the sources of a tenant stand.
    pub fn status(&self, tenant: TenantId) -> Vec<SourceStatus> {
        self.board.of(tenant)
    }

    /// The poller of a source, or the tenant's only one.
    pub fn find(&self, tenant: TenantId, source: Option<&str>) -> Option<&Poller> {
        let mut theirs = self
            .pollers
            .iter()
            .filter(|poller| poller.tenant == tenant && source.is_none_or(|name| *poller.source == *name));
        let first = theirs.next()?;
        theirs.next().is_none().then_some(first)
    }

    /// How readings of a source are taken, polled or pushed.
    pub fn rules(&self, tenant: TenantId, source: &str) -> Arc<Rules> {
        self.find(tenant, Some(source)).map_or_else(|| self.rules.clone(), |poller| poller.rules.clone())
    }
}

impl Poller {
    /// Polls now; with `full` also begins to read everything.
    pub async fn run(&self, full: bool) -> Result<Result<Numbers, PortError>, AskError> {
        self.handle.ask(|reply| Msg::Run { full, reply }).await
    }
}

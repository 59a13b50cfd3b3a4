//! Talking to the webhooks.

use super::{Msg, NotDone, WebhookSender};
use crate::actors::kit::{AskError, Contact, Handle};
use crate::domain::hook::{Hook, Secret};
use crate::domain::ids::{HookId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::hooks::Logged;

/// What the edge sees of the webhooks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Webhooks(Contact<WebhookSender>);

/// An answer, or why there is none.
pub type Asked<T> = Result<Result<T, NotDone>, AskError>;

impl Webhooks {
    /// Over the kit's handle.
    pub fn new(handle: Handle<WebhookSender>) -> Self {
        Self(Contact::with(handle))
    }

    /// Nobody: every ask is refused.
    pub fn none() -> Self {
        Self(Contact::nobody())
    }

    /// Somebody wants to be told.
    pub async fn create(&self, hook: Hook, secret: Secret) -> Asked<()> {
        self.0.ask(|reply| Msg::Create(Box::new(hook), secret, reply)).await
    }

    /// The tenant's receivers, each with how much waits for it.
    pub async fn list(&self, tenant: TenantId) -> Asked<Vec<(Hook, u64)>> {
        self.0.ask(|reply| Msg::List(tenant, reply)).await
    }

    /// Forgets a receiver, with what it was told.
    pub async fn remove(&self, tenant: TenantId, id: HookId) -> Asked<()> {
        self.0.ask(|reply| Msg::Remove(tenant, id, reply)).await
    }

    /// Stops sending, or goes on with what waits.
    pub async fn pause(&self, tenant: TenantId, id: HookId, paused: bool) -> Asked<()> {
        self.0.ask(|reply| Msg::Pause(tenant, id, paused, reply)).await
    }

    /// Another secret from now on; says until when the one before signs too.
    pub async fn rotate(&self, tenant: TenantId, id: HookId, secret: Secret) -> Asked<Timestamp> {
        self.0.ask(|reply| Msg::Rotate(tenant, id, secret, reply)).await
    }

    /// Sends something to see.
    pub async fn test(&self, tenant: TenantId, id: HookId) -> Asked<()> {
        self.0.ask(|reply| Msg::Test(tenant, id, reply)).await
    }

    /// What was told a receiver, the newest first, before a position.
    pub async fn log(
        &self,
        tenant: TenantId,
        hook: HookId,
        before: Option<i64>,
        limit: usize,
    ) -> Asked<Vec<Logged>> {
        self.0.ask(|reply| Msg::Log { tenant, hook, before, limit, reply }).await
    }

    /// Sends a message again, whatever became of it; false when there is none.
    pub async fn again(&self, tenant: TenantId, id: HookId, position: i64) -> Asked<bool> {
        self.0.ask(|reply| Msg::Again(tenant, id, position, reply)).await
    }
}

//! Messages that were given up, as dead letters. Tried again from rest: the next look finds them.

use crate::domain::dead_letter::{DeadLetter, LetterId};
use crate::domain::ids::{HookId, TenantId};
use crate::ports::PortError;
use crate::ports::dead_letters::DeadLetters;
use crate::ports::hooks::HookStore;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;

/// The letters of all webhooks.
pub struct MessageLetters(pub Arc<dyn HookStore>);

impl MessageLetters {
    /// Whose each receiver is.
    async fn tenants(&self) -> Result<HashMap<HookId, TenantId>, PortError> {
        Ok(self.0.hooks().await?.into_iter().map(|(hook, _)| (hook.id, hook.tenant)).collect())
    }
}

fn messages(ids: &[String]) -> impl Iterator<Item = (HookId, i64)> + Send {
    ids.iter().filter_map(|id| match LetterId::parse(id)? {
        LetterId::Message(hook, position) => Some((hook, position)),
        _ => None,
    })
}

impl DeadLetters for MessageLetters {
    fn list(&self, most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>> {
        self.0.hook_letters(most)
    }

    fn replay<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        async move {
            let (tenants, mut there) = (self.tenants().await?, 0);
            for (hook, position) in messages(ids) {
                if let Some(tenant) = tenants.get(&hook) {
                    there += usize::from(self.0.send_again(*tenant, hook, position).await?);
                }
            }
            Ok(there)
        }
        .boxed()
    }

    fn discard<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        async move {
            let (tenants, mut there) = (self.tenants().await?, 0);
            for (hook, position) in messages(ids) {
                if let Some(tenant) = tenants.get(&hook) {
                    there += usize::from(self.0.bury_message(*tenant, hook, position).await?);
                }
            }
            Ok(there)
        }
        .boxed()
    }

    fn depth(&self, most: usize) -> BoxFuture<'_, Result<usize, PortError>> {
        async move { Ok(self.0.hook_letter_count().await?.min(most)) }.boxed()
    }
}

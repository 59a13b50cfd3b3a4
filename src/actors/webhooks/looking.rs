//! Which receivers are sent to from here: those whose tenant's shard is here, each once its claim is. The same as with
//! connections to marketplaces.

use super::{Known, WebhookSender, seal, unseal};
use crate::actors::reading::Reading;
use crate::domain::hook::{Hook, News, Signing};
use crate::domain::ids::{HookId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::Sealed;
use tokio::time::Instant;
use uuid::Uuid;

impl WebhookSender {
    /// Goes on with what is sent to from here, and sees what has changed. What fails is done by the next look.
    pub(super) async fn look(&mut self) {
        let done = async {
            if self.ports.store.is_shared() {
                self.hold().await?;
                if self.reading.is_due(&(self.ports.here)()) || self.is_unfinished() {
                    self.read().await?;
                }
            }
            self.divide().await
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "which webhooks are to be sent to from here cannot be seen now");
        }
    }

    /// Every receiver, from rest. What is sent to from here is known better here.
    pub(super) async fn read(&mut self) -> Result<(), PortError> {
        let (here, begun) = ((self.ports.here)(), Instant::now());
        let found = self.ports.store.hooks().await?;
        self.reading = Reading::done(begun, here);
        let mut before = std::mem::take(&mut self.hooks);
        for (hook, sealed) in found {
            if (hook.tenant, hook.id) == Hook::OPERATOR {
                continue;
            }
            if let Some(known) = before.remove(&hook.id).filter(|known| known.held) {
                self.hooks.insert(hook.id, known);
                continue;
            }
            match unseal(&*self.ports.vault, hook.id, &sealed) {
                Ok(signing) => {
                    let outdated = self.ports.vault.is_outdated(&sealed);
                    self.hooks.insert(hook.id, Known { outdated, ..Known::new(hook, signing, false) });
                }
                Err(error) => {
                    tracing::error!(hook = %hook.id, tenant = %hook.tenant, %error, "a webhook's secret cannot be opened: nothing is sent to it");
                }
            }
        }
        let (_, operator) = Hook::OPERATOR;
        self.hooks.extend(before.remove(&operator).map(|known| (operator, known)));
        Ok(())
    }

    pub(super) async fn read_if_old(&mut self) -> Result<(), PortError> {
        if self.ports.store.is_shared() && self.reading.is_old() { self.read().await } else { Ok(()) }
    }

    /// Whether anything is to be begun: then it is begun as it is at rest now.
    fn is_unfinished(&self) -> bool {
        self.hooks.values().any(|known| !known.held && self.ports.is_here(known.hook.tenant))
    }

    async fn hold(&mut self) -> Result<(), PortError> {
        let held: Vec<(TenantId, Uuid)> = self
            .hooks
            .values()
            .filter(|known| known.held)
            .map(|known| (known.hook.tenant, known.hook.id.0))
            .collect();
        for lost in self.ports.store.hold(&held).await? {
            tracing::warn!(hook = %lost, "another node sends to this webhook now");
            if let Some(known) = self.hooks.get_mut(&HookId(lost)) {
                known.held = false;
            }
        }
        Ok(())
    }

    /// Lets go what is another's, takes what is its own.
    pub(super) async fn divide(&mut self) -> Result<(), PortError> {
        self.see_to_operator().await?;
        let (mut leaving, mut arriving) = (Vec::new(), Vec::new());
        for known in self.hooks.values() {
            if known.held != self.ports.is_here(known.hook.tenant) {
                let list = if known.held { &mut leaving } else { &mut arriving };
                list.push((known.hook.tenant, known.hook.id.0));
            }
        }
        if !leaving.is_empty() {
            // What was under way ends by itself: it is refused what it wants to keep.
            leaving.iter().for_each(|(tenant, id)| self.let_go(*tenant, HookId(*id)));
            self.ports.store.release(&leaving).await?;
        }
        if arriving.is_empty() {
            return Ok(());
        }
        let claimed = self.ports.store.claim(&arriving).await?;
        if !claimed.is_empty() && self.ports.store.is_shared() {
            // Whoever had it may have paused it, or given it another secret, until the claim was here.
            self.read().await?;
        }
        for id in claimed {
            self.begin(HookId(id)).await?;
        }
        Ok(())
    }

    fn let_go(&mut self, tenant: TenantId, id: HookId) {
        if (tenant, id) == Hook::OPERATOR {
            // It is seen to again when it comes back.
            self.hooks.remove(&id);
            self.operator_done = false;
        } else if let Some(known) = self.hooks.get_mut(&id) {
            known.held = false;
        }
    }

    /// The claim is here: what was sealed with an older key is sealed anew.
    async fn begin(&mut self, id: HookId) -> Result<(), PortError> {
        let Some(known) = self.hooks.get_mut(&id) else { return Ok(()) };
        (known.held, known.has_work, known.not_before) = (true, true, None);
        if !std::mem::take(&mut known.outdated) {
            return Ok(());
        }
        let (hook, signing) = (known.hook.clone(), known.signing.clone());
        let sealed = seal(&*self.ports.vault, id, &signing)?;
        self.ports.store.save_hook(&hook, Some(&sealed)).await
    }

    /// The installation's own receiver, whose address is in the settings, is there or not as they say.
    async fn see_to_operator(&mut self) -> Result<(), PortError> {
        let (tenant, id) = Hook::OPERATOR;
        if self.operator_done || !self.ports.is_here(tenant) {
            return Ok(());
        }
        match self.settings.operator.clone() {
            Some((url, secret)) => {
                if !self.ports.store.claim_one(tenant, id.0).await? {
                    return Ok(());
                }
                let hook = Hook {
                    id,
                    tenant,
                    url,
                    news: vec![News::DeadLetters],
                    paused: None,
                    failing_since: None,
                    lost: 0,
                    created_at: self.ports.clock.now(),
                };
                // Its secret is in the settings, and stays there.
                let unsealed = Sealed { key_id: String::new(), bytes: Vec::new() };
                self.ports.store.save_hook(&hook, Some(&unsealed)).await?;
                self.hooks.insert(id, Known::new(hook, Signing::of(secret), true));
            }
            None => self.ports.store.remove_hook(tenant, id).await?,
        }
        self.operator_done = true;
        Ok(())
    }
}

//! Webhooks: tells tenants' own systems, and whoever runs the installation, what they want to know.
//!
//! Owns the reading ends of a consumer group on the bus (`listening.rs`). What an event is worth telling is kept, one row
//! for each receiver, before the event is confirmed; from then on it is sent until it arrives, in order, one at a time
//! for each receiver. A message that its receiver refuses is given up and becomes a dead letter; a receiver that stays away is
//! paused, and everything waits for it.
//!
//! It knows every receiver of the installation, and sends to those whose tenant's shard is here, once it has the claim on
//! each (`looking.rs`).
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`] asks |
//! | restart | with back-off, without end: goes on behind the last confirmed event; what was under way is sent again under the same id |
//! | messages in | from the edge ([`Webhooks`]), its own |
//! | messages out | none |

mod handle;
mod letters;
mod looking;
mod messages;
mod sending;
#[cfg(test)]
mod tests;

pub use handle::{Asked, Webhooks};
pub use letters::MessageLetters;
pub use messages::{Here, Msg, NotDone, Ports, Settings};

use super::kit::{Behaviour, Cx, Fault};
use super::listening::{Ears, Want};
use super::reading::Reading;
use crate::domain::hook::{Hook, Message, News, Secret, Signing};
use crate::domain::ids::{ConnectionId, HookId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::bus::{Delivery, Subscription};
use crate::ports::channel::{Credentials, Sealed, Vault};
use metrics::Counter;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Asks that it may have open at once.
pub const CAPACITY: usize = 256;

/// Between two looks at the bus: what happens meanwhile is kept in one transaction.
const GATHER: Duration = Duration::from_millis(200);

/// How often every receiver is looked after, whether or not anything was heard.
const LOOK: Duration = Duration::from_secs(1);

/// How often dead letters are counted.
const COUNT: Duration = Duration::from_secs(10);

/// Receivers that are sent to at once.
const AT_ONCE: usize = 32;

/// Receivers of one tenant at most.
const MOST: usize = 10;

/// The alarm about dead letters.
const DEPTH: &str = "dead_letters";

struct Known {
    hook: Hook,
    signing: Signing,
    /// The claim is this process's.
    held: bool,
    /// Its secret is sealed with an older key.
    outdated: bool,
    /// Somebody is sending to it.
    busy: bool,
    /// It may have something to send.
    has_work: bool,
    not_before: Option<tokio::time::Instant>,
}

/// The state.
pub struct WebhookSender {
    ports: Ports,
    settings: Settings,
    ears: Ears<()>,
    hooks: HashMap<HookId, Known>,
    reading: Reading,
    /// Whether the installation's own receiver was seen to.
    operator_done: bool,
    sent: Counter,
    failed: Counter,
    events: u64,
}

/// Nothing was done.
fn on_its_way() -> NotDone {
    NotDone::Port(PortError::Transient("nobody sends to the webhook for the moment".into()))
}

impl Known {
    fn new(hook: Hook, signing: Signing, held: bool) -> Self {
        Self { hook, signing, held, outdated: false, busy: false, has_work: true, not_before: None }
    }
}

/// Secrets are sealed the way credentials are, for the receiver's id: those before it together with the newest, so that
/// no store has to know that there are any.
fn seal(vault: &dyn Vault, hook: HookId, signing: &Signing) -> Result<Sealed, PortError> {
    let credentials = Credentials { client_secret: Some(signing.reveal()), ..Credentials::default() };
    vault.seal(ConnectionId(hook.0), &credentials)
}

fn unseal(vault: &dyn Vault, hook: HookId, sealed: &Sealed) -> Result<Signing, PortError> {
    let opened = vault.open(ConnectionId(hook.0), sealed)?.client_secret.unwrap_or_default();
    Signing::parse(&opened).ok_or_else(|| PortError::Permanent("what was sealed is no secret".into()))
}

impl WebhookSender {
    /// Listens to these groups, where somebody wants to be told of what happens.
    pub fn new(ports: Ports, settings: Settings, groups: Vec<Arc<dyn Subscription>>) -> Self {
        let (sent, failed) =
            (metrics::counter!("blend_webhook_sent_total"), metrics::counter!("blend_webhook_failed_total"));
        Self {
            ports,
            settings,
            ears: Ears::new(groups.into_iter().map(|group| ((), group))),
            hooks: HashMap::new(),
            reading: Reading::default(),
            operator_done: false,
            sent,
            failed,
            events: 0,
        }
    }

    /// Listens where there are receivers who want to be told.
    async fn listen(&mut self, cx: &mut Cx<Self>) {
        let wants = |known: &&Known| known.hook.news.iter().any(|news| news.is_of_bus());
        let place = |known: &Known| self.ports.shard_of(known.hook.tenant);
        let wanted: HashSet<usize> = self.hooks.values().filter(wants).map(place).collect();
        // Of what was known when it was last read: who is new to a shard does not know yet who wants what.
        let here =
            if self.ports.store.is_shared() { self.reading.here().to_vec() } else { (self.ports.here)() };
        let want = |(), shard: usize| match here.get(shard) {
            Some(true) if wanted.contains(&shard) => Want::Here,
            Some(true) => Want::Nobody,
            _ => Want::Elsewhere,
        };
        self.ears.look(want, cx, Msg::Heard).await;
    }

    /// A receiver of the tenant's.
    async fn of(&mut self, tenant: TenantId, id: HookId) -> Result<&Known, NotDone> {
        if !self.hooks.contains_key(&id) {
            self.read_if_old().await?;
        }
        self.hooks.get(&id).filter(|known| known.hook.tenant == tenant).ok_or(NotDone::Unknown)
    }

    /// Keeps what is worth telling, for everybody who wants it.
    async fn keep(&mut self, deliveries: &[Delivery]) -> Result<(), PortError> {
        let mut messages = Vec::new();
        for Delivery { event, .. } in deliveries {
            let wants = |news: News| {
                let mut hooks = self.hooks.values();
                hooks.any(|known| known.hook.tenant == event.tenant && known.hook.news.contains(&news))
            };
            if self.hooks.values().any(|known| known.hook.tenant == event.tenant) {
                messages.extend(Message::of(event).into_iter().filter(|message| wants(message.news)));
            }
        }
        if !messages.is_empty() {
            self.ports.store.tell(&messages).await?;
            let told =
                |known: &&mut Known| messages.iter().any(|message| message.tenant == known.hook.tenant);
            self.hooks.values_mut().filter(told).for_each(|known| known.has_work = true);
        }
        Ok(())
    }

    async fn create(&mut self, hook: Hook, secret: Secret) -> Result<(), NotDone> {
        self.read_if_old().await?;
        if self.hooks.values().filter(|known| known.hook.tenant == hook.tenant).count() >= MOST {
            return Err(NotDone::TooMany);
        }
        self.ports.sender.check(&hook.url).map_err(NotDone::BadUrl)?;
        let signing = Signing::of(secret);
        let sealed = seal(&*self.ports.vault, hook.id, &signing)?;
        if !self.ports.is_here(hook.tenant) {
            return Err(on_its_way());
        }
        if hook.news.iter().any(|news| news.is_of_bus()) {
            // Whoever is told that it is there is told of what happens next.
            self.ears.keep(self.ports.shard_of(hook.tenant)).await?;
        }
        if !self.ports.store.claim_one(hook.tenant, hook.id.0).await? {
            return Err(on_its_way());
        }
        self.ports.store.save_hook(&hook, Some(&sealed)).await?;
        tracing::info!(hook = %hook.id, tenant = %hook.tenant, "a webhook was added");
        self.hooks.insert(hook.id, Known::new(hook, signing, true));
        Ok(())
    }

    /// Kept before anything is signed with it.
    async fn rotate(&mut self, tenant: TenantId, id: HookId, secret: Secret) -> Result<Timestamp, NotDone> {
        let now = self.ports.clock.now();
        let known = self.of(tenant, id).await?;
        if !known.held {
            return Err(on_its_way());
        }
        let hook = known.hook.clone();
        let (signing, until) = known.signing.rotated(secret, now).ok_or(NotDone::TooManySecrets)?;
        let sealed = seal(&*self.ports.vault, id, &signing)?;
        self.ports.store.save_hook(&hook, Some(&sealed)).await?;
        tracing::info!(hook = %id, %tenant, "a webhook has another secret");
        if let Some(known) = self.hooks.get_mut(&id) {
            known.signing = signing;
        }
        Ok(until)
    }

    async fn list(&self, tenant: TenantId) -> Result<Vec<(Hook, u64)>, NotDone> {
        // What was lost is counted at rest.
        let mut all = Vec::new();
        for (hook, _) in self.ports.store.hooks().await? {
            if hook.tenant == tenant && hook.id != Hook::OPERATOR.1 {
                let waiting = self.ports.store.waiting(tenant, hook.id).await?;
                all.push((hook, waiting));
            }
        }
        Ok(all)
    }

    async fn remove(&mut self, tenant: TenantId, id: HookId) -> Result<(), NotDone> {
        self.of(tenant, id).await?;
        self.ports.store.remove_hook(tenant, id).await?;
        self.hooks.remove(&id);
        Ok(())
    }

    async fn pause(&mut self, tenant: TenantId, id: HookId, paused: bool) -> Result<(), NotDone> {
        let known = self.of(tenant, id).await?;
        if !known.held {
            return Err(on_its_way());
        }
        let mut hook = known.hook.clone();
        hook.paused = paused.then(|| "a pedido".into());
        hook.failing_since = None;
        self.ports.store.save_hook(&hook, None).await?;
        if let Some(known) = self.hooks.get_mut(&id) {
            (known.hook, known.has_work, known.not_before) = (hook, true, None);
        }
        Ok(())
    }

    async fn test(&mut self, tenant: TenantId, id: HookId) -> Result<(), NotDone> {
        let hook = self.of(tenant, id).await?.hook.clone();
        if let Some(message) = Message::test(tenant, self.ports.clock.now()) {
            self.ports.store.tell_one(&hook, &message).await?;
        }
        self.wake(id);
        Ok(())
    }

    fn wake(&mut self, id: HookId) {
        if let Some(known) = self.hooks.get_mut(&id) {
            (known.has_work, known.not_before) = (true, None);
        }
    }

    /// One alarm for each time that the limit is passed.
    async fn counted(&mut self, depth: usize) -> Result<(), PortError> {
        let limit = self.settings.most_letters;
        if depth <= limit {
            return self.ports.store.clear(DEPTH).await;
        }
        let (tenant, id) = Hook::OPERATOR;
        if let Some(message) = Message::of_depth(tenant, depth, limit, self.ports.clock.now())
            && self.ports.store.raise(DEPTH, &message).await?
        {
            tracing::error!(depth, limit, "there are more dead letters than there should be: `blend dlq ls`");
            self.wake(id);
        }
        Ok(())
    }
}

impl Behaviour for WebhookSender {
    const KIND: &'static str = "webhooks";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.read().await?;
        self.divide().await?;
        self.ears.begin(cx, Msg::Heard).await?;
        cx.notify(Msg::Look);
        cx.notify(Msg::Count);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Heard(heard) => {
                if let Some(batch) = self.ears.hear(heard, cx, Msg::Heard) {
                    self.keep(&batch.deliveries).await?;
                    self.events += batch.deliveries.len() as u64;
                    // A group that fell behind without end would stop sales at `journal.max_backlog`.
                    let pause = (!batch.is_full()).then_some(GATHER);
                    self.ears.confirm(batch, pause, cx, Msg::Heard).await;
                    self.send_all(cx);
                }
            }
            Msg::Look => {
                self.look().await;
                self.listen(cx).await;
                self.hooks.values_mut().for_each(|known| known.has_work = true);
                self.send_all(cx);
                cx.notify_after(LOOK, Msg::Look);
            }
            // Whoever has the installation's own receiver counts.
            Msg::Count if !self.ports.is_here(Hook::OPERATOR.0) => cx.notify_after(COUNT, Msg::Count),
            Msg::Count => {
                let (letters, most) = (self.ports.dead_letters.clone(), self.settings.most_letters);
                cx.pipe(async move { letters.depth(most.saturating_add(1)).await }, Msg::Counted);
            }
            Msg::Counted(counted) => {
                match counted {
                    Ok(depth) => self.counted(depth).await?,
                    Err(error) => tracing::debug!(%error, "dead letters cannot be counted now"),
                }
                self.send_all(cx);
                cx.notify_after(COUNT, Msg::Count);
            }
            Msg::Ran(ran) => {
                self.ran(ran).await?;
                self.send_all(cx);
            }
            Msg::Create(hook, secret, reply) => {
                reply.send(self.create(*hook, secret).await);
                self.listen(cx).await;
            }
            Msg::List(tenant, reply) => reply.send(self.list(tenant).await),
            Msg::Remove(tenant, id, reply) => reply.send(self.remove(tenant, id).await),
            Msg::Pause(tenant, id, paused, reply) => {
                reply.send(self.pause(tenant, id, paused).await);
                self.send_all(cx);
            }
            Msg::Rotate(tenant, id, secret, reply) => reply.send(self.rotate(tenant, id, secret).await),
            Msg::Test(tenant, id, reply) => {
                reply.send(self.test(tenant, id).await);
                self.send_all(cx);
            }
            Msg::Log { tenant, hook, before, limit, reply } => {
                let log = match self.of(tenant, hook).await.map(drop) {
                    Ok(()) => self.ports.store.log(tenant, hook, before, limit).await.map_err(NotDone::from),
                    Err(error) => Err(error),
                };
                reply.send(log);
            }
            Msg::Again(tenant, id, position, reply) => {
                let again = match self.of(tenant, id).await.map(drop) {
                    Ok(()) => self.ports.store.send_again(tenant, id, position).await.map_err(NotDone::from),
                    Err(error) => Err(error),
                };
                reply.send(again);
                self.wake(id);
                self.send_all(cx);
            }
        }
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        let count = |is_so: fn(&Known) -> bool| self.hooks.values().filter(|known| is_so(known)).count();
        json!({
            "hooks": self.hooks.len(), "here": count(|known| known.held), "busy": count(|known| known.busy),
            "paused": count(|known| known.hook.paused.is_some()),
            "failing": count(|known| known.hook.failing_since.is_some()), "events": self.events,
        })
    }
}

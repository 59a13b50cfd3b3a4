//! Sending to one receiver: one message after the other, each until it arrived, was refused, or has to wait.

use super::{AT_ONCE, Msg, WebhookSender};
use crate::actors::kit::{Cx, Fault};
use crate::domain::hook::{Hook, Next, Patience, Reaction, Signing};
use crate::domain::ids::HookId;
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::hooks::{Attempt, Fate, Outgoing};
use std::sync::Arc;
use std::time::Duration;

/// Messages sent in one go: others may want to send too.
const IN_ONE_GO: usize = 64;

/// A store that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// How sending to a receiver ended, for now.
pub struct Ran {
    hook: HookId,
    sent: u64,
    failed: u64,
    failing_since: Option<Timestamp>,
    /// Why nothing is sent from now on.
    pause: Option<Arc<str>>,
    /// Nothing is sent before that is over.
    wait: Option<Duration>,
    /// Whether there may be more to send.
    more: bool,
}

struct Run {
    ports: super::Ports,
    patience: Patience,
    hook: Hook,
    signing: Signing,
}

impl WebhookSender {
    /// Sends to whoever may have something to be sent.
    pub(super) fn send_all(&mut self, cx: &mut Cx<Self>) {
        if cx.shutting_down() {
            return;
        }
        let mut busy = self.hooks.values().filter(|known| known.busy).count();
        let now = tokio::time::Instant::now();
        for known in self.hooks.values_mut() {
            let waits = known.not_before.is_some_and(|moment| now < moment);
            if busy >= AT_ONCE
                || !known.held
                || known.busy
                || !known.has_work
                || waits
                || known.hook.paused.is_some()
            {
                continue;
            }
            busy += 1;
            (known.busy, known.has_work) = (true, false);
            let run = Run {
                ports: self.ports.clone(),
                patience: self.settings.patience.clone(),
                hook: known.hook.clone(),
                signing: known.signing.clone(),
            };
            cx.pipe(run.go(), Msg::Ran);
        }
    }

    /// Sending ended.
    pub(super) async fn ran(&mut self, ran: Ran) -> Result<(), Fault> {
        self.sent.increment(ran.sent);
        self.failed.increment(ran.failed);
        // Removed meanwhile.
        let Some(known) = self.hooks.get_mut(&ran.hook) else { return Ok(()) };
        known.busy = false;
        known.has_work |= ran.more;
        known.not_before = ran.wait.map(|wait| tokio::time::Instant::now() + wait);
        // What its owner said meanwhile counts.
        let paused = known.hook.paused.clone().or(ran.pause);
        if (known.hook.failing_since, &known.hook.paused) != (ran.failing_since, &paused) {
            if let Some(why) = paused.as_ref().filter(|_| known.hook.paused.is_none()) {
                let (hook, tenant) = (known.hook.id, known.hook.tenant);
                tracing::error!(%hook, %tenant, why = &**why, "a webhook is paused: its messages wait");
            }
            (known.hook.failing_since, known.hook.paused) = (ran.failing_since, paused);
            let hook = known.hook.clone();
            // Another node's by now: that one finds out for itself.
            if known.held {
                self.ports.store.save_hook(&hook, None).await?;
            }
        }
        Ok(())
    }
}

impl Run {
    async fn go(self) -> Ran {
        let mut ran = Ran {
            hook: self.hook.id,
            sent: 0,
            failed: 0,
            failing_since: self.hook.failing_since,
            pause: None,
            wait: None,
            more: false,
        };
        for _ in 0..IN_ONE_GO {
            match self.one(&mut ran).await {
                Ok(true) => {}
                Ok(false) => return ran,
                Err(error) => {
                    tracing::warn!(hook = %self.hook.id, %error, "what a webhook is to be told cannot be read or kept now");
                    (ran.wait, ran.more) = (Some(AGAIN), true);
                    return ran;
                }
            }
        }
        ran.more = true;
        ran
    }

    /// Sends the first that waits; says whether to go on.
    async fn one(&self, ran: &mut Ran) -> Result<bool, PortError> {
        let Some(waiting) = self.ports.store.next(self.hook.tenant, self.hook.id).await? else {
            return Ok(false);
        };
        let now = self.ports.clock.now();
        let early = waiting.due_at.micros().saturating_sub(now.micros());
        if early > 0 {
            (ran.wait, ran.more) = (Some(Duration::from_micros(early.unsigned_abs())), true);
            return Ok(false);
        }
        let moment = now.seconds();
        let outgoing = Outgoing {
            url: self.hook.url.to_string(),
            signature: self.signing.sign(&waiting.id, moment, &waiting.body),
            id: waiting.id,
            moment,
            body: waiting.body,
            trusted: (self.hook.tenant, self.hook.id) == Hook::OPERATOR,
        };
        let (reaction, status, response) = match self.ports.sender.send(outgoing).await {
            Ok((status, response)) => (Reaction::Status(status), Some(status), response),
            Err(error) => (Reaction::Silence, None, error.to_string()),
        };
        let at = self.ports.clock.now();
        let attempts = waiting.attempts.saturating_add(1);
        let next = self.patience.after(&reaction, attempts, ran.failing_since, at);
        let fate = match next {
            Next::Delivered => Fate::Delivered,
            Next::Again(wait) => {
                let wait = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
                Fate::Waits(Timestamp::from_micros(at.micros().saturating_add(wait)))
            }
            Next::GiveUp => Fate::GivenUp,
            // As it was: whoever lets it go on again wants it at once.
            Next::Pause => Fate::Waits(at),
        };
        let attempt = Attempt { position: waiting.position, fate, status, response: response.clone(), at };
        self.ports.store.tried(self.hook.tenant, self.hook.id, &attempt).await?;
        match next {
            Next::Delivered => {
                ran.sent += 1;
                ran.failing_since = None;
                return Ok(true);
            }
            Next::Again(wait) => {
                ran.failing_since = ran.failing_since.or(Some(at));
                (ran.wait, ran.more) = (Some(wait), true);
            }
            Next::GiveUp => {
                let (hook, tenant) = (self.hook.id, self.hook.tenant);
                tracing::error!(%hook, %tenant, ?status, response, "a webhook refuses a message, which was given up");
                ran.failed += 1;
                return Ok(true);
            }
            Next::Pause => {
                let why = status.map_or_else(|| response.clone(), |status| format!("HTTP {status}"));
                ran.pause = Some(format!("no responde desde hace demasiado: {why}").into());
            }
        }
        ran.failed += 1;
        Ok(false)
    }
}

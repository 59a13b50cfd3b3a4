//! Sees handlers that block their thread, which no time limit on that thread can cut short.
//!
//! A plain thread compares when each actor's current poll began with now. A handler that waits is not being polled,
//! however long it waits. The blocked thread is not replaced: nobody knows what the handler still does, and the single
//! writer must not run twice. What to do is the callback's; the application's ends the process.

use super::{registry::Registry, vitals::stamp};
use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::Duration,
};

/// An actor that has blocked its thread for too long.
#[derive(Clone, Debug)]
pub struct Freeze {
    /// Its name.
    pub actor: String,
    /// For how long so far.
    pub blocked: Duration,
}

/// Watches while it exists.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Calls `on_freeze`, on the watchdog's thread, once for each poll that takes longer than `limit`.
    pub fn start(
        registry: &Registry,
        limit: Duration,
        on_freeze: impl Fn(&Freeze) + Send + 'static,
    ) -> std::io::Result<Self> {
        let registry = registry.clone();
        let (stop, stopped) = mpsc::channel();
        // Often enough that a freeze is seen at most a quarter late.
        let every = (limit / 4).max(Duration::from_millis(1));
        let thread = std::thread::Builder::new().name("actor-watchdog".into()).spawn(move || {
            let mut known: Vec<(String, u64)> = Vec::new();
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                look(&registry, limit, &mut known, &on_freeze);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the actor watchdog panicked");
        }
    }
}

/// `known`: the polls that were reported, by actor and beginning.
fn look(registry: &Registry, limit: Duration, known: &mut Vec<(String, u64)>, on_freeze: &impl Fn(&Freeze)) {
    for vitals in registry.snapshot() {
        let since = vitals.busy_since();
        let blocked = if since == 0 { 0 } else { stamp().saturating_sub(since) };
        let reported = known.iter().position(|(name, _)| *name == vitals.name);
        if let Some(at) = reported
            && known[at].1 != since
        {
            known.swap_remove(at);
            vitals.set_frozen(false);
            tracing::warn!(actor = vitals.name, "frozen actor came back");
        }
        if u128::from(blocked) > limit.as_nanos() && !vitals.set_frozen(true) {
            known.push((vitals.name.clone(), since));
            let freeze = Freeze { actor: vitals.name.clone(), blocked: Duration::from_nanos(blocked) };
            tracing::error!(actor = freeze.actor, blocked = ?freeze.blocked, "actor has blocked its thread");
            on_freeze(&freeze);
        }
    }
}

//! What is known about one actor from outside its thread: atomics that its shell and keeper write and anyone reads.
//!
//! The bound of the mailbox lives here too, so that a [`Reply`](super::Reply) and a waiting message can give their
//! place back without knowing the type of the actor.

use super::{
    failure::{Failure, FailureKind},
    registry::ActorState,
};
use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};
use tokio::sync::{Semaphore, watch};

/// Nanoseconds since the first call in this process, never 0: 0 means "not" wherever a stamp is stored.
pub(crate) fn stamp() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let since = ORIGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX - 1) + 1
}

/// How far an actor is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Open,
    Draining,
    Stopped,
}

/// A counter with one writer, the actor's own thread: a load and a store are cheaper than a locked add.
#[derive(Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
    pub(crate) fn raise_to(&self, n: u64) {
        if n > self.0.load(Relaxed) {
            self.0.store(n, Relaxed);
        }
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

pub(crate) struct LastError {
    pub(crate) message: String,
    pub(crate) at: SystemTime,
}

pub(crate) struct Vitals {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) parent: Option<String>,
    pub(crate) capacity: usize,
    /// One permit per place in the mailbox; taken by hand and given back by [`Vitals::release`].
    pub(crate) room: Semaphore,
    pub(crate) phase: watch::Sender<Phase>,
    state: AtomicU8,
    frozen: AtomicBool,
    /// When the poll that is running now began; 0 between polls.
    busy_since: AtomicU64,
    pub(crate) feedback: AtomicUsize,
    pub(crate) piped: AtomicUsize,
    pub(crate) incarnation: AtomicU64,
    pub(crate) handled: Tally,
    pub(crate) stale: Tally,
    pub(crate) failed: Tally,
    pub(crate) panics: Tally,
    pub(crate) timeouts: Tally,
    pub(crate) restarts: Tally,
    pub(crate) discarded: Tally,
    pub(crate) busy_ns: Tally,
    pub(crate) busy_max_ns: Tally,
    pub(crate) wait_ns: Tally,
    pub(crate) wait_max_ns: Tally,
    pub(crate) last_error: Mutex<Option<LastError>>,
    pub(crate) observed: Mutex<serde_json::Value>,
    /// A message was handled since the snapshot was taken.
    pub(crate) unobserved: AtomicBool,
    /// Asks the actor for a new snapshot.
    pub(crate) ask_to_observe: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Vitals {
    pub(crate) fn new(name: String, kind: &'static str, parent: Option<String>, capacity: usize) -> Self {
        Self {
            name,
            kind,
            parent,
            capacity,
            room: Semaphore::new(capacity),
            phase: watch::Sender::new(Phase::Open),
            state: AtomicU8::new(ActorState::Starting as u8),
            frozen: AtomicBool::new(false),
            busy_since: AtomicU64::new(0),
            feedback: AtomicUsize::new(0),
            piped: AtomicUsize::new(0),
            incarnation: AtomicU64::new(0),
            handled: Tally::default(),
            stale: Tally::default(),
            failed: Tally::default(),
            panics: Tally::default(),
            timeouts: Tally::default(),
            restarts: Tally::default(),
            discarded: Tally::default(),
            busy_ns: Tally::default(),
            busy_max_ns: Tally::default(),
            wait_ns: Tally::default(),
            wait_max_ns: Tally::default(),
            last_error: Mutex::new(None),
            observed: Mutex::new(serde_json::Value::Null),
            unobserved: AtomicBool::new(false),
            ask_to_observe: OnceLock::new(),
        }
    }

    /// Gives back one place in the mailbox.
    pub(crate) fn release(&self) {
        self.room.add_permits(1);
    }

    /// Messages accepted and not yet answered or handled.
    pub(crate) fn depth(&self) -> usize {
        self.capacity.saturating_sub(self.room.available_permits())
    }

    pub(crate) fn stopped(&self) -> bool {
        *self.phase.borrow() == Phase::Stopped
    }

    pub(crate) fn shutting_down(&self) -> bool {
        *self.phase.borrow() != Phase::Open
    }

    /// Moves on towards the end, never back.
    pub(crate) fn enter_phase(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = next > *phase;
            if later {
                *phase = next;
            }
            later
        });
    }

    /// Resolves when the actor is gone.
    pub(crate) async fn until_stopped(&self) {
        // The sender is in `self`, so the wait cannot fail.
        drop(self.phase.subscribe().wait_for(|phase| *phase == Phase::Stopped).await);
    }

    pub(crate) fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Relaxed);
    }

    /// The state as operators see it: freezing and draining lie over what the keeper says.
    pub(crate) fn state(&self) -> ActorState {
        let state = ActorState::from_u8(self.state.load(Relaxed));
        match (*self.phase.borrow(), state) {
            (Phase::Stopped, _) => ActorState::Stopped,
            _ if self.frozen.load(Relaxed) => ActorState::Frozen,
            (Phase::Draining, ActorState::Running) => ActorState::Draining,
            (_, state) => state,
        }
    }

    /// Code of the actor begins to run on its thread.
    pub(crate) fn begin_poll(&self, now: u64) {
        self.busy_since.store(now, Relaxed);
    }

    /// It came back.
    pub(crate) fn end_poll(&self) {
        self.busy_since.store(0, Relaxed);
    }

    pub(crate) fn busy_since(&self) -> u64 {
        self.busy_since.load(Relaxed)
    }

    /// Returns what was there before.
    pub(crate) fn set_frozen(&self, frozen: bool) -> bool {
        self.frozen.swap(frozen, Relaxed)
    }

    /// Has a snapshot taken that is older than the last message. The next report shows it.
    pub(crate) fn refresh_snapshot(&self) {
        if self.unobserved.swap(false, Relaxed)
            && let Some(ask) = self.ask_to_observe.get()
        {
            ask();
        }
    }

    pub(crate) fn note_failure(&self, failure: &Failure) {
        self.failed.add(1);
        match failure.kind {
            FailureKind::Panic => self.panics.add(1),
            FailureKind::TimedOut => self.timeouts.add(1),
            FailureKind::Fault => {}
        }
        let last = LastError { message: failure.message.clone(), at: SystemTime::now() };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}

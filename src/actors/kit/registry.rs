//! All actors of the program, and what is known of each: for the operators' pages, the metrics and the watchdog.

use super::vitals::Vitals;
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::SystemTime,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What an actor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ActorState {
    /// Its first state is being built.
    Starting,
    /// It takes messages.
    Running,
    /// It failed, or a sibling did; its messages wait until a new state is built.
    Restarting,
    /// It failed too often; its messages wait for the supervisor's verdict.
    Escalated,
    /// A handler has blocked its thread for longer than the watchdog allows.
    Frozen,
    /// It takes no new work and finishes what it has.
    Draining,
    /// It is gone.
    Stopped,
}

impl ActorState {
    pub(crate) fn from_u8(state: u8) -> Self {
        const ALL: [ActorState; 7] = [
            ActorState::Starting,
            ActorState::Running,
            ActorState::Restarting,
            ActorState::Escalated,
            ActorState::Frozen,
            ActorState::Draining,
            ActorState::Stopped,
        ];
        // Only values made by `as u8` are stored.
        ALL.get(usize::from(state)).copied().unwrap_or(ActorState::Stopped)
    }

    /// As in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Escalated => "escalated",
            Self::Frozen => "frozen",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// The vitals of one actor, or supervisor, at one moment. Times are sums since the start of the program.
#[derive(Clone, Debug, Serialize)]
pub struct ActorReport {
    /// Unique in the program.
    pub name: String,
    /// The kind of behaviour, or "supervisor".
    pub kind: &'static str,
    /// The supervisor above; none for a root.
    pub parent: Option<String>,
    /// What it is doing.
    pub state: ActorState,
    /// Which state this is: 1 for the first, one more with every rebuild.
    pub incarnation: u64,
    /// Messages accepted and not yet answered or handled.
    pub mailbox_depth: usize,
    /// The bound of the above.
    pub mailbox_capacity: usize,
    /// Messages past the bound: from itself and from downstream.
    pub feedback_depth: usize,
    /// Futures running beside the mailbox.
    pub piped: usize,
    /// Messages handled without a failure.
    pub handled: u64,
    /// Messages dropped because they belonged to an earlier incarnation.
    pub stale: u64,
    /// Failures of all kinds; for a supervisor, children that spent their budget.
    pub failed: u64,
    /// Failures that were panics.
    pub panics: u64,
    /// Failures that were handlers cut short by the time limit.
    pub timeouts: u64,
    /// Rebuilds, ordered ones included.
    pub restarts: u64,
    /// Messages that waited when the actor was stopped.
    pub discarded: u64,
    /// The last failure.
    pub last_error: Option<String>,
    /// When that was, RFC 3339.
    pub last_error_at: Option<String>,
    /// Time spent running handlers; a handler that waits is not running.
    pub busy_us: u64,
    /// The longest a single message took of it.
    pub busy_max_us: u64,
    /// Time messages waited in the mailbox.
    pub queue_wait_us: u64,
    /// The longest a single message waited.
    pub queue_wait_max_us: u64,
    /// What the behaviour says of itself.
    pub observed: serde_json::Value,
}

/// An actor or supervisor with those below it.
#[derive(Clone, Debug, Serialize)]
pub struct ActorTree {
    /// Its vitals.
    #[serde(flatten)]
    pub report: ActorReport,
    /// In the order they were started.
    pub children: Vec<ActorTree>,
}

/// All actors of the program. Clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry {
    actors: Arc<Mutex<Vec<Arc<Vitals>>>>,
    /// Who is on the metrics.
    exported: Arc<Mutex<HashMap<String, &'static str>>>,
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Vitals>>> {
        self.actors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, vitals: Arc<Vitals>) {
        self.lock().push(vitals);
    }

    /// Forgets an actor, and whatever is below it.
    pub(crate) fn remove(&self, name: &str) {
        let mut actors = self.lock();
        let mut gone = vec![name.to_owned()];
        while let Some(name) = gone.pop() {
            actors.retain(|vitals| {
                if vitals.parent.as_ref() == Some(&name) {
                    gone.push(vitals.name.clone());
                }
                vitals.name != name
            });
        }
    }

    pub(crate) fn snapshot(&self) -> Vec<Arc<Vitals>> {
        self.lock().clone()
    }

    /// Everyone, in the order they were started. No actor is waited for, so it works when they
    /// hang; one whose snapshot is older than its last message is asked to have a new one ready for the next report.
    pub fn report(&self) -> Vec<ActorReport> {
        self.snapshot().iter().map(|vitals| report(vitals)).collect()
    }

    /// The actor of that name.
    pub fn find(&self, name: &str) -> Option<ActorReport> {
        self.snapshot().iter().find(|vitals| vitals.name == name).map(|vitals| report(vitals))
    }

    /// The roots, with everyone below them.
    pub fn tree(&self) -> Vec<ActorTree> {
        let mut below: HashMap<Option<String>, Vec<ActorReport>> = HashMap::new();
        for report in self.report() {
            below.entry(report.parent.clone()).or_default().push(report);
        }
        branch(&mut below, None)
    }

    /// Copies the vitals to the metrics; the application calls it once a second. Of an actor that is not here any more
    /// (its shard moved to another node) all levels are zero, its capacity too.
    pub fn export_metrics(&self) {
        let reports = self.report();
        reports.iter().for_each(export);
        let mut exported = self.exported.lock().unwrap_or_else(PoisonError::into_inner);
        for report in reports {
            exported.insert(report.name, report.kind);
        }
        let here = self.lock();
        exported.retain(|name, kind| {
            let is_here = here.iter().any(|vitals| vitals.name == *name);
            if !is_here {
                set_levels(name, kind, [0; LEVELS.len()]);
            }
            is_here
        });
    }
}

fn branch(below: &mut HashMap<Option<String>, Vec<ActorReport>>, parent: Option<String>) -> Vec<ActorTree> {
    let reports = below.remove(&parent).unwrap_or_default();
    let with_children = |report: ActorReport| {
        let children = branch(below, Some(report.name.clone()));
        ActorTree { report, children }
    };
    reports.into_iter().map(with_children).collect()
}

fn report(vitals: &Vitals) -> ActorReport {
    vitals.refresh_snapshot();
    let last_error = vitals.last_error.lock().unwrap_or_else(PoisonError::into_inner);
    let last_error_at = last_error.as_ref().and_then(|last| rfc3339(last.at));
    let last_error = last_error.as_ref().map(|last| last.message.clone());
    ActorReport {
        name: vitals.name.clone(),
        kind: vitals.kind,
        parent: vitals.parent.clone(),
        state: vitals.state(),
        incarnation: vitals.incarnation.load(Relaxed),
        mailbox_depth: vitals.depth(),
        mailbox_capacity: vitals.capacity,
        feedback_depth: vitals.feedback.load(Relaxed),
        piped: vitals.piped.load(Relaxed),
        handled: vitals.handled.get(),
        stale: vitals.stale.get(),
        failed: vitals.failed.get(),
        panics: vitals.panics.get(),
        timeouts: vitals.timeouts.get(),
        restarts: vitals.restarts.get(),
        discarded: vitals.discarded.get(),
        last_error,
        last_error_at,
        busy_us: vitals.busy_ns.get() / 1000,
        busy_max_us: vitals.busy_max_ns.get() / 1000,
        queue_wait_us: vitals.wait_ns.get() / 1000,
        queue_wait_max_us: vitals.wait_max_ns.get() / 1000,
        observed: vitals.observed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}

fn rfc3339(at: SystemTime) -> Option<String> {
    OffsetDateTime::from(at).format(&Rfc3339).ok()
}

/// What is exported as a level.
const LEVELS: [&str; 6] = [
    "blend_actor_mailbox_depth",
    "blend_actor_mailbox_capacity",
    "blend_actor_feedback_depth",
    "blend_actor_piped",
    "blend_actor_up",
    "blend_actor_frozen",
];

fn labels(name: &str, kind: &'static str) -> [(&'static str, String); 2] {
    [("actor", name.to_owned()), ("kind", kind.to_owned())]
}

fn set_levels(name: &str, kind: &'static str, levels: [usize; LEVELS.len()]) {
    let labels = labels(name, kind);
    for (level, value) in LEVELS.into_iter().zip(levels) {
        // Exact up to 2^53, and no mailbox is larger.
        metrics::gauge!(level, &labels).set(value as f64);
    }
}

/// Levels as gauges, sums as counters. The macro registers once per name and label set.
fn export(report: &ActorReport) {
    let levels = [
        report.mailbox_depth,
        report.mailbox_capacity,
        report.feedback_depth,
        report.piped,
        usize::from(report.state == ActorState::Running),
        usize::from(report.state == ActorState::Frozen),
    ];
    set_levels(&report.name, report.kind, levels);
    let labels = labels(&report.name, report.kind);
    let counter = |name: &'static str, value: u64| metrics::counter!(name, &labels).absolute(value);
    counter("blend_actor_handled_total", report.handled);
    counter("blend_actor_failed_total", report.failed);
    counter("blend_actor_panics_total", report.panics);
    counter("blend_actor_timeouts_total", report.timeouts);
    counter("blend_actor_restarts_total", report.restarts);
    counter("blend_actor_discarded_total", report.discarded);
    counter("blend_actor_busy_microseconds_total", report.busy_us);
    counter("blend_actor_queue_wait_microseconds_total", report.queue_wait_us);
}

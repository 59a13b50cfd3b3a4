//! A channel: keeps one connection's items at what they should show, and takes in what is ordered there.
//!
//! Owns the client of one account and the [`Board`] of its units. The truth at rest is what each item was last
//! confirmed to show; what should be shown comes from hot stock. Whatever differs is pushed, the newest quantity only,
//! so nothing is queued and nothing can be lost: after a restart the same comparison finds the same work.
//!
//! | | |
//! |---|---|
//! | mailbox | [`CAPACITY`] asks; movements come as feedback, merged per unit as they arrive |
//! | restart | with back-off, without end: compares everything anew; a push of unknown outcome is found by comparing and swapping |
//! | messages in | movements from the [`channels`](super::channels) actor, asks of people through it |
//! | messages out | asks to the shards: what is available; orders as sales, cancellations as voids |
//!
//! One call at a time is under way; its client travels with it and comes back with the answer ([`Job`], `jobs.rs`).
//! What an answer means is decided in the channel's own `retry.rs`, what follows from it in `outcome.rs`.

mod jobs;
mod letters;
mod looking;
mod messages;
mod opening;
mod orders;
mod outcome;
mod renewal;
#[cfg(test)]
mod tests;

use super::kit::{Behaviour, Cx, Fault};
use super::listening::Hearing;
use super::reservation::Shards;
use crate::domain::channel::drift::Drift;
use crate::domain::channel::{Board, Connection};
use crate::domain::ids::UnitId;
use crate::domain::time::Timestamp;
use crate::ports::channel::{Call, ChannelStore, Marketplace, OpenMarketplace, Sealed, Vault};
use crate::ports::clock::SharedClock;
use crate::resilience::backoff::{BackoffPolicy, Delays};
use crate::resilience::circuit_breaker::{BreakerPolicy, CircuitBreaker};
use jobs::Job;
pub use messages::{Change, Msg, Status};
use metrics::Counter;
use serde_json::json;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Asks that a channel may have open at once.
pub const CAPACITY: usize = 64;

/// How long to wait before asking the shards again for something that they do not have yet.
const SOON: Duration = Duration::from_millis(20);

/// An item that shows less than we thought is not raised for so long: news of the order may be on its way.
const GRACE: Duration = Duration::from_secs(3);

/// Everything is compared so often while nothing is heard of what happens.
const UNHEARD: Duration = Duration::from_secs(1);

/// How long a connection that needs a person is left alone before it is tried again.
const BROKEN: Duration = Duration::from_secs(60);

/// How often it is seen to that the marketplace still tells us: it stops when we were away for too long.
const SUBSCRIBE: Duration = Duration::from_secs(3_600);

/// Between attempts of a call that met passing trouble.
const AGAIN: BackoffPolicy = BackoffPolicy::doubling(Duration::from_millis(250), Duration::from_secs(15));

/// Differences kept for a person to decide about; more are counted and found again by the next round.
const MOST_DRIFT: usize = 1_000;

/// So long after a moment.
fn later(moment: Timestamp, pause: Duration) -> Timestamp {
    let pause = i64::try_from(pause.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(moment.micros().saturating_add(pause))
}

/// What a channel works with.
#[derive(Clone)]
pub struct Ports {
    /// What must outlive the process.
    pub store: Arc<dyn ChannelStore>,
    /// Opens credentials.
    pub vault: Arc<dyn Vault>,
    /// Makes the client.
    pub open: OpenMarketplace,
    /// Stock, sales, voids.
    pub shards: Shards,
    /// Time.
    pub clock: SharedClock,
}

/// How a channel takes its time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What moves within it goes out together.
    pub window: Duration,
    /// Everything is compared with hot stock so often, though movements are heard of.
    pub sweep: Duration,
    /// The next hundred items are read so often.
    pub reconcile: Duration,
    /// Longer than a marketplace may take to give fresh credentials.
    pub renewal: Duration,
}

/// Which marketplace an instance is for.
pub trait Kind: 'static {
    /// Its name.
    const NAME: &'static str;
}

/// Shopify.
pub struct ForShopify;

/// MercadoLibre.
pub struct ForMeli;

impl Kind for ForShopify {
    const NAME: &'static str = "shopify";
}

impl Kind for ForMeli {
    const NAME: &'static str = "meli";
}

/// One connection to Shopify.
pub type ShopifyActor = Channel<ForShopify>;

/// One connection to MercadoLibre.
pub type MeliActor = Channel<ForMeli>;

#[derive(Default)]
struct Counts {
    calls: u64,
    pushed: u64,
    stale: u64,
    failed: u64,
    drift: u64,
    orders: u64,
    oversold: u64,
    echoes: u64,
}

struct Metrics {
    pushed: Counter,
    calls: Counter,
    failed: Counter,
    drift: Counter,
    oversold: Counter,
}

/// The state.
pub struct Channel<K> {
    ports: Ports,
    connection: Connection,
    pace: Pace,
    /// None while a job has it, or while the connection cannot be opened at all.
    market: Option<Box<dyn Marketplace>>,
    /// What the client was opened with, or got since, as it is at rest.
    sealed: Sealed,
    /// A job has it.
    is_out: bool,
    /// Takes the place of the one that is out, once that is back.
    fresh: Option<Box<dyn Marketplace>>,
    board: Board,
    /// Which unit an item is.
    units: HashMap<String, UnitId>,
    /// Moved and not looked at yet.
    marked: HashMap<UnitId, bool>,
    /// The last event heard of.
    heard: u64,
    hearing: Hearing,
    /// The comparing that is next; those before it were done early.
    next_sweep: u64,
    looking: bool,
    turn_due: bool,
    jobs: VecDeque<Job>,
    /// A call whose outcome is not known or that had to wait: made again, the same, before any other push.
    pending: Option<(Call, u32)>,
    /// Nothing is called before this moment.
    not_before: Option<tokio::time::Instant>,
    /// Pushes of one call at most, while a culprit is being looked for.
    batch: usize,
    broken: Option<String>,
    last_error: Option<String>,
    drift: BTreeMap<UnitId, Drift>,
    /// Behind which unit the rolling reader goes on.
    read_behind: Option<UnitId>,
    breaker: Arc<CircuitBreaker>,
    delays: Delays,
    news_due: bool,
    /// What became of a notice is being found out and kept; the next one waits, for it may be about the same order.
    taking: bool,
    /// The notice that is being read or taken in: it is still at rest, and not to be taken up twice.
    in_hand: Option<String>,
    counts: Counts,
    metrics: Metrics,
    kind: PhantomData<K>,
}

impl<K: Kind> Channel<K> {
    /// A channel that opens its account when it starts.
    pub fn new(ports: Ports, connection: Connection, pace: Pace, hearing: Hearing) -> Self {
        let count = |name: &'static str| metrics::counter!(name, "channel" => K::NAME);
        Self {
            ports,
            connection,
            pace,
            market: None,
            sealed: Sealed { key_id: String::new(), bytes: Vec::new() },
            is_out: false,
            fresh: None,
            board: Board::default(),
            units: HashMap::new(),
            marked: HashMap::new(),
            heard: 0,
            hearing,
            next_sweep: 0,
            looking: false,
            turn_due: false,
            jobs: VecDeque::new(),
            pending: None,
            not_before: None,
            batch: usize::MAX,
            broken: None,
            last_error: None,
            drift: BTreeMap::new(),
            read_behind: None,
            breaker: Arc::new(CircuitBreaker::new(K::NAME, BreakerPolicy::default())),
            delays: AGAIN.delays(),
            news_due: false,
            taking: false,
            in_hand: None,
            counts: Counts::default(),
            metrics: Metrics {
                pushed: count("blend_channel_pushed_total"),
                calls: count("blend_channel_calls_total"),
                failed: count("blend_channel_failed_total"),
                drift: count("blend_channel_drift_total"),
                oversold: count("blend_channel_oversold_total"),
            },
            kind: PhantomData,
        }
    }

    fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// A wait is over. What needed a person is tried again: perhaps somebody has seen to it.
    fn again(&mut self, cx: &mut Cx<Self>) {
        if self.broken.is_some() && self.market.is_some() {
            self.broken = None;
        }
        self.work(cx);
    }

    async fn resync(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.broken = None;
        self.not_before = None;
        self.retry_all().await?;
        self.sweep(cx);
        let units: Vec<_> = self.board.units().collect();
        if !units.is_empty() {
            self.jobs.push_back(Job::Read { units, lost: false });
        }
        self.look_for_news(cx);
        self.work(cx);
        Ok(())
    }
}

impl<K: Kind> Behaviour for Channel<K> {
    const KIND: &'static str = K::NAME;
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.open().await?;
        self.load(cx).await?;
        self.sweep_later(cx);
        cx.notify_after(self.pace.reconcile, Msg::Reconcile);
        cx.notify(Msg::News);
        cx.notify(Msg::Subscribe);
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Moved { units, sequence } => {
                self.heard = self.heard.max(sequence);
                self.mark(units, cx);
            }
            Msg::Turn => {
                self.turn_due = false;
                self.look(cx);
            }
            Msg::Looked { marked, available, heard } => {
                self.looked(marked, available, heard, cx);
                self.forget_superseded().await?;
            }
            Msg::Sweep(number) if number != self.next_sweep => {}
            Msg::Sweep(_) => {
                self.retry_forgotten().await?;
                self.sweep(cx);
                self.sweep_later(cx);
            }
            Msg::HearingChanged => {
                self.sweep(cx);
                self.sweep_later(cx);
            }
            Msg::Reconcile => {
                self.read_on();
                self.ask_for_missed();
                cx.notify_after(self.pace.reconcile, Msg::Reconcile);
                self.work(cx);
            }
            Msg::Subscribe => {
                if !self.jobs.iter().any(|job| matches!(job, Job::Subscribe)) {
                    self.jobs.push_back(Job::Subscribe);
                }
                cx.notify_after(SUBSCRIBE, Msg::Subscribe);
                self.work(cx);
            }
            Msg::News => self.look_for_news(cx),
            Msg::Notices(notices) => self.take_notices(notices, cx),
            Msg::Done(done) => self.done(*done, cx).await?,
            Msg::Taken(taken) => self.taken(taken, cx).await?,
            Msg::Kept(kept) => {
                kept?;
                (self.taking, self.in_hand) = (false, None);
                self.look_for_news(cx);
                self.work(cx);
            }
            Msg::Again => self.again(cx),
            Msg::Status(reply) => self.status(reply).await?,
            Msg::Pause(paused, reply) => {
                let changed = Connection { paused, ..self.connection.clone() };
                self.ports.store.save(&changed, None).await?;
                self.connection = changed;
                reply.send(());
                self.work(cx);
            }
            Msg::Change(change, reply) => reply.send(self.change(*change, cx).await?),
            Msg::Map { unit, item, reply } => self.ask_market(Job::Map { unit, item, reply }, cx),
            Msg::Unmap(unit, reply) => reply.send(self.unmap(unit).await?),
            Msg::Resync(reply) => {
                self.resync(cx).await?;
                reply.send(());
            }
            Msg::Retry(letters, reply) => reply.send(self.retry(&letters, cx).await?),
            Msg::Discard(letters, reply) => reply.send(self.discard(&letters).await?),
            Msg::Check(reply) => self.ask_market(Job::Check(reply), cx),
            Msg::Match { apply, reply } => {
                let job = Job::Match { apply, reply, listed: Vec::new(), after: None };
                self.ask_market(job, cx);
            }
            Msg::ConfirmZeros(reply) => {
                reply.send(self.board.confirm_zeros());
                self.work(cx);
            }
            Msg::PushOurs(reply) => {
                let now = self.now();
                let drift = std::mem::take(&mut self.drift);
                drift.values().for_each(|drift| self.board.show(drift.unit, drift.theirs, now));
                reply.send(drift.len());
                self.work(cx);
            }
        }
        Ok(())
    }

    fn observe(&self) -> serde_json::Value {
        let (counts, [clean, dirty, held, failed]) = (&self.counts, self.board.counts());
        json!({
            "connection": self.connection.id, "tenant": self.connection.tenant, "paused": self.connection.paused,
            "broken": self.broken, "last_error": self.last_error, "circuit": self.breaker.state().as_str(),
            "clean": clean, "dirty": dirty, "held": held, "failed": failed, "drift": self.drift.len(),
            "calls": counts.calls, "pushed": counts.pushed, "stale": counts.stale, "given_up": counts.failed,
            "drift_found": counts.drift, "orders": counts.orders, "oversold": counts.oversold,
            "echoes": counts.echoes, "retrying": self.pending.is_some(),
        })
    }
}

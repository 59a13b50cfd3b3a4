//! What a channel is asked, and how it says it stands.

use super::jobs::Done;
use super::{Channel, Kind, orders};
use crate::actors::kit::{Fault, Reply};
use crate::actors::reservation::Available;
use crate::domain::channel::board::Seen;
use crate::domain::channel::drift::Drift;
use crate::domain::channel::guard::Guard;
use crate::domain::channel::mapping::MatchReport;
use crate::domain::channel::{Connection, DriftPolicy, Mode, Policy};
use crate::domain::dead_letter::LetterId;
use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, UnitId};
use crate::ports::PortError;
use crate::ports::channel::{Credentials, Failure, GivenUp, Notice, OrderRecord};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The messages of a channel.
pub enum Msg {
    /// Units moved; true for those that nothing but sales moved. The tenant's event of that number did it.
    Moved { units: Vec<(UnitId, bool)>, sequence: u64 },
    /// What the shards have.
    Looked {
        marked: HashMap<UnitId, bool>,
        available: Option<Available>,
        /// The last event that had been heard of when they were asked: what they say must include it.
        heard: u64,
    },
    /// The window is over.
    Turn,
    /// Compare everything, for the time of that number.
    Sweep(u64),
    /// What happens is heard of from now on, or is not any more: something may have been missed.
    HearingChanged,
    /// Read the next items.
    Reconcile,
    /// See to it that the marketplace tells us.
    Subscribe,
    /// There is news at rest.
    News,
    /// News that was waiting is to be looked at.
    Notices(Vec<Notice>),
    /// A job ended.
    Done(Box<Done>),
    /// What came of an order.
    Taken(Result<orders::Taken, PortError>),
    /// It is kept.
    Kept(Result<(), PortError>),
    /// A call that has to wait may be made again.
    Again,
    /// How it stands.
    Status(Reply<Status>),
    /// Stop or go on.
    Pause(bool, Reply<()>),
    /// Other rules or other tokens, from now on; says why not.
    Change(Box<Change>, Reply<Result<(), String>>),
    /// A person says which item a unit is, or that it is none.
    Map { unit: UnitId, item: String, reply: Reply<Result<i64, String>> },
    /// A unit is no item any more; false when it was none.
    Unmap(UnitId, Reply<bool>),
    /// Everything again: compare, forget what failed, try what is broken.
    Resync(Reply<()>),
    /// What was given up is tried again; says how much of it was still there.
    Retry(Vec<LetterId>, Reply<usize>),
    /// What was given up is thrown away; says how much of it was still there.
    Discard(Vec<LetterId>, Reply<usize>),
    /// Does the account work?
    Check(Reply<Result<String, String>>),
    /// Which unit is which item? Takes the certain ones over if told to.
    Match { apply: bool, reply: Reply<Result<MatchReport, String>> },
    /// The zeros held back are right.
    ConfirmZeros(Reply<usize>),
    /// Theirs is wrong: push ours where they differ.
    PushOurs(Reply<usize>),
}

/// What is to be different about a connection; nothing else is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// What people call it.
    pub name: Option<Arc<str>>,
    /// Whose stock is shown.
    pub sources: Option<Vec<LocationId>>,
    /// What is never offered.
    pub buffer: Option<Quantity>,
    /// How quantities are written.
    pub mode: Option<Mode>,
    /// What is done about drift.
    pub drift: Option<DriftPolicy>,
    /// When zeros wait for a person.
    pub guard: Option<Guard>,
    /// What opens the account, after its owner has agreed anew. What belongs to the app may be left out.
    pub credentials: Option<Credentials>,
}

impl Change {
    /// The connection with it.
    pub fn of(self, connection: &Connection) -> Connection {
        let before = &connection.policy;
        Connection {
            name: self.name.unwrap_or_else(|| connection.name.clone()),
            sources: self.sources.unwrap_or_else(|| connection.sources.clone()),
            policy: Policy {
                buffer: self.buffer.unwrap_or(before.buffer),
                mode: self.mode.unwrap_or(before.mode),
                drift: self.drift.unwrap_or(before.drift),
                guard: self.guard.unwrap_or(before.guard),
            },
            ..connection.clone()
        }
    }
}

/// How a connection stands.
#[derive(Clone, Debug)]
pub struct Status {
    /// The connection.
    pub connection: Connection,
    /// What a person has to do before anything works again.
    pub broken: Option<String>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
    /// Units that are clean, dirty, held, failed.
    pub counts: [usize; 4],
    /// How long the unit that waits the longest has waited.
    pub lag: Duration,
    /// The units that are not clean.
    pub rows: Vec<Seen>,
    /// Where they show something else than they were told to, and a person decides.
    pub drift: Vec<Drift>,
    /// Pushes that were given up.
    pub failures: Vec<Failure>,
    /// News that was given up.
    pub given_up: Vec<GivenUp>,
    /// Orders, those that need a person first.
    pub orders: Vec<OrderRecord>,
    /// Calls made, quantities confirmed.
    pub calls: u64,
    /// Quantities that were confirmed.
    pub pushed: u64,
}

/// Rows shown to whoever asks how a connection stands.
const SHOWN: usize = 200;

impl<K: Kind> Channel<K> {
    pub(super) async fn status(&mut self, reply: Reply<Status>) -> Result<(), Fault> {
        let (tenant, id) = (self.connection.tenant, self.connection.id);
        let now = self.now().micros();
        let lag = self.board.oldest().map_or(0, |oldest| now.saturating_sub(oldest.micros()));
        let failures = self.ports.store.failures(tenant, id, SHOWN).await?;
        let given_up = self.ports.store.given_up(tenant, id, SHOWN).await?;
        let orders = self.ports.store.orders(tenant, id, SHOWN).await?;
        reply.send(Status {
            connection: self.connection.clone(),
            broken: self.broken.clone(),
            last_error: self.last_error.clone(),
            counts: self.board.counts(),
            lag: Duration::from_micros(lag.unsigned_abs()),
            rows: self.board.unclean(SHOWN),
            drift: self.drift.values().copied().collect(),
            failures,
            given_up,
            orders,
            calls: self.counts.calls,
            pushed: self.counts.pushed,
        });
        Ok(())
    }
}

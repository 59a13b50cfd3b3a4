//! The outbox in Redis: a list for each shard, and who may add to it.
//!
//! It is as durable as Redis is: with `appendonly yes` and `appendfsync always` an answer means that it is on the disk.
//! With less a restart may lose the last second, and a replica that takes over may lack what was answered; see
//! [`RedisHome::keeps_every_write`].

use super::home::RedisHome;
use crate::domain::event::Event;
use crate::ports::PortError;
use crate::ports::outbox::{Outbox, OutboxError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Script, Value};
use std::sync::{Arc, LazyLock};

/// Events that are read in one command.
const CHUNK: usize = 500;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../../lua/outbox_take.lua")));
static ADD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../../lua/outbox_add.lua")));
static TRIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../../lua/outbox_trim.lua")));

const OK: i64 = 1;
const LOST: i64 = -2;
const FENCED: i64 = -3;

/// The outbox of a shard.
pub struct RedisOutbox {
    home: Arc<RedisHome>,
    /// Who may add, and what waits; both in the slot of the shard.
    keys: [String; 2],
    epoch: u64,
    /// What must be there.
    count: usize,
}

impl RedisOutbox {
    pub(super) fn new(home: Arc<RedisHome>, shard: usize) -> Self {
        let keys = ["owner", "events"].map(|what| home.names().outbox(shard, what));
        Self { home, keys, epoch: 0, count: 0 }
    }

    /// The reply's number, when the script has done it.
    async fn run(&self, script: &Script, epoch: u64, args: &[Vec<u8>]) -> Result<usize, OutboxError> {
        let mut call = script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        call.arg(epoch.to_string());
        for arg in args {
            call.arg(arg.as_slice());
        }
        let (code, value): (i64, Value) = self.home.invoke(&call).await?;
        let number = || redis::from_redis_value::<u64>(value.clone()).ok();
        match code {
            OK => Ok(number().and_then(|count| usize::try_from(count).ok()).unwrap_or_default()),
            LOST => Err(OutboxError::Lost),
            FENCED => match number() {
                Some(epoch) => {
                    self.home.met(epoch);
                    Err(OutboxError::TakenOver)
                }
                None => Err(OutboxError::Lost),
            },
            _ => Err(PortError::Permanent(format!("Redis: the outbox refuses argument {value:?}")).into()),
        }
    }

    async fn take(&mut self) -> Result<Vec<Arc<Event>>, OutboxError> {
        let (before, epoch) = (self.epoch, self.home.next_epoch());
        let mine = if before == 0 { String::new() } else { before.to_string() };
        let waiting = match self.run(&TAKE, epoch, &[mine.into_bytes()]).await {
            // The clock of the one before is ahead; now that it is known, the next try is above it.
            Err(OutboxError::TakenOver) if before == 0 => {
                return Err(PortError::Transient(
                    "the outbox was taken over by a clock that is ahead".into(),
                )
                .into());
            }
            other => other?,
        };
        (self.epoch, self.count) = (epoch, waiting);
        // Nobody else adds or takes now, so it can be read in pieces.
        let mut events = Vec::with_capacity(waiting);
        while events.len() < waiting {
            let from = isize::try_from(events.len()).unwrap_or(isize::MAX);
            let to = from + isize::try_from(CHUNK).unwrap_or(1) - 1;
            let chunk: Vec<Vec<u8>> =
                self.home.query(redis::cmd("LRANGE").arg(&self.keys[1]).arg(from).arg(to)).await?;
            if chunk.is_empty() {
                return Err(OutboxError::Lost);
            }
            for line in chunk {
                events.push(Arc::new(read(&line)?));
            }
        }
        Ok(events)
    }

    async fn add(&mut self, events: &[Arc<Event>]) -> Result<(), OutboxError> {
        let mut args = Vec::with_capacity(events.len() + 1);
        args.push(self.count.to_string().into_bytes());
        for event in events {
            args.push(line(event)?);
        }
        self.count = self.run(&ADD, self.epoch, &args).await?;
        Ok(())
    }
}

/// The kind, a line break, the event's JSON.
fn line(event: &Event) -> Result<Vec<u8>, PortError> {
    let mut line = event.body.kind().as_str().as_bytes().to_vec();
    line.push(b'\n');
    event.encode(&mut line).map_err(|error| PortError::Permanent(error.to_string()))?;
    Ok(line)
}

fn read(line: &[u8]) -> Result<Event, PortError> {
    let unreadable =
        |why: String| PortError::Permanent(format!("an event in the outbox cannot be read: {why}"));
    let end =
        line.iter().position(|byte| *byte == b'\n').ok_or_else(|| unreadable("it has no kind".into()))?;
    let kind = std::str::from_utf8(&line[..end]).map_err(|error| unreadable(error.to_string()))?;
    Event::decode(kind, &line[end + 1..]).map_err(|error| unreadable(error.to_string()))
}

impl Outbox for RedisOutbox {
    fn take_over(&mut self) -> BoxFuture<'_, Result<Vec<Arc<Event>>, OutboxError>> {
        self.take().boxed()
    }

    fn put<'a>(&'a mut self, events: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), OutboxError>> {
        self.add(events).boxed()
    }

    fn published(&mut self, count: usize) -> BoxFuture<'_, Result<(), OutboxError>> {
        async move {
            self.count = self.run(&TRIM, self.epoch, &[count.to_string().into_bytes()]).await?;
            Ok(())
        }
        .boxed()
    }
}

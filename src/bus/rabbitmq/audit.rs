//! What the broker tells the checker of the laws: what was given up. What it has delivered it does not have any more.

use super::RabbitBus;
use super::dead_letters::DeadLetter;
use crate::domain::audit::{Detail, Fact, Parked, Part};
use crate::ports::PortError;
use crate::ports::audit::{BusFactSource, FactSource, Sink};
use crate::ports::bus::LEDGER_GROUP;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// The dead letters of both moments.
pub struct BrokerFacts {
    bus: RabbitBus,
    before: Vec<DeadLetter>,
    after: Vec<DeadLetter>,
}

impl BrokerFacts {
    /// Of this bus.
    pub const fn new(bus: RabbitBus) -> Self {
        Self { bus, before: Vec::new(), after: Vec::new() }
    }
}

impl FactSource for BrokerFacts {
    fn total(&mut self) -> BoxFuture<'_, Result<u64, PortError>> {
        let total = (self.before.len() + self.after.len()) as u64;
        async move { Ok(total) }.boxed()
    }

    fn facts<'a>(&'a mut self, part: Part, sink: Sink<'a>) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            if part != Part::Standing {
                return Ok(());
            }
            // The same letter may be in both: it is known by its event, and has no place but its order here.
            for (position, letter) in self.before.iter().chain(&self.after).enumerate() {
                let (position, cause) = (position as u64, &letter.cause);
                match &letter.event {
                    Some(event) => sink(Fact::DeadLetter(Parked {
                        group: LEDGER_GROUP,
                        position: event.sequence,
                        attempts: letter.attempts.into(),
                        cause,
                        event,
                    })),
                    None => sink(Fact::Unreadable { table: "dead letters", position, reason: cause }),
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn evidence<'a>(&'a mut self, about: &'a Detail) -> BoxFuture<'a, Result<Vec<String>, PortError>> {
        let is_it = |letter: &&DeadLetter| {
            letter.event.as_ref().is_some_and(|event| {
                Some(event.tenant) == about.tenant && Some(event.sequence) == about.sequence
            })
        };
        let line = |letter: &DeadLetter| {
            let DeadLetter { id, kind, attempts, first_failure, last_failure, cause, body, .. } = letter;
            let [first, last] = [first_failure, last_failure].map(|at| at.as_deref().unwrap_or("unknown"));
            let body = String::from_utf8_lossy(body);
            format!(
                "dead letter {id} {kind}: failed {attempts} times, from {first} to {last}: {cause}; {body}"
            )
        };
        let lines = self.after.iter().filter(is_it).map(line).collect();
        async move { Ok(lines) }.boxed()
    }
}

impl BusFactSource for BrokerFacts {
    fn pin_before(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            self.before = self.bus.dead_letters().await?;
            Ok(())
        }
        .boxed()
    }

    fn pin_after(&mut self) -> BoxFuture<'_, Result<bool, PortError>> {
        async move {
            self.after = self.bus.dead_letters().await?;
            Ok(true)
        }
        .boxed()
    }
}

//! What channels gave up, as dead letters: listed from rest, tried again or thrown away by the channel they are of.

use super::Channels;
use crate::actors::channel::Msg as ChannelMsg;
use crate::actors::kit::{AskError, Reply};
use crate::domain::dead_letter::{DeadLetter, LetterId};
use crate::domain::ids::{ConnectionId, TenantId, UnitId};
use crate::ports::PortError;
use crate::ports::channel::ChannelStore;
use crate::ports::dead_letters::DeadLetters;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The letters of all channels.
pub struct Letters {
    channels: Channels,
    store: Arc<dyn ChannelStore>,
}

impl Letters {
    /// Of these channels, which remember in this store.
    pub fn new(channels: Channels, store: Arc<dyn ChannelStore>) -> Self {
        Self { channels, store }
    }

    /// By the channel, where it is here; else at rest, where the node that looks after it finds out.
    async fn tell_each(
        &self,
        ids: &[String],
        message: impl Fn(Vec<LetterId>, Reply<usize>) -> ChannelMsg,
        again: bool,
    ) -> Result<usize, PortError> {
        let mut of: BTreeMap<ConnectionId, Vec<LetterId>> = BTreeMap::new();
        for letter in ids.iter().filter_map(|id| LetterId::parse(id)) {
            if let Some(connection) = letter.connection() {
                of.entry(connection).or_default().push(letter);
            }
        }
        let away = |error: AskError| PortError::Transient(format!("a channel does not answer: {error}"));
        let (mut there, mut elsewhere) = (0, Vec::new());
        for (connection, letters) in of {
            match self.channels.way(connection).await.map_err(away)? {
                Some(way) => there += way.ask(|reply| message(letters, reply)).await.map_err(away)?,
                None => elsewhere.push((connection, letters)),
            }
        }
        if elsewhere.is_empty() {
            return Ok(there);
        }
        let found = self.store.connections().await?;
        let tenants: HashMap<_, _> = found.iter().map(|(one, _)| (one.id, one.tenant)).collect();
        for (connection, letters) in elsewhere {
            if let Some(tenant) = tenants.get(&connection) {
                there += self.at_rest(*tenant, connection, &letters, again).await?;
            }
        }
        Ok(there)
    }

    async fn at_rest(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        letters: &[LetterId],
        again: bool,
    ) -> Result<usize, PortError> {
        let pushes = letters.iter().filter_map(|letter| match letter {
            LetterId::Push(_, unit) => Some(*unit),
            _ => None,
        });
        let units: Vec<UnitId> = pushes.collect();
        let mut there = self.store.forget(tenant, connection, &units).await?;
        for letter in letters {
            there += match letter {
                LetterId::Notice(_, id) if again => self.store.revive(tenant, connection, Some(id)).await?,
                LetterId::Notice(_, id) => usize::from(self.store.bury(tenant, connection, id).await?),
                LetterId::Push(..) | LetterId::Message(..) => 0,
            };
        }
        Ok(there)
    }
}

impl DeadLetters for Letters {
    fn list(&self, most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>> {
        self.store.letters(most)
    }

    fn replay<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        self.tell_each(ids, ChannelMsg::Retry, true).boxed()
    }

    fn discard<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        self.tell_each(ids, ChannelMsg::Discard, false).boxed()
    }

    fn depth(&self, most: usize) -> BoxFuture<'_, Result<usize, PortError>> {
        async move { Ok(self.store.letter_count().await?.min(most)) }.boxed()
    }
}

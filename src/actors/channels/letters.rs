//! What channels gave up, as dead letters: listed from rest, tried again or thrown away by the channel they are of.

use super::Channels;
use crate::actors::channel::Msg as ChannelMsg;
use crate::actors::kit::{AskError, Reply};
use crate::domain::dead_letter::{DeadLetter, LetterId};
use crate::domain::ids::ConnectionId;
use crate::ports::PortError;
use crate::ports::channel::ChannelStore;
use crate::ports::dead_letters::DeadLetters;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
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
        let mut there = 0;
        for (connection, letters) in of {
            there += match self.channels.way(connection).await.map_err(away)? {
                Some(way) => way.ask(|reply| message(letters, reply)).await.map_err(away)?,
                None => self.at_rest(connection, &letters, again).await?,
            };
        }
        Ok(there)
    }

    async fn at_rest(
        &self,
        connection: ConnectionId,
        letters: &[LetterId],
        again: bool,
    ) -> Result<usize, PortError> {
        let found = self.store.connections().await?.into_iter().find(|(one, _)| one.id == connection);
        let Some(tenant) = found.map(|(one, _)| one.tenant) else { return Ok(0) };
        let mut there = 0;
        for letter in letters {
            there += match letter {
                LetterId::Push(_, unit) => self.store.forget(tenant, connection, &[*unit]).await?,
                LetterId::Notice(_, id) if again => self.store.revive(tenant, connection, Some(id)).await?,
                LetterId::Notice(_, id) => usize::from(self.store.bury(tenant, connection, id).await?),
                LetterId::Message(..) => 0,
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

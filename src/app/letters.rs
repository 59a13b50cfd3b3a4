//! All dead letters of an installation as one list: the bus's, the channels', the webhooks'.

use crate::domain::dead_letter::{DeadLetter, LetterId, Matter};
use crate::ports::PortError;
use crate::ports::dead_letters::DeadLetters;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// All lists.
pub struct AllLetters {
    /// What consumers of the bus gave up.
    pub bus: Arc<dyn DeadLetters>,
    /// What channels gave up.
    pub channels: Arc<dyn DeadLetters>,
    /// What webhooks gave up.
    pub hooks: Arc<dyn DeadLetters>,
}

impl AllLetters {
    /// Each list with those of the ids that are its own; none without any.
    fn split(&self, ids: &[String]) -> Vec<(&Arc<dyn DeadLetters>, Vec<String>)> {
        let matter = |id: &String| LetterId::parse(id).map_or(Matter::Event, |letter| letter.matter());
        let mut lists =
            vec![(&self.bus, Vec::new()), (&self.channels, Vec::new()), (&self.hooks, Vec::new())];
        for id in ids {
            let list = match matter(id) {
                Matter::Event => 0,
                Matter::Push | Matter::Notice => 1,
                Matter::Message => 2,
            };
            lists[list].1.push(id.clone());
        }
        lists.retain(|(_, ids)| !ids.is_empty());
        lists
    }
}

impl DeadLetters for AllLetters {
    fn list(&self, most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>> {
        async move {
            let mut letters = self.bus.list(most).await?;
            letters.extend(self.channels.list(most).await?);
            letters.extend(self.hooks.list(most).await?);
            letters.sort_by_key(|letter| letter.first_at);
            letters.truncate(most);
            Ok(letters)
        }
        .boxed()
    }

    fn replay<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        async move {
            let mut replayed = 0;
            for (list, ids) in self.split(ids) {
                replayed += list.replay(&ids).await?;
            }
            Ok(replayed)
        }
        .boxed()
    }

    fn discard<'a>(&'a self, ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        async move {
            let mut discarded = 0;
            // The bus comes first: whoever names one that is kept learns so before the others are gone.
            for (list, ids) in self.split(ids) {
                discarded += list.discard(&ids).await?;
            }
            Ok(discarded)
        }
        .boxed()
    }

    fn depth(&self, most: usize) -> BoxFuture<'_, Result<usize, PortError>> {
        async move {
            let mut depth = 0;
            for list in [&self.bus, &self.channels, &self.hooks] {
                depth += list.depth(most).await?;
            }
            Ok(depth.min(most))
        }
        .boxed()
    }
}

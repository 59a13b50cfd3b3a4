//! An actor that may not run in this process.

use super::{AskError, Behaviour, Handle, Reply};
use std::fmt;

/// Talks to an actor, or to nobody: then every ask is refused as [`AskError::Stopped`]. Cheap to clone.
pub struct Contact<B: Behaviour>(Option<Handle<B>>);

impl<B: Behaviour> Contact<B> {
    /// With an actor.
    pub const fn with(handle: Handle<B>) -> Self {
        Self(Some(handle))
    }

    /// With nobody.
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Asks, as [`Handle::ask`].
    pub async fn ask<R>(&self, message: impl FnOnce(Reply<R>) -> B::Msg) -> Result<R, AskError> {
        match &self.0 {
            Some(handle) => handle.ask(message).await,
            None => Err(AskError::Stopped),
        }
    }
}

impl<B: Behaviour> Clone for Contact<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Behaviour> fmt::Debug for Contact<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(handle) => fmt::Debug::fmt(handle, f),
            None => f.write_str("nobody"),
        }
    }
}

//! How the nodes of an installation tell each other that they live.

use super::PortError;
use crate::domain::nodes::Announcement;
use futures_util::future::BoxFuture;

/// A place where every node hears every other one. What is said before somebody listens is not kept for him.
pub trait Assembly: Send + Sync {
    /// Tells everybody, oneself included.
    fn say<'a>(&'a self, announcement: &'a Announcement) -> BoxFuture<'a, Result<(), PortError>>;

    /// What somebody says next. Safe to drop while it waits; one caller at a time.
    fn hear(&self) -> BoxFuture<'_, Result<Announcement, PortError>>;
}

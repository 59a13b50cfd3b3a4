//! Where connections to marketplaces and webhooks rest: beside the ledger, in a file of this node or on the server that
//! all nodes share.

use crate::ports::PortError;
use crate::ports::channel::ChannelStore;
use crate::ports::hooks::HookStore;
use crate::store::{postgres, sqlite};
use std::sync::Arc;

/// What is remembered of both.
#[derive(Clone)]
pub enum AtRest {
    Sqlite(sqlite::channels::Channels),
    Postgres(Box<postgres::channels::Channels>),
}

impl AtRest {
    /// The connections.
    pub fn channels(&self) -> Arc<dyn ChannelStore> {
        match self {
            Self::Sqlite(file) => Arc::new(file.clone()),
            Self::Postgres(server) => Arc::new((**server).clone()),
        }
    }

    /// The webhooks.
    pub fn hooks(&self) -> Arc<dyn HookStore> {
        match self {
            Self::Sqlite(file) => Arc::new(file.clone()),
            Self::Postgres(server) => Arc::new((**server).clone()),
        }
    }

    /// Other nodes may look after everything at once.
    pub async fn release(&self) -> Result<(), PortError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(server) => server.release_all().await,
        }
    }

    /// Leaves things in order once nobody uses it any more.
    pub async fn close(&self) -> Result<(), PortError> {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(server) => {
                server.close().await;
                Ok(())
            }
        }
    }
}

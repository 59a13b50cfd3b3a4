//! Fresh credentials. A marketplace gives them once, for a token that is good for one use: so nobody else may ask
//! meanwhile, and what was given is kept before anything else is done with it.

use super::jobs::Outcome;
use super::{AGAIN, Channel, Kind};
use crate::actors::kit::Fault;
use crate::domain::channel::{Refused, Verdict};
use crate::domain::ids::{ConnectionId, TenantId};
use crate::ports::PortError;
use crate::ports::channel::{ChannelStore, Marketplace, Sealed, Vault};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Everything that asking for them needs, apart from the actor.
pub struct Renewal {
    store: Arc<dyn ChannelStore>,
    vault: Arc<dyn Vault>,
    tenant: TenantId,
    connection: ConnectionId,
    from: Sealed,
    patience: Duration,
}

/// Nothing was asked for; it may be another time.
fn passing(error: PortError) -> Refused {
    let cause = error.to_string();
    Refused {
        verdict: Verdict::Again { after: None },
        cause,
        request: String::new(),
        response: String::new(),
    }
}

impl Renewal {
    /// The claim on the connection lasts for as long as this may take. A process that was paused in the middle for longer
    /// than that asks for nothing any more, since another may have done so.
    pub async fn carry_out(self, market: &mut dyn Marketplace) -> Result<Outcome, Refused> {
        let Self { store, vault, tenant, connection, from, patience } = self;
        let begun = Instant::now();
        let newer = store.renewing(tenant, connection, &from, patience).await.map_err(passing)?;
        if let Some(newer) = newer {
            return Ok(Outcome::Found(newer));
        }
        if begun.elapsed() > patience / 4 {
            return Err(passing(PortError::Transient(
                "it took too long until a token could be asked for".into(),
            )));
        }
        let credentials = market.renew().await?;
        let fresh = vault.seal(connection, &credentials).map_err(passing)?;
        let mut delays = AGAIN.delays();
        loop {
            match store.renewed(tenant, connection, &from, &fresh).await {
                Ok(true) => return Ok(Outcome::Renewed(fresh)),
                Ok(false) => {
                    let found = store.connection(tenant, connection).await.map_err(passing)?;
                    let gone =
                        || passing(PortError::Permanent("the connection is not at rest any more".into()));
                    return found.map(|(_, sealed)| Outcome::Found(sealed)).ok_or_else(gone);
                }
                // Nobody will give them again.
                Err(error) if error.is_transient() => {
                    tracing::warn!(%connection, %error, "fresh credentials cannot be kept now; tried again");
                    sleep(delays.next_delay()).await;
                }
                Err(error) => return Err(passing(error)),
            }
        }
    }
}

impl<K: Kind> Channel<K> {
    /// To be carried out beside the mailbox.
    pub(super) fn renewal(&self) -> Renewal {
        Renewal {
            store: self.ports.store.clone(),
            vault: self.ports.vault.clone(),
            tenant: self.connection.tenant,
            connection: self.connection.id,
            from: self.sealed.clone(),
            patience: self.pace.renewal,
        }
    }

    /// Somebody else got others, which are used from now on.
    pub(super) fn open_with(&mut self, sealed: Sealed) -> Result<(), Fault> {
        let credentials = self.ports.vault.open(self.connection.id, &sealed)?;
        self.market = Some((self.ports.open)(&self.connection, credentials)?);
        self.sealed = sealed;
        Ok(())
    }
}

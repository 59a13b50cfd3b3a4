//! News from marketplaces: believed or not, kept, and told to whoever looks after the connection. Any node takes it in; at
//! another than the connection's it is found at rest.

use super::{ChannelManager, Known, NotDone};
use crate::actors::channel::Msg as ChannelMsg;
use crate::domain::channel::{ChannelKind, signature};
use crate::domain::ids::ConnectionId;
use crate::ports::channel::Notice;

impl ChannelManager {
    /// A hint about an account, which is believed as far as its app is the connection's: the channel asks for itself.
    pub(super) async fn hinted(
        &mut self,
        account: &str,
        app: &str,
        notice: &Notice,
    ) -> Result<bool, NotDone> {
        let is_it = |known: &&Known| {
            known.connection.kind == ChannelKind::Meli && &*known.connection.account == account
        };
        if self.known.values().find(is_it).is_none() {
            self.read_if_old().await?;
        }
        let Some(known) = self.known.values().find(is_it) else { return Ok(false) };
        let credentials = self.ports.vault.open(known.connection.id, &known.sealed)?;
        if credentials.client_id.as_deref() != Some(app) {
            return Err(NotDone::Unsigned);
        }
        self.keep(known, notice).await
    }

    /// Believes what is signed with the connection's own secret, keeps it, and wakes the channel.
    pub(super) async fn signed(
        &mut self,
        id: ConnectionId,
        signature: &str,
        notice: &Notice,
    ) -> Result<bool, NotDone> {
        if !self.known.contains_key(&id) {
            self.read_if_old().await?;
        }
        let known = self.known.get(&id).ok_or(NotDone::Unknown)?;
        let credentials = self.ports.vault.open(id, &known.sealed)?;
        let secret = credentials.client_secret.unwrap_or_default();
        if secret.is_empty() || !signature::is_shopifys(&secret, &notice.body, signature) {
            return Err(NotDone::Unsigned);
        }
        self.keep(known, notice).await
    }

    async fn keep(&self, known: &Known, notice: &Notice) -> Result<bool, NotDone> {
        let is_new = self.ports.store.receive(known.connection.tenant, known.connection.id, notice).await?;
        if let Some(way) = known.way.as_ref().filter(|_| is_new) {
            way.tell(ChannelMsg::News);
        }
        Ok(is_new)
    }
}

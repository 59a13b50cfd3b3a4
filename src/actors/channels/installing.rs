//! Connecting by way of the marketplace: the owner is sent there and comes back. Whoever comes back must bring the state
//! that was sent along, for the same shop, within ten minutes, once.

use super::{ChannelManager, Msg, NotDone};
use crate::actors::kit::{Cx, Reply};
use crate::domain::channel::signature;
use crate::domain::channel::{Connection, Refused};
use crate::domain::ids::ConnectionId;
use crate::domain::time::Timestamp;
use crate::ports::channel::Credentials;
use std::collections::HashMap;

/// How long an owner may take to agree, in microseconds.
const PATIENCE: i64 = 600_000_000;

/// Owners who are away at once at most; the longest gone is forgotten.
const MOST: usize = 1_000;

/// Connections whose owner is away, by the state that has to come back.
#[derive(Default)]
pub struct Away(HashMap<String, (Connection, Timestamp)>);

impl Away {
    fn send(&mut self, connection: Connection, now: Timestamp) -> Option<String> {
        self.0.retain(|_, (_, since)| now.micros().saturating_sub(since.micros()) < PATIENCE);
        if self.0.len() >= MOST
            && let Some(oldest) =
                self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(state, _)| state.clone())
        {
            self.0.remove(&oldest);
        }
        // Whoever comes back with it may come to any node, and is sent on to the one that has the tenant.
        let state = format!("{}.{}", connection.tenant.0.simple(), random()?);
        self.0.insert(state.clone(), (connection, now));
        Some(state)
    }

    fn back(&mut self, state: &str, account: &str, now: Timestamp) -> Option<Connection> {
        let (connection, since) = self.0.remove(state)?;
        let in_time = now.micros().saturating_sub(since.micros()) < PATIENCE;
        (in_time && &*connection.account == account).then_some(connection)
    }
}

/// 128 bits that nobody can guess.
fn random() -> Option<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl ChannelManager {
    /// Where the owner of the account has to go.
    pub(super) fn begin(&mut self, connection: Connection) -> Result<String, NotDone> {
        let now = self.ports.clock.now();
        // Asked first, so that what cannot be asked for is not waited for.
        let refused = |error: crate::ports::PortError| NotDone::Refused(error.to_string());
        self.installer.authorize_url(&connection.account, "").map_err(refused)?;
        let account = connection.account.clone();
        let no_dice = || NotDone::Refused("the system gives no random numbers".into());
        let state = self.away.send(connection, now).ok_or_else(no_dice)?;
        self.installer.authorize_url(&account, &state).map_err(refused)
    }

    /// The owner is back with a code.
    pub(super) fn finish(
        &mut self,
        query: &str,
        reply: Reply<Result<ConnectionId, NotDone>>,
        cx: &mut Cx<Self>,
    ) {
        if !self.installer.is_genuine(query) {
            return reply.send(Err(NotDone::Unsigned));
        }
        let pairs: HashMap<String, String> = signature::pairs(query).into_iter().collect();
        let field = |name: &str| pairs.get(name).map(String::as_str).unwrap_or_default();
        let now = self.ports.clock.now();
        let Some(connection) = self.away.back(field("state"), field("shop"), now) else {
            return reply.send(Err(NotDone::Stranger));
        };
        let (installer, code) = (self.installer.clone(), field("code").to_owned());
        let exchange = async move {
            let credentials = installer.exchange(&connection.account, &code).await;
            (connection, credentials)
        };
        cx.pipe(exchange, move |(connection, credentials)| {
            Msg::Agreed(Box::new(connection), credentials, reply)
        });
    }

    /// The code was worth a token, or not.
    pub(super) async fn agreed(
        &mut self,
        connection: Connection,
        credentials: Result<Credentials, Refused>,
    ) -> Result<ConnectionId, NotDone> {
        let credentials = credentials.map_err(|refused| NotDone::Refused(refused.cause))?;
        self.create(connection, &credentials).await
    }
}

//! Webhooks that go out: what a tenant's own systems are told, and what follows from their answers.
//!
//! The conventions are those of Standard Webhooks: `webhook-id` names the message, the same however often it is sent;
//! `webhook-timestamp` is the moment of sending; `webhook-signature` is HMAC-SHA256 over id, moment and body.

mod message;
mod secret;
mod signing;

pub use message::Message;
pub use secret::Secret;
pub use signing::Signing;

use super::ids::{HookId, TenantId};
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What somebody may want to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum News {
    /// A sale was made.
    #[serde(rename = "venta.creada")]
    SaleCreated,
    /// A sale was taken back.
    #[serde(rename = "venta.anulada")]
    SaleVoided,
    /// Stock moved, whatever for.
    #[serde(rename = "stock.cambiado")]
    StockChanged,
    /// An order of a marketplace became a sale.
    #[serde(rename = "pedido.importado")]
    OrderImported,
    /// An order was placed at a marketplace for units that are not there.
    #[serde(rename = "pedido.sin_stock")]
    Oversold,
    /// There are more dead letters than there should be. For whoever runs the installation.
    #[serde(rename = "descartados.demasiados")]
    DeadLetters,
    /// Somebody wants to see whether it arrives.
    #[serde(rename = "prueba")]
    Test,
}

impl News {
    /// Everything there is.
    pub const ALL: [Self; 7] = [
        Self::SaleCreated,
        Self::SaleVoided,
        Self::StockChanged,
        Self::OrderImported,
        Self::Oversold,
        Self::DeadLetters,
        Self::Test,
    ];

    /// What a tenant may subscribe to.
    pub const FOR_TENANTS: [Self; 5] =
        [Self::SaleCreated, Self::SaleVoided, Self::StockChanged, Self::OrderImported, Self::Oversold];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SaleCreated => "venta.creada",
            Self::SaleVoided => "venta.anulada",
            Self::StockChanged => "stock.cambiado",
            Self::OrderImported => "pedido.importado",
            Self::Oversold => "pedido.sin_stock",
            Self::DeadLetters => "descartados.demasiados",
            Self::Test => "prueba",
        }
    }

    /// Whether it is heard of on the bus.
    pub const fn is_of_bus(self) -> bool {
        matches!(self, Self::SaleCreated | Self::SaleVoided | Self::StockChanged)
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|news| news.as_str() == text)
    }
}

/// Somebody who wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its id.
    pub id: HookId,
    /// Whose.
    pub tenant: TenantId,
    /// Where.
    pub url: Arc<str>,
    /// Of what.
    pub news: Vec<News>,
    /// Why nothing is sent, while nothing is.
    pub paused: Option<Arc<str>>,
    /// Since when nothing arrives, if that is so.
    pub failing_since: Option<Timestamp>,
    /// Messages that were not kept because too many waited.
    pub lost: u64,
    /// Since when.
    pub created_at: Timestamp,
}

impl Hook {
    /// The installation's own, whose address is in its settings.
    pub const OPERATOR: (TenantId, HookId) = (TenantId(uuid::Uuid::nil()), HookId(uuid::Uuid::nil()));
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// An answer with this status.
    Status(u16),
    /// None.
    Silence,
}

/// What happens to a message after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// It is sent again after a while; those behind it wait.
    Again(Duration),
    /// It is given up; those behind it go on.
    GiveUp,
    /// The receiver is given up until a person has seen to it; nothing is lost.
    Pause,
}

/// How long to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Waits while the receiver is away or ill; the last one is repeated.
    pub away: Vec<Duration>,
    /// Waits after it has refused a message; after the last one the message is given up.
    pub refused: Vec<Duration>,
    /// How long it may be away before nothing is sent any more.
    pub pause_after: Duration,
}

impl Patience {
    /// What follows from the `attempts`-th attempt of a message, counted from 1.
    pub fn after(
        &self,
        reaction: &Reaction,
        attempts: u32,
        failing_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Next {
        let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let is_ill = match reaction {
            Reaction::Status(200..=299) => return Next::Delivered,
            // It says that it will never want anything again.
            Reaction::Status(410) => return Next::Pause,
            Reaction::Status(408 | 425 | 429 | 500..) | Reaction::Silence => true,
            Reaction::Status(_) => false,
        };
        if !is_ill {
            return self.refused.get(index).map_or(Next::GiveUp, |wait| Next::Again(*wait));
        }
        let most = i64::try_from(self.pause_after.as_micros()).unwrap_or(i64::MAX);
        if failing_since.is_some_and(|since| now.micros().saturating_sub(since.micros()) >= most) {
            return Next::Pause;
        }
        let wait = self.away.get(index).or(self.away.last()).copied();
        Next::Again(wait.unwrap_or(Duration::from_secs(60)))
    }
}

/// Whether an address is one of the internet's: what a tenant names must not be a way into the installation's own
/// network.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let reserved = a == 0 || a >= 240 || (a == 192 && b == 0) || (a == 198 && (b == 18 || b == 19));
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_documentation()
                || shared
                || reserved)
        }
        IpAddr::V6(v6) => match v6.to_ipv4() {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                // Global unicast only; of that, neither documentation nor what carries an IPv4 address inside.
                let [first, second, ..] = v6.segments();
                first & 0xe000 == 0x2000
                    && first != 0x2002
                    && !(first == 0x2001 && (second == 0xdb8 || second == 0))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_an_answer() {
        let seconds = |all: &[u64]| all.iter().map(|secs| Duration::from_secs(*secs)).collect();
        let patience = Patience {
            away: seconds(&[5, 60]),
            refused: seconds(&[1, 4]),
            pause_after: Duration::from_secs(100),
        };
        let again = |secs| Next::Again(Duration::from_secs(secs));
        let at = |secs: i64| Timestamp::from_micros(secs * 1_000_000);
        let cases = [
            (Reaction::Status(204), 1, None, Next::Delivered),
            (Reaction::Status(410), 1, None, Next::Pause),
            (Reaction::Silence, 1, None, again(5)),
            (Reaction::Status(503), 2, Some(901), again(60)),
            (Reaction::Status(429), 9, Some(901), again(60)),
            (Reaction::Silence, 9, Some(900), Next::Pause),
            (Reaction::Status(400), 1, Some(1), again(1)),
            (Reaction::Status(302), 2, None, again(4)),
            (Reaction::Status(404), 3, None, Next::GiveUp),
        ];
        for (reaction, attempts, since, next) in cases {
            let found = patience.after(&reaction, attempts, since.map(at), at(1_000));
            assert_eq!(found, next, "{reaction:?} {attempts}");
        }
    }

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for address in ["8.8.8.8", "200.1.2.3", "2800:3f0:4002::1", "100.63.0.1", "172.32.0.1"] {
            assert!(public(address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "2001:db8::1",
            "2002:a00:1::1",
            "ff02::1",
        ] {
            assert!(!public(address), "{address}");
        }
    }
}

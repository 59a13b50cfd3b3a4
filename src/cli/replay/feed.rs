//! From the file to requests, on a thread of its own and a bounded distance ahead of the connections.

use super::{Rung, server::Shop};
use crate::{
    cli::{
        basket_csv::{Basket, BasketError, Baskets},
        table,
    },
    domain::decimal::Decimal,
    load::{Call, Job},
};
use hyper::header::{HeaderName, HeaderValue};
use std::{fmt::Write, io::Read, num::NonZeroU32, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// Baskets handed over together: waking the other thread costs more than reading one basket.
const BATCH: usize = 64;
/// Examples kept of each kind of trouble.
const EXAMPLES: usize = 10;
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) type Batch = Vec<Job<Rung>>;

/// When baskets are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each as soon as a connection is free.
    Max,
    /// This many a second, whatever the server does.
    PerSecond(NonZeroU32),
    /// As in the file, this many times as fast.
    Times(NonZeroU32),
}

/// What the reader found.
#[derive(Debug, Clone, Default)]
pub struct Fed {
    /// Baskets read, the bad ones not among them.
    pub baskets: u64,
    /// Baskets not sent because the catalogue does not have one of their skus.
    pub unknown_sku: u64,
    /// The first of them: basket and sku.
    pub unknown_examples: Vec<String>,
    /// Baskets not sent because a row of theirs is wrong.
    pub bad: u64,
    /// The first of them.
    pub bad_examples: Vec<String>,
    /// Why the file could not be read to its end.
    pub broken: Option<String>,
}

/// Turns baskets into checkouts.
pub(super) struct Feed {
    pub shop: Arc<Shop>,
    pub pace: Pace,
    pub limit: u64,
    pub key_prefix: String,
}

impl Feed {
    /// Reads until the end, the limit, or until nobody listens. A file that breaks off in the middle is no error
    /// here: what was sent before still counts.
    pub fn read(self, baskets: Baskets<impl Read>, to: &mpsc::Sender<Batch>) -> Fed {
        let mut fed = Fed::default();
        let mut batch = Vec::with_capacity(BATCH);
        let (mut sent, mut first) = (0_u64, None);
        for basket in baskets {
            if sent == self.limit {
                break;
            }
            let basket = match basket {
                Ok(basket) => basket,
                Err(BasketError::Row(row)) => {
                    fed.bad += 1;
                    example(&mut fed.bad_examples, || row.to_string());
                    continue;
                }
                Err(BasketError::File(error)) => {
                    fed.broken = Some(error.to_string());
                    break;
                }
            };
            fed.baskets += 1;
            let Some(body) = self.body(&basket, &mut fed) else { continue };
            let Ok(key) = HeaderValue::try_from(format!("{}-{}", self.key_prefix, basket.id)) else {
                fed.bad += 1;
                example(&mut fed.bad_examples, || {
                    format!("line {}, basket: cannot be part of a header", basket.line)
                });
                continue;
            };
            let due = self.pace.due(sent, basket.at, *first.get_or_insert(basket.at));
            let units = basket.lines.iter().map(|(_, quantity)| *quantity);
            let rung = Rung {
                lines: basket.lines.len() as u64,
                units: units.fold(Decimal::ZERO, |sum, quantity| sum.checked_add(quantity).unwrap_or(sum)),
                basket: basket.id,
            };
            let call = Call::post("/api/v1/ventas/checkout", body).with_header(KEY, key);
            batch.push(Job { due, call, tag: rung });
            sent += 1;
            if batch.len() == BATCH
                && to.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).is_err()
            {
                return fed;
            }
        }
        // Nobody listening any more is a normal end: the run was stopped.
        drop(to.blocking_send(batch));
        fed
    }

    /// The checkout of a basket; `None` when a sku of it is unknown.
    fn body(&self, basket: &Basket, fed: &mut Fed) -> Option<String> {
        let mut body = String::with_capacity(140 + 72 * basket.lines.len());
        body.push_str(r#"{"items":["#);
        for (position, (sku, quantity)) in basket.lines.iter().enumerate() {
            let Some(unit) = self.shop.units.get(sku) else {
                fed.unknown_sku += 1;
                example(&mut fed.unknown_examples, || format!("basket {}: {}", basket.id, table::shown(sku)));
                return None;
            };
            let comma = if position == 0 { "" } else { "," };
            // Ids and decimals have no character that JSON would escape. Writing to a String cannot fail.
            let _ok = write!(body, r#"{comma}{{"producto_id":"{unit}","cantidad":{}}}"#, Short(*quantity));
        }
        body.push_str(r#"],"metodo_pago":"efectivo""#);
        if let Some(location) = self.shop.locations.get(&basket.store) {
            let _ok = write!(body, r#","ubicacion_id":"{location}""#);
        }
        body.push('}');
        Some(body)
    }
}

impl Pace {
    /// When the basket number `sent`, rung up at `at`, is to be sent.
    fn due(self, sent: u64, at: OffsetDateTime, first: OffsetDateTime) -> Option<Duration> {
        match self {
            Self::Max => None,
            Self::PerSecond(rate) => {
                let nanos = u128::from(sent) * 1_000_000_000 / u128::from(rate.get());
                Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
            // A basket out of order is due at once.
            Self::Times(speed) => Some(Duration::try_from(at - first).unwrap_or_default() / speed.get()),
        }
    }
}

fn example(list: &mut Vec<String>, text: impl FnOnce() -> String) {
    if list.len() < EXAMPLES {
        list.push(text());
    }
}

/// A quantity without its zeros: `2` and not `2.000`.
struct Short(Decimal<3>);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_fractional() {
            self.0.fmt(f)
        } else {
            write!(f, "{}", self.0.units() / Decimal::<3>::ONE)
        }
    }
}

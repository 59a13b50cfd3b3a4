//! How often an app may ask: MercadoLibre counts per app and endpoint, whichever seller it is for.

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;

/// Calls that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/user-products/{id}/stock`: 100 a minute, which is published.
    ProductStock,
    /// `PUT /items/{id}`: five to seven a second are refused, sellers say.
    Writing,
    /// Everything else: about 1,500 a minute, sellers say.
    Reading,
}

type Limiter = RateLimiter<String, HashMapStateStore<String>, DefaultClock>;

/// The calls that all apps of this process have left. Another process that works with the same app has a budget of its
/// own: what is too much then is answered with 429, which is waited for.
pub struct Budget {
    product_stock: Limiter,
    writing: Limiter,
    reading: Limiter,
    clock: DefaultClock,
}

const fn number(value: u32) -> NonZeroU32 {
    match NonZeroU32::new(value) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

impl Default for Budget {
    fn default() -> Self {
        let limiter = |quota: Quota| RateLimiter::hashmap_with_clock(quota, DefaultClock::default());
        Self {
            // Short of the limit, and in small bursts: minutes are not counted from where ours begin.
            product_stock: limiter(Quota::per_minute(number(90)).allow_burst(number(5))),
            // A burst counts towards the second that it begins: two and four are less than seven.
            writing: limiter(Quota::per_second(number(4)).allow_burst(number(2))),
            reading: limiter(Quota::per_second(number(20))),
            clock: DefaultClock::default(),
        }
    }
}

impl Budget {
    /// Waits until the app may make another call.
    pub async fn wait(&self, app: &str, endpoint: Endpoint) {
        let limiter = match endpoint {
            Endpoint::ProductStock => &self.product_stock,
            Endpoint::Writing => &self.writing,
            Endpoint::Reading => &self.reading,
        };
        let app = app.to_owned();
        while let Err(early) = limiter.check_key(&app) {
            tokio::time::sleep(early.wait_time_from(self.clock.now())).await;
        }
    }
}

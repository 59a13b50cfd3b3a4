//! How often an app may ask: MercadoLibre counts per app and endpoint, whichever seller it is for.
//!
//! Writes are counted where they arrive, and what was sent at a steady pace may arrive all at once. So a write has one of
//! [`WRITES`] places from before it is sent until [`COUNTED`] after its answer. It arrived at some moment in between. Of
//! all writes that arrived within one second of the server's, whichever that is, each has its place at that second's
//! end: it arrived at most a second before it, and keeps its place for longer. So there are no more of them than places,
//! however long each was on its way. A write without an answer keeps its place for longer, as it may arrive yet; a
//! process that has just started lets the last writes of the one before it pass.
//!
//! Calls that are counted by the minute go at a steady pace instead: there, what is on its way for a moment hardly counts.

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Writes that the server may count towards one second: five to seven are refused, sellers say.
const WRITES: usize = 4;

/// A write counts for a second, by a clock that may be a little slower than ours.
const COUNTED: Duration = Duration::from_millis(1_100);

/// The same for one without an answer, which may be on its way for a while after nobody waits for it.
const UNANSWERED: Duration = Duration::from_secs(6);

/// Calls for stock in warehouses a minute, of a hundred, and at once: reading and writing one go together.
const STOCK_A_MINUTE: u32 = 90;
const STOCK_AT_ONCE: u32 = 2;

/// Other calls a second: about 1,500 a minute may be made, sellers say.
const READS: u32 = 20;

/// Calls that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/user-products/{id}/stock`: 100 a minute, which is published.
    ProductStock,
    /// Whatever reads anything else.
    Reading,
}

type Limiter = RateLimiter<String, HashMapStateStore<String>, DefaultClock>;

/// The calls that all apps of this process have left. Another process that works with the same app has a budget of its
/// own: what is too much then is answered with 429, which is waited for.
pub struct Budget {
    writing: Mutex<HashMap<String, Arc<Semaphore>>>,
    product_stock: Limiter,
    reading: Limiter,
    clock: DefaultClock,
    since: Instant,
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
        let stock = Quota::per_minute(number(STOCK_A_MINUTE)).allow_burst(number(STOCK_AT_ONCE));
        Self {
            writing: Mutex::default(),
            product_stock: limiter(stock),
            reading: limiter(Quota::per_second(number(READS))),
            clock: DefaultClock::default(),
            since: Instant::now(),
        }
    }
}

/// Leave to write once. Whoever has it says when the answer is there.
pub struct Turn {
    place: Option<OwnedSemaphorePermit>,
    kept: Duration,
}

impl Turn {
    /// The write was carried out, or never will be.
    pub fn answered(mut self) {
        self.kept = COUNTED;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (place, kept) = (self.place.take(), self.kept);
        // Without a runtime this process is about to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(kept).await;
                drop(place);
            });
        }
    }
}

impl Budget {
    /// Waits until the app may make another call that does not write.
    pub async fn wait(&self, app: &str, endpoint: Endpoint) {
        let limiter = match endpoint {
            Endpoint::ProductStock => &self.product_stock,
            Endpoint::Reading => &self.reading,
        };
        let app = app.to_owned();
        while let Err(early) = limiter.check_key(&app) {
            tokio::time::sleep(early.wait_time_from(self.clock.now())).await;
        }
    }

    /// Waits until the app may write; whoever asked first is first.
    pub async fn write(&self, app: &str) -> Turn {
        let places = {
            let mut all = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(app.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(WRITES))).clone()
        };
        // Nobody closes it; a place that is none would only be waited for again by the server.
        let place = places.acquire_owned().await.ok();
        tokio::time::sleep_until(self.since + COUNTED).await;
        Turn { place, kept: UNANSWERED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, sleep_until};

    /// SplitMix64.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % bound
        }

        fn up_to(&mut self, ms: u64) -> Duration {
            Duration::from_millis(self.below(ms + 1))
        }
    }

    type Arrivals = Arc<Mutex<Vec<Instant>>>;

    /// Whichever second is looked at, both of its ends included: one that holds the most begins with an arrival.
    fn most_in_a_second(arrivals: &Arrivals) -> usize {
        let all = arrivals.lock().unwrap().clone();
        let within =
            |from: Instant| move |at: &&Instant| (from..=from + Duration::from_secs(1)).contains(*at);
        all.iter().map(|from| all.iter().filter(within(*from)).count()).max().unwrap_or_default()
    }

    /// Many sellers of one app write as fast as they may; each write is on its way for up to so long.
    async fn written(budget: &Arc<Budget>, writes: usize, on_its_way: u64, seed: u64, arrivals: &Arrivals) {
        let mut sellers = JoinSet::new();
        for seller in 0..20 {
            let (budget, arrivals) = (budget.clone(), arrivals.clone());
            let mut dice = Dice(seed * 1_000 + seller);
            sellers.spawn(async move {
                for _ in 0..writes {
                    let turn = budget.write("app").await;
                    let sent = Instant::now();
                    let (there, back) = (dice.up_to(on_its_way), dice.up_to(on_its_way));
                    let arrives = sent + there;
                    let arrived = arrivals.clone();
                    tokio::spawn(async move {
                        sleep_until(arrives).await;
                        arrived.lock().unwrap().push(Instant::now());
                    });
                    // Some wait for less long than the write is on its way, and never hear of it.
                    if dice.below(4) == 0 {
                        let patience = dice.up_to(on_its_way).max(there.saturating_sub(UNANSWERED - COUNTED));
                        sleep(patience).await;
                    } else {
                        sleep(there + back).await;
                        turn.answered();
                    }
                }
            });
        }
        while let Some(done) = sellers.join_next().await {
            done.unwrap();
        }
        sleep(UNANSWERED * 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_of_the_servers_holds_more_writes_than_there_are_places() {
        let mut most = 0;
        for (seed, on_its_way) in (1..).zip([0, 1, 30, 250, 400, 999, 1_000, 1_700, 6_000, 25_000]) {
            let arrivals = Arrivals::default();
            written(&Arc::default(), 10, on_its_way, seed, &arrivals).await;
            assert_eq!(arrivals.lock().unwrap().len(), 200);
            let found = most_in_a_second(&arrivals);
            assert!(found <= WRITES, "{found} within a second, on their way for up to {on_its_way} ms");
            most = most.max(found);
        }
        assert_eq!(most, WRITES, "what may be written is written");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_takes_over_lets_the_last_writes_of_the_one_before_it_pass() {
        let arrivals = Arrivals::default();
        for seed in 1..=5 {
            let budget = Budget::default();
            for _ in 0..WRITES {
                budget.write("app").await.answered();
                arrivals.lock().unwrap().push(Instant::now());
            }
            // Killed, and started again at once.
            sleep(Duration::from_millis(seed * 10)).await;
        }
        assert_eq!(most_in_a_second(&arrivals), WRITES);
    }

    #[tokio::test(start_paused = true)]
    async fn one_app_does_not_wait_for_another_and_the_pace_is_four_a_second() {
        let budget = Budget::default();
        let began = Instant::now();
        for _ in 0..40 {
            budget.write("one").await.answered();
        }
        let took = began.elapsed();
        assert!(took <= COUNTED * 10 + Duration::from_millis(20), "{took:?}");
        budget.write("other").await.answered();
        assert_eq!(began.elapsed(), took);
    }

    /// Two processes, one after the other, in a minute of the server's that holds four seconds of what was sent before.
    #[test]
    fn a_minute_of_the_servers_holds_at_most_a_hundred_calls_for_stock() {
        let (seconds, late) = (60, 4);
        let steady = STOCK_A_MINUTE * (seconds + late) / 60;
        assert!(2 * STOCK_AT_ONCE + steady <= 100, "{steady}");
    }
}

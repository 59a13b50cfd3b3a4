//! A circuit breaker (M. Nygard, *Release It!*, 2007): what failed again and again is not asked for a while.
//!
//! ```text
//!            failures in a row            after a pause, one caller tries
//!   closed --------------------> open --------------------------------> half open
//!      ^                           ^              it failed                 |
//!      |                           +----------------------------------------+
//!      +--------------------------------------------------------------------+
//!                                   it worked
//! ```

use metrics::Gauge;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Numbers of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// So many failures in a row open it.
    pub failures: u32,
    /// How long it stays open before somebody may try.
    pub pause: Duration,
}

impl Default for BreakerPolicy {
    /// Five failures, five seconds.
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(5) }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// One call goes through, to see.
    HalfOpen,
    /// No call goes through.
    Open,
}

impl BreakerState {
    /// Its name, as operators read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// One breaker, for one thing that may be away.
#[derive(Debug)]
pub struct CircuitBreaker {
    policy: BreakerPolicy,
    state: Mutex<State>,
    gauge: Gauge,
}

impl CircuitBreaker {
    /// Closed. `name` is the metric's label.
    pub fn new(name: &'static str, policy: BreakerPolicy) -> Self {
        let gauge = metrics::gauge!("blend_circuit_open", "circuit" => name);
        gauge.set(0);
        Self { policy, state: Mutex::new(State::Closed { failures: 0 }), gauge }
    }

    /// Leave to make a call, whose outcome is to be told to the permit; or how long until somebody may try again.
    pub fn enter(&self) -> Result<Permit<'_>, Duration> {
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => {}
            State::Open { until } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(left);
                }
                *state = State::HalfOpen;
            }
            // Somebody is trying.
            State::HalfOpen => return Err(self.policy.pause),
        }
        Ok(Permit { breaker: self, told: false })
    }

    /// The same leave, to take along.
    pub fn enter_owned(self: &Arc<Self>) -> Result<OwnedPermit, Duration> {
        let permit = self.enter()?;
        // Its fate is the owned one's from here on.
        std::mem::forget(permit);
        Ok(OwnedPermit { breaker: self.clone(), told: false })
    }

    /// Where it stands, for whoever looks at it.
    pub fn state(&self) -> BreakerState {
        match *self.lock() {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen => BreakerState::HalfOpen,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) {
        let mut state = self.lock();
        let failures = match *state {
            State::Closed { failures } => failures + 1,
            State::HalfOpen => self.policy.failures,
            // A call from before it opened.
            State::Open { .. } => return,
        };
        *state = if failures >= self.policy.failures {
            self.gauge.set(1);
            State::Open { until: Instant::now() + self.policy.pause }
        } else {
            State::Closed { failures }
        };
    }

    fn worked(&self) {
        let mut state = self.lock();
        // A late success from before it opened says nothing about now.
        if !matches!(*state, State::Open { .. }) {
            *state = State::Closed { failures: 0 };
            self.gauge.set(0);
        }
    }
}

/// Leave for one call. Dropped without a word, it counts as a failure: the caller gave up waiting.
#[must_use = "tell it how the call went"]
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    told: bool,
}

impl Permit<'_> {
    /// The call was answered, be it with a refusal.
    pub fn worked(mut self) {
        self.told = true;
        self.breaker.worked();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.breaker.failed();
        }
    }
}

/// A [`Permit`] to take along.
#[must_use = "tell it how the call went"]
#[derive(Debug)]
pub struct OwnedPermit {
    breaker: Arc<CircuitBreaker>,
    told: bool,
}

impl OwnedPermit {
    /// The call was answered, be it with a refusal.
    pub fn worked(mut self) {
        self.told = true;
        self.breaker.worked();
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        if !self.told {
            self.breaker.failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failures: 3, pause: Duration::from_secs(5) };

    fn fail(breaker: &CircuitBreaker) {
        drop(breaker.enter().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let breaker = CircuitBreaker::new("test", POLICY);
        fail(&breaker);
        fail(&breaker);
        breaker.enter().unwrap().worked();
        fail(&breaker);
        fail(&breaker);
        assert_eq!(breaker.state(), BreakerState::Closed, "not in a row");
        fail(&breaker);
        assert_eq!(breaker.enter().unwrap_err(), POLICY.pause);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(breaker.enter().unwrap_err(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        let trying = breaker.enter().unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.enter().is_err(), "one at a time");
        trying.worked();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_trial_opens_it_for_another_pause() {
        let breaker = CircuitBreaker::new("test", POLICY);
        let late = breaker.enter().unwrap();
        let later = breaker.enter().unwrap();
        (0..3).for_each(|_| fail(&breaker));
        // What was under way when it opened changes nothing, however it ends.
        late.worked();
        drop(later);
        assert_eq!(breaker.state(), BreakerState::Open);
        tokio::time::advance(POLICY.pause).await;
        fail(&breaker);
        assert_eq!(breaker.enter().unwrap_err(), POLICY.pause);
    }
}

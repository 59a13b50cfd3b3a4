//! When to send a request again: with the same key a repeated sale can never sell twice, so every answer that
//! decides nothing is worth repeating, up to a bound.

use super::Outcome;
use crate::client::{Answer, ClientError};
use hyper::{StatusCode, header::RETRY_AFTER};
use std::time::Duration;
use tokio::time::Instant;

/// First pause; each further one doubles, up to [`MAX_PAUSE`], and half of it is chance.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause, also when the server's `Retry-After` asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Attempts for a 5xx other than 503: one may be an actor that died of this very request and is back at once, more
/// are a defect that patience does not cure.
const ATTEMPTS_AFTER_DEFECT: u32 = 5;

/// How long to insist.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Time from the first attempt after which a job is given up.
    pub patience: Duration,
}

impl Retry {
    /// Every first answer, error or not, is final.
    pub const NEVER: Self = Self { patience: Duration::ZERO };
}

pub(super) enum Verdict {
    Final(Outcome),
    Again { why: &'static str, pause: Duration },
}

/// The attempts at one job.
pub(super) struct Attempts<'a> {
    retry: &'a Retry,
    first: Instant,
    count: u32,
    seed: u64,
}

impl<'a> Attempts<'a> {
    pub fn new(retry: &'a Retry, seed: u64) -> Self {
        Self { retry, first: Instant::now(), count: 0, seed }
    }

    pub fn judge(&mut self, result: Result<Answer, ClientError>) -> Verdict {
        self.count += 1;
        let Some(why) = undecided(&result) else {
            return Verdict::Final(outcome(result));
        };
        let defect = matches!(&result, Ok(answer) if answer.status.is_server_error()
            && answer.status != StatusCode::SERVICE_UNAVAILABLE);
        let pause = self.pause(&result);
        if self.first.elapsed() + pause > self.retry.patience
            || (defect && self.count >= ATTEMPTS_AFTER_DEFECT)
        {
            // Without any patience the caller wants to see answers as they are.
            return Verdict::Final(match result {
                Ok(answer) if !self.retry.patience.is_zero() => {
                    Outcome::GaveUp(format!("status {} {} times", answer.status.as_u16(), self.count))
                }
                result => outcome(result),
            });
        }
        Verdict::Again { why, pause }
    }

    fn pause(&mut self, result: &Result<Answer, ClientError>) -> Duration {
        let asked = result.as_ref().ok().and_then(|answer| {
            let seconds = answer.header(RETRY_AFTER.as_str())?.parse().ok()?;
            Some(Duration::from_secs(seconds))
        });
        let doubled = FIRST_PAUSE.saturating_mul(1_u32 << (self.count - 1).min(10));
        let pause = doubled.max(asked.unwrap_or_default()).min(MAX_PAUSE);
        // Without chance in it, all connections a restart cut off would come back in the same millisecond.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let half = pause / 2;
        half + Duration::from_micros((self.seed >> 33) % (1 + u64::try_from(half.as_micros()).unwrap_or(0)))
    }
}

/// Why a result leaves open whether the request was done; `None` when it is definite.
fn undecided(result: &Result<Answer, ClientError>) -> Option<&'static str> {
    match result {
        Ok(answer) => match answer.status {
            StatusCode::REQUEST_TIMEOUT => Some("408"),
            StatusCode::TOO_MANY_REQUESTS => Some("429"),
            StatusCode::SERVICE_UNAVAILABLE => Some("503"),
            status if status.is_server_error() => Some("5xx"),
            _ => None,
        },
        Err(ClientError::Timeout(..)) => Some("timeout"),
        Err(ClientError::Connect(..)) => Some("no connection"),
        Err(ClientError::Broken(..)) => Some("connection broke"),
        // The same next time.
        Err(
            ClientError::Https(_)
            | ClientError::BadAddress(_)
            | ClientError::BadRequest(_)
            | ClientError::TooLarge(_),
        ) => None,
    }
}

fn outcome(result: Result<Answer, ClientError>) -> Outcome {
    match result {
        Ok(answer) => Outcome::Answered(answer),
        Err(error) => Outcome::GaveUp(error.to_string()),
    }
}

//! How old the knowledge of what is at rest is, where other nodes may change it.

use std::time::Duration;
use tokio::time::Instant;

/// What other nodes may have changed is read again so often, at the latest.
const AGAIN: Duration = Duration::from_secs(10);

/// Somebody who asks for what is not known makes it be read again, since it may have been made at another node a moment
/// ago: so long after the last reading, at least. Whoever asks for nothing that there is gets no more than that.
const FRESH: Duration = Duration::from_millis(50);

/// So long after it at most, however long a reading takes.
const OLD: Duration = Duration::from_secs(1);

/// When it was read, how long that took, and which shards were here before that.
#[derive(Debug, Default)]
pub struct Reading {
    at: Option<Instant>,
    took: Duration,
    here: Vec<bool>,
}

impl Reading {
    /// It was read, since this moment, at which these shards were here.
    pub fn done(begun: Instant, here: Vec<bool>) -> Self {
        Self { at: Some(Instant::now()), took: begun.elapsed(), here }
    }

    /// The shards that were here.
    pub fn here(&self) -> &[bool] {
        &self.here
    }

    /// Whether it is to be read again though nobody asks.
    pub fn is_due(&self, here: &[bool]) -> bool {
        self.here != here || self.is_older_than(AGAIN)
    }

    /// Whether it is to be read again because somebody asks for what is not known.
    pub fn is_old(&self) -> bool {
        self.is_older_than(good_for(self.took))
    }

    fn is_older_than(&self, age: Duration) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= age)
    }
}

/// How long what was read is good enough, whoever asks for more: most of the time is not for reading.
fn good_for(reading: Duration) -> Duration {
    (reading * 4).clamp(FRESH, OLD)
}

#[test]
fn who_asks_for_what_is_not_there_makes_it_be_read_often_but_not_all_the_time() {
    let millis = Duration::from_millis;
    for (reading, good) in [(0, 50), (2, 50), (12, 50), (40, 160), (900, 1_000)] {
        assert_eq!(good_for(millis(reading)), millis(good), "{reading}");
    }
}

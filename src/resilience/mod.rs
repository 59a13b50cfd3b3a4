//! How to go on when something fails: schedules and back-off, as data.

pub mod backoff;
pub mod circuit_breaker;
pub mod retry;

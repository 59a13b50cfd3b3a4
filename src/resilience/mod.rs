//! Patterns that keep a failure from spreading.

pub mod backoff;

//! Hot tier adapters.

pub mod memory;

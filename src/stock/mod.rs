//! Hot tier adapters.

#[cfg(test)]
pub(crate) mod contract;
pub mod memory;
pub mod redis;

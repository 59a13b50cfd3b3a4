//! Where ledger and catalogue rest.

mod columns;
#[cfg(test)]
pub(crate) mod contract;
pub mod guarded;
pub mod postgres;
pub mod sqlite;

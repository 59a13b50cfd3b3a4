//! Where ledger and catalogue rest.

#[cfg(test)]
pub(crate) mod contract;
pub mod postgres;
pub mod sqlite;

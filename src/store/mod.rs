//! Where ledger and catalogue rest.

#[cfg(test)]
#[path = "channels_tests.rs"]
mod channels_contract;
mod columns;
#[cfg(test)]
pub(crate) mod contract;
pub mod guarded;
#[cfg(test)]
#[path = "hooks_tests.rs"]
mod hooks_contract;
pub mod postgres;
pub mod sqlite;

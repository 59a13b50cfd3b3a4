//! Where ledger and catalogue rest.

pub mod sqlite;

//! The bus adapters.

pub mod journal;

//! Marketplaces: one folder each, all of the same anatomy.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | the client: what a connection needs, and [`Marketplace`](crate::ports::channel::Marketplace) in terms of calls |
//! | `mapping.rs` | what goes out and comes in, as types |
//! | `retry.rs` | the one place where an answer becomes a [`Verdict`](crate::domain::channel::Verdict) |
//!
//! `simulator` has a stand-in of each, which enforces the marketplace's real contract and counts violations.

pub mod http;
pub mod meli;
pub mod shopify;
pub mod simulator;
pub mod vault;
pub mod webhook;

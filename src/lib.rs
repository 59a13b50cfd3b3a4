//! Blend sells stock once.
//!
//! One binary, an actor-based stream-processing engine: a sale comes in over HTTP, a reservation actor takes all of
//! its units or none, a durable journal records the event, the cashier gets an answer, and the ledger writer puts
//! sale, lines and stock movements into the append-only inventory ledger. ARCHITECTURE.md tells the story with its
//! walkthroughs; `tests/tidy.rs` enforces the layers:
//!
//! ```text
//! domain <- ports <- resilience            config, telemetry: leaves
//!            ^
//!    adapters (stock, bus, store, channels, erp) never import each other, actors or http
//!            ^
//!          actors        import ports and domain, never an adapter
//!            ^
//!           http         imports actor handles and messages, never an adapter
//!            ^
//!        app             the one composition root        <- cli <- main
//! ```

pub mod actors;
pub mod app;
pub mod bus;
pub mod channels;
pub mod cli;
pub mod client;
pub mod config;
pub mod domain;
pub mod erp;
#[cfg(test)]
mod fixtures;
pub mod http;
pub mod load;
pub mod migrations;
pub mod ports;
pub mod resilience;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the benches and the tests of the binary use the rest")]
mod servers;
#[cfg(test)]
use channels::simulator;
pub mod sqlite;
pub mod stock;
pub mod store;
pub mod telemetry;
#[cfg(test)]
mod testing;

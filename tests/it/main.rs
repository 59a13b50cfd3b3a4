//! The program as its users meet it: the real binary, its files, its HTTP, its signals, and what must hold when
//! anything under it dies.
//!
//! Every test starts its own installation in a directory of its own, on a free port of the loopback interface, and
//! ends every process it started.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::await_holding_refcell_ref,
    reason = "a helper that cannot do its part fails the test, and each connection belongs to one task"
)]

mod auth;
mod channels;
mod checkout;
mod cli;
mod cluster;
mod demo;
mod edge;
mod faults;
mod idempotency;
mod legacy;
mod replay;
mod sales;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the unit tests use the rest")]
mod servers;
mod shutdown;
mod support;
mod webhooks;

use blend::channels::simulator;

//! A stand-in for a shop's old SQL Server: TDS 7.4 over TCP, a login, and the two tables that Blend reads, in memory.
//!
//! For tests and for `blend demo`; nothing else may rely on it. It decodes parameters and runs the statements that the
//! adapter sends over rows that can be changed between two polls; any other statement is error 208, as is a changed one,
//! so that it fails loudly. No TLS, no transactions, no MARS.

mod answer;
mod demo;
mod server;
mod shop;
mod tables;
mod ticks;
mod wire;

pub use server::{Handler, Login, SqlServerStandIn, Step};
pub use shop::{Balance, Fault, Product, Shop};
pub use wire::{Request, Type, Value};

#[cfg(test)]
mod tests;

//! The actors and the kit that runs them.

pub mod kit;

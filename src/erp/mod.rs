//! Adapters of the port to a shop's old ERP.

pub mod simulator;
pub mod sqlserver;

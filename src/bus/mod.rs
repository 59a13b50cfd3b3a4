//! The bus adapters.

#[cfg(test)]
mod contract;
pub mod journal;
pub mod outbox;
pub mod rabbitmq;
pub mod traced;

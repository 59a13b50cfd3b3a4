//! The pure core: what a sale, a reservation, a stock movement and the ledger are, and the decisions about them.
//!
//! No tokio, actix, sqlx or clock in here: `state + command -> new state + effects`.

pub mod decimal;
pub mod ids;

//! The pure core: what a sale, a reservation, a stock movement and the ledger are, and the decisions about them.
//!
//! No tokio, actix, sqlx or clock in here: `state + command -> new state + effects`.

pub mod audit;
pub mod catalogue;
pub mod channel;
pub mod dead_letter;
pub mod decimal;
pub mod erp;
pub mod event;
pub mod hook;
pub mod idempotency;
pub mod ids;
pub mod import;
pub mod ledger;
pub mod nodes;
pub mod reservation;
pub mod saga;
pub mod sale;
pub mod stock;
pub mod tenant;
pub mod time;
pub mod trace;

//! The actors and the kit that runs them.
//!
//! | actor | owns | mailbox | restart |
//! |---|---|---|---|
//! | `journal` | the journal's writing end | 1,024 appends | reopens the log |
//! | `reservation-N` | hot stock, catalogue and keys of the tenants of one shard | 4,096 asks | rebuilds from ledger and journal |
//! | `channels` | the connections to marketplaces and their groups on the bus | 256 asks | starts every channel anew |
//! | `shopify-*`, `meli-*` | one connection: its client and what its items show | 64 asks | compares everything anew |
//! | `webhooks` | what goes out to tenants' own systems, and its group on the bus | 256 asks | sends what waits again |
//! | `legacy-NAME` | the reading end of one old ERP | 16 | goes on from the durable cursor |
//! | `ledger` | the ledger's writing end and its place on the bus | 16 | goes on behind the last confirmed event |
//! | `nodes` | the node's place among the others, where several share a broker | 16 | opens it afresh |
//!
//! Over a broker each shard has a journal writer and a ledger writer of its own, `journal-N` and `ledger-N`.

pub mod channel;
pub mod channels;
pub mod journal_writer;
pub mod kit;
pub mod ledger_writer;
pub mod legacy_poller;
mod listening;
pub mod nodes;
mod reading;
pub mod reservation;
#[cfg(test)]
mod testing;
pub mod webhooks;

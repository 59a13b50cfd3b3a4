//! Stand-ins for the marketplaces, on the loopback: they enforce the real contract, count what a client may not do as a
//! violation, and fail in every way that a server can. For tests, benches and `blend demo`; nothing else may rely on
//! them.
//!
//! | file | what it holds |
//! |---|---|
//! | `shell.rs` | HTTP, the same for all: faults, what was called, waiting for something to be so |
//! | `shopify.rs` | items, tokens, the cost bucket; below it what a GraphQL call does |
//! | `meli.rs` | items with variations, stock of several warehouses with versions, orders, missed notices; below it what a call comes to, limits included |

mod meli;
mod shell;
mod shopify;

pub use meli::{Counts as MeliCounts, Item as MeliItem, Meli, SELLER};
pub use shell::{Called, Fault, Front, Reply, Shell, Site};
pub use shopify::{Asked, Counts as ShopifyCounts, Documents, Field, Known, PLACE, Shopify};

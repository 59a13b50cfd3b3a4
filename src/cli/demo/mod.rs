//! A shop to look at: what it sells and how its customers buy.

pub mod catalogue;
pub mod traffic;

//! The shop's old ERP: what its readings mean here.
//!
//! An ERP balance is an absolute number that knows nothing of Blend's sales. So what moves stock is the difference
//! between two readings: an [`Account`] remembers what the ERP was last seen to say and how much of that is already
//! part of stock here; what lies between the two is moved, or held until somebody decides. Reading the same number
//! twice moves nothing, and a reading that could only partly be carried out is carried out later.
//!
//! ```text
//! reading -> plan (whose word counts, guards) -> movements + entries, one event -> applied to Following
//! ```
//!
//! [`Following`] is the state of one source of one tenant, and is nothing but the sum of its events.

mod account;
mod binding;
mod change;
mod cursor;
mod follow;
mod guard;
mod identity;
mod plan;
mod reading;
#[cfg(test)]
mod tests;

pub use account::{Account, Held, HeldAccount, Row};
pub use change::{Entry, ErpChange, Following};
pub use cursor::{Cursor, Position};
pub use follow::{Batch, Decision, Follow, Followed, FollowedLine, Resolution};
pub use guard::{Authority, Rules};
pub use identity::{AccountKey, Identity, IdentityProblem, branch_name};
pub use plan::Plan;
pub use reading::{BalanceReading, ProductReading, RowId, Stamp};

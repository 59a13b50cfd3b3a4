//! Tests of the reservation shard, by subject: in the real kit, over a bus and a ledger that do what they are told.

mod changes;
mod erp;
mod failures;
mod keys;
mod rebuilding;
mod redis;
mod selling;
mod voiding;

use super::recording::UNDER_WAY;
use super::*;
use crate::actors::kit::AskError;
use crate::actors::testing::*;
use crate::domain::event::{Body, Event, MovementKind};
use crate::fixtures::{OPENING, Shop, sale_of, whole};
use crate::ports::bus::AppendError;
use futures_util::future::join_all;

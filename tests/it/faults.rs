//! Faults on purpose: processes that are killed or frozen, disks that are full or lie. What was acknowledged is
//! there, once, and nothing else is.

mod corruption;
mod disk_full;
mod freeze;
mod kill;

//! Which node sells what: every live node gets an even part of the shards, and keeps what it has where it can.
//!
//! Nobody decides this for all. Each node tells the others, again and again, that it lives and which shards it holds;
//! each comes to the same division from what it has heard. They may differ for a moment, which costs time and never a
//! sale: who may write for a shard is settled by its claim on the bus, and by that alone.

use super::ids::NodeId;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A node that has not been heard for so long is gone. It tells five times in this while.
pub const SILENCE: Duration = Duration::from_millis(2_500);

/// Between two announcements.
pub const EVERY: Duration = Duration::from_millis(500);

/// What a node tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who.
    pub node: NodeId,
    /// Where it takes requests, `host:port`; empty for a command that serves nobody.
    pub address: String,
    /// The shards that answer there, each with the moment since when.
    pub holds: BTreeMap<usize, Timestamp>,
    /// It hands over what it holds and takes nothing more.
    pub leaving: bool,
}

/// Where requests for a shard belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This node has it.
    Here,
    /// Another one, at this address.
    At(Arc<str>),
    /// Nobody for the moment: it is on its way from one to another.
    Nobody,
}

/// The division as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// For each shard, who should have it; `None` while no node may.
    pub assigned: Vec<Option<NodeId>>,
    /// For each shard, who says that it has it, where, and since when.
    pub holders: Vec<Option<(NodeId, Arc<str>, Timestamp)>>,
    /// The nodes that live, this one included, with their addresses.
    pub nodes: BTreeMap<NodeId, Arc<str>>,
}

impl View {
    /// Where requests for a shard belong, as `me` sees it.
    pub fn owner(&self, shard: usize, me: NodeId) -> Owner {
        match self.holders.get(shard) {
            Some(Some((node, ..))) if *node == me => Owner::Here,
            Some(Some((_, address, _))) if !address.is_empty() => Owner::At(address.clone()),
            _ => Owner::Nobody,
        }
    }

    /// Shards that nobody answers for.
    pub fn ownerless(&self) -> impl Iterator<Item = usize> {
        self.holders.iter().enumerate().filter(|(_, holder)| holder.is_none()).map(|(shard, _)| shard)
    }
}

/// What a node knows of all nodes.
#[derive(Clone, Debug)]
pub struct Roll {
    me: Announcement,
    /// Whether it has listened for long enough to know who else is there.
    takes_part: bool,
    shards: usize,
    peers: BTreeMap<NodeId, (Announcement, Instant)>,
    /// For each shard, the latest moment since when anybody ever said to have it.
    latest: BTreeMap<usize, Timestamp>,
}

impl Roll {
    /// Of a node that knows nobody yet.
    pub fn new(node: NodeId, address: String, shards: usize) -> Self {
        let me = Announcement { node, address, holds: BTreeMap::new(), leaving: false };
        Self { me, takes_part: false, shards, peers: BTreeMap::new(), latest: BTreeMap::new() }
    }

    /// What to tell the others now.
    pub const fn announcement(&self) -> &Announcement {
        &self.me
    }

    /// From now on it may be given shards.
    pub fn take_part(&mut self) {
        self.takes_part = true;
    }

    /// This node answers for a shard from now on: since a moment after that of everybody before, whatever their clocks
    /// say.
    pub fn hold(&mut self, shard: usize, now: Timestamp) {
        let before = self.latest.get(&shard).map_or(0, |before| before.micros());
        let since = now.max(Timestamp::from_micros(before + 1));
        self.latest.insert(shard, since);
        self.me.holds.insert(shard, since);
    }

    /// It does not any more.
    pub fn let_go(&mut self, shard: usize) {
        self.me.holds.remove(&shard);
    }

    /// It wants no shard any more.
    pub fn leave(&mut self) {
        self.me.leaving = true;
    }

    /// Another node has spoken. True when it was not known before: it wants to know who is there.
    pub fn heard(&mut self, announcement: Announcement, now: Instant) -> bool {
        if announcement.node == self.me.node {
            return false;
        }
        for (shard, since) in &announcement.holds {
            let latest = self.latest.entry(*shard).or_default();
            *latest = (*latest).max(*since);
        }
        self.peers.insert(announcement.node, (announcement, now)).is_none()
    }

    /// Forgets who has been silent for too long.
    pub fn expire(&mut self, now: Instant) {
        self.peers.retain(|_, (_, heard)| now.saturating_duration_since(*heard) < SILENCE);
    }

    /// Nothing could be heard until now, so nobody counts as silent.
    pub fn listen_again(&mut self, now: Instant) {
        for (_, heard) in self.peers.values_mut() {
            *heard = now;
        }
    }

    /// The division.
    pub fn view(&self) -> View {
        let everybody = || std::iter::once(&self.me).chain(self.peers.values().map(|(said, _)| said));
        let mut holders = vec![None; self.shards];
        for said in everybody() {
            let address: Arc<str> = said.address.as_str().into();
            for (shard, since) in &said.holds {
                let Some(holder) = holders.get_mut(*shard) else { continue };
                // Of two that say so the later one is right: the claim was free when it got it.
                if holder.as_ref().is_none_or(|(_, _, other)| other < since) {
                    *holder = Some((said.node, address.clone(), *since));
                }
            }
        }
        let willing: BTreeSet<NodeId> =
            everybody().filter(|said| !said.leaving).map(|said| said.node).collect();
        let held: Vec<Option<NodeId>> =
            holders.iter().map(|holder| holder.as_ref().map(|(node, ..)| *node)).collect();
        let nodes = everybody().map(|said| (said.node, said.address.as_str().into())).collect();
        let assigned = if self.takes_part { divide(&willing, &held) } else { vec![None; self.shards] };
        View { assigned, holders, nodes }
    }
}

/// Gives each of `nodes` its part of the shards, equal but for one; whoever holds a shard keeps it as far as that goes.
pub fn divide(nodes: &BTreeSet<NodeId>, held: &[Option<NodeId>]) -> Vec<Option<NodeId>> {
    if nodes.is_empty() {
        return vec![None; held.len()];
    }
    let count = |node: &NodeId| held.iter().filter(|holder| holder.as_ref() == Some(node)).count();
    let (part, larger) = (held.len() / nodes.len(), held.len() % nodes.len());
    // The larger parts go to those who hold most already.
    let mut by_count: Vec<NodeId> = nodes.iter().copied().collect();
    by_count.sort_by_key(|node| (std::cmp::Reverse(count(node)), *node));
    let mut room: BTreeMap<NodeId, usize> =
        by_count.into_iter().enumerate().map(|(n, node)| (node, part + usize::from(n < larger))).collect();
    let mut take = |node: &NodeId| match room.get_mut(node) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let mut assigned: Vec<Option<NodeId>> = held.iter().map(|holder| holder.filter(&mut take)).collect();
    let mut rest = nodes.iter().copied().flat_map(|node| std::iter::repeat_n(node, room[&node]));
    for shard in assigned.iter_mut().filter(|shard| shard.is_none()) {
        *shard = rest.next();
    }
    assigned
}

#[cfg(test)]
mod tests;

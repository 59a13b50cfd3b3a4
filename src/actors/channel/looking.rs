//! What should be shown: units that moved are marked, and after the window the shards are asked what there is of them.

use super::{Channel, Kind, Msg, SOON, UNHEARD};
use crate::actors::kit::Cx;
use crate::actors::reservation::Available;
use crate::domain::channel::offered;
use crate::domain::ids::UnitId;
use std::collections::HashMap;

impl<K: Kind> Channel<K> {
    pub(super) fn mark(&mut self, units: impl IntoIterator<Item = (UnitId, bool)>, cx: &mut Cx<Self>) {
        for (unit, sold) in units {
            if self.board.has(unit) {
                *self.marked.entry(unit).or_insert(true) &= sold;
            }
        }
        self.schedule_turn(cx);
    }

    fn schedule_turn(&mut self, cx: &mut Cx<Self>) {
        if !self.turn_due && !self.marked.is_empty() {
            self.turn_due = true;
            cx.notify_after(self.pace.window, Msg::Turn);
        }
    }

    pub(super) fn sweep(&mut self, cx: &mut Cx<Self>) {
        let all: Vec<_> = self.board.units().map(|unit| (unit, false)).collect();
        self.mark(all, cx);
    }

    /// Everything is compared again after a while, which begins now.
    pub(super) fn sweep_later(&mut self, cx: &mut Cx<Self>) {
        self.next_sweep += 1;
        let pause = if self.hearing.is_on() { self.pace.sweep } else { self.pace.sweep.min(UNHEARD) };
        cx.notify_after(pause, Msg::Sweep(self.next_sweep));
    }

    /// Asks the shards what there is of the marked units.
    pub(super) fn look(&mut self, cx: &mut Cx<Self>) {
        if self.looking || self.marked.is_empty() {
            return;
        }
        self.looking = true;
        let marked = std::mem::take(&mut self.marked);
        let (shards, tenant, heard) = (self.ports.shards.clone(), self.connection.tenant, self.heard);
        let (units, sources) = (marked.keys().copied().collect(), self.connection.sources.clone());
        let look = async move { (marked, shards.available(tenant, units, sources).await) };
        cx.pipe(look, move |(marked, asked)| Msg::Looked {
            marked,
            available: asked.ok().and_then(Result::ok),
            heard,
        });
    }

    pub(super) fn looked(
        &mut self,
        marked: HashMap<UnitId, bool>,
        available: Option<Available>,
        heard: u64,
        cx: &mut Cx<Self>,
    ) {
        self.looking = false;
        // The bus may tell of an event before the shard has it: what it says now would be old.
        let Some(available) = available.filter(|available| available.settled >= heard) else {
            for (unit, sold) in marked {
                *self.marked.entry(unit).or_insert(true) &= sold;
            }
            self.turn_due = true;
            cx.notify_after(SOON, Msg::Turn);
            return;
        };
        let now = self.now();
        let buffer = self.connection.policy.buffer;
        for (unit, quantity) in available.units {
            let sold = marked.get(&unit).copied().unwrap_or_default();
            self.board.want(unit, offered(quantity, buffer), sold, now);
        }
        self.schedule_turn(cx);
        self.work(cx);
    }
}

//! From a decision to its durable event: batches to the journal, and what becomes of each.

use super::batch::{Done, Draft, Sent, UnderWay, number};
use super::voiding::VoidReply;
use super::{Denied, Msg, Reservation, Sold, SoldSale, Voided};
use crate::actors::journal_writer::{NotAppended, Verdict};
use crate::actors::kit::{Cx, Fault};
use crate::domain::event::{Body, Event};
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::saga::{self, Next, Recorded};
use crate::ports::bus::AppendError;

/// Events of one batch to the journal at most; an import is never split.
const BATCH: usize = 2_048;

/// Batches with the journal at most: one that is being committed, and those that will share the next commit. With fewer
/// the last one, often of a sale or two, would have that commit for itself, and all who come behind it would wait.
pub(super) const UNDER_WAY: usize = 8;

/// The same where the hot tier is a round trip away: what was reserved together goes on together, for each batch costs
/// several of them.
const UNDER_WAY_FAR: usize = 2;

impl Reservation {
    /// Puts an event into the next batch.
    pub(super) fn record(&mut self, draft: Draft, cx: &mut Cx<Self>) {
        self.outbox.push(draft);
        self.schedule_flush(cx);
    }

    /// Sends the next batch behind what is in the mailbox now, if not before. Not later: tills that were just answered
    /// would all come back with their next sale and share a commit, but nobody would have anything to do while it is on
    /// its way. So some are answered while others are committed, and what comes during a commit shares the next one.
    pub(super) fn schedule_flush(&mut self, cx: &mut Cx<Self>) {
        if self.flush_scheduled || !self.may_send() {
            return;
        }
        self.flush_scheduled = true;
        cx.notify(Msg::Flush);
    }

    /// Whether there is something to send and room for it. After a failure the numbers of everything under way are
    /// given out again, so all of it has to be back first.
    fn may_send(&self) -> bool {
        let most = match (self.lane.is_broken(), self.stock.is_far()) {
            (true, _) => 1,
            (false, true) => UNDER_WAY_FAR,
            (false, false) => UNDER_WAY,
        };
        !self.outbox.is_empty() && self.under_way.len() < most
    }

    /// Numbers the next batch and hands it to the journal.
    pub(super) fn flush(&mut self, cx: &mut Cx<Self>) {
        self.flush_scheduled = false;
        if !self.may_send() {
            return;
        }
        if self.lane.is_broken() {
            self.lane = self.ports.journal.lane(self.generation);
        }
        let mut size = self.outbox.len().min(BATCH);
        // Never between the parts of one import: they are durable together or not at all.
        while size < self.outbox.len() && matches!(self.outbox[size - 1].done, Done::Part) {
            size += 1;
        }
        let sent: Vec<Sent> =
            self.outbox.drain(..size).map(|draft| number(&mut self.tenants, draft)).collect();
        let events = sent.iter().map(|sent| sent.event.clone()).collect();
        self.batches += 1;
        let number = self.batches;
        self.under_way.push_back(UnderWay { number, sent, outcome: None });
        cx.pipe(self.lane.append(events), move |result| Msg::Appended(number, result));
    }

    /// Takes in what the journal decided, batch by batch in the order in which they were sent.
    pub(super) async fn appended(
        &mut self,
        number: u64,
        verdict: Verdict,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        if let Some(batch) = self.under_way.iter_mut().find(|batch| batch.number == number) {
            batch.outcome = Some(verdict);
        }
        let mut untried = 0;
        while self.next_is_decided() {
            let Some(UnderWay { sent, outcome: Some(verdict), .. }) = self.under_way.pop_front() else {
                break;
            };
            let result = match verdict {
                Ok(()) => Ok(()),
                Err(NotAppended::Failed(error)) => Err(error),
                Err(NotAppended::Stale) => {
                    let why = "the log was opened anew";
                    self.deny(sent, &AppendError::NotDurable(why.into()));
                    return Err(Fault::new(why));
                }
                Err(NotAppended::NotTried) => {
                    let drafts = self.take_back(sent);
                    let count = drafts.len();
                    self.outbox.splice(untried..untried, drafts);
                    untried += count;
                    continue;
                }
            };
            self.decided(sent, result).await?;
        }
        self.schedule_flush(cx);
        Ok(())
    }

    /// Whether the oldest batch under way can be dealt with. One that failed waits for all behind it: their numbers
    /// are given out again with its own.
    fn next_is_decided(&self) -> bool {
        match self.under_way.front().map(|batch| &batch.outcome) {
            None | Some(None) => false,
            Some(Some(Ok(()) | Err(NotAppended::Stale | NotAppended::Failed(AppendError::InDoubt(_))))) => {
                true
            }
            Some(Some(Err(_))) => self.under_way.iter().all(|batch| batch.outcome.is_some()),
        }
    }

    /// Makes drafts again of a batch that was not tried.
    fn take_back(&mut self, batch: Vec<Sent>) -> Vec<Draft> {
        for sent in &batch {
            self.give_back_number(&sent.event);
        }
        batch.into_iter().map(Sent::taken_back).collect()
    }

    /// An event that is not recorded leaves its number to the next one.
    fn give_back_number(&mut self, event: &Event) {
        if let Some(state) = self.tenants.get_mut(&event.tenant) {
            // No event behind it is recorded either, and nothing is sent until the last of them is back.
            state.sequence = state.sequence.min(event.sequence - 1);
        }
    }

    async fn decided(&mut self, batch: Vec<Sent>, result: Result<(), AppendError>) -> Result<(), Fault> {
        let recorded = match &result {
            Ok(()) => Recorded::Durable,
            Err(AppendError::NotDurable(_) | AppendError::Full(_)) => Recorded::NotDurable,
            Err(AppendError::InDoubt(_)) => Recorded::InDoubt,
        };
        match (saga::after_record(recorded), result) {
            (Next::Void, Err(error)) => self.void(batch, &error).await,
            (Next::Rebuild, Err(error)) => {
                self.deny(batch, &error);
                Err(Fault::new(error.to_string()))
            }
            _ => self.settle(batch).await,
        }
    }

    async fn settle(&mut self, batch: Vec<Sent>) -> Result<(), Fault> {
        let mut held: Vec<(TenantId, SaleId)> = Vec::new();
        for Sent { event, done } in &batch {
            match (&event.body, done) {
                (Body::SaleCreated { sale, .. }, _) => held.push((event.tenant, sale.id)),
                (_, Done::Followed { holds, .. }) => {
                    held.extend(holds.iter().map(|hold| (event.tenant, *hold)))
                }
                _ => {}
            }
        }
        // The events are durable whatever the hot tier says: they count when the tier is rebuilt.
        if !held.is_empty()
            && let Err(error) = self.stock.settle(&held).await
        {
            self.lose(error)?;
        }
        for Sent { event, done } in batch {
            let tenant = event.tenant;
            match (&event.body, done) {
                (Body::SaleCreated { sale, .. }, Done::Sale(reply)) => {
                    if let Some(state) = self.tenants.get_mut(&tenant) {
                        state.keep_until_in_ledger(&event);
                    }
                    self.counts.sold += 1;
                    self.metrics.sold.increment(1);
                    let sold =
                        |replayed| Sold { sale: SoldSale::Recent(event.clone()), at: event.at, replayed };
                    for joined in self.joined.remove(&sale.id).unwrap_or_default() {
                        joined.send(Ok(sold(true)));
                    }
                    reply.send(Ok(sold(false)));
                }
                (_, done) => {
                    self.take_in(&event).await?;
                    match done {
                        Done::Tenant(reply, tenant) => reply.send(Ok(*tenant)),
                        Done::Import(reply, counts) => {
                            self.end_change(tenant);
                            reply.send(Ok(counts));
                        }
                        Done::Delivery(reply) => reply.send(Ok(())),
                        Done::Void(reply) => self.voided(&event, reply),
                        Done::Followed { reply, followed, .. } => {
                            self.end_change(tenant);
                            reply.send(Ok(*followed));
                        }
                        Done::Sale(_) | Done::Part => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// A sale is taken back for good: everybody who asked for it hears so.
    fn voided(&mut self, event: &Event, reply: VoidReply) {
        let Body::SaleVoided { sale, .. } = &event.body else { return };
        let voided = |replayed| Voided { sale: *sale, at: event.at, replayed };
        for joined in self.voiding.remove(sale).unwrap_or_default() {
            joined.send(Ok(voided(true)));
        }
        reply.send(Ok(voided(false)));
    }

    /// Undoes a batch that is certainly not durable.
    async fn void(&mut self, batch: Vec<Sent>, error: &AppendError) -> Result<(), Fault> {
        for sent in batch.iter().rev() {
            if let Body::SaleCreated { sale, .. } = &sent.event.body
                && let Err(error) = self.stock.void(sent.event.tenant, sale.id).await
            {
                self.lose(error)?;
            }
            self.give_back_number(&sent.event);
            // Of its own import only: a sale that fails says nothing about one that waits in the outbox.
            if let Done::Followed { holds, .. } = &sent.done {
                self.void_holds(sent.event.tenant, holds).await?;
            }
            if matches!(sent.done, Done::Import(..) | Done::Followed { .. }) {
                self.end_change(sent.event.tenant);
            }
        }
        self.deny(batch, error);
        Ok(())
    }

    fn deny(&mut self, batch: Vec<Sent>, error: &AppendError) {
        for Sent { event, done } in batch {
            let denied = || Denied::Append(error.clone());
            if let Body::SaleCreated { sale, .. } = &event.body {
                for joined in self.joined.remove(&sale.id).unwrap_or_default() {
                    joined.send(Err(denied()));
                }
            }
            if let Body::SaleVoided { sale, .. } = &event.body {
                for joined in self.voiding.remove(sale).unwrap_or_default() {
                    joined.send(Err(denied()));
                }
            }
            match done {
                Done::Sale(reply) => reply.send(Err(denied())),
                Done::Tenant(reply, _) => reply.send(Err(denied())),
                Done::Import(reply, _) => reply.send(Err(denied())),
                Done::Delivery(reply) => reply.send(Err(denied())),
                Done::Void(reply) => reply.send(Err(denied())),
                Done::Followed { reply, .. } => reply.send(Err(denied())),
                Done::Part => {}
            }
        }
    }
}

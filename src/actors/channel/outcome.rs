//! What follows from the answer to a call.

use super::jobs::{Done, Job, Outcome};
use super::{Channel, GRACE, Kind, later};
use crate::actors::kit::{Cx, Fault};
use crate::domain::catalogue::Unit;
use crate::domain::channel::drift::{Cause, Drift};
use crate::domain::channel::mapping::{Listed, match_by_sku};
use crate::domain::channel::{Culprit, Refused, Verdict};
use crate::domain::ids::UnitId;
use crate::domain::time::Timestamp;
use crate::ports::channel::{Call, Failure, Mapping};
use std::sync::Arc;
use uuid::Uuid;

/// Items taken over at once: what they show is read afterwards, by the hundred.
const MOST_LISTED: usize = 100_000;

impl<K: Kind> Channel<K> {
    /// The client is back.
    pub(super) async fn done(&mut self, done: Done, cx: &mut Cx<Self>) -> Result<(), Fault> {
        let Done { market, job, result, permit } = done;
        self.is_out = false;
        let was_changed = self.fresh.is_some();
        self.market = self.fresh.take().or(Some(market));
        if let Some(permit) = permit
            && !matches!(&result, Err(refused) if refused.verdict.is_ill_health())
        {
            permit.worked();
        }
        match result {
            // It was out with tokens that are none any more.
            _ if was_changed && matches!(job, Job::Renew) => {}
            Err(refused)
                if was_changed && matches!(refused.verdict, Verdict::Unauthorized | Verdict::Broken) =>
            {
                self.put_back(job, 0);
            }
            Ok(outcome) => self.succeeded(job, outcome, cx).await?,
            Err(refused) => self.refused(job, refused, cx).await?,
        }
        self.work(cx);
        Ok(())
    }

    async fn succeeded(&mut self, job: Job, outcome: Outcome, cx: &mut Cx<Self>) -> Result<(), Fault> {
        self.delays.reset();
        self.last_error = None;
        match (job, outcome) {
            (Job::Push { call, .. }, Outcome::Pushed) => self.pushed(call).await?,
            (Job::Read { units, lost }, Outcome::Read(shown)) => self.read(units, shown, lost).await?,
            (Job::News(notice), Outcome::News(news)) => self.told(notice, news, cx),
            (Job::Missed, Outcome::Missed(missed)) => self.take_missed(missed, cx).await?,
            (Job::Renew, Outcome::Renewed(sealed)) => self.sealed = sealed,
            (Job::Renew, Outcome::Found(sealed)) => self.open_with(sealed)?,
            (Job::Subscribe, Outcome::Subscribed(missing)) => {
                if missing > 0 {
                    let connection = self.connection.id;
                    tracing::info!(%connection, missing, "subscribed to news that was not told us any more");
                    // What happened meanwhile was told to nobody.
                    self.sweep(cx);
                }
            }
            (Job::Map { unit, item, reply }, Outcome::Read(shown)) => {
                let shown = shown.first().copied().flatten();
                reply.send(self.mapped_by_hand(unit, item, shown, cx).await?);
            }
            (Job::Check(reply), Outcome::Checked(name)) => {
                self.broken = None;
                reply.send(Ok(name));
            }
            (Job::Match { apply, reply, mut listed, .. }, Outcome::Listed(more, next)) => {
                listed.extend(more);
                if next.is_some() && listed.len() < MOST_LISTED {
                    self.jobs.push_front(Job::Match { apply, reply, listed, after: next });
                } else {
                    self.matched(apply, reply, listed, cx).await?;
                }
            }
            _ => return Err(Fault::new("a job came to something else than it was sent out for")),
        }
        Ok(())
    }

    async fn pushed(&mut self, call: Call) -> Result<(), Fault> {
        let now = self.now();
        let shown: Vec<(UnitId, Option<i64>)> =
            call.pushes.iter().map(|push| (push.unit, Some(push.quantity))).collect();
        self.remember(&shown, now).await?;
        self.counts.pushed += shown.len() as u64;
        self.metrics.pushed.increment(shown.len() as u64);
        // The search for a culprit is over, or half over.
        self.batch = self.batch.saturating_mul(2);
        Ok(())
    }

    /// Kept first: if that fails the channel starts over from what was kept before, and compares again.
    async fn remember(&mut self, shown: &[(UnitId, Option<i64>)], now: Timestamp) -> Result<(), Fault> {
        self.ports.store.shown(self.connection.tenant, self.connection.id, shown, now).await?;
        shown.iter().for_each(|(unit, quantity)| self.board.show(*unit, *quantity, now));
        Ok(())
    }

    /// What items show, against what they should.
    async fn read(
        &mut self,
        mut units: Vec<UnitId>,
        shown: Vec<Option<i64>>,
        lost: bool,
    ) -> Result<(), Fault> {
        let rest = units.split_off(shown.len().min(units.len()));
        if !rest.is_empty() {
            self.jobs.push_back(Job::Read { units: rest, lost });
        }
        let now = self.now();
        let mut changed = Vec::new();
        for (unit, theirs) in units.into_iter().zip(shown) {
            let ours = self.board.shown(unit);
            if ours == theirs && theirs.is_some() {
                self.drift.remove(&unit);
                continue;
            }
            if let Some(ours) = ours
                && let Some(cause) = Cause::of(ours, theirs)
            {
                self.counts.drift += 1;
                self.metrics.drift.increment(1);
                tracing::info!(connection = %self.connection.id, %unit, ours, ?theirs, cause = cause.as_str(), "drift");
                if !lost && self.asks_about_drift() {
                    let since = self.drift.get(&unit).map_or(now, |known| known.since);
                    self.drift.insert(unit, Drift { unit, ours, theirs, since, cause });
                    continue;
                }
                if cause == Cause::Order {
                    self.board.wait_before_raising(unit, later(now, GRACE));
                }
            }
            if theirs.is_none() {
                self.gone(unit, now).await?;
                continue;
            }
            changed.push((unit, theirs));
        }
        if changed.is_empty() { Ok(()) } else { self.remember(&changed, now).await }
    }

    /// An item that is not there: nothing can be pushed to it.
    async fn gone(&mut self, unit: UnitId, now: Timestamp) -> Result<(), Fault> {
        if self.board.has_failed(unit) {
            return Ok(());
        }
        self.remember(&[(unit, None)], now).await?;
        let item = self.board.item(unit).unwrap_or_default().to_owned();
        let culprit = Culprit {
            index: None,
            code: "ITEM_GONE".into(),
            message: format!("{item} is not there, or not stocked at the place: map the unit anew"),
        };
        let refused = Refused {
            verdict: Verdict::Rejected(Vec::new()),
            cause: culprit.message.clone(),
            request: item,
            response: "not found".into(),
        };
        self.fail(&[(unit, None, culprit)], &refused, 1, now).await
    }

    async fn refused(&mut self, job: Job, refused: Refused, cx: &mut Cx<Self>) -> Result<(), Fault> {
        let connection = self.connection.id;
        tracing::debug!(%connection, channel = K::NAME, cause = refused.cause, verdict = ?refused.verdict, "call refused");
        self.last_error = Some(refused.cause.clone());
        if job.is_a_persons() && !matches!(refused.verdict, Verdict::Unauthorized | Verdict::Throttled { .. })
        {
            job.refuse(&refused.cause);
            return Ok(());
        }
        // Who may not subscribe may still push; the hour's next attempt finds out whether that has changed.
        if matches!((&job, &refused.verdict), (Job::Subscribe, Verdict::Broken | Verdict::Rejected(_))) {
            tracing::warn!(%connection, cause = refused.cause, "the marketplace is not asked to tell its news here");
            return Ok(());
        }
        match refused.verdict.clone() {
            Verdict::Again { after } => {
                let pause = after.unwrap_or_default().max(self.delays.next_delay());
                self.put_back(job, 1);
                self.wait(pause, cx);
            }
            Verdict::Throttled { after } => {
                self.put_back(job, 0);
                self.wait(after, cx);
            }
            Verdict::Unauthorized if matches!(job, Job::Renew) => self.broken(refused.cause, cx),
            // There is no other token, and it is known why.
            Verdict::Unauthorized if job.is_a_persons() && self.broken.is_some() => {
                job.refuse(self.broken.as_deref().unwrap_or_default());
            }
            Verdict::Unauthorized => {
                self.put_back(job, 0);
                if !self.jobs.iter().any(|job| matches!(job, Job::Renew)) {
                    self.jobs.push_front(Job::Renew);
                }
            }
            Verdict::Broken => {
                self.put_back(job, 0);
                self.broken(refused.cause, cx);
            }
            Verdict::Stale | Verdict::NewKey | Verdict::Rejected(_) => match job {
                Job::Push { call, attempts } => self.not_pushed(call, attempts, refused).await?,
                // What cannot be read now is read by the next round.
                Job::Read { .. } | Job::Missed | Job::Renew | Job::Subscribe => {}
                Job::Check(_) | Job::Match { .. } | Job::Map { .. } => {}
                Job::News(notice) => self.give_up_notice(&notice, &refused).await?,
            },
        }
        Ok(())
    }

    /// The same again, later.
    pub(super) fn put_back(&mut self, job: Job, tried: u32) {
        match job {
            Job::Push { call, attempts } => self.pending = Some((call, attempts + tried)),
            Job::Renew => self.jobs.push_front(Job::Renew),
            other => self.jobs.push_back(other),
        }
    }

    async fn not_pushed(&mut self, call: Call, attempts: u32, refused: Refused) -> Result<(), Fault> {
        match &refused.verdict {
            Verdict::NewKey => self.pending = Some((Call { key: Uuid::now_v7(), ..call }, attempts + 1)),
            Verdict::Stale => {
                self.counts.stale += 1;
                call.pushes.iter().for_each(|push| self.board.give_back(push.unit));
                let units = call.pushes.iter().map(|push| push.unit).collect();
                self.jobs.push_front(Job::Read { units, lost: true });
            }
            Verdict::Rejected(culprits) => {
                call.pushes.iter().for_each(|push| self.board.give_back(push.unit));
                let mut failed: Vec<(UnitId, Option<i64>, Culprit)> = Vec::new();
                for culprit in culprits {
                    let alone = (call.pushes.len() == 1).then_some(0);
                    let push = culprit.index.or(alone).and_then(|index| call.pushes.get(index));
                    if let Some(push) = push
                        && failed.iter().all(|(unit, ..)| *unit != push.unit)
                    {
                        failed.push((push.unit, Some(push.quantity), culprit.clone()));
                    }
                }
                if failed.is_empty() {
                    // Nobody was named: halves, until it is alone.
                    self.batch = (call.pushes.len() / 2).max(1);
                } else {
                    let now = self.now();
                    self.fail(&failed, &refused, attempts + 1, now).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn fail(
        &mut self,
        failed: &[(UnitId, Option<i64>, Culprit)],
        refused: &Refused,
        attempts: u32,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let failures: Vec<Failure> = failed
            .iter()
            .map(|(unit, _, culprit)| Failure {
                unit: *unit,
                code: culprit.code.clone(),
                cause: culprit.message.clone(),
                request: refused.request.clone(),
                response: refused.response.clone(),
                attempts,
                at: now,
            })
            .collect();
        self.ports.store.fail(self.connection.tenant, self.connection.id, &failures).await?;
        for (unit, quantity, culprit) in failed {
            tracing::error!(connection = %self.connection.id, tenant = %self.connection.tenant, %unit,
                code = culprit.code, cause = culprit.message, "a quantity cannot be pushed and was given up");
            match quantity.or_else(|| self.board.wanted(*unit)) {
                Some(quantity) => self.board.fail(*unit, quantity),
                None => self.board.give_back(*unit),
            }
        }
        self.counts.failed += failed.len() as u64;
        self.metrics.failed.increment(failed.len() as u64);
        Ok(())
    }

    /// Everything there is listed: which unit is which item?
    async fn matched(
        &mut self,
        apply: bool,
        reply: crate::actors::kit::Reply<Result<crate::domain::channel::mapping::MatchReport, String>>,
        listed: Vec<Listed>,
        cx: &mut Cx<Self>,
    ) -> Result<(), Fault> {
        let units: Vec<Arc<Unit>> = match self.ports.shards.units(self.connection.tenant).await {
            Ok(Ok(units)) => units,
            _ => {
                reply.send(Err("the catalogue cannot be read now".into()));
                return Ok(());
            }
        };
        let report = match_by_sku(&units, &listed);
        if apply {
            let is_new = |(unit, item): &&(UnitId, Listed)| self.board.item(*unit) != Some(&item.item);
            let mappings: Vec<Mapping> = report
                .matched
                .iter()
                .filter(is_new)
                .map(|(unit, item)| Mapping { unit: *unit, item: item.item.clone(), shown: None })
                .collect();
            if !mappings.is_empty() {
                self.ports.store.map(self.connection.tenant, self.connection.id, &mappings).await?;
                self.take_mappings(&mappings);
                self.mark(mappings.iter().map(|mapping| (mapping.unit, false)).collect::<Vec<_>>(), cx);
            }
        }
        reply.send(Ok(report));
        Ok(())
    }
}

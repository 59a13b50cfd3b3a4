//! Checks the laws on an installation, running or stopped, without changing anything.

use super::adapters;
use crate::actors::reservation::HotSnapshot;
use crate::config::Config;
use crate::domain::audit::{AuditReport, Auditor, Detail, Fact, HotStock, Part};
use crate::domain::ids::TenantId;
use crate::ports::audit::{BusFactSource, LedgerFactSource};
use crate::ports::bus::LEDGER_GROUP;
use anyhow::{Context as _, bail};

/// How often the moments are chosen anew before giving up.
const TRIES: usize = 20;

/// Findings that are shown with the rows and events they are about: each costs a search through the ledger.
const EXPLAINED: usize = 3;

/// Facts between two reports of progress.
const STEP: u64 = 8_192;

/// Reads bus and ledger of an installation and checks every law on them.
///
/// `hot` is what the running server has in memory, asked for before this is called; empty when none runs. `progress`
/// is told how many facts of about how many were looked at.
///
/// # The order of reading
///
/// A server may be writing both meanwhile, and nothing stops it. So each is read as of fixed moments, in
/// this order, a millisecond apart: hot stock, journal, ledger, journal once more.
///
/// - Hot stock comes first: each event in it is durable. It is in the journal as of the next moment, or was trimmed,
///   and then it is in the ledger.
/// - The journal comes before the ledger, because what the journal says about the ledger stays true: what is confirmed
///   or trimmed has been applied, and the ledger never takes anything back. Read the other way round, events applied,
///   confirmed and trimmed between the two moments would look lost.
/// - The ledger may therefore be ahead of that journal. So the journal is read a second time, only for what has been
///   added: each event that the ledger has was durable before, so now it is there. Without that, a sale that was made
///   between the moments could not be told from one that nobody made.
/// - Events set aside are taken from both moments of the journal: one moves from the retries to the ledger, or to the
///   dead letters before the ledger notes that it was given up.
pub async fn verify(
    config: &Config,
    hot: Vec<(TenantId, HotSnapshot)>,
    progress: impl FnMut(u64, u64) + Send,
) -> anyhow::Result<AuditReport> {
    let mut journal = adapters::bus_facts(config).await?;
    let mut ledger = adapters::ledger_facts(config).await?;
    pin(&mut *journal, &mut *ledger).await?;
    compare(&mut *journal, &mut *ledger, hot, progress).await
}

/// With the moments chosen.
async fn compare(
    journal: &mut dyn BusFactSource,
    ledger: &mut dyn LedgerFactSource,
    hot: Vec<(TenantId, HotSnapshot)>,
    mut progress: impl FnMut(u64, u64) + Send,
) -> anyhow::Result<AuditReport> {
    let hot = hot.into_iter().map(|(tenant, snapshot)| HotStock {
        tenant,
        sequence: snapshot.sequence,
        on_hand: snapshot.on_hand,
    });
    let mut auditor = Auditor::new(LEDGER_GROUP, hot.collect());
    let total = journal.total().await? + ledger.total().await?;
    let mut done = 0;
    let mut take = |fact: Fact<'_>| {
        auditor.feed(fact);
        done += 1;
        if done % STEP == 0 {
            progress(done.min(total), total);
        }
    };
    // Marks before events, events before sales: what comes is judged by what came.
    ledger.facts(Part::Standing, &mut take).await.context("the ledger cannot be read")?;
    journal.facts(Part::Standing, &mut take).await.context("the journal cannot be read")?;
    journal.facts(Part::History, &mut take).await.context("the journal cannot be read")?;
    ledger.facts(Part::History, &mut take).await.context("the ledger cannot be read")?;
    progress(total, total);
    let mut report = auditor.finish();
    for difference in report.differences.iter_mut().take(EXPLAINED) {
        difference.detail.evidence = evidence(journal, ledger, &difference.detail).await?;
    }
    Ok(report)
}

async fn pin(journal: &mut dyn BusFactSource, ledger: &mut dyn LedgerFactSource) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        journal.pin_before().await?;
        ledger.pin().await?;
        if journal.pin_after().await? {
            return Ok(());
        }
        ledger.unpin().await?;
    }
    bail!("the journal is trimmed faster than it can be read: raise journal.retain_events")
}

async fn evidence(
    journal: &mut dyn BusFactSource,
    ledger: &mut dyn LedgerFactSource,
    about: &Detail,
) -> anyhow::Result<Vec<String>> {
    let mut lines = ledger.evidence(about).await?;
    lines.extend(journal.evidence(about).await?);
    Ok(lines)
}

#[cfg(test)]
mod tests;

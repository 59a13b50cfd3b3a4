//! What the checker of the laws is told.

use super::*;
use crate::domain::audit::{AuditReport, Auditor, Detail, Fact, Law, Part};
use crate::domain::event::{Event, MovementKind};
use crate::fixtures::Shop;
use crate::ports::audit::FactSource as _;
use crate::ports::audit::LedgerFactSource as _;
use crate::store::sqlite;
use std::collections::BTreeSet;

/// Two shops' history: the events, in an order in which a journal could hold them.
fn history() -> (Vec<Shop>, Vec<Arc<Event>>) {
    let mut shops = vec![Shop::new(3), Shop::new(2)];
    let mut events: Vec<Arc<Event>> = shops.iter_mut().flat_map(|shop| shop.opened(100)).collect();
    for n in 0..5 {
        for shop in &mut shops {
            events.push(shop.sold_at(n % 2, &[(0, 1), (1, 2), (0, 1)], Some(&format!("k{n}"))));
            events.push(shop.moved(MovementKind::Transfer, &[(0, 0, -3), (0, 1, 3)]));
            events.push(shop.moved(MovementKind::Purchase, &[(1, 1, 9)]));
        }
    }
    (shops, events)
}

/// What the checker finds, given a journal that still has every event.
async fn check(ledger: &Ledger, events: &[Arc<Event>]) -> AuditReport {
    let mut facts = ledger.audit().await.unwrap();
    facts.pin().await.unwrap();
    assert!(facts.total().await.unwrap() > 0);
    let mut auditor = Auditor::new("ledger", Vec::new());
    facts.facts(Part::Standing, &mut |fact| auditor.feed(fact)).await.unwrap();
    let newest = events.len() as u64;
    auditor.feed(Fact::GroupPosition { group: "ledger", position: newest });
    for (position, event) in (1..).zip(events) {
        auditor.feed(Fact::Recorded { position, event });
    }
    facts.facts(Part::History, &mut |fact| auditor.feed(fact)).await.unwrap();
    let mut report = auditor.finish();
    for difference in report.differences.iter_mut().take(1) {
        difference.detail.evidence = facts.evidence(&difference.detail).await.unwrap();
    }
    facts.unpin().await.unwrap();
    report
}

/// Every fact as text; ids of ledger rows, which differ between databases, as nothing.
async fn told(facts: &mut dyn crate::ports::audit::FactSource) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for part in [Part::Standing, Part::History] {
        let mut sink = |fact: Fact<'_>| {
            let fact = match fact {
                Fact::Ledger(row) => Fact::Ledger(crate::domain::audit::LedgerRow { id: 0, ..row }),
                other => other,
            };
            assert!(told.insert(format!("{fact:?}")), "told twice: {fact:?}");
        };
        facts.facts(part, &mut sink).await.unwrap();
    }
    told
}

#[tokio::test]
async fn both_ledgers_tell_the_same_facts() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let (shops, events) = history();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let file = sqlite::Ledger::open(&path).await.unwrap();
    let mut behind = shops[0].clone();
    behind.sold(1);
    let given_up = behind.sold(1);
    for store in [home.ledger.store(), file.store()] {
        let mut store = store().await.unwrap();
        store.apply(&events).await.unwrap();
        store.give_up(&given_up, "given up").await.unwrap();
    }
    let mut ours = home.ledger.audit().await.unwrap();
    let mut theirs = sqlite::audit::LedgerFacts::open(&path).await.unwrap();
    ours.pin().await.unwrap();
    theirs.pin().await.unwrap();
    // What is written after the moment does not show in it.
    let mut late = Shop::new(1);
    (home.store())().await.unwrap().apply(&late.opened(1)).await.unwrap();
    let (ours, theirs) = (told(&mut ours).await, told(&mut theirs).await);
    assert!(ours.len() > 70, "{}", ours.len());
    assert_eq!(ours, theirs);
}

#[tokio::test]
async fn tampering_is_found() {
    let cluster = Cluster::start().await;
    let (shops, events) = history();
    let (own, unit, there) = (shops[0].id(), shops[0].units[0].id, shops[1].units[0].id);
    let sale = format!("(SELECT id FROM sales WHERE tenant_id = '{own}' AND sequence = 4)");
    let cases = [
        (None, "", String::new()),
        (
            Some(Law::LostSale),
            "a sale of the journal is not in the ledger",
            format!("DELETE FROM sale_lines WHERE sale_id = {sale}; DELETE FROM sales WHERE id = {sale}"),
        ),
        (Some(Law::Phantom), "belongs to no sale", format!("DELETE FROM sales WHERE id = {sale}")),
        (
            Some(Law::Phantom),
            "total is not the sum",
            format!("UPDATE sales SET total = total + 1 WHERE id = {sale}"),
        ),
        (
            Some(Law::Conservation),
            "does not begin where",
            format!(
                "UPDATE ledger SET stock_before = stock_before + 1, stock_after = stock_after + 1
             WHERE sale_id = {sale} AND unit_id = '{unit}'"
            ),
        ),
        (
            Some(Law::Conservation),
            "not where the ledger's chain ends",
            format!(
                "UPDATE stock SET quantity = quantity + 1 WHERE tenant_id = '{own}' AND unit_id = '{unit}'"
            ),
        ),
        (
            Some(Law::Isolation),
            "a ledger row refers to another tenant's unit",
            format!("UPDATE ledger SET unit_id = '{there}' WHERE sale_id = {sale} AND unit_id = '{unit}'"),
        ),
        (
            Some(Law::Isolation),
            "belongs to an unknown tenant",
            format!("DELETE FROM tenants WHERE id = '{own}'"),
        ),
    ];
    let home = cluster.home().await;
    (home.store())().await.unwrap().apply(&events).await.unwrap();
    home.ledger.close().await;
    let filled = home.url.rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
    for (number, (law, message, sql)) in cases.iter().enumerate() {
        // Its last sessions may still be leaving; a database cannot be copied under them.
        let name = format!("tampered_{number}");
        let ended = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{filled}'"
        );
        cluster.run("postgres", &ended).await;
        cluster.run("postgres", &format!("CREATE DATABASE {name} TEMPLATE {filled}")).await;
        cluster.run(&name, &format!("SET session_replication_role = replica; {sql}")).await;
        let ledger = Ledger::open(&settings(cluster.server.url(&name))).await.unwrap();
        let report = check(&ledger, &events).await;
        let Some(law) = law else {
            assert!(report.is_clean(), "{report}");
            assert_eq!((report.counts.sales, report.counts.lines, report.counts.events), (10, 30, 36));
            continue;
        };
        let hit = report.differences.iter().any(|found| found.law == *law && found.message.contains(message));
        assert!(hit, "no {law:?} {message:?} in {report}");
        let first: &Detail = &report.differences[0].detail;
        assert!(first.sale.is_none() || !first.evidence.is_empty(), "nothing shown with {report}");
    }
}

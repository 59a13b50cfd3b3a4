use super::*;
use crate::domain::decimal::Quantity;
use crate::domain::event::{Body, Movement, MovementKind};
use crate::domain::ids::EventId;
use crate::domain::time::Timestamp;
use uuid::Uuid;

const GROUP: &str = "ledger";

fn tenant() -> TenantId {
    TenantId(Uuid::from_u128(1))
}

fn place() -> Place {
    (UnitId(Uuid::from_u128(2)), LocationId(Uuid::from_u128(3)))
}

/// An auditor that knows one tenant with one place, applied up to `mark`.
fn auditor(mark: u64) -> Auditor {
    let mut auditor = Auditor::new(GROUP, Vec::new());
    auditor.feed(Fact::Tenant(tenant()));
    auditor.feed(Fact::Unit(tenant(), place().0));
    auditor.feed(Fact::Location(tenant(), place().1));
    auditor.feed(Fact::Applied { tenant: tenant(), sequence: mark });
    auditor
}

fn moved(sequence: u64, delta: i64) -> Event {
    let delta = Quantity::from_units(delta).unwrap();
    let movements = vec![Movement { unit: place().0, location: place().1, delta }];
    Event {
        id: EventId(Uuid::from_u128(9)),
        tenant: tenant(),
        sequence,
        at: Timestamp::from_micros(5),
        user: "u".into(),
        request_id: "r".into(),
        trace: None,
        body: Body::StockMoved { kind: MovementKind::Adjustment, reference: "x".into(), movements },
    }
}

fn row(id: i64, sequence: u64, before: i64, delta: i64) -> Fact<'static> {
    Fact::Ledger(LedgerRow {
        id,
        tenant: tenant(),
        place: place(),
        sequence,
        kind: "ADJUSTMENT",
        delta,
        before,
        after: before + delta,
        sale: None,
        reference: Some("x"),
        at: 5,
    })
}

fn stock(quantity: i64) -> Fact<'static> {
    Fact::Stock { tenant: tenant(), place: place(), quantity }
}

fn laws(auditor: Auditor) -> Vec<Law> {
    auditor.finish().differences.iter().map(|difference| difference.law).collect()
}

#[test]
fn a_delivery_that_was_applied_late_is_no_oversell_and_an_oversell_is() {
    // Event 2 was given up, then applied after event 3, which had sold what it brought.
    let mut late = auditor(3);
    [row(1, 1, 0, 10), row(2, 3, 10, -15), row(3, 2, -5, 10), stock(5)]
        .into_iter()
        .for_each(|fact| late.feed(fact));
    assert_eq!(laws(late), []);
    let mut sold = auditor(3);
    [row(1, 1, 0, 10), row(2, 2, 10, -15), row(3, 3, -5, 10), stock(5)]
        .into_iter()
        .for_each(|fact| sold.feed(fact));
    assert_eq!(laws(sold), [Law::Oversell]);
}

#[test]
fn what_waits_counts_once_wherever_it_is_told() {
    let (two, three) = (moved(2, -6), moved(3, -3));
    let park = |position, event| Parked { group: GROUP, position, attempts: 1, cause: "c", event };
    let told = |on_hand: i64| {
        let mut auditor = auditor(1);
        auditor.feed(Fact::GroupPosition { group: GROUP, position: 2 });
        auditor.feed(Fact::Retry(park(2, &two)));
        auditor.feed(Fact::DeadLetter(park(2, &two)));
        auditor.feed(Fact::Recorded { position: 2, event: &two });
        auditor.feed(Fact::Recorded { position: 3, event: &three });
        auditor.feed(row(1, 1, 0, on_hand));
        auditor.feed(stock(on_hand));
        laws(auditor)
    };
    assert_eq!(told(9), [Law::Delivery], "given up, and in the way of nothing else");
    assert_eq!(told(8), [Law::Delivery, Law::Oversell]);
}

#[test]
fn a_dead_letter_is_a_difference_until_the_ledger_has_it_and_each_tenants_own() {
    let (one, mut other) = (moved(2, -6), moved(2, -6));
    other.tenant = TenantId(Uuid::from_u128(77));
    let park = |event| Parked { group: GROUP, position: 2, attempts: 4, cause: "no such unit", event };
    let mut given_up = auditor(1);
    [&one, &other, &one].into_iter().for_each(|event| given_up.feed(Fact::DeadLetter(park(event))));
    given_up.feed(row(1, 1, 0, 9));
    given_up.feed(stock(9));
    let report = given_up.finish();
    assert_eq!((report.counts.dead_letters, report.by_law[Law::Delivery as usize - 1]), (2, 2), "{report}");
    let first = report.differences[0].to_string();
    for part in ["event 2 (stock.moved)", "no such unit", "given up after 4 attempts"] {
        assert!(first.contains(part), "{part} is not in {first}");
    }
    let mut later = auditor(2);
    later.feed(Fact::DeadLetter(park(&one)));
    later.feed(row(1, 1, 0, 9));
    later.feed(row(2, 2, 9, -6));
    later.feed(stock(3));
    let report = later.finish();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.warning_count, 1);
}

#[test]
fn a_place_that_only_waiting_events_know_is_not_oversold_either() {
    let event = moved(2, -1);
    let mut auditor = auditor(1);
    auditor.feed(Fact::Recorded { position: 2, event: &event });
    assert_eq!(laws(auditor), [Law::Oversell]);
}

#[test]
fn numbers_far_apart_cost_no_memory_for_what_lies_between() {
    let mut auditor = auditor(u64::MAX);
    auditor.feed(row(1, 1, 0, 1));
    auditor.feed(row(2, u64::MAX - 1, 1, 1));
    auditor.feed(stock(2));
    assert_eq!(laws(auditor), []);
}

#[test]
fn differences_beyond_the_first_hundred_are_counted() {
    let mut auditor = auditor(1);
    for position in 0..250 {
        auditor.feed(Fact::Quarantined { position, reason: "r" });
    }
    let report = auditor.finish();
    assert_eq!((report.differences.len(), report.difference_count, report.by_law[6]), (KEPT, 250, 250));
    assert!(!report.is_clean());
}

#[test]
fn a_gap_in_the_journal_is_a_loss_only_where_the_ledger_may_lack_it() {
    let (one, three) = (moved(1, 5), moved(3, 5));
    let told = |confirmed| {
        let mut auditor = auditor(3);
        auditor.feed(Fact::GroupPosition { group: GROUP, position: confirmed });
        auditor.feed(Fact::Recorded { position: 1, event: &one });
        auditor.feed(Fact::Recorded { position: 3, event: &three });
        [row(1, 1, 0, 5), row(2, 2, 5, 5), row(3, 3, 10, 5), stock(15)]
            .into_iter()
            .for_each(|fact| auditor.feed(fact));
        auditor.finish()
    };
    let report = told(3);
    assert!(report.is_clean(), "{report}");
    assert!(report.warnings.iter().any(|warning| warning.message.contains("positions 2 to 2 are missing")));
    assert_eq!(told(1).differences[0].law, Law::LostSale);
}

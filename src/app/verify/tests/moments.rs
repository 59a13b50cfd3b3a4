//! What happens while the checker looks.

use super::*;

/// Between each two moments of the checker the server records, applies, confirms, gives up and trims.
#[tokio::test]
async fn what_happens_between_the_moments_is_no_difference() {
    let mut world = World::open(2).await;
    let mut shop = Shop::new(1);
    let opening = shop.opening();
    world.record(&opening).await;
    world.apply(3).await;
    let mut journal = JournalFacts::open(&journal_file(world.dir.path())).await.unwrap();
    let mut ledger = LedgerFacts::open(&ledger_file(world.dir.path())).await.unwrap();
    world.record(&[shop.sale(1, None), shop.sale(1, None), shop.moved([9, 9])]).await;
    let mut on_hand = HashMap::new();
    on_hand.insert((shop.units[0], shop.location), whole(98 + 9));
    on_hand.insert((shop.units[1], shop.location), Quantity::parse("58.31").unwrap());
    let hot = HotSnapshot { sequence: 6, on_hand: on_hand.into_iter().collect() };
    world.apply(1).await;
    journal.pin_before().await.unwrap();
    world.apply(1).await;
    world.give_up().await;
    world.record(&[shop.sale(1, None)]).await;
    world.apply(1).await;
    ledger.pin().await.unwrap();
    world.record(&[shop.sale(1, None)]).await;
    world.apply(1).await;
    assert!(journal.pin_after().await.unwrap(), "the moments join");
    let report = compare(&mut journal, &mut ledger, vec![(shop.tenant, hot)], |_, _| {}).await.unwrap();
    assert_eq!((report.difference_count, report.by_law[Law::Delivery as usize - 1]), (1, 1), "{report}");
    assert_eq!((report.counts.sales, report.counts.waiting, report.counts.dead_letters), (3, 1, 1));
}

/// The other order of reading, which `verify` does not use, takes what happened in between for a loss.
#[tokio::test]
async fn reading_the_ledger_first_would_report_losses_that_are_none() {
    let mut world = World::open(0).await;
    let mut shop = Shop::new(1);
    let opening = shop.opening();
    world.record(&opening).await;
    world.apply(3).await;
    let mut journal = JournalFacts::open(&journal_file(world.dir.path())).await.unwrap();
    let mut ledger = LedgerFacts::open(&ledger_file(world.dir.path())).await.unwrap();
    ledger.pin().await.unwrap();
    world.record(&[shop.sale(1, None)]).await;
    world.apply(1).await;
    // The newest is never trimmed.
    world.record(&[shop.sale(1, None)]).await;
    world.record(&[shop.sale(1, None)]).await;
    journal.pin_before().await.unwrap();
    assert!(journal.pin_after().await.unwrap());
    let report = compare(&mut journal, &mut ledger, Vec::new(), |_, _| {}).await.unwrap();
    breaks(&report, Law::LostSale, "neither in the ledger nor in the journal");
}

#[tokio::test]
async fn moments_that_do_not_join_are_chosen_anew() {
    let mut world = World::open(0).await;
    let mut shop = Shop::new(1);
    let opening = shop.opening();
    world.record(&opening).await;
    world.apply(3).await;
    let mut journal = JournalFacts::open(&journal_file(world.dir.path())).await.unwrap();
    journal.pin_before().await.unwrap();
    world.record(&[shop.sale(1, None)]).await;
    world.apply(1).await;
    world.record(&[shop.sale(1, None)]).await;
    assert!(!journal.pin_after().await.unwrap(), "what came in between is trimmed");
    journal.pin_before().await.unwrap();
    assert!(journal.pin_after().await.unwrap());
}

/// Sells, applies, confirms and trims without a pause while the checker reads again and again.
#[tokio::test]
async fn nothing_false_is_reported_while_a_writer_runs() {
    let mut world = World::open(0).await;
    let mut shop = Shop::new(1);
    let opening = shop.opening();
    world.record(&opening).await;
    world.apply(3).await;
    let path = world.dir.path().to_owned();
    let writer = tokio::spawn(async move {
        for round in 0..300 {
            let event = if round % 40 == 0 { shop.moved([100, 50]) } else { shop.sale(1, None) };
            world.record(&[event]).await;
            if round % 100 == 50 {
                world.give_up().await;
            } else {
                world.apply(1).await;
            }
        }
        world
    });
    let mut checks = 0;
    // What was given up is a difference, and nothing else is.
    let dead_letters = |report: &AuditReport| {
        assert_eq!(report.difference_count, report.counts.dead_letters, "{report}");
        assert!(report.differences.iter().all(|found| found.message.contains("was given up")), "{report}");
        report.counts.dead_letters
    };
    while !writer.is_finished() {
        dead_letters(&verify(&on(&path), Vec::new(), |_, _| {}).await.unwrap());
        checks += 1;
    }
    let world = writer.await.unwrap();
    assert_eq!(dead_letters(&world.verify().await), 3);
    assert!(checks > 3, "{checks}");
}

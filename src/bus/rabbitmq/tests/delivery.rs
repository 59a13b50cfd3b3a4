//! What becomes of messages on their way to the ledger.

use super::super::audit::BrokerFacts;
use super::super::connection::{Outgoing, confirming, publish};
use super::super::names::ledger_key;
use super::*;
use crate::domain::audit::{Detail, Fact, Part};
use crate::ports::audit::{BusFactSource as _, FactSource as _};
use crate::ports::bus::{LEDGER_GROUP, Rejection};
use crate::ports::dead_letters::DeadLetters;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

#[tokio::test]
async fn d20_d21_d22_a_bad_event_is_tried_by_schedule_then_kept_and_holds_up_nobody() {
    let server = RabbitMq::start().await;
    let waits = RetrySchedule([500, 1_000].map(Duration::from_millis).to_vec());
    let bus = bus(RabbitSettings { prefetch: 2, retries: waits, ..settings(server.url(), "") });
    bus.check().await.unwrap();
    let channel = outsider(&bus).await.create_channel().await.unwrap();
    channel
        .queue_declare("news".into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await
        .unwrap();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind("news".into(), "blend_events".into(), "sales.failed".into(), options, none)
        .await
        .unwrap();
    let mut news = channel
        .basic_consume("news".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let (mut bad, mut good) = (Shop::new(1), Shop::new(1));
    let mut log = log(&bus).await;
    let first = bad.sold(1);
    log.append(std::slice::from_ref(&first)).await.unwrap();
    let mut feed = feed(&bus).await;
    let (mut passed, mut failed_at) = (0, Vec::new());
    let began = tokio::time::Instant::now();
    // It fails and fails; meanwhile another shop's sales go on although only two messages may be in hand.
    loop {
        log.append(&[good.sold(1)]).await.unwrap();
        let deliveries = contract::next(&mut feed, 10).await;
        let mut over = false;
        for delivery in deliveries {
            if delivery.event.tenant == good.id() {
                feed.done(&[delivery]).await.unwrap();
                passed += 1;
                continue;
            }
            assert_eq!((&delivery.event, delivery.attempt as usize), (&first, failed_at.len()));
            failed_at.push(began.elapsed());
            over = feed.reject(&delivery, "sku \"ñ\" unknown").await.unwrap() == Rejection::DeadLettered;
        }
        if over {
            break;
        }
    }
    assert_eq!(failed_at.len(), 3);
    assert!(failed_at[1] >= failed_at[0] + Duration::from_millis(500), "{failed_at:?}");
    assert!(failed_at[2] >= failed_at[1] + Duration::from_secs(1), "{failed_at:?}");
    assert!(passed > 10, "only {passed} sales passed by");
    let letters = bus.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.event.as_ref(), letter.attempts), (Some(&first), 3));
    assert_eq!((letter.id.as_str(), letter.kind.as_str()), (first.id.to_string().as_str(), "sales.created"));
    assert_eq!(letter.cause, "sku \"ñ\" unknown");
    assert!(letter.first_failure < letter.last_failure && letter.first_failure.is_some());
    the_checker_is_told_of(&bus, &first).await;
    let told = tokio::time::timeout(LONG, news.next()).await.expect("nobody was told").unwrap().unwrap();
    assert_eq!(told.routing_key.as_str(), "sales.failed");
    assert_eq!(Event::decode("sales.created", &told.data).unwrap(), *first);
    // The news is not for the ledger, and looking takes nothing away.
    let last = good.sold(1);
    log.append(std::slice::from_ref(&last)).await.unwrap();
    while contract::take(&mut feed, 1).await[0] != last {}
    for _ in 0..10 {
        let (one, two) = tokio::join!(bus.dead_letters(), bus.dead_letters());
        assert_eq!((one.unwrap().len(), two.unwrap().len()), (1, 1), "two readers disturb each other");
    }
    // Given back it comes as if it were new, once, and only if it is asked for.
    assert_eq!(bus.replay(&["another".into()]).await.unwrap(), 0);
    let ids = [first.id.to_string(), "another".into()];
    assert_eq!((bus.replay(&ids).await.unwrap(), bus.replay(&ids).await.unwrap()), (1, 0));
    let deliveries = contract::next(&mut feed, 10).await;
    let came: Vec<_> = deliveries.iter().map(|delivery| (delivery.event.clone(), delivery.attempt)).collect();
    assert_eq!(came, [(first, 0)]);
    feed.done(&deliveries).await.unwrap();
    assert!(bus.dead_letters().await.unwrap().is_empty());
}

/// A reader that the broker takes for alive may have the dead letters for good.
#[tokio::test]
async fn a_rebuild_does_not_stand_in_line_for_the_dead_letters() {
    let server = RabbitMq::start().await;
    let retries = RetrySchedule(Vec::new());
    let bus = bus(RabbitSettings { retries, ..settings(server.url(), "line.") });
    let (mut log, mut ledger, mut shop) = (log(&bus).await, feed(&bus).await, Shop::new(1));
    log.append(&sales(&mut shop, 1)).await.unwrap();
    let held = contract::hold(&mut ledger, 1).await;
    assert!(ledger.gives_up(&held[0]));
    assert_eq!(ledger.reject(&held[0], "no").await.unwrap(), Rejection::DeadLettered);
    let connection = outsider(&bus).await;
    let channel = connection.create_channel().await.unwrap();
    let (queue, options) = (bus.shared.names.dead_letters.as_str().into(), BasicConsumeOptions::default());
    let mut reader = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await.unwrap();
    assert!(reader.next().await.unwrap().is_ok());
    assert_eq!(until_rebuilt(&bus, &mut ledger).await, (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn what_cannot_be_read_is_a_dead_letter_and_stops_nobody() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let (mut log, mut shop) = (log(&bus).await, Shop::new(1));
    let appended = sales(&mut shop, 2);
    log.append(&appended[..1]).await.unwrap();
    let partition = bus.shared.names.partition_of(shop.id());
    let connection = outsider(&bus).await;
    let channel = confirming(&connection).await.unwrap();
    let raw = |properties: lapin::BasicProperties, body: &[u8]| Outgoing {
        exchange: "blend_events".into(),
        key: ledger_key(partition),
        mandatory: true,
        body: body.to_vec(),
        properties,
    };
    let newer =
        lapin::BasicProperties::default().with_type("sales.created".into()).with_message_id("x-1".into());
    let messages = vec![raw(newer, b"{\"version\":9"), raw(lapin::BasicProperties::default(), b"hello")];
    publish(&channel, messages, LONG).await.map_err(crate::ports::PortError::from).unwrap();
    log.append(&appended[1..]).await.unwrap();
    assert_eq!(contract::take(&mut feed(&bus).await, 2).await, appended);
    let letters = bus.dead_letters().await.unwrap();
    let found: Vec<_> = letters.iter().map(|letter| (letter.id.as_str(), letter.body.as_slice())).collect();
    assert_eq!(found, [("x-1", b"{\"version\":9".as_slice()), ("", b"hello")]);
    assert!(letters[0].cause.contains("not readable") && letters[1].cause.contains("no type"), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.event.is_none()));
}

#[tokio::test]
async fn of_two_feeds_one_stands_by_and_takes_over() {
    let server = RabbitMq::start().await;
    // As two nodes see it.
    let (here, there) = (bus(settings(server.url(), "")), bus(settings(server.url(), "")));
    let mut shops: Vec<_> = (0..8).map(|_| Shop::new(1)).collect();
    let mut round = async |log: &mut Box<dyn EventLog>| {
        let batch: Vec<_> = shops.iter_mut().map(|shop| shop.sold(1)).collect();
        log.append(&batch).await.unwrap();
        batch
    };
    let mut log_here = log(&here).await;
    let mut active = feed(&here).await;
    round(&mut log_here).await;
    round(&mut log_here).await;
    let held = contract::hold(&mut active, 16).await;
    active.done(&held[..4]).await.unwrap();
    let mut standby = feed(&there).await;
    round(&mut log_here).await;
    let more = contract::hold(&mut active, 8).await;
    let (silent, more_done) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(300), standby.next(100)),
        active.done(&more),
    );
    more_done.unwrap();
    assert!(silent.is_err(), "both feeds are active");
    // The asker is in one process and the feed in another; the standby takes over with the question open.
    let ask = async || {
        tokio::time::timeout(LONG, there.history(0).unconfirmed()).await.expect("no answer").unwrap()
    };
    let history = async { tokio::join!(ask(), ask(), ask()) };
    let take_over = async {
        drop(active);
        contract::take(&mut standby, 12).await
    };
    let mut again = take_over.await;
    let keep_on = async {
        loop {
            let deliveries = standby.next(100).await.unwrap();
            again.extend(deliveries.iter().map(|delivery| delivery.event.clone()));
            standby.done(&deliveries).await.unwrap();
        }
    };
    let letters = tokio::select! {
        letters = history => letters,
        () = keep_on => unreachable!("a ledger never ends"),
    };
    assert_eq!(letters, (Vec::new(), Vec::new(), Vec::new()));
    let open: std::collections::HashSet<_> = held[4..].iter().map(|delivery| delivery.event.id).collect();
    let came: std::collections::HashSet<_> = again.iter().map(|event| event.id).collect();
    assert_eq!((came.len(), came), (again.len(), open), "not exactly what was left open came again");
}

#[tokio::test]
async fn a_rebuild_that_nobody_answers_ends_and_leaves_nothing_behind() {
    let server = RabbitMq::start().await;
    let wait = Duration::from_millis(300);
    let bus = bus(RabbitSettings { catch_up_timeout: wait, ..settings(server.url(), "") });
    for _ in 0..3 {
        let error = bus.history(0).unconfirmed().await.unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("the ledger has not caught up"),
            "{error}"
        );
    }
    let connection = outsider(&bus).await;
    let emptied = async {
        while topology::waiting(&connection, &bus.shared, 0..2).await.unwrap() != Some(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, emptied).await.expect("questions pile up");
}

/// What a ledger writes, in order, until a rebuild is answered, and with what.
async fn until_rebuilt(bus: &RabbitBus, ledger: &mut Box<dyn EventFeed>) -> (Vec<u64>, Vec<Arc<Event>>) {
    let mut written = Vec::new();
    let write = async {
        loop {
            let deliveries = ledger.next(10).await.unwrap();
            written.extend(deliveries.iter().map(|delivery| delivery.event.sequence));
            ledger.done(&deliveries).await.unwrap();
        }
    };
    let history = bus.history(0);
    let letters = tokio::select! {
        letters = tokio::time::timeout(LONG, history.unconfirmed()) => letters.expect("no answer").unwrap(),
        () = write => unreachable!("a ledger never ends"),
    };
    (written, letters)
}

async fn a_rebuild_waits_for_a_retry(bus: &RabbitBus, is_reopened: bool) {
    let mut shop = Shop::new(1);
    let appended = sales(&mut shop, 3);
    let mut ledger = feed(bus).await;
    // A feed that was asked before knows that nothing but its own is on the way.
    assert_eq!(until_rebuilt(bus, &mut ledger).await, (Vec::new(), Vec::new()));
    log(bus).await.append(&appended).await.unwrap();
    let held = contract::hold(&mut ledger, 3).await;
    ledger.reject(&held[0], "no").await.unwrap();
    ledger.postpone(&held[1..2]).await.unwrap();
    ledger.done(&held[2..]).await.unwrap();
    if is_reopened {
        drop(ledger);
        ledger = feed(bus).await;
    }
    assert_eq!(until_rebuilt(bus, &mut ledger).await, (vec![1, 2], Vec::new()), "reopened: {is_reopened}");
}

#[tokio::test]
async fn a_rebuild_is_not_answered_before_what_waits_for_its_next_try() {
    let server = RabbitMq::start().await;
    for (count, is_reopened) in [false, true].into_iter().enumerate() {
        for queue_type in [QueueType::Quorum, QueueType::Classic] {
            let retries = RetrySchedule(vec![Duration::from_secs(2)]);
            let prefix = format!("{queue_type:?}{count}.");
            let bus = bus(RabbitSettings { retries, queue_type, ..settings(server.url(), &prefix) });
            a_rebuild_waits_for_a_retry(&bus, is_reopened).await;
        }
    }
}

#[tokio::test]
async fn a_rebuild_is_not_answered_before_what_is_in_hand() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let (mut ledger, mut shop) = (feed(&bus).await, Shop::new(1));
    assert_eq!(until_rebuilt(&bus, &mut ledger).await, (Vec::new(), Vec::new()));
    log(&bus).await.append(&sales(&mut shop, 5)).await.unwrap();
    let held = contract::hold(&mut ledger, 5).await;
    let history = bus.history(0);
    let rebuild = tokio::time::timeout(LONG, history.unconfirmed());
    tokio::pin!(rebuild);
    for done in 0..5 {
        // The question is there and the ledger listens.
        tokio::select! {
            _ = &mut rebuild => panic!("answered with {done} of 5 written"),
            _ = ledger.next(10) => panic!("nothing else was recorded"),
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
        }
        ledger.done(&held[done..=done]).await.unwrap();
    }
    assert_eq!(rebuild.await.expect("no answer").unwrap(), Vec::new());
}

/// The dead letter of an event, as the checker of the laws gets to know and show it.
async fn the_checker_is_told_of(bus: &RabbitBus, event: &Event) {
    let mut facts = BrokerFacts::new(bus.clone());
    facts.pin_before().await.unwrap();
    assert!(facts.pin_after().await.unwrap());
    let mut told = Vec::new();
    let mut sink = |fact: Fact<'_>| match fact {
        Fact::DeadLetter(parked) => {
            told.push((
                parked.group.to_owned(),
                parked.attempts,
                parked.cause.to_owned(),
                parked.event.clone(),
            ));
        }
        other => panic!("{other:?}"),
    };
    facts.facts(Part::Standing, &mut sink).await.unwrap();
    facts.facts(Part::History, &mut sink).await.unwrap();
    // Once for each moment; the checker knows that they are one.
    let one = (LEDGER_GROUP.to_owned(), 3, "sku \"ñ\" unknown".to_owned(), event.clone());
    assert_eq!(told, [one.clone(), one]);
    let evidence = facts.evidence(&Detail::of(event.tenant).sequence(event.sequence)).await.unwrap();
    assert_eq!(evidence.len(), 1);
    for part in ["failed 3 times, from 20", "sku \"ñ\" unknown", &event.id.to_string(), "\"total\""] {
        assert!(evidence[0].contains(part), "{part} is not in {evidence:?}");
    }
    assert!(facts.evidence(&Detail::of(event.tenant).sequence(99)).await.unwrap().is_empty());
}

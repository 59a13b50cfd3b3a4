//! The broker dies or freezes.

use super::*;
use crate::domain::ids::{EventId, NodeId};
use crate::domain::nodes::Roll;
use crate::domain::tenant::shard_of;
use crate::ports::bus::AppendError;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

/// The queue that is declared after all others.
const LAST_DECLARED: &str = "queue.sales.created.1";

/// What became of the events, from outside.
#[derive(Default)]
struct Fates {
    recorded: RefCell<HashSet<EventId>>,
    in_doubt: RefCell<HashSet<EventId>>,
    delivered: RefCell<HashMap<EventId, u32>>,
    losses: Cell<u32>,
}

impl Fates {
    fn all_recorded_were_delivered(&self) -> bool {
        let delivered = self.delivered.borrow();
        self.recorded.borrow().iter().all(|id| delivered.contains_key(id))
    }
}

/// As the journal writer does it: what is in doubt ends the log.
async fn keep_publishing(bus: &RabbitBus, fates: &Fates, over: &Cell<bool>) {
    let (mut log, mut shop) = (log(bus).await, Shop::new(1));
    while !over.get() {
        let batch = sales(&mut shop, 20);
        let ids = batch.iter().map(|event| event.id);
        match log.append(&batch).await {
            Ok(()) => fates.recorded.borrow_mut().extend(ids),
            Err(AppendError::InDoubt(_)) => {
                fates.in_doubt.borrow_mut().extend(ids);
                drop(log);
                log = super::log(bus).await;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// As the ledger writer does it: any error ends the feed.
async fn keep_consuming(bus: &RabbitBus, fates: &Fates) {
    loop {
        let Ok(mut feed) = (bus.feed(0))().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while let Ok(deliveries) = feed.next(50).await {
            for delivery in &deliveries {
                assert_eq!(delivery.attempt, 0);
                *fates.delivered.borrow_mut().entry(delivery.event.id).or_default() += 1;
            }
            if feed.done(&deliveries).await.is_err() {
                break;
            }
        }
        fates.losses.set(fates.losses.get() + 1);
    }
}

async fn nothing_recorded_is_lost_when_the_broker_is_killed(queue_type: QueueType, kills: u32) {
    let mut server = RabbitMq::start().await;
    let bus = bus(RabbitSettings { queue_type, ..settings(server.url(), "") });
    let (fates, over) = (Fates::default(), Cell::new(false));
    let kill = async {
        while !fates.all_recorded_were_delivered() || fates.recorded.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if queue_type == QueueType::Quorum {
            server.await_written(LAST_DECLARED).await;
        }
        for _ in 0..kills {
            let enough = fates.delivered.borrow().len() + 300;
            while fates.delivered.borrow().len() < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            server.kill();
            server.restart().await;
        }
        let enough = fates.recorded.borrow().len() + 100;
        while fates.recorded.borrow().len() < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        over.set(true);
    };
    let run = async {
        tokio::join!(kill, keep_publishing(&bus, &fates, &over));
        while !fates.all_recorded_were_delivered() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = tokio::time::timeout(3 * LONG, run) => done.expect("an event that was recorded is lost"),
        () = keep_consuming(&bus, &fates) => unreachable!("a ledger never ends"),
    }
    assert!(fates.losses.get() >= kills, "the feed did not notice every loss of its connection");
    let (recorded, in_doubt) = (fates.recorded.borrow(), fates.in_doubt.borrow());
    let delivered = fates.delivered.borrow();
    let strange = delivered.keys().find(|id| !recorded.contains(id) && !in_doubt.contains(id));
    assert_eq!(strange, None, "an event that was refused was recorded");
    // Once, and once more for every time that an acknowledgement was lost.
    assert!(delivered.values().all(|times| *times <= 1 + kills), "{:?}", delivered.values().max());
}

#[tokio::test]
async fn d23_nothing_recorded_is_lost_when_the_broker_is_killed_again_and_again() {
    nothing_recorded_is_lost_when_the_broker_is_killed(QueueType::Quorum, 2).await;
}

#[tokio::test]
async fn nothing_recorded_is_lost_from_classic_queues_either() {
    nothing_recorded_is_lost_when_the_broker_is_killed(QueueType::Classic, 1).await;
}

#[tokio::test]
async fn retries_and_dead_letters_survive_the_broker() {
    let mut server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let mut shop = Shop::new(1);
    let appended = sales(&mut shop, 3);
    log(&bus).await.append(&appended).await.unwrap();
    let mut first = feed(&bus).await;
    let mut held = contract::hold(&mut first, 3).await;
    for _ in 0..2 {
        first.reject(&held[0], "no").await.unwrap();
        held[0] = contract::hold(&mut first, 1).await.remove(0);
    }
    first.reject(&held[0], "no").await.unwrap();
    first.reject(&held[1], "neither").await.unwrap();
    first.postpone(&held[2..]).await.unwrap();
    server.await_written(LAST_DECLARED).await;
    server.kill();
    server.restart().await;
    drop(first);
    let again = contract::hold(&mut feed(&bus).await, 2).await;
    let came: Vec<_> = again.iter().map(|delivery| (delivery.event.sequence, delivery.attempt)).collect();
    assert_eq!(came, [(2, 1), (3, 0)]);
    let letters = bus.dead_letters().await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn d27_what_is_in_doubt_is_decided_when_the_next_log_is_open() {
    let server = RabbitMq::start().await;
    let confirm_timeout = Duration::from_millis(500);
    let bus = bus(RabbitSettings { confirm_timeout, ..settings(server.url(), "") });
    let (mut first, mut shop) = (log(&bus).await, Shop::new(1));
    let appended = sales(&mut shop, 3);
    first.append(&appended[..1]).await.unwrap();
    server.freeze();
    let error = first.append(&appended[1..2]).await.unwrap_err();
    assert!(matches!(error, AppendError::InDoubt(_)), "{error}");
    server.thaw();
    let mut second = log(&bus).await;
    drop(first);
    second.append(&appended[2..]).await.unwrap();
    // As long as a log's connection may have something on its way, no other opens.
    let opened = tokio::time::timeout(Duration::from_millis(500), (bus.log(0))()).await;
    assert!(opened.is_err(), "another one is open already");
    // So what is in doubt comes before what the next log recorded, or never.
    let mut feed = feed(&bus).await;
    let mut came = Vec::new();
    while came.last() != Some(&3) {
        came.extend(contract::take(&mut feed, 1).await.iter().map(|event| event.sequence));
    }
    assert!(came == [1, 2, 3] || came == [1, 3], "{came:?}");
    assert_eq!(bus.backlog(), 0);
}

#[tokio::test]
async fn a_log_whose_broker_is_gone_is_lost_and_the_next_one_goes_on_when_it_is_back() {
    let mut server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let (mut log, mut shop) = (log(&bus).await, Shop::new(1));
    let appended = sales(&mut shop, 2);
    log.append(&appended[..1]).await.unwrap();
    server.await_written(LAST_DECLARED).await;
    server.kill();
    let noticed = async {
        while log.maintain().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, noticed).await.expect("the upkeep does not notice");
    let error = log.append(&appended[1..]).await.unwrap_err();
    assert!(matches!(error, AppendError::NotDurable(_)), "nothing was sent, so nothing is in doubt: {error}");
    server.restart().await;
    assert!(log.is_lost() && log.append(&appended[1..]).await.is_err(), "others may have written meanwhile");
    let again = async {
        loop {
            match (bus.log(0))().await {
                Ok(mut next) => break next.append(&appended[1..]).await.unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(LONG, again).await.expect("the log does not go on");
    assert_eq!(contract::take(&mut feed(&bus).await, 2).await, appended);
}

#[tokio::test]
async fn of_two_nodes_one_writes_and_only_that_one_is_fed() {
    let server = RabbitMq::start().await;
    let (here, there) = (bus(settings(server.url(), "")), bus(settings(server.url(), "")));
    let mut shop = Shop::new(1);
    let appended = sales(&mut shop, 2);
    let mut log = log(&here).await;
    let waiting = there.clone();
    let claiming = tokio::spawn(async move { (waiting.log(0))().await });
    let mut feed = (here.feed_while_writing(0))().await.unwrap();
    log.append(&appended[..1]).await.unwrap();
    let held = feed.next(10).await.unwrap();
    assert_eq!(held.len(), 1);
    // The other one waits until it writes itself.
    let open = there.feed_while_writing(0);
    let opening = tokio::spawn(async move { open().await });
    assert!(!claiming.is_finished() && !opening.is_finished());
    drop(log);
    let mut next = claiming.await.unwrap().unwrap();
    assert!(feed.next(10).await.is_err(), "it is not its turn any more");
    drop(feed);
    next.append(&appended[1..]).await.unwrap();
    let mut other = opening.await.unwrap().unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(other.next(10).await.unwrap().iter().map(|delivery| delivery.event.sequence));
    }
    assert_eq!(came, [1, 2], "what was not done comes again, in order");
}

/// Each shard has a claim, partitions and a barrier of its own: what one node does not do for its shard holds nobody up
/// elsewhere.
#[tokio::test]
async fn two_nodes_write_side_by_side_each_for_its_shard() {
    let server = RabbitMq::start().await;
    let two = || RabbitSettings { shards: 2, partitions: 4, ..settings(server.url(), "") };
    let nodes = [bus(two()), bus(two())];
    // A shop of each shard.
    let mut shops = [0, 1].map(|shard| {
        loop {
            let shop = Shop::new(1);
            if shard_of(shop.tenant.id, 2) == shard {
                break shop;
            }
        }
    });
    let mut logs = Vec::new();
    for (shard, node) in nodes.iter().enumerate() {
        logs.push((node.log(shard))().await.unwrap());
    }
    let sold = shops.each_mut().map(|shop| sales(shop, 3));
    for (log, sold) in logs.iter_mut().zip(&sold) {
        log.append(sold).await.unwrap();
    }
    // Nobody reads for the other shard, and this one's barrier is passed all the same.
    let mut first = (nodes[0].feed_while_writing(0))().await.unwrap();
    let history = nodes[0].history(0);
    let caught_up = tokio::spawn(async move { history.unconfirmed().await });
    let mut came = Vec::new();
    while !caught_up.is_finished() {
        tokio::select! {
            fed = first.next(10) => {
                let fed = fed.unwrap();
                first.done(&fed).await.unwrap();
                came.extend(fed.into_iter().map(|delivery| delivery.event));
            }
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
    assert!(caught_up.await.unwrap().unwrap().is_empty());
    assert_eq!(came, sold[0]);
    let mut second = (nodes[1].feed_while_writing(1))().await.unwrap();
    assert_eq!(contract::take(&mut second, 3).await, sold[1]);
}

#[tokio::test]
async fn nodes_that_count_shards_differently_are_refused() {
    let server = RabbitMq::start().await;
    let with = |shards| bus(RabbitSettings { shards, partitions: 4, ..settings(server.url(), "") });
    let (two, four) = (with(2), with(4));
    let first = (two.assembly())().await.unwrap();
    let again = (two.assembly())().await.unwrap();
    let error = (four.assembly())().await.map(drop).unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().starts_with("engine.shards is 4 here and 2 at nodes"), "{error}");
    let alone = bus(RabbitSettings { alone: true, shards: 2, ..settings(server.url(), "") });
    let error = (alone.assembly())().await.map(drop).unwrap_err();
    assert!(error.to_string().contains("ledger.url"), "{error}");
    // Everybody hears everybody.
    let node = NodeId(uuid::Uuid::from_u128(1));
    let said = Roll::new(node, "here:80".into(), 2).announcement().clone();
    first.say(&said).await.unwrap();
    assert_eq!((first.hear().await.unwrap(), again.hear().await.unwrap()), (said.clone(), said));
}

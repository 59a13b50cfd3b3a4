//! Groups beside the ledger's: who listens hears, who does not costs nothing, and what is kept is not lost.

use super::*;
use crate::ports::bus::Delivery;
use lapin::options::{BasicPublishOptions, QueueDeleteOptions};

const SYNC: &str = "queue.sync.test";

/// The group of the first shard.
fn group(bus: &RabbitBus, name: &'static str) -> Arc<dyn Subscription> {
    bus.groups(name).remove(0)
}

async fn opened(group: &Arc<dyn Subscription>) -> Box<dyn EventFeed> {
    group.open().await.unwrap()
}

/// How many queues have this in their names.
fn queues(server: &RabbitMq, part: &str) -> usize {
    server.queues().iter().filter(|name| name.contains(part)).count()
}

async fn until_queues(server: &RabbitMq, part: &str, count: usize) {
    let there = async {
        while queues(server, part) != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, there).await.expect("other queues are there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_listens_hears_of_what_happens_then_and_leaves_nothing_behind() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let (mut log, mut shops) = (log(&bus).await, [Shop::new(1), Shop::new(1), Shop::new(1)]);
    log.append(&sales(&mut shops[0], 3)).await.unwrap();
    let sync = group(&bus, SYNC);
    assert!(!sync.is_kept() && sync.shard() == Some(0));
    sync.begin().await.unwrap();
    assert_eq!(queues(&server, SYNC), 0);
    let (mut one, mut other) = (opened(&sync).await, opened(&sync).await);
    let sold: Vec<_> = shops.iter_mut().flat_map(|shop| sales(shop, 20)).collect();
    log.append(&sold).await.unwrap();
    // Both hear all of it, each tenant's in order.
    for feed in [&mut one, &mut other] {
        let heard = contract::take(feed, 60).await;
        for shop in &shops {
            let of = |events: &[Arc<Event>]| -> Vec<u64> {
                events.iter().filter(|event| event.tenant == shop.id()).map(|event| event.sequence).collect()
            };
            assert_eq!(of(&heard), of(&sold));
        }
        assert!(!feed.has_more());
    }
    let delivery = Delivery { position: 1, attempt: 0, event: sold[0].clone() };
    assert!(!one.reject(&delivery, "no").await.unwrap_err().is_transient());
    assert!(!one.postpone(&[delivery]).await.unwrap_err().is_transient());
    until_queues(&server, SYNC, 2).await;
    // One who listens and takes nothing does not fill the broker.
    let bounded = server.ctl(&["--quiet", "list_queues", "name", "arguments"]);
    assert_eq!(
        bounded.lines().filter(|line| line.contains(SYNC) && line.contains("x-max-length")).count(),
        2
    );
    drop(one);
    until_queues(&server, SYNC, 1).await;
    drop(other);
    until_queues(&server, SYNC, 0).await;
    // The ledger's copies are its own.
    let mut ledger = feed(&bus).await;
    assert_eq!(contract::take(&mut ledger, 63).await.len(), 63);
}

#[tokio::test]
async fn what_is_kept_waits_for_whoever_listens_next_until_nobody_wants_it() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let (mut log, mut shop) = (log(&bus).await, Shop::new(1));
    log.append(&sales(&mut shop, 2)).await.unwrap();
    let webhooks = group(&bus, WEBHOOK_GROUP);
    assert!(webhooks.is_kept());
    webhooks.begin().await.unwrap();
    webhooks.begin().await.unwrap();
    let sold = sales(&mut shop, 30);
    log.append(&sold).await.unwrap();
    let mut first = opened(&webhooks).await;
    let held = contract::hold(&mut first, 30).await;
    assert_eq!(
        held.iter().map(|held| held.event.id).collect::<Vec<_>>(),
        sold.iter().map(|s| s.id).collect::<Vec<_>>()
    );
    first.done(&held[..10]).await.unwrap();
    // Whoever comes next gets what was not confirmed, and nobody else listens meanwhile.
    drop(first);
    let mut second = opened(&webhooks).await;
    let rest = contract::take(&mut second, 20).await;
    assert_eq!(rest[0].id, sold[10].id);
    // It is not ended under somebody's ears.
    assert!(webhooks.end(&[0]).await.is_err());
    let more = sales(&mut shop, 1);
    log.append(&more).await.unwrap();
    assert_eq!(contract::take(&mut second, 1).await[0].id, more[0].id);
    drop(second);
    let ended = async { while webhooks.end(&[0]).await.is_err() {} };
    tokio::time::timeout(LONG, ended).await.expect("the group does not end");
    assert_eq!(queues(&server, WEBHOOK_GROUP), 0);
    webhooks.end(&[0]).await.unwrap();
    // What happens goes on without it.
    log.append(&sales(&mut shop, 1)).await.unwrap();
}

#[tokio::test]
async fn a_group_whose_queue_is_taken_away_says_so_and_what_is_no_event_is_passed_over() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let (mut log, mut shop) = (log(&bus).await, Shop::new(1));
    let webhooks = group(&bus, WEBHOOK_GROUP);
    let mut feed = opened(&webhooks).await;
    let channel = outsider(&bus).await.create_channel().await.unwrap();
    let queue = bus.shared.names.kept(WEBHOOK_GROUP, bus.shared.names.partition_of(shop.id()));
    let (options, rubbish) = (BasicPublishOptions::default(), b"rubbish");
    let properties = lapin::BasicProperties::default();
    channel.basic_publish("".into(), queue.as_str().into(), options, rubbish, properties).await.unwrap();
    let sold = sales(&mut shop, 1);
    log.append(&sold).await.unwrap();
    assert_eq!(contract::take(&mut feed, 1).await[0].id, sold[0].id);
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let error = tokio::time::timeout(LONG, feed.next(9)).await.expect("it waits for ever").unwrap_err();
    assert!(error.is_transient(), "{error}");
    // Opened again, it is there again.
    drop(feed);
    let mut feed = opened(&webhooks).await;
    let sold = sales(&mut shop, 1);
    log.append(&sold).await.unwrap();
    assert_eq!(contract::take(&mut feed, 1).await[0].id, sold[0].id);
    // Events that nobody would read any more are not left behind unseen.
    drop(feed);
    let fewer = RabbitSettings { partitions: 1, ..settings(server.url(), "") };
    let mut ledger = super::feed(&bus).await;
    contract::take(&mut ledger, 2).await;
    drop(ledger);
    let mut shops: Vec<_> = (0..16).map(|_| Shop::new(1)).collect();
    let sold: Vec<_> = shops.iter_mut().map(|shop| shop.sold(1)).collect();
    log.append(&sold).await.unwrap();
    let mut ledger = super::feed(&bus).await;
    contract::take(&mut ledger, 16).await;
    // The broker may not have noticed yet that the listener is gone.
    let fewer = super::bus(fewer);
    let refused = async {
        loop {
            if let Err(error) = fewer.check().await {
                return error.to_string();
            }
        }
    };
    let error = tokio::time::timeout(LONG, refused).await.expect("events are left behind");
    assert!(error.contains("queue queue.webhooks.1 holds"), "{error}");
}

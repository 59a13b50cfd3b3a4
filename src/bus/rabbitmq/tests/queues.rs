//! Exchanges and queues: what they are, and what happens when they are not.

use super::*;
use crate::ports::bus::AppendError;
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

#[tokio::test]
async fn queues_that_are_not_as_the_settings_say_are_named() {
    let server = RabbitMq::start().await;
    let settings = |prefix: &str, queue_type| RabbitSettings { queue_type, ..settings(server.url(), prefix) };
    // As often as one likes.
    let classic = bus(settings("classic.", QueueType::Classic));
    classic.check().await.unwrap();
    classic.check().await.unwrap();
    // Found as they are.
    bus(settings("classic.", QueueType::Auto)).check().await.unwrap();
    bus(settings("auto.", QueueType::Auto)).check().await.unwrap();
    bus(settings("auto.", QueueType::Quorum)).check().await.unwrap();
    // Asked for otherwise.
    let error = bus(settings("classic.", QueueType::Quorum)).check().await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    for text in ["classic.queue.sales.created.dlq", "bus.queue_type", "x-queue-type"] {
        assert!(error.to_string().contains(text), "{error}");
    }
    // Made by somebody else.
    let other = bus(settings("other.", QueueType::Quorum));
    let channel = outsider(&other).await.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(86_400_000));
    let (name, durable) = ("other.queue.sales.created.1".into(), QueueDeclareOptions::durable());
    channel.queue_declare(name, durable, arguments).await.unwrap();
    for open in [other.check().await, (other.log(0))().await.map(drop), (other.feed(0))().await.map(drop)] {
        let error = open.unwrap_err().to_string();
        assert!(error.contains("queue other.queue.sales.created.1 exists with other arguments"), "{error}");
    }
    // Fewer partitions than there are events in.
    let four = bus(RabbitSettings { partitions: 4, ..settings("many.", QueueType::Quorum) });
    let mut shops: Vec<_> = (0..32).map(|_| Shop::new(1)).collect();
    let appended: Vec<_> = shops.iter_mut().map(|shop| shop.sold(1)).collect();
    log(&four).await.append(&appended).await.unwrap();
    let error = bus(settings("many.", QueueType::Quorum)).check().await.unwrap_err();
    assert!(error.to_string().contains("many.queue.sales.created.2 holds"), "{error}");
    assert!(!error.is_transient());
    let mut feed = feed(&four).await;
    assert_eq!(contract::take(&mut feed, 32).await.len(), 32);
}

#[tokio::test]
async fn d18_every_group_has_a_queue_of_its_own_and_gets_every_sale() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    bus.check().await.unwrap();
    let channel = outsider(&bus).await.create_channel().await.unwrap();
    for (queue, key) in [("outside.sales", "sales.created"), ("outside.all", "#")] {
        channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), FieldTable::default())
            .await
            .unwrap();
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue.into(), "blend_events".into(), key.into(), options, none).await.unwrap();
    }
    let mut shop = Shop::new(1);
    let mut appended = shop.opened(100);
    appended.extend(sales(&mut shop, 20));
    log(&bus).await.append(&appended).await.unwrap();
    let mut feed = feed(&bus).await;
    let held = contract::hold(&mut feed, 23).await;
    // A retry is the ledger's own business.
    feed.reject(&held[0], "no").await.unwrap();
    feed.done(&held[1..]).await.unwrap();
    contract::take(&mut feed, 1).await;
    for (queue, expected) in [("outside.sales", &appended[3..]), ("outside.all", &appended[..])] {
        for event in expected {
            let message = channel
                .basic_get(queue.into(), Default::default())
                .await
                .unwrap()
                .expect("an event is missing");
            assert_eq!(message.routing_key.as_str(), event.body.kind().as_str());
            assert_eq!(message.properties.message_id().as_ref().unwrap().as_str(), event.id.to_string());
            assert!(!message.properties.headers().as_ref().unwrap().contains_key("BCC"));
            assert_eq!(Event::decode(message.routing_key.as_str(), &message.data).unwrap(), **event);
        }
        assert!(
            channel.basic_get(queue.into(), Default::default()).await.unwrap().is_none(),
            "one too many in {queue}"
        );
    }
}

#[tokio::test]
async fn d28_an_event_that_reaches_no_queue_is_not_recorded() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let mut shop = Shop::new(1);
    let (mut first, appended) = (log(&bus).await, sales(&mut shop, 3));
    first.append(&appended[..1]).await.unwrap();
    let own = bus.shared.names.partition(bus.shared.names.partition_of(shop.id()));
    let channel = outsider(&bus).await.create_channel().await.unwrap();
    let delete = async || {
        channel.queue_delete(own.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    };
    delete().await;
    let error = first.append(&appended[1..2]).await.unwrap_err();
    assert!(
        matches!(&error, AppendError::InDoubt(why) if why.contains(&appended[1].id.to_string())),
        "{error}"
    );
    drop(first);
    // The next log puts the queue back.
    let mut second = log(&bus).await;
    second.append(&appended[1..2]).await.unwrap();
    // With another queue bound the broker would return nothing; the upkeep finds out.
    delete().await;
    let restored = async {
        while second.maintain().await.is_err()
            || topology::waiting(&outsider(&bus).await, &bus.shared, 0..2).await.unwrap().is_none()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, restored).await.expect("the queue does not come back");
    second.append(&appended[2..]).await.unwrap();
    assert_eq!(contract::take(&mut feed(&bus).await, 1).await, appended[2..]);
}

#[tokio::test]
async fn the_backlog_is_what_waits_and_what_is_in_hand() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    let (mut log, mut shop) = (log(&bus).await, Shop::new(1));
    log.append(&sales(&mut shop, 40)).await.unwrap();
    assert_eq!(bus.backlog(), 40);
    let mut first = feed(&bus).await;
    assert_eq!(contract::hold(&mut first, 40).await.len(), 40);
    assert_eq!(bus.backlog(), 40);
    // Nothing of it was settled, so it waits again.
    drop(first);
    assert_eq!(bus.backlog(), 40);
    let mut second = feed(&bus).await;
    let held = contract::hold(&mut second, 40).await;
    second.done(&held[..30]).await.unwrap();
    assert_eq!(bus.backlog(), 10);
    // A retry is no news.
    second.reject(&held[30], "no").await.unwrap();
    second.done(&held[31..]).await.unwrap();
    log.append(&sales(&mut shop, 1)).await.unwrap();
    contract::take(&mut second, 2).await;
    assert_eq!(bus.backlog(), 0);
    // Whoever writes next knows at once what waits.
    drop(second);
    log.append(&sales(&mut shop, 5)).await.unwrap();
    drop(log);
    assert_eq!(bus.backlog(), 0, "it is another's business");
    let _log = super::log(&bus).await;
    assert_eq!(bus.backlog(), 5);
}

/// Whoever waited so would keep its place in the line for the dead letters, for one.
#[tokio::test]
async fn nobody_waits_without_end_for_a_broker_that_does_not_answer() {
    let server = RabbitMq::start().await;
    let bus = bus(settings(server.url(), ""));
    bus.check().await.unwrap();
    let (connection, log) = (outsider(&bus).await, log(&bus).await);
    server.freeze();
    let limit = bus.shared.settings.confirm_timeout;
    let refused = tokio::join!(
        dead_letters::read(&connection, &bus.shared),
        topology::declare(&connection, &bus.shared),
        connection::in_time(limit, "a test", topology::check_partitions(&connection, &bus.shared)),
    );
    server.thaw();
    drop(log);
    let errors = [refused.0.map(drop), refused.1, refused.2].map(|refused| refused.unwrap_err().to_string());
    for (error, what) in errors.iter().zip(["the dead letters", "the declaration", "a test"]) {
        assert!(error.starts_with(&format!("RabbitMQ does not answer for {what}")), "{error}");
    }
    assert!(bus.dead_letters().await.unwrap().is_empty());
}

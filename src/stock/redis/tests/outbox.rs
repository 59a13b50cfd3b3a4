//! The outbox against real servers.

use super::*;
use crate::domain::event::Event;
use crate::fixtures::Shop;
use crate::ports::outbox::OutboxError;

const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

fn sold(count: usize) -> Vec<Arc<Event>> {
    let mut shop = Shop::new(1);
    (0..count).map(|_| shop.sold(1)).collect()
}

async fn keeps_its_order_and_has_one_owner(url: &str) {
    let (here, there) = (home(url.to_owned()).await, home(url.to_owned()).await);
    let events = sold(2_000);
    let mut first = here.new_outbox(0);
    assert!(matches!(first.put(&events[..1]).await, Err(OutboxError::Lost)), "before it is taken over");
    assert!(first.take_over().await.unwrap().is_empty());
    first.put(&events[..1_200]).await.unwrap();
    first.put(&events[1_200..]).await.unwrap();
    assert!(here.new_outbox(1).take_over().await.unwrap().is_empty(), "of another shard");
    let mut second = there.new_outbox(0);
    assert_eq!(second.take_over().await.unwrap(), events);
    for refused in [
        first.put(&events[..1]).await.unwrap_err(),
        first.published(1).await.unwrap_err(),
        first.take_over().await.unwrap_err(),
    ] {
        assert!(matches!(refused, OutboxError::TakenOver), "{refused}");
    }
    second.published(1_999).await.unwrap();
    second.put(&events[..1]).await.unwrap();
    // Its own again, for it has it still.
    assert_eq!(second.take_over().await.unwrap(), [events[1_999].clone(), events[0].clone()]);
    second.published(2).await.unwrap();
    assert!(here.new_outbox(0).take_over().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_outbox_keeps_its_order_and_has_one_owner() {
    keeps_its_order_and_has_one_owner(&RedisServer::start(&[]).await.url()).await;
    keeps_its_order_and_has_one_owner(&RedisCluster::start().await.url()).await;
}

#[tokio::test]
async fn what_an_outbox_lost_is_noticed_by_the_next_event() {
    let server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let events = sold(3);
    let mut outbox = home.new_outbox(0);
    outbox.take_over().await.unwrap();
    for words in [
        &["FLUSHALL"][..],
        &["RPOP", "stock:{shard-0}:outbox:events"],
        &["DEL", "stock:{shard-0}:outbox:owner"],
    ] {
        outbox.put(&events[..2]).await.unwrap();
        let _: redis::Value = server.run(words).await;
        assert!(matches!(outbox.put(&events[2..]).await, Err(OutboxError::Lost)), "{words:?}");
        let left = outbox.take_over().await.unwrap();
        outbox.published(left.len()).await.unwrap();
    }
}

#[tokio::test]
async fn an_outbox_outlives_its_server_where_every_write_is_kept() {
    let mut server = RedisServer::start(DURABLE).await;
    let home = home(server.url()).await;
    assert!(home.keeps_every_write().await.unwrap());
    let events = sold(3);
    let mut outbox = home.new_outbox(0);
    outbox.take_over().await.unwrap();
    outbox.put(&events[..2]).await.unwrap();
    server.kill_and_restart().await;
    // The first command on a connection that is gone may fail, and says so.
    while let Err(error) = outbox.put(&events[2..]).await {
        assert!(matches!(&error, OutboxError::Port(error) if error.is_transient()), "{error}");
    }
    let mut next = home.new_outbox(0);
    assert_eq!(next.take_over().await.unwrap(), events);
    for less in [&["--appendonly", "yes", "--appendfsync", "everysec"][..], &["--appendfsync", "always"]] {
        let server = RedisServer::start(less).await;
        assert!(!super::home(server.url()).await.keeps_every_write().await.unwrap(), "{less:?}");
    }
}

//! Dead letters: seen, given back, written after all.

use super::*;
use crate::ports::bus::Rejection;
use crate::ports::dead_letters::DeadLetters as _;

/// Gives up the next event, whatever it takes.
async fn give_up(home: &Home, feed: &mut Box<dyn EventFeed>, cause: &str) -> u64 {
    let mut second = 0;
    loop {
        let delivery = next(feed, 1).await.remove(0);
        let position = delivery.position;
        if feed.reject(&delivery, cause).await.unwrap() == Rejection::DeadLettered {
            return position;
        }
        second += 10;
        home.second(second);
    }
}

#[tokio::test]
async fn a_letter_given_back_is_delivered_to_a_reader_that_waits_and_may_be_given_up_again() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed) = (log(&journal).await, feed(&journal).await);
    let mut shop = Shop::new(1);
    log.append(&sales(&mut shop, 2)).await.unwrap();
    assert_eq!(give_up(&home, &mut feed, "unit 7 unknown").await, 1);
    let rest = next(&mut feed, 9).await;
    feed.done(&rest).await.unwrap();
    let letters = journal.list(9).await.unwrap();
    assert_eq!((letters.len(), letters[0].cause.as_str(), letters[0].attempts), (1, "unit 7 unknown", 3));
    let id = letters[0].id.clone();
    assert_eq!(id, format!("{LEDGER_GROUP}/1"));
    // A reader is waiting for something new while it is given back.
    let waiting = async { next(&mut feed, 9).await };
    let giving = async {
        tokio::task::yield_now().await;
        journal
            .replay(&["nonsense".into(), format!("{LEDGER_GROUP}/99"), id.clone(), id.clone()])
            .await
            .unwrap()
    };
    let (delivered, given) = tokio::join!(waiting, giving);
    assert_eq!((positions(&delivered), delivered[0].attempt, given), (vec![1], 0, 1));
    assert!(journal.list(9).await.unwrap().is_empty());
    assert_eq!(journal.unconfirmed().await.unwrap().len(), 1, "it counts until it is done");
    feed.reject(&delivered[0], "still unknown").await.unwrap();
    home.second(60);
    let again = next(&mut feed, 9).await;
    assert_eq!((positions(&again), again[0].attempt), (vec![1], 1));
    feed.done(&again).await.unwrap();
    assert!(journal.unconfirmed().await.unwrap().is_empty());
    assert_eq!(journal.replay(&[id]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_letter_given_back_with_nobody_reading_comes_when_somebody_does() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed_one) = (log(&journal).await, feed(&journal).await);
    let mut shop = Shop::new(1);
    log.append(&sales(&mut shop, 1)).await.unwrap();
    give_up(&home, &mut feed_one, "no").await;
    drop(feed_one);
    let id = journal.list(9).await.unwrap().remove(0).id;
    journal.replay(&[id]).await.unwrap();
    let mut later = feed(&journal).await;
    assert_eq!(positions(&next(&mut later, 9).await), [1]);
}

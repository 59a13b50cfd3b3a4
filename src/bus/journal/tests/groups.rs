//! Where a consumer group stands, and what is kept for it.

use super::*;

#[tokio::test]
async fn what_was_not_confirmed_comes_again_and_what_was_does_not() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, 10);
    {
        let journal = home.open().await;
        let mut log = log(&journal).await;
        log.append(&events).await.unwrap();
        let mut feed = feed(&journal).await;
        let handed_out = next(&mut feed, 6).await;
        feed.done(&handed_out[..4]).await.unwrap();
        log.maintain().await.unwrap();
    }
    let journal = home.open().await;
    assert_eq!(journal.backlog(), 6);
    assert_eq!(take(&mut feed(&journal).await, 6).await, events[4..]);
}

#[tokio::test]
async fn a_new_group_begins_at_the_end_and_stays_there_whoever_dies() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, 5);
    {
        let journal = home.open().await;
        let mut log = log(&journal).await;
        log.append(&events[..2]).await.unwrap();
        // Joined, and nothing written down by the upkeep before everything ends.
        drop((journal.feed("queue.webhooks"))().await.unwrap());
        log.append(&events[2..]).await.unwrap();
    }
    let journal = home.open().await;
    let mut feed = (journal.feed("queue.webhooks"))().await.unwrap();
    assert_eq!(take(&mut feed, 3).await, events[2..]);
}

#[tokio::test]
async fn a_gap_among_the_confirmed_holds_the_position_back() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed, mut shop) = (log(&journal).await, feed(&journal).await, Shop::new(1));
    log.append(&sales(&mut shop, 5)).await.unwrap();
    let handed_out = next(&mut feed, 5).await;
    feed.done(&handed_out[2..]).await.unwrap();
    assert_eq!(journal.backlog(), 5);
    feed.done(&handed_out[..1]).await.unwrap();
    assert_eq!(journal.backlog(), 4);
    feed.done(&handed_out[1..2]).await.unwrap();
    assert_eq!(journal.backlog(), 0);
}

#[tokio::test]
async fn a_feed_that_is_opened_again_starts_behind_what_is_confirmed() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut shop) = (log(&journal).await, Shop::new(1));
    let events = sales(&mut shop, 5);
    log.append(&events).await.unwrap();
    let mut first = feed(&journal).await;
    let handed_out = next(&mut first, 5).await;
    first.done(&handed_out[..2]).await.unwrap();
    drop(first);
    assert_eq!(take(&mut feed(&journal).await, 3).await, events[2..]);
}

#[tokio::test]
async fn history_has_every_event_that_the_ledger_group_has_not_confirmed() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed, mut shop) = (log(&journal).await, feed(&journal).await, Shop::new(1));
    let events = sales(&mut shop, 6);
    log.append(&events).await.unwrap();
    assert_eq!(journal.unconfirmed().await.unwrap(), events);
    let handed_out = next(&mut feed, 4).await;
    feed.reject(&handed_out[1], "no").await.unwrap();
    feed.done(&[handed_out[0].clone(), handed_out[2].clone(), handed_out[3].clone()]).await.unwrap();
    let waiting = [events[1].clone(), events[4].clone(), events[5].clone()];
    assert_eq!(journal.unconfirmed().await.unwrap(), waiting);
    // A dead letter was never written either, though it will not come again.
    for (second, attempt) in [(5, 1), (60, 2)] {
        home.second(second);
        let again = next(&mut feed, 1).await;
        assert_eq!((again[0].position, again[0].attempt), (2, attempt));
        feed.reject(&again[0], "still no").await.unwrap();
    }
    assert_eq!(journal.unconfirmed().await.unwrap(), waiting);
}

#[tokio::test]
async fn trimming_keeps_the_newest_confirmed_and_everything_unconfirmed() {
    let home = Home::new();
    let (journal, _) = home.open_with(JournalSettings { retain_events: 3, ..settings() }).await;
    let (mut log, mut feed, mut shop) = (log(&journal).await, feed(&journal).await, Shop::new(1));
    for commit in sales(&mut shop, 20).chunks(2) {
        log.append(commit).await.unwrap();
        log.maintain().await.unwrap();
    }
    assert_eq!(filed(&home).await, (1, 20));
    let handed_out = next(&mut feed, 10).await;
    feed.done(&handed_out).await.unwrap();
    log.maintain().await.unwrap();
    // The seventh may go, but was committed with the eighth.
    assert_eq!(filed(&home).await, (7, 20));
    assert_eq!(positions(&next(&mut feed, 100).await), (11..=20).collect::<Vec<_>>());
    // The numbers go on where they were. The newest stays, for it says what is filed.
    let (empty, _) = home.open_with(JournalSettings { retain_events: 0, ..settings() }).await;
    let mut feed = super::feed(&empty).await;
    take(&mut feed, 10).await;
    let mut log = super::log(&empty).await;
    log.maintain().await.unwrap();
    assert_eq!(filed(&home).await, (19, 20));
    let reopened = home.open().await;
    assert_eq!(reopened.last(), 20);
    super::log(&reopened).await.append(&sales(&mut shop, 1)).await.unwrap();
    assert_eq!(positions(&next(&mut super::feed(&reopened).await, 9).await), [21]);
}

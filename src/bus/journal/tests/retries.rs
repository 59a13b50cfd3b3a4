//! Deliveries that failed: the schedule, the order behind them, the end of it.

use super::*;
use crate::ports::bus::Rejection;

/// Two shops in turn: positions 1, 3, 5 are the first's, 2, 4, 6 the second's.
async fn two_shops(log: &mut Box<dyn EventLog>) -> (Shop, Shop) {
    let (mut one, mut two) = (Shop::new(1), Shop::new(1));
    let events: Vec<_> = (0..3).flat_map(|_| [one.sold(1), two.sold(1)]).collect();
    log.append(&events).await.unwrap();
    (one, two)
}

#[tokio::test]
async fn a_rejected_event_comes_again_when_due_and_only_its_own_tenant_waits_for_it() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed) = (log(&journal).await, feed(&journal).await);
    let (mut one, mut two) = two_shops(&mut log).await;
    let first = next(&mut feed, 1).await;
    assert_eq!(feed.reject(&first[0], "unit unknown").await.unwrap(), Rejection::Retry);
    // The other shop goes on; events 3 and 5 wait behind 1.
    let passing = next(&mut feed, 10).await;
    assert_eq!(positions(&passing), [2, 4, 6]);
    feed.done(&passing).await.unwrap();
    assert_eq!(journal.backlog(), 0, "what waits in retries holds nobody's position back");
    // New events of both: again only the other shop's comes.
    log.append(&[one.sold(1), two.sold(1)]).await.unwrap();
    assert_eq!(positions(&next(&mut feed, 10).await), [8]);
    // Due after one second and at most a fifth more: then it and all behind it come, in order.
    home.second(2);
    let again = next(&mut feed, 10).await;
    assert_eq!(positions(&again), [1, 3, 5, 7]);
    assert_eq!(again.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1, 0, 0, 0]);
    feed.done(&again).await.unwrap();
    log.append(&[one.sold(1)]).await.unwrap();
    assert_eq!(positions(&next(&mut feed, 10).await), [9], "the tenant is free again");
}

#[tokio::test]
async fn a_retry_is_not_early() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed) = (log(&journal).await, feed(&journal).await);
    let (_, mut two) = two_shops(&mut log).await;
    let all = next(&mut feed, 1).await;
    feed.reject(&all[0], "no").await.unwrap();
    home.clock.set(crate::domain::time::Timestamp::from_micros(OPENING.micros() + 999_999));
    let passing = next(&mut feed, 10).await;
    assert_eq!(positions(&passing), [2, 4, 6]);
    feed.done(&passing).await.unwrap();
    log.append(&[two.sold(1)]).await.unwrap();
    assert_eq!(positions(&next(&mut feed, 10).await), [7]);
}

#[tokio::test]
async fn after_the_last_try_it_is_a_dead_letter_and_the_tenant_goes_on() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed) = (log(&journal).await, feed(&journal).await);
    two_shops(&mut log).await;
    let first = next(&mut feed, 1).await;
    assert_eq!(feed.reject(&first[0], "no").await.unwrap(), Rejection::Retry);
    let others = next(&mut feed, 10).await;
    feed.done(&others).await.unwrap();
    home.second(2);
    let second = next(&mut feed, 1).await;
    assert_eq!((second[0].position, second[0].attempt), (1, 1));
    assert_eq!(feed.reject(&second[0], "no").await.unwrap(), Rejection::Retry);
    home.second(10);
    let third = next(&mut feed, 1).await;
    assert_eq!((third[0].position, third[0].attempt), (1, 2));
    assert_eq!(feed.reject(&third[0], "unit \"x\" unknown").await.unwrap(), Rejection::DeadLettered);
    assert_eq!(positions(&next(&mut feed, 10).await), [3, 5]);
    let mut connection = sqlite::connect(&home.path(), &sqlite::reading(&home.path())).await.unwrap();
    let letters: Vec<(i64, i64, i64, String)> =
        sqlx::query_as("SELECT position, attempts, last_at - first_at, cause FROM dead_letters")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert_eq!(letters, [(1, 3, 10_000_000, "unit \"x\" unknown".to_owned())]);
}

#[tokio::test]
async fn retries_with_their_attempts_and_dead_letters_survive_a_reopen() {
    let home = Home::new();
    {
        // Nothing is written down about the position, so everything handed out comes again.
        let journal = home.open().await;
        let (mut log, mut feed) = (log(&journal).await, feed(&journal).await);
        two_shops(&mut log).await;
        let both = next(&mut feed, 2).await;
        feed.reject(&both[0], "no").await.unwrap();
        feed.reject(&both[1], "no").await.unwrap();
        home.second(2);
        let again = next(&mut feed, 2).await;
        assert_eq!(positions(&again), [1, 2]);
        feed.reject(&again[0], "no").await.unwrap();
        feed.reject(&again[1], "no").await.unwrap();
        home.second(20);
        // The second shop's is given up, the first's has one more try.
        let last = next(&mut feed, 2).await;
        assert_eq!(feed.reject(&last[1], "no").await.unwrap(), Rejection::DeadLettered);
    }
    home.second(3);
    let journal = home.open().await;
    let mut feed = feed(&journal).await;
    // The dead letter is not tried again; what waited behind it comes; the first shop's still waits.
    let passing = next(&mut feed, 10).await;
    assert_eq!(positions(&passing), [4, 6]);
    feed.done(&passing).await.unwrap();
    home.second(20);
    let due = next(&mut feed, 10).await;
    assert_eq!(positions(&due), [1, 3, 5]);
    assert_eq!(due[0].attempt, 2, "the failures before the reopen count");
    assert_eq!(feed.reject(&due[0], "no").await.unwrap(), Rejection::DeadLettered);
}

#[tokio::test]
async fn what_is_put_back_comes_again_behind_the_older_one_without_counting_as_a_failure() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut feed) = (log(&journal).await, feed(&journal).await);
    two_shops(&mut log).await;
    let all = next(&mut feed, 10).await;
    feed.reject(&all[0], "no").await.unwrap();
    feed.postpone(&[all[2].clone(), all[4].clone()]).await.unwrap();
    feed.done(&[all[1].clone(), all[3].clone(), all[5].clone()]).await.unwrap();
    home.second(2);
    let again = next(&mut feed, 10).await;
    assert_eq!(positions(&again), [1, 3, 5]);
    // Again: what is in retries already stays there as it is.
    feed.reject(&again[0], "no").await.unwrap();
    feed.postpone(&again[1..]).await.unwrap();
    home.second(20);
    let last = next(&mut feed, 10).await;
    assert_eq!(last.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [2, 0, 0]);
}

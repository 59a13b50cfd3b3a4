//! Bounds: what is refused, what is left behind by a refusal, and how it ends.

use super::*;

#[tokio::test]
async fn a_backlog_at_its_bound_refuses_appends_until_the_ledger_catches_up() {
    let home = Home::new();
    let (journal, _) = home.open_with(JournalSettings { max_backlog: 5, ..settings() }).await;
    let (mut log, mut feed, mut shop) = (log(&journal).await, feed(&journal).await, Shop::new(1));
    log.append(&sales(&mut shop, 5)).await.unwrap();
    let refused = log.append(&sales(&mut shop, 1)).await;
    assert!(matches!(refused, Err(AppendError::NotDurable(_))), "{refused:?}");
    assert_eq!(journal.last(), 5);
    take(&mut feed, 1).await;
    log.append(&sales(&mut shop, 1)).await.unwrap();
    assert_eq!(journal.last(), 6);
}

#[tokio::test]
async fn a_full_journal_refuses_whole_batches_and_takes_them_once_there_is_room() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let small = JournalSettings { max_bytes: 1 << 20, ..settings() };
    let mut durable = Vec::new();
    {
        let (journal, _) = home.open_with(small.clone()).await;
        let mut log = log(&journal).await;
        let refused = loop {
            let batch = sales(&mut shop, 50);
            match log.append(&batch).await {
                Ok(()) => durable.extend(batch),
                Err(error) => break error,
            }
            assert!(durable.len() < 5_000, "the bound does not hold");
        };
        assert!(matches!(refused, AppendError::Full(_)), "{refused:?}");
        assert!(durable.len() >= 50, "nothing fits at all");
        assert_eq!(journal.last(), durable.len() as u64);
        assert_eq!(journal.unconfirmed().await.unwrap(), durable);
        // Refused again, by the same connection, and still in order.
        assert!(matches!(log.append(&sales(&mut shop, 50)).await, Err(AppendError::Full(_))));
    }
    let (journal, findings) = home.open_with(JournalSettings { max_bytes: 4 << 20, ..small }).await;
    assert_eq!(findings, Findings::default());
    let batch = sales(&mut shop, 50);
    log(&journal).await.append(&batch).await.unwrap();
    durable.extend(batch);
    assert_eq!(take(&mut feed(&journal).await, durable.len()).await, durable);
}

#[tokio::test]
async fn a_full_journal_has_room_again_when_the_ledger_has_caught_up() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let (journal, _) = home.open_with(JournalSettings { max_bytes: 1 << 20, ..settings() }).await;
    let (mut log, mut feed) = (log(&journal).await, feed(&journal).await);
    let mut durable = 0;
    while log.append(&sales(&mut shop, 50)).await.is_ok() {
        durable += 50;
    }
    take(&mut feed, durable).await;
    log.maintain().await.unwrap();
    let batch = sales(&mut shop, 50);
    log.append(&batch).await.unwrap();
    assert_eq!(take(&mut feed, 50).await, batch);
}

#[tokio::test]
async fn an_empty_append_changes_nothing() {
    let home = Home::new();
    let journal = home.open().await;
    log(&journal).await.append(&[]).await.unwrap();
    assert_eq!(journal.last(), 0);
}

#[tokio::test]
async fn the_write_ahead_log_begins_anew_while_commits_go_on() {
    let home = Home::new();
    let (journal, _) = home.open_with(JournalSettings { max_bytes: 1 << 30, ..settings() }).await;
    let (mut log, mut shop) = (log(&journal).await, Shop::new(1));
    let wal = home.path().with_extension("db-wal");
    let batch = sales(&mut shop, 2_000);
    let mut bytes = Vec::new();
    batch.iter().for_each(|event| event.encode(&mut bytes).unwrap());
    // Were it never begun anew, it would be as long as all that was ever appended.
    for appended in 1..=150 {
        log.append(&batch).await.unwrap();
        if std::fs::metadata(&wal).unwrap().len() * 2 < (appended * bytes.len()) as u64 {
            return;
        }
    }
    panic!("the write-ahead log only grows");
}

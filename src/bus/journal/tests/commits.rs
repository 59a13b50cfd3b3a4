//! From the commit log into the file, and what a crash finds on the way.

use super::*;
use crate::ports::bus::EventHistory as _;
use std::fs;

/// A journal that was left as a crash leaves it, with these commits in the commit log alone.
async fn crashed(home: &Home, commits: &[&[Arc<Event>]]) {
    let journal = home.open().await;
    let mut log = log(&journal).await;
    for commit in commits {
        log.append(commit).await.unwrap();
    }
    assert_eq!(filed(home).await, (0, 0), "it was filed already");
}

/// In the line of the first file that begins so; returns the file and what is in it now.
fn change_a_byte_of(home: &Home, begins: &[u8; 3]) -> (PathBuf, Vec<u8>) {
    let [file, _] = commit_log::paths(&home.path());
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(3).position(|word| word == begins).unwrap() + 60;
    bytes[at] ^= 0x10;
    fs::write(&file, &bytes).unwrap();
    (file, bytes)
}

#[tokio::test]
async fn what_was_not_filed_is_found_after_a_crash_and_filed_once() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, 40);
    crashed(&home, &[&events[..1], &events[1..30], &events[30..]]).await;
    for _ in 0..2 {
        let journal = home.open().await;
        assert_eq!((journal.last(), journal.unconfirmed().await.unwrap()), (40, events.clone()));
        assert_eq!(filed(&home).await, (1, 40));
    }
}

#[tokio::test]
async fn upkeep_files_what_was_committed_and_an_ordered_end_leaves_one_file() {
    let home = Home::new();
    let journal = home.open().await;
    let (mut log, mut shop) = (log(&journal).await, Shop::new(1));
    let events = sales(&mut shop, 12);
    log.append(&events[..7]).await.unwrap();
    log.maintain().await.unwrap();
    assert_eq!(filed(&home).await, (1, 7));
    log.append(&events[7..]).await.unwrap();
    drop(log);
    journal.close().await.unwrap();
    assert_eq!(filed(&home).await, (1, 12));
    assert!(commit_log::paths(&home.path()).iter().all(|path| !path.exists()));
    assert_eq!(home.open().await.unconfirmed().await.unwrap(), events);
}

/// Some megabytes, so that both files are written over several times, read on the way by one who keeps up and by one who
/// begins when all is over; with a crash at any point.
#[tokio::test]
async fn the_files_are_written_over_in_turns_and_nothing_is_lost() {
    for (crash_after, tail_events) in [(700, 0), (1_501, 20_000), (3_000, 50)] {
        let home = Home::new();
        let mut shop = Shop::new(1);
        let mut events = Vec::new();
        {
            let (journal, _) = home.open_with(JournalSettings { tail_events, ..settings() }).await;
            let (mut log, mut reader) =
                (log(&journal).await, (journal.feed("queue.sync.test"))().await.unwrap());
            for commit in 0..crash_after {
                let batch = sales(&mut shop, 1 + commit % 7);
                log.append(&batch).await.unwrap();
                assert_eq!(take(&mut reader, batch.len()).await, batch);
                events.extend(batch);
                if commit % 500 == 499 {
                    log.maintain().await.unwrap();
                }
            }
            assert_eq!(journal.unconfirmed().await.unwrap(), events, "before the crash");
            assert_eq!(take(&mut feed(&journal).await, events.len()).await, events);
        }
        let journal = home.open().await;
        assert_eq!(journal.unconfirmed().await.unwrap(), events, "after the crash");
    }
}

#[tokio::test]
async fn a_catalogue_is_filed_at_once_and_in_its_place() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, 1_203);
    {
        let journal = home.open().await;
        let mut log = log(&journal).await;
        for commit in [&events[..3], &events[3..1_200], &events[1_200..]] {
            log.append(commit).await.unwrap();
        }
        assert_eq!(filed(&home).await, (1, 1_200));
        assert_eq!(journal.unconfirmed().await.unwrap(), events);
    }
    assert_eq!(home.open().await.unconfirmed().await.unwrap(), events);
}

#[tokio::test]
async fn a_changed_byte_in_the_last_commit_costs_that_commit_and_is_reported() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, 9);
    crashed(&home, &[&events[..3], &events[3..6], &events[6..]]).await;
    let (file, bytes) = change_a_byte_of(&home, b"\n9 ");
    let (journal, findings) = home.open_with(settings()).await;
    assert_eq!(findings.0.len(), 1, "{findings:?}");
    assert!(findings.0[0].contains("the commit log is damaged") && findings.0[0].contains("-log0.damaged"));
    assert_eq!(journal.unconfirmed().await.unwrap(), events[..6]);
    assert_eq!(fs::read(beside(&file, ".damaged")).unwrap(), bytes, "what was found is kept");
    // It is said once.
    drop(journal);
    assert_eq!(home.open().await.unconfirmed().await.unwrap(), events[..6]);
}

#[tokio::test]
async fn a_changed_byte_in_an_earlier_commit_costs_that_event_only() {
    let home = Home::new();
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, 9);
    crashed(&home, &[&events[..3], &events[3..6], &events[6..]]).await;
    change_a_byte_of(&home, b"\n5 ");
    let (journal, findings) = home.open_with(settings()).await;
    assert!(
        findings.0.iter().any(|it| it.contains("position 5 does not match its checksum")),
        "{findings:?}"
    );
    assert_eq!(journal.unconfirmed().await.unwrap(), [&events[..4], &events[5..]].concat());
}

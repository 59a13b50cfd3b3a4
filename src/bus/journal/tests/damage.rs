//! Damage: found, told in words, everything before it kept, and the journal goes on.

use super::*;
use std::fs;

/// Events of one commit.
const COMMIT: usize = 10;

/// A journal with so many sales, each commit a segment, closed the clean way: everything in the main file, nothing left
/// beside it.
async fn closed_journal(home: &Home, count: usize) -> Vec<Arc<Event>> {
    let mut shop = Shop::new(1);
    let events = sales(&mut shop, count);
    {
        let journal = home.open().await;
        let mut log = log(&journal).await;
        for commit in events.chunks(COMMIT) {
            log.append(commit).await.unwrap();
            log.maintain().await.unwrap();
        }
        drop(log);
        journal.close().await.unwrap();
    }
    let left: Vec<_> = fs::read_dir(home.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [home.path()]);
    events
}

/// Copies a journal with its WAL while a connection is open, so that nothing has been checkpointed at close.
async fn copy_of_an_open_journal(home: &Home, batches: usize) -> (Home, Vec<Arc<Event>>) {
    let copy = Home::new();
    let mut shop = Shop::new(1);
    let journal = home.open().await;
    let mut log = log(&journal).await;
    let mut events = Vec::new();
    for _ in 0..batches {
        let batch = sales(&mut shop, 3);
        log.append(&batch).await.unwrap();
        log.maintain().await.unwrap();
        events.extend(batch);
    }
    for suffix in ["", "-wal"] {
        fs::copy(beside(&home.path(), suffix), beside(&copy.path(), suffix)).unwrap();
    }
    (copy, events)
}

/// Everything a fresh reader gets, without the last `lost`, and that the journal takes more.
async fn keeps_all_but_the_last_and_goes_on(home: &Home, events: &[Arc<Event>], word: &str) -> usize {
    let (journal, findings) = home.open_with(settings()).await;
    assert!(findings.0.iter().any(|finding| finding.contains(word)), "{word:?} is not in {findings:?}");
    let found = journal.unconfirmed().await.unwrap();
    assert_eq!(found, events[..found.len()], "what is left is not the beginning");
    goes_on(&journal, found.len()).await;
    drop(journal);
    let (reopened, _) = home.open_with(settings()).await;
    assert_eq!(reopened.unconfirmed().await.unwrap().len(), found.len() + 1, "lost by another reopen");
    found.len()
}

/// Appends one more and reads it behind `before` others.
async fn goes_on(journal: &Journal, before: usize) {
    let (mut log, mut feed, mut shop) = (log(journal).await, feed(journal).await, Shop::new(1));
    if before > 0 {
        let old = next(&mut feed, before).await;
        assert_eq!(old.len(), before);
    }
    let more = sales(&mut shop, 1);
    log.append(&more).await.unwrap();
    assert_eq!(next(&mut feed, 10).await.iter().map(|d| d.event.clone()).collect::<Vec<_>>(), more);
}

#[tokio::test]
async fn a_changed_byte_in_the_last_row_is_quarantined() {
    let home = Home::new();
    let events = closed_journal(&home, 5).await;
    let change = "UPDATE journal SET payload = CAST(replace(CAST(payload AS TEXT), 'cajera', 'cajerb') AS BLOB) WHERE position = 5";
    home.tamper(change).await;
    assert_eq!(keeps_all_but_the_last_and_goes_on(&home, &events, "position 5 does not match").await, 4);
    // The bytes are kept, and their position is not given out again.
    let mut connection = sqlite::connect(&home.path(), &sqlite::reading(&home.path())).await.unwrap();
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM quarantine WHERE position = 5 AND payload LIKE '%cajerb%'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    let next: i64 =
        sqlx::query_scalar("SELECT max(last) FROM segments").fetch_one(&mut connection).await.unwrap();
    assert_eq!((kept, next), (1, 6));
}

#[tokio::test]
async fn a_changed_byte_in_the_middle_costs_that_event_only() {
    let home = Home::new();
    let events = closed_journal(&home, 5).await;
    home.tamper("UPDATE journal SET kind = 'stock.moved' WHERE position = 2").await;
    let (journal, findings) = home.open_with(settings()).await;
    assert_eq!(findings.0.len(), 1, "{findings:?}");
    let rest = [events[0].clone(), events[2].clone(), events[3].clone(), events[4].clone()];
    assert_eq!(take(&mut feed(&journal).await, 4).await, rest);
}

#[tokio::test]
async fn a_deleted_line_is_reported_as_missing() {
    let home = Home::new();
    let events = closed_journal(&home, 5).await;
    home.tamper("DELETE FROM journal WHERE position IN (2, 3)").await;
    let (journal, findings) = home.open_with(settings()).await;
    assert_eq!(findings.0, ["journal positions 2 to 3 are missing"]);
    let rest = [events[0].clone(), events[3].clone(), events[4].clone()];
    assert_eq!(journal.unconfirmed().await.unwrap(), rest);
    goes_on(&journal, 3).await;
}

#[tokio::test]
async fn a_deleted_segment_is_reported_as_missing() {
    let home = Home::new();
    let events = closed_journal(&home, 3 * COMMIT).await;
    home.sql(&["DELETE FROM segments WHERE first = 11"]).await;
    let (journal, findings) = home.open_with(settings()).await;
    assert_eq!(findings.0, ["journal positions 11 to 20 are missing"]);
    assert_eq!(journal.unconfirmed().await.unwrap(), [&events[..10], &events[20..]].concat());
}

#[tokio::test]
async fn a_journal_of_single_rows_is_brought_up_to_date() {
    let home = Home::new();
    let events = closed_journal(&home, 5).await;
    home.tamper("UPDATE journal SET checksum = checksum + 1 WHERE position = 4").await;
    // As the first two steps of the schema had it.
    let mut connection = sqlite::connect(&home.path(), &sqlite::durable(&home.path())).await.unwrap();
    tampering::unpack(&mut connection).await;
    let older = "DROP TABLE segments; DELETE FROM _sqlx_migrations WHERE version = 3";
    sqlx::raw_sql(older).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let (journal, findings) = home.open_with(settings()).await;
    assert_eq!(findings.0, ["journal position 4 does not match its checksum; it was put into quarantine"]);
    let rest = [&events[..3], &events[4..]].concat();
    assert_eq!(journal.unconfirmed().await.unwrap(), rest);
    goes_on(&journal, 4).await;
}

#[tokio::test]
async fn a_file_cut_at_its_end_keeps_what_is_before_the_cut() {
    for pages in [1_u64, 3] {
        let home = Home::new();
        let events = closed_journal(&home, 300).await;
        let file = fs::OpenOptions::new().write(true).open(home.path()).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length - pages * u64::from(PAGE_BYTES)).unwrap();
        drop(file);
        let kept = keeps_all_but_the_last_and_goes_on(&home, &events, "damaged").await;
        assert!(kept >= 300 - 40 * usize::try_from(pages).unwrap(), "only {kept} kept, {pages} pages cut");
        let aside = fs::read_dir(home.dir.path())
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().contains(".damaged-"));
        assert!(aside, "the damaged file is gone");
    }
}

#[tokio::test]
async fn garbage_in_the_last_page_keeps_what_is_before_it() {
    let home = Home::new();
    let events = closed_journal(&home, 300).await;
    let mut bytes = fs::read(home.path()).unwrap();
    let from = bytes.len() - usize::try_from(PAGE_BYTES).unwrap();
    bytes[from..].fill(0xA5);
    fs::write(home.path(), &bytes).unwrap();
    let kept = keeps_all_but_the_last_and_goes_on(&home, &events, "damaged").await;
    assert!(kept >= 260, "only {kept} kept");
}

#[tokio::test]
async fn garbage_in_the_middle_keeps_what_is_before_and_after_it() {
    let home = Home::new();
    let events = closed_journal(&home, 600).await;
    let mut bytes = fs::read(home.path()).unwrap();
    let page = usize::try_from(PAGE_BYTES).unwrap();
    let from = bytes.len() / page / 2 * page;
    bytes[from..from + page].fill(0xA5);
    fs::write(home.path(), &bytes).unwrap();
    let (journal, findings) = home.open_with(settings()).await;
    assert!(findings.0.iter().any(|finding| finding.contains("damaged")), "{findings:?}");
    let found = journal.unconfirmed().await.unwrap();
    assert!((560..600).contains(&found.len()), "{} kept", found.len());
    assert!(found.contains(&events[0]) && found.contains(&events[599]));
    assert!(findings.0.iter().any(|finding| finding.contains("are missing")), "{findings:?}");
}

#[tokio::test]
async fn a_whole_wal_that_was_never_checkpointed_is_read_without_findings() {
    let home = Home::new();
    let (copy, events) = copy_of_an_open_journal(&home, 4).await;
    assert_eq!(copy.open().await.unconfirmed().await.unwrap(), events);
}

#[tokio::test]
async fn a_wal_cut_in_its_last_frame_is_reported_and_everything_before_is_kept() {
    let home = Home::new();
    let (copy, events) = copy_of_an_open_journal(&home, 4).await;
    let wal = fs::OpenOptions::new().write(true).open(beside(&copy.path(), "-wal")).unwrap();
    wal.set_len(wal.metadata().unwrap().len() - 2_000).unwrap();
    drop(wal);
    assert_eq!(keeps_all_but_the_last_and_goes_on(&copy, &events, "cut short").await, 9);
    assert!(beside(&copy.path(), "-wal.damaged").exists());
}

#[tokio::test]
async fn a_changed_byte_in_the_last_frame_of_the_wal_is_reported() {
    let home = Home::new();
    let (copy, events) = copy_of_an_open_journal(&home, 4).await;
    let path = beside(&copy.path(), "-wal");
    let mut wal = fs::read(&path).unwrap();
    let at = wal.len() - 100;
    wal[at] ^= 0x10;
    fs::write(&path, &wal).unwrap();
    assert_eq!(keeps_all_but_the_last_and_goes_on(&copy, &events, "does not match its checksum").await, 9);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name_and_left_alone() {
    let home = Home::new();
    closed_journal(&home, 5).await;
    let mut bytes = fs::read(home.path()).unwrap();
    bytes[..16].copy_from_slice(b"not a database!!");
    fs::write(home.path(), &bytes).unwrap();
    let refused = Journal::open(&home.path(), settings(), home.clock.clone()).await;
    let Err(error @ PortError::Permanent(_)) = refused.map(|_| ()) else { panic!("it was opened") };
    let path = home.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error} does not name the file");
    assert_eq!(fs::read(home.path()).unwrap(), bytes, "the file was changed");
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused() {
    let home = Home::new();
    closed_journal(&home, 1).await;
    home.sql(&["INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'from the future', true, x'00', 0)"])
        .await;
    let refused = Journal::open(&home.path(), settings(), home.clock.clone()).await;
    let error = refused.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("was written by a newer Blend (schema 999"), "{error}");
    assert!(error.contains("journal.db"), "{error}");
}

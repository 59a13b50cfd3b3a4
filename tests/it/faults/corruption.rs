//! A journal that no longer reads as it was written.

use crate::support::shop::{PLAIN, Shop};
use serde_json::json;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

const SALES: usize = 40;
const PAGE: u64 = 8_192;
const FRAME: u64 = 24 + PAGE;

/// A shop with some sales, all of them in the ledger.
async fn with_sales() -> (Shop, Vec<String>) {
    let shop = Shop::open().await;
    let mut ids = Vec::new();
    for number in 0..SALES {
        let reply = shop.till.checkout(shop.basket(&[(PLAIN, "1")]), Some(&format!("k-{number}"))).await;
        ids.push(reply.sale());
    }
    shop.settled().await;
    (shop, ids)
}

/// Starts over a damaged file: it says so, everything from before is there, and selling goes on.
async fn assert_survives(mut shop: Shop, ids: &[String]) {
    shop.start_again().await;
    let ready = shop.till.get("/ready").await;
    assert_eq!((ready.status, &ready.json["status"]), (200, &json!("degraded")), "{}", ready.json);
    let findings = ready.json["checks"]["journal_file"]["findings"].as_array().unwrap().clone();
    assert!(!findings.is_empty());
    let said = shop.server.stderr();
    for finding in &findings {
        let finding = finding.as_str().unwrap();
        assert!(
            finding.contains("damaged") || finding.contains("missing") || finding.contains("quarantine"),
            "{finding}"
        );
        assert!(said.contains(finding), "{finding} is not in\n{said}");
    }
    for id in ids {
        let sale = shop.till.get(&format!("/api/v1/ventas/{id}")).await;
        assert_eq!((sale.status, sale.json["estado"].as_str()), (200, Some("registrada")), "{id}");
    }
    assert_eq!(shop.stock(PLAIN).await, (1_000 - SALES).to_string());
    for (number, id) in ids.iter().enumerate() {
        let again = shop.till.checkout(shop.basket(&[(PLAIN, "1")]), Some(&format!("k-{number}"))).await;
        assert_eq!((again.replayed(), again.sale()), (true, id.clone()));
    }
    for number in 0..SALES {
        assert_eq!(
            shop.till.checkout(shop.basket(&[(PLAIN, "1")]), Some(&format!("new-{number}"))).await.status,
            201
        );
    }
    let books = shop.books().await;
    assert_eq!((books.sales.len(), books.stock[PLAIN]), (2 * SALES, (1_000 - 2 * SALES as i64) * 1_000));

    // The damage is over: the next start finds nothing new to say, and has both halves.
    shop.restart().await;
    let stock = shop.stock(PLAIN).await;
    assert_eq!(stock, (1_000 - 2 * SALES).to_string());
    assert_eq!(shop.close().await.sales.len(), 2 * SALES);
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

#[tokio::test]
async fn a_write_ahead_log_cut_in_the_middle_of_a_frame() {
    let (mut shop, ids) = with_sales().await;
    shop.server.signal("KILL");
    shop.server.ended().await;
    let wal = shop.blend.data_dir().join("journal.db-wal");
    let before = length(&wal);
    assert_eq!((before - 32) % FRAME, 0, "whole frames");
    OpenOptions::new().write(true).open(&wal).unwrap().set_len(before - PAGE / 2).unwrap();
    assert_survives(shop, &ids).await;
}

#[tokio::test]
async fn a_byte_flipped_in_the_last_frame_of_the_log() {
    let (mut shop, ids) = with_sales().await;
    shop.server.signal("KILL");
    shop.server.ended().await;
    let wal = shop.blend.data_dir().join("journal.db-wal");
    flip(&wal, length(&wal) - PAGE / 3);
    assert_survives(shop, &ids).await;
}

#[tokio::test]
async fn a_byte_flipped_in_the_middle_of_the_log() {
    let (mut shop, ids) = with_sales().await;
    shop.server.signal("KILL");
    shop.server.ended().await;
    let wal = shop.blend.data_dir().join("journal.db-wal");
    flip(&wal, 32 + ((length(&wal) - 32) / FRAME / 2) * FRAME + 1_000);
    assert_survives(shop, &ids).await;
}

/// What was acknowledged last is in the commit log alone.
#[tokio::test]
async fn a_byte_flipped_in_the_commit_log() {
    let (mut shop, ids) = with_sales().await;
    shop.server.signal("KILL");
    shop.server.ended().await;
    let logs = ["journal.db-log0", "journal.db-log1"].map(|name| shop.blend.data_dir().join(name));
    let mut flipped = 0;
    for log in logs {
        // In the last commit of the file, if there is one: each ends in a line of its own.
        let bytes = std::fs::read(&log).unwrap();
        if let Some(end) = bytes.windows(5).position(|word| word == b"\nend\n") {
            flip(&log, end as u64 - 100);
            flipped += 1;
        }
    }
    assert!(flipped > 0);
    assert_survives(shop, &ids).await;
}

#[tokio::test]
async fn garbage_in_a_page_of_the_journal() {
    let (mut shop, ids) = with_sales().await;
    shop.server.signal("TERM");
    assert!(shop.server.ended().await.success());
    let file = shop.blend.data_dir().join("journal.db");
    // One that has the beginnings of rows, so that the table is broken there.
    let mut journal = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    let sql = "SELECT max(pageno) FROM dbstat WHERE name = 'segments' AND pagetype = 'leaf'";
    let page: i64 = sqlx::query_scalar(sql).fetch_one(&mut journal).await.unwrap();
    sqlx::Connection::close(journal).await.unwrap();
    let mut journal = OpenOptions::new().write(true).open(&file).unwrap();
    journal.seek(SeekFrom::Start((page.unsigned_abs() - 1) * PAGE)).unwrap();
    let garbage: Vec<u8> = (0..PAGE).map(|n| (n * 131 % 251) as u8).collect();
    journal.write_all(&garbage).unwrap();
    drop(journal);
    assert_survives(shop, &ids).await;
}

fn flip(file: &Path, at: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0x10]).unwrap();
}

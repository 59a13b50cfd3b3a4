//! `blend dlq`: what was given up is seen, and tried again, with a server and without.

use crate::support::eventually;
use crate::support::shop::{PLAIN, Shop};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

/// Puts a sale, the newest, among the dead letters, as if the ledger had refused it; it has it, so a second time is harmless.
async fn give_up(shop: &Shop, sale: &str) {
    let file = shop.blend.data_dir().join("journal.db");
    let mut journal = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let sql = "SELECT CAST(lines AS TEXT) FROM segments ORDER BY first DESC LIMIT 1";
    let lines = eventually("the newest commit is filed", async || {
        let lines: Option<String> = sqlx::query_scalar(sql).fetch_optional(&mut journal).await.unwrap();
        lines.filter(|lines| lines.contains(sale))
    })
    .await;
    // Position, checksum, kind, JSON.
    let newest: Vec<&str> = lines.lines().last().unwrap().splitn(4, ' ').collect();
    let [position, _, kind @ "sales.created", payload] = newest[..] else { panic!("{newest:?} is no sale") };
    let sql =
        "INSERT INTO dead_letters VALUES ('queue.sales.created', $1, x'0192f5a0000070008000000000000001', 4,
               1767225600000000, 1767225614000000, 'unit ' || $1 || ' is not known', $2, CAST($3 AS BLOB))";
    let insert = sqlx::query(sql).bind(position.parse::<i64>().unwrap()).bind(kind).bind(payload);
    assert_eq!(insert.execute(&mut journal).await.unwrap().rows_affected(), 1);
    sqlx::Connection::close(journal).await.unwrap();
}

#[tokio::test]
async fn what_was_given_up_is_listed_shown_and_tried_again() {
    let mut shop = Shop::open().await;
    let sale = shop.sell(&[(PLAIN, "1")]).await.sale();
    shop.settled().await;
    for running in [true, false] {
        give_up(&shop, &sale).await;
        if !running {
            shop.server.signal("TERM");
            shop.server.ended().await;
        }
        let run = async |args: &[&str]| {
            let words: Vec<&str> = std::iter::once("dlq").chain(args.iter().copied()).collect();
            let ran = shop.blend.command(&words).await;
            (ran.code, ran.stdout.clone(), ran.stderr.clone())
        };
        let (code, listed, errors) = run(&["ls", "--ids"]).await;
        assert_eq!(code, Some(0), "{errors}");
        assert!(listed.contains("1  unit # is not known") && listed.contains("1 in all"), "{listed}");
        let id = listed.lines().find_map(|line| line.trim().strip_prefix("queue.sales.created/")).unwrap();
        let id = format!("queue.sales.created/{id}");
        let (_, shown, _) = run(&["show", &id]).await;
        assert!(shown.contains(&sale) && shown.contains("after 4 attempts"), "{shown}");
        let (code, _, refused) = run(&["drop", &id]).await;
        assert!(code == Some(1) && refused.contains("replay it"), "{refused}");
        assert_eq!(run(&["show", "queue.sales.created/99999"]).await.0, Some(1));
        let (_, dry, _) = run(&["replay", "--cause", "unit 8 is not known", "--dry-run"]).await;
        assert!(dry.contains("1 would be tried again"), "{dry}");
        let (_, none, _) = run(&["replay", "--cause", "another cause"]).await;
        assert!(none.contains("0 are tried again"), "{none}");
        let (_, replayed, _) = run(&["replay", &id]).await;
        assert!(replayed.contains("1 are tried again"), "{replayed}");
        let (_, listed, _) = run(&["ls"]).await;
        assert!(listed.contains("0 in all"), "{listed}");
    }
    shop.start_again().await;
    assert_eq!(shop.close().await.sales.len(), 1);
}

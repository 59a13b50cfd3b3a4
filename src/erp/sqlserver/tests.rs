//! The adapter against the stand-in: what it reads, what it sends, and what it makes of every failure.

use super::*;
use crate::domain::decimal::{Money, Quantity};
use crate::domain::erp::{ProductReading, RowId};
use crate::domain::time::Timestamp;
use crate::erp::simulator::{Fault, Login, Product, Shop, SqlServerStandIn, Value};
use crate::ports::clock::{ManualClock, SystemClock};
use std::sync::Arc;
use std::time::Instant;

async fn start(shop: &Shop) -> SqlServerStandIn {
    start_at("127.0.0.1:0", shop).await
}

async fn start_at(address: &str, shop: &Shop) -> SqlServerStandIn {
    let login = Login { user: "blend".to_owned(), password: "secreto".to_owned() };
    SqlServerStandIn::start(address, login, shop.handler()).await.unwrap()
}

fn settings(server: &SqlServerStandIn) -> Settings {
    Settings {
        host: "127.0.0.1".to_owned(),
        port: server.address().port(),
        database: "LinceIndumentaria".to_owned(),
        user: "blend".to_owned(),
        password: "secreto".to_owned(),
        encryption: Encryption::Off,
        ca_file: None,
        trust_any_certificate: false,
        isolation: Isolation::Nolock,
        strategy: None,
        connect_timeout: Duration::from_secs(5),
        command_timeout: Duration::from_secs(5),
        overlap: Duration::from_secs(10),
        page: 5,
    }
}

fn demo() -> Shop {
    Shop::demo(Arc::new(SystemClock))
}

/// Everything, page by page.
async fn all(erp: &mut SqlServer) -> Page {
    let mut whole = Page::default();
    let mut after = None;
    loop {
        let page = erp.page(after).await.unwrap();
        whole.rows.balances.extend(page.rows.balances);
        whole.rows.products.extend(page.rows.products);
        whole.ids.extend(page.ids);
        after = page.next;
        if after.is_none() {
            return whole;
        }
    }
}

async fn start_cursor(erp: &mut SqlServer) -> Cursor {
    let head = erp.head().await.unwrap();
    let version = head.version.map(|version| version - 1);
    Cursor { loaded: true, ..Cursor::start(head.database, &head.clock, version) }
}

/// Every change since the cursor, however many pages: the rows' numbers, and the cursor behind them.
async fn poll(erp: &mut SqlServer, cursor: &Cursor) -> (Vec<i64>, Vec<ProductReading>, Cursor) {
    let (mut ids, mut products, mut at, mut within) =
        (Vec::new(), Vec::new(), cursor.clone(), Within::default());
    loop {
        let changes = erp.changes(&at, &within, &[]).await.unwrap();
        ids.extend(changes.fresh);
        products.extend(changes.rows.products);
        at = changes.cursor;
        match changes.more {
            Some(more) => within = more,
            None => return (ids, products, at),
        }
    }
}

#[tokio::test]
async fn the_demo_shop_is_read_whole_and_exactly() {
    let shop = demo();
    let server = start(&shop).await;
    let mut erp = SqlServer::new(settings(&server));
    let page = all(&mut erp).await;
    assert_eq!((page.ids.len(), page.rows.balances.len()), (21, 21));
    let cap = page.rows.balances.iter().find(|reading| &*reading.key.item.code == "GORRA-SNAP").unwrap();
    assert_eq!((cap.key.item.size.as_deref(), cap.key.item.color.as_deref()), (None, Some("ROJO")));
    assert_eq!((cap.quantity, cap.row), (Quantity::from_whole(20).unwrap(), RowId::Numbered(20)));
    let jean = page.rows.products.iter().find(|reading| &*reading.code == "JEAN-505").unwrap();
    assert_eq!((jean.price, jean.cost), (Money::parse("45000").unwrap(), Money::parse("28000").ok()));
    assert_eq!((jean.brand.as_deref(), jean.supplier.as_deref()), (Some("LEVI'S"), Some("PROVEEDOR XYZ")));
    assert!(jean.active && jean.stamp.is_some());
    let again = erp.rows(&[3, 99, 1]).await.unwrap();
    assert_eq!(again.ids, [3, 1]);
    assert_eq!((server.logins(), erp.connections()), (1, 1));
}

#[tokio::test]
async fn values_that_make_no_sense_are_passed_over_and_said() {
    let shop = Shop::new(Arc::new(SystemClock));
    let put = |code: &str, description: &str, price| {
        let product = Product { description: description.to_owned(), price, ..Product::default() };
        shop.put_product(code, product);
    };
    put("A", "  Algo ", 123_450);
    put("B", " ", 1);
    put("C", "Cero", -10_000);
    for code in ["A", "B", "C", "  "] {
        shop.add_balance(code, Some(" m "), None, 1, "p");
    }
    shop.edit(1, |balance| balance.quantity = -1_250);
    let server = start(&shop).await;
    let page = SqlServer::new(settings(&server)).page(None).await.unwrap();
    assert_eq!(page.rows.rejected.len(), 3, "{:?}", page.rows.rejected);
    let [reading] = &page.rows.products[..] else { panic!("{:?}", page.rows.products) };
    // 12.345 is 12.35 on a receipt.
    assert_eq!(
        (&*reading.name, reading.price, reading.active),
        ("Algo", Money::parse("12.35").unwrap(), true)
    );
    let first = &page.rows.balances[0];
    assert_eq!(
        (first.quantity, first.key.item.size.as_deref()),
        (Quantity::parse("-12.5").unwrap(), Some("M"))
    );
    assert_eq!(page.ids, [1, 2, 3, 4], "a row that is not understood is there all the same");
}

/// L2 and L5: at any tick, by the server's own clock, whatever ours is.
#[tokio::test]
async fn l2_l5_no_change_is_missed_at_equal_stamps_nor_by_a_clock_that_differs() {
    let clock = Arc::new(ManualClock::at(Timestamp::parse("2026-11-27T13:00:00Z").unwrap()));
    let shop = Shop::demo(clock.clone());
    let server = start(&shop).await;
    let mut erp = SqlServer::new(Settings { overlap: Duration::ZERO, ..settings(&server) });
    let mut cursor = start_cursor(&mut erp).await;
    assert_eq!(cursor.balances.stamp.as_ref().unwrap().as_str(), "2026-11-27T10:00:00.000");
    // All 21 rows share one tick, in pages of five; then each of three ticks that end in .003, .007 and .010.
    for (ms, id) in [(0, 1), (3, 2), (7, 3), (10, 4), (13, 5)] {
        clock.set(Timestamp::from_micros(1_795_784_400_000_000 + ms * 1_000));
        shop.add(id, -1);
        let (ids, _, next) = poll(&mut erp, &cursor).await;
        assert!(ids.contains(&id), "{ms}: {ids:?}");
        cursor = next;
    }
    let (ids, _, next) = poll(&mut erp, &cursor).await;
    assert_eq!((ids, next), (vec![5], cursor.clone()), "the row at the boundary is read again, and no other");
    // A row from the future does not hide what comes before it.
    let future = shop.now() + 9_999 * 300;
    shop.edit(7, |balance| balance.moved = Some(future));
    let (ids, _, next) = poll(&mut erp, &cursor).await;
    assert!(ids.contains(&7) && next.balances == cursor.balances);
}

#[tokio::test]
async fn l2_a_row_that_is_committed_late_is_within_the_overlap() {
    let shop = demo();
    let yesterday = shop.now() - 86_400 * 300;
    (1..=21).for_each(|id| shop.edit(id, |balance| balance.moved = Some(yesterday)));
    let server = start(&shop).await;
    let mut erp = SqlServer::new(settings(&server));
    let cursor = start_cursor(&mut erp).await;
    let late = shop.now() - 5 * 300;
    shop.edit(3, |balance| balance.moved = Some(late));
    let (ids, _, _) = poll(&mut erp, &cursor).await;
    assert_eq!(ids, [3]);
    // Older than the overlap, or without a date: the full scan's business.
    let old = shop.now() - 60 * 300;
    shop.edit(3, |balance| balance.moved = Some(old));
    shop.edit(4, |balance| balance.moved = None);
    let (ids, _, _) = poll(&mut erp, &cursor).await;
    assert_eq!(ids, Vec::<i64>::new());
    assert_eq!(all(&mut erp).await.ids.len(), 21);
}

/// A load into the ERP, a change of all prices: thousands of rows of one moment, and then nothing for hours.
#[tokio::test]
async fn rows_of_one_moment_are_read_again_until_the_overlap_is_over_and_then_no_more() {
    let start_at = Timestamp::parse("2026-11-27T13:00:00Z").unwrap();
    let clock = Arc::new(ManualClock::at(start_at));
    let at = |second: i64| clock.set(Timestamp::from_micros(start_at.micros() + second * 1_000_000));
    let shop = Shop::demo(clock.clone());
    let server = start(&shop).await;
    let mut erp = SqlServer::new(settings(&server));
    let mut cursor = start_cursor(&mut erp).await;
    let mut read = Vec::new();
    // Each goes on from where the one before it ended: within the overlap of ten seconds, at its end, and behind it.
    for second in [3, 6, 13, 17, 3_600] {
        at(second);
        server.take_statements();
        let (ids, _, next) = poll(&mut erp, &cursor).await;
        cursor = next;
        read.push((ids.len(), server.take_statements().len()));
    }
    assert_eq!(read, [(21, 5), (21, 5), (21, 5), (0, 1), (0, 1)]);
    // What is committed late, at a moment that was read already, is still found.
    at(3_605);
    shop.edit(3, |balance| balance.moved = Some(balance.moved.unwrap() + 3_598 * 300));
    assert_eq!(poll(&mut erp, &cursor).await.0, [3]);
}

#[tokio::test]
async fn l6_a_changed_price_is_seen_though_no_balance_moved() {
    let shop = demo();
    let server = start(&shop).await;
    let mut erp = SqlServer::new(Settings { overlap: Duration::ZERO, ..settings(&server) });
    let cursor = start_cursor(&mut erp).await;
    let now = shop.now() + 300;
    shop.edit_product("ZAP-RUN", |product| {
        (product.price, product.active, product.modified) = (900_000_000, Some(false), Some(now));
    });
    let (_, products, _) = poll(&mut erp, &cursor).await;
    let changed = products.iter().find(|reading| &*reading.code == "ZAP-RUN").unwrap();
    assert_eq!((changed.price, changed.active), (Money::parse("90000").unwrap(), false));
}

#[tokio::test]
async fn a_rowversion_is_found_and_read_without_overlap() {
    let shop = demo();
    shop.add_rowversion();
    let server = start(&shop).await;
    let mut erp = SqlServer::new(settings(&server));
    assert_eq!(erp.probe().await.unwrap().strategy, Strategy::Rowversion);
    let cursor = start_cursor(&mut erp).await;
    assert_eq!(poll(&mut erp, &cursor).await.0, Vec::<i64>::new());
    (1..=12).for_each(|id| shop.edit(id, |balance| balance.quantity -= 100));
    let (ids, products, next) = poll(&mut erp, &cursor).await;
    // Twelve rows in pages of five, each once, and without any date.
    assert_eq!(ids, (1..=12).collect::<Vec<_>>());
    assert!(products.iter().all(|reading| !reading.code.is_empty()));
    assert_eq!(poll(&mut erp, &next).await.0, Vec::<i64>::new());
    let wanted = Settings { strategy: Some(Strategy::Datetime), ..settings(&server) };
    assert_eq!(SqlServer::new(wanted).probe().await.unwrap().strategy, Strategy::Datetime);
}

#[tokio::test]
async fn a_probe_says_what_is_missing() {
    let shop = demo();
    let server = start(&shop).await;
    let probe = SqlServer::new(settings(&server)).probe().await.unwrap();
    assert_eq!((probe.strategy, probe.level, probe.missing.len()), (Strategy::Datetime, 150, 0));
    assert!(probe.head.database.starts_with("LinceIndumentaria ") && probe.warnings.is_empty());
    shop.set_rights(false, true);
    let probe = SqlServer::new(settings(&server)).probe().await.unwrap();
    assert_eq!((probe.missing.len(), probe.warnings.len()), (2, 2), "{probe:?}");
    assert!(probe.missing[0].contains("GRANT SELECT ON dbo.STK_SALDOS"));
    let wanted = Settings {
        strategy: Some(Strategy::Rowversion),
        isolation: Isolation::Snapshot,
        ..settings(&server)
    };
    shop.set_rights(true, false);
    let probe = SqlServer::new(wanted).probe().await.unwrap();
    assert_eq!(probe.missing.len(), 2, "{probe:?}");
}

#[tokio::test]
async fn l15_one_poll_is_one_statement_and_manners_are_kept() {
    let shop = demo();
    let server = start(&shop).await;
    let mut erp = SqlServer::new(settings(&server));
    let cursor = start_cursor(&mut erp).await;
    server.take_statements();
    erp.changes(
        &cursor,
        &Within { balance: cursor.balances.stamp.clone().map(|stamp| (stamp, 0)), ..Within::default() },
        &[1, 2],
    )
    .await
    .unwrap();
    let statements = server.take_statements();
    assert_eq!(
        statements.len(),
        1,
        "clock, balances, products and what is looked at again in one round trip"
    );
    erp.page(None).await.unwrap();
    erp.rows(&[1]).await.unwrap();
    erp.probe().await.unwrap();
    let mut connected = SqlServer::new(settings(&server));
    connected.head().await.unwrap();
    for statement in statements.iter().chain(&server.take_statements()) {
        let sql = &statement.sql;
        let words: Vec<&str> = sql.split(|c: char| !c.is_ascii_alphabetic()).collect();
        for word in ["INSERT", "DELETE", "MERGE", "EXEC", "INTO", "ALTER", "BEGIN", "UPDLOCK", "TABLOCK"] {
            assert!(!words.contains(&word), "{word} in {sql}");
        }
        let tables = sql.matches("FROM dbo.STK").count() + sql.matches("JOIN dbo.STK").count();
        assert_eq!(sql.matches("WITH (NOLOCK)").count(), tables, "{sql}");
        let bounded = sql.matches("TOP (@P1)").count() + sql.matches("s.ID IN (").count();
        assert_eq!(bounded, sql.matches("FROM dbo.STK").count(), "{sql}");
        if sql.contains("@P1") {
            assert_eq!(statement.param("@P1"), Some(&Value::Int(5)));
        }
    }
    assert!(sql::session(Isolation::Snapshot).iter().any(|set| set.contains("SNAPSHOT")));
    let plan = sql::Plan { strategy: Strategy::Datetime, balances: None, products: None };
    assert!(!sql::poll(&plan, Isolation::Snapshot, &[1]).contains("NOLOCK"));
}

#[tokio::test]
async fn l3_errors_of_the_moment_are_asked_again_at_once_and_others_are_explained() {
    let shop = demo();
    let server = start(&shop).await;
    let mut erp = SqlServer::new(settings(&server));
    erp.page(None).await.unwrap();
    for code in [601, 1205, 1222] {
        shop.fail(Fault::Error(code, "Could not continue scan with NOLOCK due to data movement."));
        shop.fail(Fault::ErrorAfterRows(code, 3));
        assert_eq!(erp.page(None).await.unwrap().ids.len(), 5, "{code}");
        for _ in 0..3 {
            shop.fail(Fault::Error(code, "again and again"));
        }
        let error = erp.page(None).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains(&code.to_string()), "{error}");
    }
    for (code, said) in
        [(207, "not as expected"), (208, "not as expected"), (229, "GRANT SELECT"), (8134, "8134")]
    {
        shop.fail(Fault::Error(code, "no"));
        let error = erp.page(None).await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains(said), "{error}");
    }
    assert_eq!((erp.connections(), server.logins()), (1, 1), "an error of the server costs no connection");
    let wrong = Settings { password: "falso".to_owned(), ..settings(&server) };
    let error = SqlServer::new(wrong.clone()).page(None).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("refuses the login of blend"), "{error}");
    assert!(!format!("{wrong:?} {error}").contains("falso"));
}

#[tokio::test]
async fn a_stall_a_cut_and_a_server_that_is_gone_cost_one_call_each() {
    let shop = demo();
    let server = start(&shop).await;
    let limit = Duration::from_millis(300);
    let mut erp = SqlServer::new(Settings { command_timeout: limit, page: 50, ..settings(&server) });
    erp.page(None).await.unwrap();
    shop.fail(Fault::Stall(Duration::from_secs(60)));
    let started = Instant::now();
    let error = erp.page(None).await.unwrap_err();
    assert!(error.is_transient() && started.elapsed() < Duration::from_secs(5), "{error}");
    assert_eq!(erp.page(None).await.unwrap().ids.len(), 21);
    shop.fail(Fault::CutAfterRows(7));
    let error = erp.page(None).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("lost"), "{error}");
    assert_eq!(erp.page(None).await.unwrap().ids.len(), 21);
    assert_eq!(server.logins(), 3);
    let address = server.address().to_string();
    drop(server);
    assert!(erp.page(None).await.unwrap_err().is_transient());
    let error = erp.page(None).await.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    let _server = start_at(&address, &shop).await;
    assert_eq!(erp.page(None).await.unwrap().ids.len(), 21);
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_leaves_no_answer_behind() {
    let shop = demo();
    let server = start(&shop).await;
    let mut erp = SqlServer::new(settings(&server));
    erp.page(None).await.unwrap();
    shop.fail(Fault::Stall(Duration::from_secs(60)));
    assert!(timeout(Duration::from_millis(100), erp.page(None)).await.is_err());
    let page = timeout(Duration::from_secs(5), erp.page(Some(20))).await.unwrap().unwrap();
    assert_eq!((page.ids, erp.connections()), (vec![21], 2));
}

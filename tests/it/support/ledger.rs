//! An auditor of our own: reads the files with plain SQL and trusts none of the program's code.

use super::process::Blend;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// Whether `blend verify` is part of every check. Off until the command is there.
const VERIFY_COMMAND: bool = true;

/// What stands in the books.
#[derive(Debug)]
pub struct Books {
    pub sales: Vec<BookedSale>,
    /// Thousandths on stock by SKU, summed over tenants and locations.
    pub stock: HashMap<String, i64>,
    /// Sales on file in the journal.
    pub journal_sales: i64,
}

/// A sale in the ledger.
#[derive(Debug)]
pub struct BookedSale {
    pub id: String,
    pub key: Option<String>,
}

impl Books {
    /// The id of the sale under each key.
    pub fn by_key(&self) -> HashMap<&str, &str> {
        self.sales.iter().filter_map(|sale| Some((sale.key.as_deref()?, &*sale.id))).collect()
    }
}

/// Checks the books both ways: with SQL of our own and with the program's own checker.
pub async fn assert_verified(blend: &Blend) -> Books {
    let books = read(blend.data_dir()).await;
    if VERIFY_COMMAND {
        let ran = blend.command(&["verify", "--json"]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    books
}

/// Each finds rows that must not be.
const LAWS: &[(&str, &str)] = &[
    (
        "the movements of a unit sum up to its stock",
        "SELECT hex(unit_id) || ' at ' || hex(location_id) || ' is off by ' || sum(n) FROM (
             SELECT tenant_id, unit_id, location_id, delta AS n FROM ledger
             UNION ALL SELECT tenant_id, unit_id, location_id, -quantity FROM stock)
         GROUP BY tenant_id, unit_id, location_id HAVING sum(n) <> 0",
    ),
    (
        "each movement begins where the one before it ended, and none below zero",
        "SELECT 'row ' || id || ': ' || before || ' then ' || stock_before || ' to ' || stock_after FROM (
             SELECT id, stock_before, stock_after, coalesce(lag(stock_after) OVER (
                 PARTITION BY tenant_id, unit_id, location_id ORDER BY id), 0) AS before FROM ledger)
         WHERE before <> stock_before OR stock_after < 0",
    ),
    (
        "a sale moves exactly what its lines say",
        "SELECT hex(sale_id) || ' of ' || hex(unit_id) || ' is off by ' || sum(n) FROM (
             SELECT tenant_id, sale_id, unit_id, quantity AS n FROM sale_lines WHERE has_stock = 1
             UNION ALL SELECT tenant_id, sale_id, unit_id, delta FROM ledger WHERE sale_id IS NOT NULL)
         GROUP BY tenant_id, sale_id, unit_id HAVING sum(n) <> 0",
    ),
    (
        "a sale's total is the sum of its lines",
        "SELECT hex(s.id) || ': ' || s.total FROM sales s
         WHERE s.total <> (SELECT coalesce(sum(subtotal), -1) FROM sale_lines l
                           WHERE l.tenant_id = s.tenant_id AND l.sale_id = s.id)",
    ),
    (
        "every line and every movement of a sale has its sale",
        "SELECT hex(sale_id) FROM (SELECT tenant_id, sale_id FROM sale_lines
             UNION SELECT tenant_id, sale_id FROM ledger WHERE sale_id IS NOT NULL) x
         WHERE NOT EXISTS (SELECT 1 FROM sales s WHERE s.tenant_id = x.tenant_id AND s.id = x.sale_id)",
    ),
    ("a sale is there once", "SELECT hex(id) FROM sales GROUP BY id HAVING count(*) > 1"),
    (
        "a key sold once",
        "SELECT key || ': ' || count(*) FROM sales WHERE key IS NOT NULL GROUP BY tenant_id, key HAVING count(*) > 1",
    ),
    (
        "an event's number was used once",
        "SELECT sequence || ': ' || count(*) FROM sales GROUP BY tenant_id, sequence HAVING count(*) > 1",
    ),
    ("no event is missing", "SELECT sequence || ': ' || cause FROM holes"),
];

/// Opens the files read-only and checks what must always hold.
pub async fn read(data_dir: &Path) -> Books {
    let mut ledger = open(&data_dir.join("ledger.db")).await;
    // One moment for all of it, also beside a server that goes on writing.
    let mut moment = ledger.begin().await.unwrap();
    for &(law, sql) in LAWS {
        let broken = sqlx::query_scalar::<_, String>(sql).fetch_optional(&mut *moment).await.unwrap();
        assert!(broken.is_none(), "broken: {law}: {}", broken.unwrap_or_default());
    }
    let rows = sqlx::query("SELECT id, key FROM sales").fetch_all(&mut *moment).await.unwrap();
    let sale =
        |row: &sqlx::sqlite::SqliteRow| BookedSale { id: row.get::<Uuid, _>(0).to_string(), key: row.get(1) };
    let sales = rows.iter().map(sale).collect();
    let sql = "SELECT u.sku, sum(s.quantity) FROM stock s JOIN units u ON u.tenant_id = s.tenant_id AND u.id = s.unit_id
               GROUP BY u.sku";
    let rows = sqlx::query(sql).fetch_all(&mut *moment).await.unwrap();
    let stock = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    moment.rollback().await.unwrap();
    ledger.close().await.unwrap();

    let mut journal = open(&data_dir.join("journal.db")).await;
    let count = async |journal: &mut SqliteConnection, sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).fetch_one(journal).await.unwrap()
    };
    let sql = "SELECT count(*) FROM journal WHERE kind = 'sales.created'";
    let journal_sales = count(&mut journal, sql).await;
    let given_up =
        count(&mut journal, "SELECT (SELECT count(*) FROM retries) + (SELECT count(*) FROM dead_letters)");
    assert_eq!(given_up.await, 0, "no event failed or was given up");
    journal.close().await.unwrap();
    Books { sales, stock, journal_sales }
}

async fn open(file: &Path) -> SqliteConnection {
    let options =
        SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(Duration::from_secs(10));
    options.connect().await.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

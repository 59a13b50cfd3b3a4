//! An auditor of our own: reads the files with plain SQL and trusts none of the program's code.

use super::process::Blend;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

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
    let books = read(blend).await;
    let ran = blend.command(&["verify", "--json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    books
}

/// Each finds rows that must not be.
const LAWS: &[(&str, &str)] = &[
    (
        "the movements of a unit sum up to its stock",
        "SELECT hex(unit_id) || ' at ' || hex(location_id) || ' is off by ' || sum(n) FROM (
             SELECT tenant_id, unit_id, location_id, delta AS n FROM ledger
             UNION ALL SELECT tenant_id, unit_id, location_id, -quantity FROM stock) x
         GROUP BY tenant_id, unit_id, location_id HAVING sum(n) <> 0",
    ),
    (
        "each movement begins where the one before it ended, and none below zero",
        "SELECT 'row ' || id || ': ' || before || ' then ' || stock_before || ' to ' || stock_after FROM (
             SELECT id, stock_before, stock_after, coalesce(lag(stock_after) OVER (
                 PARTITION BY tenant_id, unit_id, location_id ORDER BY id), 0) AS before FROM ledger) x
         WHERE before <> stock_before OR stock_after < 0",
    ),
    (
        "a sale moves exactly what its lines say",
        "SELECT hex(sale_id) || ' of ' || hex(unit_id) || ' is off by ' || sum(n) FROM (
             SELECT tenant_id, sale_id, unit_id, quantity AS n FROM sale_lines WHERE has_stock = 1
             UNION ALL SELECT tenant_id, sale_id, unit_id, delta FROM ledger WHERE sale_id IS NOT NULL) x
         GROUP BY tenant_id, sale_id, unit_id HAVING sum(n) <> 0",
    ),
    (
        "a sale that was taken back brings back what its lines say, and no other does",
        "SELECT hex(unit_id) || ' is off by ' || sum(n) FROM (
             SELECT tenant_id, unit_id, quantity AS n FROM sale_lines l WHERE has_stock = 1 AND EXISTS
                 (SELECT 1 FROM voids v WHERE v.tenant_id = l.tenant_id AND v.sale_id = l.sale_id)
             UNION ALL SELECT tenant_id, unit_id, -delta FROM ledger WHERE kind = 'VOID') x
         GROUP BY tenant_id, unit_id HAVING sum(n) <> 0",
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

/// Opens ledger and journal read-only and checks what must always hold.
pub async fn read(blend: &Blend) -> Books {
    let (sales, stock) = match blend.setting("DATABASE_URL") {
        Some(url) => read_postgres(url).await,
        None => read_sqlite(&blend.data_dir().join("ledger.db")).await,
    };
    let journal_sales = match blend.setting("RABBITMQ_URL") {
        // What a broker has delivered it does not have any more.
        Some(_) => i64::try_from(sales.len()).unwrap(),
        None => read_journal(&blend.data_dir().join("journal.db")).await,
    };
    Books { sales, stock, journal_sales }
}

const SALES: &str = "SELECT id, key FROM sales";
const STOCK: &str = "SELECT u.sku, CAST(sum(s.quantity) AS BIGINT) FROM stock s
    JOIN units u ON u.tenant_id = s.tenant_id AND u.id = s.unit_id GROUP BY u.sku";

/// Reads everything as of one moment, also beside a server that goes on writing.
macro_rules! books {
    ($moment:expr, $adapt:expr) => {{
        for &(law, sql) in LAWS {
            let sql = sqlx::AssertSqlSafe($adapt(sql));
            let broken = sqlx::query_scalar::<_, String>(sql).fetch_optional(&mut *$moment).await.unwrap();
            assert!(broken.is_none(), "broken: {law}: {}", broken.unwrap_or_default());
        }
        let rows = sqlx::query(SALES).fetch_all(&mut *$moment).await.unwrap();
        let sales =
            rows.iter().map(|row| BookedSale { id: row.get::<Uuid, _>(0).to_string(), key: row.get(1) });
        let sales: Vec<_> = sales.collect();
        let rows = sqlx::query(STOCK).fetch_all(&mut *$moment).await.unwrap();
        let stock: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        (sales, stock)
    }};
}

async fn read_sqlite(file: &Path) -> (Vec<BookedSale>, HashMap<String, i64>) {
    let mut ledger = open(file).await;
    let mut moment = ledger.begin().await.unwrap();
    let books = books!(moment, str::to_owned);
    moment.rollback().await.unwrap();
    ledger.close().await.unwrap();
    books
}

/// As the superuser, whom row-level security does not bind.
async fn read_postgres(url: &str) -> (Vec<BookedSale>, HashMap<String, i64>) {
    let mut ledger = sqlx::PgConnection::connect(url).await.unwrap();
    let mut moment = ledger.begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *moment)
        .await
        .unwrap();
    // The same laws in the other dialect.
    let adapt = |sql: &str| {
        let sql = sql.replace("hex(", "concat(").replace("has_stock = 1", "has_stock");
        let sql = sql.replace("SELECT sequence ||", "SELECT concat(sequence) ||");
        sql.replace("|| sum(n)", "|| concat(sum(n))").replace("|| count(*)", "|| concat(count(*))")
    };
    let books = books!(moment, adapt);
    moment.rollback().await.unwrap();
    ledger.close().await.unwrap();
    books
}

async fn read_journal(file: &Path) -> i64 {
    let mut journal = open(file).await;
    let count = async |journal: &mut SqliteConnection, sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).fetch_one(journal).await.unwrap()
    };
    // A line for each event: position, checksum, kind, JSON.
    let sql = "SELECT coalesce(sum(length(text) - length(replace(text, ' sales.created {', ' sales.created'))), 0) / 2
               FROM (SELECT CAST(lines AS TEXT) AS text FROM segments)";
    let sales = count(&mut journal, sql).await;
    let given_up =
        count(&mut journal, "SELECT (SELECT count(*) FROM retries) + (SELECT count(*) FROM dead_letters)");
    assert_eq!(given_up.await, 0, "no event failed or was given up");
    journal.close().await.unwrap();
    sales
}

async fn open(file: &Path) -> SqliteConnection {
    let options =
        SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(Duration::from_secs(10));
    options.connect().await.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

//! The SQLite ledger against the contract of every ledger, and what is SQLite's own.

use super::*;
use crate::domain::idempotency::IdempotencyKey;
use crate::fixtures::Shop;
use crate::store::contract::{self, Home};
use tempfile::TempDir;

struct Files {
    dir: TempDir,
    ledger: Ledger,
}

impl Files {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("ledger.db")).await.unwrap();
        Self { dir, ledger }
    }
}

impl Home for Files {
    fn store(&self) -> Open<Box<dyn LedgerStore>> {
        self.ledger.store()
    }

    fn reader(&self) -> Arc<dyn LedgerReader> {
        self.ledger.reader()
    }
}

/// One test per function of the contract.
macro_rules! keeps_the_contract {
    ($($name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            contract::$name(&Files::new().await).await;
        }
    )+};
}

keeps_the_contract! {
    a_ledger_without_tenants_can_be_read,
    every_kind_of_event_is_read_back_as_it_was,
    later_versions_of_a_unit_replace_it,
    facts_about_an_erp_are_written_with_its_movements,
    a_batch_applied_again_changes_nothing,
    overlapping_batches_write_each_event_once,
    an_event_twice_in_one_batch_is_written_once,
    a_number_that_was_given_up_is_a_hole_until_it_is_replayed,
    what_arrives_late_only_to_be_given_up_is_kept_too,
    numbers_that_never_arrived_are_holes,
    a_batch_that_fails_leaves_nothing_and_the_store_goes_on,
    a_sale_is_read_back_exactly,
    a_sale_is_taken_back_once,
    a_key_finds_the_sale_of_its_own_tenant_only,
    key_hashes_come_in_pages,
    snapshots_come_to_the_shard_of_their_tenant,
    a_store_that_is_opened_again_knows_what_is_applied,
    readers_see_whole_batches_while_one_is_written,
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, ..Default::default() })]

    #[test]
    fn the_ledger_agrees_with_a_plain_model(batches in contract::batches()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = Files::new().await;
            let shops = contract::the_projection_agrees_with_a_plain_model(&home, batches).await;
            chains_are_whole(&home, &shops).await;
        });
    }
}

/// Every ledger row begins where the one before it ended, and the last one ends at the projection.
async fn chains_are_whole(home: &Files, shops: &[Shop]) {
    use crate::domain::ledger::{Chains, Link};
    let path = home.dir.path().join("ledger.db");
    let mut connection = sqlite::connect(&path, &sqlite::reading(&path)).await.unwrap();
    for shop in shops {
        let rows: Vec<(uuid::Uuid, uuid::Uuid, i64, i64, i64)> = sqlx::query_as(
            "SELECT unit_id, location_id, stock_before, delta, stock_after FROM ledger WHERE tenant_id = $1 ORDER BY id",
        )
        .bind(shop.id().0)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let quantity = |units| crate::domain::decimal::Quantity::from_units(units).unwrap();
        let mut chains = Chains::default();
        for (unit, location, before, delta, after) in rows {
            let link = Link { before: quantity(before), delta: quantity(delta), after: quantity(after) };
            let place = (crate::domain::ids::UnitId(unit), crate::domain::ids::LocationId(location));
            match chains.check(place, link) {
                // The model lets stock go below zero; that is the shard's law, not the ledger's.
                Ok(()) | Err(crate::domain::ledger::Break::Oversold(_)) => {}
                Err(broken) => panic!("{place:?}: {broken:?}"),
            }
        }
        let snapshot = contract::snapshot(home, shop.id()).await;
        let projected: std::collections::HashMap<_, _> = snapshot.stock.into_iter().collect();
        assert_eq!(&projected, chains.ends());
    }
}

#[tokio::test]
async fn ledger_and_sales_are_append_only() {
    let home = Files::new().await;
    let mut shop = Shop::new(1);
    let mut events = shop.opened(5);
    events.push(shop.sold(1));
    (home.store())().await.unwrap().apply(&events).await.unwrap();
    let path = home.dir.path().join("ledger.db");
    let mut connection = sqlite::connect(&path, &sqlite::durable(&path)).await.unwrap();
    for statement in [
        "UPDATE ledger SET delta = 0, stock_after = stock_before",
        "DELETE FROM ledger",
        "UPDATE sales SET total = 0",
        "DELETE FROM sales",
        "UPDATE sale_lines SET quantity = 1",
        "DELETE FROM sale_lines",
    ] {
        let refused = sqlx::query(statement).execute(&mut connection).await;
        let error = refused.expect_err(statement).to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_store_opened_while_another_ones_batch_commits_waits_for_it() {
    let home = Files::new().await;
    let mut shop = Shop::new(1);
    let events = shop.opened(5);
    // What a ledger writer that was cut short leaves behind: a transaction about to be committed.
    let path = home.dir.path().join("ledger.db");
    let mut old = sqlite::connect(&path, &sqlite::durable(&path)).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut old).await.unwrap();
    let applied = sqlx::query("INSERT INTO applied (tenant_id, sequence, last_at) VALUES ($1, 3, 0)");
    applied.bind(shop.id().0).execute(&mut old).await.unwrap();
    let (store, committed) = tokio::join!((home.store())(), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        sqlx::query("COMMIT").execute(&mut old).await
    });
    committed.unwrap();
    let applied = store.unwrap().apply(&events).await.unwrap();
    assert_eq!((applied.events, applied.duplicates), (0, 3), "it does not know what was committed");
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_refused() {
    let home = Files::new().await;
    let path = home.dir.path().join("ledger.db");
    let mut connection = sqlite::connect(&path, &sqlite::durable(&path)).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (999, 'from the future', true, x'00', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let error = Ledger::open(&path).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("was written by a newer Blend (schema 999"), "{error}");
}

#[tokio::test]
async fn a_key_is_found_in_whichever_run_it_lies_and_all_are_read_from_the_index() {
    let home = Files::new().await;
    let mut shop = Shop::new(1);
    let mut events = shop.opened(5);
    events.push(shop.sold_at(0, &[(0, 1)], Some("first")));
    (home.store())().await.unwrap().apply(&events).await.unwrap();
    // As if 100,000 events lay between the first sale and three others.
    let path = home.dir.path().join("ledger.db");
    let mut connection = sqlite::connect(&path, &sqlite::durable(&path)).await.unwrap();
    for (number, sequence) in [(1, 20_000_i64), (2, 70_000), (3, 100_000)] {
        let key = IdempotencyKey::parse(&format!("later {number}").replace(' ', "-")).unwrap();
        sqlx::query(
            "INSERT INTO sales (tenant_id, id, location_id, sequence, at, total, payment, created_by, request_id, key_hash, key)
             SELECT tenant_id, $1, location_id, $2, at, total, payment, created_by, request_id, $3, $4 FROM sales LIMIT 1",
        )
        .bind(uuid::Uuid::from_u128(number))
        .bind(sequence)
        .bind(key.hash(shop.id()).indexed())
        .bind(key.as_str())
        .execute(&mut connection)
        .await
        .unwrap();
    }
    sqlx::query("UPDATE applied SET sequence = 100000").execute(&mut connection).await.unwrap();
    let reader = home.reader();
    for key in ["first", "later-1", "later-2", "later-3"] {
        let indexed = IdempotencyKey::parse(key).unwrap().hash(shop.id()).indexed();
        assert!(reader.sale_by_key(shop.id(), indexed, key).await.unwrap().is_some(), "{key}");
    }
    let (mut hashes, mut after) = (0, None);
    loop {
        let page = reader.key_hashes(after, 3).await.unwrap();
        hashes += page.hashes.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(hashes, 4);
    // A start reads a million of them: from the index alone, and each page from where the last one ended.
    for (sql, needed) in [
        (super::read::KEYS, "COVERING INDEX sales_key (<expr>"),
        (super::read::BY_KEY, "INDEX sales_key (<expr>=? AND key_hash=?"),
    ] {
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let steps: Vec<&str> =
            plan.iter().map(|step| step.3.as_str()).filter(|step| step.contains("sales")).collect();
        assert!(steps.iter().all(|step| step.starts_with("SEARCH")), "{steps:?}");
        assert!(steps.iter().all(|step| step.contains(needed)) || sql == super::read::BY_KEY, "{steps:?}");
        assert!(steps.iter().any(|step| step.contains(needed)), "{steps:?}");
    }
}

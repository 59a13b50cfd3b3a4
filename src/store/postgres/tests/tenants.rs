//! Row-level security: what forgets its tenant sees nothing and writes nothing.

use super::*;
use crate::domain::erp::{Entry, ErpChange};
use crate::domain::event::Body;
use crate::domain::hook::News;
use crate::domain::ids::{TenantId, UnitId};
use crate::domain::time::Timestamp;
use crate::fixtures::{Shop, sale_of};
use crate::ports::channel::{ChannelStore as _, Failure, GivenUp, Mapping, Notice, OrderRecord, Settled};
use crate::ports::hooks::HookStore as _;
use crate::store::channels_contract::{connect, connection, sealed};
use crate::store::contract;
use crate::store::hooks_contract::{hook, message, subscribe};
use sqlx::Row as _;
use uuid::Uuid;

/// Two shops with a row in every table.
async fn two_shops(home: &Database) -> [Shop; 2] {
    let mut store = (home.store())().await.unwrap();
    let mut shops = [Shop::new(1), Shop::new(1)];
    for shop in &mut shops {
        let mut events = shop.opened(100);
        events.push(shop.sold_at(0, &[(0, 1)], Some("k")));
        let sale = sale_of(&events[3]).clone();
        events.push(shop.voided(&sale));
        let known = Entry::Branch { name: "NORTE".into(), location: shop.here() };
        events.push(shop.event(Body::ErpFollowed(Arc::new(ErpChange {
            source: "lince".into(),
            reference: "LEGACY_1".into(),
            movements: Vec::new(),
            entries: vec![known],
        }))));
        store.apply(&events).await.unwrap();
        shop.sold(1);
        store.give_up(&shop.sold(1), "given up").await.unwrap();
        connected(home, shop.id()).await;
    }
    shops
}

/// What there is of a marketplace and a webhook.
async fn connected(home: &Database, tenant: TenantId) {
    let channels = home.ledger.channels();
    let (one, at) = (connection(tenant, &tenant.to_string()), Timestamp::from_micros(1));
    let (id, unit) = (one.id, UnitId(Uuid::now_v7()));
    connect(&channels, &one, &sealed(1)).await;
    channels.map(tenant, id, &[Mapping { unit, item: "i".into(), shown: None }]).await.unwrap();
    let (code, cause) = ("c".to_owned(), "c".to_owned());
    let (request, response) = (String::new(), String::new());
    let failure = Failure { unit, code, cause, request, response, attempts: 1, at };
    channels.fail(tenant, id, &[failure]).await.unwrap();
    let notice = Notice { id: "n".into(), topic: "t".into(), body: vec![1], at };
    channels.receive(tenant, id, &notice).await.unwrap();
    let order = OrderRecord {
        id: "o".into(),
        name: "o".into(),
        sale: None,
        state: "sin_stock".into(),
        remark: String::new(),
        version: at,
        at,
    };
    let given_up = GivenUp {
        notice: "n".into(),
        topic: "t".into(),
        order: Some("o".into()),
        code: "c".into(),
        cause: "c".into(),
        response: String::new(),
        at,
    };
    let (order, given_up, told) = (Some(order), Some(given_up), Vec::new());
    channels.done(tenant, id, &Settled { notice: "n".into(), order, given_up, told }).await.unwrap();
    subscribe(&channels, &hook(tenant, &[News::DeadLetters])).await;
    assert!(channels.raise("depth", &message(tenant, News::DeadLetters, "m")).await.unwrap());
    // Not closed: the claims stay.
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

async fn enter(connection: &mut PgConnection, tenant: &str) {
    let set = sqlx::query("SELECT set_config('blend.tenant', $1, false)").bind(tenant.to_owned());
    set.execute(connection).await.unwrap();
}

/// D32 and D41: neither a query nor an insert that forgets its tenant does anything.
#[tokio::test]
async fn d32_d41_who_names_no_tenant_sees_and_writes_nothing() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let shops = two_shops(&home).await;
    let mut owner = home.connect().await;
    let mut blend = home.connect_as_blend().await;
    let role: String = sqlx::query_scalar("SELECT current_user::text").fetch_one(&mut blend).await.unwrap();
    assert_eq!(role, "blend_app");
    for (table, column) in tenant_tables(&mut owner).await {
        assert!(count(&mut owner, &table).await >= 2, "nothing to hide in {table}");
        let (own, other) = (shops[0].id().to_string(), shops[1].id().to_string());
        // A tenant that was named for a transaction that is over is '', another one does not exist.
        for tenant in ["", &Uuid::now_v7().to_string()] {
            enter(&mut blend, tenant).await;
            assert_eq!(count(&mut blend, &table).await, 0, "{table}");
        }
        enter(&mut blend, &own).await;
        let of_others = AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE {column} <> '{own}'"));
        let of_others: i64 = sqlx::query_scalar(of_others).fetch_one(&mut blend).await.unwrap();
        assert!(count(&mut blend, &table).await > 0 && of_others == 0, "{table}");
        // The row is whole: only whose it is keeps it out.
        sqlx::raw_sql(AssertSqlSafe(format!(
            "DROP TABLE IF EXISTS theirs; CREATE TABLE theirs AS SELECT * FROM {table} WHERE {column} = '{other}' LIMIT 1;
             GRANT SELECT ON theirs TO blend_app"
        )))
        .execute(&mut owner)
        .await
        .unwrap();
        for tenant in ["", &own] {
            enter(&mut blend, tenant).await;
            let insert = AssertSqlSafe(format!("INSERT INTO {table} SELECT * FROM theirs"));
            let refused = sqlx::raw_sql(insert).execute(&mut blend).await.expect_err(&table).to_string();
            assert!(refused.contains("row-level security"), "{table} as {tenant:?}: {refused}");
        }
        enter(&mut blend, &own).await;
        for change in ["UPDATE {} SET {c} = {c} WHERE {c} = '{o}'", "DELETE FROM {} WHERE {c} = '{o}'"] {
            let change = change.replace("{}", &table).replace("{c}", &column).replace("{o}", &other);
            match sqlx::raw_sql(AssertSqlSafe(change.clone())).execute(&mut blend).await {
                Ok(done) => assert_eq!(done.rows_affected(), 0, "{change}"),
                Err(refused) => {
                    assert!(refused.to_string().contains("permission denied"), "{change}: {refused}")
                }
            }
        }
    }
}

/// Switched on, forced, and with a policy; in the catalogue, so that a new table cannot be forgotten.
#[tokio::test]
async fn every_tenant_table_is_under_forced_row_level_security() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    two_shops(&home).await;
    let mut owner = home.connect().await;
    for (table, _) in tenant_tables(&mut owner).await {
        let sql = "SELECT relrowsecurity, relforcerowsecurity,
                       (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid AND polname = 'own_tenant')
                   FROM pg_class c WHERE oid = $1::text::regclass";
        let row = sqlx::query(sql).bind(&table).fetch_one(&mut owner).await.unwrap();
        let found: (bool, bool, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(found, (true, true, 1), "{table}");
    }
    // Only these look across tenants, each with a search path of its own, and only Blend may call them.
    let sql = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
               AND proconfig @> ARRAY['search_path=pg_catalog, pg_temp'] AND NOT has_function_privilege('nobody', oid, 'EXECUTE')
               AND has_function_privilege('blend_app', oid, 'EXECUTE') ORDER BY 1";
    sqlx::raw_sql("CREATE ROLE nobody").execute(&mut owner).await.unwrap();
    let across: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut owner).await.unwrap();
    let known = [
        "all_connections",
        "all_failures",
        "all_given_up",
        "all_hooks",
        "all_refused_messages",
        "all_tenants",
        "connections_with_news",
        "count_channel_letters",
        "count_hook_letters",
        "page_of_key_hashes",
        "tenants_given_up",
        "tenants_with_rows",
    ];
    assert_eq!(across, known);
    let definers = "SELECT count(*) FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace";
    assert_eq!(sqlx::query_scalar::<_, i64>(definers).fetch_one(&mut owner).await.unwrap(), 12);
    let mut blend = home.connect_as_blend().await;
    sqlx::raw_sql("SET blend.across = 'on'").execute(&mut blend).await.unwrap();
    assert_eq!(count(&mut blend, "all_tenants()").await, 2);
    for (table, _) in tenant_tables(&mut owner).await {
        assert_eq!(count(&mut blend, &table).await, 0, "Blend looks across tenants in {table}");
    }
}

/// An owner that is no superuser is under the policies too; the functions work for it all the same.
#[tokio::test]
async fn an_owner_without_privileges_is_enough() {
    let cluster = Cluster::start().await;
    let made = "CREATE ROLE shopkeeper LOGIN CREATEROLE; CREATE DATABASE shop; CREATE DATABASE second";
    cluster.run("postgres", made).await;
    // In the schema of all, and in one that is called as the owner is, which "$user" in the search path means.
    let schemas = [
        ("shop", "GRANT CREATE ON SCHEMA public TO shopkeeper"),
        ("second", "CREATE SCHEMA shopkeeper AUTHORIZATION shopkeeper"),
    ];
    for (database, schema) in schemas {
        cluster.run(database, schema).await;
        let url = cluster.server.url_of("shopkeeper", database);
        let home = Database { ledger: Ledger::open(&settings(url.clone())).await.unwrap(), url };
        let shops = two_shops(&home).await;
        assert_eq!(home.reader().snapshots(0, 1).await.unwrap().len(), 2);
        assert_eq!(home.reader().key_hashes(None, 10).await.unwrap().hashes.len(), 2);
        assert_eq!(contract::snapshot(&home, shops[0].id()).await.sequence, 8);
        let channels = home.ledger.channels();
        assert_eq!(
            (channels.connections().await.unwrap().len(), channels.letters(9).await.unwrap().len()),
            (2, 4)
        );
        let mut owner = home.connect().await;
        assert_eq!(count(&mut owner, "sales").await, 0, "the owner forgot its tenant and sees sales");
        sqlx::raw_sql("SET blend.across = 'on'").execute(&mut owner).await.unwrap();
        assert_eq!(count(&mut owner, "sales").await, 2);
        home.ledger.close().await;
    }
}

//! The schema: what it refuses, that it is SQLite's twin, and how it gets there.

use super::*;
use crate::fixtures::Shop;
use crate::sqlite;
use crate::store::sqlite::MIGRATIONS as SQLITE_MIGRATIONS;
use crate::store::sqlite::channels::MIGRATIONS as CHANNELS_MIGRATIONS;
use sqlx::Row as _;
use std::collections::BTreeMap;

/// What differs between the twins, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("alarms primary key (tenant_id, name)", ALARMS),
    ("alarms.tenant_id uuid not null", ALARMS),
    (
        "hook_messages primary key (tenant_id, hook_id, position)",
        "a key begins with the tenant; SQLite's position is its rowid",
    ),
    (
        "ledger primary key (tenant_id, id)",
        "a key that includes the tenant can be partitioned by it; SQLite has one file",
    ),
    (
        "units.attributes jsonb not null",
        "PostgreSQL indexes what is inside; nothing of the engine reads it yet",
    ),
];

const ALARMS: &str = "under row-level security every row is somebody's";

/// Only several processes have to agree about who does what; SQLite's file has one.
const LEASES: &str = "leases";

/// Columns as `table.column type nullability`, and primary keys in their order.
type Schema = Vec<String>;

async fn of_postgres(connection: &mut PgConnection) -> Schema {
    let sql = "SELECT table_name || '.' || column_name || ' ' || data_type ||
                   CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END
               FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'
               UNION ALL SELECT c.conrelid::regclass || ' primary key (' || (SELECT string_agg(a.attname, ', ' ORDER BY k.place)
                   FROM unnest(c.conkey) WITH ORDINALITY k (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum) || ')'
               FROM pg_constraint c WHERE c.contype = 'p' AND c.connamespace = 'public'::regnamespace
                   AND c.conrelid <> '_sqlx_migrations'::regclass";
    let mut schema: Schema = sqlx::query_scalar(sql).fetch_all(connection).await.unwrap();
    schema.sort();
    schema
}

/// In PostgreSQL's words: what is in one file, of two, there.
async fn of_sqlite(steps: &'static Steps) -> Schema {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some.db");
    let mut connection = sqlite::connect(&path, &sqlite::durable(&path)).await.unwrap();
    sqlite::migrate(&mut connection, &path, steps).await.unwrap();
    let sql = "SELECT t.name, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_schema t JOIN pragma_table_info(t.name) c
               WHERE t.type = 'table' AND t.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
               ORDER BY t.name, c.pk";
    let mut schema = Vec::new();
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sqlx::query(sql).fetch_all(&mut connection).await.unwrap() {
        let (table, column, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        let (not_null, place): (bool, i64) = (row.get(3), row.get(4));
        if place > 0 {
            keys.entry(table.clone()).or_default().push(column.clone());
        }
        let flag = ["active", "is_default", "has_stock", "paused"].contains(&column.as_str());
        let bytes = ["fingerprint", "credentials", "secret", "body"].contains(&column.as_str());
        let kind = match kind.as_str() {
            "BLOB" if bytes => "bytea",
            "BLOB" => "uuid",
            "INTEGER" if flag => "boolean",
            "INTEGER" => "bigint",
            "TEXT" => "text",
            other => panic!("{table}.{column} is a {other}"),
        };
        // A column that stands for the rowid is never null, whatever the pragma says.
        let nullability = if not_null || place > 0 { " not null" } else { "" };
        schema.push(format!("{table}.{column} {kind}{nullability}"));
    }
    schema
        .extend(keys.iter().map(|(table, columns)| format!("{table} primary key ({})", columns.join(", "))));
    schema.sort();
    schema
}

/// D16: a worker and a database that disagree about columns; so do two databases that one worker writes.
#[tokio::test]
async fn d16_the_twins_have_the_same_tables_and_columns() {
    let cluster = Cluster::start().await;
    let mut ours = of_postgres(&mut cluster.connect("migrated").await).await;
    ours.retain(|item| item.split(['.', ' ']).next() != Some(LEASES));
    let mut theirs = of_sqlite(SQLITE_MIGRATIONS).await;
    assert!(theirs.len() > 60, "{theirs:?}");
    theirs.extend(of_sqlite(CHANNELS_MIGRATIONS).await);
    assert!(theirs.len() > 140, "{theirs:?}");
    let only = |these: &Schema, those: &Schema| -> Schema {
        these.iter().filter(|item| !those.contains(item)).cloned().collect()
    };
    let listed: Schema = DIFFERENCES.iter().map(|(item, _)| (*item).to_owned()).collect();
    assert_eq!(only(&ours, &theirs), listed, "only in PostgreSQL");
    let keys =
        ["ledger primary key (id)", "alarms primary key (name)", "hook_messages primary key (position)"];
    assert_eq!(only(&theirs, &ours), keys, "only in SQLite");
}

#[tokio::test]
async fn references_are_indexed_and_history_is_append_only() {
    let cluster = Cluster::start().await;
    let home = cluster.home().await;
    let mut owner = home.connect().await;
    let sql = "SELECT conrelid::regclass || ' ' || conkey::text FROM pg_constraint f WHERE contype = 'f' AND NOT EXISTS
                   (SELECT FROM pg_index i WHERE i.indrelid = f.conrelid AND i.indpred IS NULL
                    AND (i.indkey::int2[])[0:cardinality(f.conkey) - 1] @> f.conkey
                    AND (i.indkey::int2[])[0:cardinality(f.conkey) - 1] <@ f.conkey)";
    let bare: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut owner).await.unwrap();
    assert_eq!(bare, Vec::<String>::new(), "references without an index");
    let all = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    assert!(sqlx::query_scalar::<_, i64>(all).fetch_one(&mut owner).await.unwrap() >= 5);
    // The ledger could be partitioned as it is: every unique key includes the tenant.
    let parts =
        "CREATE TABLE parts (LIKE ledger INCLUDING ALL) PARTITION BY HASH (tenant_id); DROP TABLE parts";
    sqlx::raw_sql(parts).execute(&mut owner).await.unwrap();
    let mut shop = Shop::new(1);
    let mut events = shop.opened(5);
    events.push(shop.sold(1));
    (home.store())().await.unwrap().apply(&events).await.unwrap();
    let mut blend = home.connect_as_blend().await;
    for statement in [
        "UPDATE ledger SET delta = 0, stock_after = stock_before",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
        "UPDATE sales SET total = 0",
        "DELETE FROM sales",
        "TRUNCATE sales CASCADE",
        "UPDATE sale_lines SET quantity = 1",
        "DELETE FROM sale_lines",
        "TRUNCATE sale_lines",
    ] {
        let refused = sqlx::raw_sql(statement).execute(&mut owner).await;
        let error = refused.expect_err(statement).to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
        let refused = sqlx::raw_sql(statement).execute(&mut blend).await;
        let error = refused.expect_err(statement).to_string();
        assert!(error.contains("permission denied"), "{statement}: {error}");
    }
    // D29 and D31: the same sale cannot be written twice, whoever tries.
    let again = "INSERT INTO sales SELECT * FROM sales";
    let refused = sqlx::raw_sql(again).execute(&mut owner).await.expect_err(again).to_string();
    assert!(refused.contains("sales_pkey"), "{refused}");
}

#[tokio::test]
async fn migrators_do_not_mind_each_other() {
    let server = Postgres::start().await;
    let mut connection = connect_to(&server.url("postgres")).await;
    for database in ["one", "two"] {
        let create = AssertSqlSafe(format!("CREATE DATABASE {database}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
    }
    // In one database and, since roles belong to all, in two.
    let urls = ["one", "two", "one", "two", "one"].map(|database| server.url(database));
    let opened = futures_util::future::join_all(
        urls.iter().map(async |url| Ledger::open(&settings(url.clone())).await.map(|_| ())),
    );
    for result in opened.await {
        result.unwrap();
    }
    let mut connection = connect_to(&urls[0]).await;
    let steps = "SELECT count(*) FROM _sqlx_migrations";
    let steps: i64 = sqlx::query_scalar(steps).fetch_one(&mut connection).await.unwrap();
    assert_eq!(usize::try_from(steps).unwrap(), MIGRATIONS.len());
}

#[tokio::test]
async fn what_keeps_a_ledger_from_opening_is_said() {
    let cluster = Cluster::start().await;
    let refused = async |url: String| {
        let error = Ledger::open(&settings(url)).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, PortError::Permanent(_)), "{error:?}");
        assert!(!error.to_string().contains("secreto"), "{error}");
        error.to_string()
    };
    let url = cluster.database().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (999, 'from the future', true, '\\x00', 0)";
    sqlx::raw_sql(newer).execute(&mut connect_to(&url).await).await.unwrap();
    let error = refused(url).await;
    assert!(error.contains("was written by a newer Blend (schema 999"), "{error}");

    let url = cluster.database().await;
    let changed = "UPDATE _sqlx_migrations SET checksum = '\\x00'";
    sqlx::raw_sql(changed).execute(&mut connect_to(&url).await).await.unwrap();
    let error = refused(url).await;
    assert!(error.contains("migration 1 is not the one that was applied"), "{error}");

    let error = refused(cluster.server.url("nowhere")).await;
    assert!(error.contains("\"nowhere\" does not exist"), "{error}");
    let error = refused("postgres://postgres:secreto@127.0.0.1:port/ledger".into()).await;
    assert!(error.contains("cannot be read"), "{error}");

    cluster.run("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'").await;
    let error = refused(cluster.server.url("latin")).await;
    assert!(error.contains("encoding is LATIN1"), "{error}");

    // A user without rights: told what to ask for; with the role granted it needs no others.
    cluster.run("postgres", "CREATE ROLE clerk LOGIN; CREATE DATABASE empty").await;
    let error = refused(cluster.server.url_of("clerk", "empty")).await;
    assert!(error.contains("Migrate once with the url of the tables' owner"), "{error}");
    let error = refused(cluster.server.url_of("clerk", "migrated")).await;
    assert!(error.contains("GRANT blend_app TO the user"), "{error}");
    cluster.run("postgres", "GRANT blend_app TO clerk").await;
    let ledger = Ledger::open(&settings(cluster.server.url_of("clerk", "migrated"))).await.unwrap();
    assert!(ledger.reader().snapshots(0, 1).await.unwrap().is_empty());
    let settings = settings(cluster.server.url("migrated"));
    assert!(!format!("{settings:?}").contains("secreto"));
}

#[tokio::test]
async fn tls_is_spoken_when_the_url_asks_for_it() {
    let cluster = Cluster::start().await;
    let url = |mode: &str| cluster.server.url("migrated").replace("sslmode=disable", mode);
    let refused = Ledger::open(&settings(url("sslmode=require"))).await.map(|_| ()).unwrap_err();
    assert!(!refused.is_transient(), "a server without TLS: {refused:?}");
    // The server makes its own certificate.
    cluster
        .run(
            "postgres",
            "COPY (SELECT 1) TO PROGRAM 'openssl req -new -x509 -days 2 -nodes -newkey ec \
             -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=blend -addext subjectAltName=IP:127.0.0.1 \
             -addext basicConstraints=critical,CA:FALSE -out server.crt -keyout server.key';
             ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()",
        )
        .await;
    let data: String = sqlx::query_scalar("SHOW data_directory")
        .fetch_one(&mut cluster.connect("postgres").await)
        .await
        .unwrap();
    let root = format!("sslmode=verify-full&sslrootcert={data}/server.crt");
    let are_on = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                  WHERE application_name = 'blend'";
    // Sessions that begin after the reload speak it; it may take a moment.
    let ledger = loop {
        match Ledger::open(&settings(url(&root))).await {
            Ok(ledger) => break ledger,
            Err(error) => assert!(error.to_string().contains("not support TLS"), "{error}"),
        }
    };
    let _held = ledger.store()().await.unwrap();
    assert!(ledger.reader().snapshots(0, 1).await.unwrap().is_empty());
    let mut admin = cluster.connect("postgres").await;
    let are_on: Option<bool> = sqlx::query_scalar(are_on).fetch_one(&mut admin).await.unwrap();
    assert_eq!(are_on, Some(true));
    // A certificate that nobody vouches for is refused.
    let refused = Ledger::open(&settings(url("sslmode=verify-full"))).await.map(|_| ()).unwrap_err();
    assert!(!refused.is_transient() && refused.to_string().contains("ertificate"), "{refused:?}");
}

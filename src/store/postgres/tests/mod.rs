//! The PostgreSQL ledger against the contract of every ledger, and what is PostgreSQL's own, on private servers.

mod batches;
mod channels;
mod checking;
mod contract;
mod crowds;
mod outages;
mod schema;
mod tenants;

use super::*;
use crate::servers::postgres::Postgres;
use crate::store::contract::Home;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server whose databases are copies of one that was migrated.
struct Cluster {
    server: Postgres,
    databases: AtomicUsize,
}

impl Cluster {
    async fn start() -> Self {
        let server = Postgres::start().await;
        let cluster = Self { server, databases: AtomicUsize::new(0) };
        cluster.run("postgres", "CREATE DATABASE migrated").await;
        migrate(&settings(cluster.server.url("migrated"))).await.unwrap();
        cluster
    }

    /// Runs statements as the superuser, each on its own: a database cannot be created among others.
    async fn run(&self, database: &str, sql: &str) {
        let mut connection = self.connect(database).await;
        for statement in sql.split(';') {
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
                .execute(&mut connection)
                .await
                .expect(statement);
        }
        sqlx::Connection::close(connection).await.unwrap();
    }

    async fn connect(&self, database: &str) -> PgConnection {
        connect_to(&self.server.url(database)).await
    }

    /// The url of a new and empty ledger.
    async fn database(&self) -> String {
        let name = format!("ledger_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name} TEMPLATE migrated")).await;
        self.server.url(&name)
    }

    async fn home(&self) -> Database {
        let url = self.database().await;
        let ledger = Ledger::open(&settings(url.clone())).await.unwrap();
        Database { url, ledger }
    }
}

/// An empty ledger in a database of its own.
struct Database {
    url: String,
    ledger: Ledger,
}

impl Database {
    /// As the superuser, whom row-level security does not hold for.
    async fn connect(&self) -> PgConnection {
        connect_to(&self.url).await
    }

    /// As Blend does.
    async fn connect_as_blend(&self) -> PgConnection {
        self.ledger.server.connect(connect::READING).await.unwrap()
    }
}

impl Home for Database {
    fn store(&self) -> Open<Box<dyn LedgerStore>> {
        self.ledger.store()
    }

    fn reader(&self) -> Arc<dyn LedgerReader> {
        self.ledger.reader()
    }
}

fn settings(url: String) -> PostgresSettings {
    PostgresSettings { url, max_connections: 2, timeout: Duration::from_secs(10) }
}

async fn connect_to(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

/// Every table that row-level security must hold for, with the column that says whose a row is.
async fn tenant_tables(connection: &mut PgConnection) -> Vec<(String, String)> {
    let sql = "SELECT c.relname::text, CASE c.relname WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END
               FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
               AND c.relname <> '_sqlx_migrations' ORDER BY 1";
    let tables: Vec<(String, String)> = sqlx::query_as(sql).fetch_all(connection).await.unwrap();
    assert!(tables.len() >= 9, "{tables:?}");
    tables
}

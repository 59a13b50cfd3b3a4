//! Connections: how they are made, what each is told first, and the schema they meet.

use super::error::{error_of, port_error, start_error_of, within};
use super::{MIGRATIONS, PostgresSettings};
use crate::domain::ids::TenantId;
use crate::migrations;
use crate::ports::PortError;
use futures_util::FutureExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use std::time::Duration;

/// The oldest server version that is known to work, as `server_version_num` says it.
const OLDEST: u32 = 130_000;

/// A statement and everything around it, such as waiting for a lock before it, in units of the time limit of one.
const STATEMENTS: u32 = 8;

/// Statements kept prepared by a connection; more than there are.
const PREPARED: usize = 64;

/// For what reads one thing or another: each query is planned anew. The server would keep a plan that was made when the
/// tables were nearly empty, and any index seemed as good as another, until somebody's ANALYZE.
pub const READING: &str = "SET plan_cache_mode = force_custom_plan";

/// For the writer, which keeps its plans since there are few rows in most batches: whatever the tables' size was, it
/// looks up what it needs row by row through an index.
pub const WRITING: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";

/// For the checker of the laws: it waits for other files between its statements, and a stream lasts as long as its rows.
pub const CHECKING: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// A database server, as the settings say.
#[derive(Clone)]
pub struct Server {
    options: PgConnectOptions,
    timeout: Duration,
    /// For messages: host, port and database, without user and password.
    pub place: String,
}

impl Server {
    pub fn new(settings: &PostgresSettings) -> Result<Self, PortError> {
        let options: PgConnectOptions = settings.url.parse().map_err(|error| {
            PortError::Permanent(format!("the url of the PostgreSQL database cannot be read: {error}"))
        })?;
        let options =
            options.application_name("blend").statement_cache_capacity(PREPARED).disable_statement_logging();
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let place = format!("postgres://{}:{}/{database}", options.get_host(), options.get_port());
        Ok(Self { options, timeout: settings.timeout, place })
    }

    /// The longest that a transaction of a few statements may take.
    pub fn limit(&self) -> Duration {
        self.timeout * STATEMENTS
    }

    /// Connects as the role that row-level security holds for, to work in one of the manners below.
    pub async fn connect(&self, manner: &'static str) -> Result<PgConnection, PortError> {
        let connecting = async {
            let mut connection = self.connect_as_user().await?;
            let prepared = prepare(&mut connection, self.timeout, manner).await;
            prepared.map_err(|error| self.named(start_error_of(&error)))?;
            Ok(connection)
        };
        within(self.timeout, "connecting", connecting).await
    }

    async fn connect_as_user(&self) -> Result<PgConnection, PortError> {
        self.options.connect().await.map_err(|error| self.named(start_error_of(&error)))
    }

    /// A pool of such connections for [`READING`]. None is made before it is needed.
    pub fn pool(&self, max_connections: u32) -> PgPool {
        let timeout = self.timeout;
        PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(timeout)
            .after_connect(move |connection, _| prepare(connection, timeout, READING).boxed())
            .connect_lazy_with(self.options.clone())
    }

    /// Brings the schema up to date, unless it is.
    pub async fn migrate(&self) -> Result<(), PortError> {
        let mut connection = within(self.timeout, "connecting", self.connect_as_user()).await?;
        within(self.limit(), "looking at the server", self.check_server(&mut connection)).await?;
        let looked =
            within(self.limit(), "reading the schema's version", self.is_up_to_date(&mut connection));
        if !looked.await? {
            let migrated = migrations::migrator(MIGRATIONS).run(&mut connection).await;
            migrated.map_err(|error| migrations::refusal(error, &self.place, MIGRATIONS, start_error_of))?;
        }
        sqlx::Connection::close(connection).await.map_err(port_error)
    }

    /// Refuses a server that would only fail later.
    async fn check_server(&self, connection: &mut PgConnection) -> Result<(), PortError> {
        let refuse = |why| Err(PortError::Permanent(format!("{}: {why}", self.place)));
        let version = connection.server_version_num().unwrap_or(OLDEST);
        if version < OLDEST {
            let (found, oldest) = (version / 10_000, OLDEST / 10_000);
            return refuse(format!("PostgreSQL {found} is too old, it must be {oldest} or newer"));
        }
        let encoding = sqlx::query_scalar::<_, String>("SHOW server_encoding").fetch_one(connection).await;
        let encoding = encoding.map_err(|error| self.named(start_error_of(&error)))?;
        if encoding == "UTF8" {
            return Ok(());
        }
        refuse(format!(
            "the database's encoding is {encoding}, which cannot hold every name: create one with ENCODING 'UTF8'"
        ))
    }

    /// Whether there is nothing to migrate: then it takes no more rights than selling does.
    async fn is_up_to_date(&self, connection: &mut PgConnection) -> Result<bool, PortError> {
        let failed = |error: sqlx::Error| self.named(start_error_of(&error));
        let known = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        if !sqlx::query_scalar::<_, bool>(known).fetch_one(&mut *connection).await.map_err(failed)? {
            return Ok(false);
        }
        let found = "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";
        let found: Vec<(i64, Vec<u8>)> = sqlx::query_as(found).fetch_all(connection).await.map_err(failed)?;
        let migrator = migrations::migrator(MIGRATIONS);
        match found.last() {
            Some((version, _)) if *version > migrations::newest(MIGRATIONS) => {
                Err(migrations::newer(&self.place, *version, MIGRATIONS))
            }
            _ => Ok(found.len() == MIGRATIONS.len()
                && found.iter().zip(migrator.iter()).all(|((version, checksum), step)| {
                    (*version, checksum.as_slice()) == (step.version, &*step.checksum)
                })),
        }
    }

    fn named(&self, error: PortError) -> PortError {
        match error {
            PortError::Transient(why) => PortError::Transient(format!("{}: {why}", self.place)),
            PortError::Permanent(why) => PortError::Permanent(format!("{}: {why}", self.place)),
        }
    }
}

/// What a connection is told before anything else.
///
/// - The search path is settled while the url's user is asked: `"$user"` in it would mean another schema to `blend_app`.
/// - A transaction that says nothing for long is ended by the server: a frozen process must not keep a tenant locked.
/// - What is committed must be on the disk, since the event that it came from is confirmed and trimmed then.
async fn prepare(connection: &mut PgConnection, timeout: Duration, manner: &str) -> Result<(), sqlx::Error> {
    let millis = timeout.as_millis().max(1);
    let sql = format!(
        "SELECT set_config('search_path', quote_ident(current_schema()), false);
         SET ROLE blend_app;
         SET statement_timeout = {millis};
         SET idle_in_transaction_session_timeout = {millis};
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
         {manner}"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}

/// Names the tenant of a transaction. Without it row-level security shows nothing and takes nothing.
pub async fn enter(transaction: &mut PgConnection, tenant: TenantId) -> Result<(), PortError> {
    let sql = "SELECT set_config('blend.tenant', $1, true)";
    let set = sqlx::query(sql).bind(tenant.to_string()).execute(transaction).await;
    set.map(|_| ()).map_err(port_error)
}

/// The ids that one of the functions across tenants tells.
pub async fn tenants(connection: &mut PgConnection, sql: &'static str) -> Result<Vec<TenantId>, PortError> {
    let rows = sqlx::query(sql).fetch_all(connection).await.map_err(port_error)?;
    rows.iter().map(|row| row.try_get(0).map(TenantId).map_err(|error| error_of(&error))).collect()
}

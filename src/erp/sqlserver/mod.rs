//! SQL Server by tiberius: one connection, read-only, no lock taken, no statement without a time limit.
//!
//! A connection that failed in any way but by an error of the server is not used again: what it still has on its way
//! would be taken for the answer to the next statement.

mod read;
mod sql;
#[cfg(test)]
mod tests;

use crate::domain::erp::{Cursor, Stamp};
use crate::ports::PortError;
use crate::ports::erp::{Answer, Changes, ErpSource, Head, Page, Probe, Strategy, Within};
use futures_util::FutureExt;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tiberius::{AuthMethod, Client, Config, EncryptionLevel, Row, ToSql};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

/// Tries of a statement that another session's locks or page splits got in the way of.
const TRIES: u32 = 3;

/// Longer than the driver's own limit by this, and the connection is given up.
const GRACE: Duration = Duration::from_secs(5);

/// How much of the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Everything, or there is no connection.
    Required,
    /// The login only.
    Login,
    /// Nothing: for servers that know no TLS of today, on a link that is private.
    Off,
}

/// How rows are read beside writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Without locks: what is not committed may be seen, and is looked at again.
    Nolock,
    /// As of one moment; the database must allow it.
    Snapshot,
}

/// How a server is reached.
#[derive(Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: String,
    pub encryption: Encryption,
    /// Certificates of the authorities to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Whether any certificate will do.
    pub trust_any_certificate: bool,
    pub isolation: Isolation,
    /// How changes are found; `None` finds out.
    pub strategy: Option<Strategy>,
    /// From the first packet to the end of the login, each.
    pub connect_timeout: Duration,
    /// One statement.
    pub command_timeout: Duration,
    /// How far changes are read again: longer than the ERP's longest transaction.
    pub overlap: Duration,
    /// Rows of one page.
    pub page: usize,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, database, user, .. } = self;
        write!(f, "sqlserver://{user}:***@{host}:{port}/{database}")
    }
}

/// The reading end.
pub struct SqlServer {
    settings: Settings,
    client: Option<Client<Compat<TcpStream>>>,
    /// The rowversion columns of balances and products, once the server was asked.
    plan: Option<sql::Plan>,
    connections: u64,
}

impl SqlServer {
    /// Not yet connected.
    pub fn new(settings: Settings) -> Self {
        Self { settings, client: None, plan: None, connections: 0 }
    }

    async fn connect(&self) -> Result<Client<Compat<TcpStream>>, PortError> {
        let settings = &self.settings;
        let mut config = Config::new();
        config.host(&settings.host);
        config.port(settings.port);
        config.database(&settings.database);
        config.application_name("blend-legacy-poller");
        config.authentication(AuthMethod::sql_server(&settings.user, &settings.password));
        config.readonly(true);
        config.lossy_utf16_decoding(true);
        config.handshake_timeout(Some(settings.connect_timeout));
        config.command_timeout(Some(settings.command_timeout));
        config.encryption(match settings.encryption {
            Encryption::Required => EncryptionLevel::Required,
            Encryption::Login => EncryptionLevel::Off,
            Encryption::Off => EncryptionLevel::NotSupported,
        });
        if settings.trust_any_certificate {
            config.trust_cert();
        } else if let Some(file) = &settings.ca_file {
            config.trust_cert_ca(file.display());
        }
        let away = |why: String| {
            let Settings { host, port, .. } = settings;
            PortError::Transient(format!("the ERP at {host}:{port} cannot be reached: {why}"))
        };
        let limit = settings.connect_timeout;
        let connecting = timeout(limit, TcpStream::connect(config.get_addr())).await;
        let socket = connecting
            .map_err(|_| away(format!("no answer within {limit:?}")))?
            .map_err(|error| away(error.to_string()))?;
        socket.set_nodelay(true).map_err(|error| away(error.to_string()))?;
        // A handshake's future is large: it is made once in a while, and kept off the stack.
        let login = timeout(limit + GRACE, Box::pin(Client::connect(config, socket.compat_write()))).await;
        let mut client = login
            .map_err(|_| away("the login takes too long".to_owned()))?
            .map_err(|error| self.explain(&error))?;
        for setting in sql::session(settings.isolation) {
            let set = timeout(settings.command_timeout + GRACE, async {
                client.simple_query(*setting).await?.into_results().await
            });
            set.await
                .map_err(|_| away("it does not answer".to_owned()))?
                .map_err(|error| self.explain(&error))?;
        }
        Ok(client)
    }

    /// Runs a statement and gives back the rows of each of its results. Rows that locks or page splits kept from being
    /// read are asked for again at once; the statement is only a SELECT.
    async fn run(&mut self, sql: &str, params: &[&dyn ToSql]) -> Result<Vec<Vec<Row>>, PortError> {
        for tried in 1.. {
            let mut client = match self.client.take() {
                Some(client) => client,
                None => {
                    self.connections += 1;
                    Box::pin(self.connect()).await?
                }
            };
            let limit = self.settings.command_timeout + GRACE;
            let asking = Box::pin(async { client.query(sql, params).await?.into_results().await });
            let answer = timeout(limit, asking).await;
            let error = match answer {
                Ok(Ok(results)) => {
                    self.client = Some(client);
                    return Ok(results);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    return Err(PortError::Transient(format!("the ERP does not answer within {limit:?}")));
                }
            };
            let passing = sql::is_passing(error.code());
            // After an error of its own the server is ready for the next statement.
            if error.code().is_some() {
                self.client = Some(client);
            }
            if !passing || tried >= TRIES {
                return Err(self.explain(&error));
            }
            tracing::debug!(%error, tried, "asking the ERP again");
        }
        Err(PortError::Transient("the ERP was not asked".into()))
    }

    /// An error in words that say what to do.
    fn explain(&self, error: &tiberius::error::Error) -> PortError {
        let Settings { user, database, host, port, .. } = &self.settings;
        let permanent = |what: &str| PortError::Permanent(format!("{what} ({error})"));
        if let tiberius::error::Error::Tls(_) = error {
            let settings =
                "ca_file, trust_any_certificate (for a server that made its own certificate), encryption";
            return permanent(&format!("no TLS with the ERP at {host}:{port}; see the settings {settings}"));
        }
        match error.code() {
            Some(code) if sql::is_passing(Some(code)) => {
                PortError::Transient(format!("the ERP was busy (error {code}): {error}"))
            }
            Some(18_456) => {
                permanent(&format!("the ERP refuses the login of {user}: check user and password"))
            }
            Some(911 | 4060) => {
                permanent(&format!("the ERP has no database {database}, or {user} may not enter it"))
            }
            Some(229) => permanent(&format!(
                "{user} may not read: GRANT SELECT ON dbo.STK_SALDOS TO [{user}]; \
                 GRANT SELECT ON dbo.STK_PRODUCTOS TO [{user}]"
            )),
            Some(207 | 208) => {
                permanent("the ERP's tables are not as expected; `blend legacy probe` says what is missing")
            }
            Some(_) => permanent("the ERP reports an error"),
            None => {
                PortError::Transient(format!("the connection to the ERP at {host}:{port} is lost: {error}"))
            }
        }
    }

    /// How changes are found in each table: what the settings say, or the best there is.
    async fn plan(&mut self) -> Result<sql::Plan, PortError> {
        if let Some(plan) = &self.plan {
            return Ok(plan.clone());
        }
        let results = self.run(sql::PROBE, &[]).await?;
        let plan = read::probe(&results, self.settings.strategy)?.1;
        self.plan = Some(plan.clone());
        Ok(plan)
    }
}

impl ErpSource for SqlServer {
    fn probe(&mut self) -> Answer<'_, Probe> {
        async move {
            let results = self.run(sql::PROBE, &[]).await?;
            let (mut probe, plan) = read::probe(&results, self.settings.strategy)?;
            if self.settings.isolation == Isolation::Snapshot && !probe.snapshot {
                probe.missing.push(
                    "ALTER DATABASE ... SET ALLOW_SNAPSHOT_ISOLATION ON, or isolation = \"nolock\"".into(),
                );
            }
            self.plan = Some(plan);
            Ok(probe)
        }
        .boxed_local()
    }

    fn head(&mut self) -> Answer<'_, Head> {
        async move {
            let plan = self.plan().await?;
            let results = self.run(&sql::head(&plan), &[]).await?;
            read::head(results.first(), plan.by_version())
        }
        .boxed_local()
    }

    fn changes<'a>(
        &'a mut self,
        cursor: &'a Cursor,
        within: &'a Within,
        again: &'a [i64],
    ) -> Answer<'a, Changes> {
        async move {
            let plan = self.plan().await?;
            let (page, isolation) = (self.settings.page, self.settings.isolation);
            let most = i64::try_from(page).unwrap_or(i64::MAX);
            let overlap = i32::try_from(self.settings.overlap.as_secs()).unwrap_or(i32::MAX);
            let text = |stamp: Option<&Stamp>| stamp.map_or("1900-01-01T00:00:00", Stamp::as_str).to_owned();
            let from =
                text(within.balance.as_ref().map(|(stamp, _)| stamp).or(cursor.balances.stamp.as_ref()));
            let (row, back) = within.balance.as_ref().map_or((i64::MIN, overlap), |(_, row)| (*row, 0));
            let product =
                text(within.product.as_ref().map(|(stamp, _)| stamp).or(cursor.products.stamp.as_ref()));
            let (code, product_back) = within.product.as_ref().map_or(("", overlap), |(_, code)| (code, 0));
            let version = |position: Option<u64>| i64::try_from(position.unwrap_or(0)).unwrap_or(i64::MAX);
            let (balances_after, products_after) =
                (version(cursor.balances.version), version(cursor.products.version));
            let balances: &dyn ToSql = if plan.balances.is_some() { &balances_after } else { &from };
            let products: &dyn ToSql = if plan.products.is_some() { &products_after } else { &product };
            let params: [&dyn ToSql; 7] = [&most, balances, &row, &back, products, &code, &product_back];
            let results = self.run(&sql::poll(&plan, isolation, again), &params).await?;
            read::changes(&results, &plan, cursor, within, page)
        }
        .boxed_local()
    }

    fn page(&mut self, after: Option<i64>) -> Answer<'_, Page> {
        async move {
            let page = self.settings.page;
            let most = i64::try_from(page).unwrap_or(i64::MAX);
            let after = after.unwrap_or(i64::MIN);
            let results = self.run(&sql::page(self.settings.isolation), &[&most, &after]).await?;
            Ok(read::page(results.first(), page))
        }
        .boxed_local()
    }

    fn rows<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Page> {
        async move {
            if ids.is_empty() {
                return Ok(Page::default());
            }
            let results = self.run(&sql::rows(self.settings.isolation, ids), &[]).await?;
            Ok(read::page(results.first(), usize::MAX))
        }
        .boxed_local()
    }

    fn strategy(&self) -> Strategy {
        match &self.plan {
            Some(plan) => plan.strategy,
            None => self.settings.strategy.unwrap_or(Strategy::Datetime),
        }
    }

    fn connections(&self) -> u64 {
        self.connections
    }
}

//! Settings: the defaults built into the binary, then a file, then the environment. Read once, here and nowhere else.

mod legacy;
mod webhooks;

pub use legacy::{Authority, Legacy, LegacyEncryption, LegacyIsolation, LegacySource, LegacyStrategy};
pub use webhooks::{Alerts, Webhooks};

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// The defaults, as the commented file that ships with the source.
pub const DEFAULTS: &str = include_str!("../../config.toml");

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// The HTTP edge.
    pub server: Server,
    /// Tokens.
    pub auth: Auth,
    /// Reservation.
    pub engine: Engine,
    /// The embedded bus.
    pub journal: Journal,
    /// Where ledger and catalogue rest.
    pub ledger: Ledger,
    /// The hot tier.
    pub stock: Stock,
    /// The broker.
    pub bus: Bus,
    /// Marketplaces.
    pub channels: Channels,
    pub webhooks: Webhooks,
    pub alerts: Alerts,
    /// Old ERPs that are followed.
    pub legacy: Legacy,
    /// Several nodes.
    pub cluster: Cluster,
    /// Restarts and freezes.
    pub supervision: Supervision,
    /// Logging.
    pub log: Log,
    pub traces: Traces,
}

/// The HTTP edge.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub listen: String,
    pub max_connections: usize,
    pub header_timeout_secs: u64,
    pub idle_timeout_secs: u64,
    pub body_timeout_secs: u64,
    pub write_timeout_secs: u64,
    pub answer_timeout_secs: u64,
    pub max_header_bytes: usize,
    pub max_body_bytes: usize,
    pub max_import_bytes: usize,
    pub shutdown_timeout_secs: u64,
    pub ops_open_to_loopback: bool,
    pub live_page_shows_sales: bool,
}

/// Tokens.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub jwt_secret: Hidden,
    pub leeway_secs: i64,
}

/// Reservation.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    pub shards: usize,
    pub max_line_quantity: i64,
    pub idempotency_keys_in_memory: usize,
    pub idempotency_filter_keys: usize,
}

/// The embedded bus.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    pub max_mib: u64,
    pub max_backlog: u64,
    pub retain_events: u64,
    pub tail_events: usize,
    pub tail_mib: usize,
    pub retry_secs: Vec<u64>,
}

/// Where ledger and catalogue rest.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    pub url: Hidden,
    pub max_connections: u32,
    pub timeout_secs: u64,
}

/// The hot tier.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stock {
    pub url: Hidden,
    pub timeout_ms: u64,
}

/// The broker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    pub url: Hidden,
    pub prefetch: u16,
    pub confirm_timeout_secs: u64,
    pub catch_up_timeout_secs: u64,
    pub partitions: usize,
    pub queue_type: QueueType,
    pub sell_without_broker: SellWithoutBroker,
    pub outbox_max_events: usize,
}

/// Whether sales go on while the broker is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SellWithoutBroker {
    /// As long as the outbox survives the loss of power.
    Auto,
    /// Whatever becomes of it.
    Always,
    Never,
}

/// Several nodes on the same servers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    pub advertise: String,
}

/// What the broker's queues are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    Auto,
    Quorum,
    Classic,
}

/// Marketplaces.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    pub keys: Hidden,
    pub public_url: String,
    pub shopify_url: String,
    pub shopify_client_id: String,
    pub shopify_client_secret: Hidden,
    pub meli_url: String,
    pub window_ms: u64,
    pub sweep_secs: u64,
    pub reconcile_secs: u64,
    pub answer_timeout_secs: u64,
}

/// Restarts and freezes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Supervision {
    pub max_restarts: usize,
    pub window_secs: u64,
    pub freeze_warn_secs: u64,
    pub freeze_abort_secs: u64,
}

/// Logging.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

/// Traces to a collector.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// Its address for OTLP over HTTP, without the path; empty for none.
    pub endpoint: String,
    /// Of a thousand traces that begin here, so many are recorded.
    pub per_mille: u32,
}

impl Traces {
    /// Where spans are posted to.
    pub fn url(&self) -> String {
        format!("{}/v1/traces", self.endpoint.trim_end_matches('/'))
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// A secret: printed, serialized and logged as stars.
#[derive(Clone, Deserialize, Default)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Hidden {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

impl Serialize for Hidden {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

/// Why the settings cannot be used. The message names the key and where it was set.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was asked for and is not there.
    #[error("config file {0} cannot be read: {1}")]
    File(PathBuf, std::io::Error),
    /// Unknown key or wrong type.
    #[error("settings are not valid: {0}")]
    Invalid(#[from] Box<figment::Error>),
    /// A value that makes no sense.
    #[error("setting {0} {1}")]
    Rule(&'static str, &'static str),
}

/// The names under which servers are usually told to a program. The program's own names win.
fn usual_names() -> Env {
    let names = ["DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    Env::raw().only(&names).map(|name| match name.as_str() {
        name if name.eq_ignore_ascii_case("database_url") => "ledger.url".into(),
        name if name.eq_ignore_ascii_case("redis_url") => "stock.url".into(),
        name if name.eq_ignore_ascii_case("rabbitmq_url") => "bus.url".into(),
        _ => "traces.endpoint".into(),
    })
}

fn rule(fine: bool, key: &'static str, rule: &'static str) -> Result<(), ConfigError> {
    if fine { Ok(()) } else { Err(ConfigError::Rule(key, rule)) }
}

fn is_url_of(url: &Hidden, schemes: &[&str]) -> bool {
    let url = url.reveal();
    url.is_empty()
        || schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
}

impl Config {
    /// Reads defaults, `file` if given, and the environment (`BLEND_SECTION__KEY`, and the usual names of server
    /// addresses).
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            let text =
                std::fs::read_to_string(file).map_err(|error| ConfigError::File(file.to_owned(), error))?;
            figment = figment.merge(Toml::string(&text));
            legacy::has_no_password(&figment)?;
        }
        // BLEND_CONFIG, BLEND_URL and BLEND_TOKEN belong to the command line.
        let environment = Env::prefixed("BLEND_").ignore(&["config", "url", "token"]).split("__");
        let config: Self = figment.merge(usual_names()).merge(environment).extract().map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let secret = self.auth.jwt_secret.reveal().len();
        rule((1..=64).contains(&self.engine.shards), "engine.shards", "must be between 1 and 64")?;
        rule(
            (1..=1_000_000_000).contains(&self.engine.max_line_quantity),
            "engine.max_line_quantity",
            "must be between 1 and 1000000000",
        )?;
        rule(
            self.engine.idempotency_keys_in_memory >= 1_000,
            "engine.idempotency_keys_in_memory",
            "must be at least 1000",
        )?;
        rule(secret == 0 || secret >= 32, "auth.jwt_secret", "must have at least 32 bytes")?;
        rule((0..=5).contains(&self.auth.leeway_secs), "auth.leeway_secs", "must be between 0 and 5")?;
        rule(self.server.max_connections >= 1, "server.max_connections", "must be at least 1")?;
        rule(self.server.max_body_bytes >= 1_024, "server.max_body_bytes", "must be at least 1024")?;
        rule(self.journal.max_mib >= 1, "journal.max_mib", "must be at least 1")?;
        rule(self.journal.max_backlog >= 1, "journal.max_backlog", "must be at least 1")?;
        rule(
            is_url_of(&self.ledger.url, &["postgres", "postgresql"]),
            "ledger.url (DATABASE_URL)",
            "must begin with postgres://",
        )?;
        rule(
            is_url_of(&self.stock.url, &["redis", "rediss"]),
            "stock.url (REDIS_URL)",
            "must begin with redis:// or rediss://",
        )?;
        rule(
            is_url_of(&self.bus.url, &["amqp", "amqps"]),
            "bus.url (RABBITMQ_URL)",
            "must begin with amqp:// or amqps://",
        )?;
        rule(
            self.traces.endpoint.is_empty()
                || !self.traces.endpoint.contains('@')
                    && ["http://", "https://"].iter().any(|scheme| self.traces.endpoint.starts_with(scheme)),
            "traces.endpoint (OTEL_EXPORTER_OTLP_ENDPOINT)",
            "must begin with http:// or https:// and hold no password",
        )?;
        rule(self.traces.per_mille <= 1_000, "traces.per_mille", "must be at most 1000")?;
        rule(self.server.answer_timeout_secs >= 1, "server.answer_timeout_secs", "must be at least 1")?;
        rule(self.ledger.max_connections >= 2, "ledger.max_connections", "must be at least 2")?;
        rule(self.ledger.timeout_secs >= 1, "ledger.timeout_secs", "must be at least 1")?;
        rule(self.stock.timeout_ms >= 10, "stock.timeout_ms", "must be at least 10")?;
        rule(self.channels.window_ms <= 60_000, "channels.window_ms", "must be at most 60000")?;
        rule(self.channels.sweep_secs >= 1, "channels.sweep_secs", "must be at least 1")?;
        rule(self.channels.reconcile_secs >= 1, "channels.reconcile_secs", "must be at least 1")?;
        let patience = self.channels.answer_timeout_secs;
        rule((1..=120).contains(&patience), "channels.answer_timeout_secs", "must be between 1 and 120")?;
        let safe = |url: &str| url.starts_with("https://") || url.starts_with("http://127.0.0.1:");
        let schemes = "must begin with https:// (or http://127.0.0.1: for a simulator)";
        rule(safe(&self.channels.shopify_url), "channels.shopify_url", schemes)?;
        rule(safe(&self.channels.meli_url), "channels.meli_url", schemes)?;
        rule(self.bus.prefetch >= 1, "bus.prefetch", "must be at least 1")?;
        rule((1..=64).contains(&self.bus.partitions), "bus.partitions", "must be between 1 and 64")?;
        rule(
            self.bus.url.reveal().is_empty() || self.bus.partitions.is_multiple_of(self.engine.shards),
            "bus.partitions",
            "must be a multiple of engine.shards, for each shard has its own",
        )?;
        let advertise = &self.cluster.advertise;
        let has_port = advertise
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        rule(advertise.is_empty() || has_port, "cluster.advertise", "must be of the form host:port")?;
        rule(self.bus.catch_up_timeout_secs >= 1, "bus.catch_up_timeout_secs", "must be at least 1")?;
        rule(self.bus.outbox_max_events >= 1, "bus.outbox_max_events", "must be at least 1")?;
        rule(self.bus.confirm_timeout_secs >= 1, "bus.confirm_timeout_secs", "must be at least 1")?;
        self.legacy.check()?;
        self.webhooks.check()?;
        self.alerts.check()?;
        rule(self.supervision.freeze_warn_secs >= 1, "supervision.freeze_warn_secs", "must be at least 1")
    }
}

#[cfg(test)]
mod tests;

//! Settings: the defaults built into the binary, then a file, then the environment. Read once, here and nowhere else.

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
    /// Restarts and freezes.
    pub supervision: Supervision,
    /// Logging.
    pub log: Log,
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

impl Config {
    /// Reads defaults, `file` if given, and the environment (`BLEND_SECTION__KEY`).
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            let text =
                std::fs::read_to_string(file).map_err(|error| ConfigError::File(file.to_owned(), error))?;
            figment = figment.merge(Toml::string(&text));
        }
        // BLEND_CONFIG, BLEND_URL and BLEND_TOKEN belong to the command line.
        let environment = Env::prefixed("BLEND_").ignore(&["config", "url", "token"]).split("__");
        let config: Self = figment.merge(environment).extract().map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let rule = |fine: bool, key, rule| if fine { Ok(()) } else { Err(ConfigError::Rule(key, rule)) };
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
        rule(self.supervision.freeze_warn_secs >= 1, "supervision.freeze_warn_secs", "must be at least 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, toml.as_bytes()).unwrap();
        Config::load(Some(file.path()))
    }

    #[test]
    fn the_shipped_file_is_the_defaults_and_is_whole() {
        let config = Config::load(None).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:8080");
        let printed = serde_json::to_value(&config).unwrap();
        let shipped: toml_keys::Keys = toml_keys::of(DEFAULTS);
        assert_eq!(toml_keys::of_json(&printed), shipped, "every setting stands in config.toml");
    }

    #[test]
    fn unknown_and_senseless_settings_are_refused_by_name() {
        let refusal = |toml| load(toml).unwrap_err().to_string();
        assert!(refusal("[server]\nmax_conections = 5").contains("max_conections"));
        assert!(refusal("[engine]\nshards = 0").contains("engine.shards"));
        assert!(refusal("[engine]\nshards = \"many\"").contains("shards"));
        assert!(refusal("[auth]\njwt_secret = \"short\"").contains("auth.jwt_secret"));
        assert_eq!(load("[engine]\nshards = 2").unwrap().engine.shards, 2);
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = "0123456789abcdef0123456789abcdef";
        let config = load(&format!("[auth]\njwt_secret = \"{secret}\"")).unwrap();
        assert_eq!(config.auth.jwt_secret.reveal(), secret);
        assert!(!format!("{config:?}").contains(secret));
        assert!(!serde_json::to_string(&config).unwrap().contains(secret));
    }

    /// `section.key` of every setting, to compare the file with the structs.
    mod toml_keys {
        use std::collections::BTreeSet;
        pub type Keys = BTreeSet<String>;

        pub fn of(text: &str) -> Keys {
            let mut section = String::new();
            let mut keys = Keys::new();
            for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
                if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                    section = format!("{name}.");
                } else if let Some((key, _)) = line.split_once(" = ") {
                    keys.insert(format!("{section}{key}"));
                }
            }
            keys
        }

        pub fn of_json(value: &serde_json::Value) -> Keys {
            let mut keys = Keys::new();
            for (key, value) in value.as_object().into_iter().flatten() {
                match value.as_object() {
                    Some(section) => keys.extend(section.keys().map(|inner| format!("{key}.{inner}"))),
                    None => {
                        keys.insert(key.clone());
                    }
                }
            }
            keys
        }
    }
}

//! Settings of old ERPs.

use super::{ConfigError, Hidden, rule};
use figment::Figment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Old ERPs that are followed.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Legacy {
    pub authority: Authority,
    pub create_locations: bool,
    pub max_jump: i64,
    pub mass_zero_rows: usize,
    pub mass_zero_percent: usize,
    pub sources: BTreeMap<String, LegacySource>,
}

/// Whose number of a balance counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    Erp,
    Blend,
    Shared,
}

/// One ERP: a SQL Server.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LegacySource {
    pub tenant: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Hidden,
    pub password_file: Option<PathBuf>,
    pub encryption: LegacyEncryption,
    pub ca_file: Option<PathBuf>,
    pub trust_any_certificate: bool,
    pub isolation: LegacyIsolation,
    pub strategy: LegacyStrategy,
    pub interval_ms: u64,
    pub idle_interval_ms: u64,
    pub overlap_secs: u64,
    pub full_scan_hours: u64,
    pub page_rows: usize,
    pub connect_timeout_secs: u64,
    pub command_timeout_secs: u64,
    pub branches: BTreeMap<String, String>,
    pub branch_authority: BTreeMap<String, Authority>,
}

impl Default for LegacySource {
    fn default() -> Self {
        Self {
            tenant: String::new(),
            host: String::new(),
            port: 1433,
            database: "LinceIndumentaria".to_owned(),
            user: String::new(),
            password: Hidden::default(),
            password_file: None,
            encryption: LegacyEncryption::Required,
            ca_file: None,
            trust_any_certificate: false,
            isolation: LegacyIsolation::Nolock,
            strategy: LegacyStrategy::Auto,
            interval_ms: 2_000,
            idle_interval_ms: 3_000,
            overlap_secs: 30,
            full_scan_hours: 24,
            page_rows: 1_000,
            connect_timeout_secs: 5,
            command_timeout_secs: 10,
            branches: BTreeMap::new(),
            branch_authority: BTreeMap::new(),
        }
    }
}

/// How much of the connection to an ERP is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LegacyEncryption {
    Required,
    Login,
    Off,
}

/// How an ERP is read beside its writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LegacyIsolation {
    Nolock,
    Snapshot,
}

/// How an ERP's changes are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LegacyStrategy {
    Auto,
    Rowversion,
    Datetime,
    Full,
}

impl Legacy {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        rule(
            (1..=1_000_000_000).contains(&self.max_jump),
            "legacy.max_jump",
            "must be between 1 and 1000000000",
        )?;
        rule(self.mass_zero_percent <= 100, "legacy.mass_zero_percent", "must be between 0 and 100")?;
        for source in self.sources.values() {
            let filled = !source.tenant.is_empty() && !source.host.is_empty() && !source.user.is_empty();
            rule(filled, "legacy.sources", "need tenant, host and user")?;
            rule(source.interval_ms >= 100, "legacy.sources.*.interval_ms", "must be at least 100")?;
            rule(
                source.idle_interval_ms >= source.interval_ms,
                "legacy.sources.*.idle_interval_ms",
                "must be at least interval_ms",
            )?;
            rule(
                (1..=5_000).contains(&source.page_rows),
                "legacy.sources.*.page_rows",
                "must be between 1 and 5000",
            )?;
            rule(
                source.connect_timeout_secs >= 1 && source.command_timeout_secs >= 1,
                "legacy.sources.*.command_timeout_secs and connect_timeout_secs",
                "must be at least 1",
            )?;
        }
        Ok(())
    }
}

/// A file of settings is shown around; a password is not.
pub(super) fn has_no_password(figment: &Figment) -> Result<(), ConfigError> {
    let sources = figment.find_value("legacy.sources").ok();
    let sources = sources.as_ref().and_then(|value| value.as_dict());
    let passwords = sources
        .into_iter()
        .flat_map(|all| all.values())
        .filter_map(|source| source.as_dict()?.get("password"));
    if passwords.count() == 0 {
        return Ok(());
    }
    let rule = "must come from the environment (BLEND_LEGACY__SOURCES__NAME__PASSWORD) or from password_file";
    Err(ConfigError::Rule("legacy.sources.*.password", rule))
}

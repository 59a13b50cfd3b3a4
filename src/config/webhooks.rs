//! Settings of webhooks that go out, and of alarms.

use super::{ConfigError, Hidden, rule};
use serde::{Deserialize, Serialize};

/// Webhooks of tenants' own systems.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    pub private_addresses: bool,
    pub retry_secs: Vec<u64>,
    pub refused_secs: Vec<u64>,
    pub pause_after_hours: u64,
}

/// What whoever runs the installation is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    pub url: String,
    pub secret: Hidden,
    pub dead_letters: usize,
}

impl Webhooks {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let waits = |waits: &[u64]| !waits.is_empty() && waits.iter().all(|secs| (1..=86_400).contains(secs));
        let why = "must hold at least one wait, each between 1 and 86400";
        rule(waits(&self.retry_secs), "webhooks.retry_secs", why)?;
        rule(waits(&self.refused_secs), "webhooks.refused_secs", why)?;
        rule(
            (1..=720).contains(&self.pause_after_hours),
            "webhooks.pause_after_hours",
            "must be between 1 and 720",
        )
    }
}

impl Alerts {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let is_url = ["https://", "http://"].iter().any(|scheme| self.url.starts_with(scheme));
        rule(self.url.is_empty() || is_url, "alerts.url", "must begin with https:// or http://")?;
        let has_secret = self.secret.reveal().starts_with("whsec_");
        let why = "must begin with whsec_, followed by base64 of 24 to 64 bytes, where alerts.url is set";
        rule(self.url.is_empty() || has_secret, "alerts.secret", why)
    }
}

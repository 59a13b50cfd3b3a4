//! `blend token`: mints a bearer token from the installation's key.

use crate::app::authenticator;
use crate::config::Config;
use crate::domain::ids::TenantId;
use crate::http::{Claims, Role};
use crate::ports::clock::{SharedClock, SystemClock};
use anyhow::{Context as _, bail};
use clap::Args;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `blend token`.
#[derive(Args)]
pub struct TokenArgs {
    /// Tenant the token is for; only super_admin may have none.
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    /// super_admin, owner, admin, encargado, cajero, vendedor, repositor or auditor.
    #[arg(long, default_value = "cajero", value_parser = parse_role)]
    role: Role,
    /// How long it is good for: 90s, 30m, 12h, 7d.
    #[arg(long, default_value = "12h", value_parser = parse_ttl)]
    ttl: i64,
    /// The user the ledger will name (`sub`).
    #[arg(long, default_value = "caja-1")]
    user: String,
}

/// Prints the token alone.
pub fn run(args: &TokenArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.tenant.is_none() && args.role != Role::SuperAdmin {
        bail!("--tenant is required for every role but super_admin");
    }
    let clock: SharedClock = Arc::new(SystemClock);
    let now = clock.now().seconds();
    let claims = Claims {
        sub: args.user.clone(),
        iat: now,
        exp: now + args.ttl,
        tienda_id: args.tenant,
        rol: args.role,
    };
    let token = authenticator(config, &config.data_dir, &clock)?.mint(&claims).context("token")?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

fn parse_role(text: &str) -> Result<Role, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| "is not a role".to_owned())
}

fn parse_ttl(text: &str) -> Result<i64, String> {
    let rule = "must be a whole number above 0 with s, m, h or d behind it, up to ten years";
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(rule.to_owned()),
    };
    let number: i64 = text[..text.len() - 1].parse().map_err(|_| rule.to_owned())?;
    number.checked_mul(unit).filter(|secs| (1..=315_360_000).contains(secs)).ok_or_else(|| rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_have_units_and_bounds() {
        assert_eq!((parse_ttl("90s"), parse_ttl("12h"), parse_ttl("7d")), (Ok(90), Ok(43_200), Ok(604_800)));
        for bad in ["", "5", "h", "-1h", "0s", "1.5h", "99999d", "1ñ"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}

//! `blend verify`: checks the laws, on a running or a stopped installation.

use super::access::Server;
use crate::actors::reservation::HotSnapshot;
use crate::app::data_dir::{Claim, DataDir};
use crate::app::verify::verify;
use crate::config::Config;
use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, TenantId, UnitId};
use crate::ports::clock::{SharedClock, SystemClock};
use anyhow::{Context as _, bail};
use clap::Args;
use hyper::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `blend verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Checks the laws. On a running installation the hot stock of every tenant is asked for first, so that it can be
/// held against what the files say.
pub async fn run(args: &VerifyArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if !config.data_dir.is_dir() {
        bail!("{} is no data directory: choose one with --data-dir", config.data_dir.display());
    }
    // Held until the end: no server starts under a stopped installation that is being read.
    let claim = DataDir::claim(&config.data_dir, "verify")?;
    let hot = match &claim {
        Claim::Ours(_) => Vec::new(),
        Claim::Held(holder) => match &holder.listening {
            Some(address) => hot_stock(config, address).await?,
            None => Vec::new(),
        },
    };
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}")?);
    bar.set_message("checking");
    let report = verify(config, hot, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })
    .await?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Deserialize)]
struct Snapshot {
    secuencia: u64,
    existencias: Vec<(UnitId, LocationId, i64)>,
}

async fn hot_stock(config: &Config, address: &str) -> anyhow::Result<Vec<(TenantId, HotSnapshot)>> {
    #[derive(Deserialize)]
    struct Tenant {
        id: TenantId,
    }
    let clock: SharedClock = Arc::new(SystemClock);
    let server = Server::at(config, address, &clock)?;
    let tenants: Vec<Tenant> = server.request(Method::GET, "/api/v1/admin/tiendas", None).await?.json()?;
    let mut hot = Vec::with_capacity(tenants.len());
    for Tenant { id } in tenants {
        let path = format!("/api/v1/admin/tiendas/{id}/existencias");
        let snapshot: Snapshot = server.request(Method::GET, &path, None).await?.json()?;
        let level = |(unit, location, units): (UnitId, LocationId, i64)| {
            Some(((unit, location), Quantity::from_units(units)?))
        };
        let on_hand = snapshot.existencias.into_iter().map(level).collect::<Option<_>>();
        let on_hand = on_hand.context("the server told a quantity out of bounds")?;
        hot.push((id, HotSnapshot { sequence: snapshot.secuencia, on_hand }));
    }
    Ok(hot)
}

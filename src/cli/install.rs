//! `blend migrate`, `blend tenant`, `blend healthcheck`.

use super::access::{Access, reachable};
use crate::app;
use crate::app::data_dir::{Claim, DataDir};
use crate::client::HttpClient;
use crate::config::Config;
use crate::ports::clock::SystemClock;
use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, Subcommand};
use hyper::Method;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What can be done with tenants.
#[derive(Subcommand)]
pub enum TenantCommand {
    /// Create a tenant with its default location; prints its id alone.
    #[command(
        after_help = "Example:\n  TIENDA=$(blend --data-dir shop tenant create \"Súper Sur\" --trade ropa)\n  \
                            blend --data-dir shop tenant create \"Súper Sur\""
    )]
    Create {
        /// Its name.
        name: String,
        /// Its trade (rubro).
        #[arg(long, default_value = "general")]
        trade: String,
    },
    /// List tenants: id, state, name.
    List,
}

/// Runs `blend tenant`.
pub async fn tenant(command: TenantCommand, config: &Config) -> anyhow::Result<ExitCode> {
    let access = Access::open(config, "tenant").await?;
    let done = run_tenant(&access, command).await;
    access.close(config).await?;
    done.map(|()| ExitCode::SUCCESS)
}

async fn run_tenant(access: &Access, command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::Create { name, trade } => println!("{}", access.create_tenant(&name, &trade).await?),
        TenantCommand::List => {
            for tenant in access.tenants().await? {
                let state = if tenant.is_active { "active" } else { "inactive" };
                println!("{}\t{state}\t{}", tenant.id, tenant.nombre);
            }
        }
    }
    Ok(())
}

/// Runs `blend migrate`. A server does the same when it starts, so one that runs is up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    match DataDir::claim(&config.data_dir, "migrate")? {
        Claim::Held(holder) => {
            println!("{} is in use by process {} and up to date", config.data_dir.display(), holder.pid);
        }
        Claim::Ours(dir) => {
            app::migrate(config, &dir, Arc::new(SystemClock)).await?;
            println!("{} is up to date", config.data_dir.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `blend warmup`: every tenant's hot stock from the ledger again.
pub async fn warmup(config: &Config) -> anyhow::Result<ExitCode> {
    let access = Access::open(config, "warmup").await?;
    let done = async {
        for tenant in access.tenants().await? {
            match access.warm_up(tenant.id).await? {
                Some(units) => println!("{}\t{units} units", tenant.id),
                None => println!("{}\tno server runs; the next start loads it", tenant.id),
            }
        }
        Ok(())
    };
    let done = done.await;
    access.close(config).await?;
    done.map(|()| ExitCode::SUCCESS)
}

/// Arguments of `blend healthcheck`.
#[derive(Args)]
pub struct HealthcheckArgs {
    /// Server to ask; otherwise the one that runs on the data directory, else the address in the settings.
    #[arg(long, env = "BLEND_URL")]
    url: Option<String>,
    /// How long to wait for its answer.
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    timeout: u64,
}

/// Runs `blend healthcheck`: exit code 0 when the server is ready.
pub async fn healthcheck(args: HealthcheckArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let found = || app::data_dir::holder(&config.data_dir).and_then(|holder| holder.listening);
    let local = || format!("http://{}", reachable(&found().unwrap_or_else(|| config.server.listen.clone())));
    let url = args.url.unwrap_or_else(local);
    let client = HttpClient::new(&url)?.with_timeout(Duration::from_secs(args.timeout));
    let answer = client.request(Method::GET, "/ready", None, &[], Bytes::new()).await;
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    println!("{}", String::from_utf8_lossy(&answer.body));
    Ok(if answer.status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

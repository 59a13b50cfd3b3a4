//! `blend serve`.

use crate::app::data_dir::DataDir;
use crate::app::{Serving, serve};
use crate::config::Config;
use crate::ports::clock::SystemClock;
use crate::telemetry;
use anyhow::Context as _;
use clap::Args;
use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `blend serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Address and port; port 0 takes a free one. Overrides the setting server.listen.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
}

/// Serves until it is told to stop. The first line on stdout, when ready, is `{"listening":"ADDRESS:PORT"}`.
pub async fn run(args: ServeArgs, mut config: Config) -> anyhow::Result<ExitCode> {
    if let Some(listen) = args.listen {
        config.server.listen = listen;
    }
    let data_dir = DataDir::claim_alone(&config.data_dir, "serve")?;
    let prometheus = telemetry::init_metrics().context("metrics")?;
    let up = |serving: Serving| async move { announce(&serving) };
    serve(&config, data_dir, Arc::new(SystemClock), prometheus, stop_signal()?, up).await?;
    Ok(ExitCode::SUCCESS)
}

/// Says on stdout where the server listens.
pub fn announce(serving: &Serving) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::json!({ "listening": serving.address.to_string() }))?;
    out.flush()?;
    Ok(())
}

/// Resolves at SIGTERM or SIGINT.
pub fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

//! `blend verify`.

use crate::config::Config;
use clap::Args;
use std::process::ExitCode;

/// Arguments of `blend verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Checks the laws.
pub async fn run(_args: &VerifyArgs, _config: &Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not here yet")
}

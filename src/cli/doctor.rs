//! `blend doctor`: is everything there that an installation needs, and what to do when it is not.

use crate::app::doctor::examine;
use crate::config::Config;
use crate::ports::clock::SystemClock;
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `blend doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
    /// How long one dependency may take.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
}

/// Prints what was found: exit code 1 when anything failed. Warnings do not count.
pub async fn run(args: &DoctorArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let report = examine(config, &SystemClock, Duration::from_secs(args.timeout)).await;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

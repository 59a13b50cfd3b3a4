//! `blend legacy`: looks at an old ERP before anything of it is followed.

use crate::app::legacy::{DryRun, dry_run, probe};
use crate::config::Config;
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Differences that are printed unless all are asked for.
const SHOWN: usize = 40;

/// The verbs of `blend legacy`.
#[derive(Subcommand)]
pub enum LegacyCommand {
    /// Connect, say what is there, which strategy fits, and what is missing.
    Probe(SourceArgs),
    /// Read everything and print what would change here. Nothing is changed.
    DryRun(DryRunArgs),
}

/// Which ERP.
#[derive(Args)]
pub struct SourceArgs {
    /// Its name in [legacy.sources]; may be left out when there is only one.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Arguments of `blend legacy dry-run`.
#[derive(Args)]
pub struct DryRunArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Print every difference, not only the first ones.
    #[arg(long)]
    all: bool,
}

/// Exit code 1 when something is missing.
pub async fn run(command: LegacyCommand, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        LegacyCommand::Probe(args) => {
            let found = probe(config, args.source.as_deref()).await?;
            println!("{found}");
            Ok(if found.probe.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        LegacyCommand::DryRun(args) => {
            let found = dry_run(config, args.source.source.as_deref()).await?;
            print!("{}", table(&found, if args.all { usize::MAX } else { SHOWN }));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn table(found: &DryRun, most: usize) -> String {
    let head = ["item", "branch", "ERP says", "known", "moves", "why not all"].map(str::to_owned);
    let mut rows = vec![head];
    rows.extend(found.lines.iter().take(most).cloned());
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, width))| match at {
                2..=4 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    if found.lines.len() > most {
        text.push_str(&format!("... and {} more; --all prints them\n", found.lines.len() - most));
    }
    text.push('\n');
    text.push_str(&found.summary);
    text
}

//! `blend dlq`: events that were given up. Looked at and tried again; none can be thrown away, for stock counts them.

use super::access::Access;
use crate::config::Config;
use crate::domain::dead_letter::{DeadLetter, Selection, grouped};
use anyhow::bail;
use clap::{Args, Subcommand};
use std::io::Write as _;
use std::process::ExitCode;

/// Letters looked at at once.
const MOST: usize = 10_000;

/// Verbs of `blend dlq`.
#[derive(Subcommand)]
pub enum DlqCommand {
    /// List them by cause.
    Ls(LsArgs),
    /// Show one with its event.
    Show {
        /// As listed.
        id: String,
    },
    /// Try some again, now that their cause is mended.
    Replay(ReplayArgs),
    /// Why there is no such thing.
    Drop {
        /// As listed.
        id: String,
    },
}

/// Arguments of `blend dlq ls`.
#[derive(Args)]
pub struct LsArgs {
    /// Every id, not only how many there are.
    #[arg(long)]
    ids: bool,
}

/// Arguments of `blend dlq replay`.
#[derive(Args)]
pub struct ReplayArgs {
    /// As listed.
    #[arg(required_unless_present_any = ["cause", "all"])]
    ids: Vec<String>,
    /// All with this cause, as listed.
    #[arg(long)]
    cause: Option<String>,
    /// All there are.
    #[arg(long)]
    all: bool,
    /// So many at most.
    #[arg(long, default_value_t = 100)]
    max: usize,
    /// Say what would be tried, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Runs a verb.
pub async fn run(command: DlqCommand, config: &Config) -> anyhow::Result<ExitCode> {
    if let DlqCommand::Drop { id } = &command {
        bail!(
            "{id} is not thrown away: stock counts it, since the goods were handed over, and a sale in no book is a \
             lost sale; mend its cause and replay it"
        );
    }
    let access = Access::open(config, "dlq").await?;
    let done = carry_out(command, &access).await;
    access.close(config).await?;
    done
}

async fn carry_out(command: DlqCommand, access: &Access) -> anyhow::Result<ExitCode> {
    let letters = access.dead_letters(MOST).await?;
    let mut out = std::io::stdout().lock();
    match command {
        DlqCommand::Ls(args) => {
            for group in grouped(&letters) {
                writeln!(out, "{:>6}  {}", group.ids.len(), group.cause)?;
                writeln!(
                    out,
                    "        from {} to {}, for example: {}",
                    group.first_at, group.last_at, group.example
                )?;
                for id in group.ids.iter().filter(|_| args.ids) {
                    writeln!(out, "        {id}")?;
                }
            }
            writeln!(out, "{} in all", letters.len())?;
        }
        DlqCommand::Show { id } => {
            let Some(letter) = letters.iter().find(|letter| letter.id == id) else {
                bail!("there is no dead letter {id}; `blend dlq ls --ids` lists them");
            };
            let DeadLetter { group, kind, tenant, attempts, first_at, last_at, cause, payload, .. } = letter;
            writeln!(out, "{kind} of tenant {tenant}, given up by {group} after {attempts} attempts")?;
            writeln!(out, "first failure {first_at}, last {last_at}\ncause: {cause}")?;
            writeln!(out, "{}", String::from_utf8_lossy(payload))?;
        }
        DlqCommand::Replay(args) => {
            let ids = if args.all { Vec::new() } else { args.ids };
            let selection = Selection { ids, cause: args.cause, most: args.max };
            let chosen: Vec<String> =
                selection.of(&letters).into_iter().map(|letter| letter.id.clone()).collect();
            for id in &chosen {
                writeln!(out, "{id}")?;
            }
            if args.dry_run {
                writeln!(out, "{} would be tried again", chosen.len())?;
            } else {
                let replayed =
                    if chosen.is_empty() { 0 } else { access.replay_dead_letters(&chosen).await? };
                writeln!(out, "{replayed} are tried again")?;
            }
        }
        DlqCommand::Drop { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

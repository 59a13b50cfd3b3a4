//! `blend dlq`: what was given up. Looked at, tried again, and thrown away where that is safe.

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
    /// Show one with what it is about and what came back.
    Show {
        /// As listed by `ls --ids`.
        id: String,
    },
    /// Try some again, now that their cause is mended.
    Replay(Chosen),
    /// Throw some away. Only what a marketplace gave up: an event of the ledger is counted by stock, and stays.
    Drop(Chosen),
}

/// Arguments of `blend dlq ls`.
#[derive(Args)]
pub struct LsArgs {
    /// Every id, not only how many there are.
    #[arg(long)]
    ids: bool,
}

/// Which letters a verb is for.
#[derive(Args)]
pub struct Chosen {
    /// As listed by `ls --ids`.
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
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Chosen {
    fn of<'a>(&self, letters: &'a [DeadLetter]) -> Vec<&'a DeadLetter> {
        let ids = if self.all { Vec::new() } else { self.ids.clone() };
        Selection { ids, cause: self.cause.clone(), most: self.max }.of(letters)
    }
}

/// Runs a verb.
pub async fn run(command: DlqCommand, config: &Config) -> anyhow::Result<ExitCode> {
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
            let DeadLetter {
                group, kind, tenant, attempts, first_at, last_at, cause, payload, response, ..
            } = letter;
            writeln!(out, "{kind} of tenant {tenant}, given up by {group} after {attempts} attempts")?;
            writeln!(out, "first failure {first_at}, last {last_at}\ncause: {cause}")?;
            writeln!(out, "{}", String::from_utf8_lossy(payload))?;
            if !response.is_empty() {
                writeln!(out, "came back: {response}")?;
            }
        }
        DlqCommand::Replay(chosen) => {
            let ids = named(&chosen.of(&letters), &mut out)?;
            if chosen.dry_run {
                writeln!(out, "{} would be tried again", ids.len())?;
            } else {
                let replayed = if ids.is_empty() { 0 } else { access.replay_dead_letters(&ids).await? };
                writeln!(out, "{replayed} are tried again")?;
            }
        }
        DlqCommand::Drop(chosen) => {
            let letters = chosen.of(&letters);
            for letter in &letters {
                if let Some(why) = letter.matter.kept_because() {
                    bail!("{} is not thrown away: {why}", letter.id);
                }
            }
            let ids = named(&letters, &mut out)?;
            if chosen.dry_run {
                writeln!(out, "{} would be thrown away", ids.len())?;
            } else {
                let dropped = if ids.is_empty() { 0 } else { access.discard_dead_letters(&ids).await? };
                writeln!(out, "{dropped} are thrown away")?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn named(letters: &[&DeadLetter], out: &mut impl std::io::Write) -> anyhow::Result<Vec<String>> {
    for letter in letters {
        writeln!(out, "{}", letter.id)?;
    }
    Ok(letters.iter().map(|letter| letter.id.clone()).collect())
}

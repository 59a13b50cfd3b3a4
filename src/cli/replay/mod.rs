//! `blend replay`: rings up a file of baskets at a running server, as fast as it takes them, at a fixed rate, or in
//! the rhythm they really happened, and says exactly what became of each.
//!
//! Every basket is sent under a key made of its own number, so a repeated attempt, or a repeated replay, can never
//! sell twice.

mod feed;
pub mod server;
mod summary;
#[cfg(test)]
mod tests;

pub use feed::Pace;
pub use summary::Summary;

use crate::{
    cli::{basket_csv::Baskets, table},
    client::{Answer, Bearer, HttpClient},
    domain::decimal::Decimal,
    load::{self, Job, Outcome, Plan, Retry, Workload},
};
use anyhow::{Context, bail};
use feed::{Batch, Feed};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::value::RawValue;
use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{BufWriter, IsTerminal, Write},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use summary::Tally;
use tokio::{
    pin, select,
    sync::{Mutex, mpsc},
    task,
    time::interval,
};

/// How often the progress bar moves and the acknowledgements reach their file.
const TICK: Duration = Duration::from_millis(200);
/// Batches read ahead of the connections.
const READ_AHEAD: usize = 8;

/// Arguments of `blend replay`.
#[derive(Debug, Clone, clap::Args)]
pub struct ReplayArgs {
    /// Baskets: a CSV `basket,store,at,sku,quantity` sorted by time, plain or gzipped.
    pub file: PathBuf,
    /// Server to sell at; several nodes of one installation with commas between them.
    #[arg(long, env = "BLEND_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Bearer token of the tenant.
    #[arg(long, env = "BLEND_TOKEN", hide_env_values = true)]
    pub token: String,
    /// Baskets a second, or `max` for as many as the connections carry.
    #[arg(long, default_value = "max", value_parser = parse_rate, conflicts_with = "speed")]
    pub rate: Pace,
    /// Keep the rhythm of the file, this many times as fast as it happened.
    #[arg(long, value_name = "TIMES")]
    pub speed: Option<NonZeroU32>,
    /// Baskets in flight at most.
    #[arg(long, default_value = "64")]
    pub connections: NonZeroUsize,
    /// Send only the first so many baskets.
    #[arg(long, value_name = "BASKETS")]
    pub limit: Option<u64>,
    /// What goes before the basket number in each Idempotency-Key. Another prefix sells the same file again.
    #[arg(long, default_value = "replay")]
    pub key_prefix: String,
    /// How long to repeat a basket that gets no definite answer.
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub patience: u64,
    /// Write `basket,venta_id` of every sale answered with 201 to this file.
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

fn parse_rate(text: &str) -> Result<Pace, String> {
    match text {
        "max" => Ok(Pace::Max),
        number => {
            number.parse().map(Pace::PerSecond).map_err(|_| "a whole number above 0, or max".to_owned())
        }
    }
}

/// The command: replays, prints the summary, and fails when a basket was left without a definite answer.
pub async fn command(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let summary = replay(args).await?;
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{summary}");
    }
    Ok(if summary.is_definite() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Replays a file and says what happened.
pub async fn replay(args: &ReplayArgs) -> anyhow::Result<Summary> {
    let client = HttpClient::new(&args.url)?;
    let token = Bearer::new(&args.token)?;
    let named = || args.file.display().to_string();
    let baskets = Baskets::new(table::open(&args.file).with_context(named)?).with_context(named)?;
    let acks = args.acks.as_ref().map(|path| {
        File::create(path).map(BufWriter::new).with_context(|| format!("cannot write {}", path.display()))
    });
    let acks = acks.transpose()?;
    let bar = progress(args);
    bar.set_message("reading the catalogue");
    let shop = server::load(&client, &token).await?;

    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let feed = Feed {
        shop,
        pace: args.speed.map_or(args.rate, Pace::Times),
        limit: args.limit.unwrap_or(u64::MAX),
        key_prefix: args.key_prefix.clone(),
    };
    // Unpacking and parsing would otherwise take turns with the sockets.
    let reading = task::spawn_blocking(move || feed.read(baskets, &sender));

    let till = Till {
        source: Mutex::new(Source { receiver, batch: Vec::new().into_iter() }),
        tally: RefCell::new(Tally::default()),
        acks: RefCell::new(acks),
        failed: RefCell::new(None),
        stop: Cell::new(false),
    };
    let plan = Plan {
        connections: args.connections.get(),
        token: Some(token),
        retry: Retry { patience: Duration::from_secs(args.patience) },
    };
    let report = watched(&client, &plan, &till, &bar).await?;
    bar.finish_and_clear();

    let Till { source, tally, acks, failed, .. } = till;
    drop(source); // tells a reader that is still at it that nobody listens any more
    let fed = reading.await.context("the reader of the file died")?;
    if let Some(mut acks) = acks.into_inner() {
        acks.flush().context("cannot write the acknowledgements")?;
    }
    if let Some(error) = failed.into_inner() {
        return Err(error).context("cannot write the acknowledgements");
    }
    Ok(Summary::new(report, tally.into_inner(), fed))
}

/// Runs the load while moving the bar; Ctrl-C once stops sending, twice gives up at once.
async fn watched(
    client: &HttpClient,
    plan: &Plan,
    till: &Till,
    bar: &ProgressBar,
) -> anyhow::Result<load::Report> {
    let running = load::run(client, plan, till);
    pin!(running);
    let mut ticks = interval(TICK);
    let interrupt = tokio::signal::ctrl_c();
    pin!(interrupt);
    loop {
        select! {
            report = &mut running => return Ok(report),
            _ = ticks.tick() => till.tick(bar),
            pressed = &mut interrupt => {
                pressed.context("cannot listen for Ctrl-C")?;
                if till.stop.replace(true) {
                    bail!("interrupted: some baskets were sent and not answered; replay again with the same key prefix");
                }
                bar.set_prefix("stopping ");
                interrupt.set(tokio::signal::ctrl_c());
            }
        }
    }
}

fn progress(args: &ReplayArgs) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    // indicatif draws on stderr by itself.
    let bar = args.limit.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = match args.limit {
        Some(_) => "{prefix}{wide_bar} {pos}/{len} {msg}",
        None => "{prefix}{spinner} {pos} {msg}",
    };
    // A template that does not parse is a slip of ours; the default one still tells the count.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// What a basket carries through the generator.
#[derive(Debug)]
struct Rung {
    basket: String,
    lines: u64,
    units: Decimal<3>,
}

/// Hands out baskets and takes their outcomes.
struct Till {
    source: Mutex<Source>,
    tally: RefCell<Tally>,
    acks: RefCell<Option<BufWriter<File>>>,
    failed: RefCell<Option<std::io::Error>>,
    stop: Cell<bool>,
}

struct Source {
    receiver: mpsc::Receiver<Batch>,
    batch: std::vec::IntoIter<Job<Rung>>,
}

impl Workload for Till {
    type Tag = Rung;

    async fn next(&self) -> Option<Job<Rung>> {
        let mut source = self.source.lock().await;
        loop {
            if self.cancelled() {
                return None;
            }
            if let Some(job) = source.batch.next() {
                return Some(job);
            }
            source.batch = source.receiver.recv().await?.into_iter();
        }
    }

    fn done(&self, rung: Rung, outcome: Outcome) {
        let mut tally = self.tally.borrow_mut();
        match outcome {
            Outcome::Answered(answer) if answer.status.as_u16() == 201 => match Receipt::read(&answer) {
                Some((receipt, total)) => {
                    let again = answer.header("idempotent-replayed") == Some("true");
                    tally.sold(&rung, total, again);
                    self.acknowledge(&rung.basket, receipt.venta_id);
                }
                None => tally.refused("201 without venta_id and total".to_owned()),
            },
            Outcome::Answered(answer) => {
                let code = answer.error_code();
                tally.refused(format!(
                    "{} {}",
                    answer.status.as_u16(),
                    code.as_deref().unwrap_or("without a code")
                ));
            }
            Outcome::GaveUp(why) => tally.gave_up(&rung, &why),
        }
    }

    fn cancelled(&self) -> bool {
        self.stop.get()
    }
}

impl Till {
    fn acknowledge(&self, basket: &str, sale: &str) {
        if let Some(acks) = self.acks.borrow_mut().as_mut() {
            self.keep(writeln!(acks, "{basket},{sale}"));
        }
    }

    /// Remembers the first failure to write and stops: acknowledgements with gaps would prove nothing.
    fn keep(&self, written: std::io::Result<()>) {
        if let Err(error) = written {
            self.failed.borrow_mut().get_or_insert(error);
            self.stop.set(true);
        }
    }

    fn tick(&self, bar: &ProgressBar) {
        if let Some(acks) = self.acks.borrow_mut().as_mut() {
            self.keep(acks.flush());
        }
        let tally = self.tally.borrow();
        bar.set_position(tally.finished());
        bar.set_message(format!(
            "{}/s, {} sold, {} refused, {}",
            load::per_second(tally.finished(), bar.elapsed()),
            tally.sold,
            tally.refusals(),
            HumanDuration(bar.elapsed())
        ));
    }
}

/// What is read of a 201.
#[derive(serde::Deserialize)]
struct Receipt<'a> {
    venta_id: &'a str,
    #[serde(borrow)]
    total: &'a RawValue,
}

impl<'a> Receipt<'a> {
    fn read(answer: &'a Answer) -> Option<(Self, Decimal<2>)> {
        let receipt: Self = answer.json().ok()?;
        // The digits as they were sent, never through a float.
        let total = Decimal::parse(receipt.total.get().trim_matches('"')).ok()?;
        Some((receipt, total))
    }
}

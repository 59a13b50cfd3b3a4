//! What a durable sale costs over PostgreSQL, RabbitMQ and Redis, and how that compares with a row lock.
//!
//! Starts the three servers and the real release binary for itself, sells one hot product over as many connections as
//! pgbench then has sessions for `SELECT ... FOR UPDATE` checkouts of one hot product (`for_update.sql`) on the same
//! PostgreSQL, in turn, and prints rates, latencies, the ratio, and what a sale costs each process. Every commit is
//! synced, and the broker confirms before a till is answered.
//! `cargo bench --bench cluster -- [--rounds N] [--seconds N] [--connections N] [--products N]`; the servers' files are
//! in TMPDIR, which should be on a disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the servers are those of the tests")]

#[path = "server/mod.rs"]
mod server;
#[path = "../tests/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod servers;

use anyhow::{Context, bail};
use blend::channels::simulator;
use blend::load::{Histogram, thousandths};
use server::{Installation, cpu, number, output, runtime};
use servers::{postgres::Postgres, rabbitmq::RabbitMq, redis::RedisServer};
use std::process::{Command, Stdio};
use std::time::Duration;

const WARM_UP: Duration = Duration::from_secs(5);
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");
/// What it holds is on its disk within a second.
const KEEPS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "everysec"];
/// The baseline's database, beside the ledger's.
const BASELINE: &str = "baseline";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        println!("a measurement: run it with cargo bench --bench cluster");
        return Ok(()); // `cargo test --all-targets` runs benches too
    }
    let settings = Settings {
        rounds: number(&args, "--rounds", 3)?.max(1),
        round: Duration::from_secs(number(&args, "--seconds", 20)?.max(1)),
        connections: usize::try_from(number(&args, "--connections", 128)?.max(1))?,
        products: usize::try_from(number(&args, "--products", 1)?.max(1))?,
    };
    runtime()?.block_on(measure(&settings))
}

struct Settings {
    rounds: u64,
    round: Duration,
    connections: usize,
    products: usize,
}

async fn measure(settings: &Settings) -> anyhow::Result<()> {
    let sessions = format!("max_connections={}", settings.connections + 40);
    let durable = ["fsync=on", "shared_buffers=128MB", "max_wal_size=1GB", &sessions];
    let (postgres, rabbitmq, redis) =
        tokio::join!(Postgres::start_with(&durable), RabbitMq::start(), RedisServer::start(&KEEPS));
    output(postgres.client("createdb").arg(BASELINE))?;
    output(postgres.client("psql").args([
        "-qd",
        BASELINE,
        "-f",
        &format!("{SCRIPTS}/for_update_tables.sql"),
    ]))?;
    let directory = tempfile::tempdir()?;
    let installation = Installation::new(
        directory.path(),
        vec![
            ("DATABASE_URL", postgres.url("postgres")),
            ("RABBITMQ_URL", rabbitmq.url()),
            ("REDIS_URL", redis.url()),
            ("BLEND_AUTH__JWT_SECRET", "a secret of the bench, of 32 bytes or more".into()),
        ],
    );
    let (engine, mut tills) = installation.open(settings.products).await?;
    let cost = || {
        [engine.id(), postgres.id(), rabbitmq.id(), redis.id()].map(cpu::tree).into_iter().chain([cpu::own()])
    };
    tills.drive(settings.connections, WARM_UP).await?;
    tills.catch_up().await?;
    let (mut latency, mut ratios, mut spent, mut sales) = (Histogram::default(), Vec::new(), [0; 5], 0);
    for round in 1..=settings.rounds {
        let before: Vec<u64> = cost().collect();
        let report = tills.drive(settings.connections, settings.round).await?;
        let lag = tills.catch_up().await?.context("a server without a ledger")?;
        // With the ledger written, so that no sale is counted without its share of that.
        for ((spent, before), after) in spent.iter_mut().zip(before).zip(cost()) {
            *spent += after.saturating_sub(before);
        }
        sales += report.sent;
        latency.merge(&report.latency);
        let (locking, ratio) = locking(&postgres, settings, report.rate())?;
        println!(
            "round {round}  blend {}/s  p50 {} ms  p99 {} ms  ledger caught up after {} ms  row lock {locking}/s  ratio {}",
            report.rate(),
            thousandths(report.latency.per_mille(500)),
            thousandths(report.latency.per_mille(990)),
            lag.as_millis(),
            thousandths(ratio),
        );
        ratios.push(ratio);
    }
    ratios.sort_unstable();
    println!(
        "all of {sales} sales  p50 {} ms  p99 {} ms  ratio blend/row lock: min {}  median {}  max {}",
        thousandths(latency.per_mille(500)),
        thousandths(latency.per_mille(990)),
        thousandths(ratios[0]),
        thousandths(ratios[ratios.len() / 2]),
        thousandths(ratios[ratios.len() - 1]),
    );
    println!("cpu of a sale, in microseconds:");
    let (all, tills) = (spent.iter().sum::<u64>().max(1), spent[4]);
    for (name, spent) in ["engine", "postgresql", "rabbitmq", "redis", "tills"].into_iter().zip(spent) {
        println!(
            "  {name:<10} {:>5}  {:>3} % of all, {:>3} % of all but the tills",
            spent / sales.max(1),
            spent * 100 / all,
            if name == "tills" { 0 } else { spent * 100 / (all - tills).max(1) },
        );
    }
    Ok(())
}

/// Transactions a second with a row lock, and how many times as many `rate` is, in thousandths.
fn locking(postgres: &Postgres, settings: &Settings, rate: u64) -> anyhow::Result<(u64, u64)> {
    let mut pgbench: Command = postgres.client("pgbench");
    let script = format!("{SCRIPTS}/for_update.sql");
    let (sessions, seconds) = (settings.connections.to_string(), settings.round.as_secs().to_string());
    pgbench.args([
        "-h",
        "127.0.0.1",
        "-n",
        "-M",
        "prepared",
        "-j",
        "1",
        "-c",
        &sessions,
        "-T",
        &seconds,
        "-f",
        &script,
        BASELINE,
    ]);
    let ran = pgbench.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&ran.stdout);
    let tps =
        said.lines().find_map(|line| line.strip_prefix("tps = ")?.split('.').next()?.parse::<u64>().ok());
    match tps {
        Some(tps) if ran.status.success() => Ok((tps, rate * 1_000 / tps.max(1))),
        _ => bail!(
            "pgbench failed: {}",
            String::from_utf8_lossy(&ran.stderr).lines().next().unwrap_or_default()
        ),
    }
}

//! How much a durable sale costs over doing nothing: checkouts a second at the real release binary, divided by what
//! a warp endpoint carries that only parses the same body and answers a constant.
//!
//! Both are processes of their own with one thread, driven in turn (A B A B ...) by the same generator over as many
//! connections, so that a noisy machine hurts both alike. A ratio of 0.500 means that selling costs as much again as
//! receiving the request does. `cargo bench --bench checkout -- [--rounds N] [--seconds N] [--connections N]`; with
//! `--generator-only` it drives the constant endpoint alone, which shows the ceiling of the generator itself.

#[path = "server/mod.rs"]
mod server;

use blend::load::{Histogram, thousandths};
use hyper::StatusCode;
use server::{Installation, Server, Tills, cpu, number, runtime};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use uuid::Uuid;
use warp::Filter;

/// The answer of the constant endpoint: as long as a checkout's.
const ANSWER: &str = r#"{"venta_id":"0193a5b2-7c1e-7d00-8a11-0123456789ab","fecha":"2026-11-22T12:34:56.789Z","total":1234.50,"metodo_pago":"efectivo","cantidad_items":1,"mensaje":"Venta procesada exitosamente"}"#;
/// Products sold in turn, so that the bench is not about one hot unit.
const UNITS: usize = 500;
const WARM_UP: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    if has("--baseline") {
        return runtime()?.block_on(baseline());
    }
    if !has("--bench") {
        println!("a measurement: run it with cargo bench --bench checkout");
        return Ok(()); // `cargo test --all-targets` runs benches too
    }
    let settings = Settings {
        rounds: number(&args, "--rounds", 5)?.max(1),
        round: Duration::from_secs(number(&args, "--seconds", 5)?.max(1)),
        connections: usize::try_from(number(&args, "--connections", 64)?.max(1))?,
    };
    runtime()?.block_on(measure(&settings, has("--generator-only")))
}

struct Settings {
    rounds: u64,
    round: Duration,
    connections: usize,
}

async fn measure(settings: &Settings, generator_only: bool) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?; // a disk, where /tmp may be memory
    let baseline = Side::baseline(directory.path())?;
    let mut sides = vec![baseline];
    if !generator_only {
        let (server, tills) = Installation::new(directory.path(), Vec::new()).open(UNITS).await?;
        sides.push(Side { name: "blend", server, tills, latency: Histogram::default() });
    }
    for side in &mut sides {
        side.tills.drive(settings.connections, WARM_UP).await?;
    }
    let mut ratios = Vec::new();
    for round in 1..=settings.rounds {
        let mut rates = Vec::new();
        for side in &mut sides {
            let (mine, theirs, began) = (cpu::own(), cpu::tree(side.server.id()), Instant::now());
            let report = side.tills.drive(settings.connections, settings.round).await?;
            let share = |before: u64, after: u64| -> u64 {
                let elapsed = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                after.saturating_sub(before) * 100 / elapsed.max(1)
            };
            let (engine, generator) = (share(theirs, cpu::tree(side.server.id())), share(mine, cpu::own()));
            let caught_up = side.tills.catch_up().await?;
            println!(
                "round {round}  {:<8} {:>7}/s  p50 {} ms  p99 {} ms  cpu: server {engine} %, generator {generator} %{}",
                side.name,
                report.rate(),
                thousandths(report.latency.per_mille(500)),
                thousandths(report.latency.per_mille(990)),
                match caught_up {
                    Some(time) => format!("  ledger caught up after {} ms", time.as_millis()),
                    None => String::new(),
                }
            );
            rates.push(report.rate());
            side.latency.merge(&report.latency);
        }
        if let [baseline, blend] = rates[..] {
            ratios.push(blend * 1_000 / baseline.max(1));
        }
    }
    for side in &sides {
        let [p50, p99] = [500, 990].map(|rank| thousandths(side.latency.per_mille(rank)));
        println!("{:<8} p50 {p50} ms  p99 {p99} ms  over {} requests", side.name, side.latency.count());
    }
    ratios.sort_unstable();
    if let (Some(min), Some(max)) = (ratios.first(), ratios.last()) {
        let [min, median, max] = [*min, ratios[ratios.len() / 2], *max].map(thousandths);
        println!("ratio blend/baseline: min {min}  median {median}  max {max}");
    }
    Ok(())
}

/// One of the two servers and what is sent to it.
struct Side {
    name: &'static str,
    server: Server,
    tills: Tills,
    latency: Histogram,
}

impl Side {
    fn baseline(directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let server = Server::start(command.arg("--baseline"), &directory.join("baseline.log"))?;
        // Any ids will do, they are parsed and forgotten.
        let tills = Tills::new(&server, "none", (0..UNITS).map(|n| Uuid::from_u128(n as u128)))?;
        Ok(Self { name: "baseline", server, tills, latency: Histogram::default() })
    }
}

/// The constant endpoint, until it is killed.
async fn baseline() -> anyhow::Result<()> {
    #[derive(serde::Deserialize)]
    struct Line {
        #[serde(rename = "producto_id")]
        _unit: Uuid,
        #[serde(rename = "cantidad")]
        _quantity: serde_json::Number,
    }
    #[derive(serde::Deserialize)]
    struct Checkout {
        items: Vec<Line>,
        #[serde(rename = "metodo_pago")]
        _method: String,
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{{\"listening\":\"{}\"}}", listener.local_addr()?);
    let checkout = warp::path!("api" / "v1" / "ventas" / "checkout")
        .and(warp::post())
        .and(warp::body::json())
        .map(|checkout: Checkout| {
            // Looked at, so that the parsing is not optimised away.
            let status =
                if checkout.items.is_empty() { StatusCode::BAD_REQUEST } else { StatusCode::CREATED };
            warp::reply::with_status(
                warp::reply::with_header(ANSWER, "content-type", "application/json"),
                status,
            )
        });
    warp::serve(checkout).incoming(listener).run().await;
    Ok(())
}

//! How much a durable sale costs over doing nothing: checkouts a second at the real release binary, divided by what
//! a warp endpoint carries that only parses the same body and answers a constant.
//!
//! Both are processes of their own with one thread, driven in turn (A B A B ...) by the same generator over as many
//! connections, so that a noisy machine hurts both alike. A ratio of 0.500 means that selling costs as much again as
//! receiving the request does. `cargo bench --bench checkout -- [--rounds N] [--seconds N] [--connections N]`; with
//! `--generator-only` it drives the constant endpoint alone, which shows the ceiling of the generator itself.

use anyhow::{Context, bail};
use blend::{
    cli::replay::server,
    client::{Bearer, HttpClient},
    load::{Call, Histogram, Report, closed_loop, thousandths},
};
use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use uuid::Uuid;
use warp::Filter;

/// The answer of the constant endpoint: as long as a checkout's.
const ANSWER: &str = r#"{"venta_id":"0193a5b2-7c1e-7d00-8a11-0123456789ab","fecha":"2026-11-22T12:34:56.789Z","total":1234.50,"metodo_pago":"efectivo","cantidad_items":1,"mensaje":"Venta procesada exitosamente"}"#;
const CHECKOUT: &str = "/api/v1/ventas/checkout";
/// Products sold in turn, so that the bench is not about one hot unit.
const UNITS: usize = 500;
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the ledger may need to catch up after a round.
const CATCH_UP: Duration = Duration::from_secs(120);

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
    let number = |name: &str, default: u64| match args.iter().position(|arg| arg == name) {
        Some(at) => {
            args.get(at + 1).and_then(|value| value.parse().ok()).with_context(|| format!("{name} N"))
        }
        None => Ok(default),
    };
    let settings = Settings {
        rounds: number("--rounds", 5)?.max(1),
        round: Duration::from_secs(number("--seconds", 5)?.max(1)),
        connections: usize::try_from(number("--connections", 64)?.max(1))?,
    };
    runtime()?.block_on(measure(&settings, has("--generator-only")))
}

struct Settings {
    rounds: u64,
    round: Duration,
    connections: usize,
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn measure(settings: &Settings, generator_only: bool) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?; // a disk, where /tmp may be memory
    let baseline = Side::baseline(directory.path())?;
    let mut sides = vec![baseline];
    if !generator_only {
        sides.push(Side::blend(directory.path()).await?);
    }
    for side in &mut sides {
        side.drive(settings.connections, WARM_UP).await?;
    }
    let mut ratios = Vec::new();
    for round in 1..=settings.rounds {
        let mut rates = Vec::new();
        for side in &mut sides {
            let (mine, theirs, began) = (cpu_ticks("self"), side.server.ticks(), Instant::now());
            let report = side.drive(settings.connections, settings.round).await?;
            let share = |before: Option<u64>, after: Option<u64>| -> u64 {
                // The kernel counts hundredths of a second.
                let ticks = after.unwrap_or(0).saturating_sub(before.unwrap_or(0));
                ticks * 1_000 / u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
            };
            let (server, generator) = (share(theirs, side.server.ticks()), share(mine, cpu_ticks("self")));
            let caught_up = side.catch_up().await?;
            println!(
                "round {round}  {:<8} {:>7}/s  p50 {} ms  p99 {} ms  cpu: server {server} %, generator {generator} %{}",
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
    client: HttpClient,
    token: Bearer,
    bodies: Vec<String>,
    sent: u64,
    latency: Histogram,
}

impl Side {
    fn baseline(directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let server = Server::start(command.arg("--baseline"), &directory.join("baseline.log"))?;
        // Any ids will do, they are parsed and forgotten.
        Self::new("baseline", server, "none", (0..UNITS).map(|n| Uuid::from_u128(n as u128)))
    }

    async fn blend(directory: &Path) -> anyhow::Result<Self> {
        let data = directory.join("data");
        let blend = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_blend"));
            command.arg("--data-dir").arg(&data);
            command
        };
        let tenant = output(blend().args(["tenant", "create", "Bench"]))?;
        let token = output(blend().args(["token", "--tenant", &tenant, "--role", "admin"]))?;
        let mut catalogue = "sku,nombre,precio\n".to_owned();
        for n in 0..UNITS {
            writeln!(catalogue, "B{n:04},Producto {n},{}.50", 100 + n)?;
        }
        let file = directory.join("catalogue.csv");
        fs::write(&file, catalogue)?;
        output(blend().args(["import", "--tenant", &tenant]).arg(&file).args(["--stock", "1000000"]))?;
        let server =
            Server::start(blend().args(["serve", "--listen", "127.0.0.1:0"]), &directory.join("blend.log"))?;
        let client = HttpClient::new(&server.address)?;
        let shop = server::load(&client, &Bearer::new(&token)?).await?;
        if shop.units.len() != UNITS {
            bail!("{} products in the catalogue, {UNITS} were imported", shop.units.len());
        }
        Self::new("blend", server, &token, shop.units.values().copied())
    }

    fn new(
        name: &'static str,
        server: Server,
        token: &str,
        units: impl Iterator<Item = Uuid>,
    ) -> anyhow::Result<Self> {
        let body = |unit| {
            format!(r#"{{"items":[{{"producto_id":"{unit}","cantidad":1}}],"metodo_pago":"efectivo"}}"#)
        };
        Ok(Self {
            name,
            client: HttpClient::new(&server.address)?,
            server,
            token: Bearer::new(token)?,
            bodies: units.map(body).collect(),
            sent: 0,
            latency: Histogram::default(),
        })
    }

    /// One round. Any answer but a sale makes the comparison worthless, so it ends the bench.
    async fn drive(&mut self, connections: usize, duration: Duration) -> anyhow::Result<Report> {
        let Self { client, token, bodies, sent, .. } = self;
        let next = || {
            *sent += 1;
            let body = bodies[(*sent as usize) % bodies.len()].clone();
            // A number is always a valid header value, it would be sent without a key otherwise.
            match HeaderValue::try_from(format!("bench-{sent}")) {
                Ok(key) => {
                    Call::post(CHECKOUT, body).with_header(HeaderName::from_static("idempotency-key"), key)
                }
                Err(_) => Call::post(CHECKOUT, body),
            }
        };
        let report = closed_loop(client, Some(&*token), connections, duration, next).await;
        if report.sent == 0 || report.answered(201) != report.sent {
            bail!(
                "{}: not every request was a sale: {:?}, {} broke",
                self.name,
                report.answers,
                report.gave_up
            );
        }
        Ok(report)
    }

    /// Waits until the ledger has everything, so that one side's leftovers don't slow the other's round. `None`
    /// when there is no ledger.
    async fn catch_up(&self) -> anyhow::Result<Option<Duration>> {
        #[derive(serde::Deserialize)]
        struct Sales {
            atraso_ledger: u64,
        }
        #[derive(serde::Deserialize)]
        struct Live {
            ventas: Sales,
        }
        let began = Instant::now();
        let mut connection = self.client.connection();
        loop {
            let live = connection
                .request(hyper::Method::GET, "/ops/live", Some(&self.token), &[], bytes::Bytes::new())
                .await?;
            if live.status == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let live: Live = live.json().context("/ops/live")?;
            if live.ventas.atraso_ledger == 0 {
                return Ok(Some(began.elapsed()));
            }
            if began.elapsed() > CATCH_UP {
                bail!("the ledger is still {} sales behind", live.ventas.atraso_ledger);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A server process that is killed with the bench.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts it and waits for the line that says where it listens.
    fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        #[derive(serde::Deserialize)]
        struct Listening {
            listening: String,
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log)?).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut server = Self { child, address: String::new() };
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let listening: Listening = serde_json::from_str(&line).with_context(|| {
            format!("the first line says not where it listens: {line:?}; {}", tail(log).unwrap_or_default())
        })?;
        server.address = format!("http://{}", listening.listening);
        // Whatever else it prints must not fill the pipe and stop it.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Ok(server)
    }

    fn ticks(&self) -> Option<u64> {
        cpu_ticks(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(log)?.take(2_000).read_to_string(&mut text)?;
    Ok(text)
}

/// The last line a command prints; an error with what it said when it fails.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.trim().lines().last().unwrap_or_default().to_owned())
}

/// User and system time of a process in hundredths of a second; `None` where there is no /proc.
fn cpu_ticks(process: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may contain spaces; after it, time is in the 12th and 13th field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
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

//! The release binary as a server to be driven, tills that drive it, and what processes cost.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod cpu;

use anyhow::{Context, bail};
use blend::{
    cli::replay::server,
    client::{Bearer, HttpClient},
    load::{Call, Report, closed_loop},
};
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use uuid::Uuid;

const CHECKOUT: &str = "/api/v1/ventas/checkout";
/// How long the ledger may need to catch up after a round.
const CATCH_UP: Duration = Duration::from_secs(120);

/// The number behind an option of the command line.
pub fn number(args: &[String], name: &str, default: u64) -> anyhow::Result<u64> {
    match args.iter().position(|arg| arg == name) {
        Some(at) => {
            args.get(at + 1).and_then(|value| value.parse().ok()).with_context(|| format!("{name} N"))
        }
        None => Ok(default),
    }
}

/// The generator's runtime: one thread, so that the servers have the rest of the machine.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// An installation of Blend with one shop in it.
pub struct Installation {
    directory: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Installation {
    /// In a directory, with settings from the environment.
    pub fn new(directory: &Path, settings: Vec<(&'static str, String)>) -> Self {
        Self { directory: directory.to_owned(), settings }
    }

    /// The program on this installation.
    fn blend(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blend"));
        command.arg("--data-dir").arg(self.directory.join("data")).envs(self.settings.iter().cloned());
        command
    }

    /// Makes a shop that sells so many products of which there is always enough, and serves.
    pub async fn open(&self, products: usize) -> anyhow::Result<(Server, Tills)> {
        let tenant = output(self.blend().args(["tenant", "create", "Bench"]))?;
        let token = output(self.blend().args(["token", "--tenant", &tenant, "--role", "admin"]))?;
        let mut catalogue = "sku,nombre,precio\n".to_owned();
        for n in 0..products {
            writeln!(catalogue, "B{n:04},Producto {n},{}.50", 100 + n)?;
        }
        let file = self.directory.join("catalogue.csv");
        fs::write(&file, catalogue)?;
        output(self.blend().args(["import", "--tenant", &tenant]).arg(&file).args(["--stock", "100000000"]))?;
        let serve = &mut self.blend();
        let serve = serve.args(["serve", "--listen", "127.0.0.1:0"]);
        let server = Server::start(serve, &self.directory.join("blend.log"))?;
        let shop = server::load(&HttpClient::new(&server.address)?, &Bearer::new(&token)?).await?;
        if shop.units.len() != products {
            bail!("{} products in the catalogue, {products} were imported", shop.units.len());
        }
        let tills = Tills::new(&server, &token, shop.units.values().copied())?;
        Ok((server, tills))
    }
}

/// What is sent to a server: single-line checkouts of some products in turn, each under a key of its own.
pub struct Tills {
    client: HttpClient,
    token: Bearer,
    bodies: Vec<String>,
    sent: u64,
}

impl Tills {
    /// At a server, for these units.
    pub fn new(server: &Server, token: &str, units: impl Iterator<Item = Uuid>) -> anyhow::Result<Self> {
        let body = |unit| {
            format!(r#"{{"items":[{{"producto_id":"{unit}","cantidad":1}}],"metodo_pago":"efectivo"}}"#)
        };
        Ok(Self {
            client: HttpClient::new(&server.address)?,
            token: Bearer::new(token)?,
            bodies: units.map(body).collect(),
            sent: 0,
        })
    }

    /// One round. Any answer but a sale makes the figures worthless, so it ends the bench.
    pub async fn drive(&mut self, connections: usize, duration: Duration) -> anyhow::Result<Report> {
        let Self { client, token, bodies, sent } = self;
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
            bail!("not every request was a sale: {:?}, {} broke", report.answers, report.gave_up);
        }
        Ok(report)
    }

    /// Waits until the ledger has everything, so that what is left of one round doesn't slow the next. `None` when
    /// there is no ledger.
    pub async fn catch_up(&self) -> anyhow::Result<Option<Duration>> {
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
                .request(Method::GET, "/ops/live", Some(&self.token), &[], bytes::Bytes::new())
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
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Starts it and waits for the line that says where it listens.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
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

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
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
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.trim().lines().last().unwrap_or_default().to_owned())
}

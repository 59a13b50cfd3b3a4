//! The command line: one binary with many verbs. stdout is for results, stderr for logs and progress.

mod access;
pub mod basket_csv;
pub mod catalogue_csv;
pub mod demo;
mod dlq;
mod doctor;
mod import;
mod install;
mod legacy;
pub mod replay;
mod serve;
pub mod table;
mod token;
mod verify;

use crate::config::Config;
use crate::telemetry;
use clap::{CommandFactory as _, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::Handle;

const EXAMPLES: &str = "\
Examples:
  blend demo                                              a shop to look at, in the browser, at once
  blend --data-dir shop tenant create \"Súper Sur\"         prints the tenant's id
  blend --data-dir shop import --tenant ID catalogo.csv --stock 100
  blend --data-dir shop serve --listen 127.0.0.1:8080
  blend --data-dir shop token --tenant ID --role cajero   prints a bearer token
  blend replay --url http://127.0.0.1:8080 --token T baskets.csv.gz
  blend --data-dir shop verify                            checks that nothing was lost, doubled or oversold
  blend --data-dir shop doctor                            looks at disk, limits and servers, says what to do

Exit codes: 0 done; 1 failed, refused, (verify) a law is broken, (doctor) something does not work; 2 the command line is wrong.";

const SERVE: &str = "\
Examples:
  blend serve --data-dir shop
  blend serve --data-dir shop --listen 127.0.0.1:0        a free port, printed on the first line of stdout
  BLEND_SERVER__MAX_CONNECTIONS=4096 blend serve --config blend.toml";

const DEMO: &str = "\
Examples:
  blend demo                                              everything is gone when it ends
  blend demo --data-dir shop --quiet                      an open shop without customers, kept in a directory";

const TOKEN: &str = "\
Examples:
  TOKEN=$(blend token --data-dir shop --tenant ID --role cajero --user caja-7)
  blend token --data-dir shop --role super_admin --ttl 30m";

const IMPORT: &str = "\
Examples:
  blend import --data-dir shop --tenant ID catalogo.csv.gz --stock 100
  blend import --data-dir shop --tenant ID catalogo.csv --stock 50 --stores baskets.csv --skip-bad";

const REPLAY: &str = "\
Examples:
  blend replay --url http://127.0.0.1:8080 --token T baskets.csv.gz
  blend replay --token T baskets.csv --rate 200 --limit 10000 --key-prefix second-run --json";

const DLQ: &str = "\
Examples:
  blend dlq ls --data-dir shop
  blend dlq replay --data-dir shop --cause \"unit # is not known\" --dry-run
  blend dlq replay --data-dir shop --all --max 10000";

const LEGACY: &str = "\
Examples:
  BLEND_LEGACY__SOURCES__LINCE__PASSWORD=... blend legacy probe --config blend.toml
  blend legacy dry-run --config blend.toml --data-dir shop --source lince --all";

const DOCTOR: &str = "\
Examples:
  blend doctor --data-dir shop
  DATABASE_URL=postgres://blend@db/blend REDIS_URL=redis://cache blend doctor --timeout 10
  blend doctor --json | jq '.checks[] | select(.verdict != \"ok\")'";

/// Blend sells stock once.
#[derive(Parser)]
#[command(name = "blend", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// Where everything durable lives; overrides the setting data_dir.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A file with the settings that differ from the defaults.
    #[arg(long, global = true, value_name = "FILE", env = "BLEND_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve tills over HTTP until SIGTERM or SIGINT.
    #[command(after_help = SERVE)]
    Serve(serve::ServeArgs),
    /// A demonstration shop with customers, a live page and commands to try.
    #[command(after_help = DEMO)]
    Demo(demo::DemoArgs),
    /// Bring the files of a data directory up to date.
    Migrate,
    /// Create and list tenants.
    #[command(subcommand)]
    Tenant(install::TenantCommand),
    /// Mint a bearer token.
    #[command(after_help = TOKEN)]
    Token(token::TokenArgs),
    /// Take in a catalogue from CSV, whole or not at all.
    #[command(after_help = IMPORT)]
    Import(import::ImportArgs),
    /// Ring up a file of real baskets at a running server.
    #[command(after_help = REPLAY)]
    Replay(replay::ReplayArgs),
    /// Check the laws on a running or stopped installation.
    Verify(verify::VerifyArgs),
    /// Look at events that were given up, and try them again.
    #[command(subcommand, after_help = DLQ)]
    Dlq(dlq::DlqCommand),
    /// Look at an old ERP before it is followed.
    #[command(subcommand, after_help = LEGACY)]
    Legacy(legacy::LegacyCommand),
    /// Load hot stock from the ledger again. Never needed: what is lost is rebuilt when it is missed.
    Warmup,
    /// Check every dependency, version, permission and setting, and say what to do.
    #[command(after_help = DOCTOR)]
    Doctor(doctor::DoctorArgs),
    /// Ask a server whether it is ready; for containers and balancers.
    Healthcheck(install::HealthcheckArgs),
    /// Print the settings in force, secrets hidden.
    Config,
}

/// The whole command line, for whoever wants to check a line without running it.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Parses the command line, runs the command and says how it went.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // The drivers' TLS takes the process's provider. An error means that there is one already.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("blend: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(cli.config.as_deref())?;
    if let Some(data_dir) = cli.data_dir {
        config.data_dir = data_dir;
    }
    telemetry::init_logs(&config.log).map_err(anyhow::Error::msg)?;
    // One thread for the edge and the actors: a request reaches its actor without waking another thread.
    let system = actix_rt::System::new();
    let (outcome, handle) =
        system.block_on(async { (command(cli.command, config).await, Handle::current()) });
    // An error may leave actors behind. What they hold goes down with the runtime, and a connection to a database
    // must be inside one to be dropped.
    let inside = handle.enter();
    drop(system);
    drop(inside);
    outcome
}

async fn command(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args, config).await,
        Command::Demo(args) => demo::run(args, config).await,
        Command::Migrate => install::migrate(&config).await,
        Command::Tenant(command) => install::tenant(command, &config).await,
        Command::Token(args) => token::run(&args, &config),
        Command::Import(args) => import::run(&args, &config).await,
        Command::Replay(args) => replay::command(&args).await,
        Command::Verify(args) => verify::run(&args, &config).await,
        Command::Dlq(command) => dlq::run(command, &config).await,
        Command::Legacy(command) => legacy::run(command, &config).await,
        Command::Warmup => install::warmup(&config).await,
        Command::Doctor(args) => doctor::run(&args, &config).await,
        Command::Healthcheck(args) => install::healthcheck(args, &config).await,
        Command::Config => {
            print!("{}", toml::to_string(&config)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

//! A serving installation: engine and HTTP edge, from claim to ordered end.

use super::adapters::Adapters;
use super::data_dir::{self, DataDir};
use super::waiting::Waiting;
use super::{Engine, Failure};
use crate::config::Config;
use crate::http::api::{Api, Cluster, LiveBoard, Ops, routes, starting};
use crate::http::{
    Authenticator, RouteTable, Secret, ServeOutcome, ServerLimits, Tables, serve as serve_http,
};
use crate::ports::clock::SharedClock;
use crate::telemetry::traces::Traces;
use actix_rt::task::JoinHandle;
use anyhow::{Context as _, bail};
use metrics_exporter_prometheus::PrometheusHandle;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How often vitals are copied to the metrics.
const EXPORT_EVERY: Duration = Duration::from_secs(1);

/// What a caller may do with a server that is up.
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its engine's shards.
    pub shards: crate::actors::reservation::Shards,
    /// Mints and checks its tokens.
    pub authenticator: Authenticator,
}

/// Serves until `stop` resolves or supervision gives up. `up` runs once the edge listens and every shard is ready.
/// Must run on a thread of an actix `System`.
pub async fn serve<F>(
    config: &Config,
    mut data_dir: DataDir,
    clock: SharedClock,
    prometheus: PrometheusHandle,
    stop: impl Future<Output = ()>,
    up: impl FnOnce(Serving) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let started = Instant::now();
    let listen = &config.server.listen;
    let listener = TcpListener::bind(listen)
        .await
        .and_then(TcpListener::into_std)
        .with_context(|| format!("cannot listen on {listen}: choose another address with --listen"))?;
    let address = listener.local_addr()?;
    let mut stop = pin!(stop);
    let (door, adapters) = open(config, &data_dir, &clock, Door::Closed(listener), stop.as_mut()).await?;
    let Some(adapters) = adapters else {
        door.close().await?;
        tracing::info!("stopped before it could start");
        return Ok(());
    };
    let address_for_others = Some(advertised(config, address));
    let traces = Traces::start(&config.traces, clock.clone()).map_err(anyhow::Error::msg)?;
    let spans = traces.as_ref().map(Traces::spans);
    let engine = Engine::over(adapters, config, clock.clone(), address_for_others, spans.clone())?;
    let api = Arc::new(api(config, &engine, data_dir.path(), prometheus.clone(), started)?);
    let table = routes(api).traced(spans).build()?;
    let door = door.answer_by(table, config)?;
    // A rebuild may take its time; whoever wants the process to end before it is over need not wait for it.
    let ready = tokio::select! {
        ready = engine.ready() => ready.map(|()| true)?,
        () = &mut stop => false,
    };
    let mut failure = None;
    let mut companions = Vec::new();
    if ready {
        data_dir.announce(&address.to_string())?;
        tracing::info!(%address, ms = started.elapsed().as_millis(), "serving");
        companions.push(actix_rt::spawn(export(
            engine.registry.clone(),
            (engine.ledger_lag(), engine.outbox()),
            prometheus,
        )));
        let authenticator = authenticator(config, data_dir.path(), &clock)?;
        let up = up(Serving { address, shards: engine.shards.clone(), authenticator });
        companions.push(actix_rt::spawn(async {
            // It tells its own errors; the server goes on without it.
            up.await.ok();
        }));
        tokio::select! {
            () = &mut stop => {}
            gave_up = engine.failed() => failure = Some(gave_up),
        }
    }
    tracing::info!("stopping");
    companions.iter().for_each(JoinHandle::abort);
    let outcome = door.close().await?;
    let report = engine.stop(Duration::from_secs(config.server.shutdown_timeout_secs)).await;
    if let Some(traces) = traces {
        traces.finish().await;
    }
    tracing::info!(connections_cut = outcome.cut, clean = report.is_clean(), "stopped");
    match failure {
        // It says what to do, and starting again is not it.
        Some(failure @ Failure::Refused(_)) => bail!("{failure}"),
        Some(failure) => bail!("{failure}; see the log above, and start again"),
        None if !report.is_clean() => {
            tracing::warn!(
                "not everything was drained in time; nothing acknowledged is lost, the next start goes on"
            );
            Ok(())
        }
        None => Ok(()),
    }
}

/// Opens what the settings name; callers wait in the queue of the port for as long as that takes. When a server is away
/// they are told so instead, until it is there. None when `stop` comes first.
async fn open(
    config: &Config,
    data_dir: &DataDir,
    clock: &SharedClock,
    door: Door,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<(Door, Option<Adapters>)> {
    let waiting = Arc::new(Waiting::default());
    let mut opening = pin!(Adapters::open(config, data_dir, clock.clone(), Some(&waiting)));
    tokio::select! {
        opened = &mut opening => return Ok((door, Some(opened?))),
        () = waiting.begun() => {}
        () = &mut stop => return Ok((door, None)),
    }
    let told = waiting.clone();
    let table = starting(clock.clone(), Arc::new(move || told.list())).build()?;
    let door = door.answer_by(table, config)?;
    tokio::select! {
        opened = opening => Ok((door, Some(opened?))),
        () = stop => Ok((door, None)),
    }
}

/// The edge on its port.
enum Door {
    /// Callers wait in the queue of the port.
    Closed(std::net::TcpListener),
    /// They are answered.
    Open { tables: Arc<Tables>, stop: oneshot::Sender<()>, edge: JoinHandle<ServeOutcome> },
}

impl Door {
    /// Answers by this table from now on, those too who have been answered by another one.
    fn answer_by(self, table: Arc<RouteTable>, config: &Config) -> anyhow::Result<Self> {
        let listener = match self {
            Self::Closed(listener) => TcpListener::from_std(listener)?,
            Self::Open { ref tables, .. } => {
                tables.change_to(table);
                return Ok(self);
            }
        };
        let tables = Tables::new(table);
        let (stop, stopped) = oneshot::channel::<()>();
        let edge = actix_rt::spawn(serve_http(listener, tables.clone(), limits(config), async {
            // A sender that is gone means the same as one that spoke.
            stopped.await.ok();
        }));
        Ok(Self::Open { tables, stop, edge })
    }

    /// Lets nobody in any more and waits for those who are.
    async fn close(self) -> anyhow::Result<ServeOutcome> {
        match self {
            Self::Closed(_) => Ok(ServeOutcome { cut: 0 }),
            Self::Open { stop, edge, .. } => {
                drop(stop);
                edge.await.context("the HTTP edge failed")
            }
        }
    }
}

/// Where other nodes find this one: as set, else where it listens, else by the name of the machine.
fn advertised(config: &Config, listening: SocketAddr) -> String {
    match config.cluster.advertise.as_str() {
        "" if !listening.ip().is_unspecified() => listening.to_string(),
        "" => {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
            format!("{name}:{}", listening.port())
        }
        address => address.to_owned(),
    }
}

async fn export(
    registry: crate::actors::kit::Registry,
    (ledger_lag, outbox): (impl Fn() -> u64, impl Fn() -> Option<(bool, u64)>),
    prometheus: PrometheusHandle,
) {
    let lag = metrics::gauge!("blend_ledger_lag_events");
    let waiting = metrics::gauge!("blend_outbox_events");
    let mut tick = tokio::time::interval(EXPORT_EVERY);
    loop {
        tick.tick().await;
        registry.export_metrics();
        lag.set(u32::try_from(ledger_lag()).unwrap_or(u32::MAX));
        waiting.set(outbox().map_or(0, |(_, events)| u32::try_from(events).unwrap_or(u32::MAX)));
        prometheus.run_upkeep();
    }
}

fn api(
    config: &Config,
    engine: &Engine,
    data_dir: &Path,
    prometheus: PrometheusHandle,
    started: Instant,
) -> anyhow::Result<Api> {
    let breaker = engine.ledger_circuit.clone();
    let patience = Duration::from_secs(config.server.answer_timeout_secs);
    Ok(Api {
        shards: engine.shards.clone(),
        channels: engine.channels.clone(),
        webhooks: engine.webhooks.clone(),
        pollers: engine.pollers.clone(),
        cluster: engine.council().map(|council| Cluster::new(council, engine.shards.count(), patience)),
        authenticator: authenticator(config, data_dir, &engine.clock)?,
        ops: Ops {
            registry: engine.registry.clone(),
            clock: engine.clock.clone(),
            prometheus,
            live: LiveBoard::default(),
            ledger_lag: Box::new(engine.ledger_lag()),
            dead_letters: engine.dead_letters.clone(),
            outbox: Box::new(engine.outbox()),
            findings: engine.findings.clone(),
            circuits: Box::new(move || {
                breaker.iter().map(|breaker| ("ledger", breaker.state().as_str())).collect()
            }),
            open_to_loopback: config.server.ops_open_to_loopback,
            shows_sales: config.server.live_page_shows_sales,
            started,
        },
        max_import_bytes: config.server.max_import_bytes,
    })
}

/// Tokens of an installation: the configured key, or the one in its data directory.
pub fn authenticator(config: &Config, data_dir: &Path, clock: &SharedClock) -> anyhow::Result<Authenticator> {
    let key = match config.auth.jwt_secret.reveal() {
        "" => data_dir::signing_key(data_dir)?,
        configured => configured.to_owned(),
    };
    let secret = Secret::new(key).context("the signing key is too short")?;
    let clock = clock.clone();
    let seconds: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(move || clock.now().seconds());
    Ok(Authenticator::new(secret, seconds).with_leeway(config.auth.leeway_secs))
}

fn limits(config: &Config) -> ServerLimits {
    let server = &config.server;
    ServerLimits {
        max_connections: server.max_connections,
        header_timeout: Duration::from_secs(server.header_timeout_secs),
        idle_timeout: Duration::from_secs(server.idle_timeout_secs),
        body_timeout: Duration::from_secs(server.body_timeout_secs),
        write_timeout: Duration::from_secs(server.write_timeout_secs),
        max_header_bytes: server.max_header_bytes,
        max_body_bytes: server.max_body_bytes,
        shutdown_deadline: Duration::from_secs(server.shutdown_timeout_secs),
    }
}

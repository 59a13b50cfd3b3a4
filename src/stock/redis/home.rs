//! The connection that the shards of a process share, and what they agree on over it.

use super::RedisStock;
use super::errors::port_error;
use super::inspect::Inspection;
use super::outbox::RedisOutbox;
use super::scripts::{Loaded, Script};
use super::wire::{Call, Names};
use crate::ports::PortError;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::outbox::Outbox;
use crate::ports::stock::{HotStock, NewStock};
use crate::resilience::backoff::BackoffPolicy;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    LogicalAggregateOp, MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo,
};
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisResult, ScriptInvocation,
    ServerErrorKind, Value, cmd,
};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Times that a node of a cluster is asked before the command has failed.
const CLUSTER_TRIES: u32 = 3;

/// Time-outs without any sign of the host until its connection is given up.
const TIMEOUTS_UNTIL_GONE: u32 = 4;

/// Between looking for servers that are away.
const AWAY: BackoffPolicy = BackoffPolicy::doubling(Duration::from_millis(50), Duration::from_secs(1));

/// How Redis is reached.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://` or, for TLS, `rediss://`, with user, password and database number as usual. One node of a cluster
    /// stands for all of it.
    pub url: String,
    /// How long an answer may take. What was asked may still happen after that.
    pub timeout: Duration,
    /// How long a load waits for servers that are away, while the shard holds its callers. With less than a quarter of
    /// the window of its restart budget an outage would end the shard instead.
    pub patience: Duration,
    /// Settled idempotency keys of a tenant to remember before the ledger has to be asked.
    pub keys_per_tenant: usize,
    /// In front of every key, for a Redis that others use too: visible ASCII without braces, or empty.
    pub prefix: String,
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, timeout, patience, keys_per_tenant, prefix } = self;
        f.debug_struct("RedisSettings")
            .field("url", &"...")
            .field("timeout", timeout)
            .field("patience", patience)
            .field("keys_per_tenant", keys_per_tenant)
            .field("prefix", prefix)
            .finish()
    }
}

/// A connection to one server or to a cluster; copies share it.
#[derive(Clone)]
enum Link {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Link {
    async fn single(settings: &RedisSettings) -> Result<Self, PortError> {
        let info = settings.url.as_str().into_connection_info().map_err(|error| port_error(&error))?;
        let info = info.set_tcp_settings(tcp(settings.timeout));
        let client = Client::open(info).map_err(|error| port_error(&error))?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(settings.timeout))
            .set_connection_timeout(Some(settings.timeout))
            .set_max_delay(Duration::from_secs(1));
        let manager = ConnectionManager::new_with_config(client, config).await;
        manager.map(Self::Single).map_err(|error| port_error(&error))
    }

    async fn cluster(settings: &RedisSettings) -> Result<Self, PortError> {
        let client = ClusterClientBuilder::new([settings.url.as_str()])
            .response_timeout(settings.timeout)
            .connection_timeout(settings.timeout)
            .tcp_settings(tcp(settings.timeout))
            .retries(CLUSTER_TRIES)
            .build()
            .map_err(|error| port_error(&error))?;
        client.get_async_connection().await.map(Self::Cluster).map_err(|error| port_error(&error))
    }

    /// For the node that has the keys of the command.
    async fn run(&self, command: &Cmd) -> RedisResult<Value> {
        match self.clone() {
            Self::Single(mut manager) => command.query_async(&mut manager).await,
            Self::Cluster(mut cluster) => command.query_async(&mut cluster).await,
        }
    }

    /// For every primary, or the one server.
    async fn run_everywhere(&self, command: &Cmd, policy: ResponsePolicy) -> Result<Value, PortError> {
        let routing = (MultipleNodeRoutingInfo::AllMasters, Some(policy));
        self.route(command, RoutingInfo::MultiNode(routing)).await
    }

    /// For any primary, or the one server.
    async fn run_anywhere(&self, command: &Cmd) -> Result<Value, PortError> {
        self.route(command, RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary)).await
    }

    async fn route(&self, command: &Cmd, routing: RoutingInfo) -> Result<Value, PortError> {
        let answer = match self.clone() {
            Self::Single(_) => self.run(command).await,
            Self::Cluster(mut cluster) => cluster.route_command(command.clone(), routing).await,
        };
        answer.map_err(|error| port_error(&error))
    }

    async fn lives(&self) -> Result<Lives, PortError> {
        let mut info = cmd("INFO");
        info.arg("server");
        let answers = match self.run_everywhere(&info, ResponsePolicy::Special).await? {
            Value::Map(by_address) => by_address,
            one => vec![(Value::Nil, one)],
        };
        let mut lives = Lives::default();
        for (address, answer) in answers {
            let text: String = read(answer)?;
            let id = text.lines().find_map(|line| line.trim_end().strip_prefix("run_id:"));
            let no_id =
                || PortError::Permanent("Redis: INFO tells no run_id; allow the user INFO".to_owned());
            lives.ids.push(id.ok_or_else(no_id)?.to_owned());
            lives.nodes.push(at_address(read(address)?)?);
        }
        lives.ids.sort_unstable();
        Ok(lives)
    }

    async fn load_scripts(&self) -> Result<Loaded, PortError> {
        let lives = self.lives().await?;
        let mark = lives.ids.join(" ");
        let mut hashes = <[String; Script::ALL.len()]>::default();
        for (hash, script) in hashes.iter_mut().zip(Script::ALL) {
            let mut load = cmd("SCRIPT");
            load.arg("LOAD").arg(script.source(&mark));
            // To those who gave their ids, never to a replica or to who has just taken over: under this name they must
            // not know the script.
            for node in &lives.nodes {
                *hash = read(self.route(&load, RoutingInfo::SingleNode(node.clone())).await?)?;
            }
        }
        if self.lives().await?.ids != lives.ids {
            let why = "Redis: a server restarted while scripts were loaded; load them again";
            return Err(PortError::Transient(why.to_owned()));
        }
        Ok(Loaded::under(hashes))
    }

    async fn inspect(&self) -> Result<Inspection, PortError> {
        let info: String = read(self.run_anywhere(&cmd("INFO")).await?)?;
        Ok(Inspection::read(&info))
    }
}

/// Sent at once: the shards' commands share a connection, and none may wait until the one before is acknowledged. A host
/// that is gone without a word is given up after a few time-outs; until the kernel does so, by default a quarter of an
/// hour, the client would keep the connection.
fn tcp(timeout: Duration) -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(timeout * TIMEOUTS_UNTIL_GONE);
    settings
}

/// Which lives of which servers these are.
#[derive(Default)]
struct Lives {
    /// Run ids of the primaries, sorted: they change when one restarts or another takes over.
    ids: Vec<String>,
    /// Where each of them is.
    nodes: Vec<SingleNodeRoutingInfo>,
}

/// The node at `host:port`; without an address the one server, which needs none.
fn at_address(address: Option<String>) -> Result<SingleNodeRoutingInfo, PortError> {
    let Some(address) = address else { return Ok(SingleNodeRoutingInfo::RandomPrimary) };
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let unreadable = || PortError::Permanent(format!("Redis: {address} is no address of a node"));
    let (host, port) = parts.ok_or_else(unreadable)?;
    Ok(SingleNodeRoutingInfo::ByAddress { host: host.to_owned(), port })
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, PortError> {
    T::from_redis_value(value).map_err(|error| PortError::Transient(format!("Redis: {error}")))
}

/// Redis, for all shards of this process.
pub struct RedisHome {
    link: Link,
    names: Names,
    keys_per_tenant: usize,
    patience: Duration,
    /// Replaced when a server has forgotten them; whoever holds older ones may not act any more.
    scripts: Mutex<Arc<Loaded>>,
    /// The highest epoch that was given out here or met there.
    epoch: AtomicU64,
}

impl RedisHome {
    /// Connects and loads the scripts. Whether it is a cluster is what the server says.
    pub async fn connect(settings: &RedisSettings) -> Result<Arc<Self>, PortError> {
        let names = Names::new(&settings.prefix).ok_or_else(|| {
            PortError::Permanent("the prefix of keys must be visible ASCII without braces".to_owned())
        })?;
        let mut link = Link::single(settings).await?;
        let found = link.inspect().await?;
        if !found.is_supported() {
            let why = format!("Redis {} is too old: Blend needs 7.0 or newer", found.version);
            return Err(PortError::Permanent(why));
        }
        if found.is_cluster {
            link = Link::cluster(settings).await?;
        }
        let scripts = Mutex::new(Arc::new(link.load_scripts().await?));
        let RedisSettings { keys_per_tenant, patience, .. } = *settings;
        Ok(Arc::new(Self { link, names, keys_per_tenant, patience, scripts, epoch: AtomicU64::new(0) }))
    }

    /// Makes the stock of a shard, over the shared connection.
    pub fn new_stock(self: &Arc<Self>) -> NewStock {
        let home = Arc::clone(self);
        Arc::new(move || Box::new(RedisStock::new(Arc::clone(&home))) as Box<dyn HotStock>)
    }

    /// An outbox of a shard, over the shared connection.
    pub fn new_outbox(self: &Arc<Self>, shard: usize) -> Box<dyn Outbox> {
        Box::new(RedisOutbox::new(Arc::clone(self), shard))
    }

    /// Whether the answer to a write means that it is on the disk. A server that does not tell counts as one that
    /// does not.
    pub async fn keeps_every_write(&self) -> Result<bool, PortError> {
        if !self.inspect().await?.has_aof {
            return Ok(false);
        }
        let mut ask = cmd("CONFIG");
        ask.arg("GET").arg("appendfsync");
        let answers = match self.link.run_everywhere(&ask, ResponsePolicy::Special).await {
            Ok(Value::Map(by_address)) => by_address.into_iter().map(|(_, answer)| answer).collect(),
            Ok(one) => vec![one],
            Err(error) => {
                tracing::info!(%error, "Redis does not tell whether it keeps every write");
                return Ok(false);
            }
        };
        let always = |answer: Value| {
            let pair = read::<Vec<String>>(answer);
            pair.is_ok_and(|pair| pair.get(1).is_some_and(|value| value == "always"))
        };
        Ok(answers.into_iter().all(always))
    }

    /// Runs a script whose name does not depend on the life of the servers.
    pub(super) async fn invoke(&self, call: &ScriptInvocation<'_>) -> Result<(i64, Value), PortError> {
        let answer = match self.link.clone() {
            Link::Single(mut manager) => call.invoke_async(&mut manager).await,
            Link::Cluster(mut cluster) => call.invoke_async(&mut cluster).await,
        };
        answer.map_err(|error| port_error(&error))
    }

    /// Runs a command of one key.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, PortError> {
        read(self.link.run(command).await.map_err(|error| port_error(&error))?)
    }

    /// What the server, or one of the cluster's, says of itself.
    pub async fn inspect(&self) -> Result<Inspection, PortError> {
        self.link.inspect().await
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn keys_per_tenant(&self) -> usize {
        self.keys_per_tenant
    }

    /// Runs a script of a set. Where it was flushed it is loaded again, but only on the same lives of the servers: under
    /// any other name it is the script of somebody who has not loaded that stock.
    pub(super) async fn run(&self, scripts: &Loaded, call: &Call) -> Result<Value, PortError> {
        const NO_SCRIPT: ErrorKind = ErrorKind::Server(ServerErrorKind::NoScript);
        let command = scripts.call(call.script, &call.keys, &call.args);
        let mut answer = self.link.run(&command).await;
        if answer.as_ref().is_err_and(|error| error.kind() == NO_SCRIPT) && *self.scripts().await? == *scripts
        {
            answer = self.link.run(&command).await;
        }
        answer.map_err(|error| port_error(&error))
    }

    /// Scripts that every server has. When one has been replaced or restarted they get new names: a shard that loaded
    /// its stock before does not find its own and loads again, even if another shard came first.
    pub(super) async fn scripts(&self) -> Result<Arc<Loaded>, PortError> {
        let mut scripts = self.scripts.lock().await;
        let everywhere = ResponsePolicy::AggregateLogical(LogicalAggregateOp::And);
        let there: Vec<bool> = read(self.link.run_everywhere(&scripts.exist(), everywhere).await?)?;
        if !there.iter().all(|there| *there) {
            *scripts = Arc::new(self.link.load_scripts().await?);
        }
        Ok(scripts.clone())
    }

    /// The same, once the servers are there.
    pub(super) async fn scripts_when_up(&self) -> Result<Arc<Loaded>, PortError> {
        let began = Instant::now();
        let mut delays = AWAY.delays();
        loop {
            match self.scripts().await {
                Err(error) if error.is_transient() && began.elapsed() < self.patience => {
                    tracing::warn!(%error, "waiting for Redis");
                    tokio::time::sleep(delays.next_delay()).await;
                }
                done => return done,
            }
        }
    }

    /// An epoch above all that this process gave out or met, and above those of the past as far as clocks can tell: the
    /// time in microseconds, which Lua's numbers hold until the year 2255.
    pub(super) fn next_epoch(&self) -> u64 {
        let now = u64::try_from(SystemClock.now().micros()).unwrap_or_default();
        let mut last = self.epoch.load(Ordering::Relaxed);
        loop {
            let next = now.max(last + 1);
            match self.epoch.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(newer) => last = newer,
            }
        }
    }

    /// Takes note of an epoch that somebody else's clock made.
    pub(super) fn met(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::Relaxed);
    }
}

impl fmt::Debug for RedisHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.link {
            Link::Single(_) => "single",
            Link::Cluster(_) => "cluster",
        };
        write!(f, "RedisHome({kind})")
    }
}

//! Which adapter serves which port, as the settings say.

use super::at_rest::AtRest;
use super::away::Server;
use super::data_dir::{DataDir, journal_file, ledger_file};
use super::outboxes::Outboxes;
use super::waiting::Waiting;
use crate::actors::channels::Groups;
use crate::bus::journal::audit::JournalFacts;
use crate::bus::journal::{Journal, JournalSettings};
use crate::bus::rabbitmq::audit::BrokerFacts;
use crate::bus::rabbitmq::{QueueType, RabbitBus, RabbitSettings};
use crate::channels;
use crate::channels::meli::{Budget, Meli};
use crate::channels::shopify::{Install, Shopify};
use crate::config::{self, Config, Hidden};
use crate::domain::channel::ChannelKind;
use crate::ports::audit::{BusFactSource, LedgerFactSource};
use crate::ports::bus::{EventHistory, Subscription};
use crate::ports::channel::{Installer, Marketplace, OpenMarketplace};
use crate::ports::clock::{SharedClock, SystemClock};
use crate::ports::dead_letters::DeadLetters;
use crate::ports::ledger::{LedgerReader, LedgerStore};
use crate::ports::stock::{HotStock, NewStock};
use crate::ports::{Open, PortError};
use crate::resilience::retry::RetrySchedule;
use crate::stock::memory::MemoryStock;
use crate::stock::redis::{RedisHome, RedisSettings};
use crate::store::postgres::{self, PostgresSettings};
use crate::store::sqlite;
use crate::store::sqlite::channels::Channels;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

/// How long a shard holds its callers for a Redis that is away before it tries from the beginning.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that the engine reaches outside of its process.
pub struct Adapters {
    pub bus: Bus,
    pub ledger: Ledger,
    pub new_stock: NewStock,
    /// What is remembered of marketplaces and webhooks.
    pub at_rest: AtRest,
    /// Where events wait while the broker is away.
    pub outboxes: Option<Arc<Outboxes>>,
    /// What was wrong with the embedded files when they were opened.
    pub findings: Vec<String>,
}

/// The bus.
#[derive(Clone)]
pub enum Bus {
    Journal(Journal),
    RabbitMq(RabbitBus),
}

/// Ledger and catalogue.
#[derive(Clone)]
pub enum Ledger {
    Sqlite(sqlite::Ledger),
    Postgres(Box<postgres::Ledger>),
}

impl Adapters {
    /// Opens what the settings name. Servers that are away are waited for, where that is wanted.
    pub async fn open(
        config: &Config,
        data_dir: &DataDir,
        clock: SharedClock,
        waiting: Option<&Waiting>,
    ) -> anyhow::Result<Self> {
        let bus = async {
            match rabbitmq(config, clock.clone()) {
                Some(bus) => {
                    reached(config, waiting, Server::RabbitMq, async || bus.check().await).await?;
                    Ok((Bus::RabbitMq(bus), Vec::new()))
                }
                None => {
                    let settings = journal_settings(config);
                    let opened = Journal::open(&data_dir.journal(), settings, clock.clone()).await;
                    opened.map(|(journal, findings)| (Bus::Journal(journal), findings.0))
                }
            }
        };
        let ledger = async {
            match postgres(config) {
                Some(settings) => {
                    let open = async || postgres::Ledger::open(&settings).await;
                    let opened = reached(config, waiting, Server::PostgreSql, open).await?;
                    Ok(Ledger::Postgres(Box::new(opened)))
                }
                None => sqlite::Ledger::open(&data_dir.ledger()).await.map(Ledger::Sqlite),
            }
        };
        let stock = async {
            match redis(config) {
                Some(settings) => {
                    let open = async || hot_tier(config, &settings).await;
                    reached(config, waiting, Server::Redis, open).await
                }
                None => {
                    let keys = config.engine.idempotency_keys_in_memory;
                    let new: NewStock =
                        Arc::new(move || Box::new(MemoryStock::new(keys)) as Box<dyn HotStock>);
                    Ok((new, None))
                }
            }
        };
        // At once, so that whoever looks sees all that are away.
        let opened = async { tokio::try_join!(bus, ledger, stock) };
        let ((bus, findings), ledger, (new_stock, outboxes)) = Box::pin(opened).await?;
        let at_rest = match &ledger {
            Ledger::Sqlite(_) => AtRest::Sqlite(Channels::open(&data_dir.channels()).await?),
            Ledger::Postgres(ledger) => {
                if data_dir.channels().exists() {
                    tracing::warn!(
                        "channels.db of an earlier build is not read: connections and webhooks rest beside the ledger now, \
                         in PostgreSQL; connect the accounts again"
                    );
                }
                AtRest::Postgres(Box::new(ledger.channels()))
            }
        };
        Ok(Self { bus, ledger, new_stock, at_rest, outboxes, findings })
    }
}

/// Opens what is at a server, now or once it is there.
async fn reached<T>(
    config: &Config,
    waiting: Option<&Waiting>,
    server: Server,
    open: impl AsyncFn() -> Result<T, PortError>,
) -> Result<T, PortError> {
    match waiting {
        Some(waiting) => waiting.until_there(server.name(), open).await,
        None => open().await.map_err(|error| server.unusable(config, &error)),
    }
}

impl Bus {
    /// The groups of marketplaces.
    pub fn channel_groups(&self) -> Groups {
        let groups =
            |kind: ChannelKind| self.groups(kind.group()).into_iter().map(move |group| (kind, group));
        ChannelKind::ALL.into_iter().flat_map(groups).collect()
    }

    /// A group beside the ledger's.
    pub fn groups(&self, name: &'static str) -> Vec<Arc<dyn Subscription>> {
        match self {
            Self::Journal(journal) => vec![journal.group(name)],
            Self::RabbitMq(bus) => bus.groups(name),
        }
    }

    /// Events that were given up.
    pub fn dead_letters(&self) -> Arc<dyn DeadLetters> {
        match self {
            Self::Journal(journal) => Arc::new(journal.clone()),
            Self::RabbitMq(bus) => Arc::new(bus.clone()),
        }
    }

    /// What the ledger does not have yet of the tenants of a shard, or of all.
    pub fn history(&self, shard: usize) -> Arc<dyn EventHistory> {
        match self {
            Self::Journal(journal) => Arc::new(journal.clone()),
            Self::RabbitMq(bus) => bus.history(shard),
        }
    }

    /// How many events the ledger is behind.
    pub fn backlog(&self) -> u64 {
        match self {
            Self::Journal(journal) => journal.backlog(),
            Self::RabbitMq(bus) => bus.backlog(),
        }
    }

    /// Whether it is elsewhere and may be away for hours.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Journal(_) => false,
            Self::RabbitMq(_) => true,
        }
    }

    /// Leaves things in order once nobody uses it any more.
    pub async fn close(&self) -> Result<(), PortError> {
        match self {
            Self::Journal(journal) => journal.close().await,
            Self::RabbitMq(_) => Ok(()),
        }
    }
}

impl Ledger {
    /// Opens writing ends.
    pub fn store(&self) -> Open<Box<dyn LedgerStore>> {
        match self {
            Self::Sqlite(ledger) => ledger.store(),
            Self::Postgres(ledger) => ledger.store(),
        }
    }

    /// The reading end.
    pub fn reader(&self) -> Arc<dyn LedgerReader> {
        match self {
            Self::Sqlite(ledger) => ledger.reader(),
            Self::Postgres(ledger) => ledger.reader(),
        }
    }

    /// Whether it is elsewhere and may be away for hours.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(_) => true,
        }
    }

    /// Leaves things in order once nobody uses it any more.
    pub async fn close(&self) -> Result<(), PortError> {
        match self {
            Self::Sqlite(ledger) => ledger.close().await,
            Self::Postgres(ledger) => {
                ledger.close().await;
                Ok(())
            }
        }
    }
}

/// What the bus of an installation tells the checker.
pub async fn bus_facts(config: &Config) -> anyhow::Result<Box<dyn BusFactSource>> {
    if let Some(bus) = rabbitmq(config, Arc::new(SystemClock)) {
        reached(config, None, Server::RabbitMq, async || bus.check().await).await?;
        return Ok(Box::new(BrokerFacts::new(bus)));
    }
    let opened = JournalFacts::open(&journal_file(&config.data_dir)).await;
    Ok(Box::new(opened.with_context(|| uncheckable(config))?))
}

/// What its ledger tells.
pub async fn ledger_facts(config: &Config) -> anyhow::Result<Box<dyn LedgerFactSource>> {
    if let Some(settings) = postgres(config) {
        let open = async || postgres::Ledger::open(&settings).await;
        let ledger = reached(config, None, Server::PostgreSql, open).await?;
        return Ok(Box::new(ledger.audit().await?));
    }
    let opened = sqlite::audit::LedgerFacts::open(&ledger_file(&config.data_dir)).await;
    Ok(Box::new(opened.with_context(|| uncheckable(config))?))
}

/// Its ledger to read, beside whatever is running.
pub async fn ledger_reader(config: &Config) -> anyhow::Result<Arc<dyn LedgerReader>> {
    if let Some(settings) = postgres(config) {
        let open = async || postgres::Ledger::open(&settings).await;
        return Ok(reached(config, None, Server::PostgreSql, open).await?.reader());
    }
    anyhow::ensure!(has_ledger(config), "{} is no data directory of Blend", config.data_dir.display());
    Ok(sqlite::Ledger::open(&ledger_file(&config.data_dir)).await?.reader())
}

/// Whether there is a ledger to read: one on a server, or a file.
pub fn has_ledger(config: &Config) -> bool {
    postgres(config).is_some() || ledger_file(&config.data_dir).exists()
}

fn uncheckable(config: &Config) -> String {
    format!("{} cannot be checked", config.data_dir.display())
}

/// Makes the client of a connection.
pub fn marketplaces(config: &Config) -> anyhow::Result<OpenMarketplace> {
    let patience = Duration::from_secs(config.channels.answer_timeout_secs);
    let (http, shopify_url) =
        (channels::http::patient_client(patience)?, config.channels.shopify_url.clone());
    // MercadoLibre counts per app, whichever seller it is for.
    let public_url = config.channels.public_url.clone();
    let (meli_url, budget) = (config.channels.meli_url.clone(), Arc::new(Budget::default()));
    Ok(Arc::new(move |connection, credentials| match connection.kind {
        ChannelKind::Shopify => {
            let shop = Shopify::open(http.clone(), &shopify_url, connection, credentials)?;
            Ok(Box::new(shop.told_at(&public_url, connection)) as Box<dyn Marketplace>)
        }
        ChannelKind::Meli => {
            let seller = Meli::open(http.clone(), &meli_url, budget.clone(), connection, credentials)?;
            Ok(Box::new(seller) as Box<dyn Marketplace>)
        }
    }))
}

/// Connects shops by way of their owners.
pub fn installer(config: &Config) -> anyhow::Result<Arc<dyn Installer>> {
    let settings = &config.channels;
    let (id, secret) = (&settings.shopify_client_id, settings.shopify_client_secret.reveal());
    let http = channels::http::client()?;
    Ok(Arc::new(Install::new(http, &settings.shopify_url, id, secret, &settings.public_url)))
}

fn redis(config: &Config) -> Option<RedisSettings> {
    let url = given(&config.stock.url)?;
    let timeout = Duration::from_millis(config.stock.timeout_ms);
    let keys_per_tenant = config.engine.idempotency_keys_in_memory;
    Some(RedisSettings { url, timeout, patience: PATIENCE, keys_per_tenant, prefix: String::new() })
}

/// With outboxes where there is a broker that may be away.
async fn hot_tier(
    config: &Config,
    settings: &RedisSettings,
) -> Result<(NewStock, Option<Arc<Outboxes>>), PortError> {
    let home = RedisHome::connect(settings).await?;
    let warnings = home.inspect().await?.warnings();
    let outboxes = match given(&config.bus.url) {
        Some(_) => Some(Arc::new(Outboxes::of(config, home.clone()).await?)),
        None => None,
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok((home.new_stock(), outboxes))
}

fn given(url: &Hidden) -> Option<String> {
    (!url.reveal().is_empty()).then(|| url.reveal().to_owned())
}

fn postgres(config: &Config) -> Option<PostgresSettings> {
    let ledger = &config.ledger;
    let timeout = Duration::from_secs(ledger.timeout_secs);
    Some(PostgresSettings { url: given(&ledger.url)?, max_connections: ledger.max_connections, timeout })
}

fn rabbitmq(config: &Config, clock: SharedClock) -> Option<RabbitBus> {
    let bus = &config.bus;
    let settings = RabbitSettings {
        url: given(&bus.url)?,
        prefetch: bus.prefetch,
        confirm_timeout: Duration::from_secs(bus.confirm_timeout_secs),
        catch_up_timeout: Duration::from_secs(bus.catch_up_timeout_secs),
        shards: config.engine.shards,
        alone: config.ledger.url.reveal().is_empty(),
        partitions: bus.partitions,
        queue_type: bus.queue_type.into(),
        retries: retries(config),
        prefix: String::new(),
    };
    Some(RabbitBus::new(settings, clock))
}

impl From<config::QueueType> for QueueType {
    fn from(setting: config::QueueType) -> Self {
        match setting {
            config::QueueType::Auto => Self::Auto,
            config::QueueType::Quorum => Self::Quorum,
            config::QueueType::Classic => Self::Classic,
        }
    }
}

fn journal_settings(config: &Config) -> JournalSettings {
    let journal = &config.journal;
    JournalSettings {
        max_bytes: journal.max_mib << 20,
        max_backlog: journal.max_backlog,
        retain_events: journal.retain_events,
        tail_events: journal.tail_events,
        tail_bytes: journal.tail_mib << 20,
        retries: retries(config),
    }
}

/// When a failed delivery is tried again.
fn retries(config: &Config) -> RetrySchedule {
    RetrySchedule(config.journal.retry_secs.iter().map(|secs| Duration::from_secs(*secs)).collect())
}

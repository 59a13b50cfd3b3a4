//! Which adapter serves which port, as the settings say.

use super::data_dir::{DataDir, journal_file, ledger_file};
use crate::bus::journal::audit::JournalFacts;
use crate::bus::journal::{Journal, JournalSettings};
use crate::config::Config;
use crate::ports::audit::{BusFactSource, LedgerFactSource};
use crate::ports::bus::{EventFeed, EventHistory, EventLog, LEDGER_GROUP};
use crate::ports::clock::SharedClock;
use crate::ports::ledger::{LedgerReader, LedgerStore};
use crate::ports::stock::{HotStock, NewStock};
use crate::ports::{Open, PortError};
use crate::resilience::retry::RetrySchedule;
use crate::stock::memory::MemoryStock;
use crate::store::sqlite;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

/// Everything that the engine reaches outside of its process.
pub struct Adapters {
    pub bus: Bus,
    pub ledger: Ledger,
    pub new_stock: NewStock,
    /// What was wrong with the embedded files when they were opened.
    pub findings: Vec<String>,
}

/// The bus.
#[derive(Clone)]
pub enum Bus {
    Journal(Journal),
}

/// Ledger and catalogue.
#[derive(Clone)]
pub enum Ledger {
    Sqlite(sqlite::Ledger),
}

impl Adapters {
    /// Opens what the settings name.
    pub async fn open(config: &Config, data_dir: &DataDir, clock: SharedClock) -> anyhow::Result<Self> {
        let settings = journal_settings(config);
        let (journal, findings) = Journal::open(&data_dir.journal(), settings, clock).await?;
        let ledger = sqlite::Ledger::open(&data_dir.ledger()).await?;
        Ok(Self {
            bus: Bus::Journal(journal),
            ledger: Ledger::Sqlite(ledger),
            new_stock: memory(config),
            findings: findings.0,
        })
    }
}

impl Bus {
    /// Opens writing ends.
    pub fn log(&self) -> Open<Box<dyn EventLog>> {
        match self {
            Self::Journal(journal) => journal.log(),
        }
    }

    /// Opens the ledger's reading ends.
    pub fn feed(&self) -> Open<Box<dyn EventFeed>> {
        match self {
            Self::Journal(journal) => journal.feed(LEDGER_GROUP),
        }
    }

    /// What the ledger does not have yet.
    pub fn history(&self) -> Arc<dyn EventHistory> {
        match self {
            Self::Journal(journal) => Arc::new(journal.clone()),
        }
    }

    /// How many events the ledger is behind.
    pub fn backlog(&self) -> u64 {
        match self {
            Self::Journal(journal) => journal.backlog(),
        }
    }

    /// Whether it is elsewhere and may be away for hours.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Journal(_) => false,
        }
    }

    /// Leaves things in order once nobody uses it any more.
    pub async fn close(&self) -> Result<(), PortError> {
        match self {
            Self::Journal(journal) => journal.close().await,
        }
    }
}

impl Ledger {
    /// Opens writing ends.
    pub fn store(&self) -> Open<Box<dyn LedgerStore>> {
        match self {
            Self::Sqlite(ledger) => ledger.store(),
        }
    }

    /// The reading end.
    pub fn reader(&self) -> Arc<dyn LedgerReader> {
        match self {
            Self::Sqlite(ledger) => ledger.reader(),
        }
    }

    /// Whether it is elsewhere and may be away for hours.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
        }
    }

    /// Leaves things in order once nobody uses it any more.
    pub async fn close(&self) -> Result<(), PortError> {
        match self {
            Self::Sqlite(ledger) => ledger.close().await,
        }
    }
}

/// What the bus of an installation tells the checker.
pub async fn bus_facts(config: &Config) -> anyhow::Result<Box<dyn BusFactSource>> {
    let opened = JournalFacts::open(&journal_file(&config.data_dir)).await;
    Ok(Box::new(opened.with_context(|| uncheckable(config))?))
}

/// What its ledger tells.
pub async fn ledger_facts(config: &Config) -> anyhow::Result<Box<dyn LedgerFactSource>> {
    let opened = sqlite::audit::LedgerFacts::open(&ledger_file(&config.data_dir)).await;
    Ok(Box::new(opened.with_context(|| uncheckable(config))?))
}

fn uncheckable(config: &Config) -> String {
    format!("{} cannot be checked", config.data_dir.display())
}

fn memory(config: &Config) -> NewStock {
    let keys = config.engine.idempotency_keys_in_memory;
    Arc::new(move || Box::new(MemoryStock::new(keys)) as Box<dyn HotStock>)
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

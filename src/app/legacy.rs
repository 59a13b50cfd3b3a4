//! From settings to pollers of old ERPs.

use super::{GRANTS, adapters};
use crate::actors::kit::{Place as Thread, RestartPolicy, Spec, Strategy as Supervision, Supervisor};
use crate::actors::legacy_poller::{self, Board, LegacyPoller, Poller, Pollers, Ports, Settings};
use crate::actors::reservation::Shards;
use crate::config::{self, Config, LegacySource};
use crate::domain::catalogue::Catalogue;
use crate::domain::decimal::Quantity;
use crate::domain::erp::{Authority, Batch, Follow, Following, Plan, Rules, branch_name};
use crate::domain::ids::TenantId;
use crate::domain::stock::Place;
use crate::erp::sqlserver::{self, Encryption, Isolation, SqlServer};
use crate::ports::clock::SharedClock;
use crate::ports::erp::{ErpSource, Probe, Strategy};
use anyhow::Context as _;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Starts a poller for each source of the settings. What fails here is only followed later: no failure of theirs ends
/// the server.
pub(super) fn start(
    config: &Config,
    root: &Supervisor,
    shards: &Shards,
    clock: &SharedClock,
) -> anyhow::Result<Pollers> {
    let board = Board::default();
    let mut pollers = Vec::new();
    if !config.legacy.sources.is_empty() {
        let supervisor = root.child("erp", Supervision::OneForOne, GRANTS);
        let policy = RestartPolicy { max_restarts: usize::MAX, ..RestartPolicy::default() };
        for (name, source) in &config.legacy.sources {
            let settings = settings(config, name, source)?;
            let driver = driver(name, source)?;
            let ports = Ports {
                erp: Arc::new(move || Box::new(SqlServer::new(driver.clone())) as Box<dyn ErpSource>),
                shards: shards.clone(),
                clock: clock.clone(),
                board: board.clone(),
            };
            let (tenant, source, rules) = (settings.tenant, settings.source.clone(), settings.rules.clone());
            let spec = Spec::new(format!("legacy-{name}"), legacy_poller::CAPACITY)
                .restart(policy)
                .limit(legacy_poller::LIMIT);
            // On a thread of its own: a first load of many rows would otherwise hold up the tills.
            let handle = supervisor
                .start(spec, Thread::OwnThread, move || LegacyPoller::new(ports.clone(), settings.clone()));
            pollers.push(Poller { tenant, source, rules, handle });
        }
    }
    Ok(Pollers::new(board, pollers, Arc::new(rules(config, None)?)))
}

/// What a poller is told of its source.
pub fn settings(config: &Config, name: &str, source: &LegacySource) -> anyhow::Result<Settings> {
    let tenant: TenantId = source
        .tenant
        .parse()
        .with_context(|| format!("legacy.sources.{name}.tenant is not the id of a shop"))?;
    Ok(Settings {
        source: name.into(),
        tenant,
        rules: Arc::new(rules(config, Some((name, source)))?),
        interval: Duration::from_millis(source.interval_ms),
        idle_interval: Duration::from_millis(source.idle_interval_ms),
        full_scan: (source.full_scan_hours > 0).then(|| Duration::from_secs(source.full_scan_hours * 3_600)),
        dirty: source.isolation == config::LegacyIsolation::Nolock,
    })
}

fn rules(config: &Config, source: Option<(&str, &LegacySource)>) -> anyhow::Result<Rules> {
    let legacy = &config.legacy;
    let (mut branches, mut branch_authority) = (BTreeMap::new(), BTreeMap::new());
    if let Some((name, source)) = source {
        let canonical = |branch: &str| {
            branch_name(branch).with_context(|| format!("legacy.sources.{name}: branch {branch:?}"))
        };
        for (branch, location) in &source.branches {
            branches.insert(canonical(branch)?, location.as_str().into());
        }
        for (branch, authority) in &source.branch_authority {
            branch_authority.insert(canonical(branch)?, (*authority).into());
        }
    }
    Ok(Rules {
        authority: legacy.authority.into(),
        branch_authority,
        branches,
        create_locations: legacy.create_locations,
        max_jump: Quantity::from_whole(legacy.max_jump).context("legacy.max_jump is out of range")?,
        mass_zero_rows: legacy.mass_zero_rows,
        mass_zero_percent: legacy.mass_zero_percent,
    })
}

/// How the SQL Server of a source is reached.
pub fn driver(name: &str, source: &LegacySource) -> anyhow::Result<sqlserver::Settings> {
    let password = match &source.password_file {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("legacy.sources.{name}.password_file {}", file.display()))?
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
        None => source.password.reveal().to_owned(),
    };
    Ok(sqlserver::Settings {
        host: source.host.clone(),
        port: source.port,
        database: source.database.clone(),
        user: source.user.clone(),
        password,
        encryption: match source.encryption {
            config::LegacyEncryption::Required => Encryption::Required,
            config::LegacyEncryption::Login => Encryption::Login,
            config::LegacyEncryption::Off => Encryption::Off,
        },
        ca_file: source.ca_file.clone(),
        trust_any_certificate: source.trust_any_certificate,
        isolation: match source.isolation {
            config::LegacyIsolation::Nolock => Isolation::Nolock,
            config::LegacyIsolation::Snapshot => Isolation::Snapshot,
        },
        strategy: match source.strategy {
            config::LegacyStrategy::Auto => None,
            config::LegacyStrategy::Rowversion => Some(Strategy::Rowversion),
            config::LegacyStrategy::Datetime => Some(Strategy::Datetime),
            config::LegacyStrategy::Full => Some(Strategy::Full),
        },
        connect_timeout: Duration::from_secs(source.connect_timeout_secs),
        command_timeout: Duration::from_secs(source.command_timeout_secs),
        overlap: Duration::from_secs(source.overlap_secs),
        page: source.page_rows,
    })
}

impl From<config::Authority> for Authority {
    fn from(setting: config::Authority) -> Self {
        match setting {
            config::Authority::Erp => Self::Erp,
            config::Authority::Blend => Self::Blend,
            config::Authority::Shared => Self::Shared,
        }
    }
}

/// What a probe found, as people read it.
pub struct Probed {
    source: String,
    /// The findings.
    pub probe: Probe,
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Probe { head, product, level, snapshot, read_committed_snapshot, strategy, missing, warnings } =
            &self.probe;
        let yes = |is: bool| if is { "yes" } else { "no" };
        writeln!(f, "source          {}", self.source)?;
        writeln!(f, "server          SQL Server {product}, compatibility level {level}")?;
        writeln!(f, "database        {}", head.database)?;
        writeln!(f, "its clock       {}", head.clock)?;
        writeln!(
            f,
            "snapshot        {}, read committed snapshot: {}",
            yes(*snapshot),
            yes(*read_committed_snapshot)
        )?;
        write!(f, "strategy        {}", strategy.as_str())?;
        for what in missing {
            write!(f, "\nmissing         {what}")?;
        }
        for what in warnings {
            write!(f, "\nwarning         {what}")?;
        }
        Ok(())
    }
}

/// What following an ERP would change now.
pub struct DryRun {
    /// Item, branch, what the ERP says, what of it is known, what would move, why not all of it.
    pub lines: Vec<[String; 6]>,
    /// The sums, in lines.
    pub summary: String,
}

fn source<'a>(config: &'a Config, wanted: Option<&str>) -> anyhow::Result<(&'a str, &'a LegacySource)> {
    let sources = &config.legacy.sources;
    let found = match wanted {
        Some(name) => sources.get_key_value(name),
        None if sources.len() == 1 => sources.first_key_value(),
        None => None,
    };
    found.map(|(name, source)| (name.as_str(), source)).with_context(|| {
        let names: Vec<&str> = sources.keys().map(String::as_str).collect();
        match names.as_slice() {
            [] => "no ERP is set up: add a table [legacy.sources.NAME] to the settings".to_owned(),
            names => format!("say which with --source: {}", names.join(", ")),
        }
    })
}

/// Connects to an ERP and looks around.
pub async fn probe(config: &Config, wanted: Option<&str>) -> anyhow::Result<Probed> {
    let (name, source) = source(config, wanted)?;
    let probe = SqlServer::new(driver(name, source)?).probe().await?;
    Ok(Probed { source: name.to_owned(), probe })
}

/// The tenant that was created first, as far as the ledger knows.
pub async fn oldest_tenant(config: &Config) -> anyhow::Result<Option<TenantId>> {
    if !adapters::has_ledger(config) {
        return Ok(None);
    }
    let snapshots = adapters::ledger_reader(config).await?.snapshots(0, 1).await?;
    Ok(snapshots.into_iter().map(|snapshot| snapshot.tenant.id).min())
}

/// Reads an ERP whole and plans what would change, as of what the ledger has.
pub async fn dry_run(config: &Config, wanted: Option<&str>) -> anyhow::Result<DryRun> {
    let (name, source) = source(config, wanted)?;
    let settings = settings(config, name, source)?;
    let snapshots = adapters::ledger_reader(config).await?.snapshots(0, 1).await?;
    let snapshot = snapshots
        .into_iter()
        .find(|snapshot| snapshot.tenant.id == settings.tenant)
        .with_context(|| format!("shop {} of legacy.sources.{name} does not exist", settings.tenant))?;
    let (mut catalogue, mut following) = (Catalogue::default(), Following::default());
    snapshot.units.into_iter().for_each(|unit| catalogue.upsert(unit));
    let ours = snapshot.erp.iter().filter(|(source, _)| *source == settings.source);
    ours.for_each(|(_, entry)| following.apply(entry));
    let stock: HashMap<Place, Quantity> = snapshot.stock.into_iter().collect();
    let mut erp = SqlServer::new(driver(name, source)?);
    let (mut batch, mut rejected, mut after) = (Batch::default(), Vec::new(), None);
    loop {
        let page = erp.page(after).await?;
        batch.balances.extend(page.rows.balances);
        batch.products.extend(page.rows.products);
        rejected.extend(page.rows.rejected);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let readings = batch.balances.clone();
    let follow = Follow {
        source: settings.source.clone(),
        rules: settings.rules.clone(),
        batch,
        resolutions: Vec::new(),
    };
    let on_hand = |place: Place| stock.get(&place).copied();
    let mut plan =
        Plan::new(&follow, &following, &catalogue, &snapshot.locations, on_hand, uuid::Uuid::now_v7);
    for (location, demand) in plan.demand() {
        for (unit, asked) in demand {
            let there = on_hand((unit, location)).unwrap_or_default();
            if there < asked {
                plan.grant((unit, location), there);
            }
        }
    }
    let (_, followed) = plan.finish(&following, "dry-run".into());
    let mut lines = Vec::new();
    for (line, reading) in followed.lines.iter().zip(&readings) {
        let why = line.skipped.or(line.held.map(|held| held.as_str())).unwrap_or_default();
        if line.delta.is_zero() && why.is_empty() {
            continue;
        }
        let known =
            following.account(&line.key).map_or_else(|| "-".to_owned(), |known| trimmed(known.applied));
        let sign = if line.delta > Quantity::ZERO { "+" } else { "" };
        lines.push([
            line.key.item.sku().to_string(),
            line.key.branch.to_string(),
            trimmed(reading.quantity),
            known,
            format!("{sign}{}", trimmed(line.delta)),
            why.to_owned(),
        ]);
    }
    let skipped: usize = followed.skipped.values().sum();
    let mut summary = format!(
        "{} balances read; {} would move stock, {} held, {skipped} passed over.\n\
         {} units would be created and {} changed. Nothing was changed.\n",
        followed.seen, followed.applied, followed.held, followed.created, followed.updated
    );
    for row in &rejected {
        summary.push_str(&format!("not understood: {row}\n"));
    }
    Ok(DryRun { lines, summary })
}

fn trimmed(quantity: Quantity) -> String {
    let text = quantity.to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

//! Starting what looks after the connections to marketplaces.

use super::adapters::{Bus, installer, marketplaces};
use crate::actors::channel;
use crate::actors::channels::{self, ChannelManager, Channels};
use crate::actors::kit::{Place, Spec, Supervisor};
use crate::actors::reservation::Shards;
use crate::channels::vault::Keyring;
use crate::config::Config;
use crate::ports::clock::SharedClock;
use crate::store::sqlite;
use std::sync::Arc;
use std::time::Duration;

/// Channels live on a thread of their own: no till waits while a marketplace's answer is taken apart.
pub fn start(
    config: &Config,
    supervisor: &Supervisor,
    shards: &Shards,
    store: &sqlite::channels::Channels,
    clock: SharedClock,
    bus: &Bus,
) -> anyhow::Result<Channels> {
    let settings = &config.channels;
    let ports = channel::Ports {
        store: Arc::new(store.clone()),
        vault: Arc::new(Keyring::parse(settings.keys.reveal())?),
        open: marketplaces(config)?,
        shards: shards.clone(),
        clock,
    };
    let feeds = bus.channel_feeds();
    // Who hears of nothing compares often.
    let sweep = if feeds.is_empty() { 1 } else { settings.sweep_secs };
    let pace = channel::Pace {
        window: Duration::from_millis(settings.window_ms),
        sweep: Duration::from_secs(sweep),
        reconcile: Duration::from_secs(settings.reconcile_secs),
    };
    let below = supervisor.clone();
    let installer = installer(config)?;
    let spec = Spec::new("channels", channels::CAPACITY).restart(channels::POLICY);
    Ok(Channels::new(supervisor.start(spec, Place::OwnThread, move || {
        ChannelManager::new(ports.clone(), pace, feeds.clone(), installer.clone(), below.clone())
    })))
}

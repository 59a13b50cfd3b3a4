//! Starting what looks after the connections to marketplaces.

use super::adapters::{Bus, installer, marketplaces};
use crate::actors::channel;
use crate::actors::channels::{self, ChannelManager, Channels};
use crate::actors::kit::{Place, Spec, Supervisor};
use crate::actors::reservation::Shards;
use crate::channels::vault::Keyring;
use crate::config::Config;
use crate::ports::channel::ChannelStore;
use crate::ports::clock::SharedClock;
use std::sync::Arc;
use std::time::Duration;

/// What keeping fresh credentials may take, beside asking for them.
const KEEPING: Duration = Duration::from_secs(5);

/// Channels live on a thread of their own: no till waits while a marketplace's answer is taken apart.
pub fn start(
    config: &Config,
    supervisor: &Supervisor,
    shards: &Shards,
    store: Arc<dyn ChannelStore>,
    clock: SharedClock,
    bus: &Bus,
) -> anyhow::Result<Channels> {
    let settings = &config.channels;
    let ports = channel::Ports {
        store,
        vault: Arc::new(Keyring::parse(settings.keys.reveal())?),
        open: marketplaces(config)?,
        shards: shards.clone(),
        clock,
    };
    let groups = bus.channel_groups();
    let pace = channel::Pace {
        window: Duration::from_millis(settings.window_ms),
        sweep: Duration::from_secs(settings.sweep_secs),
        reconcile: Duration::from_secs(settings.reconcile_secs),
        renewal: Duration::from_secs(settings.answer_timeout_secs) + KEEPING,
    };
    let below = supervisor.clone();
    let installer = installer(config)?;
    let spec = Spec::new("channels", channels::CAPACITY).restart(channels::POLICY);
    Ok(Channels::new(supervisor.start(spec, Place::OwnThread, move || {
        ChannelManager::new(ports.clone(), pace, groups.clone(), installer.clone(), below.clone())
    })))
}

//! Starting the webhooks that go out.

use super::adapters::Bus;
use crate::actors::channels;
use crate::actors::kit::{Place, Spec, Supervisor};
use crate::actors::reservation::Shards;
use crate::actors::webhooks::{CAPACITY, Ports, Settings, WebhookSender, Webhooks};
use crate::channels::vault::Keyring;
use crate::channels::webhook::Sender;
use crate::config::Config;
use crate::domain::hook::{Patience, Secret};
use crate::ports::bus::WEBHOOK_GROUP;
use crate::ports::clock::SharedClock;
use crate::ports::dead_letters::DeadLetters;
use crate::ports::hooks::HookStore;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

/// Beside the channels, on a thread of their own: what goes out keeps no till waiting.
pub fn start(
    config: &Config,
    supervisor: &Supervisor,
    (store, shards): (Arc<dyn HookStore>, &Shards),
    dead_letters: Arc<dyn DeadLetters>,
    clock: SharedClock,
    bus: &Bus,
) -> anyhow::Result<Webhooks> {
    let seconds = |waits: &[u64]| waits.iter().copied().map(Duration::from_secs).collect();
    let operator = match config.alerts.url.as_str() {
        "" => None,
        url => {
            let secret = Secret::parse(config.alerts.secret.reveal());
            let why = "alerts.secret must be whsec_ and base64 of 24 to 64 bytes";
            Some((url.into(), secret.context(why)?))
        }
    };
    let here = shards.clone();
    let ports = Ports {
        store,
        vault: Arc::new(Keyring::parse(config.channels.keys.reveal())?),
        sender: Arc::new(Sender::new(config.webhooks.private_addresses)?),
        dead_letters,
        here: Arc::new(move || here.here()),
        clock,
    };
    let settings = Settings {
        patience: Patience {
            away: seconds(&config.webhooks.retry_secs),
            refused: seconds(&config.webhooks.refused_secs),
            pause_after: Duration::from_secs(config.webhooks.pause_after_hours * 3_600),
        },
        operator,
        most_letters: config.alerts.dead_letters,
    };
    let groups = bus.groups(WEBHOOK_GROUP);
    let spec = Spec::new("webhooks", CAPACITY).restart(channels::POLICY);
    Ok(Webhooks::new(supervisor.start(spec, Place::OwnThread, move || {
        WebhookSender::new(ports.clone(), settings.clone(), groups.clone())
    })))
}

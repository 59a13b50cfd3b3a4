//! A channel in the real kit, with the real client and file, against a Shopify that enforces the contract.

mod changes;
mod letters;

use super::*;
use crate::actors::channels::{ChannelManager, Channels};
use crate::actors::kit::{Place, Registry, RestartPolicy, Spec, Strategy, Supervisor};
use crate::actors::testing::{World, on_system, quick};
use crate::channels::http;
use crate::channels::shopify::{Install, Shopify};
use crate::channels::simulator::{Fault, Shopify as There};
use crate::channels::vault::Keyring;
use crate::domain::channel::offered;
use crate::domain::channel::{ChannelKind, DriftPolicy, Policy};
use crate::domain::event::Body;
use crate::domain::ids::ConnectionId;
use crate::fixtures::{OPENING, Shop, whole};
use crate::ports::channel::{Installer, Notice};
use crate::ports::clock::SystemClock;
use crate::servers::shopify as strict;
use crate::store::sqlite::channels::Channels as Store;
use aws_lc_rs::hmac;
use base64::Engine as _;
use serde_json::Value;
use std::time::Instant;
use tempfile::TempDir;
use uuid::Uuid;

const KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A shop here, its shop there, and what is between them.
struct Street {
    here: Shop,
    world: World,
    there: There,
    dir: TempDir,
    channels: Channels,
    id: ConnectionId,
    root: Supervisor,
}

fn pace() -> Pace {
    Pace {
        window: Duration::from_millis(20),
        sweep: Duration::from_millis(200),
        reconcile: Duration::from_secs(3_600),
        renewal: Duration::from_secs(30),
    }
}

async fn manager(world: &World, dir: &TempDir, there: &There, pace: Pace) -> (Channels, Supervisor) {
    let store = Store::open(&dir.path().join("channels.db")).await.unwrap();
    let (url, client) = (there.url(), http::client().unwrap());
    let ports = Ports {
        store: Arc::new(store),
        vault: Arc::new(Keyring::parse(KEYS).unwrap()),
        open: Arc::new(move |connection, credentials| {
            Ok(Box::new(Shopify::open(client.clone(), &url, connection, credentials)?)
                as Box<dyn Marketplace>)
        }),
        shards: world.shards.clone(),
        clock: Arc::new(SystemClock),
    };
    let install = Install::new(http::client().unwrap(), &there.url(), "app", "hush", "https://blend.example");
    let installer: Arc<dyn Installer> = Arc::new(install);
    let registry = Registry::new();
    let root = Supervisor::new("root", Strategy::OneForOne, quick(), &registry);
    let below = root.child("channels-below", Strategy::OneForOne, quick());
    let policy = RestartPolicy { max_restarts: usize::MAX, ..quick() };
    let spec = Spec::new("channels", super::super::channels::CAPACITY).restart(policy);
    let handle = root.start(spec, Place::Here, move || {
        ChannelManager::new(ports.clone(), pace, Vec::new(), installer.clone(), below.clone())
    });
    (Channels::new(handle), root)
}

impl Street {
    /// So many units of ten each here; the same SKUs there, showing nothing.
    async fn open(units: usize, policy: Policy) -> Self {
        let mut here = Shop::new(units);
        let world = World::with(here.opened(10));
        let skus: Vec<String> = (0..units).map(|n| format!("SKU-{n}")).collect();
        let items: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 0)).collect();
        let there = strict::open(&items).await;
        let dir = tempfile::tempdir().unwrap();
        let (channels, root) = manager(&world, &dir, &there, pace()).await;
        let connection = Connection {
            id: ConnectionId(Uuid::now_v7()),
            tenant: here.id(),
            kind: ChannelKind::Shopify,
            name: "Tienda".into(),
            account: "simulada.myshopify.com".into(),
            place: Some("1".into()),
            sources: Vec::new(),
            policy,
            paused: false,
            created_at: OPENING,
        };
        let credentials = crate::ports::channel::Credentials {
            client_id: Some("app".into()),
            client_secret: Some("hush".into()),
            access_token: there.token(),
            refresh_token: there.refresh(),
        };
        let id = channels.create(connection, credentials).await.unwrap().unwrap();
        Self { here, world, there, dir, channels, id, root }
    }

    /// Mapped, and everything there shows what it should.
    async fn mapped(units: usize, policy: Policy) -> Self {
        let street = Self::open(units, policy.clone()).await;
        let report = street.channels.match_items(street.here.id(), street.id, true).await.unwrap().unwrap();
        assert_eq!(report.unwrap().matched.len(), units);
        let should = offered(whole(10), policy.buffer);
        street.there.until("all shows", || street.there.all().values().all(|shown| *shown == should)).await;
        street.clean().await;
        street
    }

    async fn status(&self) -> Status {
        self.channels.status(self.here.id(), self.id).await.unwrap().unwrap()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if is_so(&status) {
                return status;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "never: {what}: {status:?}; {:?}",
                self.there.counts()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn pause(&self, paused: bool) {
        let asked = self.channels.of(self.here.id(), self.id, |reply| Msg::Pause(paused, reply)).await;
        asked.unwrap().unwrap();
    }

    async fn clean(&self) {
        self.until("clean", |status| status.counts[1..] == [0, 0, 0]).await;
    }

    async fn sell(&self, unit: usize, count: i64) {
        self.world.sell(&self.here, &[(unit, count)], None).await.unwrap();
    }

    async fn tell(&self, topic: &str, event: &str, body: &Value) -> bool {
        let body = body.to_string().into_bytes();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"hush");
        let signature = base64::prelude::BASE64_STANDARD.encode(hmac::sign(&key, &body).as_ref());
        let notice = Notice { id: format!("{topic} {event}"), topic: topic.into(), body, at: OPENING };
        self.channels.signed(self.id, signature, notice).await.unwrap().unwrap()
    }

    fn no_violations(&self) {
        self.there.no_more_faults();
        assert_eq!(self.there.counts().violations, Vec::<String>::new());
    }
}

fn order(id: u64, lines: &[(u64, i64)], cancelled: bool) -> Value {
    let line =
        |(item, quantity): &(u64, i64)| json!({ "variant_id": item, "sku": "S", "quantity": quantity });
    let lines: Vec<Value> = lines.iter().map(line).collect();
    json!({ "id": id, "name": format!("#{id}"), "cancelled_at": cancelled.then_some("2026-01-01T00:00:00Z"), "line_items": lines })
}

#[test]
fn what_is_sold_is_gone_there_and_many_sales_are_few_calls() {
    on_system(async {
        let policy = Policy { buffer: whole(2), ..Policy::default() };
        let street = Street::mapped(3, policy).await;
        let before = street.there.counts().mutations;
        for _ in 0..5 {
            street.sell(0, 1).await;
            street.sell(1, 1).await;
        }
        street.there.shows("SKU-0", 3).await;
        street.there.shows("SKU-1", 3).await;
        street.clean().await;
        assert!(street.there.counts().mutations - before <= 4, "{:?}", street.there.counts());
        // Below the buffer there is nothing to offer.
        street.sell(0, 4).await;
        street.there.shows("SKU-0", 0).await;
        assert_eq!(street.there.showing("SKU-2").unwrap(), 8);
        street.no_violations();
    });
}

#[test]
fn a_unit_that_is_gone_there_is_given_up_and_the_others_are_not() {
    on_system(async {
        let street = Street::mapped(4, Policy::default()).await;
        street.there.delete("SKU-2");
        for unit in 0..4 {
            street.sell(unit, 3).await;
        }
        for sku in ["SKU-0", "SKU-1", "SKU-3"] {
            street.there.shows(sku, 7).await;
        }
        let status = street.until("one is given up", |status| status.counts == [3, 0, 0, 1]).await;
        let failure = &status.failures[0];
        assert_eq!((failure.code.as_str(), status.failures.len()), ("INVALID_INVENTORY_ITEM", 1));
        assert!(failure.request.contains("InventoryItem/3") && failure.cause.contains("could not be found"));
        // Read again it is as gone as before, and said once.
        street.channels.of(street.here.id(), street.id, Msg::Resync).await.unwrap().unwrap();
        street.until("it is given up again", |status| status.counts == [3, 0, 0, 1]).await;
        // A newer quantity is a newer attempt; when it works the failure is forgotten.
        street.there.add(3, Some("SKU-2"), true);
        street.sell(2, 1).await;
        street.there.shows("SKU-2", 6).await;
        street.until("nothing is given up", |status| status.failures.is_empty()).await;
        street.no_violations();
    });
}

#[test]
fn an_outage_is_waited_for_and_then_each_unit_is_sent_once() {
    on_system(async {
        let street = Street::mapped(20, Policy::default()).await;
        street.there.away(true);
        for round in 0..5 {
            for unit in 0..20 {
                street.sell(unit, 1).await;
            }
            let tried = street.there.counts().calls;
            if round == 0 {
                street.there.until("it was tried", || street.there.counts().calls > tried).await;
            }
        }
        let before = street.there.counts().lines;
        street.there.away(false);
        street.channels.of(street.here.id(), street.id, Msg::Resync).await.unwrap().unwrap();
        street.there.until("all shows 5", || street.there.all().values().all(|shown| *shown == 5)).await;
        street.clean().await;
        // What was on its way when it went away comes first; then each unit once.
        assert!(street.there.counts().lines - before <= 40, "{:?}", street.there.counts());
        street.no_violations();
    });
}

#[test]
fn answers_that_are_lost_cut_or_refused_change_nothing_in_the_end() {
    on_system(async {
        let street = Street::mapped(5, Policy::default()).await;
        let faults = [
            Fault::Slow(Duration::from_millis(80)),
            Fault::CutAfter,
            Fault::Half,
            Fault::Cut,
            Fault::Status(500),
            Fault::TooMany(0),
            Fault::CutAfter,
        ];
        for fault in faults {
            street.there.next(&[fault]);
            for unit in 0..5 {
                street.sell(unit, 1).await;
            }
        }
        street.there.until("all shows 3", || street.there.all().values().all(|shown| *shown == 3)).await;
        street.clean().await;
        street.no_violations();
    });
}

#[test]
fn a_token_that_expires_is_renewed_and_kept() {
    on_system(async {
        let mut street = Street::mapped(1, Policy::default()).await;
        for round in 1..=2 {
            street.there.expire_token();
            street.sell(0, 1).await;
            street.there.shows("SKU-0", 10 - round).await;
        }
        street.clean().await;
        // Another process finds the newest token at rest.
        street.root.stop().await;
        let (channels, root) = manager(&street.world, &street.dir, &street.there, pace()).await;
        (street.channels, street.root) = (channels, root);
        street.sell(0, 3).await;
        street.there.shows("SKU-0", 5).await;
        assert_eq!(street.there.tokens(), 2);
        street.no_violations();
    });
}

#[test]
fn what_somebody_else_changed_is_put_right_or_asked_about() {
    on_system(async {
        let street = Street::mapped(2, Policy::default()).await;
        street.there.change("SKU-0", 5);
        street.sell(0, 1).await;
        street.there.shows("SKU-0", 9).await;
        let asking = Policy { drift: DriftPolicy::Ask, ..Policy::default() };
        let other = Street::mapped(2, asking).await;
        other.there.change("SKU-1", 7);
        other.channels.of(other.here.id(), other.id, Msg::Resync).await.unwrap().unwrap();
        let status = other.until("it is listed", |status| status.drift.len() == 1).await;
        assert_eq!((status.drift[0].ours, status.drift[0].theirs), (10, Some(17)));
        assert_eq!(other.there.showing("SKU-1").unwrap(), 17);
        let pushed = other.channels.of(other.here.id(), other.id, Msg::PushOurs).await.unwrap().unwrap();
        assert_eq!(pushed, 1);
        other.there.shows("SKU-1", 10).await;
        street.no_violations();
        other.no_violations();
    });
}

#[test]
fn zeros_that_nobody_sold_wait_for_a_person() {
    on_system(async {
        let policy = Policy { buffer: whole(3), ..Policy::default() };
        let street = Street::mapped(12, policy).await;
        let counts = street.there.counts().lines;
        street.pause(true).await;
        for unit in 0..12 {
            street.sell(unit, 10).await;
        }
        street.until("all are compared", |status| status.counts[1] == 12).await;
        street.pause(false).await;
        // No event is heard of here, so the sweep cannot tell that they were sold.
        let status = street.until("they are held", |status| status.counts[2] == 12).await;
        assert_eq!((status.rows.len(), street.there.counts().lines), (12, counts));
        let confirmed =
            street.channels.of(street.here.id(), street.id, Msg::ConfirmZeros).await.unwrap().unwrap();
        assert_eq!(confirmed, 12);
        street.there.until("all shows 0", || street.there.all().values().all(|shown| *shown == 0)).await;
        street.no_violations();
    });
}

#[test]
fn an_order_there_is_a_sale_here_once_and_its_cancellation_a_void() {
    on_system(async {
        let street = Street::mapped(2, Policy::default()).await;
        let sales = || street.world.bus.sales().len();
        let written = street.there.counts().lines;
        // The marketplace has taken them from what it shows before it tells.
        street.there.change("SKU-0", -2);
        assert!(street.tell("orders/create", "e1", &order(77, &[(1, 2)], false)).await);
        assert!(!street.tell("orders/create", "e1", &order(77, &[(1, 2)], false)).await);
        assert!(street.tell("orders/paid", "e2", &order(77, &[(1, 2)], false)).await);
        let is = |state: &'static str| {
            move |status: &Status| status.orders.iter().any(|order| order.state == state)
        };
        let status = street.until("it is sold", is("vendido")).await;
        assert!(status.orders[0].sale.is_some() && status.orders[0].remark.is_empty());
        street.clean().await;
        assert_eq!(
            (sales(), street.there.showing("SKU-0").unwrap(), street.there.counts().lines),
            (1, 8, written)
        );
        assert_eq!(street.world.on_hand(&street.here).await, [8, 10]);
        assert!(street.tell("orders/cancelled", "e3", &order(77, &[(1, 2)], true)).await);
        street.until("it is cancelled", is("cancelado")).await;
        street.there.shows("SKU-0", 10).await;
        assert_eq!(street.world.on_hand(&street.here).await, [10, 10]);
        let voids = street.world.bus.durable();
        let voids = voids.iter().filter(|event| matches!(event.body, Body::SaleVoided { .. })).count();
        assert_eq!((voids, sales()), (1, 1));
        // The end is told before the beginning: nothing is sold.
        street.tell("orders/cancelled", "e5", &order(78, &[(2, 1)], true)).await;
        street.until("it is known", |status| status.orders.len() == 2).await;
        street.tell("orders/create", "e4", &order(78, &[(2, 1)], false)).await;
        street.there.change("SKU-1", -4);
        street.tell("orders/create", "e6", &order(79, &[(2, 4)], false)).await;
        street.until("the next is sold", is("vendido")).await;
        assert_eq!((sales(), street.world.on_hand(&street.here).await), (2, vec![10, 6]));
        street.no_violations();
    });
}

#[test]
fn an_order_for_what_is_not_there_is_told_and_sells_nothing() {
    on_system(async {
        let street = Street::mapped(2, Policy::default()).await;
        street.tell("orders/create", "e1", &order(1, &[(1, 11), (2, 1)], false)).await;
        street.tell("orders/create", "e2", &order(2, &[(9, 1)], false)).await;
        let status = street.until("both are told", |status| status.orders.len() == 2).await;
        let of = |id: &str| status.orders.iter().find(|order| order.id == id).unwrap();
        assert_eq!((of("1").state.as_str(), of("2").state.as_str()), ("sin_stock", "sin_mapear"));
        assert!(
            of("1").remark.contains("SKU-0 (10.000 de 11.000)") || of("1").remark.contains("SKU-0"),
            "{:?}",
            of("1")
        );
        assert_eq!(
            (street.world.bus.sales().len(), street.world.on_hand(&street.here).await),
            (0, vec![10, 10])
        );
        let forged =
            Notice { id: "x".into(), topic: "orders/create".into(), body: b"{}".to_vec(), at: OPENING };
        let refused = street.channels.signed(street.id, "bm8=".into(), forged).await.unwrap();
        assert!(matches!(refused, Err(crate::actors::channels::NotDone::Unsigned)), "{refused:?}");
    });
}

#[test]
fn a_paused_channel_sends_nothing_and_catches_up() {
    on_system(async {
        let mut street = Street::mapped(1, Policy::default()).await;
        street.pause(true).await;
        let before = street.there.counts().mutations;
        // What is ordered there is taken all the same.
        street.there.change("SKU-0", -1);
        street.tell("orders/create", "e1", &order(1, &[(1, 1)], false)).await;
        street.until("it is sold", |status| status.orders.iter().any(|order| order.state == "vendido")).await;
        street.sell(0, 4).await;
        street.until("it waits", |status| status.counts[1] == 1 && status.lag > Duration::ZERO).await;
        // Still paused in another process.
        street.root.stop().await;
        let (channels, root) = manager(&street.world, &street.dir, &street.there, pace()).await;
        (street.channels, street.root) = (channels, root);
        street.until("it waits", |status| status.counts[1] == 1).await;
        assert_eq!(street.there.counts().mutations, before);
        street.pause(false).await;
        street.there.shows("SKU-0", 5).await;
    });
}

#[test]
fn a_connection_that_needs_a_person_says_so_and_goes_on_when_it_is_seen_to() {
    on_system(async {
        let street = Street::mapped(1, Policy::default()).await;
        street.there.next(&[Fault::Status(402)]);
        street.sell(0, 1).await;
        let status = street.until("it needs a person", |status| status.broken.is_some()).await;
        assert!(status.broken.unwrap().contains("402"));
        let checked = street.channels.of(street.here.id(), street.id, Msg::Check).await.unwrap().unwrap();
        assert_eq!(checked.unwrap(), "Simulada (Centro)");
        street.there.shows("SKU-0", 9).await;
        street.no_violations();
    });
}

//! Webhooks in the real kit, with the real file and client, to a receiver that does what a test tells it.

use super::*;
use crate::actors::kit::{Place, Registry, RestartPolicy, Spec, Strategy, Supervisor};
use crate::actors::testing::{on_system, quick, until, until_some};
use crate::channels::simulator::{Called, Fault, Reply, Shell, Site};
use crate::channels::vault::Keyring;
use crate::channels::webhook::Sender;
use crate::domain::dead_letter::DeadLetter;
use crate::domain::event::Event;
use crate::domain::hook::Patience;
use crate::domain::time::Timestamp;
use crate::fixtures::Shop;
use crate::ports::bus::{EventFeed, Rejection};
use crate::ports::clock::{Clock as _, SystemClock};
use crate::ports::dead_letters::DeadLetters;
use crate::ports::hooks::HookStore as _;
use crate::store::sqlite::channels::Channels as Store;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

const KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Notes what it was told, and answers with the status it was given.
struct Receiver {
    status: u16,
    told: Vec<(String, String, i64, String, Vec<u8>)>,
}

impl Site for Receiver {
    fn answer(&mut self, called: &Called) -> Reply {
        let header = |name: &str| called.header(name).to_owned();
        let moment = header("webhook-timestamp").parse().unwrap();
        let body = called.body.to_vec();
        self.told.push((
            called.path.clone(),
            header("webhook-id"),
            moment,
            header("webhook-signature"),
            body,
        ));
        Reply::text(self.status, "seen")
    }
}

/// A bus that hands out what a test puts in.
struct Feed(Arc<tokio::sync::Mutex<mpsc::Receiver<Vec<Arc<Event>>>>>);

impl EventFeed for Feed {
    fn next(&mut self, _max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        async move {
            let events = self.0.lock().await.recv().await.unwrap_or_default();
            let delivery = |event| Delivery { position: 1, attempt: 0, event };
            Ok(events.into_iter().map(delivery).collect())
        }
        .boxed()
    }

    fn has_more(&self) -> bool {
        false
    }

    fn done<'a>(&'a mut self, _deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn gives_up(&self, _: &Delivery) -> bool {
        false
    }

    fn reject<'a>(
        &'a mut self,
        _delivery: &'a Delivery,
        _cause: &'a str,
    ) -> BoxFuture<'a, Result<Rejection, PortError>> {
        async { Ok(Rejection::Retry) }.boxed()
    }

    fn postpone<'a>(&'a mut self, _deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }
}

/// Its group, everybody's.
struct Group(Arc<tokio::sync::Mutex<mpsc::Receiver<Vec<Arc<Event>>>>>);

impl Subscription for Group {
    fn open(&self) -> BoxFuture<'static, Result<Box<dyn EventFeed>, PortError>> {
        let feed = Feed(self.0.clone());
        async move { Ok(Box::new(feed) as Box<dyn EventFeed>) }.boxed()
    }
}

/// So many dead letters as a test says, and how often they were counted.
#[derive(Default)]
struct Letters {
    there: AtomicUsize,
    counted: AtomicUsize,
}

impl DeadLetters for Letters {
    fn list(&self, _most: usize) -> BoxFuture<'_, Result<Vec<DeadLetter>, PortError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn replay<'a>(&'a self, _ids: &'a [String]) -> BoxFuture<'a, Result<usize, PortError>> {
        async { Ok(0) }.boxed()
    }

    fn depth(&self, most: usize) -> BoxFuture<'_, Result<usize, PortError>> {
        self.counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(self.there.load(Ordering::Relaxed).min(most)) }.boxed()
    }
}

struct Street {
    shop: Mutex<Shop>,
    there: Shell<Receiver>,
    store: Arc<Store>,
    letters: Arc<Letters>,
    events: mpsc::Sender<Vec<Arc<Event>>>,
    webhooks: Webhooks,
    _root: Supervisor,
    _dir: TempDir,
}

fn secret() -> Secret {
    Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
}

impl Street {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let there = Shell::start(Receiver { status: 200, told: Vec::new() }).await.unwrap();
        let store = Arc::new(Store::open(&dir.path().join("channels.db")).await.unwrap());
        let letters = Arc::new(Letters::default());
        let (events, behind) = mpsc::channel(9);
        let behind = Arc::new(tokio::sync::Mutex::new(behind));
        let ports = Ports {
            store: store.clone(),
            vault: Arc::new(Keyring::parse(KEYS).unwrap()),
            sender: Arc::new(Sender::new(true).unwrap()),
            dead_letters: letters.clone(),
            here: Arc::new(|| vec![true]),
            clock: Arc::new(SystemClock),
        };
        let ms = Duration::from_millis;
        let settings = Settings {
            patience: Patience {
                away: vec![ms(20), ms(40)],
                refused: vec![ms(10), ms(10)],
                pause_after: ms(1_500),
            },
            operator: Some((format!("{}/alarm", there.url()).into(), secret())),
            most_letters: 10,
        };
        let group: Arc<dyn Subscription> = Arc::new(Group(behind));
        let root = Supervisor::new("root", Strategy::OneForOne, quick(), &Registry::new());
        let policy = RestartPolicy { max_restarts: usize::MAX, ..quick() };
        let spec = Spec::new("webhooks", CAPACITY).restart(policy);
        let handle = root.start(spec, Place::Here, move || {
            WebhookSender::new(ports.clone(), settings.clone(), vec![group.clone()])
        });
        let webhooks = Webhooks::new(handle);
        let shop = Mutex::new(Shop::new(1));
        Self { shop, there, store, letters, events, webhooks, _root: root, _dir: dir }
    }

    fn tenant(&self) -> TenantId {
        self.shop.lock().unwrap().id()
    }

    async fn subscribe(&self, news: &[News]) -> HookId {
        let hook = Hook {
            id: HookId(Uuid::now_v7()),
            tenant: self.tenant(),
            url: format!("{}/in", self.there.url()).into(),
            news: news.to_vec(),
            paused: None,
            failing_since: None,
            lost: 0,
            created_at: Timestamp::from_micros(1),
        };
        let id = hook.id;
        self.webhooks.create(hook, secret()).await.unwrap().unwrap();
        id
    }

    async fn sell(&self, count: i64) -> Arc<Event> {
        let event = self.shop.lock().unwrap().sold(count);
        self.events.send(vec![event.clone()]).await.unwrap();
        event
    }

    fn told(&self) -> Vec<String> {
        self.there.site().told.iter().map(|(_, id, ..)| id.clone()).collect()
    }

    async fn status(&self) -> (Hook, u64) {
        self.webhooks.list(self.tenant()).await.unwrap().unwrap().remove(0)
    }

    /// Waits until its one receiver and what waits for it are so: what came back is written down a moment later.
    async fn becomes(&self, is_so: impl Fn(&Hook, u64) -> bool) -> (Hook, u64) {
        until_some(async || Some(self.status().await).filter(|(hook, waiting)| is_so(hook, *waiting))).await
    }
}

#[test]
fn what_is_sold_is_told_signed_and_once() {
    on_system(async {
        let street = Street::open().await;
        let id = street.subscribe(&[News::SaleCreated, News::StockChanged]).await;
        let event = street.sell(2).await;
        until(|| street.told().len() == 2).await;
        let (path, told, moment, signature, body) = street.there.site().told[0].clone();
        assert_eq!((path.as_str(), told.as_str()), ("/in", format!("venta_creada_{}", event.id).as_str()));
        assert_eq!(signature, secret().sign(&told, moment, &body));
        let read: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(read["data"]["secuencia"], event.sequence);
        // The bus may say it again.
        street.events.send(vec![event]).await.unwrap();
        let other = street.sell(1).await;
        until(|| street.told().len() == 4).await;
        assert!(street.told()[2].ends_with(&other.id.to_string()));
        street.becomes(|_, waiting| waiting == 0).await;
        let log = street.webhooks.log(street.tenant(), id, None, 9).await.unwrap().unwrap();
        assert_eq!((log.len(), log[0].status, log[0].response.as_str()), (4, Some(200), "seen"));
    });
}

#[test]
fn a_receiver_that_is_away_gets_everything_later_in_order() {
    on_system(async {
        let street = Street::open().await;
        street.subscribe(&[News::SaleCreated]).await;
        street.there.next(&[Fault::Cut, Fault::Status(500), Fault::CutAfter]);
        let mut sold = Vec::new();
        for _ in 0..3 {
            sold.push(format!("venta_creada_{}", street.sell(1).await.id));
        }
        until(|| street.told().len() == 4).await;
        // The one whose answer was lost came twice, under its own id.
        sold.insert(0, sold[0].clone());
        assert_eq!(street.told(), sold);
        street.becomes(|hook, waiting| waiting == 0 && hook.failing_since.is_none()).await;
    });
}

#[test]
fn what_is_refused_is_given_up_and_what_stays_away_is_paused() {
    on_system(async {
        let street = Street::open().await;
        let id = street.subscribe(&[News::SaleCreated]).await;
        street.there.site().status = 422;
        let refused = street.sell(1).await;
        until(|| street.told().len() == 3).await;
        let letters = MessageLetters(street.store.clone());
        let listed = async || Some(letters.list(9).await.unwrap()).filter(|found| !found.is_empty());
        let found = until_some(listed).await;
        assert_eq!((found[0].attempts, found[0].response.as_str()), (3, "seen"));
        street.there.site().status = 200;
        street.sell(1).await;
        until(|| street.told().len() == 4).await;
        // Its cause is mended.
        assert_eq!(letters.replay(&[found[0].id.clone()]).await.unwrap(), 1);
        until(|| street.told().last().is_some_and(|told| told.ends_with(&refused.id.to_string()))).await;
        // Nobody is there for longer than it may be.
        street.there.away(true);
        street.sell(1).await;
        let paused = street.becomes(|hook, _| hook.paused.is_some()).await;
        assert!(paused.0.paused.unwrap().contains("503") && paused.1 == 1);
        street.there.away(false);
        let before = street.told().len();
        street.webhooks.pause(street.tenant(), id, false).await.unwrap().unwrap();
        until(|| street.told().len() == before + 1).await;
    });
}

#[test]
fn too_many_dead_letters_are_told_once_each_time() {
    on_system(async {
        let street = Street::open().await;
        // It has counted once, and whoever asks now waits until it has drawn its conclusion from that.
        until(|| street.letters.counted.load(Ordering::Relaxed) == 1).await;
        assert!(street.webhooks.list(street.tenant()).await.unwrap().unwrap().is_empty());
        let alarms = || street.told().iter().filter(|id| id.starts_with("descartados")).count();
        let (tenant, _) = Hook::OPERATOR;
        let raise = async |depth: usize| {
            let message = Message::of_depth(tenant, depth, 10, SystemClock.now()).unwrap();
            street.store.raise(DEPTH, &message).await.unwrap()
        };
        street.letters.there.store(11, Ordering::Relaxed);
        assert!(raise(11).await && !raise(12).await);
        until(|| alarms() == 1).await;
        let (path, .., body) = street.there.site().told[0].clone();
        let read: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((path.as_str(), &read["data"]["cantidad"]), ("/alarm", &11.into()));
        street.store.clear(DEPTH).await.unwrap();
        assert!(raise(20).await);
        until(|| alarms() == 2).await;
    });
}

#[test]
fn a_tenant_sees_its_own_only_and_not_too_many() {
    on_system(async {
        let street = Street::open().await;
        let id = street.subscribe(&[News::SaleCreated]).await;
        let stranger = TenantId(Uuid::now_v7());
        assert!(street.webhooks.list(stranger).await.unwrap().unwrap().is_empty());
        let unknown = street.webhooks.remove(stranger, id).await.unwrap();
        assert!(matches!(unknown, Err(NotDone::Unknown)));
        let (tenant, operator) = Hook::OPERATOR;
        assert!(street.webhooks.list(tenant).await.unwrap().unwrap().is_empty());
        assert!(street.webhooks.pause(street.tenant(), operator, true).await.unwrap().is_err());
        for _ in 1..MOST {
            street.subscribe(&[News::SaleCreated]).await;
        }
        let (hook, _) = street.status().await;
        let more = Hook { id: HookId(Uuid::now_v7()), ..hook.clone() };
        assert!(matches!(street.webhooks.create(more, secret()).await.unwrap(), Err(NotDone::TooMany)));
        street.webhooks.remove(street.tenant(), id).await.unwrap().unwrap();
        let bad = Hook { id: HookId(Uuid::now_v7()), url: "ftp://x".into(), ..hook };
        assert!(matches!(street.webhooks.create(bad, secret()).await.unwrap(), Err(NotDone::BadUrl(_))));
        street.webhooks.test(street.tenant(), street.status().await.0.id).await.unwrap().unwrap();
        until(|| street.told().iter().any(|told| told.starts_with("prueba"))).await;
    });
}

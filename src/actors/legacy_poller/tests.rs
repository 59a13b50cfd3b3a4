//! The poller in the real kit, over the real driver and the stand-in server, with a shard that is told what to fail.

use super::*;
use crate::actors::kit::{Handle, Place, Spec, Strategy as Supervision, Supervisor};
use crate::actors::testing::*;
use crate::domain::erp::{Authority, Held};
use crate::domain::tenant::shard_of;
use crate::erp::simulator::{Fault, Login, Shop as Erp, SqlServerStandIn};
use crate::erp::sqlserver::{self, Encryption, Isolation, SqlServer};
use crate::fixtures::{Shop, whole};
use crate::ports::clock::SystemClock;
use crate::ports::erp::{Answer, Page, Probe};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// A shop here, its ERP there, and the poller between them.
struct Both {
    world: World,
    shop: Shop,
    erp: Erp,
    server: Option<SqlServerStandIn>,
    address: String,
    board: Board,
    /// The next poll panics.
    dies: Arc<AtomicBool>,
    poller: Handle<LegacyPoller>,
    _root: Supervisor,
}

/// The real driver, until it is told to panic.
struct Mortal {
    inner: SqlServer,
    dies: Arc<AtomicBool>,
}

impl ErpSource for Mortal {
    fn probe(&mut self) -> Answer<'_, Probe> {
        self.inner.probe()
    }

    fn head(&mut self) -> Answer<'_, Head> {
        self.inner.head()
    }

    fn changes<'a>(
        &'a mut self,
        cursor: &'a Cursor,
        within: &'a Within,
        again: &'a [i64],
    ) -> Answer<'a, Changes> {
        assert!(!self.dies.swap(false, Ordering::SeqCst), "as told");
        self.inner.changes(cursor, within, again)
    }

    fn page(&mut self, after: Option<i64>) -> Answer<'_, Page> {
        self.inner.page(after)
    }

    fn rows<'a>(&'a mut self, ids: &'a [i64]) -> Answer<'a, Page> {
        self.inner.rows(ids)
    }

    fn strategy(&self) -> Strategy {
        self.inner.strategy()
    }

    fn connections(&self) -> u64 {
        self.inner.connections()
    }
}

async fn listen(address: &str, erp: &Erp) -> SqlServerStandIn {
    let login = Login { user: "blend".to_owned(), password: "secreto".to_owned() };
    SqlServerStandIn::start(address, login, erp.handler()).await.unwrap()
}

impl Both {
    async fn start(erp: Erp) -> Self {
        Self::start_with(erp, |_| {}).await
    }

    async fn start_with(erp: Erp, change: impl FnOnce(&mut Settings)) -> Self {
        let server = listen("127.0.0.1:0", &erp).await;
        let address = server.address();
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        let rules = Rules {
            authority: Authority::Erp,
            branch_authority: BTreeMap::new(),
            branches: BTreeMap::from([("PRINCIPAL".into(), "1".into())]),
            create_locations: true,
            max_jump: whole(10_000),
            mass_zero_rows: 20,
            mass_zero_percent: 50,
        };
        let mut settings = Settings {
            source: "lince".into(),
            tenant: shop.id(),
            rules: Arc::new(rules),
            interval: Duration::from_millis(20),
            idle_interval: Duration::from_millis(20),
            full_scan: None,
            dirty: true,
        };
        change(&mut settings);
        let driver = sqlserver::Settings {
            host: "127.0.0.1".to_owned(),
            port: address.port(),
            database: "LinceIndumentaria".to_owned(),
            user: "blend".to_owned(),
            password: "secreto".to_owned(),
            encryption: Encryption::Off,
            ca_file: None,
            trust_any_certificate: false,
            isolation: Isolation::Nolock,
            strategy: None,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_millis(500),
            overlap: Duration::from_secs(10),
            page: 8,
        };
        let board = Board::default();
        let dies = Arc::new(AtomicBool::new(false));
        let told = dies.clone();
        let ports = Ports {
            erp: Arc::new(move || {
                Box::new(Mortal { inner: SqlServer::new(driver.clone()), dies: told.clone() })
                    as Box<dyn ErpSource>
            }),
            shards: world.shards.clone(),
            clock: Arc::new(SystemClock),
            board: board.clone(),
        };
        let root = Supervisor::new("erp", Supervision::OneForOne, quick(), &world.registry);
        let poller = root.start(
            Spec::new("legacy-lince", CAPACITY).restart(quick()).limit(LIMIT),
            Place::Here,
            move || LegacyPoller::new(ports.clone(), settings.clone()),
        );
        let (server, address) = (Some(server), address.to_string());
        Self { world, shop, erp, server, address, board, dies, poller, _root: root }
    }

    fn status(&self) -> SourceStatus {
        self.board.of(self.shop.id()).pop().expect("the poller is there")
    }

    async fn loaded(&self) {
        until(|| self.board.of(self.shop.id()).pop().is_some_and(|status| status.loaded)).await;
    }

    /// On hand at the location of the branch, what is held for what is not yet durable included.
    async fn stock(&self, sku: &str) -> i64 {
        let found = self.world.shards.scan(self.shop.id(), sku.to_owned(), None).await.unwrap().unwrap();
        let Some(found) = found else { return 0 };
        let stock = self.world.shards.stock(self.shop.id(), found.unit.id.0).await.unwrap().unwrap().unwrap();
        let here = stock.places.iter().find(|(place, ..)| place.id == self.shop.here()).unwrap();
        (here.1.units() + here.2.units()) / 1_000
    }

    async fn becomes(&self, sku: &str, count: i64) {
        while self.stock(sku).await != count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Three more polls: whatever was read wrong or twice would show.
    async fn three_more_polls(&self) {
        let seen = self.status().numbers.polls;
        until(|| self.status().numbers.polls > seen + 3).await;
    }

    async fn run(&self, full: bool) -> Result<Numbers, PortError> {
        self.poller.ask(|reply| Msg::Run { full, reply }).await.unwrap()
    }
}

fn demo() -> Erp {
    Erp::demo(Arc::new(SystemClock))
}

#[test]
fn l4_everything_is_loaded_first_and_changes_follow() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        assert_eq!((both.stock("REM-001-NEGRO-M").await, both.stock("GORRA-SNAP-ROJO").await), (15, 20));
        let status = both.status();
        assert_eq!((status.numbers.created, status.numbers.scans, status.connections), (21, 1, 1));
        both.erp.simulate_sale("REM-001", "M", "NEGRO", 2);
        both.becomes("REM-001-NEGRO-M", 13).await;
        // L5: whatever the ERP's clock is set to.
        both.erp.set_offset_secs(5 * 3_600);
        both.erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        both.becomes("REM-001-NEGRO-M", 12).await;
        both.erp.set_offset_secs(-3 * 3_600);
        both.three_more_polls().await;
        both.erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        both.becomes("REM-001-NEGRO-M", 11).await;
        both.three_more_polls().await;
        assert_eq!(both.stock("REM-001-NEGRO-M").await, 11);
        both.world.history_is_sound();
    });
}

#[test]
fn l1_the_cursor_moves_only_when_the_movements_are_accepted() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        both.world.bus.next(&[Fate::NotDurable, Fate::Full, Fate::InDoubt { durable: false }]);
        both.erp.add(1, -4);
        both.becomes("REM-001-NEGRO-S", 6).await;
        assert!(both.status().numbers.failures >= 3);
        both.three_more_polls().await;
        assert_eq!(both.stock("REM-001-NEGRO-S").await, 6);
        both.world.history_is_sound();
    });
}

#[test]
fn a_steady_source_costs_one_round_trip_a_poll_and_nothing_is_written() {
    on_system(async {
        let erp = demo();
        // Everything was changed long ago.
        for (id, _) in erp.balances() {
            erp.edit(id, |balance| balance.moved = balance.moved.map(|moved| moved - 3_600 * 300));
        }
        for code in [
            "REM-001",
            "REM-002",
            "JEAN-505",
            "JEAN-511",
            "BUZO-HOOD",
            "CAMP-BOMBER",
            "ZAP-RUN",
            "GORRA-SNAP",
        ] {
            erp.edit_product(code, |product| product.modified = product.modified.map(|at| at - 3_600 * 300));
        }
        let both = Both::start(erp).await;
        both.loaded().await;
        both.three_more_polls().await;
        let server = both.server.as_ref().unwrap();
        let (events, polls) = (both.world.bus.durable().len(), both.status().numbers.polls);
        server.take_statements();
        until(|| both.status().numbers.polls >= polls + 10).await;
        let statements = server.take_statements();
        let made = both.status().numbers.polls - polls;
        assert!(
            statements.len().abs_diff(usize::try_from(made).unwrap()) <= 1,
            "{} for {made}",
            statements.len()
        );
        assert_eq!(both.world.bus.durable().len(), events);
    });
}

#[test]
fn l3_a_dirty_read_that_was_rolled_back_is_corrected() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        let old = both.erp.now() - 3_600 * 300;
        both.erp.edit(2, |balance| balance.moved = Some(old));
        both.three_more_polls().await;
        let committed = both.erp.balance(2).unwrap();
        both.erp.add(2, -9);
        both.becomes("REM-001-NEGRO-M", 6).await;
        // Rolled back: the row is as it was, stamp and all, and no window of moments contains it.
        both.erp.edit(2, |balance| *balance = committed);
        both.becomes("REM-001-NEGRO-M", 15).await;
    });
}

#[test]
fn what_no_moment_tells_is_found_by_the_full_scan() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        both.erp.edit(1, |balance| (balance.quantity, balance.moved) = (700, None));
        let old = both.erp.now() - 3_600 * 300;
        both.erp.edit(3, |balance| (balance.quantity, balance.moved) = (100, Some(old)));
        both.erp.delete(20);
        let scans = both.status().numbers.scans;
        both.run(true).await.unwrap();
        until(|| both.status().numbers.scans > scans).await;
        assert_eq!((both.stock("REM-001-NEGRO-S").await, both.stock("REM-001-NEGRO-L").await), (7, 1));
        assert_eq!(both.stock("GORRA-SNAP-ROJO").await, 20, "one scan without a row proves nothing");
        // One that passes over a row does not make it a deleted one.
        both.erp.fail(Fault::Skip(5));
        both.run(true).await.unwrap();
        until(|| both.status().numbers.scans > scans + 1).await;
        both.becomes("GORRA-SNAP-ROJO", 0).await;
        assert_eq!(both.stock("REM-001-BLANCO-L").await, 5);
    });
}

#[test]
fn l13_both_sell_the_same_unit_and_the_sums_agree() {
    on_system(async {
        let erp = demo();
        let id = erp.add_balance("ZAP-RUN", Some("42"), Some("AZUL"), 10_000, "PRINCIPAL");
        let both = Both::start(erp).await;
        both.loaded().await;
        let unit =
            both.world.shards.scan(both.shop.id(), "ZAP-RUN-AZUL-42".into(), None).await.unwrap().unwrap();
        let item = Shop { units: vec![unit.unwrap().unit], ..both.shop.clone() };
        let (mut here, mut there) = (0, 0);
        for round in 0..400_i64 {
            for _ in 0..5 {
                both.erp.add(id, -1);
                there += 1;
            }
            if round % 7 == 0 {
                both.erp.add(id, 3);
                there -= 3;
            }
            for _ in 0..5 {
                assert!(both.world.sell(&item, &[(0, 1)], None).await.is_ok());
                here += 1;
            }
        }
        both.becomes("ZAP-RUN-AZUL-42", 10_000 - here - there).await;
        both.three_more_polls().await;
        assert_eq!(both.stock("ZAP-RUN-AZUL-42").await, 10_000 - here - there);
        both.world.history_is_sound();
    });
}

#[test]
fn server_cut_stalled_busy_or_gone_nothing_is_lost_and_nothing_doubled() {
    on_system(async {
        let mut both = Both::start(demo()).await;
        both.loaded().await;
        let mut left = 15;
        let faults = [
            Fault::CutAfterRows(3),
            Fault::Error(601, "Could not continue scan with NOLOCK due to data movement."),
            Fault::ErrorAfterRows(1205, 1),
            Fault::Stall(Duration::from_secs(60)),
            Fault::Error(229, "The SELECT permission was denied."),
        ];
        for fault in faults {
            both.erp.fail(fault);
            both.erp.simulate_sale("REM-001", "M", "NEGRO", 1);
            left -= 1;
            both.becomes("REM-001-NEGRO-M", left).await;
        }
        drop(both.server.take());
        let failures = both.status().numbers.failures;
        until(|| both.status().numbers.failures > failures).await;
        assert!(both.status().numbers.last_error.is_some());
        both.erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        both.server = Some(listen(&both.address, &both.erp).await);
        both.becomes("REM-001-NEGRO-M", left - 1).await;
        until(|| both.status().numbers.last_error.is_none()).await;
        both.three_more_polls().await;
        assert_eq!(both.stock("REM-001-NEGRO-M").await, left - 1);
        both.world.history_is_sound();
    });
}

#[test]
fn a_poller_that_dies_goes_on_from_the_durable_cursor_and_is_counted() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        let loads = both.status().numbers.read;
        assert!(loads >= 21);
        both.dies.store(true, Ordering::SeqCst);
        both.erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        both.becomes("REM-001-NEGRO-M", 14).await;
        both.three_more_polls().await;
        assert_eq!(both.stock("REM-001-NEGRO-M").await, 14);
        // Built anew: its own numbers begin again, and everything is not loaded a second time.
        assert_eq!(both.status().numbers.scans, 0);
        let report = both.world.registry.find("legacy-lince").unwrap();
        assert_eq!((report.restarts, report.panics), (1, 1));
        // The shard dies, and the answer to a hand-over with it.
        both.world.bus.next(&[Fate::Panic { durable: true }]);
        both.erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        both.becomes("REM-001-NEGRO-M", 13).await;
        both.three_more_polls().await;
        assert_eq!(both.stock("REM-001-NEGRO-M").await, 13);
        both.world.history_is_sound();
    });
}

#[test]
fn while_another_node_has_the_shard_the_erp_is_left_alone() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        let shards = &both.world.shards;
        let shard = shard_of(both.shop.id(), shards.count());
        let handle = shards.handles().swap_remove(shard);
        shards.set(shard, None);
        both.run(false).await.unwrap();
        let server = both.server.as_ref().unwrap();
        server.take_statements();
        both.erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        both.run(true).await.unwrap();
        assert_eq!(server.take_statements().len(), 0);
        shards.set(shard, Some(handle));
        both.becomes("REM-001-NEGRO-M", 14).await;
        both.world.history_is_sound();
    });
}

#[test]
fn a_database_that_is_another_one_is_loaded_whole_again() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        let old = both.erp.now() - 3_600 * 300;
        both.erp.edit(1, |balance| (balance.quantity, balance.moved) = (100, Some(old)));
        both.three_more_polls().await;
        assert_eq!(both.stock("REM-001-NEGRO-S").await, 10);
        both.erp.recreate();
        both.becomes("REM-001-NEGRO-S", 1).await;
        until(|| both.status().numbers.scans == 2).await;
        assert_eq!(both.stock("GORRA-SNAP-ROJO").await, 20);
    });
}

#[test]
fn conflicts_are_held_and_seen_and_settle_when_goods_come() {
    on_system(async {
        let both = Both::start(demo()).await;
        both.loaded().await;
        let unit =
            both.world.shards.scan(both.shop.id(), "ZAP-RUN-BLANCO-39".into(), None).await.unwrap().unwrap();
        let item = Shop { units: vec![unit.unwrap().unit], ..both.shop.clone() };
        both.world.sell(&item, &[(0, 3)], None).await.unwrap();
        both.erp.simulate_sale("ZAP-RUN", "39", "BLANCO", 1);
        let held =
            async || both.world.shards.erp_states(both.shop.id()).await.unwrap().unwrap()[0].held.clone();
        while held().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(held().await[0].reason, Held::Short);
        // Goods come in here: the poller, though its ERP says nothing new, lets the conflict settle.
        let back = crate::actors::reservation::Delivery {
            kind: crate::domain::event::MovementKind::Return,
            reference: "nota 1".into(),
            movements: vec![crate::domain::event::Movement {
                unit: item.units[0].id,
                location: item.here(),
                delta: whole(3),
            }],
        };
        both.world.shards.receive(both.shop.id(), back, caller()).await.unwrap().unwrap();
        both.becomes("ZAP-RUN-BLANCO-39", 2).await;
        while !held().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn a_load_that_is_cut_short_goes_on_where_it_was() {
    on_system(async {
        let erp = demo();
        erp.fail(Fault::Stall(Duration::ZERO)); // the probe
        erp.fail(Fault::Stall(Duration::ZERO)); // the head
        erp.fail(Fault::Stall(Duration::ZERO)); // the first page
        erp.fail(Fault::CutAfterRows(2));
        let both = Both::start_with(erp, |settings| settings.interval = Duration::from_millis(5)).await;
        both.loaded().await;
        let status = both.status();
        assert_eq!((status.numbers.created, status.numbers.scans, status.numbers.failures), (21, 1, 1));
        assert_eq!(both.stock("REM-001-NEGRO-M").await, 15);
    });
}

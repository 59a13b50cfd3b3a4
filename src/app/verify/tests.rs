mod moments;

use super::super::data_dir::{journal_file, ledger_file};
use super::{compare, verify};
use crate::actors::reservation::HotSnapshot;
use crate::bus::journal::audit::JournalFacts;
use crate::bus::journal::{Journal, JournalSettings, tampering};
use crate::config::Config;
use crate::domain::audit::{AuditReport, Law};
use crate::domain::catalogue::{UnitKind, tests::unit};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::event::{Body, Event, Movement, MovementKind};
use crate::domain::idempotency::{Fingerprint, IdempotencyKey};
use crate::domain::ids::{EventId, LocationId, SaleId, TenantId, UnitId};
use crate::domain::sale::{PaymentMethod, Sale, SaleLine};
use crate::domain::tenant::{Location, LocationKind, Tenant};
use crate::domain::time::Timestamp;
use crate::ports::audit::{BusFactSource as _, LedgerFactSource as _};
use crate::ports::bus::{Delivery, EventFeed, EventLog, LEDGER_GROUP, Rejection};
use crate::ports::clock::SystemClock;
use crate::ports::ledger::LedgerStore;
use crate::resilience::retry::RetrySchedule;
use crate::sqlite;
use crate::store::sqlite::Ledger;
use crate::store::sqlite::audit::LedgerFacts;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;

/// One tenant's shop: two units with stock, a service, one location.
struct Shop {
    tenant: TenantId,
    location: LocationId,
    units: [UnitId; 3],
    sequence: u64,
}

fn on(data_dir: &Path) -> Config {
    Config { data_dir: data_dir.to_owned(), ..Config::load(None).unwrap() }
}

/// An installation without its server.
struct World {
    dir: TempDir,
    journal: Journal,
    log: Box<dyn EventLog>,
    feed: Box<dyn EventFeed>,
    store: Box<dyn LedgerStore>,
    ledger: Ledger,
}

fn whole(n: i64) -> Quantity {
    Quantity::from_whole(n).unwrap()
}

impl Shop {
    fn new(n: u128) -> Self {
        let id = |kind: u128| Uuid::from_u128(n << 64 | kind);
        let units = [10, 11, 12].map(|kind| UnitId(id(kind)));
        Self { tenant: TenantId(id(1)), location: LocationId(id(2)), units, sequence: 0 }
    }

    fn event(&mut self, body: Body) -> Arc<Event> {
        self.sequence += 1;
        Arc::new(Event {
            id: EventId(Uuid::now_v7()),
            tenant: self.tenant,
            sequence: self.sequence,
            at: Timestamp::from_micros(1_000_000 + self.sequence as i64),
            user: "caja-1".into(),
            request_id: format!("r{}", self.sequence).into(),
            trace: None,
            body,
        })
    }

    fn opening(&mut self) -> Vec<Arc<Event>> {
        let tenant = Tenant {
            id: self.tenant,
            name: "Sur".into(),
            trade: "kiosco".into(),
            active: true,
            created_at: Timestamp::from_micros(1),
        };
        let place = Location {
            id: self.location,
            code: "1".into(),
            name: "Centro".into(),
            kind: LocationKind::Store,
            is_default: true,
            active: true,
        };
        let kinds = [UnitKind::General, UnitKind::Pesable, UnitKind::Servicio];
        let units = self.units.iter().zip(kinds).map(|(id, kind)| {
            let made = unit(&format!("{id}"), kind, "8750.50");
            Arc::new(crate::domain::catalogue::Unit { id: *id, ..made })
        });
        let created = Body::TenantCreated { tenant, locations: vec![place] };
        let upserted = Body::ProductsUpserted { units: units.collect() };
        vec![self.event(created), self.event(upserted), self.moved([100, 50])]
    }

    fn moved(&mut self, wholes: [i64; 2]) -> Arc<Event> {
        let location = self.location;
        let movement = |(unit, n): (&UnitId, i64)| Movement { unit: *unit, location, delta: whole(n) };
        let movements = self.units.iter().zip(wholes).map(movement).collect();
        self.event(Body::StockMoved { kind: MovementKind::Purchase, reference: "remito 7".into(), movements })
    }

    fn sale(&mut self, wholes: i64, key: Option<&str>) -> Arc<Event> {
        let line = |index: usize, quantity: &str, subtotal: &str| SaleLine {
            unit: self.units[index],
            name: "Producto".into(),
            sku: "P".into(),
            quantity: Quantity::parse(quantity).unwrap(),
            unit_price: Money::parse("8750.50").unwrap(),
            subtotal: Money::parse(subtotal).unwrap(),
            has_stock: index < 2,
        };
        let first = Money::from_units(875_050 * wholes).unwrap();
        // 8750.50 x 0.345 = 3018.9225
        let lines = vec![
            line(0, &wholes.to_string(), &first.to_string()),
            line(1, "0.345", "3018.92"),
            line(2, "1", "8750.50"),
        ];
        let total = lines.iter().fold(Money::ZERO, |sum, line| sum.checked_add(line.subtotal).unwrap());
        let id = SaleId(Uuid::now_v7());
        let sale = Sale { id, location: self.location, payment: PaymentMethod::Qr, total, lines };
        let keyed = key.map(|key| (IdempotencyKey::parse(key).unwrap(), Fingerprint([7; 16])));
        self.event(Body::SaleCreated { sale, keyed })
    }
}

impl Shop {
    fn voided(&mut self, sold: &Event) -> Arc<Event> {
        let Body::SaleCreated { sale, .. } = &sold.body else { panic!("not a sale") };
        let (id, lines) = (sale.id, sale.lines.iter().filter(|line| line.has_stock));
        let location = self.location;
        let movements =
            lines.map(|line| Movement { unit: line.unit, location, delta: line.quantity }).collect();
        self.event(Body::SaleVoided { sale: id, reason: "devuelta".into(), movements })
    }
}

impl World {
    async fn open(retain_events: u64) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), retain_events).await
    }

    async fn in_dir(dir: TempDir, retain_events: u64) -> Self {
        let settings = JournalSettings {
            max_bytes: 1 << 30,
            max_backlog: 1_000_000,
            retain_events,
            tail_events: 1_000,
            tail_bytes: 1 << 20,
            retries: RetrySchedule(Vec::new()),
        };
        let (journal, findings) =
            Journal::open(&journal_file(dir.path()), settings, Arc::new(SystemClock)).await.unwrap();
        assert_eq!(findings.0, Vec::<String>::new());
        let ledger = Ledger::open(&ledger_file(dir.path())).await.unwrap();
        let log = journal.log()().await.unwrap();
        let feed = journal.feed(LEDGER_GROUP)().await.unwrap();
        let store = ledger.store()().await.unwrap();
        Self { dir, journal, log, feed, store, ledger }
    }

    async fn record(&mut self, events: &[Arc<Event>]) {
        self.log.append(events).await.unwrap();
        self.log.maintain().await.unwrap();
    }

    async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        let deliveries = self.feed.next(count).await.unwrap();
        assert_eq!(deliveries.len(), count);
        deliveries
    }

    /// The ledger gets the next events, and they are confirmed.
    async fn apply(&mut self, count: usize) {
        let deliveries = self.deliveries(count).await;
        let events: Vec<_> = deliveries.iter().map(|delivery| delivery.event.clone()).collect();
        self.store.apply(&events).await.unwrap();
        self.feed.done(&deliveries).await.unwrap();
        self.log.maintain().await.unwrap();
    }

    /// The ledger gives up the next event.
    async fn give_up(&mut self) {
        let delivery = self.deliveries(1).await.remove(0);
        assert_eq!(self.feed.reject(&delivery, "no").await.unwrap(), Rejection::DeadLettered);
        self.store.give_up(&delivery.event, "no").await.unwrap();
        self.log.maintain().await.unwrap();
    }

    async fn verify(&self) -> AuditReport {
        verify(&on(self.dir.path()), Vec::new(), |_, _| {}).await.unwrap()
    }

    async fn close(self) -> TempDir {
        let Self { dir, journal, log, feed, store, ledger } = self;
        drop((log, feed, store));
        journal.close().await.unwrap();
        ledger.close().await.unwrap();
        dir
    }
}

/// Two shops with sales, all applied, but for the last two of the first shop.
async fn busy_world() -> (World, Shop, Shop) {
    let mut world = World::open(1_000).await;
    let (mut a, mut b) = (Shop::new(1), Shop::new(2));
    let mut events = a.opening();
    events.extend(b.opening());
    events.extend([a.sale(1, Some("k1")), b.sale(2, Some("k1")), a.sale(3, Some("k2")), a.moved([5, 5])]);
    world.record(&events).await;
    world.apply(events.len()).await;
    world.record(&[a.sale(2, None), a.sale(1, Some("k3"))]).await;
    (world, a, b)
}

fn clean(report: &AuditReport) {
    assert!(report.is_clean(), "{report}");
}

#[track_caller]
fn breaks(report: &AuditReport, law: Law, message: &str) {
    let hit = |found: &crate::domain::audit::Difference| found.law == law && found.message.contains(message);
    let found: Vec<_> = report.differences.iter().map(|found| (found.law, found.message.as_str())).collect();
    assert!(report.differences.iter().any(hit), "no {law:?} {message:?} among {found:?}");
}

const FILES: [&str; 6] =
    ["journal.db", "journal.db-wal", "journal.db-log0", "journal.db-log1", "ledger.db", "ledger.db-wal"];

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in FILES {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.path().join(name)).unwrap();
        }
    }
    to
}

async fn tamper(file: &Path, sql: &str) {
    let mut connection = sqlite::connect(file, &sqlite::durable(file)).await.unwrap();
    let mut run = String::from("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;");
    for table in ["ledger", "sales", "sale_lines", "voids"] {
        for verb in ["update", "delete"] {
            run.push_str(&format!("DROP TRIGGER IF EXISTS {table}_no_{verb};"));
        }
    }
    run.push_str(sql);
    let is_journal = file.ends_with("journal.db");
    if is_journal {
        tampering::unpack(&mut connection).await;
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(run)).execute(&mut connection).await.unwrap();
    if is_journal {
        tampering::pack(&mut connection).await;
    }
    sqlx::Connection::close(connection).await.unwrap();
}

/// Which file of a data directory.
type FileOf = fn(&Path) -> PathBuf;

/// What is found in a copy of a stopped installation after one of its files was tampered with.
async fn after_tampering(base: &TempDir, file: FileOf, sql: &str) -> AuditReport {
    let forged = copy(base.path());
    tamper(&file(forged.path()), sql).await;
    verify(&on(forged.path()), Vec::new(), |_, _| {}).await.unwrap()
}

#[tokio::test]
async fn a_journal_ahead_of_the_ledger_is_clean() {
    let (mut world, ..) = busy_world().await;
    let report = world.verify().await;
    clean(&report);
    let counts = &report.counts;
    assert_eq!((counts.tenants, counts.sales, counts.lines, counts.ledger_rows), (2, 3, 9, 12));
    assert_eq!((counts.events, counts.waiting, counts.places), (12, 2, 4));
    assert_eq!(counts.stock_thousandths, 310_000 - 6_000 - 3 * 345);
    world.apply(2).await;
    let report = world.verify().await;
    clean(&report);
    assert_eq!((report.counts.sales, report.counts.waiting), (5, 0));
}

#[tokio::test]
async fn a_trimmed_journal_is_clean() {
    let mut world = World::open(0).await;
    let mut shop = Shop::new(1);
    let events: Vec<_> = shop.opening().into_iter().chain([shop.sale(1, None)]).collect();
    world.record(&events).await;
    world.apply(4).await;
    let report = world.verify().await;
    clean(&report);
    assert_eq!(report.counts.events, 4);
    world.record(&[shop.sale(1, None)]).await;
    let report = world.verify().await;
    clean(&report);
    assert_eq!((report.counts.events, report.counts.waiting), (1, 1), "only the newest is kept");
}

/// A commit that is not filed yet is in the ledger already, and as good as one that is.
#[tokio::test]
async fn what_only_the_commit_log_has_counts() {
    let (mut world, mut shop, _) = busy_world().await;
    world.log.append(&[shop.sale(1, None)]).await.unwrap();
    for (count, waiting) in [(0, 3), (3, 0)] {
        let events: Vec<_> = match count {
            0 => Vec::new(),
            count => world.deliveries(count).await.into_iter().map(|delivery| delivery.event).collect(),
        };
        world.store.apply(&events).await.unwrap();
        let report = world.verify().await;
        clean(&report);
        assert_eq!((report.counts.events, report.counts.waiting), (13, waiting));
    }
    let without = copy(world.dir.path());
    for log in ["journal.db-log0", "journal.db-log1"] {
        std::fs::remove_file(without.path().join(log)).unwrap();
    }
    let report = verify(&on(without.path()), Vec::new(), |_, _| {}).await.unwrap();
    breaks(&report, Law::Phantom, "the journal never had");
}

#[tokio::test]
async fn files_left_by_a_kill_are_read_with_their_logs_and_left_as_they_are() {
    let (mut world, ..) = busy_world().await;
    world.apply(1).await;
    let left = copy(world.dir.path());
    let wal = left.path().join("journal.db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0, "nothing to check: the log was checkpointed");
    let bytes = |name: &str| std::fs::read(left.path().join(name)).unwrap();
    let before = FILES.map(bytes);
    let report = verify(&on(left.path()), Vec::new(), |_, _| {}).await.unwrap();
    clean(&report);
    assert_eq!((report.counts.sales, report.counts.waiting), (4, 1));
    assert!(before == FILES.map(bytes));
    // And the server starts on them as if nobody had looked.
    let mut world = World::in_dir(left, 1_000).await;
    world.apply(1).await;
    clean(&world.verify().await);
}

#[tokio::test]
async fn a_stopped_installation_is_clean_and_a_missing_one_is_named() {
    let (world, ..) = busy_world().await;
    let dir = world.close().await;
    clean(&verify(&on(dir.path()), Vec::new(), |_, _| {}).await.unwrap());
    std::fs::remove_file(dir.path().join("ledger.db")).unwrap();
    let error = verify(&on(dir.path()), Vec::new(), |_, _| {}).await.unwrap_err();
    assert!(format!("{error:#}").contains("ledger.db does not exist"), "{error:#}");
}

#[tokio::test]
async fn a_dead_letter_is_the_one_difference_it_makes() {
    let mut world = World::open(1_000).await;
    let mut shop = Shop::new(1);
    let mut events = shop.opening();
    // The delivery that is given up is what the sale after it lives on.
    events.extend([shop.moved([50, 50]), shop.sale(140, None)]);
    world.record(&events).await;
    world.apply(3).await;
    world.give_up().await;
    world.apply(1).await;
    let report = world.verify().await;
    breaks(&report, Law::Delivery, "event 4 (stock.moved)");
    assert_eq!((report.counts.dead_letters, report.difference_count, report.warning_count), (1, 1, 0));
    let dir = world.close().await;
    let report = after_tampering(&dir, journal_file, "DELETE FROM dead_letters").await;
    breaks(&report, Law::LostSale, "missing from the ledger and is no dead");
}

#[tokio::test]
async fn sales_taken_back_are_clean_and_each_forgery_shows() {
    for retain_events in [1_000, 0] {
        let mut world = World::open(retain_events).await;
        let mut shop = Shop::new(1);
        let mut events = shop.opening();
        let (first, second) = (shop.sale(2, Some("k1")), shop.sale(3, None));
        let void = shop.voided(&first);
        events.extend([first, second, void]);
        world.record(&events).await;
        world.apply(events.len()).await;
        clean(&world.verify().await);
        let base = world.close().await;
        let tenant = format!("x'{}'", shop.tenant.0.simple());
        let forgeries = [
            (
                Law::Phantom,
                "does not exist was taken back",
                format!("INSERT INTO voids VALUES ({tenant}, zeroblob(16), 7, 1, 'x', 'u', 'r')"),
            ),
            (Law::Phantom, "event that was not applied", "UPDATE voids SET sequence = 99".to_owned()),
            (
                Law::Delivery,
                "movements are not in the ledger",
                "DELETE FROM ledger WHERE kind = 'VOID'".to_owned(),
            ),
        ];
        let in_journal = [
            (Law::LostSale, "was taken back in the journal, not", "DELETE FROM voids".to_owned()),
            (Law::Phantom, "journal has another event", "UPDATE voids SET sequence = 5".to_owned()),
            (
                Law::Phantom,
                "not what was sold",
                "UPDATE sale_lines SET quantity = quantity + 1 WHERE line = 0 AND sale_id IN
                 (SELECT sale_id FROM voids)"
                    .to_owned(),
            ),
        ];
        let in_journal = in_journal.into_iter().filter(|_| retain_events > 0);
        for (law, message, sql) in forgeries.into_iter().chain(in_journal) {
            breaks(&after_tampering(&base, ledger_file, &sql).await, law, message);
        }
    }
}

#[tokio::test]
async fn each_law_is_broken_by_its_own_tampering() {
    let (world, a, b) = busy_world().await;
    let base = world.close().await;
    let hex = |id: Uuid| format!("x'{}'", id.simple());
    let (ta, tb) = (hex(a.tenant.0), hex(b.tenant.0));
    let (ua, ub) = (hex(a.units[0].0), hex(b.units[0].0));
    let la = hex(a.location.0);
    let ghost = "x'00000000000000000000000000000099'";
    let sale_of = |n: u64| format!("(SELECT id FROM sales WHERE tenant_id = {ta} AND sequence = {n})");
    let (first, second) = (sale_of(4), sale_of(5));
    let ledger: &[(Law, &str, String)] = &[
        (Law::Oversell, "leaves less than nothing", format!(
            "INSERT INTO ledger SELECT 100, tenant_id, unit_id, location_id, sequence, kind, -900000, stock_after,
             stock_after - 900000, NULL, 'x', at, created_by FROM ledger WHERE tenant_id = {ta} AND unit_id = {ua}
             ORDER BY id DESC LIMIT 1")),
        (Law::Oversell, "more is sold than there is", format!(
            "UPDATE stock SET quantity = 1000 WHERE tenant_id = {ta} AND unit_id = {ua}")),
        (Law::LostSale, "a sale of the journal is not in the ledger", format!(
            "DELETE FROM sale_lines WHERE sale_id = {first}; DELETE FROM sales WHERE id = {first}")),
        (Law::LostSale, "not the one in the journal", format!("UPDATE sales SET at = at + 1 WHERE id = {first}")),
        (Law::LostSale, "not the one in the journal", format!(
            "UPDATE sale_lines SET name = 'Otro' WHERE sale_id = {first} AND line = 1")),
        (Law::LostSale, "is no dead letter", format!("INSERT INTO holes VALUES ({ta}, 4, 'never arrived', NULL, NULL)")),
        (Law::Phantom, "lines and its ledger rows are not the same", format!(
            "DELETE FROM ledger WHERE sale_id = {second} AND unit_id = {ua}")),
        (Law::Phantom, "lines and its ledger rows are not the same", format!(
            "UPDATE sale_lines SET quantity = quantity + 1 WHERE sale_id = {second} AND line = 0")),
        (Law::Phantom, "rows of a sale that does not exist", format!("DELETE FROM sales WHERE id = {second}")),
        (Law::Phantom, "belongs to no sale", format!("DELETE FROM sales WHERE id = {second}")),
        (Law::Phantom, "event it says was not applied", format!(
            "UPDATE sales SET sequence = 99 WHERE id = {second}")),
        (Law::Phantom, "two sales of a tenant carry the same", format!(
            "UPDATE sales SET sequence = 4 WHERE id = {second}")),
        (Law::Phantom, "journal has another event", format!("UPDATE sales SET sequence = 6 WHERE id = {second}")),
        (Law::Phantom, "events of a tenant that the journal never", format!(
            "UPDATE applied SET sequence = 99 WHERE tenant_id = {ta}")),
        (Law::Phantom, "under one idempotency key", format!(
            "UPDATE sales SET key = 'k1', key_hash = (SELECT key_hash FROM sales WHERE id = {first})
             WHERE id = {second}")),
        (Law::Phantom, "cannot be found by its key", format!("UPDATE sales SET key = 'k9' WHERE id = {second}")),
        (Law::Phantom, "total is not the sum", format!("UPDATE sales SET total = total + 1 WHERE id = {second}")),
        (Law::Phantom, "not price times quantity", format!(
            "UPDATE sale_lines SET subtotal = subtotal + 1 WHERE sale_id = {second} AND line = 1")),
        (Law::Phantom, "has no lines", format!("DELETE FROM sale_lines WHERE sale_id = {second}")),
        (Law::Phantom, "numbered without gaps", format!(
            "DELETE FROM sale_lines WHERE sale_id = {second} AND line = 1")),
        (Law::Phantom, "applied to the ledger twice", format!(
            "INSERT INTO ledger SELECT 100 + id, tenant_id, unit_id, location_id, sequence, kind, delta, stock_before,
             stock_after, sale_id, reference, at, created_by FROM ledger WHERE tenant_id = {ta} AND sequence = 3")),
        (Law::Phantom, "come from two events", format!(
            "UPDATE ledger SET reference = 'otro' WHERE tenant_id = {ta} AND unit_id = {ua} AND sequence = 3")),
        (Law::Phantom, "has no sale", format!("UPDATE ledger SET sale_id = NULL WHERE sale_id = {second}")),
        (Law::Conservation, "does not begin where", format!(
            "UPDATE ledger SET stock_before = stock_before + 1, stock_after = stock_after + 1
             WHERE sale_id = {first} AND unit_id = {ua}")),
        (Law::Conservation, "does not add up", format!(
            "UPDATE ledger SET stock_after = stock_after + 1 WHERE sale_id = {first} AND unit_id = {ua}")),
        (Law::Conservation, "out of bounds", format!(
            "UPDATE ledger SET delta = -9007199254740993 WHERE sale_id = {first} AND unit_id = {ua}")),
        (Law::Conservation, "not where the ledger's chain ends", format!(
            "UPDATE stock SET quantity = quantity + 1 WHERE tenant_id = {ta} AND unit_id = {ua}")),
        (Law::Conservation, "projected stock has no ledger rows", format!(
            "INSERT INTO stock SELECT {ta}, id, {la}, 0 FROM units WHERE tenant_id = {ta} AND kind = 'servicio'")),
        (Law::Conservation, "the projection has none", format!(
            "DELETE FROM stock WHERE tenant_id = {ta} AND unit_id = {ua}")),
        (Law::Isolation, "a ledger row refers to another tenant's unit", format!(
            "UPDATE ledger SET unit_id = {ub} WHERE sale_id = {second} AND unit_id = {ua}")),
        (Law::Isolation, "a ledger row refers to an unknown location", format!(
            "UPDATE ledger SET location_id = {ghost} WHERE sale_id = {second} AND unit_id = {ua}")),
        (Law::Isolation, "line refers to another tenant's unit", format!(
            "UPDATE sale_lines SET unit_id = {ub} WHERE sale_id = {second} AND line = 0")),
        (Law::Isolation, "a sale refers to an unknown location", format!(
            "UPDATE sales SET location_id = {ghost} WHERE id = {second}")),
        (Law::Isolation, "a stock row refers to another tenant's unit", format!(
            "UPDATE stock SET unit_id = {ub} WHERE tenant_id = {ta} AND unit_id = {ua}")),
        (Law::Isolation, "belongs to an unknown tenant", format!("DELETE FROM tenants WHERE id = {tb}")),
        (Law::Delivery, "movements are not in the ledger", format!(
            "DELETE FROM ledger WHERE tenant_id = {ta} AND sequence = 6")),
        (Law::Delivery, "are not its movements", format!(
            "DELETE FROM ledger WHERE tenant_id = {ta} AND sequence = 6 AND unit_id = {ua}")),
        (Law::Delivery, "units are not in the ledger", format!("DELETE FROM units WHERE id = {ua}")),
        (Law::Delivery, "had no effect", format!("UPDATE applied SET sequence = 5 WHERE tenant_id = {ta}")),
    ];
    let journal: &[(Law, &str, String)] = &[
        (Law::LostSale, "positions 11 to 11 are missing", "DELETE FROM journal WHERE position = 11".into()),
        (Law::LostSale, "missing from the journal", "DELETE FROM journal WHERE position = 11".into()),
        (Law::LostSale, "neither in the ledger nor in", "DELETE FROM journal WHERE position <= 11".into()),
        (Law::Phantom, "the journal never had", "DELETE FROM journal WHERE position >= 9".into()),
        (Law::Delivery, "confirmed more than the journal holds", "UPDATE positions SET position = 99".into()),
        (Law::Delivery, "had no effect", "UPDATE positions SET position = 12".into()),
        (Law::Swallowed, "cannot be read", "UPDATE journal SET checksum = checksum + 1 WHERE position = 2".into()),
        (Law::Swallowed, "is in quarantine",
            "INSERT INTO quarantine SELECT position, 1, 'x', kind, payload FROM journal WHERE position = 12".into()),
        (Law::Swallowed, "row of dead_letters cannot be read",
            "INSERT INTO dead_letters VALUES ('queue.sync.x', 1, x'00', 1, 1, 1, 'c', 'sales.created', x'00')".into()),
    ];
    let files: [(FileOf, _); 2] = [(ledger_file, ledger), (journal_file, journal)];
    let cases = files.into_iter().flat_map(|(file, cases)| cases.iter().map(move |case| (file, case)));
    for (file, (law, message, sql)) in cases {
        let report = after_tampering(&base, file, sql).await;
        breaks(&report, *law, message);
        assert!(report.by_law[*law as usize - 1] > 0 && !report.differences[0].detail.to_string().is_empty());
    }
}

#[tokio::test]
async fn the_first_difference_comes_with_its_rows_and_events() {
    let (world, ..) = busy_world().await;
    let dir = world.close().await;
    let sql = "UPDATE sales SET payment = 'efectivo' WHERE sequence = 5";
    let report = after_tampering(&dir, ledger_file, sql).await;
    let text = report.to_string();
    assert_eq!((report.difference_count, report.differences[0].law), (1, Law::LostSale));
    for part in
        ["law 2 (no lost sale)", "| sale tenant_id=", "payment=efectivo", "| line ", "| ledger ", "\"qr\""]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["differences"][0]["law"], &json["by_law"][1]), (&2.into(), &1.into()));
}

#[tokio::test]
async fn hot_stock_is_compared_as_of_its_event() {
    let (mut world, mut a, _) = busy_world().await;
    let mut levels: HashMap<_, Quantity> = HashMap::new();
    let mut stock = |sequence: u64, changes: &[(usize, &str)]| {
        for (unit, delta) in changes {
            let level = levels.entry((a.units[*unit], a.location)).or_default();
            *level = level.checked_add(Quantity::parse(delta).unwrap()).unwrap();
        }
        (a.tenant, HotSnapshot { sequence, on_hand: levels.iter().map(|(place, n)| (*place, *n)).collect() })
    };
    let behind = stock(5, &[(0, "96"), (1, "49.31")]);
    let at_mark = stock(6, &[(0, "5"), (1, "5")]);
    let ahead = stock(8, &[(0, "-3"), (1, "-0.69")]);
    let mut wrong = stock(8, &[(0, "1")]);
    // The snapshots are as of events before, at and after the ledger's mark; then the ledger has them all.
    for _ in 0..2 {
        for hot in [&behind, &at_mark, &ahead] {
            let report = verify(&on(world.dir.path()), vec![hot.clone()], |_, _| {}).await.unwrap();
            clean(&report);
            assert_eq!(report.counts.hot_tenants, 1);
        }
        let report = verify(&on(world.dir.path()), vec![wrong.clone()], |_, _| {}).await.unwrap();
        breaks(&report, Law::Conservation, "hot stock is not what");
        assert_eq!(report.difference_count, 1);
        let detail = &report.differences[0].detail;
        let sides = (detail.expected.as_deref(), detail.found.as_deref());
        assert_eq!(sides, (Some("98.000"), Some("99.000")));
        if world.verify().await.counts.waiting > 0 {
            world.apply(2).await;
        }
    }
    wrong.1.sequence = 99;
    let report = verify(&on(world.dir.path()), vec![wrong], |_, _| {}).await.unwrap();
    breaks(&report, Law::Conservation, "nowhere on file");
    // A place that only the ledger knows is zero in hot stock.
    let mut empty = ahead;
    empty.1.on_hand.clear();
    let report = verify(&on(world.dir.path()), vec![empty], |_, _| {}).await.unwrap();
    assert_eq!(report.by_law[3], 2, "{report}");
    // What was given up counts too: hot stock has it.
    world.record(&[a.moved([7, 0])]).await;
    world.give_up().await;
    let mut given_up = HashMap::from([((a.units[0], a.location), whole(105))]);
    given_up.insert((a.units[1], a.location), Quantity::parse("53.62").unwrap());
    let hot = HotSnapshot { sequence: 9, on_hand: given_up.into_iter().collect() };
    let report = verify(&on(world.dir.path()), vec![(a.tenant, hot)], |_, _| {}).await.unwrap();
    breaks(&report, Law::Delivery, "was given up");
    assert_eq!(report.difference_count, 1, "{report}");
}

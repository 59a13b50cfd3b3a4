//! Readings against a small model of a shop: levels, a catalogue, and what is known of the ERP.

use super::*;
use crate::domain::catalogue::Catalogue;
use crate::domain::decimal::{Money, Quantity};
use crate::domain::event::Body;
use crate::domain::ids::{LocationId, UnitId};
use crate::domain::stock::{Levels, Place};
use crate::domain::tenant::{Location, LocationKind};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// What a shard does, without actors.
struct Shop {
    levels: Levels,
    catalogue: Catalogue,
    locations: Vec<Location>,
    following: Following,
    rules: Rules,
    events: usize,
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn rules() -> Rules {
    Rules {
        authority: Authority::Erp,
        branch_authority: BTreeMap::new(),
        branches: BTreeMap::new(),
        create_locations: true,
        max_jump: quantity("10000"),
        mass_zero_rows: 20,
        mass_zero_percent: 50,
    }
}

fn product(code: &str, price: &str) -> ProductReading {
    ProductReading {
        code: code.into(),
        name: "REMERA".into(),
        price: Money::parse(price).unwrap(),
        cost: None,
        category: Some("REMERAS".into()),
        brand: None,
        supplier: None,
        active: true,
        stamp: None,
    }
}

fn key(code: &str, size: Option<&str>, branch: &str) -> AccountKey {
    AccountKey {
        item: Identity::new(code, size, Some("negro")).unwrap(),
        branch: branch_name(branch).unwrap(),
    }
}

fn balance(id: i64, key: AccountKey, amount: &str) -> BalanceReading {
    BalanceReading { row: RowId::Numbered(id), key, quantity: quantity(amount), stamp: None }
}

fn at(reading: BalanceReading, stamp: &str) -> BalanceReading {
    BalanceReading { stamp: Some(Stamp::parse(stamp).unwrap()), ..reading }
}

impl Shop {
    fn new() -> Self {
        let location = Location {
            id: LocationId(Uuid::now_v7()),
            code: "principal".into(),
            name: "Principal".into(),
            kind: LocationKind::Store,
            is_default: true,
            active: true,
        };
        Self {
            levels: Levels::default(),
            catalogue: Catalogue::default(),
            locations: vec![location],
            following: Following::default(),
            rules: rules(),
            events: 0,
        }
    }

    fn read(&mut self, balances: Vec<BalanceReading>) -> Followed {
        let products = balances.iter().map(|reading| product(&reading.key.item.code, "100")).collect();
        self.take(Batch { balances, products, ..Batch::default() })
    }

    fn take(&mut self, batch: Batch) -> Followed {
        self.decide(batch, Vec::new())
    }

    fn resolve(&mut self, key: AccountKey, decision: Decision) -> Followed {
        self.decide(Batch::default(), vec![Resolution { key, decision }])
    }

    fn decide(&mut self, batch: Batch, resolutions: Vec<Resolution>) -> Followed {
        let follow = Follow { source: "erp".into(), rules: Arc::new(self.rules.clone()), batch, resolutions };
        let on_hand = |place| self.levels.find(place).map(|level| level.on_hand);
        let mut plan =
            Plan::new(&follow, &self.following, &self.catalogue, &self.locations, on_hand, Uuid::now_v7);
        for (location, demand) in plan.demand() {
            for (unit, asked) in demand {
                let there = self.levels.at((unit, location)).available();
                if there < asked {
                    plan.grant((unit, location), there);
                }
            }
        }
        let (bodies, followed) = plan.finish(&self.following, "r".into());
        for body in bodies {
            self.events += 1;
            match body {
                Body::LocationsAdded { locations } => self.locations.extend(locations),
                Body::ProductsUpserted { units } => units.into_iter().for_each(|u| self.catalogue.upsert(u)),
                Body::ErpFollowed(change) => {
                    for moved in &change.movements {
                        let place = (moved.unit, moved.location);
                        assert!(self.levels.move_by(place, moved.delta));
                        assert!(self.levels.at(place).on_hand >= Quantity::ZERO, "oversold");
                    }
                    change.entries.iter().for_each(|entry| self.following.apply(entry));
                }
                other => panic!("no ERP makes {other:?}"),
            }
        }
        followed
    }

    fn place(&self, key: &AccountKey) -> Place {
        let account = self.following.account(key).unwrap();
        (account.unit, account.location)
    }

    fn stock(&self, key: &AccountKey) -> Quantity {
        self.levels.at(self.place(key)).on_hand
    }

    fn sell(&mut self, key: &AccountKey, amount: &str) {
        let (unit, location) = self.place(key);
        let demand: [(UnitId, Quantity); 1] = [(unit, quantity(amount))];
        self.levels.hold(location, &demand).unwrap();
        self.levels.take_held(location, &demand);
    }

    fn held(&self, key: &AccountKey) -> Option<Held> {
        self.following.account(key).unwrap().held
    }
}

const A: &str = "2026-11-27T10:00:00.003";
const B: &str = "2026-11-27T10:00:00.007";

#[test]
fn l7_each_branch_is_a_location_of_its_own_for_ever() {
    let mut shop = Shop::new();
    let (one, two) = (key("REM-001", Some("M"), "PRINCIPAL"), key("REM-001", Some("M"), "NORTE"));
    shop.read(vec![balance(1, one.clone(), "15"), balance(2, two.clone(), "4")]);
    shop.read(vec![balance(1, one.clone(), "14")]);
    shop.read(vec![balance(2, two.clone(), "3")]);
    assert_eq!((shop.stock(&one), shop.stock(&two)), (quantity("14"), quantity("3")));
    assert_eq!(
        shop.place(&one).1,
        shop.locations[0].id,
        "a location of that code is taken, whatever the case"
    );
    assert_eq!((shop.locations.len(), &*shop.locations[1].code), (2, "NORTE"));
    // Even when the settings say otherwise later.
    shop.rules.branches.insert("NORTE".into(), "principal".into());
    shop.read(vec![balance(2, two.clone(), "2")]);
    assert_eq!(shop.stock(&two), quantity("2"));
}

#[test]
fn an_unknown_branch_is_refused_when_the_rules_say_so() {
    let mut shop = Shop::new();
    shop.rules.create_locations = false;
    let followed = shop.read(vec![balance(1, key("A", None, "NORTE"), "4")]);
    assert_eq!(followed.skipped, BTreeMap::from([("sucursal_desconocida", 1)]));
    assert_eq!((shop.locations.len(), shop.following.len()), (1, 0));
    shop.rules.branches.insert("NORTE".into(), "PRINCIPAL".into());
    shop.read(vec![balance(1, key("A", None, "NORTE"), "4")]);
    assert_eq!(shop.stock(&key("A", None, "norte ")), quantity("4"));
}

#[test]
fn l8_codes_are_matched_exactly() {
    let mut shop = Shop::new();
    let (short, long) = (key("REM-00", Some("M"), "P"), key("REM-001", Some("M"), "P"));
    shop.read(vec![balance(1, long.clone(), "15")]);
    shop.read(vec![balance(2, short.clone(), "99")]);
    assert_eq!((shop.stock(&long), shop.stock(&short)), (quantity("15"), quantity("99")));
    // Without a size is a thing of its own, and blanks and letter case make no difference.
    let none = key("rem-001 ", None, "P");
    shop.read(vec![balance(3, none.clone(), "7")]);
    assert_eq!((shop.stock(&long), shop.stock(&none)), (quantity("15"), quantity("7")));
    assert_eq!(none, key("REM-001", Some("  "), " p"));
}

#[test]
fn two_items_whose_skus_are_the_same_text_do_not_become_one() {
    let mut shop = Shop::new();
    let one = AccountKey { item: Identity::new("A", None, Some("B-C")).unwrap(), branch: "P".into() };
    let two = AccountKey { item: Identity::new("A-B", None, Some("C")).unwrap(), branch: "P".into() };
    let followed = shop.read(vec![balance(1, one.clone(), "1"), balance(2, two.clone(), "2")]);
    assert_eq!(followed.skipped, BTreeMap::from([("sku_de_otro", 1)]));
    let followed = shop.read(vec![balance(2, two, "2")]);
    assert_eq!(followed.skipped, BTreeMap::from([("sku_de_otro", 1)]));
    assert_eq!(shop.stock(&one), quantity("1"));
}

#[test]
fn l9_variants_of_a_code_have_one_parent() {
    let mut shop = Shop::new();
    let followed = shop.read(vec![
        balance(1, key("REM-001", Some("S"), "P"), "1"),
        balance(2, key("REM-001", Some("M"), "P"), "2"),
    ]);
    assert_eq!(followed.created, 2);
    shop.read(vec![balance(3, key("REM-001", Some("L"), "P"), "3")]);
    assert_eq!((shop.catalogue.products().len(), shop.catalogue.units().len()), (1, 3));
    let unit = shop.catalogue.scan("REM-001-NEGRO-L").unwrap();
    assert!(unit.product_id.0 != unit.id.0 && &*unit.base_sku == "REM-001");
    assert_eq!((unit.size.as_deref(), unit.color.as_deref()), (Some("L"), Some("NEGRO")));
}

#[test]
fn l10_zero_on_first_sight_creates_the_unit() {
    let mut shop = Shop::new();
    let followed = shop.read(vec![balance(1, key("A", None, "P"), "0")]);
    assert_eq!((followed.created, followed.applied), (1, 0));
    assert_eq!(shop.following.len(), 1);
    assert!(shop.catalogue.scan("A-NEGRO").is_some());
}

#[test]
fn l11_the_same_reading_twice_moves_once() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    shop.read(vec![balance(1, a.clone(), "10")]);
    let before = shop.events;
    let followed = shop.read(vec![balance(1, a.clone(), "10")]);
    assert_eq!((shop.events, followed.reference, followed.applied), (before, None, 0));
    // A scan without locks may read a row twice, before and after a change.
    shop.read(vec![balance(1, a.clone(), "10"), balance(1, a.clone(), "9")]);
    assert_eq!(shop.stock(&a), quantity("9"));
}

#[test]
fn l12_an_older_message_changes_nothing() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    let push = |shop: &mut Shop, amount, stamp, price| {
        let reading = at(BalanceReading { row: RowId::Pushed, ..balance(0, a.clone(), amount) }, stamp);
        let product = ProductReading { stamp: Stamp::parse(stamp), ..product("A", price) };
        shop.take(Batch {
            balances: vec![reading],
            products: vec![product],
            only_newer: true,
            ..Batch::default()
        })
    };
    push(&mut shop, "10", B, "120");
    let followed = push(&mut shop, "12", A, "100");
    assert_eq!(followed.skipped, BTreeMap::from([("no_es_mas_nueva", 1)]));
    let followed = push(&mut shop, "11", B, "100");
    assert_eq!(followed.skipped, BTreeMap::from([("no_es_mas_nueva", 1)]));
    assert_eq!(shop.stock(&a), quantity("10"));
    assert_eq!(shop.catalogue.units()[0].price, Money::parse("120").unwrap());
}

#[test]
fn l3_a_reading_that_was_rolled_back_is_corrected_though_its_stamp_is_older() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    shop.read(vec![at(balance(1, a.clone(), "10"), A)]);
    shop.read(vec![at(balance(1, a.clone(), "3"), B)]);
    shop.read(vec![at(balance(1, a.clone(), "10"), A)]);
    assert_eq!(shop.stock(&a), quantity("10"));
}

#[test]
fn l13_what_blend_sold_survives_the_next_change_of_the_erp() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    shop.read(vec![balance(1, a.clone(), "10")]);
    shop.sell(&a, "1");
    shop.read(vec![balance(1, a.clone(), "8")]);
    assert_eq!(shop.stock(&a), quantity("7"));
    shop.read(vec![balance(1, a.clone(), "20")]);
    assert_eq!(shop.stock(&a), quantity("19"));
}

#[test]
fn l6_price_name_and_state_follow_and_what_only_blend_knows_stays() {
    let mut shop = Shop::new();
    shop.read(vec![balance(1, key("A", Some("M"), "P"), "1"), balance(2, key("A", Some("L"), "P"), "1")]);
    let mut unit = (*shop.catalogue.units()[0]).clone();
    unit.barcode = Some("779".into());
    shop.catalogue.upsert(Arc::new(unit));
    let mut reading = product("A", "250.50");
    (reading.active, reading.brand, reading.cost) = (false, Some("URBANA".into()), Money::parse("90").ok());
    let followed = shop.take(Batch { products: vec![reading.clone()], ..Batch::default() });
    assert_eq!(followed.updated, 2);
    let unit = shop.catalogue.scan("779").unwrap();
    assert_eq!(
        (unit.price.to_string().as_str(), unit.active, unit.brand.as_deref()),
        ("250.50", false, Some("URBANA"))
    );
    assert_eq!(shop.following.product("A").unwrap().cost, reading.cost);
    let followed = shop.take(Batch { products: vec![reading], ..Batch::default() });
    assert_eq!((followed.updated, followed.reference), (0, None));
}

#[test]
fn a_unit_that_blend_had_before_is_found_by_its_sku_and_its_stock_must_agree() {
    let mut shop = Shop::new();
    let home = shop.locations[0].id;
    let own = |shop: &mut Shop, sku: &str, amount| {
        let unit = crate::domain::catalogue::tests::unit(sku, crate::domain::catalogue::UnitKind::Ropa, "1");
        shop.levels.move_by((unit.id, home), quantity(amount));
        shop.catalogue.upsert(Arc::new(unit.clone()));
        unit.id
    };
    let (same, other) = (own(&mut shop, "A-NEGRO-M", "5"), own(&mut shop, "A-NEGRO-L", "5"));
    let (m, l) = (key("A", Some("M"), "PRINCIPAL"), key("A", Some("L"), "PRINCIPAL"));
    let followed = shop.read(vec![balance(1, m.clone(), "5"), balance(2, l.clone(), "8")]);
    assert_eq!((followed.created, followed.updated, followed.applied, followed.held), (0, 2, 0, 1));
    assert_eq!((shop.place(&m).0, shop.place(&l).0), (same, other));
    assert_eq!(shop.held(&l), Some(Held::FirstSight));
    assert_eq!((shop.stock(&m), shop.stock(&l)), (quantity("5"), quantity("5")));
    shop.sell(&l, "1");
    shop.resolve(l.clone(), Decision::Apply);
    assert_eq!((shop.stock(&l), shop.held(&l)), (quantity("8"), None));
}

#[test]
fn what_both_sold_is_a_visible_conflict_and_settles_itself_when_goods_come() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    shop.read(vec![balance(1, a.clone(), "3")]);
    shop.sell(&a, "2");
    let followed = shop.read(vec![balance(1, a.clone(), "0")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("0"), Some(Held::Short)));
    assert_eq!((followed.short, followed.held, followed.lines[0].delta), (1, 1, quantity("-1")));
    assert_eq!(shop.following.held()[0].account.pending(), quantity("-2"));
    // Five come into the ERP: two of them were sold twice already.
    let followed = shop.read(vec![balance(1, a.clone(), "5")]);
    assert_eq!((shop.stock(&a), shop.held(&a), followed.short), (quantity("3"), None, 0));
    // Or somebody decides that Blend's number is right.
    shop.sell(&a, "3");
    shop.read(vec![balance(1, a.clone(), "1")]);
    assert_eq!(shop.held(&a), Some(Held::Short));
    shop.resolve(a.clone(), Decision::Dismiss);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("0"), None));
}

#[test]
fn a_conflict_is_tried_again_with_every_batch() {
    let mut shop = Shop::new();
    let (a, b) = (key("A", None, "P"), key("B", None, "P"));
    shop.read(vec![balance(1, a.clone(), "3"), balance(2, b.clone(), "1")]);
    shop.sell(&a, "3");
    shop.read(vec![balance(1, a.clone(), "1")]);
    let place = shop.place(&a);
    shop.levels.move_by(place, quantity("4"));
    shop.read(vec![balance(2, b, "2")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("2"), None));
}

#[test]
fn a_negative_balance_is_held_below_zero_until_it_is_confirmed() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    shop.read(vec![balance(1, a.clone(), "5")]);
    shop.read(vec![balance(1, a.clone(), "-2")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("0"), Some(Held::Negative)));
    shop.read(vec![balance(1, a.clone(), "8")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("8"), None));
    // Confirmed: what is there is taken, and the rest is a conflict.
    let place = shop.place(&a);
    shop.levels.move_by(place, quantity("1"));
    shop.read(vec![balance(1, a.clone(), "-2")]);
    shop.resolve(a.clone(), Decision::Apply);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("0"), Some(Held::Short)));
}

#[test]
fn absurd_jumps_and_parts_of_a_piece_are_held() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    shop.read(vec![balance(1, a.clone(), "5")]);
    shop.read(vec![balance(1, a.clone(), "99999")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("5"), Some(Held::Jump)));
    shop.resolve(a.clone(), Decision::Apply);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("99999"), None));
    shop.read(vec![balance(1, a.clone(), "99998.5")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("99999"), Some(Held::Fraction)));
    let followed = shop.read(vec![balance(1, a, "99999999999")]);
    assert_eq!(followed.skipped, BTreeMap::from([("cantidad_fuera_de_rango", 1)]));
}

#[test]
fn many_balances_that_become_zero_at_once_are_held_a_few_are_not() {
    let mut shop = Shop::new();
    let keys: Vec<AccountKey> = (0..60).map(|n| key(&format!("A{n}"), None, "P")).collect();
    let all = |amount: &str, upto: usize| -> Vec<BalanceReading> {
        keys[..upto].iter().zip(1..).map(|(key, id)| balance(id, key.clone(), amount)).collect()
    };
    shop.read(all("5", 60));
    shop.read(all("0", 10));
    assert_eq!((shop.stock(&keys[0]), shop.held(&keys[0])), (quantity("0"), None));
    shop.read(all("0", 60));
    assert_eq!((shop.stock(&keys[30]), shop.held(&keys[30])), (quantity("5"), Some(Held::MassZero)));
    assert_eq!(shop.following.held().len(), 50);
    // A single one of them that is read again stays held, and goes when it is confirmed or has goods again.
    shop.read(vec![balance(31, keys[30].clone(), "0")]);
    assert_eq!(shop.held(&keys[30]), Some(Held::MassZero));
    shop.resolve(keys[30].clone(), Decision::Apply);
    assert_eq!(shop.stock(&keys[30]), quantity("0"));
    shop.read(vec![balance(32, keys[31].clone(), "4")]);
    assert_eq!((shop.stock(&keys[31]), shop.held(&keys[31])), (quantity("4"), None));
}

#[test]
fn where_blend_counts_the_erp_only_drifts() {
    let mut shop = Shop::new();
    shop.rules.branch_authority.insert("P".into(), Authority::Blend);
    let a = key("A", None, "P");
    shop.read(vec![balance(1, a.clone(), "5")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("0"), None));
    shop.read(vec![balance(1, a.clone(), "3")]);
    assert_eq!((shop.stock(&a), shop.held(&a)), (quantity("0"), Some(Held::Drift)));
    assert_eq!(shop.following.held()[0].account.pending(), quantity("-2"));
}

#[test]
fn duplicate_rows_of_a_balance_are_summed_and_reported() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    let followed = shop.read(vec![balance(1, a.clone(), "5"), balance(2, a.clone(), "3")]);
    assert_eq!((shop.stock(&a), followed.duplicates), (quantity("8"), 1));
    shop.read(vec![balance(2, a.clone(), "1")]);
    assert_eq!(shop.stock(&a), quantity("6"));
}

#[test]
fn a_row_that_becomes_another_item_takes_its_stock_along() {
    let mut shop = Shop::new();
    let (a, b) = (key("A", None, "P"), key("B", None, "P"));
    shop.read(vec![balance(1, a.clone(), "5")]);
    shop.read(vec![balance(1, b.clone(), "5")]);
    assert_eq!((shop.stock(&a), shop.stock(&b)), (quantity("0"), quantity("5")));
    assert_eq!(shop.following.account_of(1), Some(&b));
}

#[test]
fn a_deleted_row_is_gone_after_two_full_scans_and_not_after_one() {
    let mut shop = Shop::new();
    let a = key("A", None, "P");
    shop.read(vec![balance(1, a.clone(), "5")]);
    let scan = |shop: &mut Shop| shop.take(Batch { missing: vec![1], ..Batch::default() });
    scan(&mut shop);
    assert_eq!(shop.stock(&a), quantity("5"));
    // It was only passed over: found again, the count begins anew.
    shop.read(vec![balance(1, a.clone(), "5")]);
    scan(&mut shop);
    assert_eq!(shop.stock(&a), quantity("5"));
    scan(&mut shop);
    assert_eq!((shop.stock(&a), shop.following.account_of(1)), (quantity("0"), None));
}

#[test]
fn facts_survive_being_written_down() {
    let mut shop = Shop::new();
    let a = key("A", Some("Ñ"), "P");
    shop.read(vec![at(balance(1, a.clone(), "5.5"), A), balance(-2, a.clone(), "0")]);
    let entries = [
        Entry::Account { key: a.clone(), account: shop.following.account(&a).unwrap().clone() },
        Entry::Product { reading: product("A", "0.10") },
        Entry::Branch { name: "P".into(), location: shop.place(&a).1 },
        Entry::Cursor { cursor: Cursor::start("Lince 2026".into(), &Stamp::parse(A).unwrap(), Some(7)) },
    ];
    let mut keys: Vec<String> = entries.iter().map(Entry::key).collect();
    for entry in &entries {
        let text = serde_json::to_string(entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), *entry, "{text}");
    }
    keys.push(Entry::Branch { name: "P\n".into(), location: shop.place(&a).1 }.key());
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5);
}

#[test]
fn the_position_never_passes_the_clock_of_the_erp() {
    let stamp = |text| Stamp::parse(text).unwrap();
    let start = Cursor::start("x".into(), &stamp(A), None).balances;
    assert_eq!(start.advanced(Some(&stamp("2030-01-01T00:00:00")), &stamp(B)).stamp, Some(stamp(B)));
    assert_eq!(start.advanced(None, &stamp(B)).stamp, Some(stamp(A)));
    // The clock was set back an hour: so is the position, or nothing would be seen for that hour.
    let back = stamp("2026-11-27T09:00:00");
    assert_eq!(start.advanced(None, &back).stamp, Some(back));
    for text in ["2026-11-27 10:00:00", "2026-11-27T10:00:00.1234", "ayer", "2026-11-27T10:00:00Z", ""] {
        assert_eq!(Stamp::parse(text), None, "{text}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Erp(i64),
    Sell(i64),
    Receive(i64),
    Poll,
    Twice,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (-3_i64..=3).prop_map(Step::Erp),
        3 => (1_i64..=3).prop_map(Step::Sell),
        1 => (1_i64..=4).prop_map(Step::Receive),
        3 => Just(Step::Poll),
        1 => Just(Step::Twice),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// Two systems sell the same units, in any order, polled at any moment: nothing is ever oversold here, what could
    /// be carried out adds up, and what could not is what is held.
    #[test]
    fn both_sides_add_up(steps in steps()) {
        let mut shop = Shop::new();
        let a = key("A", None, "P");
        let (mut erp, mut here) = (20_i64, 0_i64);
        let read = |shop: &mut Shop, erp: i64| shop.read(vec![balance(1, a.clone(), &erp.to_string())]);
        read(&mut shop, erp);
        for step in steps {
            match step {
                Step::Erp(delta) => erp = (erp + delta).max(0),
                Step::Sell(n) => {
                    if shop.stock(&a) >= Quantity::from_whole(n).unwrap() {
                        shop.sell(&a, &n.to_string());
                        here -= n;
                    }
                }
                Step::Receive(n) => {
                    let place = shop.place(&a);
                    shop.levels.move_by(place, Quantity::from_whole(n).unwrap());
                    here += n;
                }
                Step::Poll => drop(read(&mut shop, erp)),
                Step::Twice => {
                    read(&mut shop, erp);
                    let before = shop.events;
                    read(&mut shop, erp);
                    prop_assert_eq!(shop.events, before);
                }
            }
        }
        read(&mut shop, erp);
        let pending = shop.following.account(&a).unwrap().pending();
        let stock = shop.stock(&a).checked_add(pending).unwrap();
        prop_assert_eq!(stock, Quantity::from_whole(erp + here).unwrap());
        prop_assert!(pending <= Quantity::ZERO);
        prop_assert_eq!(pending < Quantity::ZERO, shop.held(&a) == Some(Held::Short));
    }
}

//! The ERP's two tables, and what the statements of the adapter find in them.

use super::demo::{DEMO_BALANCES, DEMO_PRODUCTS};
use super::server::{Handler, Step};
use super::tables::spoil;
use super::ticks::{DAY, EPOCH};
use super::wire::Request;
use crate::ports::clock::SharedClock;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A row of `STK_PRODUCTOS`.
#[derive(Clone, Debug, Default)]
pub struct Product {
    pub description: String,
    pub category: Option<String>,
    /// `money`: in 1/10,000.
    pub price: i64,
    pub cost: Option<i64>,
    pub brand: Option<String>,
    pub supplier: Option<String>,
    /// `datetime`: ticks of 1/300 s since 1900-01-01.
    pub modified: Option<i64>,
    pub active: Option<bool>,
    /// `rowversion`
    pub version: u64,
}

/// A row of `STK_SALDOS`.
#[derive(Clone, Debug, Default)]
pub struct Balance {
    pub code: String,
    pub size: Option<String>,
    pub color: Option<String>,
    /// `decimal(10,2)`: in hundredths.
    pub quantity: i64,
    pub branch: String,
    pub moved: Option<i64>,
    /// `rowversion`
    pub version: u64,
}

/// What goes wrong with a statement.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error instead of an answer.
    Error(u32, &'static str),
    /// An error after some rows.
    ErrorAfterRows(u32, usize),
    /// Nothing for a while.
    Stall(Duration),
    /// The connection ends after some rows, inside of a packet.
    CutAfterRows(usize),
    /// A row is passed over, as a scan without locks may do.
    Skip(i64),
}

pub(super) struct Tables {
    pub(super) products: BTreeMap<String, Product>,
    pub(super) balances: BTreeMap<i64, Balance>,
    last_id: i64,
    pub(super) version: u64,
    faults: VecDeque<Fault>,
    /// Creation of the database: another one is another database.
    pub(super) created: i64,
    /// Whether the tables have a rowversion column.
    pub(super) versioned: bool,
    pub(super) may_select: bool,
    pub(super) may_write: bool,
    /// The server's clock against ours, in ticks; its time has no zone.
    offset: i64,
}

/// The shop: rows that may be changed at any moment. Cheap to clone; all clones are the same shop.
#[derive(Clone)]
pub struct Shop {
    tables: Arc<Mutex<Tables>>,
    clock: SharedClock,
}

impl Shop {
    /// Without any goods; three hours behind UTC, as the shops are.
    pub fn new(clock: SharedClock) -> Self {
        let tables = Tables {
            products: BTreeMap::new(),
            balances: BTreeMap::new(),
            last_id: 0,
            version: 2_000,
            faults: VecDeque::new(),
            created: 45_000 * DAY,
            versioned: false,
            may_select: true,
            may_write: false,
            offset: -3 * 3_600 * 300,
        };
        Self { tables: Arc::new(Mutex::new(tables)), clock }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `GETDATE()`, in ticks.
    pub fn now(&self) -> i64 {
        let offset = self.tables().offset;
        (self.clock.now().micros().div_euclid(1_000) * 3 + 5) / 10 + EPOCH * DAY + offset
    }

    /// Sets the server's clock so far from UTC.
    pub fn set_offset_secs(&self, secs: i64) {
        self.tables().offset = secs * 300;
    }

    /// As after a restore: the same name, created another time.
    pub fn recreate(&self) {
        self.tables().created += 300;
    }

    /// Gives the tables a rowversion column.
    pub fn add_rowversion(&self) {
        self.tables().versioned = true;
    }

    /// What the login may do.
    pub fn set_rights(&self, select: bool, write: bool) {
        let mut tables = self.tables();
        (tables.may_select, tables.may_write) = (select, write);
    }

    /// The next statement goes wrong, or the one after those that already do.
    pub fn fail(&self, fault: Fault) {
        self.tables().faults.push_back(fault);
    }

    /// Adds or replaces a product, modified now.
    pub fn put_product(&self, code: &str, product: Product) {
        let now = self.now();
        let mut tables = self.tables();
        tables.version += 1;
        let version = tables.version;
        tables.products.insert(code.to_owned(), Product { modified: Some(now), version, ..product });
    }

    /// Adds a balance, moved now, and says its id.
    pub fn add_balance(
        &self,
        code: &str,
        size: Option<&str>,
        color: Option<&str>,
        quantity: i64,
        branch: &str,
    ) -> i64 {
        let now = self.now();
        let mut tables = self.tables();
        tables.version += 1;
        tables.last_id += 1;
        let (id, version) = (tables.last_id, tables.version);
        let balance = Balance {
            code: code.to_owned(),
            size: size.map(str::to_owned),
            color: color.map(str::to_owned),
            quantity: quantity * 100,
            branch: branch.to_owned(),
            moved: Some(now),
            version,
        };
        tables.balances.insert(id, balance);
        id
    }

    /// Changes a balance in any way, its stamp as the change leaves it.
    pub fn edit(&self, id: i64, change: impl FnOnce(&mut Balance)) {
        let mut tables = self.tables();
        tables.version += 1;
        let version = tables.version;
        if let Some(balance) = tables.balances.get_mut(&id) {
            change(balance);
            balance.version = version;
        }
    }

    /// Changes a product, its stamp as the change leaves it.
    pub fn edit_product(&self, code: &str, change: impl FnOnce(&mut Product)) {
        let mut tables = self.tables();
        tables.version += 1;
        let version = tables.version;
        if let Some(product) = tables.products.get_mut(code) {
            change(product);
            product.version = version;
        }
    }

    /// Moves a balance by so many wholes, now.
    pub fn add(&self, id: i64, wholes: i64) {
        let now = self.now();
        self.edit(id, |balance| {
            balance.quantity += wholes * 100;
            balance.moved = Some(now);
        });
    }

    /// `sp_SimularVenta`: takes from every balance of that code, size and colour. Says how many there were; a size that
    /// is missing equals nothing, as in SQL.
    pub fn simulate_sale(&self, code: &str, size: &str, color: &str, wholes: i64) -> usize {
        let is_it = |balance: &Balance| {
            balance.code == code
                && balance.size.as_deref() == Some(size)
                && balance.color.as_deref() == Some(color)
        };
        let ids: Vec<i64> =
            self.tables().balances.iter().filter(|(_, balance)| is_it(balance)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.add(*id, -wholes));
        ids.len()
    }

    /// Deletes a balance.
    pub fn delete(&self, id: i64) {
        self.tables().balances.remove(&id);
    }

    /// A balance as it is.
    pub fn balance(&self, id: i64) -> Option<Balance> {
        self.tables().balances.get(&id).cloned()
    }

    /// Every balance, by id.
    pub fn balances(&self) -> Vec<(i64, Balance)> {
        self.tables().balances.iter().map(|(id, balance)| (*id, balance.clone())).collect()
    }

    /// The demo shop: 8 products with 21 balances.
    pub fn demo(clock: SharedClock) -> Self {
        let shop = Self::new(clock);
        for (code, name, category, price, cost, brand, supplier) in DEMO_PRODUCTS {
            let text = |text: &str| Some(text.to_owned());
            shop.put_product(
                code,
                Product {
                    description: (*name).to_owned(),
                    category: text(category),
                    price: price * 10_000,
                    cost: Some(cost * 10_000),
                    brand: text(brand),
                    supplier: text(supplier),
                    active: Some(true),
                    ..Product::default()
                },
            );
        }
        for (code, size, color, quantity) in DEMO_BALANCES {
            let size = (!size.is_empty()).then_some(*size);
            shop.add_balance(code, size, Some(color), *quantity, "PRINCIPAL");
        }
        shop
    }

    /// Answers statements from this shop.
    pub fn handler(&self) -> Handler {
        let shop = self.clone();
        Arc::new(move |request| shop.answer(request))
    }

    fn answer(&self, request: &Request) -> Vec<Step> {
        let now = self.now();
        let mut tables = self.tables();
        let sql = request.sql.as_str();
        if sql.starts_with("SET ") {
            return Vec::new();
        }
        let known = [
            "/* blend:head */",
            "/* blend:poll */",
            "/* blend:page */",
            "/* blend:rows */",
            "/* blend:probe */",
        ];
        let Some(tag) = known.into_iter().find(|tag| sql.starts_with(tag)) else {
            return vec![Step::Error(208, 16, format!("Invalid object name in {sql}"))];
        };
        // A row can only be passed over by a scan.
        let waits = matches!(tables.faults.front(), Some(Fault::Skip(_))) && tag != "/* blend:page */";
        let fault = if waits { None } else { tables.faults.pop_front() };
        if !tables.may_select && tag != "/* blend:probe */" && tag != "/* blend:head */" {
            let text =
                "The SELECT permission was denied on the object 'STK_SALDOS', database 'LinceIndumentaria'.";
            return vec![Step::Error(229, 14, text.to_owned())];
        }
        if let Some(Fault::Error(number, text)) = &fault {
            return vec![Step::Error(*number, 13, (*text).to_owned())];
        }
        let skip = match fault {
            Some(Fault::Skip(id)) => Some(id),
            _ => None,
        };
        let steps = match tag {
            "/* blend:head */" => tables.head(now),
            "/* blend:poll */" => tables.poll(request, now, skip),
            "/* blend:page */" => tables.page(request, skip),
            "/* blend:rows */" => tables.rows(sql),
            _ => tables.probe(now),
        };
        drop(tables);
        spoil(steps, fault)
    }
}

//! A MercadoLibre that enforces the real contract: single-use refresh tokens, variations that are deleted when they are
//! not named, versions of stock, writes that warehouses ignore, limits per app and endpoint.

mod answers;

use super::shell::{Called, Front, Reply, Shell, Site};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Deref;
use std::time::Duration;
use tokio::time::Instant;

/// The one seller.
pub const SELLER: &str = "468424240";

/// The seller's first warehouse.
const DEPOT: &str = "77";

/// How long somebody waits for something to be so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that is sold there.
#[derive(Clone, Debug, Default)]
pub struct Item {
    /// The seller's own name for it.
    pub sku: String,
    /// Where it has no variations.
    pub quantity: i64,
    /// Id, SKU, quantity.
    pub variations: Vec<(i64, String, i64)>,
    /// The seller's product whose stock it is.
    pub product: Option<String>,
    /// For good.
    pub closed: bool,
}

/// What it was asked, and what it should not have been asked.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// All calls, those that met a fault included.
    pub calls: u64,
    /// Calls that wrote.
    pub writes: u64,
    /// Calls beyond the limit.
    pub refused: u64,
    /// What a client may not do.
    pub violations: Vec<String>,
}

struct Seller {
    items: BTreeMap<String, Item>,
    /// What each warehouse has of a product, and the version of that.
    stocks: BTreeMap<String, (BTreeMap<String, i64>, i64)>,
    /// Warehouses, each with the node of the network that it is.
    depots: BTreeMap<String, String>,
    /// When stock in warehouses was read or written lately.
    stock_calls: VecDeque<Instant>,
    orders: BTreeMap<String, Value>,
    missed: Vec<Value>,
    warehouses: bool,
    token: String,
    refresh: String,
    tokens: u64,
    /// When writes happened lately.
    writes: VecDeque<Instant>,
    counts: Counts,
}

/// The server; it is gone with this value.
pub struct Meli(Shell<Seller>);

impl Meli {
    /// A seller with these items.
    pub async fn start(items: &[(&str, Item)]) -> io::Result<Self> {
        let seller = Seller {
            items: items.iter().map(|(id, item)| ((*id).to_owned(), item.clone())).collect(),
            stocks: BTreeMap::new(),
            depots: BTreeMap::from([(DEPOT.to_owned(), "ARP1".to_owned())]),
            stock_calls: VecDeque::new(),
            orders: BTreeMap::new(),
            missed: Vec::new(),
            warehouses: false,
            token: "APP_USR-0".into(),
            refresh: "TG-0".into(),
            tokens: 0,
            writes: VecDeque::new(),
            counts: Counts::default(),
        };
        Shell::start(seller).await.map(Self)
    }

    /// The token that is accepted now.
    pub fn token(&self) -> String {
        self.0.site().token.clone()
    }

    /// The refresh token that is accepted now.
    pub fn refresh(&self) -> String {
        self.0.site().refresh.clone()
    }

    /// The token is not accepted any more.
    pub fn expire_token(&self) {
        self.0.site().token = "nobody has this one".into();
    }

    /// How many tokens were given out.
    pub fn tokens(&self) -> u64 {
        self.0.site().tokens
    }

    /// The seller keeps stock in warehouses: a quantity of a product of this id in the first one.
    pub fn warehouse(&self, product: &str, quantity: i64) {
        self.warehouse_at(product, DEPOT, quantity);
    }

    /// The same in any one, beside what is in the others.
    pub fn warehouse_at(&self, product: &str, store: &str, quantity: i64) {
        self.0.change(|seller| {
            seller.warehouses = true;
            let node = format!("ARP{}", seller.depots.len() + 1);
            seller.depots.entry(store.to_owned()).or_insert(node);
            let stock = seller.stocks.entry(product.to_owned()).or_default();
            stock.0.insert(store.to_owned(), quantity);
            stock.1 += 1;
        });
    }

    /// Somebody else writes a product's stock in the first warehouse.
    pub fn change_stock(&self, product: &str, by: i64) {
        if let Some(stock) = self.0.site().stocks.get_mut(product) {
            *stock.0.entry(DEPOT.to_owned()).or_default() += by;
            stock.1 += 1;
        }
    }

    /// A product's stock in the first warehouse; nothing when there is none.
    pub fn stock_of(&self, product: &str) -> Option<i64> {
        self.stock_at(product, DEPOT)
    }

    /// A product's stock in a warehouse; nothing when there is none.
    pub fn stock_at(&self, product: &str, store: &str) -> Option<i64> {
        self.0.site().stocks.get(product)?.0.get(store).copied()
    }

    /// An item; an empty one when there is none of that id.
    pub fn item(&self, id: &str) -> Item {
        self.0.site().items.get(id).cloned().unwrap_or_default()
    }

    /// Somebody, or an order, changes what an item shows.
    pub fn change(&self, id: &str, by: i64) {
        self.0.change(|seller| {
            if let Some(item) = seller.items.get_mut(id) {
                item.quantity += by;
            }
        });
    }

    /// An order, as it stands now.
    pub fn order(&self, id: &str, order: Value) {
        self.0.site().orders.insert(id.to_owned(), order);
    }

    /// A notice that could not be delivered.
    pub fn miss(&self, notice: Value) {
        self.0.site().missed.push(notice);
    }

    /// An item is closed.
    pub fn close(&self, id: &str) {
        if let Some(item) = self.0.site().items.get_mut(id) {
            item.closed = true;
        }
    }

    /// What it was asked.
    pub fn counts(&self) -> Counts {
        let calls = self.calls();
        Counts { calls, ..self.0.site().counts.clone() }
    }

    /// Waits until an item shows a quantity.
    ///
    /// # Panics
    ///
    /// When it does not within half a minute.
    pub async fn shows(&self, id: &str, quantity: i64) {
        self.until(&format!("{id} shows {quantity}"), || self.item(id).quantity == quantity).await;
    }

    /// Waits until something is so; looked at whenever it was called, or something was changed.
    ///
    /// # Panics
    ///
    /// When it does not become so within half a minute.
    pub async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let is_so = self.becomes(PATIENCE, is_so).await;
        assert!(is_so, "never: {what}; {:?}; {:?}", self.counts(), self.0.site().items);
    }
}

impl Deref for Meli {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.0
    }
}

impl Site for Seller {
    fn answer(&mut self, called: &Called) -> Reply {
        answers::answer(self, called)
    }

    fn ill(&self, status: u16) -> Reply {
        answers::error(status, "internal_error", "oops")
    }
}

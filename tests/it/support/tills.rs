//! Many tills at work at once, each remembering exactly what it was told.

use super::api::{Api, CHECKOUT, IDEMPOTENCY_KEY};
use super::ledger::Books;
use super::shop::Shop;
use super::{PATIENCE, eventually};
use blend::client::{Answer, Connection};
use bytes::Bytes;
use futures_util::future::join_all;
use hyper::Method;
use hyper::header::HeaderValue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What a till wants to sell.
#[derive(Clone, Debug)]
struct Attempt {
    key: String,
    body: Bytes,
    /// SKU and pieces.
    lines: Vec<(String, i64)>,
}

/// All that the tills know.
#[derive(Default)]
pub struct Tills {
    /// Sales answered with 201: key to id.
    acknowledged: RefCell<HashMap<String, String>>,
    /// Pieces in those, by SKU.
    sold: RefCell<HashMap<String, i64>>,
    /// Requests that got no answer, or one that decides nothing.
    open: RefCell<Vec<Attempt>>,
    /// Codes of the answers that decided nothing.
    refusals: RefCell<HashMap<String, u64>>,
    stop: Cell<bool>,
    next: Cell<u64>,
}

impl Tills {
    /// Sells at so many tills at once until told to stop. A till whose connection breaks stops by itself: its server
    /// is gone.
    pub async fn sell(&self, shop: &Shop, tills: usize) {
        self.sell_at(shop, &[&shop.till], tills).await;
    }

    /// The same, with so many tills at each of several nodes.
    pub async fn sell_at(&self, shop: &Shop, nodes: &[&Api], tills: usize) {
        self.stop.set(false);
        join_all(nodes.iter().flat_map(|node| (0..tills).map(|_| self.one_till(shop, node)))).await;
    }

    /// Lets every till finish what it is at.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    async fn one_till(&self, shop: &Shop, node: &Api) {
        let mut connection = node.connection();
        while !self.stop.get() {
            let attempt = self.next(shop);
            match ask(&mut connection, shop, &attempt).await {
                Some(answer) => self.take(attempt, &answer),
                None => {
                    self.open.borrow_mut().push(attempt);
                    return;
                }
            }
        }
    }

    /// The next basket: one to three lines, a key nobody used before.
    fn next(&self, shop: &Shop) -> Attempt {
        let number = self.next.replace(self.next.get() + 1);
        let line = |index: u64| {
            (format!("P{:02}", 1 + (number * 7 + index * 11) % 40), 1 + (number + index) as i64 % 3)
        };
        let lines: Vec<_> = (0..=number % 3).map(line).collect();
        let written: Vec<_> = lines.iter().map(|(sku, pieces)| (sku.as_str(), pieces.to_string())).collect();
        let written: Vec<_> = written.iter().map(|(sku, pieces)| (*sku, pieces.as_str())).collect();
        Attempt { key: format!("till-{number}"), body: shop.basket(&written).into(), lines }
    }

    /// Remembers an answer. Nothing but a sale or "not now" is an answer to these baskets.
    fn take(&self, attempt: Attempt, answer: &Answer) {
        match answer.status.as_u16() {
            201 => self.acknowledge(attempt, answer),
            503 => {
                *self.refusals.borrow_mut().entry(answer.error_code().unwrap()).or_default() += 1;
                self.open.borrow_mut().push(attempt);
            }
            other => panic!("{other}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    fn acknowledge(&self, attempt: Attempt, answer: &Answer) {
        #[derive(serde::Deserialize)]
        struct Receipt {
            venta_id: String,
        }
        let Receipt { venta_id } = answer.json().unwrap();
        let before = self.acknowledged.borrow_mut().insert(attempt.key.clone(), venta_id);
        assert_eq!(before, None, "{} was answered twice", attempt.key);
        let mut sold = self.sold.borrow_mut();
        for (sku, pieces) in attempt.lines {
            *sold.entry(sku).or_default() += pieces;
        }
    }

    /// Asks again, under the same keys, for everything that got no definite answer. Says how many of those had been
    /// sold all along.
    pub async fn ask_again(&self, shop: &Shop) -> usize {
        let open = std::mem::take(&mut *self.open.borrow_mut());
        let connection = RefCell::new(shop.till.connection());
        let mut had_been_sold = 0;
        for attempt in open {
            let answer = eventually("a request that was repeated is answered", async || {
                let answer = ask(&mut connection.borrow_mut(), shop, &attempt).await;
                answer.filter(|answer| answer.status.as_u16() != 503)
            })
            .await;
            had_been_sold += usize::from(answer.header("idempotent-replayed") == Some("true"));
            self.take(attempt, &answer);
        }
        had_been_sold
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.borrow().len()
    }

    /// How often an answer with this code decided nothing.
    pub fn refusals(&self, code: &str) -> u64 {
        self.refusals.borrow().get(code).copied().unwrap_or_default()
    }

    /// How many requests got no answer that decides.
    pub fn open(&self) -> usize {
        self.open.borrow().len()
    }

    /// Forgets the requests without a definite answer: nobody asks for them again. What became of them, the books
    /// say.
    pub fn give_up_open(&self) -> Vec<String> {
        self.open.borrow_mut().drain(..).map(|attempt| attempt.key).collect()
    }

    /// Waits until so many more sales are acknowledged.
    pub async fn sold_more(&self, sales: usize) {
        let goal = self.acknowledged() + sales;
        let wait = async {
            while self.acknowledged() < goal {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.expect("the tills do not sell");
    }

    /// Every acknowledged sale is in the books once, under its key.
    pub fn assert_kept(&self, books: &Books) {
        let booked = books.by_key();
        for (key, id) in &*self.acknowledged.borrow() {
            assert_eq!(booked.get(key.as_str()), Some(&id.as_str()), "{key} was answered with sale {id}");
        }
    }

    /// The books hold the acknowledged sales, nothing else, and stock is what is left.
    pub fn assert_exact(&self, books: &Books, opening: u32) {
        self.assert_kept(books);
        assert_eq!(books.sales.len(), self.acknowledged(), "sales in the ledger, sales acknowledged");
        for (sku, pieces) in &*self.sold.borrow() {
            assert_eq!(books.stock[sku], (i64::from(opening) - pieces) * 1_000, "stock of {sku}");
        }
    }

    /// Every acknowledged sale can be looked up at any time, and is soon said to be booked.
    pub async fn assert_found(&self, shop: &Shop) {
        let connection = RefCell::new(shop.till.connection());
        let ids: Vec<_> = self.acknowledged.borrow().values().cloned().collect();
        for id in ids {
            let path = format!("/api/v1/ventas/{id}");
            eventually(&format!("sale {id} is said to be booked"), async || {
                let mut connection = connection.borrow_mut();
                let answer = connection.request(Method::GET, &path, shop.till.token(), &[], Bytes::new());
                let answer = answer.await.unwrap();
                let text = String::from_utf8_lossy(&answer.body);
                assert!(
                    answer.status.is_success() && text.contains(id.as_str()),
                    "{path}: {} {text}",
                    answer.status
                );
                text.contains(r#""estado":"registrada""#).then_some(())
            })
            .await;
        }
    }
}

/// One checkout; `None` when the connection broke before there was an answer.
async fn ask(connection: &mut Connection, shop: &Shop, attempt: &Attempt) -> Option<Answer> {
    let key = [(IDEMPOTENCY_KEY, HeaderValue::from_str(&attempt.key).unwrap())];
    connection.request(Method::POST, CHECKOUT, shop.till.token(), &key, attempt.body.clone()).await.ok()
}

//! What one batch of readings changes, as part of an event, and the state that these changes add up to.

use super::account::{Account, Held, HeldAccount};
use super::cursor::Cursor;
use super::identity::{AccountKey, Identity};
use super::reading::{ProductReading, RowId};
use crate::domain::event::Movement;
use crate::domain::ids::{LocationId, UnitId};
use crate::domain::stock::Place;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// One fact about a source, which replaces the one before it under the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A balance.
    #[serde(rename = "cuenta")]
    Account {
        #[serde(rename = "clave")]
        key: AccountKey,
        #[serde(rename = "valor")]
        account: Account,
    },
    /// A code, as last read.
    #[serde(rename = "producto")]
    Product {
        #[serde(rename = "valor")]
        reading: ProductReading,
    },
    /// The location that a branch is, for ever.
    #[serde(rename = "sucursal")]
    Branch {
        #[serde(rename = "clave")]
        name: Arc<str>,
        #[serde(rename = "valor")]
        location: LocationId,
    },
    /// How far the source has been read.
    #[serde(rename = "cursor")]
    Cursor {
        #[serde(rename = "valor")]
        cursor: Cursor,
    },
}

impl Entry {
    /// What identifies it within its source, for a table: a letter and a key.
    pub fn key(&self) -> String {
        match self {
            Self::Account { key, .. } => {
                let part = |text: &Option<Arc<str>>| text.clone().unwrap_or_default();
                // No part has control characters.
                format!(
                    "a{}\n{}\n{}\n{}",
                    key.item.code,
                    part(&key.item.size),
                    part(&key.item.color),
                    key.branch
                )
            }
            Self::Product { reading } => format!("p{}", reading.code),
            Self::Branch { name, .. } => format!("b{name}"),
            Self::Cursor { .. } => "c".to_owned(),
        }
    }
}

/// What a batch of readings came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErpChange {
    /// The source.
    pub source: Arc<str>,
    /// The document of its movements in the ledger.
    pub reference: Arc<str>,
    /// What came and went; each unit and location once.
    pub movements: Vec<Movement>,
    /// What is known now.
    pub entries: Vec<Entry>,
}

/// Everything known of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Following {
    accounts: HashMap<AccountKey, Account>,
    products: HashMap<Arc<str>, ProductReading>,
    branches: HashMap<Arc<str>, LocationId>,
    cursor: Option<Cursor>,
    /// Derived: which account a row belongs to.
    rows: HashMap<i64, AccountKey>,
    /// Derived: which unit an item is, and which item a unit is.
    units: HashMap<Identity, UnitId>,
    items: HashMap<UnitId, Identity>,
    /// Derived: places that some balance fills.
    places: HashSet<Place>,
    /// Derived: the items of a code.
    codes: HashMap<Arc<str>, BTreeSet<Identity>>,
    /// Derived: accounts with something held.
    held: HashMap<AccountKey, Held>,
}

impl Following {
    /// Takes in one fact.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Account { key, account } => self.apply_account(key, account),
            Entry::Product { reading } => {
                self.products.insert(reading.code.clone(), reading.clone());
            }
            Entry::Branch { name, location } => {
                self.branches.insert(name.clone(), *location);
            }
            Entry::Cursor { cursor } => self.cursor = Some(cursor.clone()),
        }
    }

    fn apply_account(&mut self, key: &AccountKey, account: &Account) {
        if let Some(old) = self.accounts.get(key) {
            for row in old.rows.keys() {
                if let RowId::Numbered(id) = row
                    && self.rows.get(id) == Some(key)
                {
                    self.rows.remove(id);
                }
            }
        }
        for row in account.rows.keys() {
            if let RowId::Numbered(id) = row {
                self.rows.insert(*id, key.clone());
            }
        }
        self.units.insert(key.item.clone(), account.unit);
        self.items.insert(account.unit, key.item.clone());
        self.places.insert((account.unit, account.location));
        self.codes.entry(key.item.code.clone()).or_default().insert(key.item.clone());
        match account.held {
            Some(held) => self.held.insert(key.clone(), held),
            None => self.held.remove(key),
        };
        self.accounts.insert(key.clone(), account.clone());
    }

    /// A balance.
    pub fn account(&self, key: &AccountKey) -> Option<&Account> {
        self.accounts.get(key)
    }

    /// How many balances there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether nothing was ever read.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The account that a row belongs to.
    pub fn account_of(&self, row: i64) -> Option<&AccountKey> {
        self.rows.get(&row)
    }

    /// Every row that was ever read and is not known to be gone.
    pub fn rows(&self) -> impl Iterator<Item = i64> {
        self.rows.keys().copied()
    }

    /// The unit that an item is.
    pub fn unit(&self, item: &Identity) -> Option<UnitId> {
        self.units.get(item).copied()
    }

    /// The item that a unit is.
    pub fn item(&self, unit: UnitId) -> Option<&Identity> {
        self.items.get(&unit)
    }

    /// Whether some balance fills a place.
    pub fn counts(&self, place: Place) -> bool {
        self.places.contains(&place)
    }

    /// The items of a code.
    pub fn items_of(&self, code: &str) -> impl Iterator<Item = &Identity> {
        self.codes.get(code).into_iter().flatten()
    }

    /// A code as last read.
    pub fn product(&self, code: &str) -> Option<&ProductReading> {
        self.products.get(code)
    }

    /// The location that a branch is.
    pub fn branch(&self, name: &str) -> Option<LocationId> {
        self.branches.get(name).copied()
    }

    /// How far the source has been read.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// Balances of which something is held, in order.
    pub fn held(&self) -> Vec<HeldAccount> {
        let mut all: Vec<HeldAccount> = self
            .held
            .iter()
            .filter_map(|(key, reason)| {
                let account = self.accounts.get(key)?.clone();
                Some(HeldAccount { key: key.clone(), account, reason: *reason })
            })
            .collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// Balances that are held for one reason.
    pub fn held_for(&self, reason: Held) -> impl Iterator<Item = &AccountKey> {
        self.held.iter().filter(move |(_, held)| **held == reason).map(|(key, _)| key)
    }
}

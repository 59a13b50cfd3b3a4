//! What comes from MercadoLibre and goes there, as types. Its ids are numbers here and texts there: both are read.

use crate::domain::channel::mapping::Listed;
use crate::domain::channel::order::{Order, OrderLine, OrderState};
use crate::domain::time::Timestamp;
use crate::ports::channel::Missed;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Where a quantity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// An item without variations.
    Item(&'a str),
    /// A variation of an item.
    Variation(&'a str, &'a str),
    /// A product of the seller, whose stock is in warehouses.
    Product(&'a str),
}

impl<'a> Place<'a> {
    pub fn parse(text: &'a str) -> Self {
        if let Some(product) = text.strip_prefix("UP:") {
            return Self::Product(product);
        }
        match text.split_once('/') {
            Some((item, variation)) => Self::Variation(item, variation),
            None => Self::Item(text),
        }
    }

    /// The item that has to be read for it.
    pub fn item(&self) -> Option<&'a str> {
        match self {
            Self::Item(item) | Self::Variation(item, _) => Some(item),
            Self::Product(_) => None,
        }
    }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    maybe_id(deserializer).map(Option::unwrap_or_default)
}

fn maybe_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    Ok(Option::<Either>::deserialize(deserializer)?.map(|either| match either {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    }))
}

/// One of several items that were asked for at once.
#[derive(Debug, Deserialize)]
pub struct Entry {
    code: u16,
    body: Value,
}

impl Entry {
    /// The item, unless it is gone or closed for ever.
    pub fn found(self) -> Option<Item> {
        let item: Item = serde_json::from_value(self.body).ok().filter(|_| self.code == 200)?;
        (item.status != "closed").then_some(item)
    }
}

#[derive(Debug, Deserialize)]
pub struct Item {
    pub id: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub available_quantity: i64,
    pub seller_custom_field: Option<String>,
    pub user_product_id: Option<String>,
    #[serde(default)]
    attributes: Vec<Attribute>,
    #[serde(default)]
    variations: Vec<Variation>,
}

#[derive(Debug, Deserialize)]
struct Attribute {
    id: String,
    value_name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Variation {
    #[serde(deserialize_with = "id")]
    id: String,
    #[serde(default)]
    available_quantity: i64,
    seller_custom_field: Option<String>,
    #[serde(default)]
    attributes: Vec<Attribute>,
}

fn sku(attributes: &[Attribute], older: Option<&String>) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.id == "SELLER_SKU");
    found.and_then(|attribute| attribute.value_name.clone()).or_else(|| older.cloned())
}

impl Item {
    /// What a variation shows.
    pub fn variation(&self, id: &str) -> Option<i64> {
        self.variations.iter().find(|variation| variation.id == id).map(|found| found.available_quantity)
    }

    /// The write that changes one variation and keeps the others.
    pub fn with_variation(&self, id: &str, quantity: i64) -> Value {
        let one = |variation: &Variation| {
            let quantity = if variation.id == id { quantity } else { variation.available_quantity };
            let number = variation.id.parse::<i64>();
            json!({ "id": number.map_or_else(|_| json!(variation.id), |number| json!(number)),
                "available_quantity": quantity })
        };
        json!({ "variations": self.variations.iter().map(one).collect::<Vec<_>>() })
    }

    /// What of it can be mapped.
    pub fn listed(&self, warehouses: bool) -> Vec<Listed> {
        if let Some(product) = self.user_product_id.as_ref().filter(|_| warehouses) {
            let sku = sku(&self.attributes, self.seller_custom_field.as_ref());
            return vec![Listed { item: format!("UP:{product}"), sku, title: self.title.clone() }];
        }
        if self.variations.is_empty() {
            let sku = sku(&self.attributes, self.seller_custom_field.as_ref());
            return vec![Listed { item: self.id.clone(), sku, title: self.title.clone() }];
        }
        let one = |variation: &Variation| Listed {
            item: format!("{}/{}", self.id, variation.id),
            sku: sku(&variation.attributes, variation.seller_custom_field.as_ref()),
            title: self.title.clone(),
        };
        self.variations.iter().map(one).collect()
    }
}

#[derive(Debug, Deserialize)]
pub struct ProductStock {
    #[serde(default)]
    locations: Vec<Location>,
}

#[derive(Debug, Deserialize)]
struct Location {
    #[serde(rename = "type")]
    kind: String,
    network_node_id: Option<String>,
    #[serde(default, deserialize_with = "maybe_id")]
    store_id: Option<String>,
    quantity: i64,
}

impl ProductStock {
    fn warehouses(&self) -> impl Iterator<Item = &Location> {
        self.locations.iter().filter(|location| location.kind == "seller_warehouse")
    }

    /// What is in one of the seller's own warehouses, or in all of them; what is in MercadoLibre's is not ours to set.
    pub fn of_warehouses(&self, only: Option<&Depot>) -> i64 {
        let is_meant = |location: &&Location| only.is_none_or(|depot| location.is(depot));
        self.warehouses().filter(is_meant).map(|location| location.quantity).sum()
    }

    /// The write that puts a quantity into one warehouse and leaves the others as they are; without one, into the
    /// seller's first, and nothing into the others. All are named.
    pub fn with(&self, quantity: i64, only: Option<&Depot>) -> Value {
        let written = |store: Option<&String>, node: Option<&String>, quantity: i64| json!({ "store_id": store, "network_node_id": node, "quantity": quantity });
        let one = |(index, location): (usize, &Location)| {
            let quantity = match only {
                Some(depot) if !location.is(depot) => location.quantity,
                None if index > 0 => 0,
                _ => quantity,
            };
            written(location.store_id.as_ref(), location.network_node_id.as_ref(), quantity)
        };
        let mut all: Vec<Value> = self.warehouses().enumerate().map(one).collect();
        // The product was in the others only.
        if let Some(depot) = only.filter(|depot| self.warehouses().all(|location| !location.is(depot))) {
            all.push(written(Some(&depot.id), depot.network_node_id.as_ref(), quantity));
        }
        json!({ "locations": all })
    }
}

impl Location {
    fn is(&self, depot: &Depot) -> bool {
        self.store_id.as_ref() == Some(&depot.id)
    }
}

/// The seller's warehouses, as far as there is stock in them.
#[derive(Debug, Deserialize)]
pub struct Depots {
    #[serde(default)]
    pub results: Vec<Depot>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Depot {
    #[serde(deserialize_with = "id")]
    pub id: String,
    network_node_id: Option<String>,
}

/// Where a part of an order comes from, where that is said. It is not documented where it is, so it is looked for at
/// the order, at the line, and in the line's `stock`.
#[derive(Debug, Default, Deserialize)]
struct Origin {
    #[serde(default)]
    store_id: Value,
    #[serde(default)]
    node_id: Value,
}

impl Origin {
    /// Whether it is this warehouse; nothing when it is not said.
    fn is(&self, depot: &Depot) -> Option<bool> {
        let is = |said: &Value, known: &str| match said {
            Value::String(text) => Some(text == known),
            Value::Number(number) => Some(number.to_string() == known),
            _ => None,
        };
        let node = || is(&self.node_id, depot.network_node_id.as_deref()?);
        is(&self.store_id, &depot.id).or_else(node)
    }
}

#[derive(Debug, Deserialize)]
pub struct User {
    #[serde(default)]
    pub nickname: String,
    #[serde(default)]
    pub tags: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub struct Found {
    #[serde(default)]
    pub results: Vec<String>,
    pub scroll_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Renewed {
    pub access_token: String,
    pub refresh_token: Option<String>,
}

/// The resource that a notice names. Only a path is believed: the token goes there.
pub fn resource(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Only {
        resource: String,
    }
    let only: Only = serde_json::from_slice(body).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-_".contains(c);
    (only.resource.starts_with('/') && !only.resource.starts_with("//") && only.resource.chars().all(plain))
        .then_some(only.resource)
}

/// A page of what could not be delivered.
#[derive(Debug, Deserialize)]
pub struct MissedPage {
    #[serde(default)]
    pub messages: Vec<Value>,
}

/// A message of it, if it is one about this seller.
pub fn missed(message: &Value, seller: &str) -> Option<Missed> {
    let text = |name: &str| match message.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let (topic, resource) = (text("topic")?, text("resource")?);
    let id = text("_id").or_else(|| text("id"));
    let id = id.unwrap_or_else(|| format!("{topic} {resource} {}", text("sent").unwrap_or_default()));
    (text("user_id")? == seller).then(|| Missed { id, topic, body: message.to_string().into_bytes() })
}

/// An order, as far as it is read. Nothing about the buyer is.
#[derive(Debug, Deserialize)]
pub struct OrderBody {
    #[serde(deserialize_with = "id")]
    id: String,
    status: String,
    #[serde(default)]
    order_items: Vec<OrderItem>,
    #[serde(flatten)]
    origin: Origin,
}

#[derive(Debug, Deserialize)]
struct OrderItem {
    item: Ordered,
    quantity: i64,
    #[serde(default)]
    stock: Value,
    #[serde(flatten)]
    origin: Origin,
}

impl OrderItem {
    /// Whether a line takes its units from a warehouse. A line that does not say is taken for ours: units that are
    /// gone elsewhere are found again, and units that are sold twice are not.
    fn is_from(&self, depot: Option<&Depot>, order: &Origin) -> bool {
        let Some(depot) = depot else { return true };
        let stock = Origin::deserialize(&self.stock).ok();
        let said = stock.and_then(|stock| stock.is(depot)).or_else(|| self.origin.is(depot));
        said.or_else(|| order.is(depot)).unwrap_or(true)
    }
}

#[derive(Debug, Deserialize)]
struct Ordered {
    id: String,
    #[serde(default, deserialize_with = "maybe_id")]
    variation_id: Option<String>,
    seller_sku: Option<String>,
    seller_custom_field: Option<String>,
    user_product_id: Option<String>,
}

impl OrderBody {
    /// The order, as far as it takes units from this warehouse, unless it is in a state in which nothing is taken yet.
    pub fn into_order(self, depot: Option<&Depot>) -> Option<Order> {
        let state = match self.status.as_str() {
            "confirmed" | "paid" | "partially_paid" | "partially_refunded" => OrderState::Placed,
            "cancelled" | "invalid" => OrderState::Cancelled,
            // Payment is required or under way: MercadoLibre has not taken the stock off either.
            _ => return None,
        };
        let line = |OrderItem { item, quantity, .. }| OrderLine {
            item: match (&item.user_product_id, &item.variation_id) {
                (Some(product), _) => format!("UP:{product}"),
                (None, Some(variation)) => format!("{}/{variation}", item.id),
                (None, None) => item.id.clone(),
            },
            sku: item.seller_sku.or(item.seller_custom_field),
            quantity,
        };
        let (items, origin) = (self.order_items, self.origin);
        let lines = items.into_iter().filter(|item| item.is_from(depot, &origin)).map(line).collect();
        // It was asked for just now: nothing older comes after it.
        Some(Order { name: self.id.clone(), id: self.id, state, version: Timestamp::default(), lines })
    }
}

#[test]
fn only_paths_are_followed() {
    let resource = |text: &str| resource(format!("{{\"resource\":\"{text}\"}}").as_bytes());
    assert_eq!(resource("/orders/2195160686").as_deref(), Some("/orders/2195160686"));
    for evil in
        ["https://evil.example/x", "//evil.example", "orders/1", "/orders/1?x=/..", "/orders/../x", "/o%2f"]
    {
        assert_eq!(resource(evil), None, "{evil}");
    }
}

//! What goes to Shopify and comes back, as types. Its ids exceed what a float holds, so numbers are read as integers.

use crate::domain::channel::Mode;
use crate::domain::channel::mapping::Listed;
use crate::domain::channel::order::{Order, OrderLine, OrderState};
use crate::domain::time::Timestamp;
use crate::ports::channel::Call;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// The answer to a GraphQL call.
#[derive(Debug, Deserialize)]
pub struct Data<T> {
    pub data: Option<T>,
    #[serde(default)]
    pub errors: Vec<GraphError>,
    pub extensions: Option<Extensions>,
}

#[derive(Debug, Deserialize)]
pub struct GraphError {
    pub message: String,
    pub extensions: Option<ErrorCode>,
}

#[derive(Debug, Deserialize)]
pub struct ErrorCode {
    pub code: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Extensions {
    pub cost: Option<Cost>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    #[serde(default)]
    pub requested_query_cost: u64,
    pub throttle_status: ThrottleStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThrottleStatus {
    pub maximum_available: u64,
    pub currently_available: u64,
    pub restore_rate: u64,
}

/// The state of the bucket, wherever an answer has it.
pub fn throttle_status(body: &[u8]) -> Option<ThrottleStatus> {
    #[derive(Deserialize)]
    struct Only {
        extensions: Option<Extensions>,
    }
    let only: Only = serde_json::from_slice(body).ok()?;
    Some(only.extensions?.cost?.throttle_status)
}

#[derive(Debug, Deserialize)]
pub struct UserError {
    pub field: Option<Vec<String>>,
    pub message: String,
    pub code: Option<String>,
}

/// Of either inventory mutation. Its group of adjustments is null when nothing changed, which is no failure.
#[derive(Debug, Deserialize)]
pub struct SetData {
    #[serde(rename = "inventorySetQuantities", alias = "inventoryAdjustQuantities")]
    pub written: Option<Written>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    pub user_errors: Vec<UserError>,
}

/// The variables of a mutation. `changeFromQuantity` is always there, `null` where nothing is known: to leave it out
/// is an error that only shows at run time.
pub fn quantities(call: &Call, place: &str) -> Value {
    let relative = call.mode == Mode::Relative;
    let line = |push: &crate::domain::channel::Push| {
        let mut line =
            json!({ "inventoryItemId": push.item, "locationId": place, "changeFromQuantity": push.from });
        if relative {
            line["delta"] = json!(push.quantity.saturating_sub(push.from.unwrap_or_default()));
        } else {
            line["quantity"] = json!(push.quantity);
        }
        line
    };
    let lines: Vec<Value> = call.pushes.iter().map(line).collect();
    let mut input = json!({ "name": "available", "reason": "correction",
        "referenceDocumentUri": format!("gid://blend/Sync/{}", call.key) });
    input[if relative { "changes" } else { "quantities" }] = Value::Array(lines);
    json!({ "key": call.key, "input": input })
}

#[derive(Debug, Deserialize)]
pub struct LevelsData {
    nodes: Vec<Option<LevelNode>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LevelNode {
    id: Option<String>,
    inventory_level: Option<Level>,
}

#[derive(Debug, Deserialize)]
struct Level {
    quantities: Vec<LevelQuantity>,
}

#[derive(Debug, Deserialize)]
struct LevelQuantity {
    name: String,
    quantity: i64,
}

impl LevelsData {
    /// What is available of each item that is stocked at the place.
    pub fn by_item(&self) -> HashMap<&str, i64> {
        let level = |node: &'_ LevelNode| {
            let quantities = &node.inventory_level.as_ref()?.quantities;
            quantities.iter().find(|quantity| quantity.name == "available").map(|found| found.quantity)
        };
        let nodes = self.nodes.iter().flatten();
        nodes.filter_map(|node| Some((node.id.as_deref()?, level(node)?))).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemsData {
    inventory_items: Items,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Items {
    nodes: Vec<ItemNode>,
    page_info: PageInfo,
}

#[derive(Debug, Deserialize)]
struct ItemNode {
    id: String,
    sku: Option<String>,
    tracked: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl ItemsData {
    /// Items whose stock Shopify keeps, and where the next page begins.
    pub fn into_page(self) -> (Vec<Listed>, Option<String>) {
        let PageInfo { has_next_page, end_cursor } = self.inventory_items.page_info;
        let tracked = self.inventory_items.nodes.into_iter().filter(|node| node.tracked);
        let listed = tracked.map(|node| Listed {
            title: node.sku.clone().unwrap_or_default(),
            item: node.id,
            sku: node.sku,
        });
        (listed.collect(), end_cursor.filter(|_| has_next_page))
    }
}

#[derive(Debug, Deserialize)]
pub struct VariantsData {
    nodes: Vec<Option<VariantNode>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VariantNode {
    id: Option<String>,
    inventory_item: Option<Id>,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: String,
}

impl VariantsData {
    /// The item of each variant.
    pub fn items(self) -> HashMap<String, String> {
        let nodes = self.nodes.into_iter().flatten();
        nodes.filter_map(|node| Some((node.id?, node.inventory_item?.id))).collect()
    }
}

/// What a shop has to tell us.
const TOPICS: [&str; 5] =
    ["ORDERS_CREATE", "ORDERS_PAID", "ORDERS_UPDATED", "ORDERS_CANCELLED", "INVENTORY_LEVELS_UPDATE"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionsData {
    webhook_subscriptions: Subscriptions,
}

#[derive(Debug, Deserialize)]
struct Subscriptions {
    nodes: Vec<Subscription>,
}

#[derive(Debug, Deserialize)]
struct Subscription {
    topic: String,
    uri: String,
}

impl SubscriptionsData {
    /// Topics that are not told at this address.
    pub fn missing(&self, uri: &str) -> Vec<&'static str> {
        let told = |topic: &&str| {
            let mut nodes = self.webhook_subscriptions.nodes.iter();
            nodes.any(|subscription| subscription.topic == **topic && subscription.uri == uri)
        };
        TOPICS.into_iter().filter(|topic| !told(topic)).collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscribedData {
    pub webhook_subscription_create: Option<Written>,
}

#[derive(Debug, Deserialize)]
pub struct ShopData {
    pub shop: Name,
    pub location: Option<Name>,
}

#[derive(Debug, Deserialize)]
pub struct Name {
    pub name: String,
}

#[derive(Debug, Deserialize)]
pub struct Renewed {
    pub access_token: String,
    pub refresh_token: Option<String>,
}

/// The body of a notice about an order, as far as it is read.
#[derive(Debug, Deserialize)]
pub struct OrderBody {
    id: i64,
    name: Option<String>,
    cancelled_at: Option<String>,
    updated_at: Option<String>,
    line_items: Vec<LineBody>,
    #[serde(default)]
    refunds: Vec<RefundBody>,
}

#[derive(Debug, Deserialize)]
struct RefundBody {
    #[serde(default)]
    refund_line_items: Vec<RefundLineBody>,
}

#[derive(Debug, Deserialize)]
struct RefundLineBody {
    line_item_id: i64,
    quantity: i64,
    restock_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LineBody {
    id: Option<i64>,
    variant_id: Option<i64>,
    sku: Option<String>,
    quantity: i64,
    current_quantity: Option<i64>,
}

impl LineBody {
    fn variant(&self) -> Option<String> {
        self.variant_id.map(|id| format!("gid://shopify/ProductVariant/{id}"))
    }
}

impl OrderBody {
    /// Its variants, each once.
    pub fn variants(&self) -> Vec<String> {
        let mut variants: Vec<String> = self.line_items.iter().filter_map(LineBody::variant).collect();
        variants.sort_unstable();
        variants.dedup();
        variants
    }

    /// With the items of its variants.
    pub fn into_order(self, items: &HashMap<String, String>) -> Order {
        // Refunded and not put back: it is gone all the same.
        let refunds = self.refunds.iter().flat_map(|refund| &refund.refund_line_items);
        let lost: Vec<&RefundLineBody> =
            refunds.filter(|line| line.restock_type.as_deref() == Some("no_restock")).collect();
        let kept = |line: &LineBody| match line.current_quantity {
            Some(current) => {
                let of_it = lost.iter().filter(|lost| Some(lost.line_item_id) == line.id);
                current.saturating_add(of_it.map(|lost| lost.quantity).sum())
            }
            None => line.quantity,
        };
        let line = |line: &LineBody| OrderLine {
            item: line.variant().and_then(|variant| items.get(&variant).cloned()).unwrap_or_default(),
            quantity: kept(line),
            sku: line.sku.clone(),
        };
        let state = if self.cancelled_at.is_some() { OrderState::Cancelled } else { OrderState::Placed };
        Order {
            id: self.id.to_string(),
            name: self.name.clone().unwrap_or_default(),
            state,
            version: self.updated_at.as_deref().and_then(Timestamp::parse).unwrap_or_default(),
            lines: self.line_items.iter().map(line).collect(),
        }
    }
}

/// The body of a notice about a level.
#[derive(Debug, Deserialize)]
pub struct LevelBody {
    inventory_item_id: i64,
    location_id: i64,
}

impl LevelBody {
    pub fn item(&self) -> String {
        format!("gid://shopify/InventoryItem/{}", self.inventory_item_id)
    }

    pub fn place(&self) -> String {
        format!("gid://shopify/Location/{}", self.location_id)
    }
}

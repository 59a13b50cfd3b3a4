//! Reading what is asked in GraphQL.

use crate::channels::shopify::{ADJUST, ITEMS, LEVELS, SET, SHOP, SUBSCRIBE, SUBSCRIPTIONS, VARIANTS};
use serde_json::{Value, json};

/// A field at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Whether it has the directive `@idempotent`.
    pub idempotent: bool,
}

/// Cuts the value of a field to what was selected of it.
pub type Cut = Box<dyn Fn(&Field, &Value) -> Value + Send>;

/// What a document asks for.
pub struct Asked {
    /// Whether it writes.
    pub is_mutation: bool,
    /// The fields at its top.
    pub fields: Vec<Field>,
    /// Cuts the value of one of them.
    pub cut: Cut,
}

/// Reads documents.
pub trait Documents: Send {
    /// What a document asks for with these variables, or the answer that says why it is none.
    fn read(&self, query: &str, variables: &Value) -> Result<Asked, (String, Value)>;
}

/// Knows the documents that Blend's client sends, and no others. Nothing is cut.
pub struct Known;

impl Documents for Known {
    fn read(&self, query: &str, _variables: &Value) -> Result<Asked, (String, Value)> {
        let names: &[&str] = match query {
            SET => &["inventorySetQuantities"],
            ADJUST => &["inventoryAdjustQuantities"],
            LEVELS | VARIANTS => &["nodes"],
            ITEMS => &["inventoryItems"],
            SHOP => &["shop", "location"],
            SUBSCRIPTIONS => &["webhookSubscriptions"],
            SUBSCRIBE => &["webhookSubscriptionCreate"],
            _ => {
                let error =
                    json!({ "message": "unknown document", "extensions": { "code": "undefinedField" } });
                return Err((format!("unknown document: {query}"), json!({ "errors": [error] })));
            }
        };
        let idempotent = matches!(query, SET | ADJUST);
        let field = |name: &&str| Field { name: (*name).to_owned(), idempotent };
        Ok(Asked {
            is_mutation: matches!(query, SET | ADJUST | SUBSCRIBE),
            fields: names.iter().map(field).collect(),
            cut: Box::new(|_, value| value.clone()),
        })
    }
}

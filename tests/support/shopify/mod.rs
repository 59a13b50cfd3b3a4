//! Reads documents for the stand-in of Shopify as strictly as Shopify does: each is validated against the schema.

use crate::simulator::{Asked, Documents, Field, Shopify};
use apollo_compiler::executable::{Selection, SelectionSet};
use apollo_compiler::request::coerce_variable_values;
use apollo_compiler::response::JsonMap;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use serde_json::{Map, Value, json};

/// The cut of Shopify's schema that Blend's documents use.
pub const SCHEMA: &str = include_str!("schema.graphql");

/// A shop with these items (by number from 1) that takes what fits the schema, and nothing else.
pub async fn open(items: &[(&str, i64)]) -> Shopify {
    Shopify::start(items, Box::new(Strict::new())).await.unwrap()
}

/// Validates.
pub struct Strict(Valid<Schema>);

impl Strict {
    pub fn new() -> Self {
        Self(Schema::parse_and_validate(SCHEMA, "schema.graphql").unwrap())
    }
}

impl Documents for Strict {
    fn read(&self, query: &str, variables: &Value) -> Result<Asked, (String, Value)> {
        let document = ExecutableDocument::parse_and_validate(&self.0, query, "query.graphql");
        let document = document.map_err(|error| {
            let code = json!({ "code": "undefinedField" });
            let answer = json!({ "errors": [{ "message": error.errors.to_string(), "extensions": code }] });
            (format!("invalid document: {}", error.errors), answer)
        })?;
        let operation = document.operations.iter().next().unwrap();
        let given: JsonMap = serde_json::from_value(variables.clone()).unwrap_or_default();
        if coerce_variable_values(&self.0, operation, &given).is_err() {
            let code = json!({ "code": "INVALID_VARIABLE", "problems": [] });
            let message = "Variable $input was provided invalid value";
            let answer = json!({ "errors": [{ "message": message, "extensions": code }] });
            return Err((format!("invalid variables: {variables}"), answer));
        }
        let (mut fields, mut sets) = (Vec::new(), Vec::new());
        for selection in &operation.selection_set.selections {
            if let Selection::Field(field) = selection {
                let idempotent = field.directives.get("idempotent").is_some();
                fields.push(Field { name: field.name.to_string(), idempotent });
                sets.push((field.name.to_string(), field.selection_set.clone()));
            }
        }
        let cut = move |field: &Field, value: &Value| {
            let set = sets.iter().find(|(name, _)| *name == field.name);
            set.map_or(Value::Null, |(_, set)| select(value, set))
        };
        Ok(Asked { is_mutation: operation.is_mutation(), fields, cut: Box::new(cut) })
    }
}

/// What was selected of a value, as a server gives it.
fn select(value: &Value, set: &SelectionSet) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| select(item, set)).collect(),
        Value::Object(fields) if !set.selections.is_empty() => {
            let mut chosen = Map::new();
            choose(fields, set, &mut chosen);
            Value::Object(chosen)
        }
        other => other.clone(),
    }
}

fn choose(fields: &Map<String, Value>, set: &SelectionSet, chosen: &mut Map<String, Value>) {
    for selection in &set.selections {
        match selection {
            Selection::Field(field) => {
                let value = fields.get(field.name.as_str()).unwrap_or(&Value::Null);
                chosen.insert(field.response_key().to_string(), select(value, &field.selection_set));
            }
            Selection::InlineFragment(inline) => {
                let wanted = inline.type_condition.as_ref().map(|name| name.as_str());
                if wanted.is_none() || wanted == fields.get("__typename").and_then(Value::as_str) {
                    choose(fields, &inline.selection_set, chosen);
                }
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

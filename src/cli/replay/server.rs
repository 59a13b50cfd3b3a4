//! What the server sells and where: the codes of the file translated into its ids.

use crate::client::{Answer, Bearer, ClientError, Connection, HttpClient};
use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Products a page, the most the server gives.
const PAGE: usize = 500;

/// How often a page is asked for.
const TRIES: u32 = 4;

/// Ids by code.
#[derive(Debug, Default)]
pub struct Shop {
    /// Sellable unit by sku.
    pub units: HashMap<String, Uuid>,
    /// Location by its `codigo`. A store that is none of these sells at the tenant's default location.
    pub locations: HashMap<String, Uuid>,
}

#[derive(Deserialize)]
struct Product {
    product_id: Uuid,
    base_sku: Option<String>,
    #[serde(default)]
    variants: Vec<Variant>,
}

#[derive(Deserialize)]
struct Variant {
    variant_id: Uuid,
    sku: String,
}

#[derive(Deserialize)]
struct Location {
    location_id: Uuid,
    codigo: Option<String>,
}

/// Reads the whole catalogue and the locations.
pub async fn load(client: &HttpClient, token: &Bearer) -> anyhow::Result<Arc<Shop>> {
    let mut connection = client.connection();
    let mut shop = Shop::default();
    let mut skip = 0;
    loop {
        let path = format!("/api/v1/productos?skip={skip}&limit={PAGE}");
        let answer = get(&mut connection, &path, token).await?;
        let page: Vec<Product> = answer.json().with_context(|| format!("{path}: not a page of products"))?;
        let count = page.len();
        for product in page {
            match (product.variants.is_empty(), product.base_sku) {
                // A simple product is its own unit.
                (true, Some(sku)) => drop(shop.units.insert(sku, product.product_id)),
                _ => shop.units.extend(product.variants.into_iter().map(|unit| (unit.sku, unit.variant_id))),
            }
        }
        if count < PAGE {
            break;
        }
        skip += count;
    }
    let path = "/api/v1/stock/locations";
    let answer = get(&mut connection, path, token).await?;
    let locations: Vec<Location> =
        answer.json().with_context(|| format!("{path}: not a list of locations"))?;
    let coded = |location: Location| Some((location.codigo?, location.location_id));
    shop.locations = locations.into_iter().filter_map(coded).collect();
    Ok(Arc::new(shop))
}

async fn get(connection: &mut Connection, path: &str, token: &Bearer) -> anyhow::Result<Answer> {
    let mut tries = 1;
    let answer = loop {
        let answer = connection.request(Method::GET, path, Some(token), &[], Bytes::new()).await;
        // A server that was restarted a moment ago, or of several one that cannot: reading again does no harm.
        let again = match &answer {
            Ok(answer) => answer.status == StatusCode::SERVICE_UNAVAILABLE,
            Err(error) => matches!(error, ClientError::Broken(..) | ClientError::Connect(..)),
        };
        if !again || tries == TRIES {
            break answer?;
        }
        tries += 1;
    };
    if !answer.status.is_success() {
        let code = answer.error_code().unwrap_or_default();
        bail!("GET {path} answered {} {code}", answer.status);
    }
    Ok(answer)
}

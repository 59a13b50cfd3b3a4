//! `/api/v1/productos`: scan and list.

use super::super::{ApiError, Permission, Request, Response};
use super::denied::answered;
use super::{Allowed, Api};
use crate::actors::reservation::ProductPage;
use crate::domain::catalogue::{Unit, UnitKind};
use crate::domain::decimal::{Money, Quantity};
use crate::domain::ids::{LocationId, ProductId, TenantId, UnitId};
use serde::Serialize;
use std::sync::Arc;

/// Longest code worth looking up.
const MAX_CODE_BYTES: usize = 100;

#[derive(Serialize)]
struct ScanAnswer<'a> {
    id: UnitId,
    nombre: &'a str,
    sku: &'a str,
    precio_venta: Money,
    stock_actual: Quantity,
    tipo: UnitKind,
    tiene_stock: bool,
}

/// `GET /productos/scan/{codigo}`, also under `/ventas`: by SKU or barcode; `?ubicacion_id` for the stock of a place.
pub async fn scan(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::ProductosRead)?;
    let code: String = request.param("codigo")?;
    let location: Option<LocationId> = request.query("ubicacion_id")?;
    if code.len() > MAX_CODE_BYTES {
        return Err(ApiError::field("codigo", "largo", format!("Admite hasta {MAX_CODE_BYTES} bytes")));
    }
    let found = answered(api.shards.scan(tenant, code, location).await)?;
    let found = found.ok_or_else(|| ApiError::not_found("No hay un producto activo con ese código"))?;
    let unit = &found.unit;
    Response::ok(&ScanAnswer {
        id: unit.id,
        nombre: &unit.full_name(),
        sku: &unit.sku,
        precio_venta: unit.price,
        stock_actual: found.available,
        tipo: unit.kind,
        tiene_stock: !unit.kind.has_stock() || found.available > Quantity::ZERO,
    })
}

#[derive(Serialize)]
struct ProductAnswer<'a> {
    product_id: ProductId,
    tienda_id: TenantId,
    name: &'a str,
    base_sku: &'a str,
    category: Option<&'a str>,
    brand: Option<&'a str>,
    is_active: bool,
    variants_count: usize,
    variants: Vec<VariantAnswer<'a>>,
}

#[derive(Serialize)]
struct VariantAnswer<'a> {
    variant_id: UnitId,
    product_id: ProductId,
    tienda_id: TenantId,
    sku: &'a str,
    size: Option<&'a str>,
    color: Option<&'a str>,
    tipo: UnitKind,
    price: Money,
    barcode: Option<&'a str>,
    is_active: bool,
}

/// `GET /productos?skip&limit&search&category&is_active`
pub async fn list(api: Arc<Api>, request: Request) -> Result<Response, ApiError> {
    let Allowed { tenant, .. } = api.allow(&request, Permission::ProductosRead)?;
    let page = ProductPage {
        skip: request.query_in("skip", 0..=10_000_000, 0)?,
        limit: request.query_in("limit", 1..=500, 100)?,
        search: request.query("search")?,
        category: request.query("category")?,
        active: Some(request.query("is_active")?.unwrap_or(true)),
    };
    let products = answered(api.shards.products(tenant, page).await)?;
    let answers: Vec<ProductAnswer<'_>> =
        products.iter().filter_map(|units| product(tenant, units)).collect();
    Response::ok(&answers)
}

fn product(tenant: TenantId, units: &[Arc<Unit>]) -> Option<ProductAnswer<'_>> {
    let first = units.first()?;
    fn variant(tenant: TenantId, unit: &Unit) -> VariantAnswer<'_> {
        VariantAnswer {
            variant_id: unit.id,
            product_id: unit.product_id,
            tienda_id: tenant,
            sku: &unit.sku,
            size: unit.size.as_deref(),
            color: unit.color.as_deref(),
            tipo: unit.kind,
            price: unit.price,
            barcode: unit.barcode.as_deref(),
            is_active: unit.active,
        }
    }
    Some(ProductAnswer {
        product_id: first.product_id,
        tienda_id: tenant,
        name: &first.name,
        base_sku: &first.base_sku,
        category: first.category.as_deref(),
        brand: first.brand.as_deref(),
        is_active: units.iter().any(|unit| unit.active),
        variants_count: units.len(),
        variants: units.iter().map(|unit| variant(tenant, unit)).collect(),
    })
}

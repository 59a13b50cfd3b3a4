//! A tenant's events as rows: each statement takes any number of them, as one array for each column, which `unnest`
//! puts side by side again. (COPY would be slower for batches: sqlx 0.9 leaves Nagle's algorithm on.)
//!
//! The values bound are in the order of the columns in the statement above them; `$1` is always the tenant.

use crate::domain::catalogue::Unit;
use crate::domain::event::{Body, Event};
use crate::domain::ids::TenantId;
use crate::domain::ledger::{Chains, Link};
use crate::domain::sale::{Sale, SaleLine};
use crate::domain::stock::Place;
use crate::domain::tenant::Location;
use crate::domain::{decimal::Quantity, event::Movement};
use crate::ports::PortError;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::error::{error_of, port_error};

const TENANT: &str = "INSERT INTO tenants (id, name, trade, active, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, trade = excluded.trade, active = excluded.active";

const LOCATIONS: &str = "INSERT INTO locations (tenant_id, id, code, name, kind, is_default, active)
    SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::boolean[])
    ON CONFLICT (tenant_id, id) DO UPDATE SET code = excluded.code, name = excluded.name, kind = excluded.kind,
        is_default = excluded.is_default, active = excluded.active";

const UNITS: &str = "INSERT INTO units (tenant_id, id, product_id, base_sku, name, sku, barcode, kind, price, active,
        size, color, category, brand)
    SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::bigint[], $10::boolean[], $11::text[], $12::text[], $13::text[], $14::text[])
    ON CONFLICT (tenant_id, id) DO UPDATE SET product_id = excluded.product_id, base_sku = excluded.base_sku,
        name = excluded.name, sku = excluded.sku, barcode = excluded.barcode, kind = excluded.kind,
        price = excluded.price, active = excluded.active, size = excluded.size, color = excluded.color,
        category = excluded.category, brand = excluded.brand";

const SALES: &str = "INSERT INTO sales (tenant_id, id, location_id, sequence, at, total, payment, created_by,
        request_id, key_hash, key, fingerprint)
    SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[],
        $9::text[], $10::bigint[], $11::text[], $12::bytea[])";

const LINES: &str = "INSERT INTO sale_lines (tenant_id, sale_id, line, unit_id, name, sku, quantity, unit_price,
        subtotal, has_stock)
    SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::boolean[])";

const VOIDS: &str = "INSERT INTO voids (tenant_id, sale_id, sequence, at, reason, created_by, request_id)
    SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[])";

const STOCK_BEFORE: &str = "SELECT r.number, s.quantity
    FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY r (unit_id, location_id, number)
    JOIN stock s ON s.tenant_id = $1 AND s.unit_id = r.unit_id AND s.location_id = r.location_id";

/// Ids are given in the order of the rows: the default is computed after the sort.
const LEDGER: &str = "INSERT INTO ledger (tenant_id, unit_id, location_id, sale_id, sequence, kind, delta,
        stock_before, stock_after, reference, at, created_by)
    SELECT $1, r.unit_id, r.location_id, r.sale_id, r.sequence, r.kind, r.delta, r.stock_before, r.stock_after,
        r.reference, r.at, r.created_by
    FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::text[], $11::bigint[], $12::text[]) WITH ORDINALITY
        r (unit_id, location_id, sale_id, sequence, kind, delta, stock_before, stock_after, reference, at, created_by,
           number)
    ORDER BY r.number";

const STOCK: &str = "INSERT INTO stock (tenant_id, unit_id, location_id, quantity)
    SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::bigint[])
    ON CONFLICT (tenant_id, unit_id, location_id) DO UPDATE SET quantity = excluded.quantity";

const ERP: &str = "INSERT INTO erp_state (tenant_id, source, key, value)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])
    ON CONFLICT (tenant_id, source, key) DO UPDATE SET value = excluded.value";

/// Tenant, locations and units as the events leave them.
pub async fn write_catalogue(
    connection: &mut PgConnection,
    tenant: TenantId,
    events: &[&Event],
) -> Result<(), PortError> {
    let mut locations: Vec<&Location> = Vec::new();
    let mut units: Vec<&Unit> = Vec::new();
    for event in events {
        match &event.body {
            Body::TenantCreated { tenant: created, locations: first } => {
                if created.id != tenant {
                    let why = format!("an event of tenant {tenant} creates tenant {}", created.id);
                    return Err(PortError::Permanent(why));
                }
                let query = sqlx::query(TENANT)
                    .bind(tenant.0)
                    .bind(text(&created.name))
                    .bind(text(&created.trade))
                    .bind(created.active)
                    .bind(created.created_at.micros());
                run(connection, query).await?;
                locations.extend(first);
            }
            Body::LocationsAdded { locations: more } => locations.extend(more),
            Body::ProductsUpserted { units: changed } => units.extend(changed.iter().map(|unit| &**unit)),
            Body::SaleCreated { .. }
            | Body::SaleVoided { .. }
            | Body::StockMoved { .. }
            | Body::ErpFollowed(_) => {}
        }
    }
    let locations = newest_of_each(locations, |location| location.id);
    if !locations.is_empty() {
        let query = sqlx::query(LOCATIONS)
            .bind(tenant.0)
            .bind(column(&locations, |location| location.id.0))
            .bind(column(&locations, |location| text(&location.code)))
            .bind(column(&locations, |location| text(&location.name)))
            .bind(column(&locations, |location| location.kind.as_str()))
            .bind(column(&locations, |location| location.is_default))
            .bind(column(&locations, |location| location.active));
        run(connection, query).await?;
    }
    let units = newest_of_each(units, |unit| unit.id);
    if units.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(UNITS)
        .bind(tenant.0)
        .bind(column(&units, |unit| unit.id.0))
        .bind(column(&units, |unit| unit.product_id.0))
        .bind(column(&units, |unit| text(&unit.base_sku)))
        .bind(column(&units, |unit| text(&unit.name)))
        .bind(column(&units, |unit| text(&unit.sku)))
        .bind(column(&units, |unit| unit.barcode.as_deref().map(text)))
        .bind(column(&units, |unit| unit.kind.as_str()))
        .bind(column(&units, |unit| unit.price.units()))
        .bind(column(&units, |unit| unit.active))
        .bind(column(&units, |unit| unit.size.as_deref().map(text)))
        .bind(column(&units, |unit| unit.color.as_deref().map(text)))
        .bind(column(&units, |unit| unit.category.as_deref().map(text)))
        .bind(column(&units, |unit| unit.brand.as_deref().map(text)));
    run(connection, query).await?;
    // How the server checks a reference to a unit it planned when there were fewer, perhaps hardly any, and every index
    // would do; it would search the tenant's whole catalogue for each row.
    run(connection, sqlx::query("DISCARD PLANS")).await
}

/// Sales and their lines.
pub async fn write_sales(
    connection: &mut PgConnection,
    tenant: TenantId,
    events: &[&Event],
) -> Result<(), PortError> {
    let mut sales = Vec::new();
    let mut lines: Vec<(&Sale, i64, &SaleLine)> = Vec::new();
    for event in events {
        let Body::SaleCreated { sale, keyed } = &event.body else { continue };
        sales.push((*event, sale, keyed.as_ref()));
        lines.extend((0..).zip(&sale.lines).map(|(number, line)| (sale, number, line)));
    }
    if sales.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(SALES)
        .bind(tenant.0)
        .bind(column(&sales, |(_, sale, _)| sale.id.0))
        .bind(column(&sales, |(_, sale, _)| sale.location.0))
        .bind(column(&sales, |(event, ..)| signed(event.sequence)))
        .bind(column(&sales, |(event, ..)| event.at.micros()))
        .bind(column(&sales, |(_, sale, _)| sale.total.units()))
        .bind(column(&sales, |(_, sale, _)| sale.payment.as_str()))
        .bind(column(&sales, |(event, ..)| text(&event.user)))
        .bind(column(&sales, |(event, ..)| text(&event.request_id)))
        .bind(column(&sales, |(.., keyed)| keyed.map(|(key, _)| key.hash(tenant).indexed())))
        .bind(column(&sales, |(.., keyed)| keyed.map(|(key, _)| key.as_str())))
        .bind(column(&sales, |(.., keyed)| keyed.map(|(_, print)| print.0.as_slice())));
    run(connection, query).await?;
    let query = sqlx::query(LINES)
        .bind(tenant.0)
        .bind(column(&lines, |(sale, ..)| sale.id.0))
        .bind(column(&lines, |(_, number, _)| *number))
        .bind(column(&lines, |(.., line)| line.unit.0))
        .bind(column(&lines, |(.., line)| text(&line.name)))
        .bind(column(&lines, |(.., line)| text(&line.sku)))
        .bind(column(&lines, |(.., line)| line.quantity.units()))
        .bind(column(&lines, |(.., line)| line.unit_price.units()))
        .bind(column(&lines, |(.., line)| line.subtotal.units()))
        .bind(column(&lines, |(.., line)| line.has_stock));
    run(connection, query).await
}

/// Sales taken back. After the sales: one may be made and taken back in the same batch.
pub async fn write_voids(
    connection: &mut PgConnection,
    tenant: TenantId,
    events: &[&Event],
) -> Result<(), PortError> {
    let void = |event: &&'_ Event| match &event.body {
        Body::SaleVoided { sale, reason, .. } => Some((sale.0, reason.clone())),
        _ => None,
    };
    let voids: Vec<_> =
        events.iter().filter_map(|event| void(event).map(|(sale, reason)| (*event, sale, reason))).collect();
    if voids.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(VOIDS)
        .bind(tenant.0)
        .bind(column(&voids, |(_, sale, _)| *sale))
        .bind(column(&voids, |(event, ..)| signed(event.sequence)))
        .bind(column(&voids, |(event, ..)| event.at.micros()))
        .bind(column(&voids, |(.., reason)| text(reason)))
        .bind(column(&voids, |(event, ..)| text(&event.user)))
        .bind(column(&voids, |(event, ..)| text(&event.request_id)));
    run(connection, query).await
}

/// A row of the ledger for each movement, continuing the chains, and where these end. The tenant is locked, so that
/// nobody else moves its stock meanwhile.
pub async fn write_movements(
    connection: &mut PgConnection,
    tenant: TenantId,
    events: &[&Event],
) -> Result<(), PortError> {
    let moved: Vec<(&Event, Movement)> =
        events.iter().flat_map(|event| event.movements().map(|moved| (*event, moved))).collect();
    let mut places: Vec<Place> = moved.iter().map(|(_, moved)| (moved.unit, moved.location)).collect();
    if places.is_empty() {
        return Ok(());
    }
    places.sort_unstable();
    places.dedup();
    let mut chains = read_stock(connection, tenant, &places).await?;
    let mut rows: Vec<(&Event, Place, Link)> = Vec::with_capacity(moved.len());
    for (event, moved) in moved {
        let place = (moved.unit, moved.location);
        let link = chains.append(place, moved.delta).ok_or_else(|| {
            PortError::Permanent(format!("stock of {} at {} is out of bounds", place.0, place.1))
        })?;
        rows.push((event, place, link));
    }
    let sale = |event: &Event| match &event.body {
        Body::SaleCreated { sale, .. } => Some(sale.id.0),
        _ => None,
    };
    let query = sqlx::query(LEDGER)
        .bind(tenant.0)
        .bind(column(&rows, |(_, place, _)| place.0.0))
        .bind(column(&rows, |(_, place, _)| place.1.0))
        .bind(column(&rows, |(event, ..)| sale(event)))
        .bind(column(&rows, |(event, ..)| signed(event.sequence)))
        .bind(column(&rows, |(event, ..)| kind_of(event)))
        .bind(column(&rows, |(.., link)| link.delta.units()))
        .bind(column(&rows, |(.., link)| link.before.units()))
        .bind(column(&rows, |(.., link)| link.after.units()))
        .bind(column(&rows, |(event, ..)| reference_of(event)))
        .bind(column(&rows, |(event, ..)| event.at.micros()))
        .bind(column(&rows, |(event, ..)| text(&event.user)));
    run(connection, query).await?;
    let ends: Vec<(Place, Quantity)> = chains.ends().iter().map(|(place, end)| (*place, *end)).collect();
    let query = sqlx::query(STOCK)
        .bind(tenant.0)
        .bind(column(&ends, |(place, _)| place.0.0))
        .bind(column(&ends, |(place, _)| place.1.0))
        .bind(column(&ends, |(_, end)| end.units()));
    run(connection, query).await
}

/// Where the chains of these places stand.
async fn read_stock(
    connection: &mut PgConnection,
    tenant: TenantId,
    places: &[Place],
) -> Result<Chains, PortError> {
    let query = sqlx::query(STOCK_BEFORE)
        .bind(tenant.0)
        .bind(column(places, |place| place.0.0))
        .bind(column(places, |place| place.1.0));
    let mut chains = Chains::default();
    for row in query.fetch_all(connection).await.map_err(port_error)? {
        let number: i64 = row.try_get(0).map_err(port_error)?;
        let units: i64 = row.try_get(1).map_err(port_error)?;
        let place = usize::try_from(number - 1).ok().and_then(|index| places.get(index));
        let (Some(place), Some(quantity)) = (place, Quantity::from_units(units)) else {
            return Err(PortError::Permanent("the stock table holds a quantity out of bounds".into()));
        };
        chains.start_at(*place, quantity);
    }
    Ok(chains)
}

/// What the events say of ERPs; of what is said twice, the last.
pub async fn write_erp(
    connection: &mut PgConnection,
    tenant: TenantId,
    events: &[&Event],
) -> Result<(), PortError> {
    let mut facts: BTreeMap<(&str, String), String> = BTreeMap::new();
    for event in events {
        let Body::ErpFollowed(change) = &event.body else { continue };
        for entry in &change.entries {
            let value = serde_json::to_string(entry)
                .map_err(|error| PortError::Permanent(format!("a fact cannot be written: {error}")))?;
            facts.insert((&change.source, entry.key()), value);
        }
    }
    if facts.is_empty() {
        return Ok(());
    }
    let facts: Vec<_> = facts.into_iter().collect();
    let query = sqlx::query(ERP)
        .bind(tenant.0)
        .bind(column(&facts, |((source, _), _)| text(source)))
        .bind(column(&facts, |((_, key), _)| text(key)))
        .bind(column(&facts, |(_, value)| text(value)));
    run(connection, query).await
}

fn kind_of(event: &Event) -> &'static str {
    event.movement_origin().0.as_str()
}

fn reference_of(event: &Event) -> Option<Cow<'_, str>> {
    match &event.body {
        Body::SaleVoided { sale, .. } => Some(sale.to_string().into()),
        Body::StockMoved { reference, .. } => Some(text(reference)),
        Body::ErpFollowed(change) => Some(text(&change.reference)),
        _ => None,
    }
}

async fn run(
    connection: &mut PgConnection,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<(), PortError> {
    query.execute(connection).await.map(|_| ()).map_err(|error| error_of(&error))
}

/// One value of every row.
fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// The last of those with the same key: a statement cannot change a row twice.
fn newest_of_each<R, K: Hash + Eq>(rows: Vec<R>, key: impl Fn(&R) -> K) -> Vec<R> {
    let last: HashMap<K, usize> = rows.iter().enumerate().map(|(at, row)| (key(row), at)).collect();
    let is_last = |(at, row): &(usize, R)| last.get(&key(row)) == Some(at);
    rows.into_iter().enumerate().filter(is_last).map(|(_, row)| row).collect()
}

/// PostgreSQL's texts cannot hold the character NUL, and no sale is given up for one.
pub fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// A number as it is stored; events are counted from one and never get that far.
pub fn signed(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

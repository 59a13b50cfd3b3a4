//! From rows to readings. A row that makes no sense is passed over and said, never guessed at.

use super::sql::Plan;
use crate::domain::decimal::{Decimal, DecimalError, Money, Quantity};
use crate::domain::erp::{
    AccountKey, BalanceReading, Cursor, Identity, Position, ProductReading, RowId, Stamp, branch_name,
};
use crate::ports::PortError;
use crate::ports::erp::{Changes, Head, Page, Probe, Rows, Strategy, Within};
use std::collections::HashSet;
use std::sync::Arc;
use tiberius::Row;

/// Columns without which nothing can be read.
const NEEDED: &[(&str, &str)] = &[
    ("STK_SALDOS", "ID"),
    ("STK_SALDOS", "CODIGO"),
    ("STK_SALDOS", "TALLE"),
    ("STK_SALDOS", "COLOR"),
    ("STK_SALDOS", "CANTIDAD"),
    ("STK_SALDOS", "SUCURSAL"),
    ("STK_SALDOS", "FECHA_ULTIMO_MOVIMIENTO"),
    ("STK_PRODUCTOS", "CODIGO"),
    ("STK_PRODUCTOS", "DESCRIPCION"),
    ("STK_PRODUCTOS", "RUBRO"),
    ("STK_PRODUCTOS", "PRECIO"),
    ("STK_PRODUCTOS", "COSTO"),
    ("STK_PRODUCTOS", "MARCA"),
    ("STK_PRODUCTOS", "PROVEEDOR"),
    ("STK_PRODUCTOS", "ACTIVO"),
    ("STK_PRODUCTOS", "FECHA_MODIFICACION"),
];

fn unreadable(what: &str) -> PortError {
    PortError::Permanent(format!("the ERP's answer has no {what}"))
}

fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.try_get::<&str, _>(column).ok().flatten()
}

fn number(row: &Row, column: &str) -> Option<i64> {
    row.try_get::<i64, _>(column).ok().flatten()
}

/// Clock and identity.
pub fn head(rows: Option<&Vec<Row>>, by_version: bool) -> Result<Head, PortError> {
    let row = rows.and_then(|rows| rows.first()).ok_or_else(|| unreadable("clock"))?;
    let clock = text(row, "RELOJ").and_then(Stamp::parse).ok_or_else(|| unreadable("clock"))?;
    let name = text(row, "BASE").ok_or_else(|| unreadable("database name"))?;
    let created = text(row, "CREADA").unwrap_or_default();
    let version = number(row, "VERSION").filter(|_| by_version).map(i64::unsigned_abs);
    if by_version && version.is_none() {
        return Err(unreadable("rowversion"));
    }
    Ok(Head { clock, database: format!("{name} {created}").into(), version })
}

/// What a probe found, and how changes are to be found.
pub fn probe(results: &[Vec<Row>], wanted: Option<Strategy>) -> Result<(Probe, Plan), PortError> {
    let [first, server, columns, rights] = results else { return Err(unreadable("four results")) };
    let head = head(Some(first), false)?;
    let server = server.first().ok_or_else(|| unreadable("version"))?;
    let mut known: HashSet<(String, String)> = HashSet::new();
    let rowversion = |table: &str| {
        let is_one = |row: &&Row| text(row, "TABLA") == Some(table) && text(row, "TIPO") == Some("timestamp");
        columns.iter().find(is_one).and_then(|row| text(row, "COLUMNA")).map(str::to_owned)
    };
    let found = (rowversion("STK_SALDOS"), rowversion("STK_PRODUCTOS"));
    for row in columns {
        let name = |column| text(row, column).unwrap_or_default().to_uppercase();
        known.insert((name("TABLA"), name("COLUMNA")));
    }
    let (mut missing, mut warnings) = (Vec::new(), Vec::new());
    for row in rights {
        let table = text(row, "TABLA").unwrap_or_default();
        if number(row, "LEE") != Some(1) {
            missing.push(format!("the right to read: GRANT SELECT ON dbo.{table} TO the login"));
        }
        if number(row, "ESCRIBE") == Some(1) {
            warnings.push(format!("the login may change dbo.{table}; it needs to read only"));
        }
    }
    // Without the right to read a table its columns are not shown either.
    if missing.is_empty() {
        let absent = NEEDED
            .iter()
            .filter(|(table, column)| !known.contains(&((*table).to_owned(), (*column).to_owned())));
        missing.extend(absent.map(|(table, column)| format!("column {table}.{column}")));
    }
    let best = if found.0.is_some() { Strategy::Rowversion } else { Strategy::Datetime };
    let strategy = wanted.unwrap_or(best);
    if strategy == Strategy::Rowversion && found.0.is_none() {
        missing.push("a rowversion column in STK_SALDOS, or strategy = \"datetime\"".to_owned());
    }
    let (balances, products) = if strategy == Strategy::Rowversion { found } else { (None, None) };
    let probe = Probe {
        head,
        product: text(server, "PRODUCTO").unwrap_or("unknown").to_owned(),
        level: number(server, "NIVEL").unwrap_or(0),
        snapshot: number(server, "SNAPSHOT") == Some(1),
        read_committed_snapshot: number(server, "RCSI") == Some(1),
        strategy,
        missing,
        warnings,
    };
    Ok((probe, Plan { strategy, balances, products }))
}

/// What a poll found.
pub fn changes(
    results: &[Vec<Row>],
    plan: &Plan,
    cursor: &Cursor,
    before: &Within,
    page: usize,
) -> Result<Changes, PortError> {
    let (Some(balances), Some(products)) = (results.get(1), results.get(2)) else {
        return Err(unreadable("balances and products"));
    };
    let head = head(results.first(), plan.by_version())?;
    let mut rows = Rows::default();
    let fresh = balances.iter().filter_map(|row| number(row, "ID")).collect();
    balances.iter().chain(results.get(3).into_iter().flatten()).for_each(|row| rows.take_balance(row));
    products.iter().for_each(|row| rows.take_product(row));
    let begun = before.begun.clone().unwrap_or_else(|| head.clock.clone());
    let mut within = Within { begun: Some(begun.clone()), ..Within::default() };
    let (mut more, mut next) = (false, cursor.clone());
    next.balances = match &plan.balances {
        Some(_) => {
            more |= balances.len() >= page;
            by_version(&cursor.balances, balances, "VERSION", page, head.version)
        }
        None => {
            let last = balances
                .last()
                .and_then(|row| Some((text(row, "FECHA").and_then(Stamp::parse)?, number(row, "ID")?)));
            if balances.len() >= page {
                more = true;
                within.balance.clone_from(&last);
            }
            cursor.balances.advanced(last.as_ref().map(|(stamp, _)| stamp), &head.clock)
        }
    };
    next.products = match &plan.products {
        Some(_) => {
            more |= products.len() >= page;
            by_version(&cursor.products, products, "P_VERSION", page, head.version)
        }
        None => {
            let last = products.last().and_then(|row| {
                Some((text(row, "P_FECHA").and_then(Stamp::parse)?, Arc::from(text(row, "P_CODIGO")?)))
            });
            if products.len() >= page {
                more = true;
                within.product.clone_from(&last);
            }
            cursor.products.advanced(last.as_ref().map(|(stamp, _): &(Stamp, Arc<str>)| stamp), &head.clock)
        }
    };
    // The one that is done goes on from where it is, instead of from its overlap again.
    if more {
        let end = |stamp: &Option<Stamp>| stamp.clone().unwrap_or_else(|| head.clock.clone());
        within.balance.get_or_insert_with(|| (end(&next.balances.stamp), i64::MAX));
        within.product.get_or_insert_with(|| (end(&next.products.stamp), "\u{10FFFF}".into()));
    } else {
        for (position, version) in
            [(&mut next.balances, &plan.balances), (&mut next.products, &plan.products)]
        {
            if version.is_none() {
                *position = position.at_clock(&begun);
            }
        }
    }
    Ok(Changes { head, rows, cursor: next, more: more.then_some(within), fresh })
}

/// Up to the last row when there may be more, else up to everything that is committed.
fn by_version(before: &Position, rows: &[Row], column: &str, page: usize, active: Option<u64>) -> Position {
    let last = rows.last().and_then(|row| number(row, column)).map(i64::unsigned_abs);
    let all = active.map(|version| version.saturating_sub(1));
    match (rows.len() >= page, last, all) {
        (true, Some(last), _) => before.at_version(last),
        (_, _, Some(all)) => before.at_version(all),
        _ => before.clone(),
    }
}

/// A page of everything.
pub fn page(rows: Option<&Vec<Row>>, most: usize) -> Page {
    let rows = rows.map_or(&[][..], Vec::as_slice);
    let mut read = Rows::default();
    rows.iter().for_each(|row| read.take_balance(row));
    let ids: Vec<i64> = rows.iter().filter_map(|row| number(row, "ID")).collect();
    let next = if rows.len() >= most { ids.last().copied() } else { None };
    Page { rows: read, ids, next }
}

trait Take {
    fn take_balance(&mut self, row: &Row);
    fn take_product(&mut self, row: &Row);
}

impl Take for Rows {
    fn take_balance(&mut self, row: &Row) {
        self.read += 1;
        if text(row, "P_CODIGO").is_some() {
            self.take_product(row);
        }
        match balance(row) {
            Ok(reading) => self.balances.push(reading),
            Err(why) => {
                let id = number(row, "ID").map_or("?".to_owned(), |id| id.to_string());
                self.rejected.push(format!("STK_SALDOS {id}: {why}"));
            }
        }
    }

    fn take_product(&mut self, row: &Row) {
        match product(row) {
            Ok(reading) => {
                // Variants stand side by side and bring the same product each.
                if self.products.last() != Some(&reading) {
                    self.products.push(reading);
                }
            }
            Err(why) => {
                let code = text(row, "P_CODIGO").unwrap_or("?");
                self.rejected.push(format!("STK_PRODUCTOS {code}: {why}"));
            }
        }
    }
}

fn balance(row: &Row) -> Result<BalanceReading, String> {
    let id = number(row, "ID").ok_or("it has no ID")?;
    let code = text(row, "CODIGO").ok_or("it has no CODIGO")?;
    let item =
        Identity::new(code, text(row, "TALLE"), text(row, "COLOR")).map_err(|error| error.to_string())?;
    let branch = branch_name(text(row, "SUCURSAL").unwrap_or_default()).map_err(|error| error.to_string())?;
    let amount = text(row, "CANTIDAD").ok_or("it has no CANTIDAD")?;
    let quantity = Quantity::parse(amount).map_err(|error| format!("CANTIDAD {amount} {error}"))?;
    let stamp = text(row, "FECHA").and_then(Stamp::parse);
    Ok(BalanceReading { row: RowId::Numbered(id), key: AccountKey { item, branch }, quantity, stamp })
}

fn product(row: &Row) -> Result<ProductReading, String> {
    let code = text(row, "P_CODIGO").ok_or("it has no CODIGO")?;
    let code = Identity::new(code, None, None).map_err(|error| error.to_string())?.code;
    let name = text(row, "DESCRIPCION").unwrap_or_default().trim();
    if name.is_empty() {
        return Err("it has no DESCRIPCION".to_owned());
    }
    let price = text(row, "PRECIO").ok_or("it has no PRECIO")?;
    let price = money(price).map_err(|error| format!("PRECIO {price} {error}"))?;
    if price < Money::ZERO {
        return Err(format!("PRECIO {price} is below zero"));
    }
    let optional = |column| {
        let text = text(row, column).map(str::trim).filter(|text| !text.is_empty());
        text.map(Arc::from)
    };
    Ok(ProductReading {
        code,
        name: name.into(),
        price,
        cost: text(row, "COSTO").and_then(|cost| money(cost).ok()),
        category: optional("RUBRO"),
        brand: optional("MARCA"),
        supplier: optional("PROVEEDOR"),
        active: row.try_get::<bool, _>("ACTIVO").ok().flatten().unwrap_or(true),
        stamp: text(row, "P_FECHA").and_then(Stamp::parse),
    })
}

/// `money` has four places and ours two: what is behind them is rounded half away from zero, as a receipt would.
fn money(text: &str) -> Result<Money, DecimalError> {
    let exact = Decimal::<4>::parse(text)?.units();
    let half = if exact < 0 { -50 } else { 50 };
    Money::from_units((exact + half) / 100).ok_or(DecimalError::OutOfRange)
}

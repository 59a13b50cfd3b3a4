//! `blend import`: a catalogue file, checked whole before anything is changed.

use super::access::Access;
use super::basket_csv::Baskets;
use super::catalogue_csv::{self, BadRow, CatalogueRow};
use super::table;
use crate::config::Config;
use crate::domain::catalogue::UnitKind;
use crate::domain::decimal::Quantity;
use crate::domain::ids::TenantId;
use crate::domain::import::{Import, ImportedLocation, ImportedUnit};
use crate::domain::tenant::LocationKind;
use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Bad rows printed before the rest is only counted.
const SHOWN: usize = 20;

/// Arguments of `blend import`.
#[derive(Args)]
pub struct ImportArgs {
    /// CSV, plain or gzipped, with a header: sku,nombre,categoria,marca,precio and, if there are any,
    /// codigo_barras,tipo,stock,base_sku,talle,color. Other columns are ignored.
    file: PathBuf,
    /// Tenant whose catalogue it is.
    #[arg(long, value_name = "ID")]
    tenant: TenantId,
    /// Opening stock of every product without one of its own in the file. Only products that never had stock get it.
    #[arg(long, value_name = "QUANTITY", value_parser = parse_quantity)]
    stock: Option<Quantity>,
    /// Leave rows that break a rule out instead of refusing the file.
    #[arg(long)]
    skip_bad: bool,
    /// A basket file (basket,store,at,sku,quantity): opens a location for each store in it, with the opening stock
    /// of what that store sells.
    #[arg(long, value_name = "BASKETS", requires = "stock")]
    stores: Option<PathBuf>,
}

fn parse_quantity(text: &str) -> Result<Quantity, String> {
    match Quantity::parse(text) {
        Ok(quantity) if quantity >= Quantity::ZERO => Ok(quantity),
        Ok(_) => Err("must not be negative".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads, checks, then changes everything at once.
pub async fn run(args: &ImportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}")?);
    let read = read_catalogue(&args.file, &bar)?;
    for column in &read.ignored_columns {
        eprintln!("column {column} is not known and was ignored");
    }
    if read.unnamed > 0 {
        eprintln!("{} rows have no nombre: their SKU is used", read.unnamed);
    }
    report_bad(&read.bad);
    if !read.bad.is_empty() && !args.skip_bad {
        bail!(
            "{} of {} rows cannot be used; nothing was imported (--skip-bad leaves them out)",
            read.bad.len(),
            read.rows.len() + read.bad.len()
        );
    }
    let skus: HashSet<&str> = read.rows.iter().map(|row| row.sku.as_str()).collect();
    let locations = match (&args.stores, args.stock) {
        (Some(file), Some(stock)) => read_stores(file, &skus, stock, &bar)?,
        _ => Vec::new(),
    };
    // With stores, the stock is theirs; the default location only gets what the file itself says.
    let default_stock = if args.stores.is_some() { None } else { args.stock };
    let reference = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let units = read.rows.into_iter().map(|row| unit(row, default_stock)).collect::<Result<_, _>>()?;
    let import = Import { reference: reference.into(), units, locations };
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}")?);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.set_message("recording");
    let access = Access::open(config, "import").await?;
    let counts = access.import(args.tenant, import).await;
    bar.set_message("writing the ledger");
    access.close(config).await?;
    bar.finish_and_clear();
    let counts = counts?;
    println!(
        "{} products created, {} updated, {} unchanged, {} locations opened, {} opening balances, {} rows skipped",
        counts.created,
        counts.updated,
        counts.unchanged,
        counts.locations,
        counts.stocked,
        read.bad.len()
    );
    Ok(ExitCode::SUCCESS)
}

fn report_bad(bad: &[BadRow]) {
    for row in bad.iter().take(SHOWN) {
        eprintln!("line {}: {} {}", row.line, row.field, row.reason);
    }
    if bad.len() > SHOWN {
        eprintln!("... and {} more", bad.len() - SHOWN);
    }
}

fn read_catalogue(file: &Path, bar: &ProgressBar) -> anyhow::Result<catalogue_csv::Catalogue> {
    bar.set_message("reading the catalogue");
    catalogue_csv::read(open(file, bar)?).with_context(|| file.display().to_string())
}

/// Opens a file so that the bar shows how much of it is read.
fn open(file: &Path, bar: &ProgressBar) -> anyhow::Result<Box<dyn Read + Send>> {
    let named = || format!("{} cannot be read", file.display());
    let opened = std::fs::File::open(file).with_context(named)?;
    bar.set_length(opened.metadata().with_context(named)?.len());
    bar.set_position(0);
    table::unpacked(bar.wrap_read(opened)).with_context(named)
}

/// The stores of a basket file and what each of them sells.
fn read_stores(
    file: &Path,
    skus: &HashSet<&str>,
    stock: Quantity,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<ImportedLocation>> {
    bar.set_message("reading the stores");
    let mut sold: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for basket in Baskets::new(open(file, bar)?).with_context(|| file.display().to_string())? {
        // A row that cannot be read is told when the baskets are replayed; here it names no store.
        let Ok(basket) = basket else { continue };
        let store = sold.entry(basket.store).or_default();
        store.extend(basket.lines.into_iter().map(|(sku, _)| sku).filter(|sku| skus.contains(sku.as_str())));
    }
    let location = |(code, skus): (String, BTreeSet<String>)| ImportedLocation {
        name: format!("Sucursal {code}").into(),
        code: code.into(),
        kind: LocationKind::Store,
        stock: skus.into_iter().map(|sku| (Arc::from(sku), stock)).collect(),
    };
    Ok(sold.into_iter().map(location).collect())
}

/// A row as the engine takes it.
pub fn unit(row: CatalogueRow, default_stock: Option<Quantity>) -> anyhow::Result<ImportedUnit> {
    let text = |text: Option<String>| text.map(Arc::from);
    let kind = UnitKind::parse(&row.tipo)
        .with_context(|| format!("line {}: tipo {} is unknown", row.line, row.tipo))?;
    Ok(ImportedUnit {
        sku: row.sku.into(),
        name: row.nombre.into(),
        base_sku: text(row.base_sku),
        barcode: text(row.codigo_barras),
        kind,
        price: row.precio,
        active: true,
        size: text(row.talle),
        color: text(row.color),
        category: text(row.categoria),
        brand: text(row.marca),
        stock: row.stock.or(default_stock),
    })
}

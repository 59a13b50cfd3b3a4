//! `blend demo`: a shop to look at, with customers.

pub mod catalogue;
pub mod traffic;

mod erp;
mod markets;
mod shop;

use super::serve::{announce, stop_signal};
use crate::app::data_dir::DataDir;
use crate::app::{Serving, legacy, serve};
use crate::config::Config;
use crate::domain::ids::TenantId;
use crate::http::{Claims, Role};
use crate::ports::clock::{Clock as _, SystemClock};
use crate::telemetry;
use anyhow::Context as _;
use catalogue::STORE;
use clap::Args;
use erp::OldErp;
use markets::Markets;
use shop::Shop;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use uuid::Uuid;

/// How long the printed token is good for.
const TOKEN_SECONDS: i64 = 7 * 86_400;

/// Arguments of `blend demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// Address and port; otherwise the one in the settings, or a free one when that is taken.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// No customers: an open shop that waits for you.
    #[arg(long)]
    quiet: bool,
}

/// Opens the shop and serves it until SIGTERM or SIGINT. Without `--data-dir` everything is gone afterwards.
pub async fn run(args: DemoArgs, mut config: Config) -> anyhow::Result<ExitCode> {
    let defaults = Config::load(None)?;
    let temporary = (config.data_dir == defaults.data_dir).then(temporary_dir);
    if let Some(temporary) = &temporary {
        config.data_dir.clone_from(temporary);
    }
    config.server.live_page_shows_sales = true;
    config.server.listen = args.listen.unwrap_or_else(|| free_or(&config.server.listen));
    let data_dir = DataDir::claim_alone(&config.data_dir, "demo")?;
    let prometheus = telemetry::init_metrics().context("metrics")?;
    // Of an earlier demonstration, or the one that is about to open.
    let tenant = legacy::oldest_tenant(&config).await?.unwrap_or_else(|| TenantId(Uuid::now_v7()));
    let old_erp = OldErp::start(&mut config, tenant, STORE.codigo).await?;
    let markets = Markets::start(&mut config).await?;
    let kept = temporary.is_none().then(|| config.data_dir.clone());
    let up = move |serving: Serving| async move {
        let opened = async {
            let shop = Shop::open(&serving.shards, tenant).await?;
            markets.connect(&serving, &shop).await?;
            welcome(&serving, &shop, kept)?;
            if args.quiet {
                // Kept running: it is followed all the same.
                std::future::pending::<()>().await;
            }
            tokio::select! {
                traded = shop.trade(&serving) => traded,
                traded = markets.trade(&serving, &shop) => traded,
                () = old_erp.trade() => Ok(()),
            }
        };
        // Whoever looks at the demo must see why it stands still.
        let result: anyhow::Result<()> = opened.await;
        if let Err(error) = &result {
            tracing::error!("the demonstration shop closed: {error:#}");
        }
        result
    };
    let served = serve(&config, data_dir, Arc::new(SystemClock), prometheus, stop_signal()?, up).await;
    if let Some(temporary) = temporary {
        std::fs::remove_dir_all(&temporary).with_context(|| temporary.display().to_string())?;
    }
    served.map(|()| ExitCode::SUCCESS)
}

fn temporary_dir() -> PathBuf {
    std::env::temp_dir().join(format!("blend-demo-{}", std::process::id()))
}

/// The address, or a free port on it when it is taken.
fn free_or(listen: &str) -> String {
    match (TcpListener::bind(listen), listen.rsplit_once(':')) {
        (Err(error), Some((host, _))) if error.kind() == std::io::ErrorKind::AddrInUse => format!("{host}:0"),
        _ => listen.to_owned(),
    }
}

/// What to do now, in lines that can be pasted.
fn welcome(serving: &Serving, shop: &Shop, kept: Option<PathBuf>) -> anyhow::Result<()> {
    announce(serving)?;
    let now = SystemClock.now().seconds();
    let claims = Claims {
        sub: "demo".into(),
        iat: now,
        exp: now + TOKEN_SECONDS,
        tienda_id: Some(shop.tenant),
        rol: Role::Owner,
    };
    let token = serving.authenticator.mint(&claims).context("token")?;
    let url = format!("http://{}", serving.address);
    let (code, id) = (&shop.example.sku, shop.example.id);
    let place = kept.map_or_else(
        || "Everything is in a temporary directory and gone when you press Ctrl-C.".to_owned(),
        |dir| format!("Everything is kept in {}.", dir.display()),
    );
    println!(
        "
{name} is open. Look at it: {url}/
{place}

Try it from another terminal:

  export TOKEN={token}

  # scan a product
  curl -s {url}/api/v1/productos/scan/{code} -H \"Authorization: Bearer $TOKEN\"

  # sell two; the same key again gives the same answer and sells nothing
  curl -si {url}/api/v1/ventas/checkout -H \"Authorization: Bearer $TOKEN\" \\
    -H 'Content-Type: application/json' -H 'Idempotency-Key: mi-venta-1' \\
    -d '{{\"items\":[{{\"producto_id\":\"{id}\",\"cantidad\":2}}],\"metodo_pago\":\"efectivo\"}}'

  # what is left, and where
  curl -s {url}/api/v1/stock/{id} -H \"Authorization: Bearer $TOKEN\"

  # the shop's old ERP, where goods are sold too: a change there is stock here within seconds
  curl -s {url}/api/v1/sync/legacy -H \"Authorization: Bearer $TOKEN\"

  # its marketplaces: what is sold here is gone there, what is ordered there is sold here
  curl -s {url}/api/v1/integraciones -H \"Authorization: Bearer $TOKEN\"

  # the actors at work
  curl -s {url}/ops/actors
",
        name = shop.name,
    );
    Ok(())
}

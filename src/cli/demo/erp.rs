//! The shop's old ERP: a stand-in for its SQL Server, with the goods of another era and a cashier who sells them there.

use crate::config::{Config, LegacyEncryption, LegacySource};
use crate::domain::ids::TenantId;
use crate::erp::simulator::{Login, Shop, SqlServerStandIn};
use crate::ports::clock::SystemClock;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// From one sale over there to the next.
const BETWEEN_SALES: Duration = Duration::from_secs(3);

/// A balance with less than this gets goods.
const LOW: i64 = 2;

/// What comes in at once.
const DELIVERY: i64 = 12;

/// The name under which it is followed.
pub const NAME: &str = "lince";

/// An ERP that runs while this is kept.
pub struct OldErp {
    shop: Shop,
    _server: SqlServerStandIn,
}

impl OldErp {
    /// Starts it on a free port, and has the shop follow it; its one branch is the shop's `location`.
    pub async fn start(config: &mut Config, tenant: TenantId, location: &str) -> anyhow::Result<Self> {
        let shop = Shop::demo(Arc::new(SystemClock));
        // Nobody else is to come in, and nobody needs to know the password.
        let login = Login { user: "blend".to_owned(), password: Uuid::now_v7().to_string() };
        let server = SqlServerStandIn::start("127.0.0.1:0", login.clone(), shop.handler())
            .await
            .context("the demonstration's old ERP")?;
        let source = LegacySource {
            tenant: tenant.to_string(),
            host: server.address().ip().to_string(),
            port: server.address().port(),
            user: login.user,
            password: login.password.into(),
            encryption: LegacyEncryption::Off,
            branches: BTreeMap::from([("PRINCIPAL".to_owned(), location.to_owned())]),
            ..LegacySource::default()
        };
        config.legacy.sources.insert(NAME.to_owned(), source);
        Ok(Self { shop, _server: server })
    }

    /// Sells over there, one balance after the other, and fills what runs out, until the process stops.
    pub async fn trade(&self) {
        let mut tick = tokio::time::interval(BETWEEN_SALES);
        loop {
            for (id, _) in self.shop.balances() {
                tick.tick().await;
                let left = self.shop.balance(id).map_or(0, |balance| balance.quantity / 100);
                self.shop.add(id, if left < LOW { DELIVERY } else { -1 });
            }
        }
    }
}

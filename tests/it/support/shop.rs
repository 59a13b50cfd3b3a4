//! A shop that is open: an installation with one tenant, fifty products and a till.

use super::api::{Api, Reply};
use super::eventually;
use super::ledger::{Books, assert_verified};
use super::process::{Blend, Server};
use blend::http::Role;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use uuid::Uuid;

/// A product sold by the piece.
pub const PLAIN: &str = "P01";
/// Another one.
pub const OTHER: &str = "P02";
/// Sold by weight, at 999.99 a kilogram.
pub const WEIGHED: &str = "P41";
/// A service: it has no stock.
pub const SERVICE: &str = "P46";
/// Products in the catalogue.
pub const PRODUCTS: usize = 50;
/// What there is of each, unless a test says otherwise.
pub const OPENING: u32 = 1_000;

/// A catalogue: forty plain products, five by weight, three services, one of food, one drink.
pub fn catalogue(stock: u32) -> String {
    let mut csv = "sku,nombre,categoria,marca,precio,codigo_barras,tipo,stock\n".to_owned();
    for number in 1..=PRODUCTS {
        let kind = match number {
            41..=45 => "pesable",
            46..=48 => "servicio",
            49 => "alimento",
            50 => "bebida",
            _ => "general",
        };
        let price = if number == 41 { "999.99".to_owned() } else { format!("{}.{number:02}", 100 * number) };
        let stock = if kind == "servicio" { String::new() } else { stock.to_string() };
        let category = if number % 2 == 0 { "Bebidas" } else { "Almacén" };
        writeln!(
            csv,
            "P{number:02},\"Producto {number}, grande\",{category},Marca {},{price},{},{kind},{stock}",
            number % 7,
            7_790_000_000_000_u64 + number as u64,
        )
        .unwrap();
    }
    csv
}

/// Baskets of a till: each of one to three lines, at two stores, a minute apart.
pub fn baskets(count: usize) -> String {
    let mut csv = "basket,store,at,sku,quantity\n".to_owned();
    for number in 0..count {
        let (hour, minute) = (9 + number / 60 % 12, number % 60);
        for line in 0..=number % 3 {
            let sku = 1 + (number * 7 + line * 11) % 45;
            let quantity = if sku > 40 { "0.250" } else { "1" };
            let store = if number % 2 == 0 { "100" } else { "200" };
            writeln!(csv, "t-{number},{store},2026-01-31T{hour:02}:{minute:02}:00Z,P{sku:02},{quantity}")
                .unwrap();
        }
    }
    csv
}

/// An open shop.
pub struct Shop {
    // Before the installation, so that its log can still be shown when a test fails.
    pub server: Server,
    pub blend: Blend,
    pub tenant: Uuid,
    /// The cashier's till.
    pub till: Api,
    units: HashMap<String, Uuid>,
    settings: Vec<(String, String)>,
}

impl Shop {
    pub async fn open() -> Self {
        Self::open_with(&catalogue(OPENING), &[]).await
    }

    pub async fn open_with(catalogue: &str, settings: &[(&str, &str)]) -> Self {
        Self::open_on(Blend::new(), catalogue, settings).await
    }

    pub async fn open_on(blend: Blend, catalogue: &str, settings: &[(&str, &str)]) -> Self {
        let server = blend.serve_with(settings).await;
        let tenant = blend.tenant("Almacén Sur").await;
        blend.import(tenant, catalogue, &[]).await.done();
        let till = Api::new(&server.url(), &blend.token(tenant, Role::Cajero));
        let units = units(&till).await;
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { blend, server, tenant, till, units, settings: settings.iter().map(owned).collect() }
    }

    pub fn unit(&self, sku: &str) -> Uuid {
        *self.units.get(sku).unwrap_or_else(|| panic!("{sku} is not in the catalogue"))
    }

    /// Somebody of this shop, or of none.
    pub fn caller(&self, role: Role) -> Api {
        Api::new(&self.server.url(), &self.blend.token(self.tenant, role))
    }

    /// The body of a checkout, the quantities as they are to be written.
    pub fn basket(&self, lines: &[(&str, &str)]) -> String {
        self.basket_with(lines, "")
    }

    /// With more fields, each with a comma before it.
    pub fn basket_with(&self, lines: &[(&str, &str)], more: &str) -> String {
        let line = |(sku, quantity): &(&str, &str)| {
            format!(r#"{{"producto_id":"{}","cantidad":{quantity}}}"#, self.unit(sku))
        };
        let lines: Vec<_> = lines.iter().map(line).collect();
        format!(r#"{{"items":[{}],"metodo_pago":"efectivo"{more}}}"#, lines.join(","))
    }

    /// Sells without a key.
    pub async fn sell(&self, lines: &[(&str, &str)]) -> Reply {
        self.till.checkout(self.basket(lines), None).await
    }

    /// What is available of a product in all, as it is on the wire.
    pub async fn stock(&self, sku: &str) -> String {
        self.till.get(&format!("/api/v1/stock/{}", self.unit(sku))).await.raw("disponible")
    }

    /// Another shop at the same server.
    pub async fn neighbour(&self) -> Neighbour {
        let tenant = self.blend.tenant("Almacén Norte").await;
        self.blend.import(tenant, catalogue(OPENING), &[]).await.done();
        let till = Api::new(&self.server.url(), &self.blend.token(tenant, Role::Cajero));
        let units = units(&till).await;
        Neighbour { tenant, till, units }
    }

    /// Starts the server again, in the place of one that is gone.
    pub async fn start_again(&mut self) {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.server = self.blend.serve_with(&settings).await;
        self.till = self.caller(Role::Cajero);
    }

    /// Ends the server in order and starts it again.
    pub async fn restart(&mut self) {
        self.server.signal("TERM");
        assert!(self.server.ended().await.success());
        self.start_again().await;
    }

    /// Kills the server and starts it again.
    pub async fn crash(&mut self) {
        self.server.signal("KILL");
        self.server.ended().await;
        self.start_again().await;
    }

    /// Waits until the ledger has everything.
    pub async fn settled(&self) {
        let stranger = Api::anonymous(&self.server.url());
        eventually("the ledger catches up", async || {
            let ready = stranger.get("/ready").await;
            (ready.json["checks"]["ledger_lag"]["events"] == 0).then_some(())
        })
        .await;
    }

    /// The books, checked, of a server that goes on.
    pub async fn books(&self) -> Books {
        self.settled().await;
        assert_verified(&self.blend).await
    }

    /// Closes in order; the books must be right.
    pub async fn close(self) -> Books {
        let status = self.server.sigterm().await;
        assert!(status.success(), "{status}");
        assert_verified(&self.blend).await
    }
}

/// Another tenant's till, and what it sells.
pub struct Neighbour {
    pub tenant: Uuid,
    pub till: Api,
    units: HashMap<String, Uuid>,
}

impl Neighbour {
    pub fn unit(&self, sku: &str) -> Uuid {
        self.units[sku]
    }
}

async fn units(till: &Api) -> HashMap<String, Uuid> {
    let page = till.get("/api/v1/productos?limit=500").await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let variants =
        page.json.as_array().unwrap().iter().flat_map(|product| product["variants"].as_array().unwrap());
    variants.map(|unit| (text(&unit["sku"]), text(&unit["variant_id"]).parse().unwrap())).collect()
}

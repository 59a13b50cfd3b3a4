//! Living beside an old ERP: the built binary, its HTTP and its files, with a stand-in for the shop's SQL Server.

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::ledger::assert_verified;
use crate::support::process::Blend;
use blend::erp::simulator::{Fault, Login, Shop, SqlServerStandIn};
use blend::http::Role;
use blend::ports::clock::SystemClock;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

const SOURCE: &str = "BLEND_LEGACY__SOURCES__LINCE__";

pub async fn stand_in(erp: &Shop) -> SqlServerStandIn {
    let login = Login { user: "blend".to_owned(), password: "secreto".to_owned() };
    SqlServerStandIn::start("127.0.0.1:0", login, erp.handler()).await.unwrap()
}

pub fn demo() -> Shop {
    Shop::demo(Arc::new(SystemClock))
}

/// An installation that follows the stand-in.
async fn following(server: &SqlServerStandIn) -> (Blend, Uuid) {
    let mut blend = Blend::new();
    let tenant = blend.tenant("Sur").await;
    follow(&mut blend, tenant, server);
    (blend, tenant)
}

/// Has an installation follow the stand-in, ten times a second.
pub fn follow(blend: &mut Blend, tenant: Uuid, server: &SqlServerStandIn) {
    let port = server.address().port().to_string();
    let tenant = tenant.to_string();
    let settings = [
        ("TENANT", tenant.as_str()),
        ("HOST", "127.0.0.1"),
        ("PORT", &port),
        ("USER", "blend"),
        ("PASSWORD", "secreto"),
        ("ENCRYPTION", "off"),
        ("INTERVAL_MS", "100"),
        ("IDLE_INTERVAL_MS", "100"),
    ];
    for (name, value) in settings {
        blend.set(&format!("{SOURCE}{name}"), value);
    }
}

pub async fn loaded(api: &Api) -> Value {
    eventually("the ERP is loaded", async || {
        let status = api.get("/api/v1/sync/legacy").await.json;
        let source = status["fuentes"].get(0)?.clone();
        (source["estado"] == "al_dia").then_some(source)
    })
    .await
}

async fn available(api: &Api, sku: &str) -> Value {
    api.get(&format!("/api/v1/productos/scan/{sku}")).await.json["stock_actual"].clone()
}

pub async fn becomes(api: &Api, sku: &str, count: i64) {
    eventually(&format!("{sku} becomes {count}"), async || {
        (available(api, sku).await.as_i64() == Some(count)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn both_sell_the_same_goods_through_every_kind_of_end() {
    let erp = demo();
    let server = stand_in(&erp).await;
    let (blend, tenant) = following(&server).await;
    let mut node = blend.serve().await;
    let mut api = Api::new(&node.url(), &blend.token(tenant, Role::Owner));
    let source = loaded(&api).await;
    assert_eq!((&source["fuente"], &source["saldos"]), (&json!("lince"), &json!(21)), "{source}");
    assert_eq!(source["sondeo"]["estrategia"], "datetime");
    let scanned = api.get("/api/v1/productos/scan/REM-001-NEGRO-M").await.json;
    let unit = scanned["id"].as_str().unwrap().to_owned();
    let sell = |count: i64| {
        json!({ "items": [{ "producto_id": unit, "cantidad": count }], "metodo_pago": "efectivo" })
            .to_string()
    };
    // L13 over the wire, through an orderly end and a kill.
    let mut left = 15;
    for kill in [false, true] {
        assert_eq!(api.checkout(sell(1), None).await.status, 201);
        erp.simulate_sale("REM-001", "M", "NEGRO", 2);
        left -= 3;
        becomes(&api, "REM-001-NEGRO-M", left).await;
        erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        left -= 1;
        if kill {
            node.sigkill();
        } else {
            assert!(node.sigterm().await.success());
        }
        node = blend.serve().await;
        api = Api::new(&node.url(), &blend.token(tenant, Role::Owner));
        becomes(&api, "REM-001-NEGRO-M", left).await;
    }
    let source = loaded(&api).await;
    assert_eq!(source["sondeo"]["lecturas_completas"], 0, "what was loaded is not loaded again: {source}");
    // The ERP is away for a while and says so.
    erp.fail(Fault::Error(229, "The SELECT permission was denied."));
    let failing = eventually("the status says why", async || {
        let status = api.get("/api/v1/sync/legacy").await.json;
        status["fuentes"][0]["sondeo"]["ultimo_error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(failing.contains("GRANT SELECT ON dbo.STK_SALDOS TO [blend]"), "{failing}");
    let run = api.post("/api/v1/sync/legacy/run", "").await;
    assert_eq!((run.status, &run.json["fuentes"][0]["estado"]), (200, &json!("al_dia")), "{}", run.json);
    assert_eq!(api.post("/api/v1/sync/legacy/run", r#"{"source":"otra"}"#).await.status, 404);
    let mut theirs = message("REM-001", 1, "2026-11-27T10:00:00");
    theirs["source"] = json!("lince");
    assert_eq!(api.post("/api/v1/sync/legacy", theirs.to_string()).await.wrong_field(), "source");
    assert!(node.sigterm().await.success());
    assert_verified(&blend).await;
}

#[tokio::test]
async fn what_is_held_is_listed_and_decided() {
    let erp = demo();
    let server = stand_in(&erp).await;
    let (mut blend, tenant) = following(&server).await;
    blend.set("BLEND_LEGACY__MAX_JUMP", "50");
    let node = blend.serve().await;
    let api = Api::new(&node.url(), &blend.token(tenant, Role::Owner));
    loaded(&api).await;
    erp.add(1, 1_000);
    erp.add(2, 1_000);
    let held = eventually("both are held", async || {
        let held = api.get("/api/v1/sync/legacy/retenidos").await.json["retenidos"].clone();
        (held.as_array()?.len() == 2).then_some(held)
    })
    .await;
    assert_eq!((&held[0]["motivo"], &held[0]["pendiente"]), (&json!("salto"), &json!(1_000)), "{held}");
    let decide = async |action: &str, row: &Value| {
        let item = json!({ "codigo": row["codigo"], "talle": row["talle"], "color": row["color"], "sucursal": row["sucursal"] });
        let body = json!({ "source": "lince", "accion": action, "items": [item] });
        api.post("/api/v1/sync/legacy/retenidos", body.to_string()).await
    };
    let applied = decide("aplicar", &held[0]).await;
    assert_eq!((applied.status, &applied.json["aplicados"]), (200, &json!(1)), "{}", applied.json);
    assert_eq!(decide("descartar", &held[1]).await.status, 200);
    let again = decide("aplicar", &held[0]).await;
    assert_eq!(again.outcome(), (422, "validacion"));
    assert_eq!(decide("quemar", &held[0]).await.wrong_field(), "accion");
    assert_eq!(api.get("/api/v1/sync/legacy/retenidos").await.json["retenidos"], json!([]));
    // The first in order is M.
    let stock = [available(&api, "REM-001-NEGRO-M").await, available(&api, "REM-001-NEGRO-S").await];
    assert!(stock.iter().any(|count| count.as_i64() > Some(1_000)), "{stock:?}");
    assert!(stock.iter().any(|count| count.as_i64() < Some(20)), "{stock:?}");
    assert!(node.sigterm().await.success());
    assert_verified(&blend).await;
}

fn message(code: &str, count: i64, at: &str) -> Value {
    json!({
        "sku_legacy": code, "descripcion": "REMERA BASICA", "talle": "M", "color": "Negro", "stock_real": count,
        "ubicacion": "CENTRO", "precio": 15000.5, "costo": "9000", "fecha_movimiento": at,
    })
}

#[tokio::test]
async fn agents_may_push_one_or_many_and_again() {
    let blend = Blend::new();
    let tenant = blend.tenant("Sur").await;
    let node = blend.serve().await;
    let api = Api::new(&node.url(), &blend.token(tenant, Role::Encargado));
    let push = async |body: Value| api.post("/api/v1/sync/legacy", body.to_string()).await;
    let first = push(message("REM-001", 10, "2026-11-27T10:00:00.003")).await;
    assert_eq!(first.status, 200, "{}", first.json);
    assert_eq!((&first.json["delta"], &first.json["stock_after"]), (&json!(10), &json!(10)));
    let unit = first.json["variant_id"].as_str().unwrap().to_owned();
    assert!(first.json["transaction_id"].as_str().unwrap().starts_with("LEGACY_LEGACY_AGENT_"));
    // Sold here, where the goods are; then the ERP sells two: ten are not restored.
    let sale = json!({
        "items": [{ "producto_id": unit, "cantidad": 1 }], "metodo_pago": "efectivo", "ubicacion_id": first.json["ubicacion_id"],
    });
    assert_eq!(api.checkout(sale.to_string(), None).await.status, 201);
    let second = push(message("rem-001 ", 8, "2026-11-27T10:00:00.007")).await;
    assert_eq!(
        (&second.json["stock_before"], &second.json["stock_after"]),
        (&json!(9), &json!(7)),
        "{}",
        second.json
    );
    assert_eq!(second.json["variant_id"], json!(unit));
    // L11 and L12: again, and late, at once and one after the other.
    let again = futures_util::future::join_all(
        (0..6).map(|_| push(message("REM-001", 8, "2026-11-27T10:00:00.007"))),
    )
    .await;
    assert!(
        again.iter().all(|reply| reply.json["motivo"] == "no_es_mas_nueva" && reply.json["success"] == true)
    );
    let late = push(message("REM-001", 99, "2026-11-27T09:00:00")).await;
    assert_eq!(late.json["motivo"], "no_es_mas_nueva");
    // Many, with a zone, one of them held.
    let many = push(json!([
        message("REM-001", 9, "2026-11-27T13:00:00Z"),
        message("REM-002", 0, "2026-11-27T13:00:00Z"),
        message("REM-003", -4, "2026-11-27T13:00:00Z"),
    ]))
    .await;
    assert_eq!((&many.json["aplicados"], &many.json["retenidos"]), (&json!(1), &json!(1)), "{}", many.json);
    assert_eq!(many.json["resultados"][1]["variant_id"].as_str().map(str::len), Some(36), "L10");
    assert_eq!(many.json["resultados"][2]["retenido"], "negativo");
    assert_eq!(api.get("/api/v1/sync/legacy").await.json["fuentes"][0]["modo"], "agente");
    // Bad input names its field, and nothing is half done.
    let wrong = async |change: fn(&mut Value)| {
        let mut body = json!([
            message("REM-009", 1, "2026-11-27T13:00:00Z"),
            message("REM-008", 1, "2026-11-27T13:00:00Z")
        ]);
        change(&mut body[1]);
        push(body).await.wrong_field().to_owned()
    };
    assert_eq!(wrong(|body| body["sku_legacy"] = json!("  ")).await, "[1].sku_legacy");
    assert_eq!(wrong(|body| body["stock_real"] = json!(1.2345)).await, "[1].stock_real");
    assert_eq!(wrong(|body| body["precio"] = json!(-1)).await, "[1].precio");
    assert_eq!(wrong(|body| body["fecha_movimiento"] = json!("ayer")).await, "[1].fecha_movimiento");
    assert_eq!(wrong(|body| body["ubicacion"] = json!("")).await, "[1].ubicacion");
    assert_eq!(wrong(|body| body["source"] = json!("otro")).await, "[1].source");
    assert_eq!(wrong(|body| body["descripcion"] = json!(" ")).await, "[1].descripcion");
    assert_eq!(api.get("/api/v1/productos/scan/REM-009-NEGRO-M").await.status, 404);
    assert_eq!(push(json!([])).await.wrong_field(), "body");
    let seller = Api::new(&node.url(), &blend.token(tenant, Role::Vendedor));
    let refused =
        seller.post("/api/v1/sync/legacy", message("A", 1, "2026-11-27T10:00:00").to_string()).await;
    assert_eq!(refused.outcome(), (403, "permiso_denegado"));
    assert!(node.sigterm().await.success());
    assert_verified(&blend).await;
}

#[tokio::test]
async fn a_probe_and_a_dry_run_say_what_would_be_and_change_nothing() {
    let erp = demo();
    let server = stand_in(&erp).await;
    let (blend, tenant) = following(&server).await;
    let said = blend.command(&["legacy", "probe"]).await.done();
    assert!(said.contains("LinceIndumentaria") && said.contains("strategy        datetime"), "{said}");
    let table = blend.command(&["legacy", "dry-run"]).await.done();
    assert!(table.contains("REM-001-NEGRO-M") && table.contains("+15"), "{table}");
    assert!(
        table.contains("21 balances read; 21 would move stock")
            && table.contains("21 units would be created"),
        "{table}"
    );
    let node = blend.serve().await;
    let api = Api::new(&node.url(), &blend.token(tenant, Role::Owner));
    loaded(&api).await;
    // Beside a server, as of what its ledger has.
    let quiet = eventually("the ledger has the first load", async || {
        let table = blend.command(&["legacy", "dry-run", "--source", "lince", "--all"]).await.done();
        table.contains("0 would move stock").then_some(table)
    })
    .await;
    assert!(!quiet.contains("REM-001"), "{quiet}");
    erp.set_rights(false, true);
    let probed = blend.command(&["legacy", "probe"]).await;
    assert_eq!(probed.code, Some(1), "{probed:?}");
    assert!(
        probed.stdout.contains("missing         the right to read: GRANT SELECT ON dbo.STK_SALDOS"),
        "{probed:?}"
    );
    let refused = blend.command(&["legacy", "probe", "--source", "otra"]).await.refused();
    assert!(refused.contains("--source: lince"), "{refused}");
    assert!(node.sigterm().await.success());
    let written = Blend::new();
    let file = written.write(
        "blend.toml",
        "[legacy.sources.a]\ntenant = \"x\"\nhost = \"h\"\nuser = \"u\"\npassword = \"p\"\n",
    );
    let refused = written.command(&["config", "--config", file.to_str().unwrap()]).await.refused();
    assert!(refused.contains("legacy.sources.*.password") && refused.contains("environment"), "{refused}");
}

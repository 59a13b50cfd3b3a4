//! What marketplaces give up, over the command line and HTTP.

use super::*;
use crate::support::api::Reply;

/// Somebody who runs the installation.
fn landlord(connected: &Connected) -> Api {
    let token = connected.shop.blend.token(None, Role::SuperAdmin);
    Api::new(&connected.shop.server.url(), &token)
}

#[tokio::test]
async fn what_was_given_up_is_listed_shown_tried_again_and_thrown_away() {
    let connected = mapped(1_000).await;
    let landlord = landlord(&connected);
    for sku in ["P01", "P02", "P03"] {
        connected.there.delete(sku);
        connected.shop.sell(&[(sku, "1")]).await.sale();
    }
    connected.tell("orders/create", "bad", &json!({ "id": "no" })).await;
    let list = async || landlord.get("/api/v1/admin/descartados").await.json;
    let of = async |count: usize| {
        eventually("so many are given up", async || {
            let listed = list().await;
            (listed["descartados"].as_array().unwrap().len() == count).then_some(listed)
        })
        .await
    };
    let listed = of(4).await;
    let pushes = listed["grupos"][0].clone();
    assert_eq!(
        (&pushes["cantidad"], pushes["causa"].as_str().unwrap().contains("could not be found")),
        (&json!(3), true)
    );
    let run = async |args: &[&str]| {
        let words: Vec<&str> = std::iter::once("dlq").chain(args.iter().copied()).collect();
        let ran = connected.shop.blend.command(&words).await;
        (ran.code, ran.stdout.clone(), ran.stderr.clone())
    };
    let (_, ls, _) = run(&["ls", "--ids"]).await;
    assert!(ls.contains("4 in all") && ls.contains("     3  INVALID_INVENTORY_ITEM"), "{ls}");
    let notice = ls.lines().map(str::trim).find(|line| line.starts_with("aviso/")).unwrap().to_owned();
    let (_, shown, _) = run(&["show", &notice]).await;
    assert!(shown.contains("ilegible") && shown.contains(r#"{"id":"no"}"#), "{shown}");
    let one: Reply = landlord
        .get(&format!("/api/v1/admin/descartados/{}", notice.replace('/', "%2F").replace(' ', "%20")))
        .await;
    assert_eq!(
        (one.status, one.json["asunto"].as_str(), &one.json["no_se_borra"]),
        (200, Some("aviso"), &Value::Null)
    );
    assert_eq!(landlord.get("/api/v1/admin/descartados/nada").await.outcome(), (404, "no_encontrado"));
    // One group, now that its cause is mended for two of its three.
    connected.there.add(1, Some("P01"), true);
    connected.there.add(2, Some("P02"), true);
    let cause = pushes["causa"].as_str().unwrap().to_owned();
    let choose = |more: Value| {
        let mut body = json!({ "causa": cause });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let dry = landlord.post("/api/v1/admin/descartados/reprocesar", choose(json!({ "ensayo": true }))).await;
    assert_eq!((dry.json["elegidos"].as_array().unwrap().len(), &dry.json["reprocesados"]), (3, &json!(0)));
    let capped = landlord.post("/api/v1/admin/descartados/reprocesar", choose(json!({ "maximo": 1 }))).await;
    assert_eq!(capped.json["reprocesados"], 1);
    let (_, replayed, _) = run(&["replay", "--cause", &cause]).await;
    assert!(replayed.contains(" are tried again"), "{replayed}");
    connected.there.shows("P01", 997).await;
    connected.there.shows("P02", 997).await;
    of(2).await;
    // What is left is nobody's business any more.
    let (_, dry, _) = run(&["drop", "--all", "--dry-run"]).await;
    assert!(dry.contains("2 would be thrown away"), "{dry}");
    let refused = landlord.post("/api/v1/admin/descartados/borrar", r#"{"maximo":0}"#).await;
    assert_eq!(refused.status, 422);
    let (code, dropped, _) = run(&["drop", &notice]).await;
    assert!(code == Some(0) && dropped.contains("1 are thrown away"), "{dropped}");
    let gone = landlord.post("/api/v1/admin/descartados/borrar", r#"{"ids":[],"maximo":10}"#).await;
    assert_eq!((gone.status, &gone.json["borrados"]), (200, &json!(1)), "{}", gone.json);
    of(0).await;
    // The shop's own people do not see it.
    assert_eq!(connected.owner.get("/api/v1/admin/descartados/x").await.outcome(), (403, "permiso_denegado"));
    connected.shop.close().await;
}

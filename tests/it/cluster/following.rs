//! An old ERP beside several nodes: the one that has the shop follows it, and when that one dies or freezes another goes
//! on where it was.

use super::{Servers, holds, settled};
use crate::legacy::{becomes, demo, follow, loaded, stand_in};
use crate::support::api::Api;
use crate::support::eventually;
use crate::support::ledger::assert_verified;
use crate::support::process::Server;
use blend::http::Role;
use serde_json::json;

/// How often a node has polled, by its own account.
async fn polls(node: &Server) -> u64 {
    let actors = Api::anonymous(&node.url()).get("/ops/actors").await.json;
    let all = actors["actors"].as_array().unwrap();
    let poller = all.iter().find(|actor| actor["name"] == "legacy-lince").unwrap();
    poller["observed"]["polls"].as_u64().unwrap_or(0)
}

/// Which of the nodes polls: one, and no other.
async fn poller(nodes: &[Server; 2]) -> usize {
    let before = [polls(&nodes[0]).await, polls(&nodes[1]).await];
    eventually("one of them has polled five times", async || {
        let now = [polls(&nodes[0]).await, polls(&nodes[1]).await];
        let more = [now[0] - before[0], now[1] - before[1]];
        let who = more.iter().position(|polls| *polls >= 5)?;
        assert_eq!(more[1 - who], 0, "both nodes poll");
        Some(who)
    })
    .await
}

#[tokio::test]
async fn the_node_that_has_the_shop_follows_its_erp_and_another_goes_on_when_it_dies() {
    let servers = Servers::start().await;
    let erp = demo();
    let server = stand_in(&erp).await;
    let (mut one, mut two) = (servers.node(), servers.node());
    let first = one.serve().await;
    let tenant = one.tenant("Sur").await;
    assert!(first.sigterm().await.success());
    for node in [&mut one, &mut two] {
        follow(node, tenant, &server);
    }
    let mut nodes = [one.serve().await, two.serve().await];
    let api = |node: &Server| Api::new(&node.url(), &one.token(tenant, Role::Owner));
    loaded(&api(&nodes[0])).await;
    let unit = api(&nodes[0]).get("/api/v1/productos/scan/REM-001-NEGRO-M").await.json["id"].clone();
    let basket = json!({ "items": [{ "producto_id": unit, "cantidad": 1 }], "metodo_pago": "efectivo" });
    let mut left = 15;
    for _ in 0..2 {
        for node in &nodes {
            holds(node, 2).await;
            assert_eq!(api(node).checkout(basket.to_string(), None).await.status, 201);
        }
        erp.simulate_sale("REM-001", "M", "NEGRO", 2);
        left -= 4;
        for node in &nodes {
            becomes(&api(node), "REM-001-NEGRO-M", left).await;
        }
        // It sells there while nobody is left who follows.
        let who = poller(&nodes).await;
        nodes[who].signal("KILL");
        nodes[who].ended().await;
        erp.simulate_sale("REM-001", "M", "NEGRO", 1);
        left -= 1;
        becomes(&api(&nodes[1 - who]), "REM-001-NEGRO-M", left).await;
        nodes[who] = [&one, &two][who].serve().await;
    }
    let source = loaded(&api(&nodes[0])).await;
    assert_eq!(source["sondeo"]["lecturas_completas"], 0, "what was loaded is not loaded again: {source}");
    settled(&[&nodes[0], &nodes[1]]).await;
    assert_verified(&one).await;
    for node in nodes {
        assert!(node.sigterm().await.success());
    }
}

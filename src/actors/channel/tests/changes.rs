//! What people change: rules, mappings, what is for sale; and orders that are changed there.

use super::*;
use crate::actors::channel::Change;
use crate::actors::testing::caller;
use crate::domain::channel::guard::Guard;
use crate::domain::event::Event;
use crate::domain::ids::UnitId;
use crate::domain::import::{Import, ImportedUnit};
use crate::ports::channel::Credentials;

fn edited(id: u64, lines: Value, version: &str) -> Value {
    json!({ "id": id, "name": format!("#{id}"), "cancelled_at": null, "updated_at": version, "line_items": lines,
        "refunds": [] })
}

#[test]
fn other_rules_count_at_once_and_are_kept() {
    on_system(async {
        let mut street = Street::mapped(2, Policy::default()).await;
        let guard = Guard { units: 1, percent: 0 };
        let change = Change { buffer: Some(whole(3)), guard: Some(guard), ..Change::default() };
        let message = |reply| Msg::Change(Box::new(change), reply);
        street.channels.of(street.here.id(), street.id, message).await.unwrap().unwrap().unwrap();
        street.there.until("less is offered", || street.there.all().values().all(|shown| *shown == 7)).await;
        street.root.stop().await;
        let (channels, root) = manager(&street.world, &street.dir, &street.there, pace()).await;
        (street.channels, street.root) = (channels, root);
        let status = street.until("it is there again", |status| status.counts[0] == 2).await;
        let policy = status.connection.policy;
        assert_eq!((policy.buffer, policy.guard, policy.drift), (whole(3), guard, DriftPolicy::PushOurs));
        street.no_violations();
    });
}

#[test]
fn new_tokens_take_the_place_of_those_that_are_out_with_a_call() {
    on_system(async {
        let street = Street::mapped(1, Policy::default()).await;
        let replace = async |credentials: Credentials| {
            let change = Change { credentials: Some(credentials), ..Change::default() };
            let message = |reply| Msg::Change(Box::new(change), reply);
            street.channels.of(street.here.id(), street.id, message).await.unwrap().unwrap()
        };
        street.there.next_like(|called| called.path.ends_with("graphql.json"), Fault::Held);
        street.sell(0, 1).await;
        street.there.until("a call is out", || street.there.all_met()).await;
        street.there.expire_token();
        let tokens = Credentials { access_token: street.there.token(), ..Credentials::default() };
        let stranger = Credentials { client_secret: Some("loud".into()), ..tokens.clone() };
        assert!(replace(stranger).await.unwrap_err().contains("another app"));
        replace(tokens).await.unwrap();
        // What comes back is refused, and that is no word about the new ones.
        street.there.let_go();
        street.there.shows("SKU-0", 9).await;
        street.clean().await;
        assert_eq!(street.there.tokens(), 0, "nothing was renewed");
        street.no_violations();
    });
}

#[test]
fn what_no_sku_tells_a_person_says_and_takes_back() {
    on_system(async {
        let street = Street::open(2, Policy::default()).await;
        street.there.add(7, Some("OTHER"), true);
        let of = |n: usize| street.here.units[n].id;
        let map = async |unit: UnitId, item: &str| {
            let message = |reply| Msg::Map { unit, item: item.into(), reply };
            street.channels.of(street.here.id(), street.id, message).await.unwrap().unwrap()
        };
        let unknown = map(of(0), "gid://shopify/InventoryItem/99").await.unwrap_err();
        assert!(unknown.contains("99 is not there"), "{unknown}");
        assert_eq!(map(of(0), "gid://shopify/InventoryItem/7").await, Ok(0));
        street.there.shows("OTHER", 10).await;
        // Another unit takes the item over.
        assert_eq!(map(of(1), "gid://shopify/InventoryItem/7").await, Ok(10));
        street.sell(1, 4).await;
        street.there.shows("OTHER", 6).await;
        let unmap =
            |unit| street.channels.of(street.here.id(), street.id, move |reply| Msg::Unmap(unit, reply));
        assert!(unmap(of(1)).await.unwrap().unwrap() && !unmap(of(1)).await.unwrap().unwrap());
        street.sell(1, 1).await;
        street.until("nothing is mapped", |status| status.counts == [0; 4]).await;
        assert_eq!(street.there.showing("OTHER"), Some(6));
        street.no_violations();
    });
}

#[test]
fn an_order_that_is_edited_or_refunded_in_part_is_sold_as_it_stands() {
    on_system(async {
        let street = Street::mapped(2, Policy::default()).await;
        let line = |id: u64, item: u64, current: i64| json!({ "id": id, "variant_id": item, "sku": "S", "quantity": 3, "current_quantity": current });
        let tell =
            async |event: &str, body: &Value| assert!(street.tell("orders/updated", event, body).await);
        street.there.change("SKU-0", -3);
        tell("e1", &edited(5, json!([line(1, 1, 3)]), "2026-01-01T10:00:00-03:00")).await;
        street.until("it is sold", |status| status.orders.iter().any(|order| order.state == "vendido")).await;
        // One is given back, and one of the other unit is added.
        street.there.change("SKU-0", 1);
        street.there.change("SKU-1", -1);
        let lines = json!([line(1, 1, 2), line(2, 2, 1)]);
        tell("e3", &edited(5, lines.clone(), "2026-01-01T12:00:00-03:00")).await;
        let settled = async |left: [i64; 2]| {
            while street.world.on_hand(&street.here).await != left {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        settled([8, 9]).await;
        // Told again, and what was true in between told late: nothing changes.
        tell("e4", &edited(5, lines.clone(), "2026-01-01T12:00:00-03:00")).await;
        tell("e2", &edited(5, json!([line(1, 1, 3)]), "2026-01-01T11:00:00-03:00")).await;
        // Refunded, and not put back: it is as gone as before.
        let mut lost = edited(5, json!([line(1, 1, 1), line(2, 2, 1)]), "2026-01-01T13:00:00-03:00");
        lost["refunds"] = json!([{ "refund_line_items": [{ "line_item_id": 1, "quantity": 1, "restock_type": "no_restock" }] }]);
        tell("e5", &lost).await;
        street.clean().await;
        settled([8, 9]).await;
        assert_eq!((street.there.showing("SKU-0"), street.there.showing("SKU-1")), (Some(8), Some(9)));
        let durable = street.world.bus.durable();
        let voids =
            durable.iter().filter(|event: &&Arc<Event>| matches!(event.body, Body::SaleVoided { .. }));
        assert_eq!((street.world.bus.sales().len(), voids.count()), (2, 1));
        // All of it comes back.
        street.tell("orders/cancelled", "e6", &order(5, &[(1, 2), (2, 1)], true)).await;
        street.tell("orders/cancelled", "e7", &json!({ "id": 5, "cancelled_at": "x", "updated_at": "2026-01-02T00:00:00Z", "line_items": [] })).await;
        settled([10, 10]).await;
        street.no_violations();
    });
}

#[test]
fn what_is_not_for_sale_any_more_shows_nothing_there() {
    on_system(async {
        let street = Street::mapped(3, Policy::default()).await;
        let offer = async |active: bool| {
            let unit = &street.here.units[1];
            let row = ImportedUnit {
                sku: unit.sku.clone(),
                name: unit.name.clone(),
                base_sku: None,
                barcode: None,
                kind: unit.kind,
                price: unit.price,
                active,
                size: None,
                color: None,
                category: None,
                brand: None,
                stock: None,
            };
            let import = Import { reference: "r".into(), units: vec![row], locations: Vec::new() };
            street.world.shards.import(street.here.id(), import, caller()).await.unwrap().unwrap();
        };
        offer(false).await;
        street.there.shows("SKU-1", 0).await;
        assert_eq!((street.there.showing("SKU-0"), street.there.showing("SKU-2")), (Some(10), Some(10)));
        offer(true).await;
        street.there.shows("SKU-1", 10).await;
        street.no_violations();
    });
}

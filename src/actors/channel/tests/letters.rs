//! What channels give up: listed with what was sent and came back, tried again, thrown away, gone by itself.

use super::*;
use crate::actors::channels::Letters;
use crate::actors::reservation::{Caller, Delivery};
use crate::domain::dead_letter::{DeadLetter, Matter};
use crate::domain::event::{Movement, MovementKind};
use crate::ports::dead_letters::DeadLetters as _;

async fn letters(street: &Street) -> Letters {
    let store = Store::open(&street.dir.path().join("channels.db")).await.unwrap();
    Letters::new(street.channels.clone(), Arc::new(store))
}

async fn listed(letters: &Letters, count: usize) -> Vec<DeadLetter> {
    loop {
        let found = letters.list(99).await.unwrap();
        if found.len() == count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_push_that_was_given_up_is_tried_again_or_thrown_away() {
    on_system(async {
        let street = Street::mapped(3, Policy::default()).await;
        let letters = letters(&street).await;
        street.there.delete("SKU-1");
        street.there.delete("SKU-2");
        street.sell(1, 1).await;
        street.sell(2, 1).await;
        let found = listed(&letters, 2).await;
        assert_eq!((letters.depth(1).await.unwrap(), letters.depth(9).await.unwrap()), (1, 2));
        let letter = &found[0];
        assert_eq!((letter.matter, letter.group.as_str()), (Matter::Push, "queue.sync.shopify"));
        assert!(letter.cause.starts_with("INVALID_INVENTORY_ITEM: ") && letter.attempts >= 1, "{letter:?}");
        let sent = String::from_utf8_lossy(&letter.payload).into_owned();
        assert!(
            sent.contains("InventoryItem/") && letter.response.contains("could not be found"),
            "{letter:?}"
        );
        // The cause is mended for one of them; the other one fails again.
        street.there.add(2, Some("SKU-1"), true);
        let ids: Vec<String> = found.into_iter().map(|letter| letter.id).collect();
        assert_eq!(letters.replay(&ids).await.unwrap(), 2);
        street.there.shows("SKU-1", 9).await;
        let left = listed(&letters, 1).await;
        let ids = [left[0].id.clone(), "envio/x/y".into(), format!("aviso/{}/x", street.id)];
        assert_eq!((letters.discard(&ids).await.unwrap(), letters.discard(&ids).await.unwrap()), (1, 0));
        listed(&letters, 0).await;
        street.until("it stays as it is", |status| status.counts == [2, 0, 0, 1]).await;
    });
}

#[test]
fn a_push_that_nobody_would_make_any_more_is_no_letter() {
    on_system(async {
        let street = Street::mapped(2, Policy::default()).await;
        let letters = letters(&street).await;
        street.there.delete("SKU-1");
        street.sell(1, 1).await;
        listed(&letters, 1).await;
        street.pause(true).await;
        street.sell(1, 1).await;
        listed(&letters, 0).await;
        street.pause(false).await;
        listed(&letters, 1).await;
    });
}

#[test]
fn an_order_that_could_not_be_sold_is_taken_up_again_when_there_is_stock() {
    on_system(async {
        let street = Street::mapped(1, Policy::default()).await;
        let letters = letters(&street).await;
        street.tell("orders/create", "e1", &order(1, &[(1, 12)], false)).await;
        street.tell("orders/create", "e2", &order(2, &[(1, 13)], false)).await;
        let found = listed(&letters, 2).await;
        assert_eq!((found[0].matter, found[0].kind.as_str()), (Matter::Notice, "orders/create"));
        assert!(found[0].cause.starts_with("sin_stock: ") && found[0].payload.starts_with(b"{"));
        // Too early: it comes back.
        let first = [found[0].id.clone()];
        assert_eq!(letters.replay(&first).await.unwrap(), 1);
        listed(&letters, 2).await;
        let movement =
            Movement { unit: street.here.units[0].id, location: street.here.here(), delta: whole(5) };
        let delivery =
            Delivery { kind: MovementKind::Purchase, reference: "r".into(), movements: vec![movement] };
        let caller = Caller { user: "u".into(), request_id: "r".into(), trace: None };
        street.world.shards.receive(street.here.id(), delivery, caller).await.unwrap().unwrap();
        assert_eq!(letters.replay(&first).await.unwrap(), 1);
        street.until("it is sold", |status| status.orders.iter().any(|order| order.state == "vendido")).await;
        // The other one is cancelled there, which settles it.
        street.tell("orders/cancelled", "e3", &order(2, &[(1, 13)], true)).await;
        listed(&letters, 0).await;
        assert_eq!((street.world.bus.sales().len(), street.world.on_hand(&street.here).await), (1, vec![3]));
    });
}

#[test]
fn news_that_nobody_can_read_is_kept_as_it_came() {
    on_system(async {
        let street = Street::mapped(1, Policy::default()).await;
        let letters = letters(&street).await;
        street.tell("orders/create", "e1", &json!({ "id": "no" })).await;
        let found = listed(&letters, 1).await;
        assert_eq!(found[0].payload, br#"{"id":"no"}"#);
        assert!(found[0].cause.starts_with("ilegible: ") && found[0].response.contains("no"), "{found:?}");
        let ids = [found[0].id.clone()];
        // What is told again is known, and what is tried again comes to the same.
        assert!(!street.tell("orders/create", "e1", &json!({ "id": "no" })).await);
        street.channels.of(street.here.id(), street.id, Msg::Resync).await.unwrap().unwrap();
        street.until("it is told", |status| status.given_up.len() == 1).await;
        listed(&letters, 1).await;
        assert_eq!(letters.discard(&ids).await.unwrap(), 1);
        listed(&letters, 0).await;
    });
}

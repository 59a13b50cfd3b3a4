//! The same key with the same request: the same answer, and nothing sold twice.

use crate::support::shop::{OTHER, PLAIN, Shop, WEIGHED};
use futures_util::future::join_all;
use std::collections::HashSet;

#[tokio::test]
async fn d29_a_repeated_request_gets_the_same_answer_and_sells_nothing() {
    let shop = Shop::open().await;
    let body = shop.basket(&[(PLAIN, "2"), (WEIGHED, "0.250")]);
    let first = shop.till.checkout(body.clone(), Some("k-1")).await;
    assert_eq!((first.status, first.replayed()), (201, false));
    // Once from memory, once from the ledger.
    for booked in [false, true] {
        if booked {
            shop.settled().await;
        }
        let again = shop.till.checkout(body.clone(), Some("k-1")).await;
        assert_eq!((again.status, again.replayed(), &again.body), (201, true, &first.body));
    }
    assert_eq!(shop.stock(PLAIN).await, "998");
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn a_key_cannot_be_used_for_another_request() {
    let shop = Shop::open().await;
    let body = shop.basket(&[(PLAIN, "1"), (OTHER, "2")]);
    let first = shop.till.checkout(body.clone(), Some("k")).await;
    let others = [
        shop.basket(&[(PLAIN, "2"), (OTHER, "2")]),
        shop.basket(&[(PLAIN, "1")]),
        shop.basket(&[(OTHER, "2"), (PLAIN, "1")]),
        shop.basket_with(&[(PLAIN, "1"), (OTHER, "2")], ",\"total\":500.05"),
        body.replace("efectivo", "qr"),
    ];
    for booked in [false, true] {
        if booked {
            shop.settled().await;
        }
        for other in &others {
            let reply = shop.till.checkout(other.clone(), Some("k")).await;
            assert_eq!(reply.outcome(), (422, "idempotency_key_reutilizada"), "{other}");
        }
    }
    // The key itself is unharmed.
    assert_eq!(shop.till.checkout(body, Some("k")).await.body, first.body);
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn the_same_request_may_be_written_differently() {
    let shop = Shop::open().await;
    let id = shop.unit(WEIGHED);
    let first = shop.till.checkout(shop.basket(&[(WEIGHED, "1.5")]), Some("k")).await;
    let written = [
        format!(
            " {{ \"metodo_pago\" : \"EFECTIVO\",\n \"items\" : [ {{ \"cantidad\" : 1.5 , \"producto_id\":\"{id}\" }} ] }} "
        ),
        format!(
            r#"{{"items":[{{"cantidad":"1.500","producto_id":"{id}"}}],"metodo_pago":"efectivo","total":null}}"#
        ),
        format!(
            r#"{{"items":[{{"cantidad":15e-1,"producto_id":"{}"}}],"metodo_pago":"efectivo"}}"#,
            id.simple()
        ),
    ];
    for body in written {
        let again = shop.till.checkout(body.clone(), Some("k")).await;
        assert_eq!((again.replayed(), &again.body), (true, &first.body), "{body}");
    }
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn the_keys_of_two_tenants_never_meet() {
    let shop = Shop::open().await;
    let neighbour = shop.neighbour().await;
    let ours = shop.till.checkout(shop.basket(&[(PLAIN, "1")]), Some("k")).await;
    let theirs = shop
        .basket(&[(PLAIN, "1")])
        .replace(&shop.unit(PLAIN).to_string(), &neighbour.unit(PLAIN).to_string());
    let theirs = neighbour.till.checkout(theirs, Some("k")).await;
    assert_eq!((theirs.status, theirs.replayed()), (201, false));
    assert_ne!(ours.sale(), theirs.sale());
    assert_eq!(shop.close().await.sales.len(), 2);
}

#[tokio::test]
async fn fifty_requests_at_once_with_one_key_sell_once() {
    let shop = Shop::open().await;
    let body = shop.basket(&[(PLAIN, "3")]);
    let replies = join_all((0..50).map(|_| shop.till.checkout(body.clone(), Some("k")))).await;
    let ids: HashSet<_> = replies.iter().map(|reply| reply.sale()).collect();
    let bodies: HashSet<_> = replies.iter().map(|reply| reply.body.clone()).collect();
    let fresh = replies.iter().filter(|reply| !reply.replayed()).count();
    assert_eq!((ids.len(), bodies.len(), fresh), (1, 1, 1));
    assert_eq!(shop.stock(PLAIN).await, "997");
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn keys_that_are_none_are_refused_before_anything_is_sold() {
    let shop = Shop::open().await;
    let body = shop.basket(&[(PLAIN, "1")]);
    for key in ["", "a b", "ñandú", "tab\there", &"x".repeat(256)] {
        let reply = shop.till.checkout(body.clone(), Some(key)).await;
        assert_eq!(
            (reply.outcome(), reply.wrong_field()),
            ((422, "validacion"), "Idempotency-Key"),
            "{key:?}"
        );
    }
    let twice = shop.till.checkout_with_keys(body.clone(), &["a", "b"]).await;
    assert_eq!((twice.outcome(), twice.wrong_field()), ((422, "validacion"), "Idempotency-Key"));
    let longest = shop.till.checkout(body.clone(), Some(&"x".repeat(255))).await;
    let odd = shop.till.checkout(body, Some("!#$%&'*+-.^_`|~(){}[]<>@,;:\"/?=\\")).await;
    assert_eq!((longest.status, odd.status), (201, 201));
    assert_eq!(shop.close().await.sales.len(), 2);
}

#[tokio::test]
async fn a_key_outlives_a_restart_and_a_crash() {
    let mut shop = Shop::open().await;
    let body = shop.basket(&[(PLAIN, "1")]);
    let first = shop.till.checkout(body.clone(), Some("before-restart")).await;
    shop.restart().await;
    let again = shop.till.checkout(body.clone(), Some("before-restart")).await;
    assert_eq!((again.replayed(), &again.body), (true, &first.body));

    let second = shop.till.checkout(body.clone(), Some("before-crash")).await;
    // At once, most likely before the ledger has it.
    shop.crash().await;
    for (key, known) in [("before-restart", &first), ("before-crash", &second)] {
        let again = shop.till.checkout(body.clone(), Some(key)).await;
        assert_eq!((again.replayed(), &again.body), (true, &known.body), "{key}");
        let other = shop.till.checkout(shop.basket(&[(PLAIN, "9")]), Some(key)).await;
        assert_eq!(other.outcome(), (422, "idempotency_key_reutilizada"), "{key}");
    }
    assert_eq!(shop.stock(PLAIN).await, "998");
    assert_eq!(shop.close().await.sales.len(), 2);
}

#[tokio::test]
async fn a_refused_sale_leaves_its_key_free() {
    let shop = Shop::open().await;
    let refusals = [("1001", 400), ("1.5", 400), ("0", 422)];
    for (quantity, status) in refusals {
        let reply = shop.till.checkout(shop.basket(&[(PLAIN, quantity)]), Some("k")).await;
        assert_eq!(reply.status, status);
    }
    let sold = shop.till.checkout(shop.basket(&[(PLAIN, "1")]), Some("k")).await;
    assert_eq!((sold.status, sold.replayed()), (201, false));
    assert_eq!(shop.close().await.sales.len(), 1);
}

//! What every store of webhooks must do, as functions over an empty one. An adapter's tests call each of them.

use crate::domain::hook::{Hook, Message, News};
use crate::domain::ids::{HookId, TenantId};
use crate::domain::time::Timestamp;
use crate::ports::channel::Sealed;
use crate::ports::hooks::{Attempt, Fate, HookStore};
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

pub fn hook(tenant: TenantId, news: &[News]) -> Hook {
    Hook {
        id: HookId(Uuid::now_v7()),
        tenant,
        url: "https://erp.example/".into(),
        news: news.to_vec(),
        paused: None,
        failing_since: None,
        lost: 0,
        created_at: at(1),
    }
}

fn sealed() -> Sealed {
    Sealed { key_id: "k".into(), bytes: vec![1, 2, 3] }
}

pub fn message(tenant: TenantId, news: News, id: &str) -> Message {
    Message { id: id.into(), tenant, news, at: at(2), body: id.as_bytes().to_vec() }
}

/// Added, by whoever sends to it.
pub async fn subscribe(store: &dyn HookStore, hook: &Hook) {
    assert!(store.claim_one(hook.tenant, hook.id.0).await.unwrap());
    store.save_hook(hook, Some(&sealed())).await.unwrap();
}

pub async fn who_wants_it_is_told_once_and_in_order(store: &dyn HookStore) {
    let tenant = TenantId(Uuid::now_v7());
    let (sales, stock) =
        (hook(tenant, &[News::SaleCreated]), hook(tenant, &[News::SaleCreated, News::StockChanged]));
    let stranger = hook(TenantId(Uuid::now_v7()), &News::ALL);
    for hook in [&sales, &stock, &stranger] {
        subscribe(store, hook).await;
    }
    let messages = [
        message(tenant, News::SaleCreated, "a"),
        message(tenant, News::StockChanged, "b"),
        message(tenant, News::SaleCreated, "c"),
    ];
    assert_eq!(store.tell(&messages).await.unwrap(), 5);
    assert_eq!(store.tell(&messages).await.unwrap(), 0, "heard twice it is told once");
    assert_eq!(
        (
            store.waiting(tenant, stock.id).await.unwrap(),
            store.waiting(stranger.tenant, stranger.id).await.unwrap()
        ),
        (3, 0)
    );
    let mut order = Vec::new();
    while let Some(waiting) = store.next(tenant, stock.id).await.unwrap() {
        order.push(waiting.id.clone());
        let attempt = Attempt {
            position: waiting.position,
            fate: Fate::Delivered,
            status: Some(200),
            response: "ok".into(),
            at: at(3),
        };
        store.tried(tenant, stock.id, &attempt).await.unwrap();
    }
    assert_eq!(order, ["a", "b", "c"]);
    let log = store.log(tenant, stock.id, None, 2).await.unwrap();
    assert_eq!((log[0].id.as_str(), log[0].state.as_str(), log[0].attempts), ("c", "entregada", 1));
    let older = store.log(tenant, stock.id, Some(log[1].position), 9).await.unwrap();
    assert_eq!((older.len(), older[0].id.as_str()), (1, "a"));
    assert!(store.log(stranger.tenant, stock.id, None, 9).await.unwrap().is_empty());
    store.remove_hook(tenant, stock.id).await.unwrap();
    assert!(store.log(tenant, stock.id, None, 9).await.unwrap().is_empty());
    assert_eq!(store.hooks().await.unwrap().len(), 2);
}

pub async fn what_is_refused_is_a_letter_until_it_is_sent_again_or_forgotten(store: &dyn HookStore) {
    let tenant = TenantId(Uuid::now_v7());
    let mut hook = hook(tenant, &[News::SaleCreated]);
    subscribe(store, &hook).await;
    store
        .tell(&[message(tenant, News::SaleCreated, "a"), message(tenant, News::SaleCreated, "b")])
        .await
        .unwrap();
    let waiting = store.next(tenant, hook.id).await.unwrap().unwrap();
    let mut attempt = Attempt {
        position: waiting.position,
        fate: Fate::Waits(at(9)),
        status: None,
        response: "no answer".into(),
        at: at(3),
    };
    store.tried(tenant, hook.id, &attempt).await.unwrap();
    let waiting = store.next(tenant, hook.id).await.unwrap().unwrap();
    assert_eq!(
        (waiting.id.as_str(), waiting.attempts, waiting.due_at),
        ("a", 1, at(9)),
        "nothing overtakes it"
    );
    (attempt.fate, attempt.status) = (Fate::GivenUp, Some(400));
    store.tried(tenant, hook.id, &attempt).await.unwrap();
    assert_eq!(store.next(tenant, hook.id).await.unwrap().unwrap().id, "b");
    let letters = store.hook_letters(9).await.unwrap();
    assert_eq!((letters.len(), store.hook_letter_count().await.unwrap()), (1, 1));
    assert_eq!(letters[0].id, format!("mensaje/{}/{}", hook.id, attempt.position));
    assert!(letters[0].cause.contains("HTTP 400") && letters[0].payload == b"a");
    assert!(store.send_again(tenant, hook.id, attempt.position).await.unwrap());
    assert!(!store.bury_message(tenant, hook.id, attempt.position).await.unwrap(), "it waits again");
    let again = store.next(tenant, hook.id).await.unwrap().unwrap();
    assert_eq!((again.id.as_str(), again.attempts), ("a", 0));
    store.tried(tenant, hook.id, &attempt).await.unwrap();
    assert!(store.bury_message(tenant, hook.id, attempt.position).await.unwrap());
    assert_eq!(store.hook_letter_count().await.unwrap(), 0);
    // Its secret stays when only its state changes.
    (hook.paused, hook.failing_since) = (Some("HTTP 410".into()), Some(at(4)));
    store.save_hook(&hook, None).await.unwrap();
    assert_eq!(store.hooks().await.unwrap(), [(hook, sealed())]);
}

pub async fn an_alarm_is_told_once_until_it_is_over(store: &dyn HookStore) {
    let hook = hook(Hook::OPERATOR.0, &[News::DeadLetters]);
    subscribe(store, &hook).await;
    let alarm = |id: &str| message(hook.tenant, News::DeadLetters, id);
    assert!(store.raise("depth", &alarm("1")).await.unwrap());
    assert!(!store.raise("depth", &alarm("2")).await.unwrap());
    store.clear("depth").await.unwrap();
    assert!(store.raise("depth", &alarm("3")).await.unwrap());
    assert_eq!(store.waiting(hook.tenant, hook.id).await.unwrap(), 2);
}

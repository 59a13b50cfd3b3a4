//! The bound of the mailbox, order, and when a place is free again.

use super::*;
use futures_util::future::join_all;

#[test]
fn the_bound_is_exact_over_many_clones() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 100), Place::Here, Puppet::new);
        let accepted = (0..500).filter(|_| puppet.clone().try_tell(Msg::Tick).is_ok()).count();
        assert_eq!(accepted, 100);
        assert_eq!(puppet.try_tell(Msg::Tick), Err(TellError::Full));
        assert_eq!(puppet.ask(Msg::Count).await, Err(AskError::Full));
        assert_eq!(vitals(&registry, "p").mailbox_depth, 100);
        // There is room again once they are handled.
        assert_eq!(puppet.ask_when_room(Msg::Count).await, Ok(101));
        assert_eq!(puppet.depth(), 0);
    });
}

#[test]
fn waiting_senders_never_exceed_the_bound_and_all_arrive_in_order() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 4), Place::Here, Puppet::new);
        let asks = (0..1000).map(|_| {
            let puppet = puppet.clone();
            async move {
                assert!(puppet.depth() <= 4);
                puppet.ask_when_room(Msg::Count).await
            }
        });
        let answers: Vec<_> = join_all(asks).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (1..=1000).collect::<Vec<u64>>());
    });
}

#[test]
fn messages_are_handled_in_order_one_at_a_time_though_handlers_await() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 100), Place::Here, Puppet::new);
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        for n in 0..50 {
            let seen = seen.clone();
            let step: Step = Box::new(move |puppet, _cx| {
                Box::pin(async move {
                    let before = puppet.count;
                    tokio::task::yield_now().await;
                    puppet.count = before + 1;
                    seen.lock().unwrap().push(n);
                    Ok(())
                })
            });
            puppet.try_tell(Msg::Do(step)).unwrap();
        }
        assert_eq!(puppet.ask(Msg::Count).await, Ok(51));
        assert_eq!(*seen.lock().unwrap(), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn a_deferred_reply_keeps_its_place_until_it_is_answered() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 3), Place::Here, Puppet::new);
        let kept = [puppet.ask(Msg::Keep), puppet.ask(Msg::Keep)];
        // The last place goes round: this is answered, so both asks before it have been handled.
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        assert_eq!(puppet.depth(), 2);
        puppet.try_tell(Msg::Tick).unwrap();
        assert_eq!(puppet.try_tell(Msg::AnswerKept), Err(TellError::Full));
        puppet.tell(Msg::AnswerKept).await.unwrap();
        assert_eq!(join_all(kept).await, [Ok(7), Ok(7)]);
        until(|| puppet.depth() == 0).await;
    });
}

#[test]
fn an_asker_that_goes_away_cancels_nothing() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        drop(puppet.ask(Msg::Count));
        assert_eq!(puppet.ask(Msg::Count).await, Ok(2));
    });
}

#[test]
fn an_actor_on_its_own_thread_is_used_from_any_thread() {
    fn sendable<T: Send + Sync + 'static>(_: &T) {}
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::OwnThread, Puppet::new);
        sendable(&puppet);
        let here = std::thread::current().id();
        let there = puppet.clone();
        let (tx, rx) = tokio::sync::oneshot::channel();
        let tell_thread = act(move |_, _| {
            tx.send(std::thread::current().id()).ok();
        });
        tokio::spawn(async move { there.tell(tell_thread).await }).await.unwrap().unwrap();
        assert_ne!(rx.await.unwrap(), here);
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        root.stop().await;
        assert_eq!(puppet.ask(Msg::Count).await, Err(AskError::Stopped));
    });
}

//! The ordered end: what was accepted is finished, what comes later is refused.

use super::*;
use futures_util::future::join;
use std::sync::Mutex;
use tokio::time::Instant;

#[test]
fn a_drain_waits_for_queued_running_and_deferred_work() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (at_gate, open) = (begun.clone(), gate.clone());
        let kept = puppet.ask(Msg::Keep);
        let running = puppet.ask(|reply| Msg::Gate(at_gate, open, reply));
        let queued = puppet.ask(Msg::Count);
        begun.notified().await;

        let drain = tokio::task::spawn_local({
            let puppet = puppet.clone();
            async move { puppet.drain(LONG).await }
        });
        until(|| vitals(&registry, "p").state == ActorState::Draining).await;
        assert_eq!(puppet.ask(Msg::Count).await, Err(AskError::Full));
        gate.notify_one();
        assert_eq!((running.await, queued.await), (Ok(0), Ok(1)));
        // The mailbox is empty now, but one ask has not been answered.
        assert!(!drain.is_finished());
        puppet.feedback(Msg::AnswerKept).unwrap();
        assert_eq!(kept.await, Ok(7));
        assert!(drain.await.unwrap());
        assert_eq!(puppet.ask(Msg::Count).await, Err(AskError::Stopped));
        assert_eq!(puppet.tell(Msg::Tick).await, Err(TellError::Stopped));
        assert_eq!(vitals(&registry, "p").mailbox_depth, 0);
    });
}

#[test]
fn a_drain_waits_for_the_rest_of_a_handler_that_has_answered_and_for_piped_work() {
    in_virtual_time(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let second = Duration::from_secs(1);
        let finished = Arc::new(Mutex::new(0));
        let (by_handler, by_pipe) = (finished.clone(), finished.clone());
        let answer = puppet.ask(|reply: Reply<()>| {
            Msg::Do(Box::new(move |_, cx| {
                cx.pipe(tokio::time::sleep(3 * second), move |()| {
                    act(move |_, _| *by_pipe.lock().unwrap() += 1)
                });
                Box::pin(async move {
                    reply.send(());
                    tokio::time::sleep(second).await;
                    *by_handler.lock().unwrap() += 1;
                    Ok(())
                })
            }))
        });
        assert_eq!(answer.await, Ok(()));
        let begun = Instant::now();
        assert!(puppet.drain(10 * second).await);
        assert_eq!(*finished.lock().unwrap(), 2);
        assert_eq!(begun.elapsed().as_secs(), 3);
    });
}

#[test]
fn a_drain_survives_a_crash_on_the_way() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        puppet.try_tell(act(|_, cx| cx.pipe(std::future::pending::<()>(), |()| Msg::Tick))).unwrap();
        let asks = (puppet.ask(Msg::Panic), puppet.ask(Msg::Count));
        assert!(puppet.drain(LONG).await);
        assert_eq!((asks.0.await, asks.1.await), (Err(AskError::Crashed), Ok(1)));
    });
}

#[test]
fn a_drain_that_takes_too_long_closes_the_actor_all_the_same() {
    in_virtual_time(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let hanging = puppet.ask(Msg::Hang);
        puppet.try_tell(Msg::Tick).unwrap();
        assert!(!puppet.drain(Duration::from_secs(5)).await);
        assert_eq!(puppet.ask(Msg::Count).await, Err(AskError::Stopped));
        root.stop().await;
        assert_eq!(hanging.await, Err(AskError::Stopped));
        assert_eq!(vitals(&registry, "p").discarded, 2);
        assert!(!puppet.drain(Duration::from_secs(5)).await, "messages were discarded");
    });
}

#[test]
fn a_future_that_waits_for_ever_can_end_on_shutdown() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        puppet
            .try_tell(act(|_, cx| {
                assert!(!cx.shutting_down());
                cx.pipe(cx.until_shutdown(), |()| act(|_, cx| assert!(cx.shutting_down())));
            }))
            .unwrap();
        assert!(puppet.drain(LONG).await);
    });
}

#[test]
fn a_tree_is_drained_in_order_then_stopped_and_joined() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let below = root.child("below", Strategy::OneForOne, quick());
        let ledger = root.start(Spec::new("ledger", 100), Place::OwnThread, Puppet::new);
        let reservation = below.start(Spec::new("reservation", 100), Place::Here, {
            let ledger = ledger.clone();
            move || {
                let ledger = ledger.clone();
                // Each message to the reservation becomes one to the ledger.
                Puppet { on_start: Some(Arc::new(move |_| Ok(ledger.try_tell(Msg::Tick)?))), ..Puppet::new() }
            }
        });
        for _ in 0..20 {
            let ledger = ledger.clone();
            let forward: Step = Box::new(|_, _| {
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    Ok(ledger.try_tell(Msg::Tick)?)
                })
            });
            reservation.try_tell(Msg::Do(forward)).unwrap();
        }
        let report = shutdown(&root, &[&reservation, &ledger], LONG).await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.drained, [("reservation".to_owned(), true), ("ledger".to_owned(), true)]);
        let ledger = vitals(&registry, "ledger");
        assert_eq!((ledger.handled, ledger.discarded), (21, 0));
        assert!(registry.report().iter().all(|actor| actor.state == ActorState::Stopped));
    });
}

#[test]
fn a_shutdown_reports_what_its_deadline_cut_off() {
    in_virtual_time(async {
        let root = root(&Registry::new());
        let first = root.start(Spec::new("first", 10), Place::Here, Puppet::new);
        let second = root.start(Spec::new("second", 10), Place::Here, Puppet::new);
        let (hanging, counted) = (first.ask(Msg::Hang), second.ask(Msg::Count));
        let order: [&dyn Drain; 2] = [&first, &second];
        let drained = shutdown(&root, &order, Duration::from_secs(5));
        let (report, hanging) = join(drained, hanging).await;
        assert_eq!(report.drained[0], ("first".to_owned(), false));
        assert!(!report.is_clean());
        assert_eq!((hanging, counted.await), (Err(AskError::Stopped), Ok(1)));
    });
}

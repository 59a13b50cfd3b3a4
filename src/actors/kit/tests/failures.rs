//! Every way to fail: the state is rebuilt, the queue is intact, the message that did it is answered.

use super::*;
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::SeqCst},
};
use tokio::time::Instant;

/// Sends a killer with two messages queued behind it, and expects what every failure must lead to.
async fn survives(puppet: &Handle<Puppet>, registry: &Registry, killer: fn(Reply<u64>) -> Msg) {
    let before = vitals(registry, "p");
    assert!(puppet.ask(Msg::Count).await.is_ok());
    let (killed, first, second) = (puppet.ask(killer), puppet.ask(Msg::Count), puppet.ask(Msg::Count));
    assert_eq!(killed.await, Err(AskError::Crashed));
    assert_eq!((first.await, second.await), (Ok(1), Ok(2)), "not a fresh state, or a message was lost");
    let after = vitals(registry, "p");
    assert_eq!(after.restarts, before.restarts + 1);
    assert_eq!(after.failed, before.failed + 1);
    assert_eq!(after.incarnation, before.incarnation + 1);
    assert_eq!((after.mailbox_depth, after.state), (0, ActorState::Running));
}

#[test]
fn handlers_that_panic_or_return_an_error() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        puppet.ask(Msg::Count).await.unwrap();
        survives(&puppet, &registry, Msg::Panic).await;
        assert_eq!(vitals(&registry, "p").last_error.as_deref(), Some("panicked: boom"));
        survives(&puppet, &registry, Msg::PanicLater).await;
        assert_eq!(vitals(&registry, "p").last_error.as_deref(), Some("panicked: boom later"));
        survives(&puppet, &registry, Msg::Fail).await;
        let report = vitals(&registry, "p");
        assert_eq!(report.last_error.as_deref(), Some("invalid digit found in string"));
        assert_eq!((report.panics, report.failed, report.timeouts), (2, 3, 0));
        assert!(report.last_error_at.is_some());
    });
}

#[test]
fn a_piped_future_and_an_answer_on_its_way_that_panic() {
    fn pipe_a_panic(reply: Reply<u64>) -> Msg {
        act(move |_, cx| {
            cx.pipe(
                async move {
                    let _in_hand = reply;
                    tokio::task::yield_now().await;
                    panic!("boom beside the mailbox")
                },
                |()| Msg::Tick,
            );
        })
    }
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        assert_eq!(puppet.ask(pipe_a_panic).await, Err(AskError::Crashed));
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        let report = vitals(&registry, "p");
        assert_eq!((report.panics, report.restarts, report.piped), (1, 1, 0));
    });
}

#[test]
fn a_panic_beside_the_mailbox_cuts_the_handler_that_is_running() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let go = Arc::new(Notify::new());
        let gone = go.clone();
        puppet
            .try_tell(act(move |_, cx| {
                cx.pipe(
                    async move {
                        gone.notified().await;
                        panic!("boom")
                    },
                    |()| Msg::Tick,
                );
            }))
            .unwrap();
        let begun = Arc::new(Notify::new());
        let (hanging, next) = {
            let begun = begun.clone();
            (puppet.ask(|reply| Msg::Gate(begun, Arc::new(Notify::new()), reply)), puppet.ask(Msg::Count))
        };
        begun.notified().await;
        go.notify_one();
        assert_eq!((hanging.await, next.await), (Err(AskError::Crashed), Ok(1)));
    });
}

#[test]
fn a_start_that_panics_or_fails_is_tried_again_with_the_queue_intact() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10), Place::Here, || {
            let check: OnStart = Arc::new(|incarnation| match incarnation {
                1 | 4 => Err(Fault::new("no journal yet")),
                2 => panic!("boom at start"),
                _ => Ok(()),
            });
            Puppet { on_start: Some(check), ..Puppet::new() }
        });
        let early = (puppet.ask(Msg::Count), puppet.ask(Msg::Incarnation));
        assert_eq!((early.0.await, early.1.await), (Ok(1), Ok(3)));
        let late = (puppet.ask(Msg::Panic), puppet.ask(Msg::Count), puppet.ask(Msg::Incarnation));
        assert_eq!((late.0.await, late.1.await, late.2.await), (Err(AskError::Crashed), Ok(1), Ok(5)));
        let report = vitals(&registry, "p");
        assert_eq!((report.failed, report.panics, report.restarts), (4, 2, 4));
    });
}

#[test]
fn a_factory_that_panics_is_tried_again_with_the_queue_intact() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let built = AtomicU64::new(0);
        let spec = Spec::new("p", 10).limit(MS);
        let puppet = root.start(spec, Place::Here, move || {
            // The first, after a panic, and after a handler that was cut short.
            assert!(![0, 2, 4].contains(&built.fetch_add(1, SeqCst)), "no state today");
            Puppet::new()
        });
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        let (killed, next) = (puppet.ask(Msg::Panic), puppet.ask(Msg::Count));
        assert_eq!((killed.await, next.await), (Err(AskError::Crashed), Ok(1)));
        let (cut, next) = (puppet.ask(Msg::Hang), puppet.ask(Msg::Count));
        assert_eq!((cut.await, next.await), (Err(AskError::TimedOut), Ok(1)));
        assert_eq!(vitals(&registry, "p").failed, 5);
    });
}

#[test]
fn a_handler_that_waits_too_long_is_cut_short() {
    in_virtual_time(async {
        let registry = Registry::new();
        let root = root(&registry);
        let spec = Spec::new("p", 10).limit(Duration::from_secs(30));
        let puppet = root.start(spec, Place::Here, Puppet::new);
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        let begun = Instant::now();
        let (cut, next) = (puppet.ask(Msg::Hang), puppet.ask(Msg::Count));
        assert_eq!(cut.await, Err(AskError::TimedOut));
        assert_eq!(begun.elapsed().as_secs(), 30);
        assert_eq!(next.await, Ok(1), "the half-done state was kept");
        let report = vitals(&registry, "p");
        assert_eq!((report.timeouts, report.panics, report.restarts), (1, 0, 1));
        assert!(report.busy_max_us < 1_000_000, "waiting is not being busy");
    });
}

#[test]
fn replies_kept_by_the_state_are_answered_at_once_when_it_goes() {
    in_virtual_time(async {
        let root = root(&Registry::new());
        let hour = Duration::from_secs(3600);
        let slow = RestartPolicy { backoff_min: hour, backoff_max: hour, ..quick() };
        let puppet = root.start(Spec::new("p", 10).restart(slow), Place::Here, Puppet::new);
        let begun = Instant::now();
        let (kept, killed) = (puppet.ask(Msg::Keep), puppet.ask(Msg::Panic));
        assert_eq!((kept.await, killed.await), (Err(AskError::Crashed), Err(AskError::Crashed)));
        assert!(begun.elapsed() < hour / 2);
    });
}

#[test]
fn a_state_whose_destructor_panics_too_does_not_end_the_process() {
    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("boom in drop");
        }
    }
    struct Unlucky {
        _grenade: Grenade,
    }
    impl Behaviour for Unlucky {
        const KIND: &'static str = "unlucky";
        type Msg = Option<Reply<u64>>;
        async fn handle(&mut self, msg: Self::Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
            msg.ok_or_else(|| Fault::new("told to fail"))?.send(cx.incarnation());
            Ok(())
        }
    }
    on_system(async {
        let root = root(&Registry::new());
        let unlucky = root.start(Spec::new("u", 10), Place::Here, || Unlucky { _grenade: Grenade });
        unlucky.try_tell(None).unwrap();
        let incarnation = unlucky.ask(Some).await.unwrap();
        assert!(incarnation >= 2);
        root.stop().await;
        assert_eq!(unlucky.ask(Some).await, Err(AskError::Stopped));
    });
}

/// The moments at which the states of a puppet that always fails were built.
async fn starts_of_a_failing_puppet(policy: RestartPolicy) -> Vec<Instant> {
    let starts = Arc::new(Mutex::new(Vec::new()));
    let noted = starts.clone();
    let root = root(&Registry::new());
    let check: OnStart = Arc::new(move |_| {
        noted.lock().unwrap().push(Instant::now());
        Err(Fault::new("never works"))
    });
    let _puppet = root.start(Spec::new("p", 10).restart(policy), Place::Here, move || Puppet {
        on_start: Some(check.clone()),
        ..Puppet::new()
    });
    until(|| starts.lock().unwrap().len() == 8).await;
    starts.lock().unwrap().clone()
}

#[test]
fn the_back_off_grows_up_to_its_maximum_and_has_jitter() {
    in_virtual_time(async {
        let policy = RestartPolicy {
            max_restarts: 100,
            window: Duration::from_secs(3600),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(16),
        };
        let mut rows = Vec::new();
        for _ in 0..2 {
            let starts = starts_of_a_failing_puppet(policy).await;
            rows.push(starts.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>());
        }
        for (n, pause) in rows[0].iter().enumerate() {
            let expected = policy.backoff_min * 2_u32.pow(n as u32).min(16);
            assert!(*pause >= expected * 8 / 10 && *pause <= expected * 12 / 10 + MS, "pause {n}: {pause:?}");
            assert!(*pause <= policy.backoff_max + MS);
        }
        assert_ne!(rows[0], rows[1], "no jitter");
    });
}

#[test]
fn twenty_failures_an_hour_apart_never_escalate() {
    in_virtual_time(async {
        let registry = Registry::new();
        let root = root(&registry);
        let policy = RestartPolicy { max_restarts: 1, ..quick() };
        let puppet = root.start(Spec::new("p", 10).restart(policy), Place::Here, Puppet::new);
        for _ in 0..20 {
            assert_eq!(puppet.ask(Msg::Panic).await, Err(AskError::Crashed));
            assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        assert_eq!(vitals(&registry, "p").restarts, 20);
        assert_eq!(vitals(&registry, "root").failed, 0);
    });
}

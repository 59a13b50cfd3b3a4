//! Vitals, snapshots, the tree, the metrics and the watchdog.

use super::*;
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
    mpsc,
};

#[test]
fn the_vitals_tell_what_happened() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 8), Place::Here, Puppet::new);
        assert_eq!(vitals(&registry, "p").state, ActorState::Starting);
        for _ in 0..5 {
            puppet.ask(Msg::Count).await.unwrap();
        }
        let work = act(|_, _| {
            // Busy, not waiting.
            let end = std::time::Instant::now() + 3 * MS;
            while std::time::Instant::now() < end {}
        });
        puppet.try_tell(work).unwrap();
        puppet.ask(Msg::Count).await.unwrap();
        let report = vitals(&registry, "p");
        assert_eq!((report.kind, report.parent.as_deref()), ("puppet", Some("root")));
        assert_eq!((report.state, report.incarnation, report.handled), (ActorState::Running, 1, 7));
        assert_eq!((report.mailbox_depth, report.mailbox_capacity), (0, 8));
        assert_eq!((report.failed, report.restarts, &report.last_error), (0, 0, &None));
        assert!(report.busy_max_us >= 3000 && report.busy_us >= report.busy_max_us, "{report:?}");
        // The last message waited for the busy one.
        assert!(report.queue_wait_max_us >= 3000 && report.queue_wait_us >= report.queue_wait_max_us);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["state"].as_str(), json["handled"].as_u64()), (Some("running"), Some(7)));
    });
}

#[test]
fn the_snapshot_is_refreshed_at_start_and_after_messages_even_if_the_last_came_in_a_burst() {
    in_virtual_time(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 8), Place::Here, Puppet::new);
        until(|| vitals(&registry, "p").observed["count"] == 0).await;
        for _ in 0..5 {
            puppet.ask(Msg::Count).await.unwrap();
        }
        until(|| vitals(&registry, "p").observed["count"] == 5).await;
        puppet.ask(Msg::Panic).await.unwrap_err();
        until(|| vitals(&registry, "p").observed["count"] == 0).await;
    });
}

#[test]
fn the_tree_shows_who_is_below_whom() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let branch = root.child("branch", Strategy::OneForAll, quick());
        let _actors = [
            root.start(Spec::new("b", 8), Place::Here, Puppet::new),
            branch.start(Spec::new("a", 8), Place::Here, Puppet::new),
        ];
        let tree = serde_json::to_value(registry.tree()).unwrap();
        assert_eq!(tree[0]["name"], "root");
        assert_eq!(tree[0]["children"][0]["name"], "branch");
        assert_eq!(tree[0]["children"][0]["children"][0]["name"], "a");
        assert_eq!(tree[0]["children"][1]["name"], "b");
        assert_eq!(tree.as_array().unwrap().len(), 1);
    });
}

#[test]
fn the_metrics_carry_the_vitals() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let rendered = recorder.handle();
    on_system(async move {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 8), Place::Here, Puppet::new);
        let _kept = puppet.ask(Msg::Keep);
        puppet.ask(Msg::Count).await.unwrap();
        metrics::with_local_recorder(&recorder, || registry.export_metrics());
        let text = rendered.render();
        for line in [
            r#"blend_actor_mailbox_depth{actor="p",kind="puppet"} 1"#,
            r#"blend_actor_mailbox_capacity{actor="p",kind="puppet"} 8"#,
            r#"blend_actor_handled_total{actor="p",kind="puppet"} 2"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        // One that is stopped leaves no level behind: neither a mailbox that seems full nor one that seems to be down.
        assert!(root.stop_child("p").await);
        metrics::with_local_recorder(&recorder, || registry.export_metrics());
        let text = rendered.render();
        for level in ["mailbox_depth", "mailbox_capacity", "feedback_depth", "piped", "up", "frozen"] {
            let line = format!(r#"blend_actor_{level}{{actor="p",kind="puppet"}} 0"#);
            assert!(text.contains(&line), "no {line} in\n{text}");
        }
    });
}

#[test]
fn a_blocked_thread_is_seen_once_and_marked_until_it_comes_back() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 8), Place::OwnThread, Puppet::new);
        let waiting = root.start(Spec::new("waiting", 8), Place::Here, Puppet::new);
        let _hangs = waiting.ask(Msg::Hang);
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        let frozen = Arc::new(Mutex::new(Vec::new()));
        let noted = frozen.clone();
        let watchdog = Watchdog::start(&registry, 20 * MS, move |freeze| {
            assert!(freeze.blocked >= 20 * MS);
            noted.lock().unwrap().push(freeze.actor.clone());
        });
        let _watchdog = watchdog.unwrap();

        let (release, blocked) = mpsc::channel::<()>();
        puppet.try_tell(act(move |_, _| blocked.recv().unwrap())).unwrap();
        until(|| vitals(&registry, "p").state == ActorState::Frozen).await;
        tokio::time::sleep(60 * MS).await;
        assert_eq!(*frozen.lock().unwrap(), ["p"], "once, and not the one that merely waits");
        release.send(()).unwrap();
        assert_eq!(puppet.ask(Msg::Count).await, Ok(2));
        until(|| vitals(&registry, "p").state == ActorState::Running).await;
        assert_eq!(vitals(&registry, "waiting").state, ActorState::Running);
        root.stop().await;
    });
}

#[test]
fn a_flooded_actor_lets_others_on_its_thread_run() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 8), Place::Here, Puppet::new);
        fn again(stop: Arc<AtomicBool>) -> Msg {
            act(move |_, cx| {
                if !stop.load(SeqCst) {
                    cx.notify(again(stop));
                }
            })
        }
        let stop = Arc::new(AtomicBool::new(false));
        puppet.try_tell(again(stop.clone())).unwrap();
        // Would never come back if the actor kept its thread to itself.
        tokio::time::sleep(5 * MS).await;
        stop.store(true, SeqCst);
        assert!(puppet.drain(LONG).await);
    });
}

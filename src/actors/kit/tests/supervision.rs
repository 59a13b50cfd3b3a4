//! Budgets, verdicts and the tree.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One restart, then the supervisor is asked.
fn once() -> RestartPolicy {
    RestartPolicy { max_restarts: 1, ..quick() }
}

fn never() -> RestartPolicy {
    RestartPolicy { max_restarts: 0, ..quick() }
}

async fn incarnation(puppet: &Handle<Puppet>) -> u64 {
    puppet.ask(Msg::Incarnation).await.unwrap()
}

#[test]
fn a_spent_budget_is_renewed_by_the_supervisor_and_the_mailbox_kept() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10).restart(once()), Place::Here, Puppet::new);
        let killed = [puppet.ask(Msg::Panic), puppet.ask(Msg::Panic)];
        let queued = (puppet.ask(Msg::Count), puppet.ask(Msg::Count));
        for killed in killed {
            assert_eq!(killed.await, Err(AskError::Crashed));
        }
        assert_eq!((queued.0.await, queued.1.await), (Ok(1), Ok(2)));
        let above = vitals(&registry, "root");
        assert_eq!((above.failed, above.restarts), (1, 1));
        assert_eq!(above.last_error.as_deref(), Some("p: panicked: boom"));
    });
}

#[test]
fn beyond_the_root_the_tree_has_failed_and_messages_wait_until_it_is_stopped() {
    on_system(async {
        let registry = Registry::new();
        let root = Supervisor::new("root", Strategy::OneForOne, never(), &registry);
        let failed = root.root_failed();
        let built = Arc::new(AtomicU64::new(0));
        let counted = built.clone();
        let puppet = root.start(Spec::new("p", 10).restart(once()), Place::Here, move || {
            counted.fetch_add(1, Relaxed);
            Puppet::new()
        });
        let other = root.start(Spec::new("other", 10), Place::Here, Puppet::new);
        let killed = [puppet.ask(Msg::Panic), puppet.ask(Msg::Fail)];
        let mut queued = puppet.ask(Msg::Count);
        for killed in killed {
            assert_eq!(killed.await, Err(AskError::Crashed));
        }
        let failure = failed.await;
        assert_eq!((failure.supervisor.as_str(), failure.actor.as_str()), ("root", "p"));
        assert_eq!(failure.reason, "invalid digit found in string");
        assert_eq!(vitals(&registry, "p").state, ActorState::Escalated);
        // Who works goes on working; who waits goes on waiting.
        assert_eq!(other.ask(Msg::Count).await, Ok(1));
        assert!(tokio::time::timeout(5 * MS, &mut queued).await.is_err());
        // Known to whoever asks later, too.
        assert_eq!(root.root_failed().await.actor, "p");
        root.stop().await;
        assert_eq!(queued.await, Err(AskError::Stopped));
        assert_eq!(puppet.try_tell(Msg::Tick), Err(TellError::Stopped));
        assert_eq!(puppet.feedback(Msg::Tick), Err(TellError::Stopped));
        assert_eq!(built.load(Relaxed), 2, "the end must not build another state");
        assert_eq!(vitals(&registry, "p").state, ActorState::Stopped);
    });
}

/// Starts a, b, c under `strategy`, kills b beyond its budget, and returns their incarnations.
async fn incarnations_after_the_middle_failed(strategy: Strategy) -> [u64; 3] {
    let root = Supervisor::new("root", strategy, quick(), &Registry::new());
    let [a, b, c] = ["a", "b", "c"]
        .map(|name| root.start(Spec::new(name, 10).restart(never()), Place::Here, Puppet::new));
    // A message that waits through the restart of a sibling is kept as well.
    let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at_gate, open) = (begun.clone(), gate.clone());
    let held = c.ask(|reply| Msg::Gate(at_gate, open, reply));
    let waiting = c.ask(Msg::Count);
    begun.notified().await;
    assert_eq!(b.ask(Msg::Panic).await, Err(AskError::Crashed));
    assert_eq!(incarnation(&b).await, 2);
    gate.notify_one();
    let cut = held.await.is_err();
    assert_eq!(waiting.await, Ok(1));
    assert_eq!(cut, strategy != Strategy::OneForOne, "a sibling that is restarted is cut short");
    [incarnation(&a).await, incarnation(&b).await, incarnation(&c).await]
}

#[test]
fn the_strategy_names_who_is_restarted() {
    on_system(async {
        assert_eq!(incarnations_after_the_middle_failed(Strategy::OneForOne).await, [1, 2, 1]);
        assert_eq!(incarnations_after_the_middle_failed(Strategy::RestForOne).await, [1, 2, 2]);
        assert_eq!(incarnations_after_the_middle_failed(Strategy::OneForAll).await, [2, 2, 2]);
    });
}

#[test]
fn a_nested_supervisor_escalates_and_is_restarted_with_its_whole_branch() {
    on_system(async {
        let registry = Registry::new();
        let root = Supervisor::new("root", Strategy::RestForOne, once(), &registry);
        let before = root.start(Spec::new("before", 10), Place::Here, Puppet::new);
        let branch = root.child("branch", Strategy::OneForOne, once());
        let leaf = branch.start(Spec::new("leaf", 10).restart(never()), Place::OwnThread, Puppet::new);
        let twig = branch.start(Spec::new("twig", 10), Place::Here, Puppet::new);
        let after = root.start(Spec::new("after", 10), Place::Here, Puppet::new);

        // Within the branch's budget: the leaf alone.
        assert_eq!(leaf.ask(Msg::Panic).await, Err(AskError::Crashed));
        assert_eq!((incarnation(&leaf).await, incarnation(&twig).await), (2, 1));
        // Beyond it: the branch, and what came after the branch.
        assert_eq!(leaf.ask(Msg::Panic).await, Err(AskError::Crashed));
        assert_eq!((incarnation(&leaf).await, incarnation(&twig).await), (3, 2));
        assert_eq!((incarnation(&before).await, incarnation(&after).await), (1, 2));
        assert_eq!(vitals(&registry, "branch").state, ActorState::Running);
        // The branch has a new budget, the root has none left after it.
        assert_eq!(leaf.ask(Msg::Panic).await, Err(AskError::Crashed));
        assert_eq!(incarnation(&leaf).await, 4);
        assert_eq!(leaf.ask(Msg::Panic).await, Err(AskError::Crashed));
        let failure = root.root_failed().await;
        assert_eq!((failure.supervisor.as_str(), failure.actor.as_str()), ("root", "leaf"));
        root.stop().await;
    });
}

#[test]
fn one_child_can_be_stopped_and_is_forgotten() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let branch = root.child("branch", Strategy::OneForOne, quick());
        let [a, b] = ["a", "b"].map(|name| branch.start(Spec::new(name, 10), Place::Here, Puppet::new));
        assert!(branch.stop_child("a").await);
        assert!(!branch.stop_child("a").await);
        assert_eq!((a.ask(Msg::Count).await, b.ask(Msg::Count).await), (Err(AskError::Stopped), Ok(1)));
        assert!(registry.find("a").is_none());
        assert!(root.stop_child("branch").await);
        b.stopped().await;
        assert_eq!(registry.report().len(), 1);
    });
}

#[test]
fn a_dropped_tree_ends_its_actors() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.child("branch", Strategy::OneForOne, quick()).start(
            Spec::new("p", 10),
            Place::Here,
            Puppet::new,
        );
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        let waiting = puppet.ask(Msg::Hang);
        drop(root);
        assert_eq!(waiting.await, Err(AskError::Stopped));
    });
}

#[test]
fn actors_on_a_thread_that_ends_tell_their_askers() {
    let (puppet, waiting) = actix_rt::System::new().block_on(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let waiting = puppet.ask(Msg::Hang);
        tokio::task::yield_now().await;
        // The root outlives the runtime its actor runs on.
        std::mem::forget(root);
        (puppet, waiting)
    });
    assert_eq!(futures_util::FutureExt::now_or_never(waiting), Some(Err(AskError::Stopped)));
    assert_eq!(puppet.try_tell(Msg::Tick), Err(TellError::Stopped));
}

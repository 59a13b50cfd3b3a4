//! What an actor sends itself and gets from downstream: past the bound, behind the queue, and only for this life.

use super::*;

#[test]
fn feedback_is_never_refused_though_the_mailbox_is_full() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 2), Place::Here, Puppet::new);
        while puppet.try_tell(Msg::Tick).is_ok() {}
        for _ in 0..100 {
            puppet.feedback(Msg::Tick).unwrap();
        }
        let report = vitals(&registry, "p");
        assert_eq!((report.mailbox_depth, report.feedback_depth), (2, 100));
        assert_eq!(puppet.ask_when_room(Msg::Count).await, Ok(103));
        assert_eq!(vitals(&registry, "p").feedback_depth, 0);
    });
}

#[test]
fn actors_that_send_to_each_other_in_a_circle_do_not_block() {
    struct Stage {
        next: Option<Handle<Stage>>,
        seen: u64,
    }
    enum Parcel {
        To(u64, Handle<Stage>),
        Back,
        Seen(Reply<u64>),
    }
    impl Behaviour for Stage {
        const KIND: &'static str = "stage";
        type Msg = Parcel;
        async fn handle(&mut self, msg: Parcel, cx: &mut Cx<Self>) -> Result<(), Fault> {
            match (msg, &self.next) {
                // Downstream with back-pressure, upstream as feedback: the rule that keeps circles alive.
                (Parcel::To(n, _), Some(next)) => next.tell(Parcel::To(n, cx.handle())).await?,
                (Parcel::To(_, from), None) => from.feedback(Parcel::Back)?,
                (Parcel::Back, _) => self.seen += 1,
                (Parcel::Seen(reply), _) => reply.send(self.seen),
            }
            Ok(())
        }
    }
    on_system(async {
        let root = root(&Registry::new());
        let last = root.start(Spec::new("last", 1), Place::Here, || Stage { next: None, seen: 0 });
        let first = root.start(Spec::new("first", 1), Place::Here, {
            let last = last.clone();
            move || Stage { next: Some(last.clone()), seen: 0 }
        });
        for n in 0..200 {
            first.tell(Parcel::To(n, first.clone())).await.unwrap();
        }
        while first.ask_when_room(Parcel::Seen).await.unwrap() < 200 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_note_to_itself_lands_behind_what_is_queued() {
    on_system(async {
        let root = root(&Registry::new());
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let note = puppet.try_tell(act(|_, cx| cx.notify(act(|puppet, _| puppet.count *= 100))));
        note.unwrap();
        let queued = (puppet.ask(Msg::Count), puppet.ask(Msg::Count));
        assert_eq!((queued.0.await, queued.1.await), (Ok(1), Ok(2)));
        assert_eq!(puppet.ask(Msg::Count).await, Ok(201));
    });
}

#[test]
fn timers_and_piped_results_come_back_as_messages() {
    in_virtual_time(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let begun = tokio::time::Instant::now();
        let answer = puppet.ask(|reply| {
            act(move |_, cx| {
                cx.notify_after(Duration::from_secs(5), Msg::Tick);
                let wait = tokio::time::sleep(Duration::from_secs(9));
                cx.pipe(wait, move |()| Msg::Count(reply));
            })
        });
        // The mailbox does not wait for the future.
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1));
        assert_eq!(begun.elapsed().as_secs(), 0);
        assert_eq!(vitals(&registry, "p").piped, 1);
        assert_eq!(answer.await, Ok(3));
        assert_eq!(begun.elapsed().as_secs(), 9);
        until(|| vitals(&registry, "p").piped == 0).await;
    });
}

#[test]
fn what_an_earlier_life_asked_for_is_dropped_unseen() {
    on_system(async {
        let registry = Registry::new();
        let root = root(&registry);
        let puppet = root.start(Spec::new("p", 10), Place::Here, Puppet::new);
        let finished = Arc::new(Notify::new());
        let done = finished.clone();
        puppet
            .try_tell(act(move |_, cx| {
                cx.notify(Msg::Tick);
                cx.notify_after(2 * MS, Msg::Tick);
                // Still running when the actor fails: cancelled.
                cx.pipe(std::future::pending::<()>(), |()| Msg::Tick);
                // Done before the actor fails, but its result is queued behind the failure.
                cx.pipe(async move { done.notify_one() }, |()| Msg::Tick);
            }))
            .unwrap();
        let begun = Arc::new(Notify::new());
        let gate = Arc::new(Notify::new());
        let (at_gate, open) = (begun.clone(), gate.clone());
        let _held = puppet.ask(|reply| Msg::Gate(at_gate, open, reply));
        let killed = puppet.ask(Msg::Panic);
        begun.notified().await;
        finished.notified().await;
        gate.notify_one();
        assert_eq!(killed.await, Err(AskError::Crashed));
        assert_eq!(puppet.ask(Msg::Incarnation).await, Ok(2));
        until(|| vitals(&registry, "p").piped == 0).await;
        tokio::time::sleep(5 * MS).await;
        assert_eq!(puppet.ask(Msg::Count).await, Ok(1), "a message of the first life reached the second");
        let report = vitals(&registry, "p");
        assert_eq!((report.stale, report.feedback_depth), (2, 0));
    });
}

//! The journal writer over a bus that does what it is told.

use super::*;
use crate::actors::kit::{Place, Registry, Spec, Strategy, Supervisor};
use crate::actors::testing::{FakeBus, Fate, in_virtual_time, on_system, quick};
use crate::fixtures::Shop;
use futures_util::FutureExt;
use futures_util::future::join_all;

struct Writer {
    bus: FakeBus,
    journal: JournalHandle,
    shop: Shop,
    generation: Generation,
    _root: Supervisor,
}

impl Writer {
    fn start() -> Self {
        let (bus, registry) = (FakeBus::with(vec![]), Registry::new());
        let root = Supervisor::new("root", Strategy::OneForOne, quick(), &registry);
        let open = bus.open();
        let spec = Spec::new("journal", CAPACITY).restart(quick());
        let handle = root.start(spec, Place::Here, move || JournalWriter::new(open.clone()));
        Self { bus, journal: JournalHandle::new(handle), shop: Shop::new(1), generation: 1, _root: root }
    }

    fn append(&mut self, count: usize) -> impl Future<Output = Verdict> + use<> {
        let events = (0..count).map(|_| self.shop.sold(1)).collect();
        self.journal.lane(self.generation).append(events)
    }

    fn sequences(&self) -> Vec<u64> {
        self.bus.durable().iter().map(|event| event.sequence).collect()
    }
}

#[test]
fn appends_that_arrive_while_a_commit_runs_go_in_the_next_one_together() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.hold();
        let first = writer.append(2);
        writer.bus.begun(1).await;
        let others: Vec<_> = (0..50).map(|_| writer.append(3)).collect();
        writer.bus.release();
        assert_eq!(first.await, Ok(()));
        assert!(join_all(others).await.iter().all(Result::is_ok));
        assert_eq!(writer.bus.commits(), [2, 150]);
        assert_eq!(writer.sequences(), (1..=152).collect::<Vec<_>>());
    });
}

#[test]
fn a_group_has_a_bound_and_never_splits_an_append() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.hold();
        let mut answers = vec![writer.append(1).boxed_local()];
        writer.bus.begun(1).await;
        for size in [3_000, 1_000, 97, 5_000, 1] {
            answers.push(writer.append(size).boxed_local());
        }
        writer.bus.release();
        assert!(join_all(answers).await.iter().all(Result::is_ok));
        assert_eq!(writer.bus.commits(), [1, 4_000, 97, 5_000, 1]);
        assert_eq!(writer.sequences(), (1..=9_099).collect::<Vec<_>>());
    });
}

#[test]
fn a_barrier_is_answered_after_the_appends_before_it_and_not_sooner() {
    on_system(async {
        let mut writer = Writer::start();
        assert_eq!(writer.journal.barrier().await, Ok(1), "with nothing to wait for it is answered at once");
        writer.bus.hold();
        let first = writer.append(1);
        writer.bus.begun(1).await;
        let second = writer.append(1);
        let (journal, bus) = (writer.journal.clone(), writer.bus.clone());
        let barrier = actix_rt::spawn(async move { (journal.barrier().await, bus.durable().len()) });
        // The writer has seen the barrier once it is one of three that wait for an answer.
        super::super::testing::until(|| writer.journal.inner().depth() == 3).await;
        assert!(!barrier.is_finished());
        writer.bus.release();
        assert_eq!(barrier.await.unwrap(), (Ok(1), 2));
        assert_eq!((first.await, second.await), (Ok(()), Ok(())));
    });
}

#[test]
fn an_append_behind_a_barrier_does_not_wait_for_upkeep() {
    in_virtual_time(async {
        let mut writer = Writer::start();
        writer.bus.hold();
        let first = writer.append(1);
        writer.bus.begun(1).await;
        let journal = writer.journal.clone();
        let barrier = actix_rt::spawn(async move { journal.barrier().await });
        super::super::testing::until(|| writer.journal.inner().depth() == 2).await;
        let large = writer.append(GROUP_EVENTS + 1);
        let began = tokio::time::Instant::now();
        writer.bus.release();
        assert_eq!((first.await, barrier.await.unwrap(), large.await), (Ok(()), Ok(1), Ok(())));
        assert!(began.elapsed() < Duration::from_millis(50), "it waited {:?}", began.elapsed());
    });
}

#[test]
fn an_append_in_doubt_restarts_the_writer_and_later_appends_work() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.next(&[Fate::InDoubt { durable: true }]);
        writer.bus.hold();
        let doubtful = writer.append(1);
        writer.bus.begun(1).await;
        // What waits meanwhile is not recorded, but the writer that could say so is gone.
        let waiting = writer.append(1);
        let journal = writer.journal.clone();
        let barrier = actix_rt::spawn(async move { journal.barrier().await });
        super::super::testing::until(|| writer.journal.inner().depth() == 3).await;
        writer.bus.release();
        assert!(matches!(doubtful.await, Err(NotAppended::Failed(AppendError::InDoubt(_)))));
        assert!(matches!(waiting.await, Err(NotAppended::Failed(AppendError::InDoubt(_)))));
        assert!(barrier.await.unwrap().is_err(), "nothing is decided");
        // What rests on the log before is not even tried.
        assert_eq!(writer.append(1).await, Err(NotAppended::Stale));
        assert_eq!(writer.journal.barrier().await, Ok(2));
        writer.generation = 2;
        assert_eq!(writer.append(1).await, Ok(()));
        assert_eq!((writer.bus.opened(), writer.sequences()), (2, vec![1, 4]));
    });
}

#[test]
fn a_barrier_in_the_group_that_is_in_doubt_is_not_answered_as_passed() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.hold();
        let first = writer.append(1);
        writer.bus.begun(1).await;
        let second = writer.append(1);
        let journal = writer.journal.clone();
        let barrier = actix_rt::spawn(async move { journal.barrier().await });
        super::super::testing::until(|| writer.journal.inner().depth() == 3).await;
        // The first commit is well; the second, with the barrier in it, is in doubt.
        let bus = writer.bus.clone();
        bus.next(&[Fate::NotDurable, Fate::InDoubt { durable: false }]);
        writer.bus.release();
        assert!(matches!(first.await, Err(NotAppended::Failed(AppendError::NotDurable(_)))));
        assert!(matches!(second.await, Err(NotAppended::Failed(AppendError::InDoubt(_)))));
        assert!(barrier.await.unwrap().is_err());
    });
}

#[test]
fn a_log_that_is_lost_is_opened_anew() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.next(&[Fate::Lost]);
        assert!(matches!(writer.append(1).await, Err(NotAppended::Failed(AppendError::NotDurable(_)))));
        assert_eq!(writer.journal.barrier().await, Ok(2));
        writer.generation = 2;
        assert_eq!((writer.append(1).await, writer.bus.opened()), (Ok(()), 2));
    });
}

#[test]
fn a_failed_append_fails_alone() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.next(&[Fate::NotDurable, Fate::Full]);
        assert!(matches!(writer.append(2).await, Err(NotAppended::Failed(AppendError::NotDurable(_)))));
        assert!(matches!(writer.append(2).await, Err(NotAppended::Failed(AppendError::Full(_)))));
        assert_eq!(writer.append(1).await, Ok(()));
        assert_eq!((writer.bus.opened(), writer.sequences()), (1, vec![5]));
    });
}

#[test]
fn what_builds_on_a_failed_append_is_not_tried_and_other_lanes_go_on() {
    on_system(async {
        let mut writer = Writer::start();
        let (lane, other) = (writer.journal.lane(1), writer.journal.lane(1));
        writer.bus.next(&[Fate::NotDurable]);
        writer.bus.hold();
        let first = lane.append(vec![writer.shop.sold(1)]);
        writer.bus.begun(1).await;
        let second = lane.append(vec![writer.shop.sold(1)]);
        let elsewhere = other.append(vec![writer.shop.sold(1)]);
        writer.bus.release();
        assert!(matches!(first.await, Err(NotAppended::Failed(AppendError::NotDurable(_)))));
        // Sent by one who does not know yet.
        let third = lane.append(vec![writer.shop.sold(1)]);
        assert_eq!((second.await, third.await), (Err(NotAppended::NotTried), Err(NotAppended::NotTried)));
        assert_eq!(elsewhere.await, Ok(()));
        assert!(lane.is_broken() && !other.is_broken());
        assert_eq!((writer.append(1).await, writer.sequences()), (Ok(()), vec![3, 5]));
    });
}

#[test]
fn an_append_that_found_no_room_breaks_its_lane_at_once() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.hold();
        let accepted: Vec<_> = (0..CAPACITY).map(|_| writer.append(1)).collect();
        let lane = writer.journal.lane(1);
        let refused = lane.append(vec![writer.shop.sold(1)]);
        writer.bus.release();
        assert!(join_all(accepted).await.iter().all(Result::is_ok));
        // There is room again by now, but not for what builds on what was refused.
        let next = lane.append(vec![writer.shop.sold(1)]);
        assert!(matches!(refused.await, Err(NotAppended::Failed(AppendError::NotDurable(_)))));
        assert_eq!(next.await, Err(NotAppended::NotTried));
        assert_eq!(writer.bus.durable().len(), CAPACITY);
    });
}

#[test]
fn a_full_mailbox_refuses_with_certainty() {
    on_system(async {
        let mut writer = Writer::start();
        writer.bus.hold();
        let accepted: Vec<_> = (0..CAPACITY).map(|_| writer.append(1)).collect();
        let refused = writer.append(1).await;
        assert!(matches!(refused, Err(NotAppended::Failed(AppendError::NotDurable(_)))), "{refused:?}");
        writer.bus.release();
        assert!(join_all(accepted).await.iter().all(Result::is_ok));
        assert_eq!(writer.bus.durable().len(), CAPACITY);
    });
}

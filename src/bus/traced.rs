//! The bus as a part of traces: making an event durable is a step of the request it came of, and what a group does
//! with it is a step under the event. Events of traces that nobody records cost nothing.

use crate::domain::event::Event;
use crate::domain::trace::{new_span, span_of};
use crate::ports::bus::{AppendError, Delivery, EventFeed, EventLog, Rejection};
use crate::ports::spans::{Fact, Role, Span, Spans};
use crate::ports::{Open, PortError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A log whose appends are recorded.
pub fn log(open: Open<Box<dyn EventLog>>, spans: Arc<dyn Spans>) -> Open<Box<dyn EventLog>> {
    Arc::new(move || {
        let (opening, spans) = (open(), spans.clone());
        async move { Ok(Box::new(TracedLog { log: opening.await?, spans }) as Box<dyn EventLog>) }.boxed()
    })
}

/// A feed of this group whose deliveries are recorded.
pub fn feed(
    open: Open<Box<dyn EventFeed>>,
    group: &'static str,
    spans: Arc<dyn Spans>,
) -> Open<Box<dyn EventFeed>> {
    Arc::new(move || {
        let (opening, spans) = (open(), spans.clone());
        async move {
            let traced = TracedFeed { feed: opening.await?, group, spans, handed_out: Instant::now() };
            Ok(Box::new(traced) as Box<dyn EventFeed>)
        }
        .boxed()
    })
}

struct TracedLog {
    log: Box<dyn EventLog>,
    spans: Arc<dyn Spans>,
}

struct TracedFeed {
    feed: Box<dyn EventFeed>,
    group: &'static str,
    spans: Arc<dyn Spans>,
    /// When the last events were.
    handed_out: Instant,
}

/// A step with an event, if its trace is recorded.
fn step(event: &Event, verb: &str, took: Duration, failure: Option<&str>) -> Option<Span> {
    let trace = event.trace.as_ref().filter(|trace| trace.is_recorded())?;
    let (own, kind) = (span_of(event.id.0), event.body.kind().as_str());
    let (id, parent, role) = match verb {
        "publish" => (own, trace.span(), Role::Producer),
        _ => (new_span(), own, Role::Consumer),
    };
    let facts = vec![
        ("messaging.operation.type", Fact::from(verb)),
        ("messaging.message.id", Fact::Text(event.id.to_string())),
        ("blend.tenant", Fact::Text(event.tenant.to_string())),
        ("blend.sequence", Fact::Number(i64::try_from(event.sequence).unwrap_or(i64::MAX))),
        ("blend.request_id", Fact::from(&*event.request_id)),
    ];
    let (name, failure) = (format!("{verb} {kind}").into(), failure.map(ToOwned::to_owned));
    Some(Span { trace: trace.id(), id, parent, name, role, took, failure, facts })
}

impl EventLog for TracedLog {
    fn append<'a>(&'a mut self, batch: &'a [Arc<Event>]) -> BoxFuture<'a, Result<(), AppendError>> {
        async move {
            let began = Instant::now();
            let appended = self.log.append(batch).await;
            let failure = appended.as_ref().err().map(ToString::to_string);
            let took = began.elapsed();
            let steps = batch.iter().filter_map(|event| step(event, "publish", took, failure.as_deref()));
            steps.for_each(|span| self.spans.record(span));
            appended
        }
        .boxed()
    }

    fn maintain(&mut self) -> BoxFuture<'_, Result<(), PortError>> {
        self.log.maintain()
    }

    fn has_arrived(&self) -> bool {
        self.log.has_arrived()
    }

    fn is_lost(&self) -> bool {
        self.log.is_lost()
    }
}

impl TracedFeed {
    fn record(&self, delivery: &Delivery, failure: Option<&str>) {
        if let Some(mut span) = step(&delivery.event, "process", self.handed_out.elapsed(), failure) {
            span.facts.push(("messaging.consumer.group.name", Fact::from(self.group)));
            span.facts.push(("blend.attempt", Fact::Number(i64::from(delivery.attempt) + 1)));
            self.spans.record(span);
        }
    }
}

impl EventFeed for TracedFeed {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, PortError>> {
        async move {
            let next = self.feed.next(max).await;
            self.handed_out = Instant::now();
            next
        }
        .boxed()
    }

    fn has_more(&self) -> bool {
        self.feed.has_more()
    }

    fn done<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        deliveries.iter().for_each(|delivery| self.record(delivery, None));
        self.feed.done(deliveries)
    }

    fn gives_up(&self, delivery: &Delivery) -> bool {
        self.feed.gives_up(delivery)
    }

    fn reject<'a>(
        &'a mut self,
        delivery: &'a Delivery,
        cause: &'a str,
    ) -> BoxFuture<'a, Result<Rejection, PortError>> {
        self.record(delivery, Some(cause));
        self.feed.reject(delivery, cause)
    }

    fn postpone<'a>(&'a mut self, deliveries: &'a [Delivery]) -> BoxFuture<'a, Result<(), PortError>> {
        self.feed.postpone(deliveries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::contract;
    use crate::domain::trace::TraceContext;
    use crate::fixtures::Shop;
    use crate::ports::clock::SystemClock;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Span>>);

    impl Spans for Kept {
        fn takes(&self, _: crate::domain::trace::TraceId) -> bool {
            true
        }

        fn record(&self, span: Span) {
            self.0.lock().unwrap().push(span);
        }
    }

    #[tokio::test]
    async fn an_event_is_a_step_under_its_request_and_its_reading_one_under_the_event() {
        let dir = tempfile::tempdir().unwrap();
        let settings = crate::bus::journal::JournalSettings {
            max_bytes: 64 << 20,
            max_backlog: 1_000,
            retain_events: 0,
            tail_events: 100,
            tail_bytes: 1 << 20,
            retries: crate::resilience::retry::RetrySchedule(Vec::new()),
        };
        let path = dir.path().join("journal.db");
        let (journal, _) =
            crate::bus::journal::Journal::open(&path, settings, Arc::new(SystemClock)).await.unwrap();
        let kept = Arc::new(Kept::default());
        let mut log = (log(journal.log(), kept.clone()))().await.unwrap();
        let mut feed = (feed(journal.feed("g"), "g", kept.clone()))().await.unwrap();
        let mut shop = Shop::new(1);
        let mut of = |traceparent: &str| {
            let mut event = (*shop.sold(1)).clone();
            event.trace = TraceContext::parse(traceparent, None).map(Arc::new);
            Arc::new(event)
        };
        let recorded = of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let silent = of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
        log.append(&[recorded.clone(), silent, of("")]).await.unwrap();
        let held = contract::hold(&mut feed, 3).await;
        feed.done(&held[1..]).await.unwrap();
        assert!(feed.gives_up(&held[0]));
        feed.reject(&held[0], "no").await.unwrap();
        let spans = kept.0.lock().unwrap().clone();
        let [published, processed] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((&*published.name, published.role), ("publish sales.created", Role::Producer));
        assert_eq!((published.parent, published.id), (0x00f0_67aa_0ba9_02b7, span_of(recorded.id.0)));
        assert_eq!(published.failure, None);
        assert_eq!((&*processed.name, processed.role), ("process sales.created", Role::Consumer));
        assert_eq!((processed.parent, processed.failure.as_deref()), (published.id, Some("no")));
        assert!(processed.id != published.id && processed.trace == recorded.trace_id());
        assert!(processed.facts.contains(&("messaging.consumer.group.name", Fact::from("g"))));
        // Whoever hears of it goes on under the event.
        assert!(recorded.traceparent().contains(&format!("-{:016x}-01", published.id)));
    }
}

//! Traces to a collector (Jaeger, Tempo, the OpenTelemetry Collector): OTLP over HTTP, bodies in protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Recording a span puts it into a bounded queue; a thread of its own encodes and sends what has gathered, so that no till
//! waits for it. What finds no room, or a collector that is away, is lost and counted.

use crate::config;
use crate::domain::trace::TraceId;
use crate::ports::clock::SharedClock;
use crate::ports::spans::{self, Fact, Role, Spans};
use bytes::Bytes;
use hyper::{Request, Response};
use metrics::Counter;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Spans that wait to be sent, at most.
const ROOM: usize = 16_384;

/// Spans in one request to the collector, at most.
const BATCH: usize = 1_024;

/// How long spans gather.
const EVERY: Duration = Duration::from_millis(500);

/// How long the collector may take for a request, its repeats included.
const PATIENCE: Duration = Duration::from_secs(5);

/// Spans on their way to a collector.
pub struct Traces {
    queue: Arc<Queue>,
    stop: oneshot::Sender<()>,
    over: oneshot::Receiver<()>,
}

impl Traces {
    /// Starts sending, if a collector is set. An error names the setting.
    pub fn start(settings: &config::Traces, clock: SharedClock) -> Result<Option<Self>, String> {
        if settings.endpoint.is_empty() {
            return Ok(None);
        }
        let fail = |error: &dyn std::fmt::Display| format!("traces.endpoint {}: {error}", settings.endpoint);
        let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(|error| fail(&error))?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(client))
            .with_endpoint(settings.url())
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| fail(&error))?;
        let facts = [
            KeyValue::new("service.name", "blend"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        exporter.set_resource(&Resource::builder_empty().with_attributes(facts).build());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| fail(&error))?;
        let ((stop, stopped), (ended, over)) = (oneshot::channel(), oneshot::channel());
        let (sender, receiver) = mpsc::channel(ROOM);
        let lost = metrics::counter!("blend_spans_lost_total");
        let sending =
            Sending { exporter, endpoint: settings.endpoint.clone(), is_away: false, lost: lost.clone() };
        let run = move || {
            runtime.block_on(sending.run(receiver, stopped));
            // Nobody may be waiting for it.
            ended.send(()).ok();
        };
        std::thread::Builder::new().name("traces".into()).spawn(run).map_err(|error| fail(&error))?;
        let scope = InstrumentationScope::builder("blend").build();
        let queue = Arc::new(Queue { sender, per_mille: settings.per_mille.into(), scope, clock, lost });
        Ok(Some(Self { queue, stop, over }))
    }

    /// Where spans go.
    pub fn spans(&self) -> Arc<dyn Spans> {
        self.queue.clone()
    }

    /// Sends what has gathered, if the collector takes it in time.
    pub async fn finish(self) {
        drop(self.stop);
        tokio::time::timeout(PATIENCE, self.over).await.ok();
    }
}

struct Queue {
    sender: mpsc::Sender<SpanData>,
    per_mille: u128,
    scope: InstrumentationScope,
    clock: SharedClock,
    lost: Counter,
}

impl Spans for Queue {
    /// By the id's last bits, which are random: every node decides alike.
    fn takes(&self, trace: TraceId) -> bool {
        trace.bits() % 1_000 < self.per_mille
    }

    fn record(&self, span: spans::Span) {
        let since = u64::try_from(self.clock.now().micros()).unwrap_or_default();
        let end_time = SystemTime::UNIX_EPOCH + Duration::from_micros(since);
        let trace = opentelemetry::trace::TraceId::from(span.trace.bits());
        let (flags, state) = (TraceFlags::SAMPLED, TraceState::NONE);
        let data = SpanData {
            span_context: SpanContext::new(trace, SpanId::from(span.id), flags, false, state),
            parent_span_id: SpanId::from(span.parent),
            // What is done with an event may be under a step of another process, and a request under its caller's.
            parent_span_is_remote: span.role != Role::Producer,
            span_kind: match span.role {
                Role::Server => SpanKind::Server,
                Role::Producer => SpanKind::Producer,
                Role::Consumer => SpanKind::Consumer,
            },
            name: span.name,
            start_time: end_time.checked_sub(span.took).unwrap_or(end_time),
            end_time,
            attributes: span.facts.into_iter().map(fact).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.failure.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        };
        if self.sender.try_send(data).is_err() {
            self.lost.increment(1);
        }
    }
}

fn fact((name, value): (&'static str, Fact)) -> KeyValue {
    let value = match value {
        Fact::Text(text) => Value::from(text),
        Fact::Number(number) => Value::from(number),
    };
    KeyValue::new(name, value)
}

struct Sending {
    exporter: SpanExporter,
    endpoint: String,
    is_away: bool,
    lost: Counter,
}

impl Sending {
    async fn run(mut self, mut queue: mpsc::Receiver<SpanData>, mut stopped: oneshot::Receiver<()>) {
        loop {
            let is_over = tokio::time::timeout(EVERY, &mut stopped).await.is_ok();
            loop {
                let gathered: Vec<_> = std::iter::from_fn(|| queue.try_recv().ok()).take(BATCH).collect();
                if gathered.is_empty() {
                    break;
                }
                self.send(gathered).await;
            }
            if is_over {
                return;
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        match self.exporter.export(batch).await {
            Ok(()) if self.is_away => {
                self.is_away = false;
                tracing::info!(endpoint = self.endpoint, "the collector takes traces again");
            }
            Ok(()) => {}
            Err(error) => {
                self.lost.increment(count);
                if !self.is_away {
                    self.is_away = true;
                    tracing::warn!(endpoint = self.endpoint, %error, "the collector does not take traces; they are lost");
                }
            }
        }
    }
}

/// The one HTTP client of this program, as the exporter wants it.
#[derive(Debug)]
struct Client(reqwest::Client);

impl HttpClient for Client {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let mut answer = self.0.execute(request.try_into()?).await?;
            let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
            let mut response = Response::new(answer.bytes().await?);
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Response as Answer, Routes, ServerLimits, Tables, serve};
    use crate::ports::clock::SystemClock;
    use hyper::StatusCode;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{Span, span};
    use prost::Message as _;
    use tokio::net::TcpListener;

    /// A collector that refuses the first requests; what it was sent comes out of the channel.
    async fn collector(refusals: usize) -> (String, mpsc::Receiver<ExportTraceServiceRequest>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::channel(1_000);
        let left = Arc::new(std::sync::atomic::AtomicUsize::new(refusals));
        let take = move |request: crate::http::Request| {
            let (sender, left) = (sender.clone(), left.clone());
            async move {
                use std::sync::atomic::Ordering::Relaxed;
                let is_refused = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
                assert_eq!(request.headers["content-type"], "application/x-protobuf");
                sender.try_send(ExportTraceServiceRequest::decode(request.body).unwrap()).ok();
                let status = if is_refused { StatusCode::BAD_REQUEST } else { StatusCode::OK };
                Ok(Answer::empty(status))
            }
        };
        let table = Routes::new().post("/v1/traces", take).build().unwrap();
        tokio::spawn(serve(listener, Tables::new(table), ServerLimits::default(), std::future::pending()));
        (format!("http://{address}/"), receiver)
    }

    fn start(endpoint: &str, per_mille: u32) -> Traces {
        let settings = config::Traces { endpoint: endpoint.to_owned(), per_mille };
        Traces::start(&settings, Arc::new(SystemClock)).unwrap().unwrap()
    }

    fn step(id: u64) -> spans::Span {
        spans::Span {
            trace: TraceId::begun_by("0193a5b2-7c1e-7d00-8a11-0123456789ab"),
            id,
            parent: 7,
            name: "POST /api/v1/ventas/checkout".into(),
            role: Role::Server,
            took: Duration::from_millis(40),
            failure: Some("status 503".into()),
            facts: vec![
                ("http.route", Fact::from("/ventas")),
                ("http.response.status_code", Fact::Number(503)),
            ],
        }
    }

    fn sent(request: ExportTraceServiceRequest) -> Vec<Span> {
        let [resource] = <[_; 1]>::try_from(request.resource_spans).unwrap();
        assert!(format!("{:?}", resource.resource).contains("\"blend\""));
        resource.scope_spans.into_iter().flat_map(|scope| scope.spans).collect()
    }

    #[tokio::test]
    async fn a_span_arrives_as_a_collector_reads_it() {
        let (endpoint, mut arrived) = collector(0).await;
        let traces = start(&endpoint, 1_000);
        traces.spans().record(step(0x8a11_0123_4567_89ab));
        let [span] = <[_; 1]>::try_from(sent(arrived.recv().await.unwrap())).unwrap();
        assert_eq!(span.trace_id, 0x0193_a5b2_7c1e_7d00_8a11_0123_4567_89ab_u128.to_be_bytes());
        assert_eq!(span.span_id, 0x8a11_0123_4567_89ab_u64.to_be_bytes());
        assert_eq!(span.parent_span_id, 7_u64.to_be_bytes());
        assert_eq!((span.kind(), &*span.name), (span::SpanKind::Server, "POST /api/v1/ventas/checkout"));
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 40_000_000);
        assert_eq!(span.status.unwrap().message, "status 503");
        let facts = format!("{:?}", span.attributes);
        assert!(facts.contains("\"/ventas\"") && facts.contains("503"), "{facts}");
    }

    #[tokio::test]
    async fn what_has_gathered_is_sent_at_the_end() {
        let (endpoint, mut arrived) = collector(0).await;
        let traces = start(&endpoint, 1_000);
        (1..=3_000).for_each(|id| traces.spans().record(step(id)));
        traces.finish().await;
        let mut all = Vec::new();
        while let Ok(request) = arrived.try_recv() {
            all.extend(sent(request));
        }
        assert_eq!(all.len(), 3_000);
    }

    #[tokio::test]
    async fn a_collector_that_refuses_is_asked_again_with_the_next_spans() {
        let (endpoint, mut arrived) = collector(1).await;
        let traces = start(&endpoint, 1_000);
        for id in [1, 2] {
            traces.spans().record(step(id));
            assert_eq!(sent(arrived.recv().await.unwrap())[0].span_id, u64::to_be_bytes(id));
        }
        traces.finish().await;
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_nobody_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let (told, endpoint) = (recorder.handle(), format!("http://{}", listener.local_addr().unwrap()));
        let traces = metrics::with_local_recorder(&recorder, || start(&endpoint, 1_000));
        // It takes the connection and never answers.
        let spans = traces.spans();
        (1..=3 * ROOM as u64).for_each(|id| spans.record(step(id)));
        let text = told.render();
        let lost = text.lines().find_map(|line| line.strip_prefix("blend_spans_lost_total "));
        // What is not in the queue or in the one request that is under way.
        assert!(lost.unwrap().parse::<usize>().unwrap() >= 2 * ROOM - BATCH, "{text}");
    }

    #[test]
    fn so_many_of_a_thousand_traces_are_taken_and_the_setting_is_named_when_it_is_wrong() {
        let count = |per_mille| {
            let traces = start("http://127.0.0.1:1", per_mille);
            (0..10_000).filter(|n| traces.spans().takes(TraceId::begun_by(&format!("caja-{n}")))).count()
        };
        assert_eq!((count(0), count(1_000)), (0, 10_000));
        assert!((800..1_200).contains(&count(100)), "{}", count(100));
        let started = |endpoint: &str| {
            let settings = config::Traces { endpoint: endpoint.into(), per_mille: 1_000 };
            Traces::start(&settings, Arc::new(SystemClock))
        };
        assert!(started("").unwrap().is_none());
        let error = started("http://a b").map(drop).unwrap_err();
        assert!(error.starts_with("traces.endpoint http://a b: "), "{error}");
    }
}

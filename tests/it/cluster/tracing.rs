//! A trace goes from the till through logs and event to whoever listens at the broker, and its steps to a collector.

use super::{Servers, holds, till_at};
use crate::support::api::{Api, CHECKOUT};
use crate::support::shop::PLAIN;
use crate::support::{PATIENCE, eventually};
use blend::http::{Request, Response, Routes, ServerLimits, Tables, serve};
use futures_util::StreamExt as _;
use hyper::{Method, StatusCode};
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties, Consumer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Somebody else's queue of sales.
async fn listener(url: &str) -> (Connection, Consumer) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (options, none) = (QueueDeclareOptions::default(), FieldTable::default);
    let queue = channel.queue_declare("queue.analytics".into(), options, none()).await.unwrap();
    let (name, bind) = (queue.name().clone(), QueueBindOptions::default());
    channel
        .queue_bind(name.clone(), "blend_events".into(), "sales.created".into(), bind, none())
        .await
        .unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(name, "".into(), options, none()).await.unwrap();
    (connection, consumer)
}

/// Its headers as texts, and its JSON.
async fn heard(consumer: &mut Consumer) -> (impl Fn(&str) -> Option<String> + use<>, serde_json::Value) {
    let delivery = timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().unwrap();
    let headers = delivery.properties.headers().clone().unwrap();
    let text = move |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    };
    (text, serde_json::from_slice(&delivery.data).unwrap())
}

#[tokio::test]
async fn a_trace_goes_from_the_till_to_whoever_listens_to_sales() {
    let servers = Servers::start().await;
    let shop = servers.shop(1_000).await;
    let (_connection, mut consumer) = listener(&servers.rabbitmq.url()).await;
    let given = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let traced = [("traceparent", given.as_str()), ("tracestate", "rojo=1"), ("x-request-id", "caja-7:1")];
    let sold = shop.till.send(Method::POST, CHECKOUT, &traced, shop.basket(&[(PLAIN, "1")])).await.unwrap();
    assert_eq!(sold.status, 201, "{sold:?}");
    let (header, event) = heard(&mut consumer).await;
    let parent = header("traceparent").unwrap();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01"), "{parent}");
    assert_ne!(parent, given, "who listens continues from the event");
    assert_eq!(header("tracestate").as_deref(), Some("rojo=1"));
    assert_eq!(header("x-request-id").as_deref(), Some("caja-7:1"));
    assert_eq!((&event["traceparent"], &event["tracestate"]), (&parent.into(), &"rojo=1".into()));

    // Without a trace, or with a broken one, the request begins one: its id is the request's.
    let sold =
        shop.till.send(Method::POST, CHECKOUT, &[("traceparent", "00-nada")], shop.basket(&[(PLAIN, "1")]));
    let sold = sold.await.unwrap();
    let (header, event) = heard(&mut consumer).await;
    let trace = sold.header("x-request-id").unwrap().replace('-', "");
    assert_eq!(header("traceparent").unwrap()[3..35], trace);
    assert_eq!(event.get("traceparent"), None);

    // What is refused can be found by both names in the log.
    let refused =
        shop.till.send(Method::POST, CHECKOUT, &traced, shop.basket(&[(PLAIN, "5000")])).await.unwrap();
    assert_eq!(refused.status, 400);
    eventually("the refusal is logged", async || {
        let log = shop.server.stderr();
        log.lines().any(|line| line.contains("request_id=caja-7:1") && line.contains(TRACE)).then_some(())
    })
    .await;
    shop.close().await;
}

/// A collector, and the steps that it was sent.
async fn collector() -> (String, mpsc::Receiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, steps) = mpsc::channel(1_000);
    let take = move |request: Request| {
        let sender = sender.clone();
        async move {
            let sent = ExportTraceServiceRequest::decode(request.body).unwrap();
            let scopes = sent.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            scopes.flat_map(|scope| scope.spans).for_each(|span| sender.try_send(span).unwrap());
            Ok(Response::empty(StatusCode::OK))
        }
    };
    let table = Routes::new().post("/v1/traces", take).build().unwrap();
    tokio::spawn(serve(listener, Tables::new(table), ServerLimits::default(), std::future::pending()));
    (format!("http://{address}"), steps)
}

/// Over two nodes: one of them passes what it is asked on to the one that has the shop.
#[tokio::test]
async fn the_steps_of_a_recorded_trace_reach_its_collector_and_of_no_other() {
    let servers = Servers::start().await;
    let (endpoint, mut steps) = collector().await;
    let [one, two] = [(); 2].map(|()| {
        let mut node = servers.node();
        node.set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
        node.set("BLEND_TRACES__PER_MILLE", "0");
        node
    });
    let shop = servers.shop_on(one, 1_000).await;
    let other = two.serve().await;
    holds(&other, 2).await;
    holds(&shop.server, 2).await;
    let sell = async |till: &Api, parent: &str| {
        let headers = [("traceparent", parent)];
        let sold = till.send(Method::POST, CHECKOUT, &headers, shop.basket(&[(PLAIN, "1")])).await;
        assert_eq!(sold.unwrap().status, 201);
    };
    sell(&shop.till, "00-nada").await;
    sell(&shop.till, &format!("00-{TRACE}-00f067aa0ba902b7-00")).await;
    let tills = [shop.till.clone(), till_at(&shop, &other)];
    let traces = [u128::from_str_radix(TRACE, 16).unwrap(), 0xc0de];
    for (till, trace) in tills.iter().zip(traces) {
        sell(till, &format!("00-{trace:032x}-00f067aa0ba902b7-01")).await;
    }
    let mut found = Vec::new();
    while found.len() < 7 {
        found.push(timeout(PATIENCE, steps.recv()).await.expect("a step is missing").unwrap());
    }
    found.sort_by_key(|span: &Span| span.start_time_unix_nano);
    let mut lengths = Vec::new();
    for trace in traces {
        let of_it: Vec<_> = found.iter().filter(|span| span.trace_id == trace.to_be_bytes()).collect();
        let names: Vec<_> = of_it.iter().map(|span| span.name.as_str()).collect();
        let all = ["POST /api/v1/ventas/checkout"; 2].into_iter().chain(["publish sales.created"]);
        let all: Vec<_> = all.chain(["process sales.created"]).collect();
        assert!(names == all || names == all[1..], "{names:?}");
        lengths.push(names.len());
        let mut parent = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes().to_vec();
        for span in of_it {
            assert_eq!(span.parent_span_id, parent, "{}", span.name);
            parent.clone_from(&span.span_id);
        }
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [3, 4]);
    assert!(other.sigterm().await.success());
    shop.close().await;
    assert_eq!(steps.try_recv().ok(), None, "what nobody records was sent");
}

//! What stands in a message.

use super::super::message::{self, Content, History};
use super::*;
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;

#[test]
fn d31_an_event_has_its_id_kind_and_place_beside_its_json() {
    let mut shop = Shop::new(1);
    let event = shop.sold_at(0, &[(0, 1)], Some("key"));
    let properties = message::event(&event, &History::default(), Some("ledger.1"));
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), event.id.to_string());
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "sales.created");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!((*properties.delivery_mode(), *properties.timestamp()), (Some(2), Some(1_767_225_600)));
    let headers = properties.headers().as_ref().unwrap().inner();
    let names: Vec<_> = headers.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["BCC", "traceparent", "x-request-id", "x-sequence", "x-tenant"]);
    let body = message::body(&event).unwrap();
    assert!(matches!(message::read(&properties, &body), Content::Event(read) if read == event));
}

#[test]
fn a_message_has_the_trace_of_its_event_even_after_a_retry() {
    let mut shop = Shop::new(1);
    let header = |event: &Event, history: &History, name: &str| {
        let properties = message::event(event, history, None);
        match properties.headers().as_ref().unwrap().inner().get(name) {
            Some(lapin::types::AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        }
    };
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut event = Arc::unwrap_or_clone(shop.sold(1));
    event.trace = TraceContext::parse(given, Some("rojo=1")).map(Arc::new);
    let retried = History::default().failed(Timestamp::from_micros(1), "why");
    for history in [History::default(), retried] {
        let parent = header(&event, &history, "traceparent").unwrap();
        assert_eq!(parent, event.traceparent());
        assert!(parent.starts_with(&given[..36]) && parent.ends_with("-01"), "{parent}");
        assert_eq!(header(&event, &history, "tracestate").as_deref(), Some("rojo=1"));
    }
    // Where the request came without one it begins the trace.
    let event = shop.sold(1);
    let parent = header(&event, &History::default(), "traceparent").unwrap();
    assert_eq!(parent[3..35], event.trace_id().to_string());
    assert_eq!(header(&event, &History::default(), "tracestate"), None);
}

#[test]
fn failures_are_counted_and_dated_in_the_headers() {
    let (mut shop, moment) = (Shop::new(1), Timestamp::from_micros);
    let once = History::default().failed(moment(1_000_000), "no such unit");
    let long = "ñ".repeat(5_000);
    let twice = once.failed(moment(3_000_000), &long);
    let back = History::of(&message::event(&shop.sold(1), &twice, None));
    assert_eq!(back, twice);
    assert_eq!(back.failures, 2);
    assert_eq!(back.first_failure.as_deref(), Some("1970-01-01T00:00:01.000000Z"));
    assert_eq!(back.last_failure.as_deref(), Some("1970-01-01T00:00:03.000000Z"));
    assert_eq!(back.cause.unwrap().len(), 2_000);
}

#[test]
fn what_is_not_an_event_of_ours_says_why() {
    let mut shop = Shop::new(1);
    let event = message::event(&shop.sold(1), &History::default(), None);
    let why = |properties: &lapin::BasicProperties, body: &[u8]| match message::read(properties, body) {
        Content::Unreadable(why) => why,
        _ => panic!("it was understood"),
    };
    assert!(why(&event, b"{").contains("not readable"));
    assert!(why(&lapin::BasicProperties::default(), b"{}").contains("no type"));
    let failed = message::failed(&event);
    assert!(why(&failed, b"{}").contains("sales.failed"));
}

#[test]
fn what_is_kept_of_an_unreadable_message_neither_expires_nor_goes_elsewhere() {
    let mut headers = lapin::types::FieldTable::default();
    for name in ["CC", "BCC", "x-death", "mine"] {
        headers.insert(name.into(), lapin::types::AMQPValue::Boolean(true));
    }
    let foreign = lapin::BasicProperties::default()
        .with_headers(headers)
        .with_type("t".into())
        .with_message_id("m".into())
        .with_timestamp(7)
        .with_user_id("somebody".into())
        .with_expiration("1".into());
    let kept = message::unreadable(&foreign, Timestamp::from_micros(0), "why");
    assert_eq!((kept.user_id(), kept.expiration(), *kept.timestamp()), (&None, &None, Some(7)));
    assert_eq!((kept.kind(), kept.message_id()), (foreign.kind(), foreign.message_id()));
    let names: Vec<_> = kept.headers().as_ref().unwrap().inner().keys().map(ToString::to_string).collect();
    let expected =
        ["mine", "x-attempts", "x-cause", "x-death", "x-first-failure", "x-group", "x-last-failure"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn neither_settings_nor_errors_tell_the_password() {
    let settings = settings("amqp://blend:s3creto@127.0.0.1:1/%2f".into(), "");
    assert!(!format!("{settings:?}").contains("s3creto"));
    let error = bus(settings.clone()).check().await.unwrap_err();
    assert!(error.is_transient() && !error.to_string().contains("s3creto"), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    let error = bus(RabbitSettings { url: "amqp:s3creto".into(), ..settings }).check().await.unwrap_err();
    assert!(!error.is_transient() && !error.to_string().contains("s3creto"), "{error}");
}

//! Events and the bus's own messages as AMQP messages: properties, headers, and back.
//!
//! An event is its JSON. Its id is the message id, its kind the type; tenant, sequence and request are in headers so
//! that a person can find it, W3C trace context so that a consumer can go on with the trace. What happened to it on the way is in headers too, so that a crash forgets no failure.

use super::names::FAILED;
use crate::domain::event::Event;
use crate::domain::time::Timestamp;
use crate::ports::PortError;
use crate::ports::bus::LEDGER_GROUP;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const BARRIER: &str = "blend.barrier";
const MARKER: &str = "blend.marker";
const END: &str = "blend.end";

const TENANT: &str = "x-tenant";
const SEQUENCE: &str = "x-sequence";
const REQUEST: &str = "x-request-id";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const GROUP: &str = "x-group";
const ATTEMPTS: &str = "x-attempts";
const FIRST_FAILURE: &str = "x-first-failure";
const LAST_FAILURE: &str = "x-last-failure";
const CAUSE: &str = "x-cause";
const STEP: &str = "x-step";
const AT: &str = "x-at";

/// AMQP's "persistent".
const PERSISTENT: u8 = 2;

/// Bytes of a cause that are kept. All headers must fit into one frame, of 128 KiB as brokers come.
const CAUSE_BYTES: usize = 2_000;

/// What happened to a message on its way to a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How often the group failed at it.
    pub failures: u32,
    /// When it failed first and last.
    pub first_failure: Option<String>,
    pub last_failure: Option<String>,
    /// Why it failed last.
    pub cause: Option<String>,
}

impl History {
    /// One more failure.
    pub fn failed(&self, now: Timestamp, cause: &str) -> Self {
        let mut end = cause.len().min(CAUSE_BYTES);
        while !cause.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            failures: self.failures.saturating_add(1),
            first_failure: Some(self.first_failure.clone().unwrap_or_else(|| now.to_string())),
            last_failure: Some(now.to_string()),
            cause: Some(cause[..end].to_owned()),
        }
    }

    /// Out of headers.
    pub fn of(properties: &BasicProperties) -> Self {
        Self {
            failures: number(properties, ATTEMPTS)
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or_default(),
            first_failure: text(properties, FIRST_FAILURE),
            last_failure: text(properties, LAST_FAILURE),
            cause: text(properties, CAUSE),
        }
    }

    fn write(&self, headers: &mut FieldTable) {
        if self.failures > 0 {
            headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(i64::from(self.failures)));
        }
        let texts =
            [(FIRST_FAILURE, &self.first_failure), (LAST_FAILURE, &self.last_failure), (CAUSE, &self.cause)];
        for (name, value) in texts {
            if let Some(value) = value {
                headers.insert(name.into(), long(value));
            }
        }
    }
}

/// What a message of a partition is.
pub enum Content {
    /// An event.
    Event(Arc<Event>),
    /// Somebody wants to know when everything before it is settled.
    Barrier { reply_to: String, correlation: String },
    /// A feed wants to know when everything before it has left the queue of a step.
    Marker { feed: String, step: usize },
    /// Nothing this build understands, and why.
    Unreadable(String),
}

/// Reads a message.
pub fn read(properties: &BasicProperties, body: &[u8]) -> Content {
    let kind = properties.kind().as_ref().map_or("", |kind| kind.as_str());
    match kind {
        "" => Content::Unreadable("the message has no type, so it is not an event".into()),
        BARRIER => {
            let reply_to = properties.reply_to().as_ref().map(ToString::to_string).unwrap_or_default();
            Content::Barrier { reply_to, correlation: correlation(properties) }
        }
        MARKER => {
            let step =
                number(properties, STEP).and_then(|step| usize::try_from(step).ok()).unwrap_or_default();
            Content::Marker { feed: correlation(properties), step }
        }
        kind => match Event::decode(kind, body) {
            Ok(event) => Content::Event(Arc::new(event)),
            Err(error) => Content::Unreadable(error.to_string()),
        },
    }
}

/// The event's JSON.
pub fn body(event: &Event) -> Result<Vec<u8>, PortError> {
    let mut body = Vec::new();
    event.encode(&mut body).map_err(|error| PortError::Permanent(error.to_string()))?;
    Ok(body)
}

/// An event's properties; `partition_key` is the second routing key, if it needs one.
pub fn event(event: &Event, history: &History, partition_key: Option<&str>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(TENANT.into(), long(&event.tenant.to_string()));
    headers
        .insert(SEQUENCE.into(), AMQPValue::LongLongInt(i64::try_from(event.sequence).unwrap_or(i64::MAX)));
    headers.insert(REQUEST.into(), long(&event.request_id));
    headers.insert(TRACEPARENT.into(), long(&event.traceparent()));
    if let Some(state) = event.trace.as_ref().and_then(|trace| trace.state()) {
        headers.insert(TRACESTATE.into(), long(state));
    }
    if let Some(key) = partition_key {
        headers.insert("BCC".into(), AMQPValue::FieldArray(FieldArray::from(vec![long(key)])));
    }
    history.write(&mut headers);
    ours(event.body.kind().as_str(), headers)
        .with_message_id(event.id.to_string().into())
        .with_timestamp(u64::try_from(event.at.seconds()).unwrap_or_default())
}

/// The same message as something that is looked at by people: a dead letter, or the news of one.
pub fn given_up(event_properties: BasicProperties) -> BasicProperties {
    let mut headers = event_properties.headers().clone().unwrap_or_default();
    headers.insert(GROUP.into(), long(LEDGER_GROUP));
    event_properties.with_headers(headers)
}

/// News of an event that was given up, with its JSON as the body.
pub fn failed(dead_letter: &BasicProperties) -> BasicProperties {
    let mut headers = dead_letter.headers().clone().unwrap_or_default();
    let kind = dead_letter.kind().as_ref().map(ToString::to_string).unwrap_or_default();
    headers.insert("x-type".into(), long(&kind));
    dead_letter.clone().with_type(FAILED.into()).with_headers(headers)
}

/// A message that is not understood, as far as it may be repeated, with the reason beside it. Left out is what would
/// make it expire, send it elsewhere, or have the broker refuse it for the name of another user.
pub fn unreadable(properties: &BasicProperties, now: Timestamp, why: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        if !["CC", "BCC"].contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    History::of(properties).failed(now, why).write(&mut headers);
    headers.insert(GROUP.into(), long(LEDGER_GROUP));
    let mut kept = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
    type Text = Option<ShortString>;
    type With = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Text, With); 6] = [
        (properties.content_type(), BasicProperties::with_content_type),
        (properties.content_encoding(), BasicProperties::with_content_encoding),
        (properties.correlation_id(), BasicProperties::with_correlation_id),
        (properties.message_id(), BasicProperties::with_message_id),
        (properties.kind(), BasicProperties::with_type),
        (properties.app_id(), BasicProperties::with_app_id),
    ];
    for (value, with) in texts {
        if let Some(value) = value {
            kept = with(kept, value.clone());
        }
    }
    match properties.timestamp() {
        Some(timestamp) => kept.with_timestamp(*timestamp),
        None => kept,
    }
}

/// With a life of its own, at least one millisecond: what expires at once goes past those that wait before it.
pub fn expiring(properties: BasicProperties, after: Duration) -> BasicProperties {
    properties.with_expiration(after.as_millis().max(1).to_string().into())
}

/// Asks for an answer under `correlation` in the queue `reply_to`.
pub fn barrier(reply_to: &str, correlation: &str) -> BasicProperties {
    let properties = ours(BARRIER, FieldTable::default());
    properties.with_reply_to(reply_to.into()).with_correlation_id(correlation.into())
}

/// The answer to a barrier.
pub fn answer(correlation: &str) -> BasicProperties {
    BasicProperties::default().with_correlation_id(correlation.into())
}

/// Goes through the queue of a step and comes back to the feed.
pub fn marker(feed: Uuid, step: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(STEP.into(), AMQPValue::LongLongInt(i64::try_from(step).unwrap_or(i64::MAX)));
    ours(MARKER, headers).with_correlation_id(feed.to_string().into())
}

/// Behind the last dead letter that a reader is to see.
pub fn end(reader: Uuid, now: Timestamp) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(AT.into(), AMQPValue::LongLongInt(now.micros()));
    ours(END, headers).with_correlation_id(reader.to_string().into())
}

/// Whose end mark it is and since when it is there; `None` when it is a dead letter.
pub fn read_end(properties: &BasicProperties) -> Option<(String, Timestamp)> {
    let is_end = properties.kind().as_ref().is_some_and(|kind| kind.as_str() == END);
    is_end.then(|| {
        let at = number(properties, AT).unwrap_or_default();
        (correlation(properties), Timestamp::from_micros(at))
    })
}

/// The correlation id, or nothing.
pub fn correlation(properties: &BasicProperties) -> String {
    properties.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default()
}

fn ours(kind: &str, headers: FieldTable) -> BasicProperties {
    BasicProperties::default()
        .with_type(kind.into())
        .with_app_id("blend".into())
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn text(properties: &BasicProperties, name: &str) -> Option<String> {
    match header(properties, name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    }
}

fn number(properties: &BasicProperties, name: &str) -> Option<i64> {
    match header(properties, name)? {
        AMQPValue::LongLongInt(number) => Some(*number),
        AMQPValue::LongInt(number) => Some(i64::from(*number)),
        _ => None,
    }
}

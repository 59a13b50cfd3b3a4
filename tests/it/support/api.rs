//! HTTP as a till speaks it. Whatever is refused must be refused in the one form all clients know.

use blend::client::{Answer, Bearer, ClientError, Connection, HttpClient};
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub const CHECKOUT: &str = "/api/v1/ventas/checkout";
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A caller: a server and, mostly, a token.
#[derive(Clone)]
pub struct Api {
    client: HttpClient,
    token: Option<Bearer>,
}

/// An answer that was looked at.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The body, or null when it is no JSON.
    pub json: Value,
}

impl Api {
    pub fn new(url: &str, token: &str) -> Self {
        Self { client: HttpClient::new(url).unwrap(), token: Some(Bearer::new(token).unwrap()) }
    }

    /// Somebody nobody knows.
    pub fn anonymous(url: &str) -> Self {
        Self { client: HttpClient::new(url).unwrap(), token: None }
    }

    pub fn token(&self) -> Option<&Bearer> {
        self.token.as_ref()
    }

    pub fn connection(&self) -> Connection {
        self.client.connection()
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, ClientError> {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let headers: Vec<_> = headers.iter().map(header).collect();
        let answer = self.client.request(method, path, self.token.as_ref(), &headers, body.into()).await?;
        Ok(Reply::of(answer))
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[], "").await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send(Method::POST, path, &[], body).await.unwrap()
    }

    /// A checkout, with a key or without.
    pub async fn checkout(&self, body: impl Into<Bytes>, key: Option<&str>) -> Reply {
        self.checkout_with_keys(body, key.as_slice()).await
    }

    pub async fn checkout_with_keys(&self, body: impl Into<Bytes>, keys: &[&str]) -> Reply {
        let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
        self.send(Method::POST, CHECKOUT, &headers, body).await.unwrap()
    }
}

impl Reply {
    /// Looks at an answer; one that is no success must have the error's envelope.
    pub fn of(answer: Answer) -> Self {
        let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let reply = Self { status: answer.status.as_u16(), headers: answer.headers, body: answer.body, json };
        if !(200..300).contains(&reply.status) {
            reply.assert_envelope();
        }
        reply
    }

    fn assert_envelope(&self) {
        let said = format!("{} {}", self.status, String::from_utf8_lossy(&self.body));
        let text =
            |pointer| self.json.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        assert_eq!(self.json["success"], Value::Bool(false), "{said}");
        assert!(text("/error/message").is_some() && text("/error/code").is_some(), "{said}");
        assert_eq!(text("/request_id"), self.header("x-request-id"), "{said}");
        assert!(text("/request_id").is_some(), "{said}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{said}");
        let known = ["success", "error", "request_id"];
        let fields = self.json.as_object().unwrap();
        assert!(fields.keys().all(|field| known.contains(&field.as_str())), "{said}");
        let inside = self.json["error"].as_object().unwrap();
        let known = ["message", "code", "details", "validation_errors"];
        assert!(inside.keys().all(|field| known.contains(&field.as_str())), "{said}");
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The status and, for a refusal, its code.
    pub fn outcome(&self) -> (u16, &str) {
        (self.status, self.json.pointer("/error/code").and_then(Value::as_str).unwrap_or_default())
    }

    /// The field that a validation error names.
    pub fn wrong_field(&self) -> &str {
        let field = self.json.pointer("/error/validation_errors/0/field").and_then(Value::as_str);
        field.unwrap_or_else(|| panic!("no field is named: {}", self.json))
    }

    /// The details of a refusal.
    pub fn details(&self) -> &Value {
        &self.json["error"]["details"]
    }

    pub fn replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The id of a sale that went through.
    pub fn sale(&self) -> String {
        assert_eq!(self.status, 201, "{}", self.json);
        self.json["venta_id"].as_str().unwrap().to_owned()
    }

    /// A part of the body as it was written, digit for digit: `detalles.0.subtotal`.
    pub fn raw(&self, path: &str) -> String {
        let mut text = String::from_utf8(self.body.to_vec()).unwrap();
        for step in path.split('.') {
            let inside = match step.parse::<usize>() {
                Ok(index) => {
                    serde_json::from_str::<Vec<Box<RawValue>>>(&text).unwrap().into_iter().nth(index)
                }
                Err(_) => serde_json::from_str::<HashMap<String, Box<RawValue>>>(&text).unwrap().remove(step),
            };
            text = inside.unwrap_or_else(|| panic!("{path} is not in {}", self.json)).get().to_owned();
        }
        text
    }
}

/// Sends bytes as they are and reads until the server closes.
pub async fn raw_exchange(address: &str, request: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A server that has heard enough may close before all of it is written; its answer is what counts.
        stream.write_all(request).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(super::PATIENCE, exchange).await.expect("the server neither answered nor closed")
}

/// A raw answer taken apart, its envelope looked at.
pub fn raw_reply(answer: &str) -> Reply {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let mut lines = head.lines();
    let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let status = hyper::StatusCode::from_u16(status).unwrap();
    Reply::of(Answer { status, headers, body: Bytes::from(body.to_owned()) })
}

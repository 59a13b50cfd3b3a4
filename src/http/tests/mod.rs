//! A real server on a real socket, spoken to in bytes.

mod answers;
mod lifecycle;
mod limits;

use super::{ApiError, Request, Response, RouteTable, Routes, ServeOutcome, ServerLimits, Tables, serve};
use hyper::{StatusCode, header::HeaderValue};
use serde::Deserialize;
use std::{collections::HashMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};

/// Longer than any test takes; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(30);
/// A limit a test waits out; long enough that a busy machine does not reach it between two lines of a test.
const SHORT: Duration = Duration::from_millis(250);

/// Runs a test on the runtime the server is made for.
fn on_actix(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test hangs");
    });
}

/// Limits that no test reaches by accident.
fn roomy() -> ServerLimits {
    ServerLimits {
        header_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        body_timeout: PATIENCE,
        write_timeout: PATIENCE,
        shutdown_deadline: PATIENCE,
        ..ServerLimits::default()
    }
}

#[derive(Deserialize)]
struct Item {
    sku: String,
    cantidad: u32,
}

#[derive(Deserialize)]
struct Cart {
    items: Vec<Item>,
}

/// Lets handlers wait for the test and the test for handlers.
#[derive(Clone)]
struct Gate {
    entered: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { entered: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    async fn pass(self) -> Result<Response, ApiError> {
        self.entered.add_permits(1);
        self.open.acquire().await.expect("never closed").forget();
        Response::ok("paso")
    }

    async fn someone_waits(&self) {
        self.entered.acquire().await.expect("never closed").forget();
    }

    fn open(&self) {
        self.open.add_permits(1);
    }
}

async fn cart(request: Request) -> Result<Response, ApiError> {
    let cart: Cart = request.json()?;
    let units: u32 = cart.items.iter().map(|item| item.cantidad).sum();
    let skus: Vec<_> = cart.items.into_iter().map(|item| item.sku).collect();
    Response::created(&serde_json::json!({ "unidades": units, "skus": skus }))
}

async fn hello(request: Request) -> Result<Response, ApiError> {
    let id: uuid::Uuid = request.param("id")?;
    let limit = request.query_in("limit", 1..=100, 20_u32)?;
    Response::ok(&serde_json::json!({ "id": id, "limit": limit, "peer": request.peer.ip() }))
}

async fn size(request: Request) -> Result<Response, ApiError> {
    Response::ok(&request.body.len())
}

async fn large(_: Request) -> Result<Response, ApiError> {
    let type_ = HeaderValue::from_static("application/octet-stream");
    Ok(Response::bytes(StatusCode::OK, type_, vec![b'x'; 64 << 20]))
}

fn panics(_: Request) -> std::future::Ready<Result<Response, ApiError>> {
    panic!("the till is on fire")
}

async fn panics_later(_: Request) -> Result<Response, ApiError> {
    tokio::task::yield_now().await;
    panic!("{} tills are on fire", 2)
}

async fn busy(_: Request) -> Result<Response, ApiError> {
    Err(ApiError::unavailable("ocupado", "Ocupado", 3).caused_by("the password is 1234"))
}

async fn locked(_: Request) -> Result<Response, ApiError> {
    Err(ApiError::unauthorized("no_autenticado", "Falta el token de acceso"))
}

fn table(gate: &Gate) -> Arc<RouteTable> {
    let gate = gate.clone();
    Routes::new()
        .get("/hola/{id}", hello)
        .post("/carrito", cart)
        .post("/medir", size)
        .post("/chico", size)
        .body_limit(8)
        .get("/grande", large)
        .get("/panico", panics)
        .get("/panico/luego", panics_later)
        .get("/ocupado", busy)
        .get("/cerrado", locked)
        .get("/espera", move |_| gate.clone().pass())
        .build()
        .unwrap()
}

struct Server {
    at: SocketAddr,
    gate: Gate,
    tables: Arc<Tables>,
    stop: oneshot::Sender<()>,
    end: JoinHandle<ServeOutcome>,
}

impl Server {
    async fn start(limits: ServerLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, gate) = (listener.local_addr().unwrap(), Gate::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let tables = Tables::new(table(&gate));
        let stopped = async move { drop(stopped.await) };
        let end = tokio::spawn(serve(listener, tables.clone(), limits, stopped));
        Self { at, gate, tables, stop, end }
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.at).await.unwrap(), unread: Vec::new() }
    }

    /// One request on its own connection.
    async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// Tells it to stop and waits for the end.
    async fn stop(self) -> ServeOutcome {
        self.stop.send(()).unwrap();
        self.end.await.unwrap()
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The code of the envelope, which must be complete and carry the id of the header.
    fn code(&self) -> String {
        let json = self.json();
        assert_eq!(json["success"], false);
        assert_eq!(json["request_id"].as_str(), Some(self.headers["x-request-id"].as_str()));
        assert!(json["error"]["message"].is_string());
        json["error"]["code"].as_str().unwrap().to_owned()
    }

    fn is(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:?}");
    }
}

struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the server closes. A reset is a close as well.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.unread);
        self.stream.read_to_end(&mut rest).await.ok();
        rest
    }

    async fn answer(&mut self) -> Answer {
        self.try_answer(true).await.expect("closed without an answer")
    }

    /// The answer to a HEAD, whose length is that of a body that does not come.
    async fn head(&mut self) -> Answer {
        self.try_answer(false).await.expect("closed without an answer")
    }

    /// `None` if the server closes first.
    async fn try_answer(&mut self, with_body: bool) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.unread.drain(..head_end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").filter(|_| with_body).map_or(0, |l| l.parse().unwrap());
        while self.unread.len() < length {
            self.more().await?;
        }
        Some(Answer { status, headers, body: self.unread.drain(..length).collect() })
    }

    async fn more(&mut self) -> Option<()> {
        self.unread.reserve(16 << 10);
        self.stream.read_buf(&mut self.unread).await.ok().filter(|n| *n > 0)?;
        Some(())
    }
}

const ID: &str = "0192f5a0-0000-7000-8000-000000000001";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

//! Helpers of the unit tests.

use crate::client::HttpClient;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// What a fake server is asked.
#[derive(Debug)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// `Idempotency-Key`, if any.
    pub key: Option<String>,
    /// `Authorization`, if any.
    pub token: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// A server in this process that answers what a closure says.
pub struct FakeServer {
    address: SocketAddr,
    connections: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl FakeServer {
    /// Answers with the closure's status and JSON body. Status 299 stands for "hang up without an answer", and 298
    /// for a repeated 201.
    pub async fn start(answer: impl Fn(Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::start_slow(Duration::ZERO, answer).await
    }

    /// The same after a pause.
    pub async fn start_slow(
        pause: Duration,
        answer: impl Fn(Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (count, served, answer) = (Arc::clone(&connections), Arc::clone(&requests), Arc::new(answer));
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (served, answer) = (Arc::clone(&served), Arc::clone(&answer));
                let service = service_fn(move |request| {
                    let (served, answer) = (Arc::clone(&served), Arc::clone(&answer));
                    async move {
                        served.fetch_add(1, Ordering::SeqCst);
                        let asked = read(request).await;
                        if !pause.is_zero() {
                            tokio::time::sleep(pause).await;
                        }
                        reply(answer(asked))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { address, connections, requests, accepting }
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client for it.
    pub fn client(&self) -> HttpClient {
        HttpClient::new(&self.url()).unwrap()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests received so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let header = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
    let (key, token) = (header("idempotency-key"), header("authorization"));
    let path = request.uri().path_and_query().unwrap().to_string();
    Asked { path, key, token, body: request.into_body().collect().await.unwrap().to_bytes() }
}

fn reply((status, body): (u16, String)) -> Result<Response<Full<Bytes>>, HangUp> {
    let response = Response::builder();
    let response = match status {
        299 => return Err(HangUp),
        298 => response.status(StatusCode::CREATED).header("Idempotent-Replayed", "true"),
        status => response.status(status),
    };
    Ok(response.body(Full::new(Bytes::from(body))).unwrap())
}

/// Makes hyper close the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("hang up")]
struct HangUp;

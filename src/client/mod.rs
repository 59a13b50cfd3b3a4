//! A lean HTTP/1.1 keep-alive client, for everything of ours that talks to a running server: the replay and the
//! benches, the command line, the health check and the tests.
//!
//! It often shares two cores with the server under test, so what it costs is what the measurement loses. Hence no
//! connection pool, no redirects, no TLS and no task per request: a [`Connection`] is one socket, and the future of
//! a request drives that socket itself, so an answer wakes exactly one task.

mod target;

pub use target::{Bearer, Target};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};

/// Largest answer that is read. A page of 500 products is about 300 kB; nothing legitimate comes near this.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How long one request may take, connecting included, unless set otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is `https://`. A till or operator outside this machine goes through a proxy that has TLS.
    #[error("{0}: https is not supported, use the http:// address behind the proxy")]
    Https(String),
    /// The address cannot be understood.
    #[error("{0}: not an address of the form http://host:port[/path]")]
    BadAddress(String),
    /// A path, token or header that cannot be sent.
    #[error("{0} cannot be sent in an HTTP request")]
    BadRequest(&'static str),
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, #[source] io::Error),
    /// No complete answer in time. The server may or may not have done what was asked.
    #[error("no answer from {0} within {1:?}")]
    Timeout(String, Duration),
    /// The connection broke. The server may or may not have done what was asked.
    #[error("connection to {0} broke: {1}")]
    Broken(String, #[source] hyper::Error),
    /// The answer is larger than this client reads.
    #[error("the answer of {0} is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge(String),
}

/// A complete answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status line.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The value of a header, when it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON of a known shape.
    pub fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// `error.code` of the wire's error body, when this is one.
    pub fn error_code(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Inner {
            code: String,
        }
        #[derive(serde::Deserialize)]
        struct Outer {
            error: Inner,
        }
        self.json::<Outer>().ok().map(|outer| outer.error.code)
    }
}

/// Where to send requests and how long to wait; cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpClient {
    /// At least one.
    targets: Arc<[Target]>,
    /// Connections made so far.
    made: Arc<AtomicUsize>,
    timeout: Duration,
}

impl HttpClient {
    /// For a server at `http://host[:port][/prefix]`, or for several that do the same, with commas between them:
    /// connections are spread over them, and one that finds its server away or unable goes on to the next.
    pub fn new(base_urls: &str) -> Result<Self, ClientError> {
        let targets: Vec<_> = base_urls.split(',').map(Target::parse).collect::<Result<_, _>>()?;
        Ok(Self { targets: targets.into(), made: Arc::default(), timeout: DEFAULT_TIMEOUT })
    }

    /// Waits this long for each answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A connection of its own. It is opened by the first request, and again when it was lost.
    pub fn connection(&self) -> Connection {
        let at = self.made.fetch_add(1, Ordering::Relaxed) % self.targets.len().max(1);
        Connection { targets: Arc::clone(&self.targets), at, timeout: self.timeout, socket: None }
    }

    /// One request on a connection of its own: for callers that ask once.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&Bearer>,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        self.connection().request(method, path, token, headers, body).await
    }
}

/// One keep-alive connection: one request at a time, reconnecting when needed.
pub struct Connection {
    targets: Arc<[Target]>,
    /// Which of them it goes to.
    at: usize,
    timeout: Duration,
    socket: Option<Socket>,
}

impl Connection {
    /// Sends one request and reads the whole answer.
    ///
    /// A request is sent once. Only when a kept-alive socket turned out to be closed *before any of it was written*
    /// is it sent again on a new socket, because then the server cannot have seen it. Of several servers the next one
    /// gets the next request when this one did not answer or answered 503.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&Bearer>,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let result = self.ask(method, path, token, headers, body).await;
        let unable = match &result {
            Ok(answer) => answer.status == StatusCode::SERVICE_UNAVAILABLE,
            Err(error) => {
                matches!(error, ClientError::Connect(..) | ClientError::Timeout(..) | ClientError::Broken(..))
            }
        };
        if unable && self.targets.len() > 1 {
            (self.at, self.socket) = ((self.at + 1) % self.targets.len(), None);
        }
        result
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        token: Option<&Bearer>,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let request = self.build(method, path, token, headers, body)?;
        let target = &self.targets[self.at];
        // Taken out, so that a caller that drops this future (or a timeout) also drops the socket: the answer to
        // an abandoned request must never be read as the answer to the next one.
        let kept = self.socket.take();
        let Ok(done) = timeout(self.timeout, exchange(target, kept, request)).await else {
            return Err(ClientError::Timeout(target.authority().to_owned(), self.timeout));
        };
        let (answer, socket) = done?;
        self.socket = socket;
        Ok(answer)
    }

    /// Waits this long for each answer from now on.
    pub const fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Whether a socket is held that was open at its last use.
    pub const fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        token: Option<&Bearer>,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let target = &self.targets[self.at];
        let uri: Uri = match target.prefix() {
            "" => path.parse(),
            prefix => format!("{prefix}{path}").parse(),
        }
        .map_err(|_| ClientError::BadRequest("the path"))?;
        let has_body = !body.is_empty();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let map = request.headers_mut();
        map.reserve(headers.len() + 3);
        map.insert(HOST, target.host_header().clone());
        if let Some(token) = token {
            map.insert(AUTHORIZATION, token.header().clone());
        }
        for (name, value) in headers {
            map.append(name, value.clone());
        }
        if has_body && !map.contains_key(CONTENT_TYPE) {
            map.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }
}

/// Sends and reads on the kept socket or a new one; gives the socket back when it can be used again.
async fn exchange(
    target: &Target,
    kept: Option<Socket>,
    mut request: Request<Full<Bytes>>,
) -> Result<(Answer, Option<Socket>), ClientError> {
    if let Some(mut socket) = kept {
        match socket.send(request).await {
            Ok(answer) => return Ok((answer, socket.reusable())),
            Err(SendError::NotSent(unsent)) => request = *unsent,
            Err(SendError::Failed(error)) => return Err(target.explain(error)),
        }
    }
    let mut socket = Socket::open(target).await?;
    match socket.send(request).await {
        Ok(answer) => Ok((answer, socket.reusable())),
        Err(SendError::Failed(error)) => Err(target.explain(error)),
        Err(SendError::NotSent(_)) => Err(ClientError::Connect(
            target.authority().to_owned(),
            io::Error::new(io::ErrorKind::ConnectionAborted, "closed before the request was sent"),
        )),
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

enum SendError {
    /// Nothing of the request was written.
    NotSent(Box<Request<Full<Bytes>>>),
    /// Any of it may have been.
    Failed(BoxError),
}

impl Target {
    fn explain(&self, error: BoxError) -> ClientError {
        let authority = self.authority().to_owned();
        match error.downcast::<hyper::Error>() {
            Ok(error) => ClientError::Broken(authority, *error),
            Err(error) if error.is::<LengthLimitError>() => ClientError::TooLarge(authority),
            Err(error) => ClientError::Connect(authority, io::Error::other(error)),
        }
    }
}

/// An open socket: hyper's sending half and the state machine that moves its bytes.
struct Socket {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection is over.
    driver: Option<Pin<Box<Driver>>>,
}

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

impl Socket {
    async fn open(target: &Target) -> Result<Self, ClientError> {
        let failed = |error| ClientError::Connect(target.authority().to_owned(), error);
        let stream = TcpStream::connect((target.host(), target.port())).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ClientError::Broken(target.authority().to_owned(), error))?;
        Ok(Self { sender, driver: Some(Box::pin(driver)) })
    }

    /// `self` when it can carry another request.
    fn reusable(self) -> Option<Self> {
        (self.driver.is_some() && !self.sender.is_closed()).then_some(self)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, SendError> {
        let Self { sender, driver } = self;
        // Lets the driver notice a peer that hung up since the last answer, and readies it for a request.
        let ready = drive(driver, sender.ready()).await;
        if ready.is_err() {
            return Err(SendError::NotSent(Box::new(request)));
        }
        let exchange = async {
            let response = sender.try_send_request(request).await.map_err(|mut refused| {
                match refused.take_message() {
                    Some(request) => SendError::NotSent(Box::new(request)),
                    None => SendError::Failed(refused.into_error().into()),
                }
            })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(SendError::Failed)?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        drive(driver, exchange).await
    }
}

/// Polls a future and the connection it depends on in one task.
async fn drive<F: Future>(driver: &mut Option<Pin<Box<Driver>>>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        // Twice in a wake-up at most: the first poll hands over the request, the second takes what the driver read.
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        advance(driver, cx);
        future.as_mut().poll(cx)
    })
    .await
}

fn advance(driver: &mut Option<Pin<Box<Driver>>>, cx: &mut Context<'_>) {
    let over = driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready());
    if over {
        // Dropped at once: that is what answers a request still waiting in it. The driver's own error is the same
        // one the request gets.
        *driver = None;
    }
}

#[cfg(test)]
mod tests;

//! The HTTP shell of a stand-in.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

/// A call that is not answered is held for so long: longer than any client waits.
const HELD: Duration = Duration::from_secs(120);

/// What a call is answered with instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, as the marketplace says it.
    Status(u16),
    /// 429 with this `Retry-After`.
    TooMany(u64),
    /// 429 as a proxy says it: plain text, and no word of how long.
    PlainTooMany,
    /// The connection is cut before anything happens.
    Cut,
    /// Everything happens, and the answer is lost.
    CutAfter,
    /// Nothing happens, and nothing is said.
    Hang,
    /// Everything happens, and half of the answer comes.
    Half,
    /// Everything happens, and the answer is of another shape.
    Wrong,
    /// It is carried out late.
    Slow(Duration),
    /// Everything happens, and the answer comes late.
    Late(Duration),
    /// Nothing happens until it is let go.
    Held,
}

impl Fault {
    /// One of each, for choosing at random; what takes time takes this long.
    pub const fn any(slow: Duration) -> [Self; 11] {
        [
            Self::Status(500),
            Self::Status(502),
            Self::Status(503),
            Self::TooMany(0),
            Self::Cut,
            Self::CutAfter,
            Self::Hang,
            Self::Half,
            Self::Wrong,
            Self::Slow(slow),
            Self::Late(slow),
        ]
    }
}

/// A call.
#[derive(Debug)]
pub struct Called {
    /// GET and the like.
    pub method: Method,
    /// Without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// All of them.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Called {
    /// A header's text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers of its own.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// JSON.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, headers: vec![("content-type", "application/json".into())], body: body.to_string() }
    }

    /// Text.
    pub fn text(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

/// What is behind the shell.
pub trait Site: Send + 'static {
    /// Carries a call out.
    fn answer(&mut self, called: &Called) -> Reply;

    /// How it says that it is ill.
    fn ill(&self, status: u16) -> Reply {
        Reply::text(status, "<html>Oops</html>")
    }
}

/// Tells the call that a fault is meant for.
type IsIt = Box<dyn Fn(&Called) -> bool + Send>;

#[derive(Default)]
struct Faults {
    calls: u64,
    next: VecDeque<Fault>,
    /// For the next call that is like this.
    like: Vec<(IsIt, Fault)>,
    /// Every call is a 503.
    away: bool,
    /// Calls of a thousand that meet one of these, and the state of the dice.
    weather: Option<(u64, Vec<Fault>, u64)>,
}

impl Faults {
    fn meets(&mut self, called: &Called) -> Option<Fault> {
        self.calls += 1;
        if self.away {
            return Some(Fault::Status(503));
        }
        if let Some(at) = self.like.iter().position(|(is_it, _)| is_it(called)) {
            return Some(self.like.remove(at).1);
        }
        if let Some(fault) = self.next.pop_front() {
            return Some(fault);
        }
        let (per_mille, faults, seed) = self.weather.as_mut()?;
        let mut roll = || {
            // SplitMix64.
            *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *seed;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        if roll() % 1_000 >= *per_mille {
            return None;
        }
        let index = usize::try_from(roll() % (faults.len().max(1) as u64)).unwrap_or_default();
        faults.get(index).copied()
    }
}

/// What a test does with a stand-in, whatever is behind it.
pub struct Front {
    address: SocketAddr,
    faults: Mutex<Faults>,
    changed: watch::Sender<u64>,
    gate: Notify,
}

impl Front {
    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        locked(&self.faults).calls
    }

    /// Answers to the next calls.
    pub fn next(&self, faults: &[Fault]) {
        locked(&self.faults).next.extend(faults);
    }

    /// What the next call meets that is like this.
    pub fn next_like(&self, is_it: impl Fn(&Called) -> bool + Send + 'static, fault: Fault) {
        locked(&self.faults).like.push((Box::new(is_it), fault));
    }

    /// Whether each of those was met.
    pub fn all_met(&self) -> bool {
        locked(&self.faults).like.is_empty()
    }

    /// Lets the call go on that is held.
    pub fn let_go(&self) {
        self.gate.notify_one();
    }

    /// No more of those, and no more weather.
    pub fn no_more_faults(&self) {
        let mut faults = locked(&self.faults);
        faults.next.clear();
        faults.like.clear();
        faults.weather = None;
    }

    /// So many calls of a thousand meet one of these, chosen by dice that begin with this seed.
    pub fn weather(&self, per_mille: u64, faults: &[Fault], seed: u64) {
        locked(&self.faults).weather = Some((per_mille, faults.to_vec(), seed));
    }

    /// Every call is a 503 until it is back.
    pub fn away(&self, away: bool) {
        locked(&self.faults).away = away;
    }

    /// Waits until something is so; looked at whenever something changed. False when it does not become so in time.
    pub async fn becomes(&self, patience: Duration, is_so: impl Fn() -> bool) -> bool {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !is_so() {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, wait).await.is_ok()
    }

    fn has_changed(&self) {
        self.changed.send_modify(|times| *times += 1);
    }
}

/// A stand-in that listens; it is gone with this value.
pub struct Shell<S> {
    site: Arc<Mutex<S>>,
    front: Arc<Front>,
    accepting: JoinHandle<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Site> Shell<S> {
    /// Listens on a free port of the loopback.
    pub async fn start(site: S) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let front = Arc::new(Front {
            address: listener.local_addr()?,
            faults: Mutex::default(),
            changed: watch::Sender::new(0),
            gate: Notify::new(),
        });
        let site = Arc::new(Mutex::new(site));
        let behind = Behind { site: site.clone(), front: front.clone() };
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                // What cannot be accepted is its client's trouble.
                let Ok((socket, _)) = listener.accept().await else { continue };
                while connections.try_join_next().is_some() {}
                let behind = behind.clone();
                let service = service_fn(move |request| {
                    let behind = behind.clone();
                    async move { behind.serve(request).await }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Ok(Self { site, front, accepting })
    }

    /// What is behind it.
    pub fn site(&self) -> MutexGuard<'_, S> {
        locked(&self.site)
    }

    /// Changes what is behind it, and tells whoever waits.
    pub fn change<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let changed = change(&mut self.site());
        self.front.has_changed();
        changed
    }
}

impl<S> Deref for Shell<S> {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.front
    }
}

impl<S> Drop for Shell<S> {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

struct Behind<S> {
    site: Arc<Mutex<S>>,
    front: Arc<Front>,
}

impl<S> Clone for Behind<S> {
    fn clone(&self) -> Self {
        Self { site: self.site.clone(), front: self.front.clone() }
    }
}

impl<S: Site> Behind<S> {
    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        let (head, body) = request.into_parts();
        let called = Called {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body: body.collect().await.map_err(|_| Cut)?.to_bytes(),
        };
        let fault = locked(&self.front.faults).meets(&called);
        self.front.has_changed();
        match fault {
            Some(Fault::Status(status)) => return written(locked(&self.site).ill(status)),
            Some(Fault::TooMany(seconds)) => {
                let mut reply = Reply::text(429, "Exceeded");
                reply.headers.push(("retry-after", seconds.to_string()));
                return written(reply);
            }
            Some(Fault::PlainTooMany) => return written(Reply::text(429, "local_rate_limited")),
            Some(Fault::Cut) => return Err(Cut),
            Some(Fault::Hang) => {
                tokio::time::sleep(HELD).await;
                return Err(Cut);
            }
            Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
            Some(Fault::Held) => self.front.gate.notified().await,
            Some(Fault::CutAfter | Fault::Half | Fault::Wrong | Fault::Late(_)) | None => {}
        }
        let mut reply = locked(&self.site).answer(&called);
        self.front.has_changed();
        match fault {
            Some(Fault::CutAfter) => return Err(Cut),
            Some(Fault::Half) => {
                reply.body = reply.body.chars().take(reply.body.chars().count() / 2).collect()
            }
            Some(Fault::Late(pause)) => tokio::time::sleep(pause).await,
            Some(Fault::Wrong) => reply.body = r#"{"ok":"yes"}"#.into(),
            _ => {}
        }
        written(reply)
    }
}

fn written(reply: Reply) -> Result<Response<Full<Bytes>>, Cut> {
    let mut builder = Response::builder().status(StatusCode::from_u16(reply.status).map_err(|_| Cut)?);
    for (name, value) in reply.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(Bytes::from(reply.body))).map_err(|_| Cut)
}

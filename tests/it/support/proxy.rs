//! The network between a node and a server: it can be slow, stand still or be cut, and it can do something at the
//! very moment at which certain bytes pass.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// As if it were not there.
    Fair,
    /// Everything comes so much later.
    Slow(Duration),
    /// Connections stay open, and can be opened, but nothing comes through.
    Still,
    /// Connections break, and new ones at once.
    Cut,
}

/// Which bytes a gate waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those of a request, from the node.
    Request,
    /// Those that come back after the request on the same connection.
    Reply,
}

/// A moment on the way, and what happens then, once.
pub struct Gate {
    /// What stands in the request.
    pub pattern: &'static [u8],
    /// How many such requests pass before.
    pub skip: u64,
    pub side: Side,
    /// Whether the bytes pass before it happens. Else they pass after it, unless the connection is gone then.
    pub passes_first: bool,
    pub act: Act,
}

/// What happens at a gate.
#[derive(Clone)]
pub enum Act {
    /// Something is done and the connection breaks.
    Do(Arc<dyn Fn() + Send + Sync>),
    /// The connection breaks.
    Cut,
    /// The connection stands still for a while.
    Delay(Duration),
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Do(_) => f.write_str("kill"),
            Self::Cut => f.write_str("cut"),
            Self::Delay(_) => f.write_str("delay"),
        }
    }
}

/// A port that leads to another.
pub struct Proxy {
    port: u16,
    target: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    weather: watch::Sender<Weather>,
    gate: Mutex<Option<Gate>>,
    /// Whether what the gate is for has happened.
    happened: watch::Sender<bool>,
    /// Connections that were made.
    made: AtomicU64,
}

impl Proxy {
    /// In front of a port of this machine.
    pub async fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            weather: watch::Sender::new(Weather::Fair),
            gate: Mutex::new(None),
            happened: watch::Sender::new(false),
            made: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, target, shared.clone()));
        Self { port, target, shared, accepting }
    }

    /// The url of the server, through here.
    pub fn through(&self, url: &str) -> String {
        let (target, port) = (format!(":{}", self.target), format!(":{}", self.port));
        assert!(url.contains(&target), "{url} is not at {target}");
        url.replacen(&target, &port, 1)
    }

    /// The weather changes, also for connections that are open.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// How many connections were made so far.
    pub fn made(&self) -> u64 {
        self.shared.made.load(Ordering::Relaxed)
    }

    /// Sets up a gate in the place of any other.
    pub fn arm(&self, gate: Gate) {
        self.shared.happened.send_replace(false);
        *self.shared.gate.lock().unwrap() = Some(gate);
    }

    /// Waits until something has reached the gate, and what it is for has happened or, of a delay, begun.
    pub async fn reached(&self) {
        let mut happened = self.shared.happened.subscribe();
        let wait = happened.wait_for(|happened| *happened);
        timeout(super::PATIENCE, wait).await.expect("nothing passed the gate").unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Weather::Cut);
    }
}

async fn accept(listener: TcpListener, target: u16, shared: Arc<Shared>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        shared.made.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            if *shared.weather.borrow() == Weather::Cut {
                return;
            }
            // A server that is not there is what the client sees as a connection that breaks.
            let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            link(client, server, shared).await;
        });
    }
}

/// One connection, until either end is gone or it is cut.
async fn link(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // Whether the gate's request has passed on this connection, so that its reply is next.
    let asked = Mutex::new(false);
    let cut = async {
        let mut weather = shared.weather.subscribe();
        weather.wait_for(|weather| *weather == Weather::Cut).await.map(drop).unwrap();
    };
    tokio::select! {
        () = cut => {}
        () = pump(Side::Request, from_client, to_server, &shared, &asked) => {}
        () = pump(Side::Reply, from_server, to_client, &shared, &asked) => {}
    }
}

/// Moves bytes one way until the end, or until a gate says that it is over.
async fn pump(
    side: Side,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    asked: &Mutex<bool>,
) {
    let (mut buffer, mut seen) = (vec![0; 64 << 10], Vec::new());
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let bytes = &buffer[..count];
        let mut weather = shared.weather.subscribe();
        let now = *weather.wait_for(|weather| *weather != Weather::Still).await.unwrap();
        if let Weather::Slow(by) = now {
            sleep(by).await;
        }
        let gate = shared.gate_at(side, bytes, &mut seen, asked);
        let passes_first = gate.as_ref().is_none_or(|gate| gate.passes_first);
        if passes_first && to.write_all(bytes).await.is_err() {
            return;
        }
        let Some(gate) = gate else { continue };
        if let Act::Do(act) = &gate.act {
            act();
        }
        shared.happened.send_replace(true);
        match gate.act {
            Act::Do(_) | Act::Cut => return,
            Act::Delay(by) => sleep(by).await,
        }
        if !passes_first && to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// The gate, taken away, if these bytes are at it. `seen` keeps the end of what passed before, for a pattern may
    /// come in two pieces.
    fn gate_at(&self, side: Side, bytes: &[u8], seen: &mut Vec<u8>, asked: &Mutex<bool>) -> Option<Gate> {
        let mut armed = self.gate.lock().unwrap();
        let mut asked = asked.lock().unwrap();
        let Some(gate) = armed.as_mut() else {
            // What was asked before a gate was set up is no business of that gate.
            (*asked, *seen) = (false, Vec::new());
            return None;
        };
        if side == Side::Reply {
            return if *asked { armed.take() } else { None };
        }
        seen.extend_from_slice(bytes);
        let found = seen.windows(gate.pattern.len()).filter(|window| *window == gate.pattern).count() as u64;
        let keep = seen.len().saturating_sub(gate.pattern.len() - 1);
        seen.drain(..keep);
        if found <= gate.skip {
            gate.skip -= found;
            return None;
        }
        if gate.side == Side::Request {
            return armed.take();
        }
        *asked = true;
        None
    }
}

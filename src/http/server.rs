//! The accept loop around warp's service: what `warp::serve` does, with limits and an end.

use super::{
    connection::{Activity, Deadlines, Guard, Socket, observed},
    edge::{self, Edge},
    routes::Tables,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

/// How long to wait when the kernel has no file descriptor for us.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);
/// hyper refuses a smaller buffer.
const MIN_HEADER_BYTES: usize = 8 << 10;

/// Everything a client could otherwise have too much of.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at one time; more wait in the kernel's queue.
    pub max_connections: usize,
    /// From a header's first byte, or from the connection's start, to the header's end.
    pub header_timeout: Duration,
    /// From the end of an answer to the next request's first byte.
    pub idle_timeout: Duration,
    /// From the header's end to the body's.
    pub body_timeout: Duration,
    /// How long the peer may take no byte of an answer.
    pub write_timeout: Duration,
    /// Size of a header, at least 8 KiB. The number of its lines is limited to hyper's 100.
    pub max_header_bytes: usize,
    /// Size of a body, where the route says nothing else.
    pub max_body_bytes: usize,
    /// How long requests may go on after the stop.
    pub shutdown_deadline: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 1_024,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(20),
            max_header_bytes: 32 << 10,
            max_body_bytes: 1 << 20,
            shutdown_deadline: Duration::from_secs(10),
        }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeOutcome {
    /// Connections cut at the deadline; 0 if all had ended by themselves.
    pub cut: usize,
}

/// Serves the table in force on the listener until `stop` resolves; then refuses new connections, lets requests under way
/// end, and cuts what is left at the deadline.
///
/// Every connection is a task of the runtime this runs on. On an actix System that is one thread, which the actors
/// share: a request reaches its actor without waking another thread.
pub async fn serve(
    listener: TcpListener,
    tables: Arc<Tables>,
    limits: ServerLimits,
    stop: impl Future<Output = ()>,
) -> ServeOutcome {
    let server = Arc::new(Server::new(tables, &limits));
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let (tell, told) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        // The permit is part of what stop can interrupt: a full house must still hear it.
        let next = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = next => accepted,
        };
        // Ended tasks are taken out here, so the set never holds more than the cap plus one.
        while connections.try_join_next().is_some() {}
        match accepted {
            (Ok(permit), Ok((stream, peer))) => {
                let connection = Connection { stream, peer, permit };
                connections.spawn(server.clone().run(connection, told.clone()));
            }
            (_, Err(error)) => back_off(&error).await,
            // Nobody closes the semaphore.
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    tell.send_replace(true);
    let drain = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.shutdown_deadline, drain).await.is_err() {
        // Out go those that ended in the very last moment; the rest is cut.
        while connections.try_join_next().is_some() {}
    }
    let cut = connections.len();
    if cut > 0 {
        tracing::warn!(connections = cut, "shutdown deadline passed, connections cut");
    }
    connections.shutdown().await;
    ServeOutcome { cut }
}

async fn back_off(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    // The peer left between its SYN and our accept: nothing of ours is short.
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(%error, "accept failed");
    tokio::time::sleep(ACCEPT_BACK_OFF).await;
}

struct Connection {
    stream: TcpStream,
    peer: std::net::SocketAddr,
    permit: OwnedSemaphorePermit,
}

struct Server {
    http: http1::Builder,
    edge: Arc<Edge>,
    deadlines: Deadlines,
}

impl Server {
    fn new(tables: Arc<Tables>, limits: &ServerLimits) -> Self {
        let mut http = http1::Builder::new();
        let header_bytes = limits.max_header_bytes.max(MIN_HEADER_BYTES);
        // No timer: the guard keeps the clocks.
        http.header_read_timeout(None).max_header_size(header_bytes).max_buf_size(header_bytes);
        let edge = Edge { tables, body_limit: limits.max_body_bytes, body_timeout: limits.body_timeout };
        let deadlines = Deadlines {
            idle: limits.idle_timeout,
            header: limits.header_timeout,
            write: limits.write_timeout,
        };
        Self { http, edge: Arc::new(edge), deadlines }
    }

    async fn run(self: Arc<Self>, connection: Connection, told: watch::Receiver<bool>) {
        let Connection { stream, peer, permit } = connection;
        if let Err(error) = stream.set_nodelay(true) {
            // The peer has gone already; the first read will say so.
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let activity = Arc::new(Activity::default());
        let socket = TokioIo::new(Socket::new(stream, activity.clone()));
        let service = TowerToHyperService::new(warp::service(edge::filter(self.edge.clone(), peer)));
        let http = self.http.serve_connection(socket, observed(service, activity.clone())).with_upgrades();
        match Guard::new(http, activity, self.deadlines, told).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%peer, %error, "connection ended"),
            None => tracing::debug!(%peer, "connection timed out"),
        }
        drop(permit);
    }
}

//! The listening side: logins, requests, answers step by step.

use super::answer::{Answer, COLLATION, short_text};
use super::wire::{Reader, Request, Type, Value, read_message};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Who may come in.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: String,
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    Columns(Vec<(&'static str, Type)>),
    Row(Vec<Value>),
    /// Number, class, text.
    Error(u32, u8, String),
    Info(String),
    /// Rows affected by a statement without a result.
    Done(u64),
    Sleep(Duration),
    /// The connection ends here, in the middle of a packet.
    Cut,
}

/// Says what to answer.
pub type Handler = Arc<dyn Fn(&Request) -> Vec<Step> + Send + Sync>;

/// A server on a port of this machine. Dropped, it and all its connections are gone at once.
pub struct SqlServerStandIn {
    address: SocketAddr,
    logins: Arc<AtomicU64>,
    statements: Arc<Mutex<Vec<Request>>>,
    accepting: JoinHandle<()>,
}

impl Drop for SqlServerStandIn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Statements that are remembered at most.
const REMEMBERED: usize = 10_000;

struct Shared {
    login: Login,
    handler: Handler,
    logins: Arc<AtomicU64>,
    statements: Arc<Mutex<Vec<Request>>>,
}

impl Shared {
    fn remember(&self, request: Request) {
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        if statements.len() < REMEMBERED {
            statements.push(request);
        }
    }
}

impl SqlServerStandIn {
    /// Listens on an address; port 0 takes a free one.
    pub async fn start(address: &str, login: Login, handler: Handler) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (logins, statements) = (Arc::default(), Arc::default());
        let shared = Arc::new(Shared {
            login,
            handler,
            logins: Arc::clone(&logins),
            statements: Arc::clone(&statements),
        });
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    if let Err(error) = serve(socket, &shared).await {
                        tracing::debug!(%error, "a client of the stand-in is gone");
                    }
                });
            }
        });
        Ok(Self { address, logins, statements, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many logins succeeded.
    pub fn logins(&self) -> u64 {
        self.logins.load(Ordering::SeqCst)
    }

    /// Every statement since this was last asked, in the order in which they came; of very many the first.
    pub fn take_statements(&self) -> Vec<Request> {
        std::mem::take(&mut *self.statements.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(mut socket: TcpStream, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if read_message(&mut socket).await?.0 != 0x12 {
        return Ok(());
    }
    let mut answer = Answer::default();
    // VERSION (6 bytes at 11), ENCRYPTION (1 byte at 17): not supported.
    answer.bytes = vec![0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 15, 0, 0x07, 0xD0, 0, 0, 2];
    answer.flush(&mut socket, true).await?;
    let (kind, body) = read_message(&mut socket).await?;
    if kind != 0x10 || !log_in(&mut socket, &body, shared).await? {
        return Ok(());
    }
    loop {
        let (kind, body) = read_message(&mut socket).await?;
        match kind {
            1 | 3 => match Reader(&body).request(kind) {
                Ok(request) => {
                    let steps = (shared.handler)(&request);
                    let rpc = request.rpc;
                    shared.remember(request);
                    if !reply(&mut socket, rpc, steps).await? {
                        return Ok(());
                    }
                }
                Err(error) => {
                    let steps = vec![Step::Error(50_000, 16, error.to_string())];
                    reply(&mut socket, kind == 3, steps).await?;
                }
            },
            6 => attention(&mut socket).await?,
            _ => return Ok(()),
        }
    }
}

async fn attention(socket: &mut TcpStream) -> io::Result<()> {
    let mut answer = Answer::default();
    answer.done(0xFD, 0x20, 0);
    answer.flush(socket, true).await
}

async fn log_in(socket: &mut TcpStream, body: &[u8], shared: &Shared) -> io::Result<bool> {
    let [user, password, database] = Reader(body).login()?;
    let mut answer = Answer::default();
    let known = user == shared.login.user && password == shared.login.password;
    if known {
        shared.logins.fetch_add(1, Ordering::SeqCst);
        let mut change = vec![1];
        short_text(&mut change, &database);
        short_text(&mut change, "master");
        answer.token(0xE3, &change);
        answer.token(0xE3, &[&[7, 5], COLLATION.as_slice(), &[0]].concat());
        let mut change = vec![4];
        short_text(&mut change, "4096");
        short_text(&mut change, "4096");
        answer.token(0xE3, &change);
        let mut accepted = vec![1, 0x74, 0, 0, 4];
        short_text(&mut accepted, "Microsoft SQL Server");
        accepted.extend([15, 0, 7, 0xD0]);
        answer.token(0xAD, &accepted);
        answer.done(0xFD, 0, 0);
    } else {
        answer.message(0xAA, 18_456, 14, &format!("Login failed for user '{user}'."));
        answer.done(0xFD, 2, 0);
    }
    answer.flush(socket, true).await?;
    Ok(known)
}

/// Sends the steps; false when the connection is to end.
async fn reply(socket: &mut TcpStream, rpc: bool, steps: Vec<Step>) -> io::Result<bool> {
    let mut answer = Answer::default();
    let mut columns: Option<Vec<(&'static str, Type)>> = None;
    let (mut rows, mut failed) = (0, false);
    let done = if rpc { 0xFF } else { 0xFD };
    for step in steps {
        match step {
            Step::Columns(new) => {
                if columns.is_some() {
                    answer.done(done, 0x11, rows);
                }
                rows = 0;
                answer.columns(&new);
                columns = Some(new);
            }
            Step::Row(row) => {
                answer.row(columns.as_deref().unwrap_or_default(), &row);
                rows += 1;
                answer.flush(socket, false).await?;
            }
            Step::Error(number, class, text) => {
                answer.message(0xAA, number, class, &text);
                failed = true;
            }
            Step::Info(text) => answer.message(0xAB, 0, 0, &text),
            Step::Done(affected) => answer.done(done, 0x11, affected),
            Step::Cut => {
                answer.cut(socket).await?;
                return Ok(false);
            }
            Step::Sleep(pause) => {
                answer.flush(socket, false).await?;
                let mut head = [0; 1];
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    peeked = socket.peek(&mut head) => {
                        if peeked? == 0 {
                            return Ok(false);
                        }
                        // Only an attention comes before the answer is complete.
                        read_message(socket).await?;
                        attention(socket).await?;
                        return Ok(true);
                    }
                }
            }
        }
    }
    let status = if failed {
        2
    } else if rows > 0 {
        0x10
    } else {
        0
    };
    if rpc {
        answer.done(0xFF, status | 1, rows);
        answer.bytes.extend([0x79, 0, 0, 0, 0]);
        answer.done(0xFE, if failed { 2 } else { 0 }, 0);
    } else {
        answer.done(0xFD, status, rows);
    }
    answer.flush(socket, true).await?;
    Ok(true)
}

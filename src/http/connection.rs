//! One connection and its clocks.
//!
//! hyper has one timer for "waiting for a header", which is too long for half a header or too short for an idle till.
//! So the socket, the service and the answer's body report what the connection is doing, and a guard around it keeps
//! the one deadline that follows from that: idle, half a header, or a peer that takes no more bytes. While a handler
//! works there is none. The timer is only moved when a new deadline comes before the armed one, so a busy connection
//! never touches it.

use super::refusal;
use bytes::{Buf, Bytes};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1::UpgradeableConnection,
    service::{HttpService, Service, service_fn},
};
use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep_until},
};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// Some of a header has come.
    Header,
    /// A request is being answered.
    Busy,
}

/// What a connection is doing, told by the socket, the service and the body, read by the guard. All of them run in
/// the connection's task; the atomics are there because hyper wants an upgraded connection's parts to be `Send`.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Times the phase has changed, times four, plus the phase: two visits to the same phase are not the same.
    phase: AtomicU64,
    /// Times the peer has stopped or begun to take bytes: odd while it does not.
    stalls: AtomicU64,
}

impl Activity {
    fn enter(&self, phase: Phase) {
        self.phase.store((self.phase.load(Relaxed) & !3) + 4 + phase as u64, Relaxed);
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) & 3 {
            0 => Phase::Idle,
            1 => Phase::Header,
            _ => Phase::Busy,
        }
    }

    fn is_stalled(&self) -> bool {
        self.stalls.load(Relaxed) % 2 == 1
    }

    fn stalled(&self, now: bool) {
        if self.is_stalled() != now {
            self.stalls.store(self.stalls.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    fn mark(&self) -> (u64, u64) {
        (self.phase.load(Relaxed), self.stalls.load(Relaxed))
    }
}

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) idle: Duration,
    pub(super) header: Duration,
    pub(super) write: Duration,
}

impl Deadlines {
    fn of(&self, activity: &Activity) -> Option<Duration> {
        if activity.is_stalled() {
            return Some(self.write);
        }
        match activity.phase() {
            Phase::Idle => Some(self.idle),
            Phase::Header => Some(self.header),
            Phase::Busy => None,
        }
    }
}

/// A connection that can be told to answer what it has begun and end. hyper-util's helper for this does not take
/// connections that can be upgraded.
pub(super) trait Graceful: Future {
    fn stop(self: Pin<&mut Self>);
}

impl<I, S, B> Graceful for UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B, Error: Into<Box<dyn Error + Send + Sync>>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    fn stop(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Runs a connection to its end, to its deadline, or gracefully to the end of its last answer.
pub(super) struct Guard<C> {
    connection: Pin<Box<C>>,
    activity: Arc<Activity>,
    deadlines: Deadlines,
    seen: (u64, u64),
    due: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    stop: watch::Receiver<bool>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    stopping: bool,
    polled: bool,
}

impl<C: Graceful> Guard<C> {
    /// `stop` changes once, when the server stops.
    pub(super) fn new(
        connection: C,
        activity: Arc<Activity>,
        deadlines: Deadlines,
        stop: watch::Receiver<bool>,
    ) -> Self {
        // A connection that never says a word is in the middle of its first header, not idle.
        activity.enter(Phase::Header);
        let due = Instant::now() + deadlines.header;
        let mut told = stop.clone();
        Self {
            connection: Box::pin(connection),
            seen: activity.mark(),
            activity,
            deadlines,
            due: Some(due),
            timer: Box::pin(sleep_until(due)),
            stop,
            stopped: Box::pin(async move {
                // That the server is gone means the same as that it stops.
                told.changed().await.ok();
            }),
            stopping: false,
            polled: false,
        }
    }
}

impl<C: Graceful> Future for Guard<C> {
    /// What the connection came to; `None` if it was cut.
    type Output = Option<C::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // The stop and the timer are given our waker once; afterwards a glance says whether they have something.
        let first = !std::mem::replace(&mut this.polled, true);
        if !this.stopping
            && (this.stop.has_changed().unwrap_or(true)
                || (first && this.stopped.as_mut().poll(cx).is_ready()))
        {
            this.stopping = true;
            this.connection.as_mut().stop();
        }
        if let Poll::Ready(end) = this.connection.as_mut().poll(cx) {
            return Poll::Ready(Some(end));
        }
        let mut moved = first;
        let mark = this.activity.mark();
        if mark != this.seen {
            this.seen = mark;
            this.due = this.deadlines.of(&this.activity).map(|after| Instant::now() + after);
            if let Some(due) = this.due.filter(|due| *due < this.timer.deadline()) {
                this.timer.as_mut().reset(due);
                moved = true;
            }
        }
        while moved || this.timer.is_elapsed() {
            if this.timer.as_mut().poll(cx).is_pending() {
                break;
            }
            let now = Instant::now();
            match this.due {
                Some(due) if due <= now => return Poll::Ready(None),
                // It was armed for an earlier phase. Without a deadline it looks again later, because a phase that
                // begins in the meantime only moves it forward.
                due => this.timer.as_mut().reset(due.unwrap_or(now + this.deadlines.idle)),
            }
            moved = true;
        }
        Poll::Pending
    }
}

/// The socket, which sees a header begin, a peer stop reading, and hyper refuse what it cannot read.
pub(super) struct Socket<S> {
    inner: S,
    activity: Arc<Activity>,
    /// What is still to be written in place of hyper's own words.
    instead: Option<Bytes>,
}

impl<S> Socket<S> {
    pub(super) fn new(inner: S, activity: Arc<Activity>) -> Self {
        Self { inner, activity, instead: None }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.stalled(result.is_pending());
        result
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    /// Writes the replacement, then reports the replaced bytes as written.
    fn poll_write_instead(&mut self, cx: &mut Context<'_>, replaced: usize) -> Poll<io::Result<usize>> {
        while let Some(rest) = self.instead.as_mut().filter(|rest| !rest.is_empty()) {
            let result = Pin::new(&mut self.inner).poll_write(cx, rest);
            self.activity.stalled(result.is_pending());
            match ready!(result)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => rest.advance(written),
            }
        }
        self.instead = None;
        Poll::Ready(Ok(replaced))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before && self.activity.phase() == Phase::Idle {
            self.activity.enter(Phase::Header);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_none() && self.activity.phase() != Phase::Busy {
            self.instead = refusal::in_full(buf).map(Bytes::from);
        }
        if self.instead.is_some() {
            return self.poll_write_instead(cx, buf.len());
        }
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A refusal of hyper's is a head without a body, so it is all there is to write.
        if let [head] = bufs {
            return self.poll_write(cx, head);
        }
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// warp's service, which sees a request begin and an answer's body end.
pub(super) fn observed<S, B>(
    service: S,
    activity: Arc<Activity>,
) -> impl Service<
    hyper::Request<Incoming>,
    Response = hyper::Response<Answer<B>>,
    Error = Infallible,
    Future: Send + 'static,
>
where
    S: Service<
            hyper::Request<Incoming>,
            Response = hyper::Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        >,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
{
    service_fn(move |request| {
        activity.enter(Phase::Busy);
        let (answer, activity) = (service.call(request), activity.clone());
        async move { Ok(answer.await?.map(|body| Answer { body, activity })) }
    })
}

/// An answer's body, whose drop is the end of the request.
pub(super) struct Answer<B> {
    body: B,
    activity: Arc<Activity>,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.activity.enter(Phase::Idle);
    }
}

//! The answer to an ask.

use super::vitals::Vitals;
use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// Why an ask was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The mailbox is full: not accepted, nothing happened. Try later.
    #[error("the actor's mailbox is full")]
    Full,
    /// The actor is gone or going. If the ask had been accepted, its outcome is unknown.
    #[error("the actor is stopped")]
    Stopped,
    /// The actor failed while it had the message: the outcome is unknown.
    #[error("the actor failed before it answered")]
    Crashed,
    /// The actor took longer than its limit and was cut short: the outcome is unknown.
    #[error("the actor took too long to answer")]
    TimedOut,
}

thread_local! {
    /// Set while the kit drops a handler that ran out of time, so that the replies inside can say why they die.
    static CUTTING_SHORT: Cell<bool> = const { Cell::new(false) };
}

/// Drops what timed out; its unanswered replies tell their askers `TimedOut`.
pub(crate) fn cut_short<T>(victim: T) {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            CUTTING_SHORT.set(false);
        }
    }
    CUTTING_SHORT.set(true);
    let _reset = Reset;
    drop(victim);
}

/// Where the answer to one ask goes: a field of the message.
///
/// It may be moved away and answered later, after the handler returned, from any thread. The ask occupies its place in
/// the mailbox until then, so work that waits behind an actor counts against its bound. Dropped unanswered, it tells
/// the asker [`AskError::Crashed`], or `Stopped` when the actor is gone.
#[must_use = "an asker is waiting; dropping the reply tells it that the actor crashed"]
pub struct Reply<R> {
    asker: Option<oneshot::Sender<Result<R, AskError>>>,
    vitals: Arc<Vitals>,
}

impl<R> Reply<R> {
    /// The caller has taken a place in the mailbox; the reply gives it back.
    pub(crate) fn new(vitals: Arc<Vitals>) -> (Self, Answer<R>) {
        let (asker, answer) = oneshot::channel();
        (Self { asker: Some(asker), vitals }, Answer(Waiting::For(answer)))
    }

    /// Answers. An asker that went away meanwhile is no error.
    pub fn send(mut self, value: R) {
        self.finish(Ok(value));
    }

    /// Whether nobody waits any more. The message still counts: an asker that left cancels nothing.
    pub fn is_abandoned(&self) -> bool {
        self.asker.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn finish(&mut self, outcome: Result<R, AskError>) {
        if let Some(asker) = self.asker.take() {
            // First the place, then the answer: who is answered and asks again must find room.
            self.vitals.release();
            drop(asker.send(outcome));
        }
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        if self.asker.is_some() {
            let why = if self.vitals.stopped() {
                AskError::Stopped
            } else if CUTTING_SHORT.get() {
                AskError::TimedOut
            } else {
                AskError::Crashed
            };
            self.finish(Err(why));
        }
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply(from {})", self.vitals.name)
    }
}

/// An answer on its way. The message was sent when this was made; dropping it cancels nothing.
#[must_use = "await it to get the answer"]
pub struct Answer<R>(Waiting<R>);

enum Waiting<R> {
    For(oneshot::Receiver<Result<R, AskError>>),
    Refused(AskError),
}

impl<R> Answer<R> {
    pub(crate) fn refused(why: AskError) -> Self {
        Self(Waiting::Refused(why))
    }

    /// Whether the message was not accepted: nothing happened, and the answer says why.
    pub fn is_refused(&self) -> bool {
        matches!(self.0, Waiting::Refused(_))
    }
}

impl<R> Future for Answer<R> {
    type Output = Result<R, AskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Waiting::Refused(why) => Poll::Ready(Err(*why)),
            // A reply always says why it ends, so a closed channel means that it was leaked.
            Waiting::For(answer) => {
                Pin::new(answer).poll(cx).map(|outcome| outcome.unwrap_or(Err(AskError::Crashed)))
            }
        }
    }
}

//! What the rest of the program sees of an actor.

use super::{
    Answer, AskError, Behaviour, Reply,
    keeper::Order,
    shell::{Job, Shell, Signal, Ticket},
    vitals::{Phase, Vitals},
};
use actix::dev::channel::AddressSender;
use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::sync::{TryAcquireError, mpsc, oneshot};

/// Why a tell was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The mailbox is full: try later.
    #[error("the actor's mailbox is full")]
    Full,
    /// The actor is gone or going.
    #[error("the actor is stopped")]
    Stopped,
}

impl From<TellError> for AskError {
    fn from(error: TellError) -> Self {
        match error {
            TellError::Full => AskError::Full,
            TellError::Stopped => AskError::Stopped,
        }
    }
}

/// The one address of an actor, shared by its handles, its context and its keeper.
pub(crate) struct Link<B: Behaviour> {
    pub(crate) address: AddressSender<Shell<B>>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
}

impl<B: Behaviour> Link<B> {
    /// The only place that puts messages in an actor's mailbox. The bound was seen to before.
    pub(crate) fn post(&self, job: Job<B>) -> Result<(), TellError> {
        self.address.do_send(job).map_err(|_gone| TellError::Stopped)
    }

    /// Past the bound, but counted.
    pub(crate) fn feed_back(&self, msg: B::Msg, only_for: Option<u64>) -> Result<(), TellError> {
        self.post(Job::new(msg, Ticket::feedback(&self.vitals), only_for))
    }
}

/// Talks to an actor: cheap to clone, usable from any thread. The actor outlives its handles; its supervisor ends it.
///
/// Every message but feedback takes a place in the mailbox, and there are exactly `capacity` places, however many
/// handles and tasks send. A tell keeps its place until it is handled, an ask until it is answered.
pub struct Handle<B: Behaviour> {
    link: Arc<Link<B>>,
}

impl<B: Behaviour> Handle<B> {
    pub(crate) fn new(link: Arc<Link<B>>) -> Self {
        Self { link }
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.link.vitals.name
    }

    /// Places in the mailbox that are taken now.
    pub fn depth(&self) -> usize {
        self.link.vitals.depth()
    }

    /// Sends without an answer; refuses at once when the mailbox is full.
    ///
    /// What must not be lost is asked for or comes from a journal: a tell that waits in the mailbox of an actor that is
    /// stopped for good is dropped (and counted as discarded).
    pub fn try_tell(&self, msg: B::Msg) -> Result<(), TellError> {
        self.take_place()?;
        self.link.post(Job::new(msg, Ticket::place(&self.link.vitals), None))
    }

    /// Sends without an answer; waits for room. Senders get it in the order they came.
    pub async fn tell(&self, msg: B::Msg) -> Result<(), TellError> {
        self.await_place().await?;
        self.link.post(Job::new(msg, Ticket::place(&self.link.vitals), None))
    }

    /// Asks; refuses at once when the mailbox is full, which is what a server's edge wants.
    ///
    /// The message is on its way when this returns, whether or not the answer is awaited, so asks made one after the
    /// other arrive in that order, and an asker that goes away cancels nothing.
    pub fn ask<R>(&self, message: impl FnOnce(Reply<R>) -> B::Msg) -> Answer<R> {
        match self.take_place() {
            Ok(()) => self.post_ask(message),
            Err(error) => Answer::refused(error.into()),
        }
    }

    /// Asks; waits for room first, which is what a consumer of a queue wants.
    pub async fn ask_when_room<R>(&self, message: impl FnOnce(Reply<R>) -> B::Msg) -> Result<R, AskError> {
        self.await_place().await?;
        self.post_ask(message).await
    }

    /// For what comes back from actors downstream: never refused for lack of room and never waits, so actors that
    /// send to each other in a circle cannot block each other. Metered apart from the mailbox. Use it only for what is
    /// bounded elsewhere, like answers to own requests. Still accepted while the actor drains.
    pub fn feedback(&self, msg: B::Msg) -> Result<(), TellError> {
        self.link.feed_back(msg, None)
    }

    /// Takes no new work and waits until everything accepted is answered or handled, feedback and piped futures
    /// included. Asks are refused as `Full` while others still wait for their answers, and as `Stopped` afterwards. False if the deadline came first
    /// or the actor was stopped before it was done; closed it is in any case.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let vitals = &self.link.vitals;
        vitals.enter_phase(Phase::Draining);
        let settled = tokio::time::timeout(deadline, self.settle()).await;
        vitals.room.close();
        settled.unwrap_or(false)
    }

    /// Resolves when the actor is gone.
    pub async fn stopped(&self) {
        self.link.vitals.until_stopped().await;
    }

    async fn settle(&self) -> bool {
        let vitals = &self.link.vitals;
        let all = u32::try_from(vitals.capacity).unwrap_or(u32::MAX);
        if let Ok(places) = vitals.room.acquire_many(all).await {
            // Closed while all places are ours, so nobody slips in; given back so that the depth shows 0.
            vitals.room.close();
            drop(places);
        }
        let (done, settled) = oneshot::channel();
        let asked = self.link.address.do_send(Signal::Settle(done)).is_ok();
        (asked && settled.await.is_ok()) || (vitals.stopped() && vitals.discarded.get() == 0)
    }

    fn take_place(&self) -> Result<(), TellError> {
        match self.link.vitals.room.try_acquire() {
            Ok(place) => {
                place.forget();
                Ok(())
            }
            Err(TryAcquireError::NoPermits) => Err(TellError::Full),
            Err(TryAcquireError::Closed) => Err(TellError::Stopped),
        }
    }

    async fn await_place(&self) -> Result<(), TellError> {
        let place = self.link.vitals.room.acquire().await.map_err(|_closed| TellError::Stopped)?;
        place.forget();
        Ok(())
    }

    fn post_ask<R>(&self, message: impl FnOnce(Reply<R>) -> B::Msg) -> Answer<R> {
        let (reply, answer) = Reply::new(self.link.vitals.clone());
        // The place belongs to the reply now. If the actor is gone the message comes back here and is dropped, and
        // the reply in it tells the asker.
        match self.link.post(Job::new(message(reply), Ticket::None, None)) {
            Ok(()) => answer,
            Err(error) => Answer::refused(error.into()),
        }
    }
}

impl<B: Behaviour> Clone for Handle<B> {
    fn clone(&self) -> Self {
        Self { link: self.link.clone() }
    }
}

impl<B: Behaviour> fmt::Debug for Handle<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.name())
    }
}

/// An actor that can be drained, whatever its kind: what an ordered shutdown needs to know of it.
pub trait Drain {
    /// The actor's name.
    fn name(&self) -> &str;
    /// [`Handle::drain`].
    fn drain_within(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = bool> + '_>>;
}

impl<B: Behaviour> Drain for Handle<B> {
    fn name(&self) -> &str {
        Handle::name(self)
    }

    fn drain_within(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(self.drain(deadline))
    }
}

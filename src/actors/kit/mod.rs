//! The actor kit: what actix does not give. The only place besides the actors' own thread setup that knows actix.
//!
//! An actor is a [`Behaviour`]: a state, a message type and an async handler. A [`Supervisor`] starts it from a
//! factory and returns a [`Handle`]; everything else follows from four rules:
//!
//! - **One way to fail.** A panic (in a handler, in `started`, in a piped future, in the factory), an `Err(Fault)` and
//!   a handler over its time limit all end the same way: the state is dropped, a new one is built after a growing
//!   pause, and a budget decides how often before the supervisor is asked.
//! - **The mailbox survives.** Messages wait through a restart and through an escalation. The message that was being
//!   handled is lost with the state, and its asker is told ([`AskError::Crashed`], [`AskError::TimedOut`]).
//! - **Every mailbox has a bound**, exact over all handles. An ask counts until it is answered, even if the answer comes
//!   long after the handler returned. Only feedback (from the actor itself and from downstream) passes the bound, so
//!   that circles cannot block; it is metered apart.
//! - **Everything is visible.** The [`Registry`] reads every actor's vitals without asking the actor.
//!
//! | part | file |
//! |---|---|
//! | what an actor is; its context | `behaviour`, `cx` |
//! | talking to it, or to nobody; answers; the bound | `handle`, `contact`, `reply` |
//! | the actix actor around it | `shell` |
//! | keeping it alive; how often and how fast | `keeper`, `restart` |
//! | the tree above; the ordered end | `supervisor`, `shutdown` |
//! | looking at it; blocked threads | `vitals`, `registry`, `watchdog` |

mod behaviour;
mod contact;
mod cx;
mod failure;
mod handle;
mod keeper;
mod registry;
mod reply;
mod restart;
mod shell;
mod shutdown;
mod spec;
mod supervisor;
mod vitals;
mod watchdog;

#[cfg(test)]
mod tests;

pub use behaviour::{Behaviour, Fault};
pub use contact::Contact;
pub use cx::Cx;
pub use handle::{Drain, Handle, TellError};
pub use registry::{ActorReport, ActorState, ActorTree, Registry};
pub use reply::{Answer, AskError, Reply};
pub use restart::RestartPolicy;
pub use shutdown::{ShutdownReport, shutdown};
pub use spec::{Place, Spec};
pub use supervisor::{RootFailure, Strategy, Supervisor};
pub use watchdog::{Freeze, Watchdog};

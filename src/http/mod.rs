//! The edge: a thin layer between warp's HTTP/1.1 and the handlers.
//!
//! The path of a request:
//!
//! 1. [`server`] accepts the connection under a cap, and `connection` watches its clocks (idle, header, stalled write).
//! 2. `edge` is the one catch-all warp filter. It names the request, finds the route, reads the body under a limit
//!    and a time-out, runs the handler inside `catch_unwind`, and stamps, logs and counts the answer.
//! 3. [`routes`] is the table: method and path to handler, and who answers 404, 405, HEAD and OPTIONS.
//! 4. A handler reads a [`Request`] with typed helpers ([`json`] is strict), asks [`auth`] who is calling and
//!    [`rbac`] what they may, and returns a [`Response`] or an [`ApiError`].
//! 5. [`reply`] is the only place where an error becomes a status and an envelope.
//!
//! A handler's future is dropped when its client hangs up. What must run to its end is sent to an actor, whose
//! mailbox does not care who is still listening.

mod access;
pub mod api;
pub mod auth;
mod connection;
mod edge;
pub mod json;
pub mod rbac;
mod refusal;
pub mod reply;
pub mod request;
pub mod routes;
pub mod server;
#[cfg(test)]
mod tests;
mod trace;

pub use auth::{Authenticator, Claims, Principal, Secret, ops_allowed};
pub use rbac::{Permission, Role};
pub use reply::{ApiError, FieldError, Response};
pub use request::{Request, RequestId};
pub use routes::{Handler, RouteTable, Routes, Tables};
pub use server::{ServeOutcome, ServerLimits, serve};

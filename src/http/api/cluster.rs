//! Requests for a tenant whose shard is at another node: sent there, and its answer given as if it were this node's.
//!
//! | what happens | what the caller gets |
//! |---|---|
//! | nobody has the shard, for it is on its way | waits until somebody does, up to the limit of an answer |
//! | the node does not have it any more (421), or cannot be reached: nothing was done | the same |
//! | the connection breaks or the answer is late: the outcome is unknown | what may be repeated (a read, a request with an `Idempotency-Key`) is; anything else is 503 `resultado_desconocido` |
//! | any other answer | that answer: status, headers, body |

use super::super::{ApiError, Request, Response};
use super::Api;
use super::denied::{elsewhere, unknown_outcome};
use crate::actors::nodes::Council;
use crate::client::{Answer, ClientError, Connection, HttpClient};
use crate::domain::ids::TenantId;
use crate::domain::nodes::Owner;
use crate::domain::tenant::shard_of;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Names the node that forwards. Such a request is answered here or not at all, so it cannot go round in circles.
const FORWARDED: HeaderName = HeaderName::from_static("x-blend-forwarded");

/// Idle connections to one node that are kept.
const KEPT: usize = 64;

/// Longer than this nobody keeps one: the other node has closed it (`server.idle_timeout_secs`), or soon will.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Before a node is asked again that could not be reached or did not have the shard, unless news comes first.
const AGAIN: Duration = Duration::from_millis(50);

/// What an administrator asks for, an import, may take so long at the other node, and what a marketplace is asked.
const LONG: Duration = Duration::from_secs(300);

/// What only this connection is about, or what the next one says for itself.
const NOT_PASSED_ON: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::DATE,
    header::EXPECT,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-process-time"),
    TRACEPARENT,
];

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The other nodes, as the edge sees them.
pub struct Cluster {
    council: Arc<Council>,
    shards: usize,
    patience: Duration,
    idle: Mutex<Idle<Connection>>,
}

/// Connections that wait for the next request, by the address of their node, each with the moment since when.
struct Idle<C>(HashMap<Arc<str>, Vec<(Instant, C)>>);

impl<C> Idle<C> {
    /// The one that has waited the shortest.
    fn take(&mut self, address: &str, now: Instant) -> Option<C> {
        let kept = self.0.get_mut(address)?;
        let newest = kept.pop().filter(|(since, _)| now.duration_since(*since) < KEPT_FOR);
        if newest.is_none() {
            // Nor is any other of them young enough.
            self.0.remove(address);
        }
        newest.map(|(_, connection)| connection)
    }

    /// Keeps one more, and forgets the nodes that are not among the others any more.
    fn keep(&mut self, address: &Arc<str>, connection: C, now: Instant, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|node, _| is_there(node));
        if is_there(address) {
            let kept = self.0.entry(address.clone()).or_default();
            kept.retain(|(since, _)| now.duration_since(*since) < KEPT_FOR);
            if kept.len() < KEPT {
                kept.push((now, connection));
            }
        }
    }
}

/// Where a tenant's request is to be answered.
pub enum Place {
    /// Here.
    Here(Box<Request>),
    /// It was answered elsewhere.
    Answered(Response),
}

impl Cluster {
    /// A request waits for a node that can answer it for `patience`.
    pub fn new(council: Arc<Council>, shards: usize, patience: Duration) -> Self {
        Self { council, shards, patience, idle: Mutex::new(Idle(HashMap::new())) }
    }

    /// Shards that nobody answers for.
    pub fn ownerless(&self) -> Vec<usize> {
        self.council.view().borrow().ownerless().collect()
    }

    /// Whether nothing is sold for want of this actor. Those of a shard count where it is open to requests; without the
    /// ledger's part it sells on, and without the other nodes' voices as well.
    pub fn needs(&self, actor: &str) -> bool {
        let shard = ["journal-", "reservation-"].iter().find_map(|kind| actor.strip_prefix(kind));
        match shard.and_then(|number| number.parse().ok()) {
            Some(shard) => self.council.holds(shard),
            None => !actor.starts_with("ledger-") && !actor.starts_with("shard-") && actor != "nodes",
        }
    }

    /// Whether there is anybody who answers for any shard.
    pub fn is_anybody_there(&self) -> bool {
        self.council.view().borrow().holders.iter().any(Option::is_some)
    }

    /// Brings a request to the node that has its tenant's shard.
    pub async fn place(&self, tenant: TenantId, whose: Whose, request: Request) -> Result<Place, ApiError> {
        let shard = shard_of(tenant, self.shards);
        let limit = match whose {
            Whose::Token | Whose::State => self.patience,
            Whose::Path | Whose::Waiter => LONG,
        };
        self.bring(request, limit, || self.council.owner(shard)).await
    }

    /// Brings a request to any node that has a shard.
    pub async fn place_anywhere(&self, request: Request) -> Result<Place, ApiError> {
        let anybody = || {
            let all = (0..self.shards).map(|shard| self.council.owner(shard));
            // Here if possible.
            all.min_by_key(|owner| match owner {
                Owner::Here => 0,
                Owner::At(_) => 1,
                Owner::Nobody => 2,
            })
        };
        self.bring(request, self.patience, || anybody().unwrap_or(Owner::Nobody)).await
    }

    /// What every other node answers to the same request about its own part; none when one of them does not answer.
    pub async fn ask_others(&self, request: &Request) -> Result<Vec<Answer>, ApiError> {
        if request.headers.contains_key(&FORWARDED) {
            return Ok(Vec::new());
        }
        let others = {
            let (view, me) = (self.council.view(), self.council.me());
            let view = view.borrow();
            let others = view.nodes.iter().filter(|(node, address)| **node != me && !address.is_empty());
            others.map(|(_, address)| address.clone()).collect::<Vec<_>>()
        };
        let mut answers = Vec::with_capacity(others.len());
        for address in others {
            let answer = self.send(&address, request, self.patience).await;
            let unreachable =
                |error: ClientError| nowhere(request).caused_by(format_args!("node {address}: {error}"));
            answers.push(answer.map_err(unreachable)?);
        }
        Ok(answers)
    }

    /// A request that may not be repeated is given up by the other node after `limit`.
    async fn bring(
        &self,
        request: Request,
        limit: Duration,
        owner: impl Fn() -> Owner,
    ) -> Result<Place, ApiError> {
        let deadline = Instant::now() + self.patience;
        let is_final = request.headers.contains_key(&FORWARDED);
        let may_repeat = request.method == Method::GET || request.headers.contains_key("idempotency-key");
        let mut news = self.council.view();
        let mut unknown = None;
        loop {
            news.mark_unchanged();
            match owner() {
                Owner::Here => return Ok(Place::Here(Box::new(request))),
                _ if is_final => return Err(elsewhere()),
                Owner::At(address) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let limit = if may_repeat { left } else { limit };
                    match self.send(&address, &request, limit).await {
                        Ok(answer) if answer.status == StatusCode::MISDIRECTED_REQUEST => {}
                        Ok(answer) => return Ok(Place::Answered(response(answer))),
                        Err(error) if is_certainly_undone(&error) => {}
                        Err(error) if may_repeat => unknown = Some(format!("node {address}: {error}")),
                        Err(error) => {
                            return Err(unknown_outcome().caused_by(format_args!("node {address}: {error}")));
                        }
                    }
                    // Whether news came or the time is over, it is looked at again.
                    timeout_at((Instant::now() + AGAIN).min(deadline), news.changed()).await.ok();
                }
                Owner::Nobody => drop(timeout_at(deadline, news.changed()).await),
            }
            if Instant::now() >= deadline {
                return Err(match unknown {
                    Some(why) => unknown_outcome().caused_by(why),
                    None => nowhere(&request),
                });
            }
        }
    }

    async fn send(
        &self,
        address: &Arc<str>,
        request: &Request,
        limit: Duration,
    ) -> Result<Answer, ClientError> {
        let kept = self.idle().take(address, Instant::now());
        let mut connection = match kept {
            Some(connection) => connection,
            None => HttpClient::new(&format!("http://{address}"))?.connection(),
        };
        connection.set_timeout(limit);
        let path = match request.raw_query() {
            "" => request.path().to_owned(),
            query => format!("{}?{query}", request.path()),
        };
        let passed = request.headers.iter().filter(|(name, _)| !NOT_PASSED_ON.contains(name));
        let mut headers: Vec<_> = passed.map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.push((HeaderName::from_static("x-request-id"), request.request_id.header()));
        // The other node goes on under this one's step.
        let trace = request.trace.as_ref().map(|trace| HeaderValue::try_from(trace.header()));
        headers.extend(trace.and_then(Result::ok).map(|trace| (TRACEPARENT, trace)));
        let me = HeaderValue::from_str(&self.council.me().to_string());
        headers.push((FORWARDED, me.unwrap_or(HeaderValue::from_static("node"))));
        let answer =
            connection.request(request.method.clone(), &path, None, &headers, request.body.clone()).await?;
        let view = self.council.view();
        let view = view.borrow();
        let is_there = |address: &str| view.nodes.values().any(|node| **node == *address);
        self.idle().keep(address, connection, Instant::now(), is_there);
        Ok(answer)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing of the request reached the other node.
const fn is_certainly_undone(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Connect(..)
            | ClientError::Https(_)
            | ClientError::BadAddress(_)
            | ClientError::BadRequest(_)
    )
}

/// Nobody could be asked, and nothing was done.
fn nowhere(request: &Request) -> ApiError {
    if request.method == Method::GET {
        return ApiError::unavailable(
            "no_disponible",
            "El dato no está disponible: reintente en un momento",
            1,
        );
    }
    ApiError::unavailable("no_registrada", "La operación no se registró: reintente en un momento", 1)
}

fn response(answer: Answer) -> Response {
    let kind = answer.headers.get(header::CONTENT_TYPE).cloned();
    let mut response = match kind {
        Some(kind) => Response::bytes(answer.status, kind, answer.body),
        None => Response::empty(answer.status),
    };
    for (name, value) in &answer.headers {
        if !NOT_PASSED_ON.contains(name) && name != header::CONTENT_TYPE {
            response = response.with_header(name.clone(), value.clone());
        }
    }
    response
}

/// Whose request it is, when that can be told before a handler has looked at it.
#[derive(Clone, Copy)]
pub enum Whose {
    /// The tenant of the token.
    Token,
    /// The same, of somebody who may have to wait for a marketplace.
    Waiter,
    /// The tenant in the path, `{id}`.
    Path,
    /// The tenant before the dot in `state`: an owner comes back from a marketplace.
    State,
}

impl Whose {
    /// `None` leaves it to the handler to say what is wrong.
    pub fn tenant(self, api: &Api, request: &Request) -> Option<TenantId> {
        match self {
            Self::Token | Self::Waiter => api.authenticator.authenticate(&request.headers).ok()?.tenant,
            Self::Path => request.param("id").ok(),
            Self::State => {
                let state: String = request.query("state").ok()??;
                state.split_once('.')?.0.parse().ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn only_what_never_reached_the_other_node_counts_as_undone() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(is_certainly_undone(&ClientError::Connect("n".into(), refused)));
        assert!(!is_certainly_undone(&ClientError::Timeout("n".into(), LONG)));
        assert!(!is_certainly_undone(&ClientError::TooLarge("n".into())));
    }

    #[test]
    fn idle_connections_are_bounded_and_those_of_nodes_that_left_are_dropped() {
        let (mut idle, now) = (Idle(HashMap::new()), Instant::now());
        let (one, two): (Arc<str>, Arc<str>) = ("one:80".into(), "two:80".into());
        for number in 0..KEPT + 5 {
            idle.keep(&one, number, now, |_| true);
        }
        idle.keep(&two, 900, now, |_| true);
        assert_eq!(idle.take(&one, now), Some(KEPT - 1), "the newest of those that fitted");
        // The first node leaves: what was kept for it goes, and nothing of it comes in any more.
        idle.keep(&two, 901, now, |node| node == "two:80");
        idle.keep(&one, 7, now, |node| node == "two:80");
        assert_eq!((idle.0.len(), idle.take(&one, now)), (1, None));
        // What nobody needed for long is not used again.
        idle.keep(&two, 902, now + KEPT_FOR / 2, |_| true);
        assert_eq!(idle.0[&two].len(), 3);
        idle.keep(&two, 903, now + KEPT_FOR, |_| true);
        assert_eq!(idle.0[&two].len(), 2);
        assert_eq!(idle.take(&two, now + KEPT_FOR * 3), None);
        assert!(idle.0.is_empty());
    }

    #[test]
    fn an_answer_is_passed_on_with_what_is_not_about_the_connection() {
        let mut headers = hyper::HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("idempotent-replayed", "true"),
            ("retry-after", "1"),
            ("connection", "keep-alive"),
            ("content-length", "2"),
            ("x-request-id", "other"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let answer = Answer { status: StatusCode::CREATED, headers, body: Bytes::from_static(b"{}") };
        let passed = response(answer);
        assert_eq!(passed.status(), StatusCode::CREATED);
        let mut names: Vec<_> = passed.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "idempotent-replayed", "retry-after"]);
    }
}

//! The route table: which handler answers which method and path.
//!
//! One `matchit` tree per method instead of a chain of warp filters: the cost of finding the last of eighty routes
//! is that of the first, and the compile time does not grow with the list.

use super::{access::RouteMetrics, reply::ApiError, reply::Response, request::Request};
use crate::ports::spans::Spans;
use futures_util::future::BoxFuture;
use hyper::{Method, header::HeaderValue};
use std::{
    future::Future,
    sync::{Arc, OnceLock},
};

/// What answers a route.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Response, ApiError>> + Send + Sync>;

/// Most `{parameters}` a path may have.
const MAX_PARAMS: usize = 4;
/// The methods a route can have, in the order `Allow` lists them.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// Their names, as label values.
const NAMES: [&str; METHODS.len()] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

fn slot(method: &Method) -> Option<usize> {
    METHODS.iter().position(|m| m == method)
}

/// A route that cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The path is malformed or means the same as another of its method.
    #[error("route {method} {path}: {source}")]
    Path {
        /// Its method.
        method: Method,
        /// Its path.
        path: &'static str,
        /// What the router says.
        source: matchit::InsertError,
    },
    /// The path has too many parameters.
    #[error("route {method} {path} has more than {MAX_PARAMS} parameters")]
    Params {
        /// Its method.
        method: Method,
        /// Its path.
        path: &'static str,
    },
}

/// The list of routes while it is being written, one a line.
#[derive(Default)]
pub struct Routes {
    drafts: Vec<Draft>,
    spans: Option<Arc<dyn Spans>>,
}

struct Draft {
    method: Method,
    path: &'static str,
    body_limit: Option<usize>,
    handler: Handler,
}

macro_rules! verbs {
    ($($verb:ident $method:ident)+) => {$(
        #[doc = concat!("Answers ", stringify!($method), " on a path such as `/api/v1/ventas/{id}`.")]
        #[must_use]
        pub fn $verb<F, Fut>(self, path: &'static str, handler: F) -> Self
        where
            F: Fn(Request) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
        {
            self.route(Method::$method, path, Arc::new(move |request| Box::pin(handler(request))))
        }
    )+};
}

impl Routes {
    /// Every request is a step of a trace, where one is recorded.
    #[must_use]
    pub fn traced(mut self, spans: Option<Arc<dyn Spans>>) -> Self {
        self.spans = spans;
        self
    }

    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    verbs! { get GET post POST put PUT patch PATCH delete DELETE }

    /// Any of the five methods, with a handler made elsewhere.
    #[must_use]
    pub fn route(mut self, method: Method, path: &'static str, handler: Handler) -> Self {
        self.drafts.push(Draft { method, path, body_limit: None, handler });
        self
    }

    /// Gives the route added last its own body limit.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        if let Some(last) = self.drafts.last_mut() {
            last.body_limit = Some(bytes);
        }
        self
    }

    /// Adds the routes of another list.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.drafts.extend(other.drafts);
        self
    }

    /// The table, or why there can be none.
    pub fn build(self) -> Result<Arc<RouteTable>, RouteError> {
        let mut table = RouteTable { spans: self.spans, ..RouteTable::default() };
        for draft in self.drafts {
            let Draft { method, path, body_limit, handler } = draft;
            let params: Vec<&'static str> = param_names(path).collect();
            if params.len() > MAX_PARAMS {
                return Err(RouteError::Params { method, path });
            }
            // `route` is only called with the five methods; a sixth would simply never match.
            let Some(slot) = slot(&method) else { continue };
            table.trees[slot].insert(path, table.routes.len()).map_err(|source| RouteError::Path {
                method: method.clone(),
                path,
                source,
            })?;
            let metrics = RouteMetrics::new(NAMES[slot], path);
            table.routes.push(Route { method, path, params: params.into(), body_limit, handler, metrics });
        }
        Ok(Arc::new(table))
    }
}

fn param_names(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')).map(|s| s.trim_start_matches('*'))
}

/// One route of the table.
pub(super) struct Route {
    method: Method,
    pub(super) path: &'static str,
    params: Arc<[&'static str]>,
    pub(super) body_limit: Option<usize>,
    pub(super) handler: Handler,
    pub(super) metrics: RouteMetrics,
}

/// The finished table.
#[derive(Default)]
pub struct RouteTable {
    trees: [matchit::Router<usize>; METHODS.len()],
    routes: Vec<Route>,
    pub(super) unmatched: RouteMetrics,
    /// Where the steps of traces go, if anywhere.
    pub(super) spans: Option<Arc<dyn Spans>>,
}

/// What a server answers by: a table from its start, and perhaps another one later on. Connections stay open over the
/// change, so whoever asks at that moment has the answer of the one or the other.
pub struct Tables {
    first: Arc<RouteTable>,
    then: OnceLock<Arc<RouteTable>>,
}

impl Tables {
    /// With this one in force.
    pub fn new(first: Arc<RouteTable>) -> Arc<Self> {
        Arc::new(Self { first, then: OnceLock::new() })
    }

    /// Puts another one in force for every request that comes from now on. That can be done once; a third is not taken.
    pub fn change_to(&self, then: Arc<RouteTable>) {
        // The error is the table that was not taken.
        self.then.set(then).ok();
    }

    /// The one that is in force.
    pub(super) fn in_force(&self) -> &RouteTable {
        self.then.get().unwrap_or(&self.first)
    }
}

/// What the table says about a method and a path.
pub(super) enum Lookup<'t> {
    /// This one.
    Found(&'t Route, Params),
    /// The path exists under these methods; the caller asked what they are.
    Options(HeaderValue),
    /// The path exists under these methods.
    WrongMethod(HeaderValue),
    /// There is no such path.
    Unknown,
}

impl RouteTable {
    /// Every route as method and pattern, in the order they were added.
    pub fn paths(&self) -> impl Iterator<Item = (&Method, &'static str)> {
        self.routes.iter().map(|r| (&r.method, r.path))
    }

    /// Finds the route. HEAD is GET, and one trailing slash is tolerated.
    pub(super) fn find(&self, method: &Method, path: &str) -> Lookup<'_> {
        let wanted = if *method == Method::HEAD { &Method::GET } else { method };
        let trimmed = match path.strip_suffix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => path,
        };
        let matched = slot(wanted).and_then(|slot| self.trees[slot].at(trimmed).ok());
        if let Some((route, found)) = matched.and_then(|m| Some((self.routes.get(*m.value)?, m.params))) {
            return Lookup::Found(route, Params::of(route, path, &found));
        }
        let allowed = self.trees.iter().zip(&METHODS).filter(|(tree, _)| tree.at(trimmed).is_ok());
        let mut allow = String::new();
        for (_, method) in allowed {
            allow.push_str(if *method == Method::GET { "GET, HEAD" } else { method.as_str() });
            allow.push_str(", ");
        }
        if allow.is_empty() {
            return Lookup::Unknown;
        }
        allow.push_str("OPTIONS");
        // A list of method names is always a header value.
        let allow = HeaderValue::try_from(allow).unwrap_or(HeaderValue::from_static("OPTIONS"));
        if *method == Method::OPTIONS { Lookup::Options(allow) } else { Lookup::WrongMethod(allow) }
    }
}

/// Where in the path the parameters are. Positions instead of texts, so that matching allocates nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Params {
    names: Option<Arc<[&'static str]>>,
    spans: [(u32, u32); MAX_PARAMS],
}

impl Params {
    fn of(route: &Route, path: &str, found: &matchit::Params<'_, '_>) -> Self {
        if route.params.is_empty() {
            return Self::default();
        }
        let mut spans = [(0, 0); MAX_PARAMS];
        for (span, (_, value)) in spans.iter_mut().zip(found.iter()) {
            // The value is a slice of the path, so its distance from the path's start is its position; hyper refuses
            // a URI beyond 64 KiB, so it fits.
            let start = (value.as_ptr() as usize).saturating_sub(path.as_ptr() as usize);
            *span = (start as u32, (start + value.len()) as u32);
        }
        Self { names: Some(route.params.clone()), spans }
    }

    pub(super) fn get<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let index = self.names.as_ref()?.iter().position(|n| *n == name)?;
        let (start, end) = *self.spans.get(index)?;
        path.get(start as usize..end as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    async fn ok(_: Request) -> Result<Response, ApiError> {
        Ok(Response::empty(StatusCode::OK))
    }

    fn table() -> Arc<RouteTable> {
        Routes::new()
            .get("/", ok)
            .get("/v/{id}", ok)
            .delete("/v/{id}", ok)
            .post("/v/{id}/items/{item}", ok)
            .body_limit(7)
            .build()
            .unwrap()
    }

    #[test]
    fn finds_by_method_and_path_and_remembers_where_the_parameters_are() {
        let table = table();
        for (method, path) in [(Method::GET, "/v/abc"), (Method::HEAD, "/v/abc/"), (Method::DELETE, "/v/abc")]
        {
            let Lookup::Found(route, params) = table.find(&method, path) else { panic!("{method} {path}") };
            assert_eq!((route.path, params.get(path, "id")), ("/v/{id}", Some("abc")));
        }
        let path = "/v/1/items/22/";
        let Lookup::Found(route, params) = table.find(&Method::POST, path) else { panic!() };
        assert_eq!(route.body_limit, Some(7));
        assert_eq!((params.get(path, "id"), params.get(path, "item")), (Some("1"), Some("22")));
        assert_eq!(params.get(path, "otro"), None);
        assert!(matches!(table.find(&Method::GET, "/"), Lookup::Found(..)));
    }

    #[test]
    fn tells_a_wrong_method_from_an_unknown_path() {
        let table = table();
        let Lookup::WrongMethod(allow) = table.find(&Method::PUT, "/v/1") else { panic!() };
        assert_eq!(allow, "GET, HEAD, DELETE, OPTIONS");
        let Lookup::Options(allow) = table.find(&Method::OPTIONS, "/v/1/items/2") else { panic!() };
        assert_eq!(allow, "POST, OPTIONS");
        for path in ["/w", "/v", "/v/1/items", "*", "/v//"] {
            assert!(matches!(table.find(&Method::GET, path), Lookup::Unknown), "{path}");
        }
        assert!(matches!(table.find(&Method::TRACE, "/v/1"), Lookup::WrongMethod(_)));
    }

    #[test]
    fn refuses_two_routes_that_mean_the_same() {
        assert!(Routes::new().get("/v/{id}", ok).get("/v/{otro}", ok).build().is_err());
        assert!(Routes::new().get("/{a}/{b}/{c}/{d}/{e}", ok).build().is_err());
        let listed: Vec<_> = table().paths().map(|(m, p)| format!("{m} {p}")).collect();
        assert_eq!(listed, ["GET /", "GET /v/{id}", "DELETE /v/{id}", "POST /v/{id}/items/{item}"]);
    }
}

//! Who is calling: bearer tokens (JWT, HS256 and nothing else), and who may look at the ops endpoints.

use super::{
    rbac::{self, Permission, Role},
    reply::ApiError,
    request::Request,
};
use crate::domain::ids::TenantId;
use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, FORWARDED},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Verified tokens remembered at most, in two generations of half of it each.
const CACHE_TOKENS: usize = 10_000;
/// Longest token looked at, which also bounds what the cache weighs.
const MAX_TOKEN_BYTES: usize = 2_048;
/// Longest `sub`.
const MAX_USER_BYTES: usize = 128;
/// Most seconds of grace after `exp` for clocks that disagree.
const MAX_LEEWAY_SECS: i64 = 5;

/// The seconds since 1970.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The key that signs tokens. Shows itself to nobody.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

/// A secret below [`Secret::MIN_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("secret is shorter than {} bytes", Secret::MIN_BYTES)]
pub struct SecretTooShort;

impl Secret {
    /// An HMAC key should not be shorter than its hash (RFC 7518, 3.2).
    pub const MIN_BYTES: usize = 32;

    /// Takes a key of at least [`Secret::MIN_BYTES`].
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, SecretTooShort> {
        let key = key.as_ref();
        if key.len() < Self::MIN_BYTES { Err(SecretTooShort) } else { Ok(Self(key.into())) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// Second from which it is worthless.
    pub exp: i64,
    /// Second in which it was made.
    pub iat: i64,
    /// The user's shop; only a super_admin may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tienda_id: Option<TenantId>,
    /// The user's role.
    pub rol: Role,
}

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's id.
    pub user: String,
    /// Their shop; `None` only for a super_admin.
    pub tenant: Option<TenantId>,
    /// Their role.
    pub role: Role,
}

impl Principal {
    /// 403 `permiso_denegado` unless the role has the permission.
    pub fn require(&self, permission: Permission) -> Result<(), ApiError> {
        rbac::require(self.role, permission)
    }

    /// The shop, or 403 `sin_tienda`. The tenant of a request comes from here and from nowhere else.
    pub fn tenant(&self) -> Result<TenantId, ApiError> {
        self.tenant.ok_or_else(|| {
            ApiError::new(StatusCode::FORBIDDEN, "sin_tienda", "El usuario no pertenece a una tienda")
        })
    }
}

/// Verifies tokens, and remembers those it has verified: a signature costs microseconds, a look-up a tenth of one.
pub struct Authenticator {
    verify: DecodingKey,
    sign: EncodingKey,
    validation: Validation,
    clock: Clock,
    leeway: i64,
    cache: Mutex<Cache>,
}

impl Authenticator {
    /// For one secret, without leeway.
    pub fn new(secret: Secret, clock: Clock) -> Self {
        // One algorithm, so neither "none" nor a public key passed off as a secret gets anywhere. `exp` is checked
        // below, against our clock and on every use of a remembered token.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        Self {
            verify: DecodingKey::from_secret(&secret.0),
            sign: EncodingKey::from_secret(&secret.0),
            validation,
            clock,
            leeway: 0,
            cache: Mutex::new(Cache::new(CACHE_TOKENS)),
        }
    }

    /// Grants some seconds after `exp`, at most five.
    #[must_use]
    pub fn with_leeway(mut self, secs: i64) -> Self {
        self.leeway = secs.clamp(0, MAX_LEEWAY_SECS);
        self
    }

    /// Who the request's bearer token belongs to: 401 `no_autenticado`, `token_invalido` or `token_expirado`.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>, ApiError> {
        self.verify(bearer(headers)?)
    }

    /// Who a token belongs to.
    pub fn verify(&self, token: &str) -> Result<Arc<Principal>, ApiError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid("too long"));
        }
        let known = self.cache().get(token);
        let known = match known {
            Some(known) => known,
            None => self.decode(token)?,
        };
        if (self.clock)() >= known.exp.saturating_add(self.leeway) {
            self.cache().forget(token);
            return Err(ApiError::unauthorized("token_expirado", "El token expiró"));
        }
        Ok(known.principal)
    }

    fn decode(&self, token: &str) -> Result<Known, ApiError> {
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.verify, &self.validation).map_err(invalid)?.claims;
        if claims.sub.is_empty() || claims.sub.len() > MAX_USER_BYTES {
            return Err(invalid("sub is empty or too long"));
        }
        if claims.tienda_id.is_none() && claims.rol != Role::SuperAdmin {
            return Err(invalid("tienda_id is missing"));
        }
        let principal = Principal { user: claims.sub, tenant: claims.tienda_id, role: claims.rol };
        let known = Known { principal: Arc::new(principal), exp: claims.exp };
        self.cache().insert(token, known.clone());
        Ok(known)
    }

    /// Makes a token.
    pub fn mint(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.sign)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Nothing in the cache can be half done, so a panic elsewhere while it was held does not matter.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("leeway", &self.leeway).finish_non_exhaustive()
    }
}

fn invalid(cause: impl fmt::Display) -> ApiError {
    ApiError::unauthorized("token_invalido", "El token no es válido").caused_by(cause)
}

fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let missing = || ApiError::unauthorized("no_autenticado", "Falta el token de acceso");
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(invalid("more than one Authorization header"));
    }
    let (scheme, token) = value.to_str().map_err(invalid)?.split_once(' ').ok_or_else(missing)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(missing());
    }
    Ok(token)
}

#[derive(Clone)]
struct Known {
    principal: Arc<Principal>,
    exp: i64,
}

/// Verified tokens in two generations. A hit in the old one moves to the young; when the young one is full it becomes
/// the old and the old is dropped. So the memory is bounded, nothing is ever scanned, and who keeps calling stays.
struct Cache {
    young: HashMap<Box<str>, Known>,
    old: HashMap<Box<str>, Known>,
    half: usize,
}

impl Cache {
    fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    fn get(&mut self, token: &str) -> Option<Known> {
        if let Some(known) = self.young.get(token) {
            return Some(known.clone());
        }
        let (token, known) = self.old.remove_entry(token)?;
        self.put(token, known.clone());
        Some(known)
    }

    fn insert(&mut self, token: &str, known: Known) {
        self.put(token.into(), known);
    }

    fn put(&mut self, token: Box<str>, known: Known) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, known);
    }

    fn forget(&mut self, token: &str) {
        self.young.remove(token);
        self.old.remove(token);
    }
}

/// Whether the ops endpoints may be read by this request.
///
/// With `open_to_loopback` a process on the same machine may, unless a proxy says it only passes the request on;
/// anybody else needs a token of a role that runs or audits the shop.
pub fn ops_allowed(
    request: &Request,
    authenticator: &Authenticator,
    open_to_loopback: bool,
) -> Result<(), ApiError> {
    let forwarded =
        request.headers.contains_key(FORWARDED) || request.headers.contains_key("x-forwarded-for");
    if open_to_loopback && !forwarded && request.peer.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    match authenticator.authenticate(&request.headers)?.role {
        Role::SuperAdmin | Role::Owner | Role::Admin | Role::Auditor => Ok(()),
        Role::Encargado | Role::Cajero | Role::Vendedor | Role::Repositor => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "permiso_denegado", "El rol no puede ver la operación"))
        }
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;

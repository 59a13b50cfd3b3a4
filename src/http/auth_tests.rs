//! Tests of tokens, of the cache and of who sees the ops endpoints.

use super::*;
use hyper::{Method, header::HeaderValue};
use serde_json::json;
use std::{
    net::IpAddr,
    sync::atomic::{AtomicI64, Ordering},
};

const KEY: &[u8] = b"a secret of thirty-two bytes, ok";
const NOW: i64 = 1_800_000_000;
const SHOP: &str = "0192f5a0-0000-7000-8000-00000000000a";

fn authenticator() -> (Authenticator, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(NOW));
    let read = now.clone();
    let clock: Clock = Arc::new(move || read.load(Ordering::Relaxed));
    (Authenticator::new(Secret::new(KEY).unwrap(), clock), now)
}

fn claims(rol: Role) -> Claims {
    let tienda_id = (rol != Role::SuperAdmin).then(|| SHOP.parse().unwrap());
    Claims { sub: "u-7".into(), exp: NOW + 60, iat: NOW, tienda_id, rol }
}

/// A token with any header and any claims, signed or not.
fn forge(header: &Header, claims: &serde_json::Value, key: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key)).unwrap()
}

fn code(result: Result<Arc<Principal>, ApiError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => {
            assert_eq!(error.status(), StatusCode::UNAUTHORIZED);
            error.code()
        }
    }
}

fn bearing(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    headers
}

#[test]
fn a_minted_token_is_its_owner() {
    let (auth, _) = authenticator();
    let token = auth.mint(&claims(Role::Cajero)).unwrap();
    for scheme in ["Bearer", "bearer", "BEARER "] {
        let principal = auth.authenticate(&bearing(&format!("{scheme} {token}"))).unwrap();
        assert_eq!((principal.user.as_str(), principal.role), ("u-7", Role::Cajero));
        assert_eq!(principal.tenant().unwrap().to_string(), SHOP);
    }
    let root = auth.verify(&auth.mint(&claims(Role::SuperAdmin)).unwrap()).unwrap();
    assert_eq!(root.tenant().unwrap_err().code(), "sin_tienda");
    assert_eq!(root.require(Permission::UsersDelete).map_err(|e| e.code()), Ok(()));
}

#[test]
fn no_token_is_not_a_bad_token() {
    let (auth, _) = authenticator();
    assert_eq!(code(auth.authenticate(&HeaderMap::new())), "no_autenticado");
    for value in ["Basic dTpw", "Bearer", "Bearer  ", "token"] {
        assert_eq!(code(auth.authenticate(&bearing(value))), "no_autenticado", "{value}");
    }
    let mut twice = bearing("Bearer x");
    twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer y"));
    assert_eq!(code(auth.authenticate(&twice)), "token_invalido");
}

#[test]
fn only_our_own_hs256_signature_counts() {
    let (auth, _) = authenticator();
    let good = json!({ "sub": "u-7", "exp": NOW + 60, "iat": NOW, "tienda_id": SHOP, "rol": "owner" });
    let hs256 = Header::new(Algorithm::HS256);
    assert_eq!(code(auth.verify(&forge(&hs256, &good, KEY))), "ok");
    assert_eq!(
        code(auth.verify(&forge(&hs256, &good, b"another secret of thirty-two byt"))),
        "token_invalido"
    );
    for other in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(code(auth.verify(&forge(&Header::new(other), &good, KEY))), "token_invalido");
    }
    let token = forge(&hs256, &good, KEY);
    let (head, rest) = token.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    // {"alg":"none","typ":"JWT"}, {"alg":"RS256","typ":"JWT"} and {"alg":"hs256"}.
    for head in [
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9",
        "eyJhbGciOiJoczI1NiJ9",
    ] {
        for signature in ["", signature] {
            assert_eq!(code(auth.verify(&format!("{head}.{payload}.{signature}"))), "token_invalido");
        }
    }
    let mut forged = forge(&hs256, &json!({ "sub": "boss" }), KEY);
    forged = forged.split('.').nth(1).unwrap().to_owned();
    let long = "x".repeat(MAX_TOKEN_BYTES + 1);
    for token in
        [&format!("{head}.{forged}.{signature}"), &format!("{head}.{payload}."), "a.b.c", "", ".", &long]
    {
        assert_eq!(code(auth.verify(token)), "token_invalido", "{token:.40}");
    }
}

#[test]
fn claims_of_the_wrong_shape_are_refused() {
    let (auth, _) = authenticator();
    let good = json!({ "sub": "u-7", "exp": NOW + 60, "iat": NOW, "tienda_id": SHOP, "rol": "owner" });
    let changes = [
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("x".repeat(MAX_USER_BYTES + 1))),
        ("sub", json!(null)),
        ("exp", json!("soon")),
        ("exp", json!(null)),
        ("exp", json!(1e300)),
        ("iat", json!(null)),
        ("rol", json!("gerente")),
        ("rol", json!(null)),
        ("tienda_id", json!(null)),
        ("tienda_id", json!("7")),
        ("aud", json!("another service")),
    ];
    for (claim, value) in changes {
        let mut bad = good.clone();
        bad[claim] = value.clone();
        let bad = forge(&Header::new(Algorithm::HS256), &bad, KEY);
        assert_eq!(code(auth.verify(&bad)), "token_invalido", "{claim} {value}");
    }
    for missing in ["sub", "exp", "iat", "rol", "tienda_id"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(missing);
        let bad = forge(&Header::new(Algorithm::HS256), &bad, KEY);
        assert_eq!(code(auth.verify(&bad)), "token_invalido", "{missing}");
    }
}

#[test]
fn a_token_expires_cached_or_not() {
    let (auth, now) = authenticator();
    let token = auth.mint(&claims(Role::Cajero)).unwrap();
    assert_eq!(code(auth.verify(&token)), "ok");
    now.store(NOW + 59, Ordering::Relaxed);
    assert_eq!(code(auth.verify(&token)), "ok");
    now.store(NOW + 60, Ordering::Relaxed);
    assert_eq!(code(auth.verify(&token)), "token_expirado");
    assert_eq!(code(auth.verify(&token)), "token_expirado");
    let auth = auth.with_leeway(60);
    now.store(NOW + 64, Ordering::Relaxed);
    assert_eq!(code(auth.verify(&token)), "ok", "leeway is cut to five seconds");
    now.store(NOW + 65, Ordering::Relaxed);
    assert_eq!(code(auth.verify(&token)), "token_expirado");
    let mut forever = claims(Role::Cajero);
    forever.exp = i64::MAX;
    assert_eq!(code(auth.verify(&auth.mint(&forever).unwrap())), "ok");
}

#[test]
fn the_cache_is_bounded_and_keeps_who_keeps_calling() {
    let known = |n: i64| Known {
        principal: Arc::new(Principal { user: n.to_string(), tenant: None, role: Role::SuperAdmin }),
        exp: n,
    };
    let mut cache = Cache::new(10);
    cache.insert("regular", known(0));
    for n in 1..1_000 {
        cache.insert(&n.to_string(), known(n));
        assert!(cache.get("regular").is_some(), "{n}");
        assert!(cache.young.len() + cache.old.len() <= 10);
    }
    assert!(cache.get("1").is_none());
    cache.forget("regular");
    assert!(cache.get("regular").is_none());
}

#[test]
fn secrets_are_long_and_silent() {
    assert!(Secret::new("short").is_err());
    let (auth, _) = authenticator();
    let shown = format!("{:?} {auth:?}", Secret::new(KEY).unwrap());
    assert!(!shown.contains("thirty"), "{shown}");
}

#[test]
fn ops_are_for_loopback_or_for_who_runs_or_audits() {
    let (auth, _) = authenticator();
    let ask = |peer: &str, header: Option<(&'static str, &str)>, open: bool| {
        let mut request = Request::for_test(Method::GET, "/ops/actors", "");
        request.peer = (peer.parse::<IpAddr>().unwrap(), 1).into();
        if let Some((name, value)) = header {
            request.headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        ops_allowed(&request, &auth, open).map_err(|e| e.status().as_u16())
    };
    for near in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(ask(near, None, true), Ok(()), "{near}");
        assert_eq!(ask(near, None, false), Err(401));
        assert_eq!(ask(near, Some(("x-forwarded-for", "10.0.0.1")), true), Err(401));
        assert_eq!(ask(near, Some(("forwarded", "for=10.0.0.1")), true), Err(401));
    }
    assert_eq!(ask("10.0.0.1", None, true), Err(401));
    for role in Role::ALL {
        let token = format!("Bearer {}", auth.mint(&claims(role)).unwrap());
        let may = matches!(role, Role::SuperAdmin | Role::Owner | Role::Admin | Role::Auditor);
        let expected = if may { Ok(()) } else { Err(403) };
        assert_eq!(ask("10.0.0.1", Some(("authorization", &token)), true), expected, "{role:?}");
    }
}

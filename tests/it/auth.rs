//! Who may do what, and who gets nowhere.

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::shop::{PLAIN, Shop, catalogue};
use blend::http::{Claims, Role};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use uuid::Uuid;

const NOBODY: (u16, &str) = (401, "token_invalido");

#[tokio::test]
async fn without_a_token_there_is_only_a_challenge() {
    let shop = Shop::open().await;
    let stranger = Api::anonymous(&shop.server.url());
    let paths = [
        "/api/v1/productos",
        "/api/v1/productos/scan/P01",
        "/api/v1/stock/locations",
        "/api/v1/admin/tiendas",
        &format!("/api/v1/ventas/{}", Uuid::now_v7()),
    ];
    for path in paths {
        let reply = stranger.get(path).await;
        assert_eq!(reply.outcome(), (401, "no_autenticado"), "{path}");
        assert!(reply.header("www-authenticate").unwrap().starts_with("Bearer"), "{path}");
    }
    let reply = stranger.checkout(shop.basket(&[(PLAIN, "1")]), None).await;
    assert_eq!(reply.outcome(), (401, "no_autenticado"));
    for header in ["Basic Y2FqYTpjYWph", "Bearer", "Bearer ", "token"] {
        let headers = [("authorization", header)];
        let reply = stranger.send(hyper::Method::GET, "/api/v1/productos", &headers, "").await.unwrap();
        assert_eq!(reply.outcome(), (401, "no_autenticado"), "{header}");
    }
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn a_token_ends_when_it_says() {
    let shop = Shop::open().await;
    let tenant = shop.tenant.to_string();
    let token = shop.blend.command(&["token", "--tenant", &tenant, "--ttl", "2s"]).await.done();
    let till = Api::new(&shop.server.url(), token.trim());
    // It may be over before the first request on a busy machine, but it must be over some time.
    let expired = eventually("the token expires", async || {
        let reply = till.get("/api/v1/productos?limit=1").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!(expired.outcome(), (401, "token_expirado"));
    assert!(expired.header("www-authenticate").is_some());
    assert_eq!(till.checkout(shop.basket(&[(PLAIN, "1")]), None).await.outcome(), (401, "token_expirado"));
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn tokens_that_we_did_not_sign_are_worthless() {
    let shop = Shop::open().await;
    let good = shop.blend.token(shop.tenant, Role::Owner);
    assert_eq!(Api::new(&shop.server.url(), &good).get("/api/v1/productos").await.status, 200);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, payload) = signed.split_once('.').unwrap();
    let swap = |text: &str| format!("{}{}", if text.starts_with('A') { 'B' } else { 'A' }, &text[1..]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = Claims {
        sub: "ladrón".into(),
        exp: i64::try_from(now).unwrap() + 3_600,
        iat: 0,
        tienda_id: Some(blend::domain::ids::TenantId(shop.tenant)),
        rol: Role::Owner,
    };
    let key = std::fs::read(shop.blend.data_dir().join("jwt.key")).unwrap();
    let other = EncodingKey::from_secret(b"another secret that is long enough to be one");
    let ours = EncodingKey::from_secret(key.trim_ascii());
    // {"alg":"none","typ":"JWT"}, and the same with None and NONE
    let unsigned = [
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
        "eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0",
        "eyJhbGciOiJOT05FIiwidHlwIjoiSldUIn0",
    ];
    let mut forged: Vec<String> = unsigned.iter().map(|head| format!("{head}.{payload}.")).collect();
    forged.extend([
        format!("{signed}.{}", swap(signature)),
        format!("{signed}."),
        signed.to_owned(),
        format!("{}.{signature}", signed.replace(payload, &swap(payload))),
        encode(&Header::new(Algorithm::HS256), &claims, &other).unwrap(),
        encode(&Header::new(Algorithm::HS512), &claims, &ours).unwrap(),
        "a.b.c".into(),
        "x".repeat(4_000),
    ]);
    for token in &forged {
        let reply = Api::new(&shop.server.url(), token).checkout(shop.basket(&[(PLAIN, "1")]), None).await;
        assert_eq!(reply.outcome(), NOBODY, "{token:.80}");
    }
    // The claims must make sense even when the signature is right.
    let nobody = json!({ "sub": "x", "exp": now + 60, "iat": 0, "rol": "cajero" });
    let king = json!({ "sub": "x", "exp": now + 60, "iat": 0, "rol": "rey", "tienda_id": shop.tenant });
    let eternal = json!({ "sub": "x", "iat": 0, "rol": "cajero", "tienda_id": shop.tenant });
    for claims in [nobody, king, eternal] {
        let token = encode(&Header::new(Algorithm::HS256), &claims, &ours).unwrap();
        let reply = Api::new(&shop.server.url(), &token).get("/api/v1/productos").await;
        assert_eq!(reply.outcome(), NOBODY, "{claims}");
    }
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn each_role_does_its_own_work_and_no_more() {
    let shop = Shop::open().await;
    let catalogue_of = |tenant: Uuid| format!("/api/v1/admin/tiendas/{tenant}/catalogo");
    let import = json!({ "reference": "x", "units": [] }).to_string();
    let denied = (403, "permiso_denegado");

    let cashier = &shop.till;
    assert_eq!(cashier.checkout(shop.basket(&[(PLAIN, "1")]), None).await.status, 201);
    assert_eq!(cashier.post(&catalogue_of(shop.tenant), import.clone()).await.outcome(), denied);
    assert_eq!(cashier.post("/api/v1/admin/tiendas", r#"{"nombre":"Mía"}"#).await.outcome(), denied);
    assert_eq!(cashier.get("/api/v1/admin/tiendas").await.outcome(), denied);

    let auditor = shop.caller(Role::Auditor);
    let refusal = auditor.checkout(shop.basket(&[(PLAIN, "1")]), None).await;
    assert_eq!((refusal.outcome(), &refusal.details()["permiso"]), (denied, &json!("ventas:create")));
    assert_eq!(auditor.get("/api/v1/productos").await.status, 200);
    let stocker = shop.caller(Role::Repositor);
    assert_eq!(stocker.checkout(shop.basket(&[(PLAIN, "1")]), None).await.outcome(), denied);

    // The owner runs one shop, not the neighbour's and not the house.
    let owner = shop.caller(Role::Owner);
    assert_eq!(owner.post(&catalogue_of(shop.tenant), import.clone()).await.status, 200);
    let other = shop.blend.tenant("Almacén Norte").await;
    assert_eq!(owner.post(&catalogue_of(other), import.clone()).await.outcome(), (404, "no_encontrado"));
    assert_eq!(
        owner.get(&format!("/api/v1/admin/tiendas/{other}/existencias")).await.outcome(),
        (404, "no_encontrado")
    );
    assert_eq!(owner.post("/api/v1/admin/tiendas", r#"{"nombre":"Otra"}"#).await.outcome(), denied);

    let landlord = Api::new(&shop.server.url(), &shop.blend.token(None, Role::SuperAdmin));
    assert_eq!(landlord.get("/api/v1/admin/tiendas").await.json.as_array().unwrap().len(), 2);
    assert_eq!(landlord.post(&catalogue_of(other), import).await.status, 200);
    let refusal = landlord.checkout(shop.basket(&[(PLAIN, "1")]), None).await;
    assert_eq!(refusal.outcome(), (403, "sin_tienda"));
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn a_tenant_that_does_not_exist_can_do_nothing() {
    let shop = Shop::open().await;
    let ghost = Api::new(&shop.server.url(), &shop.blend.token(Uuid::now_v7(), Role::Owner));
    let gone = (403, "tienda_inexistente");
    assert_eq!(ghost.checkout(shop.basket(&[(PLAIN, "1")]), None).await.outcome(), gone);
    for path in ["/api/v1/productos", "/api/v1/stock/locations", "/api/v1/productos/scan/P01"] {
        assert_eq!(ghost.get(path).await.outcome(), gone, "{path}");
    }
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn d41_operations_are_open_to_this_machine_and_closed_to_a_proxy() {
    let shop = Shop::open().await;
    let stranger = Api::anonymous(&shop.server.url());
    let get = hyper::Method::GET;
    for path in ["/metrics", "/ops/actors", "/ops/live", "/"] {
        assert_eq!(stranger.get(path).await.status, 200, "{path}");
        for header in ["x-forwarded-for", "forwarded"] {
            let through = |api: Api| {
                let get = get.clone();
                async move { api.send(get, path, &[(header, "127.0.0.1")], "").await.unwrap() }
            };
            assert_eq!(through(stranger.clone()).await.outcome(), (401, "no_autenticado"), "{path}");
            assert_eq!(through(shop.till.clone()).await.outcome(), (403, "permiso_denegado"), "{path}");
            assert_eq!(through(shop.caller(Role::Auditor)).await.status, 200, "{path}");
        }
    }
    shop.close().await;

    let closed = Shop::open_with(&catalogue(1), &[("BLEND_SERVER__OPS_OPEN_TO_LOOPBACK", "false")]).await;
    let stranger = Api::anonymous(&closed.server.url());
    assert_eq!(stranger.get("/metrics").await.outcome(), (401, "no_autenticado"));
    assert_eq!(stranger.get("/health").await.status, 200, "whether it lives is no secret");
    assert_eq!(closed.caller(Role::Admin).get("/metrics").await.status, 200);
    closed.close().await;
}

#[tokio::test]
async fn the_live_page_shows_no_sales_unless_it_is_told_to() {
    for shows in [false, true] {
        let setting = [("BLEND_SERVER__LIVE_PAGE_SHOWS_SALES", if shows { "true" } else { "false" })];
        let shop = Shop::open_with(&catalogue(9), &setting).await;
        let sale = shop.sell(&[(PLAIN, "1")]).await.sale();
        let live = Api::anonymous(&shop.server.url()).get("/ops/live").await;
        let text = String::from_utf8_lossy(&live.body).into_owned();
        assert_eq!(text.contains(&sale), shows, "{text}");
        assert_eq!(text.contains("Almacén Sur"), shows, "{text}");
        assert_eq!(text.contains("Producto 1, grande"), shows, "{text}");
        assert_eq!(live.json["ventas"]["total"], 1);
        shop.close().await;
    }
}

//! HTTP at its edges: what is no request of ours, what is too much, what never comes.

use crate::support::api::{Api, CHECKOUT, raw_exchange, raw_reply};
use crate::support::eventually;
use crate::support::process::Blend;
use crate::support::shop::{PLAIN, Shop, catalogue};
use hyper::Method;
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn unknown_routes_and_methods_are_told_apart() {
    let blend = Blend::new();
    let server = blend.serve().await;
    let api = Api::anonymous(&server.url());
    for path in [
        "/nada",
        "/api/v1",
        "/api/v1/ventas",
        "/api/v2/productos",
        "/api/v1/productos/scan",
        "/%00",
        "/..%2f",
    ] {
        assert_eq!(api.get(path).await.outcome(), (404, "no_encontrado"), "{path}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let reply = api.send(method.clone(), CHECKOUT, &[], "").await.unwrap();
        // GET is the look-up of a sale named "checkout", to which nobody without a token gets.
        let expected =
            if method == Method::GET { (401, "no_autenticado") } else { (405, "metodo_no_permitido") };
        assert_eq!(reply.outcome(), expected, "{method}");
    }
    let reply = api.send(Method::POST, "/health", &[], "").await.unwrap();
    assert_eq!(
        (reply.outcome(), reply.header("allow")),
        ((405, "metodo_no_permitido"), Some("GET, HEAD, OPTIONS"))
    );
    let reply = api.send(Method::OPTIONS, "/health", &[], "").await.unwrap();
    assert_eq!((reply.status, reply.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    let head = api.send(Method::HEAD, "/health", &[], "").await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0);
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_however_it_is_announced() {
    let shop = Shop::open().await;
    let large = format!(r#"{{"items":[{}],"metodo_pago":"efectivo"}}"#, " ".repeat(10_000_000));
    let reply = shop.till.checkout(large.clone(), None).await;
    assert_eq!(reply.outcome(), (413, "cuerpo_demasiado_grande"));

    let mut chunked = format!(
        "POST {CHECKOUT} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    .into_bytes();
    for chunk in large.as_bytes().chunks(65_536) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let reply = raw_reply(&raw_exchange(shop.server.address(), &chunked).await);
    assert_eq!(reply.outcome(), (413, "cuerpo_demasiado_grande"));
    // The server is none the worse for it.
    assert_eq!(shop.sell(&[(PLAIN, "1")]).await.status, 201);
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn what_is_no_json_is_400_and_depth_is_bounded() {
    let shop = Shop::open().await;
    let good = shop.basket(&[(PLAIN, "1")]);
    let bomb = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let hidden = good.replacen(
        r#""cantidad":1"#,
        &format!(r#""cantidad":{}1{}"#, "[".repeat(500), "]".repeat(500)),
        1,
    );
    let bodies: [&[u8]; 8] = [
        b"{",
        b"{}{}",
        b"hola",
        b"\xff\xfe",
        b"{'items':[]}",
        &good.as_bytes()[..good.len() - 1],
        bomb.as_bytes(),
        hidden.as_bytes(),
    ];
    for body in bodies {
        let reply = shop.till.checkout(body.to_vec(), None).await;
        assert_eq!(reply.outcome(), (400, "json_invalido"), "{:.60}", String::from_utf8_lossy(body));
    }
    let reply = shop
        .till
        .send(Method::POST, CHECKOUT, &[("content-type", "text/plain")], good.clone())
        .await
        .unwrap();
    assert_eq!(reply.outcome(), (415, "tipo_no_soportado"));
    let reply = shop
        .till
        .send(Method::POST, CHECKOUT, &[("content-type", "application/json; charset=utf-8")], good)
        .await;
    assert_eq!(reply.unwrap().status, 201);
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn what_is_no_http_gets_the_envelope_too() {
    let blend = Blend::new();
    let server = blend.serve().await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let requests = [
        ("HELO\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400),
        (long.as_str(), 431),
        (many.as_str(), 431),
    ];
    for (request, status) in requests {
        let reply = raw_reply(&raw_exchange(server.address(), request.as_bytes()).await);
        assert_eq!(reply.status, status, "{request:.60}");
    }
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_is_let_go() {
    let settings = [
        ("BLEND_SERVER__HEADER_TIMEOUT_SECS", "1"),
        ("BLEND_SERVER__BODY_TIMEOUT_SECS", "1"),
        ("BLEND_SERVER__IDLE_TIMEOUT_SECS", "1"),
    ];
    let shop = Shop::open_with(&catalogue(9), &settings).await;
    let token = shop.blend.token(shop.tenant, blend::http::Role::Cajero);
    let half_a_body = format!(
        "POST {CHECKOUT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: 100\r\n\r\n{{\"items\":["
    );
    let idle = "GET /health HTTP/1.1\r\nhost: a\r\n\r\n";
    let cases = [
        ("nothing at all", "", ""),
        ("half a header", "POST /api/v1/ventas/checkout HTTP/1.1\r\nho", ""),
        ("half a body", &half_a_body, "HTTP/1.1 408 "),
        ("no second request", idle, "HTTP/1.1 200 "),
    ];
    for (what, request, answered) in cases {
        let started = Instant::now();
        let answer = raw_exchange(shop.server.address(), request.as_bytes()).await;
        let took = started.elapsed();
        assert!(
            answer.starts_with(answered) && answer.is_empty() == answered.is_empty(),
            "{what}: {answer:?}"
        );
        assert!((Duration::from_millis(900)..Duration::from_secs(15)).contains(&took), "{what}: {took:?}");
        if answered.contains("408") {
            assert_eq!(raw_reply(&answer).outcome(), (408, "tiempo_agotado"));
        }
    }
    assert!(shop.close().await.sales.is_empty());
}

#[tokio::test]
async fn a_request_keeps_its_name() {
    let blend = Blend::new();
    let server = blend.serve().await;
    let api = Api::anonymous(&server.url());
    let named = async |id: &str| api.send(Method::GET, "/nada", &[("x-request-id", id)], "").await.unwrap();
    let reply = named("caja-7:000042").await;
    assert_eq!(
        (reply.header("x-request-id"), &reply.json["request_id"]),
        (Some("caja-7:000042"), &json!("caja-7:000042"))
    );
    for id in ["", "a b", "a\"b", &"x".repeat(129)] {
        let reply = named(id).await;
        let given = reply.header("x-request-id").unwrap();
        assert!(given != id && given.parse::<uuid::Uuid>().is_ok(), "{id:?}: {given}");
    }
    let (one, two) = (api.get("/health").await, api.get("/health").await);
    assert!(one.header("x-request-id").is_some() && one.header("x-request-id") != two.header("x-request-id"));
    let milliseconds = one.header("x-process-time").unwrap();
    assert!(milliseconds.split_once('.').unwrap().1.len() == 3, "{milliseconds}");
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn metrics_count_sales_and_know_every_actor() {
    let shop = Shop::open().await;
    for _ in 0..3 {
        shop.till.checkout(shop.basket(&[(PLAIN, "1")]), Some("k")).await;
    }
    shop.sell(&[(PLAIN, "5000")]).await;
    let expected = [
        "sales_processed_total 1",
        "sale_processing_seconds_count 1",
        "blend_sales_replayed_total 2",
        "blend_sales_refused_total{reason=\"short_stock\"} 1",
        "blend_http_requests_total{method=\"POST\",route=\"/api/v1/ventas/checkout\",status=\"2xx\"} 3",
        "blend_ledger_lag_events 0",
        "blend_journal_findings 0",
        "blend_actor_up{actor=\"journal\",kind=\"journal\"} 1",
        "blend_actor_up{actor=\"ledger\",kind=\"ledger\"} 1",
        "blend_actor_up{actor=\"reservation-3\",kind=\"reservation\"} 1",
        "blend_actor_mailbox_depth{actor=\"reservation-0\",kind=\"reservation\"} 0",
    ];
    // Levels are exported every second.
    let text = eventually("the metrics are up to date", async || {
        let metrics = shop.till.get("/metrics").await;
        assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        (expected.iter().all(|line| text.lines().any(|found| found == *line))).then_some(text)
    });
    let text = match tokio::time::timeout(Duration::from_secs(20), text).await {
        Ok(text) => text,
        Err(_) => {
            let metrics = String::from_utf8(shop.till.get("/metrics").await.body.to_vec()).unwrap();
            let missing: Vec<_> =
                expected.iter().filter(|line| !metrics.lines().any(|found| found == **line)).collect();
            panic!("{missing:#?} are not in\n{metrics}");
        }
    };
    assert!(
        text.contains("# TYPE sale_processing_seconds histogram") && !text.contains(&shop.tenant.to_string())
    );
    let actors = shop.till.get("/ops/actors").await;
    let names: Vec<_> = actors.json["actors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|actor| actor["name"].as_str().unwrap())
        .collect();
    for name in ["journal", "ledger", "reservation-0", "reservation-1", "reservation-2", "reservation-3"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    shop.close().await;
}

#[tokio::test]
async fn health_readiness_and_the_description_are_served() {
    let blend = Blend::new();
    let server = blend.serve().await;
    let api = Api::anonymous(&server.url());
    for path in ["/health", "/api/v1/health"] {
        let reply = api.get(path).await;
        assert_eq!((&reply.json["status"], &reply.json["service"]), (&json!("healthy"), &json!("blend")));
        assert_eq!(reply.json["version"], env!("CARGO_PKG_VERSION"));
    }
    for path in ["/ready", "/api/v1/health/ready"] {
        let reply = api.get(path).await;
        assert_eq!((reply.status, &reply.json["status"]), (200, &json!("ready")), "{}", reply.json);
        let checks = reply.json["checks"].as_object().unwrap();
        for check in ["journal", "ledger", "reservation-0", "journal_file", "ledger_lag"] {
            assert_eq!(checks[check]["ok"], true, "{check}");
        }
    }
    let openapi = api.get("/api/v1/openapi.json").await;
    assert_eq!((openapi.status, openapi.header("content-type")), (200, Some("application/json")));
    assert!(openapi.json.is_object());
    assert!(server.sigterm().await.success());
}

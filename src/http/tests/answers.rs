//! What is answered to what.

use super::*;

#[test]
fn a_request_is_answered_and_named() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let mut client = server.connect().await;
        client
            .send(format!("GET /hola/{ID}/?limit=7 HTTP/1.1\r\nHost: x\r\nX-Request-ID: caja-7\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), serde_json::json!({ "id": ID, "limit": 7, "peer": "127.0.0.1" }));
        assert_eq!(answer.headers["x-request-id"], "caja-7");
        assert_eq!(answer.headers["content-type"], "application/json");
        let (_, decimals) = answer.headers["x-process-time"].split_once('.').unwrap();
        assert_eq!(decimals.len(), 3);
        // The same connection again, with a body in two packets.
        let body = r#"{"items":[{"sku":"A","cantidad":2},{"sku":"B","cantidad":3}]}"#;
        let request = post("/carrito", body);
        let (first, second) = request.split_at(request.len() - 20);
        client.send(first).await;
        client.send(second).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.json()["unidades"].as_u64()), (201, Some(5)));
        assert_eq!(answer.json()["skus"], serde_json::json!(["A", "B"]));
        assert_ne!(answer.headers["x-request-id"], "caja-7");
    });
}

#[test]
fn unknown_paths_and_methods_have_the_envelope() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        server.ask(&get("/nada")).await.is(404, "no_encontrado");
        server.ask(&get("/")).await.is(404, "no_encontrado");
        server.ask("BREW /nada HTTP/1.1\r\nHost: x\r\n\r\n").await.is(404, "no_encontrado");
        let wrong = server.ask(&post("/hola/7", "{}")).await;
        wrong.is(405, "metodo_no_permitido");
        assert_eq!(wrong.headers["allow"], "GET, HEAD, OPTIONS");
        let options = server.ask("OPTIONS /carrito HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!((options.status, options.headers["allow"].as_str()), (204, "POST, OPTIONS"));
        assert!(options.headers.contains_key("x-request-id"));
    });
}

#[test]
fn head_is_get_without_a_body() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let mut client = server.connect().await;
        client.send(format!("HEAD /hola/{ID} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let head = client.head().await;
        client.send(get(&format!("/hola/{ID}"))).await;
        // If the HEAD had had a body it would be read here instead of a status line.
        let get = client.answer().await;
        assert_eq!((head.status, get.status), (200, 200));
        assert_eq!(head.headers["content-length"], get.headers["content-length"]);
        client.send("HEAD /nada HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.head().await.status, 404);
    });
}

#[test]
fn json_is_read_strictly() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let deep = "[".repeat(100_000);
        for body in ["{", "{\"items\":[],}", "{\"items\":NaN}", deep.as_str()] {
            server.ask(&post("/carrito", body)).await.is(400, "json_invalido");
        }
        let wrong = r#"{"items":[{"sku":"A","cantidad":1},{"sku":"B","cantidad":"x"}]}"#;
        let wrong = server.ask(&post("/carrito", wrong)).await;
        wrong.is(422, "validacion");
        let errors = &wrong.json()["error"]["validation_errors"];
        assert_eq!(errors[0]["field"], "items[1].cantidad");
        assert_eq!(errors[0]["type"], "tipo");
        server.ask(&post("/carrito", "")).await.is(422, "validacion");
        let text =
            "POST /carrito HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 1\r\n\r\n1";
        server.ask(text).await.is(415, "tipo_no_soportado");
        let bad_id = server.ask(&get("/hola/7")).await;
        bad_id.is(422, "validacion");
        assert_eq!(bad_id.json()["error"]["validation_errors"][0]["field"], "id");
        let bad_limit = server.ask(&get(&format!("/hola/{ID}?limit=0"))).await;
        assert_eq!(bad_limit.json()["error"]["validation_errors"][0]["field"], "limit");
    });
}

#[test]
fn a_panic_is_a_500_and_the_connection_lives() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let mut client = server.connect().await;
        for path in ["/panico", "/panico/luego"] {
            client.send(get(path)).await;
            let answer = client.answer().await;
            answer.is(500, "error_interno");
            assert!(!String::from_utf8_lossy(&answer.body).contains("fire"));
        }
        client.send(get(&format!("/hola/{ID}"))).await;
        assert_eq!(client.answer().await.status, 200);
    });
}

#[test]
fn refusals_carry_their_headers_and_keep_their_cause() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let busy = server.ask(&get("/ocupado")).await;
        busy.is(503, "ocupado");
        assert_eq!(busy.headers["retry-after"], "3");
        assert!(!String::from_utf8_lossy(&busy.body).contains("1234"));
        let locked = server.ask(&get("/cerrado")).await;
        locked.is(401, "no_autenticado");
        assert_eq!(locked.headers["www-authenticate"], "Bearer");
    });
}

#[test]
fn what_is_not_http_has_the_envelope_too() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        for bytes in [
            "hola\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ] {
            let mut client = server.connect().await;
            // After an answer to a good request as well.
            client.send(get(&format!("/hola/{ID}"))).await;
            assert_eq!(client.answer().await.status, 200);
            client.send(bytes).await;
            client.answer().await.is(400, "http_invalido");
            assert_eq!(client.rest().await, b"");
        }
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(20_000));
        server.ask(&long).await.is(404, "no_encontrado");
    });
}

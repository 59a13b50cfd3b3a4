//! What a client may not have too much of.

use super::*;
use std::time::Instant;

#[test]
fn half_a_header_is_closed_at_its_timeout() {
    on_actix(async {
        let server = Server::start(ServerLimits { header_timeout: SHORT, ..roomy() }).await;
        let started = Instant::now();
        for start in ["", "GET /hola HTTP/1.1\r\nHos"] {
            let mut client = server.connect().await;
            client.send(start).await;
            assert_eq!(client.rest().await, b"");
        }
        assert!(started.elapsed() >= SHORT * 2);
        // The second request of a connection has the same limit, although its idle time is long.
        let mut client = server.connect().await;
        client.send(get(&format!("/hola/{ID}"))).await;
        assert_eq!(client.answer().await.status, 200);
        client.send("GET /hola").await;
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn a_trickled_header_gains_nothing() {
    on_actix(async {
        let server = Server::start(ServerLimits { header_timeout: SHORT, ..roomy() }).await;
        let client = server.connect().await;
        let (mut read, mut write) = client.stream.into_split();
        let trickle = tokio::spawn(async move {
            let mut every = tokio::time::interval(SHORT / 10);
            loop {
                every.tick().await;
                if write.write_all(b"G").await.is_err() {
                    break;
                }
            }
        });
        let mut rest = Vec::new();
        read.read_to_end(&mut rest).await.ok();
        assert_eq!(rest, b"");
        trickle.await.unwrap();
    });
}

#[test]
fn an_idle_connection_is_closed_at_its_timeout() {
    on_actix(async {
        let server = Server::start(ServerLimits { idle_timeout: SHORT, ..roomy() }).await;
        let mut client = server.connect().await;
        let started = Instant::now();
        for _ in 0..3 {
            client.send(get(&format!("/hola/{ID}"))).await;
            assert_eq!(client.answer().await.status, 200);
        }
        assert_eq!(client.rest().await, b"");
        assert!(started.elapsed() >= SHORT);
    });
}

#[test]
fn a_slow_handler_is_not_idle() {
    on_actix(async {
        let limits = ServerLimits { idle_timeout: SHORT / 4, header_timeout: SHORT / 4, ..roomy() };
        let server = Server::start(limits).await;
        let mut client = server.connect().await;
        client.send(get("/espera")).await;
        server.gate.someone_waits().await;
        // That nothing happens can only be seen by letting time pass.
        tokio::time::sleep(SHORT).await;
        server.gate.open();
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(client.rest().await, b"");
    });
}

#[test]
fn half_a_body_is_408_at_its_timeout() {
    on_actix(async {
        let server = Server::start(ServerLimits { body_timeout: SHORT, ..roomy() }).await;
        for head in ["Content-Length: 10\r\n\r\n12345", "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"] {
            let mut client = server.connect().await;
            client.send(format!("POST /medir HTTP/1.1\r\nHost: x\r\n{head}")).await;
            client.answer().await.is(408, "tiempo_agotado");
            assert_eq!(client.rest().await, b"");
        }
    });
}

#[test]
fn a_body_beyond_the_limit_is_413() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let ten_mb = "x".repeat(10 << 20);
        server.ask(&post("/medir", &ten_mb)).await.is(413, "cuerpo_demasiado_grande");
        let chunk = format!("{:x}\r\n{ten_mb}\r\n0\r\n\r\n", ten_mb.len());
        let chunked = format!("POST /medir HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        server.ask(&chunked).await.is(413, "cuerpo_demasiado_grande");
        // Who asks first is told before sending anything.
        let mut client = server.connect().await;
        let expect = "Expect: 100-continue\r\nContent-Length: 10000000";
        client.send(format!("POST /medir HTTP/1.1\r\nHost: x\r\n{expect}\r\n\r\n")).await;
        client.answer().await.is(413, "cuerpo_demasiado_grande");
        // A route's own limit, to the byte.
        assert_eq!(server.ask(&post("/chico", "12345678")).await.json(), 8);
        server.ask(&post("/chico", "123456789")).await.is(413, "cuerpo_demasiado_grande");
        let fits = "POST /chico HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n3\r\n678\r\n0\r\n\r\n";
        assert_eq!(server.ask(fits).await.json(), 8);
        server.ask(&fits.replace("3\r\n678", "4\r\n6789")).await.is(413, "cuerpo_demasiado_grande");
    });
}

#[test]
fn a_header_beyond_the_limit_is_431() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let long = format!("GET /nada HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
        let many = format!("GET /nada HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(101));
        for request in [long, many] {
            let mut client = server.connect().await;
            // The server may have closed before all of it is sent.
            client.stream.write_all(request.as_bytes()).await.ok();
            client.answer().await.is(431, "cabecera_demasiado_grande");
            assert_eq!(client.rest().await, b"");
        }
    });
}

#[test]
fn a_peer_that_takes_no_bytes_is_cut() {
    on_actix(async {
        let server =
            Server::start(ServerLimits { write_timeout: SHORT, max_connections: 1, ..roomy() }).await;
        let mut deaf = server.connect().await;
        deaf.send(get("/grande")).await;
        // Its place is free for the next only when it is gone.
        assert_eq!(server.ask(&get(&format!("/hola/{ID}"))).await.status, 200);
        assert!(deaf.rest().await.len() < 64 << 20);
        // One that reads gets all of it, however long it takes in sum.
        assert_eq!(server.ask(&get("/grande")).await.body.len(), 64 << 20);
    });
}

#[test]
fn connections_beyond_the_cap_wait_their_turn() {
    on_actix(async {
        let server = Server::start(ServerLimits { max_connections: 2, ..roomy() }).await;
        let hello = get(&format!("/hola/{ID}"));
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut client = server.connect().await;
            client.send(&hello).await;
            assert_eq!(client.answer().await.status, 200);
            open.push(client);
        }
        let mut third = server.connect().await;
        third.send(&hello).await;
        tokio::time::timeout(SHORT, third.answer()).await.expect_err("there was no room");
        drop(open.pop());
        assert_eq!(third.answer().await.status, 200);
        // A full house still hears the stop.
        assert_eq!(server.stop().await, ServeOutcome { cut: 0 });
    });
}

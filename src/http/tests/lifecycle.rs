//! How a server changes what it answers, and how it ends.

use super::*;

#[test]
fn another_table_answers_on_connections_that_are_open() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let (mut asked, mut silent, mut busy) =
            (server.connect().await, server.connect().await, server.connect().await);
        asked.send("POST /medir HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").await;
        assert_eq!(asked.answer().await.body, b"3");
        busy.send(get("/espera")).await;
        server.gate.someone_waits().await;
        server.tables.change_to(Routes::new().get("/medir", async |_| Response::ok("otra")).build().unwrap());
        // Whoever has spoken, whoever has not yet, and whoever was being answered.
        for client in [&mut asked, &mut silent] {
            client.send(get("/medir")).await;
            assert_eq!(client.answer().await.json(), "otra");
        }
        server.gate.open();
        assert_eq!(busy.answer().await.json(), "paso");
        busy.send(get("/espera")).await;
        busy.answer().await.is(404, "no_encontrado");
    });
}

#[test]
fn a_stop_lets_requests_end_and_refuses_new_ones() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        let mut idle = server.connect().await;
        idle.send(get(&format!("/hola/{ID}"))).await;
        assert_eq!(idle.answer().await.status, 200);
        let mut busy = server.connect().await;
        busy.send(get("/espera")).await;
        server.gate.someone_waits().await;
        let (at, gate) = (server.at, server.gate.clone());
        let stopped = tokio::spawn(server.stop());
        // The idle connection is closed at once; then nobody listens any more.
        assert_eq!(idle.rest().await, b"");
        assert!(TcpStream::connect(at).await.is_err());
        assert!(!stopped.is_finished());
        gate.open();
        let answer = busy.answer().await;
        assert_eq!((answer.status, answer.headers["connection"].as_str()), (200, "close"));
        assert_eq!(busy.rest().await, b"");
        assert_eq!(stopped.await.unwrap(), ServeOutcome { cut: 0 });
    });
}

#[test]
fn a_stop_cuts_what_is_left_at_its_deadline() {
    on_actix(async {
        let server = Server::start(ServerLimits { shutdown_deadline: SHORT, ..roomy() }).await;
        let mut stuck = server.connect().await;
        stuck.send(get("/espera")).await;
        server.gate.someone_waits().await;
        let mut half = server.connect().await;
        half.send("POST /medir HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1").await;
        // Both are known to the server when this one, made later, is answered.
        assert_eq!(server.ask(&get(&format!("/hola/{ID}"))).await.status, 200);
        let started = std::time::Instant::now();
        assert_eq!(server.stop().await, ServeOutcome { cut: 2 });
        assert!(started.elapsed() >= SHORT);
        assert_eq!((stuck.rest().await, half.rest().await), (vec![], vec![]));
    });
}

#[test]
fn a_stop_without_connections_is_immediate() {
    on_actix(async {
        let server = Server::start(roomy()).await;
        assert_eq!(server.stop().await, ServeOutcome { cut: 0 });
    });
}

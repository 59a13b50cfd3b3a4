//! The client against small servers that behave, hang up, stall or talk nonsense.

use super::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Serves each accepted connection from `replies`: one canned reply per request, then the socket is closed.
async fn canned(replies: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sockets = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sockets);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            for reply in replies {
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") && socket.read_buf(&mut seen).await.unwrap_or(0) > 0 {}
                if seen.is_empty() {
                    break;
                }
                socket.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    });
    (url, sockets)
}

async fn get(connection: &mut Connection) -> Result<Answer, ClientError> {
    connection.request(Method::GET, "/x", None, &[], Bytes::new()).await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn addresses_are_read_or_refused() {
    for (text, host, port, prefix) in [
        ("http://localhost:8080", "localhost", 8080, ""),
        ("127.0.0.1:9", "127.0.0.1", 9, ""),
        ("http://shop.example/blend/", "shop.example", 80, "/blend"),
        ("http://[::1]:7000", "::1", 7000, ""),
    ] {
        let target = Target::parse(text).unwrap();
        assert_eq!((target.host(), target.port(), target.prefix()), (host, port, prefix), "{text}");
    }
    assert!(matches!(Target::parse("https://x"), Err(ClientError::Https(_))));
    for text in ["", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x/?a=1", "http://x y"] {
        assert!(matches!(Target::parse(text), Err(ClientError::BadAddress(_))), "{text}");
    }
}

#[test]
fn tokens_never_show_in_debug_output() {
    let token = Bearer::new("abc").unwrap();
    assert!(!format!("{token:?} {:?}", token.header()).contains("abc"));
    assert!(Bearer::new("a\nb").is_err());
}

#[tokio::test]
async fn one_socket_serves_many_requests() {
    let (url, sockets) = canned(&[OK, OK, OK]).await;
    let mut connection = HttpClient::new(&url).unwrap().connection();
    for _ in 0..3 {
        let answer = get(&mut connection).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"ok"[..]));
    }
    assert_eq!(sockets.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_socket_closed_while_idle_is_replaced_without_an_error() {
    let (url, sockets) = canned(&[OK]).await;
    let mut connection = HttpClient::new(&url).unwrap().connection();
    for _ in 0..4 {
        assert_eq!(get(&mut connection).await.unwrap().status, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(20)).await; // the peer's FIN arrives
    }
    assert_eq!(sockets.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn an_answer_cut_short_is_an_error_and_the_next_request_works() {
    let (url, _) = canned(&[OK, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut"]).await;
    let mut connection = HttpClient::new(&url).unwrap().connection();
    get(&mut connection).await.unwrap();
    assert!(matches!(get(&mut connection).await, Err(ClientError::Broken(..))));
    assert!(!connection.is_open());
    get(&mut connection).await.unwrap();
}

#[tokio::test]
async fn nonsense_is_an_error() {
    let (url, _) = canned(&["SSH-2.0-OpenSSH\r\n"]).await;
    assert!(matches!(
        get(&mut HttpClient::new(&url).unwrap().connection()).await,
        Err(ClientError::Broken(..))
    ));
}

#[tokio::test]
async fn a_stalled_server_times_out_and_its_late_answer_is_never_taken_for_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = HttpClient::new(&url).unwrap().with_timeout(Duration::from_millis(50));
    let mut connection = client.connection();
    assert!(matches!(get(&mut connection).await, Err(ClientError::Timeout(..))));
    assert!(!connection.is_open());
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = HttpClient::new(&url).unwrap();
    assert!(matches!(get(&mut client.connection()).await, Err(ClientError::Connect(..))));
}

#[test]
fn error_codes_are_found_in_error_bodies_only() {
    let answer = |body: &'static str| Answer {
        status: StatusCode::BAD_REQUEST,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
    };
    let body = r#"{"success":false,"error":{"message":"m","code":"stock_insuficiente"},"request_id":"r"}"#;
    assert_eq!(answer(body).error_code().as_deref(), Some("stock_insuficiente"));
    assert_eq!(answer("{}").error_code(), None);
    assert_eq!(answer("<html>").error_code(), None);
}

#[tokio::test]
async fn of_several_servers_the_next_is_asked_when_one_is_away_or_unable() {
    const UNABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let (well, _) = canned(&[OK, OK, OK, OK]).await;
    let (unable, _) = canned(&[UNABLE, UNABLE, UNABLE]).await;
    let client = HttpClient::new(&format!("{well}, {unable},http://127.0.0.1:1")).unwrap();
    let (mut first, mut second, mut third) = (client.connection(), client.connection(), client.connection());
    assert_eq!(get(&mut first).await.unwrap().status, 200);
    assert_eq!(get(&mut first).await.unwrap().status, 200, "it stays where it is well");
    drop(first); // this server has one socket at a time
    assert_eq!(get(&mut second).await.unwrap().status, 503, "what it says is told");
    assert!(matches!(get(&mut second).await, Err(ClientError::Connect(..))));
    assert_eq!(get(&mut second).await.unwrap().status, 200);
    drop(second);
    assert!(matches!(get(&mut third).await, Err(ClientError::Connect(..))));
    assert_eq!(get(&mut third).await.unwrap().status, 200, "after the last comes the first");
    assert!(HttpClient::new("http://a,").is_err());
}

//! Servers that tests start for themselves, from what is installed, on free ports of the loopback; each is gone with
//! the value that stands for it. Included by path, from the unit tests too.

pub mod postgres;
pub mod rabbitmq;
pub mod redis;
pub mod shopify;

use std::net::TcpListener;
use std::process::Child;
use std::time::{Duration, Instant};

/// Longer than any of them takes to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a server that was just started answers; panics, with its name, when it ends or takes too long.
pub async fn await_start(name: &str, child: &mut Child, mut answers: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !answers().await {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{name} ended while it started: {status}");
        }
        assert!(began.elapsed() < PATIENCE, "{name} does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

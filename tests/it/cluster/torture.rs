//! Baskets are rung up at two nodes while servers and nodes are killed at moments that dice choose; then everything
//! that was acknowledged is in the books once, and the laws hold.
//!
//! The suite does it once, with baskets of its own. `IT_SEED=1 IT_SEEDS=20 IT_BASKETS=baskets.csv.gz
//! IT_CATALOGUE=products.csv.gz cargo test --test it torture -- --nocapture` does it for twenty seeds in a row with
//! files of one's own, in the format of `blend replay` and `blend import`.

use super::Servers;
use crate::support::api::Api;
use crate::support::dice::{Dice, seed, wish};
use crate::support::eventually;
use crate::support::ledger::{Books, assert_verified};
use crate::support::process::{Blend, Server};
use crate::support::shop::{baskets, catalogue};
use blend::http::Role;
use hyper::Method;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use uuid::Uuid;

/// Baskets a second: enough that something is always under way.
const RATE: &str = "150";
/// Longest pause before a kill, and longest that somebody stays dead, in microseconds.
const PAUSE: u64 = 600_000;

/// Everything there is to kill.
const VICTIMS: [Victim; 5] =
    [Victim::Redis, Victim::RabbitMq, Victim::Postgres, Victim::Node(0), Victim::Node(1)];

#[derive(Clone, Copy, Debug)]
enum Victim {
    Redis,
    RabbitMq,
    Postgres,
    Node(usize),
}

/// An installation with two nodes, and what is sold there.
struct Chain {
    servers: Servers,
    /// The process first, so that its log can still be shown when a test fails.
    nodes: Vec<(Server, Blend)>,
    tenant: Uuid,
    baskets: PathBuf,
}

impl Chain {
    async fn open() -> Self {
        let servers = Servers::start().await;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let mut node = servers.node();
            // The checker asks for the stock of the whole catalogue, which takes a debug build seconds if it is a real one.
            node.set("BLEND_SERVER__ANSWER_TIMEOUT_SECS", "5");
            let server = node.stand_by().await;
            if nodes.is_empty() {
                eventually("the first node sells", async || is_ready(&server).await.then_some(())).await;
                servers.rabbitmq.await_written("queue.sales.created.3").await;
            }
            nodes.push((server, node));
        }
        let (_, blend) = &nodes[0];
        let tenant = blend.tenant("Almacén Sur").await;
        let catalogue = match wish("IT_CATALOGUE") {
            Some(file) => PathBuf::from(file),
            None => blend.write("catalogo.csv", catalogue(1_000_000)),
        };
        let (file, tenant_id) = (catalogue.display().to_string(), tenant.to_string());
        let import = ["import", "--tenant", &tenant_id, &file, "--stock", "1000000"];
        blend.command(&import).await.done();
        let baskets = match wish("IT_BASKETS") {
            Some(file) => PathBuf::from(file),
            None => blend.write("tickets.csv", baskets(20_000)),
        };
        Self { servers, nodes, tenant, baskets }
    }

    /// Rings up baskets under keys of this seed until everybody was killed once, in an order and at moments that the
    /// seed decides.
    async fn storm(&mut self, seed: u64) {
        let began = Instant::now();
        let mut dice = Dice::of(seed);
        let (_, blend) = &self.nodes[0];
        let (acks, prefix) = (blend.scratch("acks.csv"), format!("seed-{seed}"));
        let urls: Vec<_> = self.nodes.iter().map(|(server, _)| server.url()).collect();
        let urls = urls.join(",");
        let token = blend.token(self.tenant, Role::Cajero);
        let (acks_file, file) = (acks.to_str().unwrap(), self.baskets.to_str().unwrap());
        let mut tills = blend.begin_command(&[
            "replay",
            "--json",
            "--url",
            &urls,
            "--token",
            &token,
            "--rate",
            RATE,
            "--connections",
            "256",
            "--patience",
            "50",
            "--key-prefix",
            &prefix,
            "--acks",
            acks_file,
            file,
        ]);
        let mut order = VICTIMS;
        for last in (1..order.len()).rev() {
            order.swap(last, dice.below(last as u64 + 1) as usize);
        }
        let acknowledged = || std::fs::read_to_string(&acks).map_or(0, |acks| acks.lines().count());
        let mut sold = 0;
        for victim in order {
            // It sells again, without anybody's doing, before the next one dies.
            sold = eventually("more is sold", async || Some(acknowledged()).filter(|now| *now > sold + 20))
                .await;
            sleep(Duration::from_micros(dice.below(PAUSE))).await;
            assert!(!tills.is_over(), "the tills have stopped before {victim:?} was killed");
            self.keep_running().await;
            self.kill(victim).await;
            sleep(Duration::from_micros(dice.below(PAUSE))).await;
            self.revive(victim).await;
        }
        eventually("more is sold after the last", async || (acknowledged() > sold + 20).then_some(())).await;
        tills.interrupt();
        let ran = tills.ended().await;
        let summary: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        assert_eq!((ran.code, &summary["gave_up"]), (Some(0), &0.into()), "{summary}");
        self.keep_running().await;
        let books = assert_verified(self.settled().await).await;
        assert_kept(&books, &prefix, &acks, &summary);
        eprintln!(
            "seed {seed}: {order:?} killed, all over in {} ms; {} baskets sold, {} of them found by asking again, \
             repeats {}",
            began.elapsed().as_millis(),
            summary["sold"],
            summary["replayed"],
            summary["retries"],
        );
    }

    /// As whoever runs nodes does: one that cannot start because a server is away ends, and is started again.
    async fn keep_running(&mut self) {
        for (server, blend) in &mut self.nodes {
            if server.has_ended() {
                *server = blend.serve_at(server.address()).await;
            }
        }
    }

    async fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::Redis => self.servers.redis.kill(),
            Victim::RabbitMq => self.servers.rabbitmq.kill(),
            Victim::Postgres => self.servers.postgres.kill(),
            Victim::Node(number) => {
                let (server, _) = &mut self.nodes[number];
                server.signal("KILL");
                server.ended().await;
            }
        }
    }

    async fn revive(&mut self, victim: Victim) {
        match victim {
            Victim::Redis => self.servers.redis.kill_and_restart().await,
            Victim::RabbitMq => self.servers.rabbitmq.restart().await,
            Victim::Postgres => self.servers.postgres.restart().await,
            Victim::Node(number) => {
                let (server, blend) = &mut self.nodes[number];
                *server = blend.serve_at(server.address()).await;
            }
        }
    }

    /// Waits until both nodes sell and what they sold is in the ledger; one of them.
    async fn settled(&self) -> &Blend {
        for (server, _) in &self.nodes {
            eventually("a node sells and its ledger has caught up", async || {
                let stranger = Api::anonymous(&server.url());
                // It may be about to listen.
                let ready = stranger.send(Method::GET, "/ready", &[], "").await.ok()?;
                let has_caught_up = ready.json["checks"]["ledger_lag"]["events"] == 0;
                (ready.status == 200 && has_caught_up).then_some(())
            })
            .await;
        }
        &self.nodes[0].1
    }
}

async fn is_ready(server: &Server) -> bool {
    let ready = Api::anonymous(&server.url()).send(Method::GET, "/ready", &[], "").await;
    ready.is_ok_and(|ready| ready.status == 200)
}

/// What was acknowledged is in the books, once and under its key, and nothing else of this seed is.
fn assert_kept(books: &Books, prefix: &str, acks: &Path, summary: &Value) {
    let booked = books.by_key();
    let acks = std::fs::read_to_string(acks).unwrap();
    for (basket, id) in acks.lines().map(|line| line.split_once(',').unwrap()) {
        assert_eq!(booked.get(&*format!("{prefix}-{basket}")), Some(&id), "basket {basket}");
    }
    let start = format!("{prefix}-");
    let sold = booked.keys().filter(|key| key.starts_with(&start)).count();
    assert_eq!(sold, acks.lines().count(), "sales in the ledger, sales acknowledged");
    assert_eq!(summary["sold"], sold, "{summary}");
    assert!(sold > 0);
}

#[tokio::test]
async fn whoever_is_killed_at_two_nodes_the_baskets_are_sold_exactly_once() {
    let seeds = wish("IT_SEEDS").map_or(1, |count| count.parse().expect("IT_SEEDS is a number"));
    let mut chain = Chain::open().await;
    let first = seed();
    for seed in first..first + seeds {
        chain.storm(seed).await;
    }
}

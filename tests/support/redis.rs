//! A private redis-server, and a cluster of three.

use super::{await_start, free_port};
use redis::{Client, FromRedisValue, aio::MultiplexedConnection, cmd};
use std::process::{Child, Command, Stdio};

/// One server that keeps nothing on disk unless it is told to.
pub struct RedisServer {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub async fn start(options: &[&str]) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(port, dir.path(), &options);
        let mut server = Self { child, port, dir, options };
        server.await_answer().await;
        server
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Without a database number.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// With a password.
    pub fn url_with(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}/0", self.port)
    }

    /// Another connection, for what an operator or an intruder would do.
    pub async fn connection(&self) -> MultiplexedConnection {
        Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    /// Runs a command given as words.
    pub async fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.connection().await).await.unwrap()
    }

    /// Ends it the hard way and starts it again on the same port, with what it had on disk.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, self.dir.path(), &self.options);
        self.await_answer().await;
    }

    /// Waits until an answer has all of these words in it.
    pub async fn await_info(&mut self, question: &[&str], words: &[&str]) {
        let mut connection = self.connection().await;
        let mut command = cmd(question[0]);
        command.arg(&question[1..]);
        await_start(&question.join(" "), &mut self.child, async || {
            let info: String = command.query_async(&mut connection).await.unwrap();
            words.iter().all(|word| info.contains(word))
        })
        .await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may be dead already; then there is nothing to end.
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }

    async fn await_answer(&mut self) {
        let url = self.url();
        await_start("redis-server", &mut self.child, async || {
            let Ok(mut connection) =
                Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await
            else {
                return false;
            };
            match cmd("PING").exec_async(&mut connection).await {
                Ok(()) => true,
                // It answers, and wants a password.
                Err(error) => error.code() == Some("NOAUTH"),
            }
        })
        .await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, dir: &std::path::Path, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(dir)
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Three primaries, and replicas if wanted.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    /// Where the first node listens to the others.
    bus: String,
}

impl RedisCluster {
    /// Starts three primaries and waits until every one sees all slots served.
    pub async fn start() -> Self {
        const SLOTS: [[&str; 2]; 3] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];
        let (first, bus) = start_node().await;
        let mut cluster = Self { nodes: vec![first], bus };
        while cluster.nodes.len() < SLOTS.len() {
            cluster.join().await;
        }
        for (node, [first, last]) in cluster.nodes.iter().zip(SLOTS) {
            node.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
        }
        for node in &mut cluster.nodes {
            node.await_info(&["CLUSTER", "INFO"], &["cluster_state:ok", "cluster_slots_ok:16384"]).await;
        }
        cluster
    }

    /// Adds a replica of the first node and waits until it has everything; it is the last of the nodes then.
    pub async fn add_replica(&mut self) {
        self.join().await;
        let id: String = self.nodes[0].run(&["CLUSTER", "MYID"]).await;
        if let Some(replica) = self.nodes.last_mut() {
            replica.await_info(&["CLUSTER", "NODES"], &[&id]).await;
            replica.run::<()>(&["CLUSTER", "REPLICATE", &id]).await;
            replica.await_info(&["INFO", "replication"], &["master_link_status:up"]).await;
        }
    }

    /// Of one node; it tells the others.
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// The nodes.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    async fn join(&mut self) {
        let (mut node, _) = start_node().await;
        let first = self.nodes[0].port.to_string();
        node.run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first, &self.bus]).await;
        let known = format!("cluster_known_nodes:{}", self.nodes.len() + 1);
        for node in self.nodes.iter_mut().chain([&mut node]) {
            node.await_info(&["CLUSTER", "INFO"], &[&known]).await;
        }
        self.nodes.push(node);
    }
}

async fn start_node() -> (RedisServer, String) {
    let bus = free_port().to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
    (RedisServer::start(&options).await, bus)
}

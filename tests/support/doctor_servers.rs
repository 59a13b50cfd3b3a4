//! Servers that are set up as a test of the doctor says: what it finds depends on how they are set up.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than any of them takes to start.
const PATIENCE: Duration = Duration::from_secs(60);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn await_port(child: &mut Child, port: u16) {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "the server ended while it started");
        assert!(began.elapsed() < PATIENCE, "the server does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A running Redis; gone when dropped.
pub struct Redis {
    child: Child,
    port: u16,
    _files: TempDir,
}

impl Redis {
    /// Starts one on a free port of the loopback, with more options as on its command line.
    pub async fn start(options: &[&str]) -> Self {
        let files = TempDir::new().unwrap();
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.arg("--dir").arg(files.path()).args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut redis = Self { child, port, _files: files };
        await_port(&mut redis.child, port).await;
        redis
    }

    /// Its url, with a password if it wants one.
    pub fn url(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}/0", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // An error means that it is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A running PostgreSQL that asks for passwords over TCP and for none on its socket; gone when dropped.
pub struct Postgres {
    child: Child,
    port: u16,
    files: TempDir,
}

impl Postgres {
    pub async fn start() -> Self {
        let files = TempDir::new().unwrap();
        if let Some((user, group)) = unprivileged() {
            chown(files.path(), Some(user), Some(group)).unwrap();
        }
        let data = files.path().join("data");
        let mut initdb = postgres_program("initdb", files.path());
        initdb.args([
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--no-sync",
            "-D",
        ]);
        let made = initdb.args([&data]).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let mut server = postgres_program("postgres", files.path());
        server.args(["-h", "127.0.0.1", "-c", "shared_buffers=16MB", "-p", &port.to_string(), "-k"]);
        server.arg(files.path()).arg("-D").arg(&data);
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut postgres = Self { child, port, files };
        await_port(&mut postgres.child, port).await;
        let began = Instant::now();
        while !postgres.as_administrator("psql").args(["-c", ""]).output().unwrap().status.success() {
            assert!(began.elapsed() < PATIENCE, "PostgreSQL does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        postgres
    }

    /// A program that finds this server's administrator by itself.
    pub fn as_administrator(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("PGHOST", self.files.path()).env("PGPORT", self.port.to_string());
        command.env("PGUSER", "postgres").env("POSTGRES_USER", "postgres").stdin(Stdio::null());
        command
    }

    pub fn sql(&self, statement: &str) {
        let ran = self.as_administrator("psql").args(["-v", "ON_ERROR_STOP=1", "-c", statement]).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{statement}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown takes the sessions along. Errors mean that it is gone already.
        Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status().ok();
        self.child.wait().ok();
    }
}

/// A program of the newest installed version, run as somebody who is not root.
fn postgres_program(program: &str, directory: &Path) -> Command {
    let version = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().parse::<u32>().unwrap_or(0);
    let installed = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed");
    let newest = installed.map(|entry| entry.unwrap().path()).max_by_key(version).unwrap();
    let mut command = Command::new(newest.join("bin").join(program));
    command.current_dir(directory).env("LC_ALL", "C.UTF-8");
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

/// User and group `postgres`, when we are root: the server refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> =
        users.lines().find(|line| line.starts_with("postgres:")).unwrap().split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

/// A running RabbitMQ with a user and a virtual host `blend`, names, ports and files of its own; gone when dropped.
pub struct RabbitMq {
    child: Child,
    port: u16,
    mapper: u16,
    files: TempDir,
}

impl RabbitMq {
    pub async fn start(password: &str) -> Self {
        let (files, port, mapper) = (TempDir::new().unwrap(), free_port(), free_port());
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = blend\ndefault_pass = {password}\n\
             default_vhost = blend\ndisk_free_limit.absolute = 1MB\n"
        );
        fs::write(files.path().join("rabbit.conf"), settings).unwrap();
        // The port mapper first and of the same group: the node would start one that outlives it.
        let mut server = rabbitmq_program("sh", files.path(), mapper);
        server.args(["-c", "epmd & exec /usr/lib/rabbitmq/bin/rabbitmq-server"]);
        server.env("RABBITMQ_DIST_PORT", free_port().to_string()).process_group(0);
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut rabbitmq = Self { child, port, mapper, files };
        await_port(&mut rabbitmq.child, port).await;
        // It listens before it has finished starting.
        rabbitmq.ctl(&["await_startup"]);
        rabbitmq
    }

    pub fn url(&self, password: &str, vhost: &str) -> String {
        format!("amqp://blend:{password}@127.0.0.1:{}/{vhost}", self.port)
    }

    /// Runs `rabbitmqctl`.
    pub fn ctl(&self, args: &[&str]) {
        let ran = rabbitmq_program("/usr/lib/rabbitmq/bin/rabbitmqctl", self.files.path(), self.mapper)
            .args(args)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{args:?}: {ran:?}");
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // The group has the node, its helpers and its port mapper. An error means that it is gone already.
        Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status().ok();
        self.child.wait().ok();
    }
}

fn rabbitmq_program(program: &str, directory: &Path, mapper: u16) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", format!("doctor{mapper}@localhost"))
        .env("RABBITMQ_CONFIG_FILE", directory.join("rabbit.conf"))
        .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("plugins"))
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command
}

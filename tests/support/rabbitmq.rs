//! A RabbitMQ of its own: node, names, ports, cookie, files and port mapper are in no other's way.

use super::{PATIENCE, await_start, free_port};
use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A broker with its default user and virtual host.
pub struct RabbitMq {
    port: u16,
    ports: [u16; 2],
    dir: TempDir,
    broker: Child,
}

impl RabbitMq {
    /// Starts one; it keeps its files over [`Self::kill`] and [`Self::restart`].
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one with more lines in its configuration.
    pub async fn start_with(settings: &str) -> Self {
        let (dir, port, ports) = (tempfile::tempdir().unwrap(), free_port(), [free_port(), free_port()]);
        if let Some(installed) = installed() {
            furnish(&installed, &dir.path().join("home"));
        }
        std::fs::write(dir.path().join("plugins"), "[].").unwrap();
        std::fs::write(dir.path().join("rabbitmq.conf"), format!("heartbeat = 10\n{settings}")).unwrap();
        let broker = launch(&dir, port, ports);
        let mut server = Self { port, ports, dir, broker };
        server.await_answer().await;
        server
    }

    /// The process whose children are the node, its helpers and its port mapper.
    pub fn id(&self) -> u32 {
        self.broker.id()
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As its default user.
    pub fn url(&self) -> String {
        self.url_with("guest", "guest", "%2f")
    }

    /// As a user of a virtual host.
    pub fn url_with(&self, user: &str, password: &str, vhost: &str) -> String {
        format!("amqp://{user}:{password}@127.0.0.1:{}/{vhost}", self.port)
    }

    /// Runs `rabbitmqctl`; what it prints comes back.
    pub fn ctl(&self, args: &[&str]) -> String {
        let ran = self.try_ctl(args);
        assert!(ran.status.success(), "{args:?}: {ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    fn try_ctl(&self, args: &[&str]) -> Output {
        let program = script(&self.dir, "rabbitmqctl");
        command(program, &self.dir, self.port, self.ports).args(args).output().unwrap()
    }

    /// The queues of the default virtual host.
    pub fn queues(&self) -> Vec<String> {
        let listed = self.ctl(&["--quiet", "--no-table-headers", "list_queues", "name"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// Waits until the node has written down that it has a quorum queue. It does so about three seconds after the
    /// queue was declared; killed before, it comes back with an empty one that never has a leader.
    pub async fn await_written(&self, queue: &str) {
        let node = format!("blend{}@localhost", self.port);
        let names = self.dir.path().join("mnesia").join(&node).join("quorum").join(&node).join("names.dets");
        let began = Instant::now();
        while !std::fs::read(&names).unwrap().windows(queue.len()).any(|bytes| bytes == queue.as_bytes()) {
            assert!(began.elapsed() < PATIENCE, "{queue} is not written down");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills it as the loss of power would.
    pub fn kill(&mut self) {
        signal("KILL", self.broker.id());
        self.broker.wait().unwrap();
    }

    /// Stops it from doing anything, with its connections open.
    pub fn freeze(&self) {
        signal("STOP", self.broker.id());
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        signal("CONT", self.broker.id());
    }

    /// Starts it again with what is on its disk.
    pub async fn restart(&mut self) {
        self.broker = launch(&self.dir, self.port, self.ports);
        self.await_answer().await;
    }

    /// It listens before it has recovered its queues, and greets only afterwards.
    async fn await_answer(&mut self) {
        let port = self.port;
        await_start("rabbitmq-server", &mut self.broker, async || greets(port).await).await;
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let queues: &[&str] = &["name", "messages_ready", "messages_unacknowledged", "consumers"];
            let connections: &[&str] = &["pid", "name", "state"];
            for (what, columns) in [
                ("list_queues", queues),
                ("list_consumers", &["queue_name", "channel_pid", "active", "activity_status"]),
                ("list_connections", connections),
            ] {
                let ran = self.try_ctl(&[&["--quiet", what], columns].concat());
                eprintln!(
                    "---- {what} of the broker at {}:\n{}",
                    self.port,
                    String::from_utf8_lossy(&ran.stdout)
                );
            }
        }
        signal("KILL", self.broker.id());
        drop(self.broker.wait());
    }
}

/// The whole group of a process: the node, its helpers, its port mapper.
fn signal(name: &str, leader: u32) {
    drop(Command::new("kill").arg(format!("-{name}")).arg("--").arg(format!("-{leader}")).status());
}

/// A client's header (AMQP 0-9-1, 2.3.1) is answered with a frame of type method.
async fn greets(port: u16) -> bool {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let mut first = [0];
    socket.write_all(b"AMQP\x00\x00\x09\x01").await.is_ok()
        && socket.read_exact(&mut first).await.is_ok()
        && first == [1]
}

fn launch(dir: &TempDir, port: u16, ports: [u16; 2]) -> Child {
    let log = std::fs::File::create(dir.path().join("console.log")).unwrap();
    // The port mapper first and as a child of the same group: the node would start one that outlives it.
    command("sh", dir, port, ports)
        .args(["-c", "epmd & exec \"$0\""])
        .arg(script(dir, "rabbitmq-server"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .expect("rabbitmq-server cannot be started")
}

/// A program in the node's surroundings.
fn command(
    program: impl AsRef<OsStr>,
    dir: &TempDir,
    port: u16,
    [mapper, distribution]: [u16; 2],
) -> Command {
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let mut command = Command::new(program);
    command
        .env("HOME", dir.path())
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_NODENAME", format!("blend{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("RABBITMQ_MNESIA_BASE", at("mnesia"))
        .env("RABBITMQ_LOG_BASE", at("log"))
        .env("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", at("plugins"))
        .env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        );
    // A broker that is not where Debian puts it finds its applications by itself.
    let plugins = at("home/plugins");
    if plugins.exists() {
        command.env("RABBITMQ_PLUGINS_DIR", plugins);
    }
    command
}

/// Where the newest version is installed. What Debian puts on the path instead changes the user and with it the
/// environment.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    versions.map(|version| version.path()).filter(|home| home.join("sbin/rabbitmq-server").exists()).max()
}

/// A script of the server's home, or what is on the path.
fn script(dir: &TempDir, name: &str) -> PathBuf {
    let ours = dir.path().join("home/sbin").join(name);
    if ours.exists() { ours } else { name.into() }
}

/// A home with the broker's own applications alone. Erlang looks for a module in the directory of each application
/// there is, one after the other, so a broker without its fifty plugins starts in half the time.
fn furnish(installed: &Path, home: &Path) {
    std::fs::create_dir_all(home.join("sbin")).unwrap();
    std::fs::create_dir(home.join("plugins")).unwrap();
    symlink(installed.join("escript"), home.join("escript")).unwrap();
    // The scripts follow links to find their home, so they are copied.
    for script in std::fs::read_dir(installed.join("sbin")).unwrap().flatten() {
        std::fs::copy(script.path(), home.join("sbin").join(script.file_name())).unwrap();
    }
    let mut wanted = vec!["rabbit".to_owned()];
    let mut next = 0;
    while let Some(name) = wanted.get(next).cloned() {
        next += 1;
        // What is not among them is part of Erlang.
        let Some(application) = application(&installed.join("plugins"), &name) else { continue };
        for needed in needs(&application.join("ebin").join(format!("{name}.app"))) {
            if !wanted.contains(&needed) {
                wanted.push(needed);
            }
        }
        symlink(&application, home.join("plugins").join(application.file_name().unwrap())).unwrap();
    }
}

/// The directory of an application: its name and version.
fn application(plugins: &Path, name: &str) -> Option<PathBuf> {
    let is_it = |directory: &PathBuf| {
        let name_and_version = directory.file_name().and_then(|name| name.to_str()?.rsplit_once('-'));
        name_and_version.is_some_and(|(other, _)| other == name)
    };
    std::fs::read_dir(plugins).unwrap().flatten().map(|entry| entry.path()).find(is_it)
}

/// The applications that an application's description says it needs: `{applications, [kernel, ...]}`.
fn needs(description: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(description).unwrap();
    let list = text.split_once("{applications").and_then(|(_, rest)| rest.split_once('[')?.1.split_once(']'));
    let (list, _) = list.unwrap_or_else(|| panic!("{} names no applications", description.display()));
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

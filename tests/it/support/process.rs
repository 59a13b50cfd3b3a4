//! An installation and its processes.

use super::{PATIENCE, eventually};
use blend::http::{Authenticator, Claims, Role, Secret};
use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

/// Lines of a server's stdout that may wait to be read: a demonstration says about thirty.
const STDOUT_LINES: usize = 256;

/// A data directory of its own, and the program to work on it.
pub struct Blend {
    root: TempDir,
    data_dir: PathBuf,
    files: Cell<u32>,
    settings: Vec<(String, String)>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// What it printed, when it did what it was asked.
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// What it complained of, when it was refused: exit code 1 and a word about it, never a panic.
    pub fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(!self.stderr.is_empty() && !self.stderr.contains("panicked"), "{self:?}");
        self.stderr
    }
}

impl Blend {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        let data_dir = root.path().join("data");
        Self { root, data_dir, files: Cell::new(0), settings: Vec::new() }
    }

    /// With settings from the environment, for every command.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { settings: settings.iter().map(owned).collect(), ..Self::new() }
    }

    /// Sets one more, or the same to something else.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// A setting that it was given.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// With the data directory somewhere else.
    pub fn on(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), ..Self::new() }
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A place for a file that is not part of the installation.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.files.set(self.files.get() + 1);
        self.root.path().join(format!("{}-{name}", self.files.get()))
    }

    /// Writes such a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The program on this installation.
    fn program(&self, args: &[&str]) -> Command {
        let mut command = program(args);
        command.arg("--data-dir").arg(&self.data_dir);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub async fn command(&self, args: &[&str]) -> Ran {
        self.run(self.program(args)).await
    }

    /// Runs any command to its end, or kills it.
    pub async fn run(&self, command: Command) -> Ran {
        self.begin(command).ended().await
    }

    /// Begins a command that goes on for a while.
    pub fn begin_command(&self, args: &[&str]) -> Running {
        self.begin(self.program(args))
    }

    fn begin(&self, mut command: Command) -> Running {
        let (out, err) = (self.scratch("stdout"), self.scratch("stderr"));
        let (stdout, stderr) = (File::create(&out).unwrap(), File::create(&err).unwrap());
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        Running { child: Ended(child), out, err }
    }

    /// Serves on a free port.
    pub async fn serve(&self) -> Server {
        self.serve_with(&[]).await
    }

    /// Serves with settings from the environment.
    pub async fn serve_with(&self, settings: &[(&str, &str)]) -> Server {
        let mut command = self.program(&["serve", "--listen", "127.0.0.1:0"]);
        command.envs(settings.iter().copied());
        Server::start(command, self.scratch("server.log")).await
    }

    /// Serves, and is not waited for: it says where it listens only once every shard has a node.
    pub async fn stand_by(&self) -> Server {
        self.serve_at(&format!("127.0.0.1:{}", crate::servers::free_port())).await
    }

    /// Serves at an address, whether or not it sells there.
    pub async fn serve_at(&self, address: &str) -> Server {
        let command = self.program(&["serve", "--listen", address]);
        Server::listening(command, self.scratch("server.log"), address.to_owned()).await
    }

    /// Creates a tenant.
    pub async fn tenant(&self, name: &str) -> Uuid {
        self.command(&["tenant", "create", name]).await.done().trim().parse().unwrap()
    }

    /// Imports a catalogue.
    pub async fn import(&self, tenant: Uuid, csv: impl AsRef<[u8]>, args: &[&str]) -> Ran {
        let (file, tenant) = (self.write("catalogo.csv", csv), tenant.to_string());
        let file = file.display().to_string();
        let args = [&["import", "--tenant", &tenant, &file], args].concat();
        self.command(&args).await
    }

    /// A token that is good for an hour. It is signed here with the installation's key: a process for each of them
    /// would cost more than many a test. What `blend token` makes is tested with the commands.
    pub fn token(&self, tenant: impl Into<Option<Uuid>>, role: Role) -> String {
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let claims = Claims {
            sub: "caja-7".into(),
            exp: now + 3_600,
            iat: now,
            tienda_id: tenant.into().map(blend::domain::ids::TenantId),
            rol: role,
        };
        let key = match self.setting("BLEND_AUTH__JWT_SECRET") {
            Some(secret) => secret.to_owned(),
            None => std::fs::read_to_string(self.data_dir.join("jwt.key")).unwrap(),
        };
        let secret = Secret::new(key.trim()).unwrap();
        Authenticator::new(secret, Arc::new(move || now)).mint(&claims).unwrap()
    }
}

/// The program without an installation.
pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blend"));
    // Whoever runs the tests may have an installation of their own set up.
    let is_setting = |name: &str| {
        name.starts_with("BLEND_") || ["DATABASE_URL", "REDIS_URL", "RABBITMQ_URL"].contains(&name)
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// A command that has not ended yet.
pub struct Running {
    child: Ended,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    /// What Ctrl-C does.
    pub fn interrupt(&self) {
        signal("INT", self.child.0.id());
    }

    /// Whether it has ended by itself.
    pub fn is_over(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub async fn ended(mut self) -> Ran {
        let status = eventually("the command ends", async || self.child.0.try_wait().unwrap()).await;
        let read = |path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        Ran { code: status.code(), stdout: read(&self.out), stderr: read(&self.err) }
    }
}

/// Sends a signal, by name, to a process.
pub fn signal(name: &str, pid: u32) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}: {status}");
}

/// A child that does not outlive its owner.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // An error means that it is gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A process that serves.
pub struct Server {
    child: Ended,
    address: String,
    stdout: mpsc::Receiver<String>,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it says where it listens.
    pub async fn start(mut command: Command, log: PathBuf) -> Self {
        let (child, mut stdout) = spawn(&mut command, &log);
        let first = timeout(PATIENCE, stdout.recv()).await;
        let said = || String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
        let Ok(Some(first)) = first else { panic!("the server did not start ({first:?}):\n{}", said()) };
        #[derive(serde::Deserialize)]
        struct Listening {
            listening: String,
        }
        let Listening { listening } = serde_json::from_str(&first).unwrap();
        Self { child, address: listening, stdout, log }
    }

    /// Starts it and waits until it answers at an address, whether or not it sells.
    pub async fn listening(mut command: Command, log: PathBuf, address: String) -> Self {
        let (child, stdout) = spawn(&mut command, &log);
        eventually("it listens", async || tokio::net::TcpStream::connect(&address).await.ok()).await;
        Self { child, address, stdout, log }
    }

    /// Its address and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it has said on stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// The next line on stdout.
    pub async fn line(&mut self) -> String {
        timeout(PATIENCE, self.stdout.recv()).await.unwrap().expect("the server said no more")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.0.id()
    }

    /// Sends a signal, by name.
    pub fn signal(&self, name: &str) {
        signal(name, self.child.0.id());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.0.try_wait().unwrap().is_some()
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child.0;
        eventually("the server ends", async || child.try_wait().unwrap()).await
    }

    /// Asks it to end and says how it did.
    pub async fn sigterm(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Kills it: it has no chance to say or write anything more.
    pub fn sigkill(mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }
}

fn spawn(command: &mut Command, log: &Path) -> (Ended, mpsc::Receiver<String>) {
    let stderr = File::create(log).unwrap();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    let mut child = Ended(child);
    let (sender, stdout) = mpsc::channel(STDOUT_LINES);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    // Ends with the pipe, that is with the child.
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.blocking_send(line)));
    (child, stdout)
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic in here would hide the first.
            let said = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
            let from = said.len().saturating_sub(4_000);
            let tail = said.get(from..).unwrap_or(&said);
            eprintln!("---- stderr of the server at {}:\n{tail}----", self.address);
        }
    }
}

//! A private PostgreSQL server.

use super::{await_start, free_port};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A server with an empty cluster; its superuser is `postgres`, and it asks nobody for a password.
pub struct Postgres {
    child: Child,
    dir: TempDir,
    settings: Vec<String>,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl Postgres {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with settings of its own, each as `name=value`.
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::start_letting_in("--auth=trust", settings).await
    }

    /// Starts one as a shop's should be: it syncs, and asks for passwords, but not those who come by its socket.
    pub async fn start_with_passwords() -> Self {
        let settings = ["fsync=on", "max_connections=100"];
        Self::start_letting_in("--auth-host=scram-sha-256", &settings).await
    }

    async fn start_letting_in(whom: &str, settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The server refuses to run as root, and to share its directory.
        if let Some((user, group)) = unprivileged() {
            chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let data = dir.path().join("data");
        let mut initdb = command("initdb", dir.path());
        initdb.args(["--username=postgres", "--auth-local=trust", whom]);
        initdb.args(["--encoding=UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.arg("-D").arg(&data).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let child = launch(dir.path(), port, &settings);
        let mut server = Self { child, dir, settings, port };
        server.await_ready().await;
        server
    }

    /// Ends the server as a power cut would, as far as it can tell: nothing is written or said any more.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again after [`kill`](Self::kill), on the same port and files.
    pub async fn restart(&mut self) {
        // Its sessions notice the death by themselves; until the last has ended no new server may start.
        loop {
            self.child = launch(self.dir.path(), self.port, &self.settings);
            if self.is_ready_or_ended().await {
                return;
            }
        }
    }

    /// The process whose children are the sessions.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A program of its own version, `psql` for one, that finds this server and its superuser by itself.
    pub fn client(&self, program: &str) -> Command {
        self.administered_by(newest_version().join("bin").join(program))
    }

    /// Any program, with what it needs to find this server and its superuser.
    pub fn administered_by(&self, program: impl AsRef<Path>) -> Command {
        let mut client = Command::new(program.as_ref());
        client.env("PGHOST", self.dir.path()).env("PGPORT", self.port.to_string());
        client.env("PGUSER", "postgres").env("POSTGRES_USER", "postgres").stdin(Stdio::null());
        client
    }

    /// Runs statements as its superuser.
    pub fn sql(&self, statements: &str) {
        let ran = self.client("psql").args(["-v", "ON_ERROR_STOP=1", "-c", statements]).output().unwrap();
        assert!(ran.status.success(), "{statements}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// The url of a database, as its superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_of("postgres", database)
    }

    /// The url of a database, as a user whose password is not asked for.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        self.url_with(user, "secreto", database)
    }

    /// The url of a database, as a user.
    pub fn url_with(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    async fn await_ready(&mut self) {
        let (dir, port) = (self.dir.path().to_owned(), self.port);
        await_start("postgres", &mut self.child, async || is_ready(&dir, port)).await;
    }

    /// False when it ended instead.
    async fn is_ready_or_ended(&mut self) -> bool {
        loop {
            if is_ready(self.dir.path(), self.port) {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown takes its sessions along and gives its shared memory back; the last resort does not.
        let quit = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        if !quit.is_ok_and(|status| status.success()) {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

fn launch(dir: &Path, port: u16, settings: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut server = command("postgres", dir);
    server.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
    ]);
    // What the process wrote outlives it, so that a kill loses nothing without fsync either.
    let usual = ["fsync=off", "shared_buffers=16MB", "max_connections=40", "max_wal_size=256MB", "jit=off"];
    for setting in usual.into_iter().chain(settings.iter().map(String::as_str)) {
        server.args(["-c", setting]);
    }
    server.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn is_ready(dir: &Path, port: u16) -> bool {
    let mut asks = command("pg_isready", dir);
    asks.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]);
    asks.status().unwrap().success()
}

/// A program of the newest installed version, run as somebody who is not root.
fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(newest_version().join("bin").join(program));
    command.current_dir(dir).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

fn newest_version() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed");
    let version = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().parse::<u32>().unwrap_or(0);
    installed.map(|entry| entry.unwrap().path()).max_by_key(version).expect("PostgreSQL is not installed")
}

/// User and group `postgres`, when we are root.
fn unprivileged() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("there is no user postgres");
    let field = |index| line.split(':').nth(index).unwrap().parse().unwrap();
    Some((field(2), field(3)))
}

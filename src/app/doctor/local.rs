//! What the engine itself stands on: its settings, the clock, what the kernel grants it, and the data directory.

use super::report::{Checks, Verdict};
use crate::app::data_dir::holder;
use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::ports::clock::Clock;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// 2024-01-01T00:00:00Z in seconds. Ids begin with the time; a clock before this was never set.
const CLOCK_AFTER: i64 = 1_704_067_200;

/// Descriptors beside those of the edge's connections: files, connections to servers, the log.
const OTHER_FILES: u64 = 128;

/// Below this much room in the data directory nothing works for long.
const LEAST_MIB: u64 = 128;

/// File systems of other machines, on which SQLite's write-ahead log is not safe
/// (<https://www.sqlite.org/wal.html>, "does not work over a network filesystem").
const NETWORK: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"];

/// File systems that end with the machine or the container.
const FLEETING: [&str; 3] = ["tmpfs", "ramfs", "overlay"];

/// Settings, clock and limits.
pub(super) fn engine(config: &Config, clock: &dyn Clock, checks: &mut Checks) {
    checks.ok("version", env!("CARGO_PKG_VERSION"));
    let urls = [&config.ledger.url, &config.stock.url, &config.bus.url];
    judge_key(config, urls.iter().any(|url| !url.reveal().is_empty()), checks);
    judge_clock(clock.now(), checks);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    judge_open_files(open_files(&limits), config.server.max_connections as u64, checks);
}

fn judge_key(config: &Config, shared: bool, checks: &mut Checks) {
    let file = config.data_dir.join("jwt.key");
    let (aspect, place) = ("signing key", file.display());
    if !config.auth.jwt_secret.reveal().is_empty() {
        checks.ok(aspect, "from the settings");
        return;
    }
    match fs::metadata(&file).map(|meta| meta.permissions().mode() & 0o077) {
        Ok(0) if !shared => checks.ok(aspect, format!("in {place}")),
        Ok(others) if others != 0 => checks.fail(
            aspect,
            format!("{place} can be read by others, who can then make tokens"),
            format!("chmod 600 {place}, or remove it to have a new one made (every token becomes invalid)"),
        ),
        _ if shared => checks.warn(
            aspect,
            format!("in {place}, which only this node has"),
            "set BLEND_AUTH__JWT_SECRET to the same 32 bytes or more on every node: openssl rand -hex 32",
        ),
        _ => checks.ok(aspect, format!("{place}, made at first use")),
    }
}

fn judge_clock(now: Timestamp, checks: &mut Checks) {
    let advice =
        "set the machine's clock and keep it set (chrony, systemd-timesyncd): ids, tokens and sales carry it";
    checks.judge("clock", now.to_string(), now.seconds() >= CLOCK_AFTER, Verdict::Failed, advice);
}

/// The soft limit, from the text of `/proc/self/limits`; none when it is unlimited or not told.
fn open_files(limits: &str) -> Option<u64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

fn judge_open_files(limit: Option<u64>, connections: u64, checks: &mut Checks) {
    let needed = connections.saturating_add(OTHER_FILES);
    let found = limit.map_or("no limit".to_owned(), |limit| format!("{limit} at most"));
    let advice = format!(
        "server.max_connections = {connections} needs {needed}: ulimit -n {needed}, LimitNOFILE= in systemd, or fewer \
         connections"
    );
    checks.judge("open files", found, limit.is_none_or(|limit| limit >= needed), Verdict::Warning, advice);
}

/// The data directory. On a thread of its own: a file system that hangs must not hang the other probes, nor the end
/// of the program.
pub(super) async fn data_dir(config: &Config, checks: &mut Checks) {
    let (path, journal_mib) = (config.data_dir.clone(), config.journal.max_mib);
    let (done, found) = oneshot::channel();
    std::thread::spawn(move || done.send(Facts::of(&path)));
    if let Ok(facts) = found.await {
        judge_data_dir(&config.data_dir, &facts, journal_mib, checks);
    }
}

/// What was seen of a data directory.
struct Facts {
    /// Whether it is there; otherwise the others are about the nearest directory above.
    exists: bool,
    writable: io::Result<()>,
    free_mib: io::Result<u64>,
    kind: Option<String>,
    /// Who has it: a running process.
    in_use: bool,
}

impl Facts {
    fn of(path: &Path) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let above = absolute.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
        let above = fs::canonicalize(above).unwrap_or_else(|_| above.to_owned());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self {
            exists: path.is_dir(),
            writable: try_writing(&above),
            free_mib: free_mib(&above),
            kind: file_system(&mounts, &above),
            in_use: is_locked(&path.join("blend.lock")),
        }
    }
}

/// Writes a file as the journal does, up to the disk, and takes it away again.
fn try_writing(directory: &Path) -> io::Result<()> {
    let file = directory.join(format!(".blend-doctor-{}", std::process::id()));
    let written = File::create_new(&file).and_then(|mut out| {
        out.write_all(b"blend doctor")?;
        out.sync_all()
    });
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        written => written.and(fs::remove_file(&file)),
    }
}

fn free_mib(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}

/// The kind of file system a place is on, from the text of `/proc/self/mountinfo` (proc(5)).
fn file_system(mounts: &str, place: &Path) -> Option<String> {
    let mut best: Option<(PathBuf, &str)> = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let point = PathBuf::from(point.replace("\\040", " "));
        // Of two mounts on one point the later one hides the earlier.
        let longer = |(best, _): &(PathBuf, &str)| point.as_os_str().len() >= best.as_os_str().len();
        if place.starts_with(&point) && best.as_ref().is_none_or(longer) {
            best = Some((point, kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// Whether a process holds the lock. Opened for reading only, so that looking changes nothing.
fn is_locked(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn judge_data_dir(path: &Path, facts: &Facts, journal_mib: u64, checks: &mut Checks) {
    let place = path.display();
    let advice = "give it to the user that Blend runs as, or choose another with --data-dir";
    match (&facts.writable, facts.exists) {
        (Ok(()), true) => checks.ok("place", format!("{place}, writable")),
        (Ok(()), false) => checks.ok("place", format!("{place} is not there yet and can be made")),
        (Err(error), true) => checks.fail("place", format!("{place} is not writable: {error}"), advice),
        (Err(error), false) => checks.fail("place", format!("{place} cannot be made: {error}"), advice),
    }
    match &facts.free_mib {
        Ok(free) if *free < LEAST_MIB => {
            let found = format!("{free} MiB free");
            checks.fail("space", found, "make room: sales will be refused as almacenamiento_lleno");
        }
        Ok(free) => checks.judge(
            "space",
            format!("{free} MiB free"),
            *free >= journal_mib,
            Verdict::Warning,
            format!("the journal may grow to journal.max_mib = {journal_mib}: make room, or lower that"),
        ),
        Err(error) => checks.warn("space", error.to_string(), "look with df whether there is room"),
    }
    match facts.kind.as_deref() {
        Some(kind) if NETWORK.contains(&kind) => {
            checks.warn(
                "file system",
                kind,
                "use a local disk: SQLite's files are not safe on a network file system",
            );
        }
        Some(kind) if FLEETING.contains(&kind) => {
            let advice =
                "what is on it goes with the machine or the container: use a disk, or mount a volume";
            checks.warn("file system", kind, advice);
        }
        kind => checks.ok("file system", kind.unwrap_or("not told by this system")),
    }
    match holder(path).filter(|_| facts.in_use) {
        Some(holder) => {
            let at = holder.listening.map(|address| format!(", listening at {address}")).unwrap_or_default();
            checks.ok("lock", format!("in use by process {} (blend {}){at}", holder.pid, holder.command));
        }
        None if facts.in_use => checks.ok("lock", "in use"),
        None => checks.ok("lock", "free"),
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;

//! The data directory: its files, its lock, and how a command finds the server that runs on it.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// What the lock file says about who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its command.
    pub command: String,
    /// Where it listens, once it does.
    pub listening: Option<String>,
}

/// A data directory that belongs to this process until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
    holder: Holder,
}

/// What came of asking for a data directory.
#[derive(Debug)]
pub enum Claim {
    /// It is ours.
    Ours(DataDir),
    /// Another process has it.
    Held(Holder),
}

impl DataDir {
    /// Takes the directory, making it if need be.
    pub fn claim(path: &Path, command: &str) -> anyhow::Result<Claim> {
        std::fs::create_dir_all(path).with_context(|| {
            format!("data directory {} cannot be made: choose another with --data-dir", path.display())
        })?;
        let file = path.join("blend.lock");
        let mut lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file).with_context(
                || {
                    format!(
                        "data directory {} is not writable: fix its owner or mode, or choose another",
                        path.display()
                    )
                },
            )?;
        match lock.try_lock() {
            Ok(()) => {
                let holder = Holder { pid: std::process::id(), command: command.to_owned(), listening: None };
                let mut dir = Self { path: path.to_owned(), lock, holder };
                dir.write_holder()?;
                Ok(Claim::Ours(dir))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                lock.read_to_string(&mut text)
                    .with_context(|| format!("{} cannot be read", file.display()))?;
                let unknown = Holder { pid: 0, command: "another process".to_owned(), listening: None };
                Ok(Claim::Held(serde_json::from_str(&text).unwrap_or(unknown)))
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("{} cannot be locked", file.display()))
            }
        }
    }

    /// Takes the directory or says who has it.
    pub fn claim_alone(path: &Path, command: &str) -> anyhow::Result<Self> {
        match Self::claim(path, command)? {
            Claim::Ours(dir) => Ok(dir),
            Claim::Held(Holder { pid, command, .. }) => bail!(
                "data directory {} is in use by process {pid} (blend {command}): stop it first, or choose another \
                 with --data-dir",
                path.display()
            ),
        }
    }

    /// Lets commands find the server.
    pub fn announce(&mut self, listening: &str) -> anyhow::Result<()> {
        self.holder.listening = Some(listening.to_owned());
        self.write_holder()
    }

    fn write_holder(&mut self) -> anyhow::Result<()> {
        let text = serde_json::to_vec(&self.holder)?;
        let mut write = || {
            self.lock.set_len(0)?;
            self.lock.rewind()?;
            self.lock.write_all(&text)
        };
        write().with_context(|| format!("data directory {} is not writable", self.path.display()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        journal_file(&self.path)
    }

    /// The file of the connections to marketplaces.
    pub fn channels(&self) -> PathBuf {
        self.path.join("channels.db")
    }

    /// The ledger's file.
    pub fn ledger(&self) -> PathBuf {
        ledger_file(&self.path)
    }
}

/// Who holds a data directory, as far as its lock file says; it may have ended since.
pub fn holder(data_dir: &Path) -> Option<Holder> {
    serde_json::from_slice(&std::fs::read(data_dir.join("blend.lock")).ok()?).ok()
}

/// The journal's file in a data directory.
pub fn journal_file(data_dir: &Path) -> PathBuf {
    data_dir.join("journal.db")
}

/// The ledger's file in a data directory.
pub fn ledger_file(data_dir: &Path) -> PathBuf {
    data_dir.join("ledger.db")
}

/// The signing key of a data directory, made at first use, readable by its owner only.
pub fn signing_key(data_dir: &Path) -> anyhow::Result<String> {
    let file = data_dir.join("jwt.key");
    std::fs::create_dir_all(data_dir).with_context(|| {
        format!("data directory {} cannot be made: choose another with --data-dir", data_dir.display())
    })?;
    match std::fs::read_to_string(&file) {
        Ok(key) => return Ok(key.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("signing key {} cannot be read", file.display()));
        }
    }
    let key = random_key()?;
    // Written aside and linked into place: of two processes that start at once, both use the key of the first.
    let aside = data_dir.join(format!("jwt.key.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(&aside)?;
        out.write_all(key.as_bytes())?;
        out.sync_all()?;
        match std::fs::hard_link(&aside, &file) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => std::fs::remove_file(&aside)?,
        }
        Ok(())
    };
    write().with_context(|| format!("data directory {} is not writable", data_dir.display()))?;
    Ok(std::fs::read_to_string(&file)?.trim().to_owned())
}

/// 256 bits from the kernel, as hexadecimal.
fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("no randomness")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_the_second_learns_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let Claim::Ours(mut first) = DataDir::claim(dir.path(), "serve").unwrap() else {
            panic!("it was free")
        };
        first.announce("127.0.0.1:7").unwrap();
        let Claim::Held(holder) = DataDir::claim(dir.path(), "import").unwrap() else {
            panic!("it was taken")
        };
        assert_eq!((holder.command.as_str(), holder.listening.as_deref()), ("serve", Some("127.0.0.1:7")));
        let refusal = DataDir::claim_alone(dir.path(), "serve").unwrap_err().to_string();
        assert!(refusal.contains("in use by process") && refusal.contains("blend serve"), "{refusal}");
        drop(first);
        assert!(matches!(DataDir::claim(dir.path(), "import").unwrap(), Claim::Ours(_)));
    }

    #[test]
    fn the_signing_key_is_made_once_and_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let key = signing_key(dir.path()).unwrap();
        assert_eq!((key.len(), signing_key(dir.path()).unwrap()), (64, key));
        let mode = std::fs::metadata(dir.path().join("jwt.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = DataDir::claim(file.path(), "serve").unwrap_err().to_string();
        assert!(refusal.contains(&file.path().display().to_string()), "{refusal}");
    }
}

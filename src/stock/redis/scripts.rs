//! The Lua scripts of `src/lua/`, as one process has them in Redis.

use redis::{Cmd, cmd};

/// What every script begins with, behind its first line.
const PRELUDE: &str = include_str!("../../lua/prelude.lua");

/// A script; what it does is said in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Holds all units of a sale or none.
    MultiReserve,
    /// Ends a reservation whose sale is durable.
    Settle,
    /// Undoes a reservation.
    Rollback,
    /// Starts a tenant over.
    Warmup,
    /// Adds durable movements.
    Move,
    /// Reads levels.
    Check,
    /// Reads what a key stands for.
    KeyUse,
    /// Remembers a settled key.
    RememberKey,
    /// Lists the oldest settled keys.
    OldestKeys,
    /// Forgets the oldest settled keys.
    ForgetKeys,
}

impl Script {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::MultiReserve,
        Self::Settle,
        Self::Rollback,
        Self::Warmup,
        Self::Move,
        Self::Check,
        Self::KeyUse,
        Self::RememberKey,
        Self::OldestKeys,
        Self::ForgetKeys,
    ];

    /// The text of its file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::MultiReserve => include_str!("../../lua/multi_reserve.lua"),
            Self::Settle => include_str!("../../lua/settle.lua"),
            Self::Rollback => include_str!("../../lua/rollback.lua"),
            Self::Warmup => include_str!("../../lua/warmup.lua"),
            Self::Move => include_str!("../../lua/move.lua"),
            Self::Check => include_str!("../../lua/check.lua"),
            Self::KeyUse => include_str!("../../lua/key_use.lua"),
            Self::RememberKey => include_str!("../../lua/remember_key.lua"),
            Self::OldestKeys => include_str!("../../lua/oldest_keys.lua"),
            Self::ForgetKeys => include_str!("../../lua/forget_keys.lua"),
        }
    }

    /// What is loaded: the first line (which says what Redis may refuse), the mark, the prelude, the rest.
    pub fn source(self, mark: &str) -> String {
        let (first, rest) = self.file().split_once('\n').unwrap_or((self.file(), ""));
        format!("{first}\n-- {mark}\n{PRELUDE}\n{rest}")
    }
}

/// The scripts under names that only the present life of the servers knows.
///
/// Redis names a script by the hash of its text and forgets scripts when it restarts, whatever else it remembers of
/// that time. The text has the run ids of the servers in it, so a set of scripts is known to exactly those that have
/// been up since they got it. A server that came back from an old file, or a replica that took over without the last
/// writes, answers NOSCRIPT instead of selling from what it believes to be the stock.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    hashes: [String; Script::ALL.len()],
}

impl Loaded {
    /// Under the hashes that Redis told, in the order of [`Script::ALL`].
    pub const fn under(hashes: [String; Script::ALL.len()]) -> Self {
        Self { hashes }
    }

    /// The command that runs a script.
    pub fn call(&self, script: Script, keys: &[String], args: &[String]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.hashes[script as usize]).arg(keys.len()).arg(keys).arg(args);
        command
    }

    /// The command that asks which scripts are still there.
    pub fn exist(&self) -> Cmd {
        let mut command = cmd("SCRIPT");
        command.arg("EXISTS").arg(&self.hashes[..]);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_has_its_number_and_its_own_text() {
        for (number, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(script as usize, number);
            let source = script.source("mark");
            let mut lines = source.lines();
            assert!(lines.next().unwrap().starts_with("#!lua") && lines.next() == Some("-- mark"));
            assert!(source.contains("local function fence(") && source.contains("-- Returns {1"));
            assert_ne!(source, script.source("other mark"));
        }
    }

    /// Redis lets a script touch only what KEYS declare; so a name may come from nowhere else. (D9)
    #[test]
    fn d9_no_script_makes_up_the_name_of_a_key() {
        for text in Script::ALL.map(Script::file).into_iter().chain([PRELUDE]) {
            for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
                for (_, call) in
                    line.match_indices("redis.call(").map(|(at, found)| (at, &line[at + found.len()..]))
                {
                    let key = call.split(',').nth(1).unwrap().trim().trim_end_matches(')');
                    assert!(["book", "place", "KEYS[i]"].contains(&key), "{key} in: {line}");
                }
                let named =
                    line.split_once("book").is_some_and(|(_, rest)| rest.trim_start().starts_with("= "));
                assert!(!named || line.contains("book = KEYS[1]"), "{line}");
                assert!(!line.contains("'stock:") && !line.contains("place .."), "{line}");
            }
        }
    }
}

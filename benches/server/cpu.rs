//! What processes have cost so far, in user and system time, from /proc. Where there is none everything costs nothing.

use std::collections::HashMap;
use std::fs;

/// A line of `/proc/<pid>/stat`, as far as it is of interest. Times are in ticks of a hundredth of a second.
struct Stat {
    id: u32,
    parent: u32,
    /// Of the process itself.
    own: u64,
    /// Of its children that have ended and were waited for.
    ended: u64,
}

impl Stat {
    fn of(process: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in brackets, may contain spaces.
        let (before, after) = stat.rsplit_once(')')?;
        let id = before.split_whitespace().next()?.parse().ok()?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            id,
            parent: fields.get(1)?.parse().ok()?,
            own: field(11)? + field(12)?,
            ended: field(13)? + field(14)?,
        })
    }
}

/// Microseconds of this process, without those that it started.
pub fn own() -> u64 {
    Stat::of("self").map_or(0, |stat| micros(stat.own))
}

/// Microseconds of a process and of all that it started, directly or not.
pub fn tree(root: u32) -> u64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = entries.filter_map(|entry| Stat::of(entry.file_name().to_str()?));
    let stats: HashMap<u32, Stat> = stats.map(|stat| (stat.id, stat)).collect();
    let belongs = |stat: &&Stat| {
        let mut at = *stat;
        loop {
            if at.id == root {
                return true;
            }
            match stats.get(&at.parent) {
                Some(parent) if at.parent != at.id => at = parent,
                _ => return false,
            }
        }
    };
    stats.values().filter(belongs).map(|stat| micros(stat.own + stat.ended)).sum()
}

const fn micros(ticks: u64) -> u64 {
    ticks * 10_000
}

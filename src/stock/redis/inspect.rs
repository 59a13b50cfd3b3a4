//! What kind of server it is, for warnings at start.

use std::collections::HashMap;

/// The oldest version that runs the scripts: `#!lua` is of 7.0.
const OLDEST: (u32, u32) = (7, 0);

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// For example `7.0.15`.
    pub version: String,
    /// Whether it is a node of a cluster.
    pub is_cluster: bool,
    /// What it does when it is full, for example `noeviction`.
    pub maxmemory_policy: String,
    /// How much memory it may use, in bytes; 0 for no limit.
    pub maxmemory: u64,
    /// Whether it writes an append-only file.
    pub has_aof: bool,
}

impl Inspection {
    /// From the answer to `INFO`.
    pub(super) fn read(info: &str) -> Self {
        let fields = fields(info);
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        Self {
            version: field("redis_version").to_owned(),
            is_cluster: field("cluster_enabled") == "1",
            maxmemory_policy: field("maxmemory_policy").to_owned(),
            maxmemory: field("maxmemory").parse().unwrap_or_default(),
            has_aof: field("aof_enabled") == "1",
        }
    }

    /// Whether it is new enough for the scripts.
    pub fn is_supported(&self) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
    }

    /// What an operator should change, one sentence each. Nothing here can make stock wrong: what is lost is loaded
    /// again, while sales wait.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        // Nothing here expires, so the volatile policies drop nothing of ours.
        if self.maxmemory_policy.starts_with("allkeys") {
            warnings.push(format!(
                "maxmemory-policy is {}: Redis drops stock when it is full, and every sale of the tenant waits \
                 until it is loaded again; set noeviction",
                self.maxmemory_policy
            ));
        }
        if !self.has_aof {
            warnings.push(
                "appendonly is off: after a restart of Redis every sale waits until stock is loaded again; set \
                 appendonly yes"
                    .to_owned(),
            );
        }
        if self.maxmemory == 0 {
            warnings
                .push("maxmemory is not set: Redis may use the memory of everything beside it".to_owned());
        }
        warnings
    }
}

/// The answer to `INFO`, by name.
pub fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory:0\r\n\
                        maxmemory_policy:noeviction\r\naof_enabled:1\r\ncluster_enabled:0\r\n";

    #[test]
    fn an_info_is_read() {
        let read = Inspection::read(INFO);
        assert_eq!((read.version.as_str(), read.is_cluster), ("7.0.15", false));
        assert!(read.is_supported());
        assert_eq!(read.warnings().len(), 1, "{:?}", read.warnings());
        for (version, fine) in
            [("6.2.14", false), ("7.0.0", true), ("7.4", true), ("8.2.1", true), ("", false)]
        {
            let other = Inspection { version: version.to_owned(), ..read.clone() };
            assert_eq!(other.is_supported(), fine, "{version}");
        }
    }

    #[test]
    fn a_server_that_keeps_nothing_is_warned_of() {
        let warnings = Inspection::read(&INFO.replace("aof_enabled:1", "aof_enabled:0")).warnings();
        assert!(warnings.iter().any(|warning| warning.contains("appendonly yes")), "{warnings:?}");
    }

    #[test]
    fn d14_a_policy_that_drops_stock_is_warned_of() {
        let warnings = Inspection::read(&INFO.replace("noeviction", "allkeys-lru")).warnings();
        assert!(warnings[0].contains("allkeys-lru") && warnings[0].contains("noeviction"), "{warnings:?}");
    }
}

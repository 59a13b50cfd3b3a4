//! What errors of Redis mean, and what to do about them.

use crate::ports::PortError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Passing trouble is what a restart, an operator or time can end; the rest is a wrong setting.
pub fn port_error(error: &RedisError) -> PortError {
    use ServerErrorKind as Server;
    let transient = |why: &str| PortError::Transient(format!("Redis: {why}"));
    let permanent = |why: &str| PortError::Permanent(format!("Redis: {why} ({error})"));
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
            permanent("user or password refused; correct stock.url")
        }
        (ErrorKind::Server(Server::NoPerm), _) => {
            permanent("the user may not do this; allow it keys ~*stock:* and the commands of src/lua")
        }
        (ErrorKind::InvalidClientConfig, _) => permanent("stock.url is not usable"),
        (ErrorKind::Server(Server::NoScript), _) => {
            transient("it restarted or failed over; what it holds is not trusted, load it again")
        }
        (ErrorKind::Server(Server::BusyLoading), _) => {
            transient("it is reading its file; wait until it is up")
        }
        (ErrorKind::Server(Server::ReadOnly), _) => {
            transient("this is a replica; wait for the failover, or point stock.url at the primary")
        }
        (ErrorKind::Server(Server::ClusterDown | Server::MasterDown), _) => {
            transient("the cluster lacks nodes; look at CLUSTER INFO and bring them back")
        }
        (ErrorKind::ClusterConnectionNotFound, _) => transient("no node of the cluster answers; start them"),
        (_, Some("OOM")) => transient("it is full; raise maxmemory (and keep maxmemory-policy noeviction)"),
        (_, Some("MISCONF")) => transient("it cannot save to disk and refuses writes; free its disk"),
        (_, Some("BUSY")) => transient("a script blocks it; look at SLOWLOG, end it with SCRIPT KILL"),
        _ if error.is_timeout() => {
            transient("no answer in time; what was asked may still happen, so the stock is loaded again")
        }
        _ if error.is_connection_refusal() => {
            transient("it refuses connections; start it, or correct stock.url")
        }
        _ => PortError::Transient(format!("Redis: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::make_extension_error;

    #[test]
    fn each_error_says_what_to_do() {
        for (code, word) in [("OOM", "maxmemory"), ("MISCONF", "disk"), ("BUSY", "SCRIPT KILL")] {
            let error = port_error(&make_extension_error(code.into(), Some("as Redis says it".into())));
            assert!(error.is_transient() && error.to_string().contains(word), "{error}");
        }
        for (kind, word) in [
            (ServerErrorKind::BusyLoading, "wait"),
            (ServerErrorKind::ReadOnly, "primary"),
            (ServerErrorKind::ClusterDown, "CLUSTER INFO"),
            (ServerErrorKind::NoScript, "load it again"),
        ] {
            let error = port_error(&RedisError::from((ErrorKind::Server(kind), "as Redis says it")));
            assert!(error.is_transient() && error.to_string().contains(word), "{error}");
        }
        let wrong = port_error(&make_extension_error("WRONGPASS".into(), None));
        assert!(!wrong.is_transient() && wrong.to_string().contains("stock.url"));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(port_error(&refused.into()).to_string().contains("start it"));
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        assert!(port_error(&late.into()).to_string().contains("may still happen"));
    }
}

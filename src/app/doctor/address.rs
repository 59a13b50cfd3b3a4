//! The address of a server: where it is, whether the way there is encrypted, and the secret that must not be told.

use super::report::Checks;
use std::fmt;
use tokio::net::TcpStream;

/// What a url says. Its `Display` is host and port and nothing else.
pub(in crate::app) struct Address {
    host: String,
    port: u16,
    secret: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Address {
    /// Of a url `scheme://user:password@host:port/rest`. The driver has the last word on what it means; this is for
    /// finding out whether anything is there, and for keeping the password out of what is told.
    pub(in crate::app) fn of(url: &str, default_port: u16) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let secret = user.split_once(':').map(|(_, password)| password.to_owned());
        let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, port)) => (host, port.trim_start_matches(':')),
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        let host = if host.is_empty() { "localhost" } else { host };
        let secret = secret.filter(|secret| !secret.is_empty());
        Self { host: host.to_owned(), port: port.parse().unwrap_or(default_port), secret }
    }

    /// The same secret at a place that the driver found out.
    pub(super) fn at(self, host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, ..self }
    }

    /// Whether what is sent there never leaves the machine.
    pub(super) fn is_loopback(&self) -> bool {
        let address = self.host.parse().map(|ip: std::net::IpAddr| ip.is_loopback());
        address.unwrap_or_else(|_| self.host.eq_ignore_ascii_case("localhost"))
    }

    /// An error's text without the secret, should a driver ever quote the url.
    pub(in crate::app) fn hide(&self, error: impl fmt::Display) -> String {
        let text = error.to_string();
        match &self.secret {
            Some(secret) => text.replace(secret.as_str(), "***").replace(&plain(secret), "***"),
            None => text,
        }
    }

    /// Says why a login failed, without the secret, and what to do: `advice`, unless it is about the certificate.
    pub(super) fn refused(&self, error: impl fmt::Display, advice: &str, checks: &mut Checks) {
        let found = self.hide(error);
        let untrusted = "its certificate is not trusted here, or not for this host name: it needs one of an authority \
                         that this machine knows (PostgreSQL: or sslrootcert=FILE in the url)";
        let advice = if found.contains("certificate") { untrusted } else { advice };
        checks.fail("login", found, advice);
    }

    /// Whether anything listens there; says what to do when nothing does.
    pub(super) async fn is_reached(&self, setting: &str, checks: &mut Checks) -> Option<TcpStream> {
        match TcpStream::connect((self.host.as_str(), self.port)).await {
            Ok(stream) => {
                checks.ok("address", self.to_string());
                Some(stream)
            }
            Err(error) => {
                checks.fail(
                    "address",
                    format!("{self} cannot be reached: {error}"),
                    format!("start the server there, open the way to it, or correct {setting}"),
                );
                None
            }
        }
    }

    /// Says so when sales and the password travel in the clear.
    pub(super) fn judge_encryption(&self, encrypted: bool, how: &str, checks: &mut Checks) {
        match (encrypted, self.is_loopback()) {
            (true, _) => checks.ok("encryption", "TLS"),
            (false, true) => checks.ok("encryption", "none, and none needed on this machine"),
            (false, false) => checks.warn(
                "encryption",
                format!("none on the way to {self}"),
                format!("{how}, unless the network between is nobody else's"),
            ),
        }
    }
}

/// Percent-decoded.
fn plain(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::doctor::Verdict;

    #[test]
    fn urls_are_taken_apart() {
        let told = |url| Address::of(url, 1).to_string();
        assert_eq!(told("postgres://blend:s3cret@db.example:5433/blend?sslmode=require"), "db.example:5433");
        assert_eq!(told("redis://:p@ss/w@[::1]:7000/0"), "ss:1", "a slash in a password must be escaped");
        assert_eq!(told("redis://:p@ss@[::1]:7000/0"), "[::1]:7000");
        assert_eq!((told("redis://cache"), told("amqp://")), ("cache:1".into(), "localhost:1".into()));
    }

    #[test]
    fn only_this_machine_is_this_machine() {
        let here = |url| Address::of(url, 1).is_loopback();
        assert!(here("redis://localhost") && here("redis://127.0.0.9:3") && here("redis://[::1]"));
        assert!(!here("redis://localhost.example") && !here("redis://10.0.0.1") && !here("redis://redis"));
    }

    #[test]
    fn the_password_is_hidden_in_both_spellings() {
        let address = Address::of("amqp://u:s%C3%A9creto%21@mq/v", 1);
        let said = address.hide("bad url amqp://u:s%C3%A9creto%21@mq/v, password sécreto!");
        assert_eq!(said, "bad url amqp://u:***@mq/v, password ***");
        assert_eq!(Address::of("amqp://u:@mq/v", 1).hide("abc"), "abc");
        assert_eq!(plain("%zz%4"), "%zz%4");
    }

    #[test]
    fn a_refusal_over_a_certificate_is_not_blamed_on_the_password() {
        let advice = |error: &str| {
            let mut checks = Checks::new("redis");
            Address::of("rediss://:s3creto@cache", 1).refused(error, "correct the password", &mut checks);
            checks.into_list().remove(0).advice.unwrap()
        };
        assert!(advice("invalid peer certificate: UnknownIssuer").contains("authority"));
        assert_eq!(advice("WRONGPASS s3creto"), "correct the password");
    }

    #[test]
    fn a_password_in_the_clear_is_a_warning_only_beyond_this_machine() {
        let verdict = |url, encrypted| {
            let mut checks = Checks::new("redis");
            Address::of(url, 1).judge_encryption(encrypted, "use rediss://", &mut checks);
            checks.into_list()[0].verdict
        };
        assert_eq!(verdict("redis://cache", false), Verdict::Warning);
        assert_eq!(verdict("redis://cache", true), Verdict::Ok);
        assert_eq!(verdict("redis://localhost", false), Verdict::Ok);
    }
}

//! What somebody is told who cannot use a server and does not wait for it: which one, where, why, and what to do.

use super::doctor::Address;
use crate::config::Config;
use crate::ports::PortError;

/// A server that an installation may stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    PostgreSql,
    RabbitMq,
    Redis,
}

impl Server {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::RabbitMq => "RabbitMQ",
            Self::Redis => "Redis",
        }
    }

    const fn setting(self) -> &'static str {
        match self {
            Self::PostgreSql => "DATABASE_URL (ledger.url)",
            Self::RabbitMq => "RABBITMQ_URL (bus.url)",
            Self::Redis => "REDIS_URL (stock.url)",
        }
    }

    fn address(self, config: &Config) -> Address {
        let (url, port) = match self {
            Self::PostgreSql => (config.ledger.url.reveal(), 5_432),
            Self::RabbitMq if config.bus.url.reveal().starts_with("amqps://") => {
                (config.bus.url.reveal(), 5_671)
            }
            Self::RabbitMq => (config.bus.url.reveal(), 5_672),
            Self::Redis => (config.stock.url.reveal(), 6_379),
        };
        Address::of(url, port)
    }

    /// The error of using it, for a person: where that was, without the password, and what to do about it.
    pub fn unusable(self, config: &Config, error: &PortError) -> PortError {
        let (address, name) = (self.address(config), self.name());
        let why = address.hide(error);
        match error {
            PortError::Transient(_) => PortError::Transient(format!(
                "{name} at {address} cannot be used now: {why}. Start it, open the way to it, or correct {}; `blend \
                 doctor` looks at all servers, and `blend serve` waits for them",
                self.setting()
            )),
            // What it says is what to do.
            PortError::Permanent(_) => {
                PortError::Permanent(format!("{name} at {address} cannot be used as it is: {why}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_with_its_place_and_what_to_do_and_without_its_password() {
        let mut config = Config::load(None).unwrap();
        config.ledger.url = "postgres://blend:s3creto@db.example/blend".to_owned().into();
        config.bus.url = "amqps://blend:s3creto@mq.example/v".to_owned().into();
        config.stock.url = "redis://:s3creto@cache:7000".to_owned().into();
        for (server, place, setting) in [
            (Server::PostgreSql, "PostgreSQL at db.example:5432", "ledger.url"),
            (Server::RabbitMq, "RabbitMQ at mq.example:5671", "bus.url"),
            (Server::Redis, "Redis at cache:7000", "stock.url"),
        ] {
            let away = PortError::Transient("no answer from s3creto".into());
            let said = server.unusable(&config, &away);
            let text = said.to_string();
            assert!(said.is_transient() && text.starts_with(place) && text.contains(setting), "{text}");
            assert!(text.contains("Start it") && text.contains("***") && !text.contains("s3creto"), "{text}");
            let said = server.unusable(&config, &PortError::Permanent("no such database".into()));
            assert!(!said.is_transient() && said.to_string().starts_with(place), "{said}");
        }
    }
}

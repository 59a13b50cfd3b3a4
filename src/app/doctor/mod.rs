//! `blend doctor`: looks at everything an installation stands on and says what to do about what is not right.
//!
//! It changes nothing that lasts: what it writes to see whether it may, it takes away again. Every dependency is
//! looked at by a probe of its own. They run side by side, each within the same limit, and what a probe had found when
//! its time was up is told all the same.

mod address;
mod local;
mod postgres;
mod rabbitmq;
mod redis;
mod report;
mod traces;

pub(super) use address::Address;
pub use report::{Check, Report, Verdict};

use crate::config::Config;
use crate::ports::clock::Clock;
use report::Checks;
use std::time::Duration;

const DATA_DIR: &str = "data directory";

/// Looks at everything. `limit` is how long one dependency may take.
pub async fn examine(config: &Config, clock: &dyn Clock, limit: Duration) -> Report {
    let (ledger, stock, bus) =
        (config.ledger.url.reveal(), config.stock.url.reveal(), config.bus.url.reveal());
    let here = within("engine", limit, async |checks| local::engine(config, clock, checks));
    let files = within(DATA_DIR, limit, async |checks| local::data_dir(config, checks).await);
    let postgres = within("postgres", limit, async |checks| match ledger {
        "" => checks.ok("server", "embedded: ledger.db in the data directory"),
        url => postgres::probe(url, config.ledger.max_connections, clock, checks).await,
    });
    let redis = within("redis", limit, async |checks| match stock {
        "" => checks.ok("server", "embedded: in memory"),
        url => redis::probe(url, checks).await,
    });
    let rabbitmq = within("rabbitmq", limit, async |checks| match bus {
        "" => checks.ok("server", "embedded: journal.db in the data directory"),
        url => rabbitmq::probe(url, limit / 2, checks).await,
    });
    let traces = within("traces", limit, async |checks| match config.traces.endpoint.as_str() {
        "" => {}
        _ => traces::probe(&config.traces.url(), checks).await,
    });
    let parts = tokio::join!(here, files, postgres, redis, rabbitmq, traces);
    Report::new([parts.0, parts.1, parts.2, parts.3, parts.4, parts.5].concat())
}

/// Runs a probe, but not for ever.
async fn within(part: &'static str, limit: Duration, probe: impl AsyncFnOnce(&mut Checks)) -> Vec<Check> {
    let mut checks = Checks::new(part);
    if tokio::time::timeout(limit, probe(&mut checks)).await.is_err() {
        let advice = match part {
            DATA_DIR => "its file system hangs: look at the disk, or at the server that it is mounted from",
            _ => {
                "something accepts and stays silent: see its log, and what stands between (proxy, firewall, a port \
                 that is another program's); --timeout gives it longer"
            }
        };
        checks.fail("time limit", format!("does not answer within {} s", limit.as_secs()), advice);
    }
    checks.into_list()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_found_before_the_time_was_up_is_kept() {
        let found = within("redis", Duration::from_secs(5), async |checks| {
            checks.ok("version", "7.2.0");
            std::future::pending::<()>().await;
        });
        let found = found.await;
        let told: Vec<_> = found.iter().map(|check| (check.name.as_str(), check.verdict)).collect();
        assert_eq!(told, [("redis version", Verdict::Ok), ("redis time limit", Verdict::Failed)]);
    }
}

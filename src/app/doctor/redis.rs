//! Redis as the hot tier needs it. Everything is read from `INFO`, which managed services allow too, unlike `CONFIG`
//! (<https://redis.io/docs/latest/commands/info/>).

use super::address::Address;
use super::report::{Checks, Verdict, version};
use crate::stock::redis::info_fields;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script};
use std::collections::HashMap;

/// Writes below the prefix of the stock keys and takes it away in the same atomic step.
const TRY: &str = "redis.call('SET', KEYS[1], '1', 'PX', 1000) return redis.call('DEL', KEYS[1])";
const TRY_KEY: &str = "stock:{blend-doctor}";

/// Looks at the server of a url.
pub(super) async fn probe(url: &str, checks: &mut Checks) {
    let address = Address::of(url, 6379);
    address.judge_encryption(url.starts_with("rediss://"), "use rediss:// in REDIS_URL (stock.url)", checks);
    if address.is_reached("REDIS_URL (stock.url)", checks).await.is_none() {
        return;
    }
    let mut connection = match connect(url).await {
        Ok(connection) => connection,
        Err(error) => {
            let advice = "correct user, password, database number or scheme (rediss:// for TLS) in REDIS_URL (stock.url)";
            address.refused(error, advice, checks);
            return;
        }
    };
    checks.ok("login", "accepted");
    match redis::cmd("INFO").query_async::<String>(&mut connection).await {
        Ok(info) => judge(&info_fields(&info), checks),
        Err(error) => checks.fail("INFO", address.hide(error), "allow the user INFO: ACL SETUSER name +info"),
    }
    let mut fsync = redis::cmd("CONFIG");
    fsync.arg("GET").arg("appendfsync");
    let fsync: Result<Vec<String>, RedisError> = fsync.query_async(&mut connection).await;
    let always = fsync.is_ok_and(|pair| pair.get(1).is_some_and(|value| value == "always"));
    checks.ok("appendfsync", match always {
        true => "always: with appendonly yes, sales go on while RabbitMQ is away (bus.sell_without_broker)",
        false => "not always, or not told: sales wait while RabbitMQ is away, unless bus.sell_without_broker = \"always\"",
    });
    let ran: Result<i64, RedisError> = Script::new(TRY).key(TRY_KEY).invoke_async(&mut connection).await;
    match ran {
        Ok(_) => checks.ok("scripts", "EVALSHA works"),
        Err(error) => checks.fail(
            "scripts",
            address.hide(error),
            "allow the user scripts and its keys: ACL SETUSER name ~stock:* +@scripting +@write +@read; when memory \
             is full, raise maxmemory",
        ),
    }
}

/// Without limits of the driver's own: the probe as a whole has one.
async fn connect(url: &str) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let mut connection = Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("PING").query_async::<String>(&mut connection).await?;
    Ok(connection)
}

fn judge(info: &HashMap<&str, &str>, checks: &mut Checks) {
    let of = |key: &str| info.get(key).copied().unwrap_or_default();
    let number = of("redis_version");
    checks.judge(
        "version",
        number,
        version(number) >= vec![7, 0],
        Verdict::Failed,
        "use Redis 7.0 or later: the scripts are written for it",
    );
    checks.judge(
        "role",
        of("role"),
        of("role") == "master",
        Verdict::Failed,
        "point REDIS_URL (stock.url) at the primary: a replica takes no writes",
    );
    let (most, policy) = (of("maxmemory"), of("maxmemory_policy"));
    let found = format!("maxmemory {most}, policy {policy}");
    let unbounded = ["", "0"].contains(&most);
    match (unbounded, policy) {
        (_, "noeviction") => checks.ok("eviction", found),
        (true, _) => {
            checks.warn("eviction", found, "set maxmemory-policy noeviction before maxmemory is ever set")
        }
        (false, _) => checks.fail(
            "eviction",
            found,
            "set maxmemory-policy noeviction: any other policy throws stock away when memory is short",
        ),
    }
    let (aof, written) = (of("aof_enabled") == "1", of("aof_last_write_status"));
    // Either is fine: nothing in Redis is the only copy of anything, and stock is loaded again after a restart.
    checks.ok("persistence", if aof { "appendonly yes" } else { "appendonly no" });
    if aof && written != "ok" {
        checks.fail(
            "persistence",
            format!("the last write failed: {written}"),
            "look at its disk and its log",
        );
    }
    if of("loading") == "1" {
        checks.warn("loading", "it is still reading its files", "wait until it is done");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:268435456\r\n\
        maxmemory_policy:noeviction\r\n# Persistence\r\nloading:0\r\naof_enabled:1\r\naof_last_write_status:ok\r\n\
        # Replication\r\nrole:master\r\n";

    fn verdicts(info: &str) -> Vec<(String, Verdict)> {
        let mut checks = Checks::new("redis");
        judge(&info_fields(info), &mut checks);
        checks.into_list().into_iter().map(|check| (check.name, check.verdict)).collect()
    }

    fn of(info: &str, aspect: &str) -> Verdict {
        let name = format!("redis {aspect}");
        verdicts(info)
            .into_iter()
            .filter(|(found, _)| *found == name)
            .map(|(_, verdict)| verdict)
            .max()
            .unwrap()
    }

    #[test]
    fn a_server_set_up_for_it_is_fine() {
        let all = verdicts(GOOD);
        assert!(all.len() == 4 && all.iter().all(|(_, verdict)| *verdict == Verdict::Ok), "{all:?}");
    }

    #[test]
    fn each_thing_that_is_not_right_is_said() {
        let with = |from: &str, to: &str| GOOD.replace(from, to);
        assert_eq!(of(&with("7.0.15", "6.2.14"), "version"), Verdict::Failed);
        assert_eq!(of(&with("redis_version", "x"), "version"), Verdict::Failed);
        assert_eq!(of(&with("role:master", "role:slave"), "role"), Verdict::Failed);
        assert_eq!(of(&with("aof_enabled:1", "aof_enabled:0"), "persistence"), Verdict::Ok);
        assert_eq!(of(&with("write_status:ok", "write_status:err"), "persistence"), Verdict::Failed);
        assert_eq!(of(&with("loading:0", "loading:1"), "loading"), Verdict::Warning);
    }

    #[test]
    fn d14_a_policy_that_evicts_stock_is_a_failure_once_memory_is_bounded() {
        let evicting = GOOD.replace("noeviction", "allkeys-lru");
        assert_eq!(of(&evicting, "eviction"), Verdict::Failed);
        assert_eq!(of(&evicting.replace("maxmemory:268435456", "maxmemory:0"), "eviction"), Verdict::Warning);
        assert_eq!(of(&GOOD.replace("maxmemory:268435456", "maxmemory:0"), "eviction"), Verdict::Ok);
    }
}

//! `blend doctor`: what it finds, what it advises, and that one silent server does not hide another.

use crate::servers::free_port;
use crate::servers::postgres::Postgres;
use crate::servers::rabbitmq::RabbitMq;
use crate::servers::redis::RedisServer;
use crate::support::process::{Blend, Ran, program};
use serde_json::Value;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A password that must not be told.
const SECRET: &str = "s3creto-de-nadie";

async fn doctor(blend: &Blend, settings: &[(&str, &str)], more: &[&str]) -> Ran {
    let mut command =
        program(&[&["doctor", "--data-dir", blend.data_dir().to_str().unwrap()], more].concat());
    command.envs(settings.iter().copied());
    let ran = blend.run(command).await;
    assert!(!ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET), "{ran:?}");
    ran
}

/// Name and verdict of what was found.
async fn checks(blend: &Blend, settings: &[(&str, &str)]) -> Vec<(String, String, Value)> {
    let ran = doctor(blend, settings, &["--json"]).await;
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(ran.code, Some(if report["healthy"] == true { 0 } else { 1 }));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |check: &Value| (text(&check["name"]), text(&check["verdict"]), check.clone());
    report["checks"].as_array().unwrap().iter().map(of).collect()
}

fn verdict<'a>(checks: &'a [(String, String, Value)], name: &str) -> &'a str {
    let found = checks.iter().find(|(found, ..)| found == name);
    &found.unwrap_or_else(|| panic!("{name} is not in {checks:?}")).1
}

#[tokio::test]
async fn an_embedded_installation_is_healthy_before_and_while_it_runs() {
    let blend = Blend::new();
    let said = doctor(&blend, &[], &[]).await.done();
    for line in ["can be made", "ledger.db in the data directory", "embedded: in memory", "0 failed"] {
        assert!(said.contains(line), "{line} is not in\n{said}");
    }
    assert!(!blend.data_dir().exists(), "looking changes nothing");
    let server = blend.serve().await;
    let said = doctor(&blend, &[], &[]).await.done();
    assert!(said.contains("(blend serve)") && said.contains(server.address()), "{said}");
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn a_collector_that_takes_no_traces_is_warned_of() {
    let blend = Blend::new();
    assert!(!doctor(&blend, &[], &[]).await.done().contains("traces"), "nobody asked for one");
    let closed = format!("http://127.0.0.1:{}", free_port());
    let (found, other) =
        (checks(&blend, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &closed)]).await, blend.serve().await);
    assert_eq!(verdict(&found, "traces collector"), "warning");
    // A server, but of something else.
    let found = checks(&blend, &[("BLEND_TRACES__ENDPOINT", &other.url())]).await;
    assert_eq!(verdict(&found, "traces collector"), "warning");
    assert!(format!("{found:?}").contains("/v1/traces answers 404"), "{found:?}");
    let ran =
        doctor(&blend, &[("BLEND_TRACES__ENDPOINT", &format!("http://ana:{SECRET}@localhost"))], &[]).await;
    assert!(ran.refused().contains("traces.endpoint"));
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_fails() {
    let blend = Blend::on("/proc/blend-data".as_ref());
    let ran = doctor(&blend, &[], &[]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stdout.contains("/proc/blend-data cannot be made") && ran.stdout.contains("--data-dir"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_redis_set_up_for_it_passes() {
    let options = ["--requirepass", SECRET, "--appendonly", "yes", "--maxmemory", "64mb"];
    let redis = RedisServer::start(&[&options[..], &["--maxmemory-policy", "noeviction"]].concat()).await;
    let found = checks(&Blend::new(), &[("REDIS_URL", &redis.url_with(SECRET))]).await;
    for aspect in ["address", "login", "version", "role", "eviction", "persistence", "scripts"] {
        assert_eq!(verdict(&found, &format!("redis {aspect}")), "ok", "{aspect}: {found:?}");
    }
}

#[tokio::test]
async fn d14_a_redis_that_would_evict_stock_fails_and_so_does_a_wrong_password() {
    let options = ["--requirepass", SECRET, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = RedisServer::start(&options).await;
    let found = checks(&Blend::new(), &[("REDIS_URL", &redis.url_with(SECRET))]).await;
    assert_eq!(verdict(&found, "redis eviction"), "failed");
    assert_eq!(verdict(&found, "redis persistence"), "ok");
    assert_eq!(verdict(&found, "redis scripts"), "ok");
    let advice = &found.iter().find(|(name, ..)| name == "redis eviction").unwrap().2["advice"];
    assert!(advice.as_str().unwrap().contains("noeviction"), "{advice}");
    let wrong = redis.url_with(&format!("{SECRET}-not"));
    let found = checks(&Blend::new(), &[("REDIS_URL", &wrong)]).await;
    assert_eq!(verdict(&found, "redis login"), "failed");
}

/// The user that the compose file's script makes is the one that Blend needs.
#[tokio::test]
async fn a_postgres_set_up_by_the_shipped_script_passes_and_what_is_changed_is_found() {
    let postgres = Postgres::start_with_passwords().await;
    let mut script = postgres.administered_by("deploy/postgres/10-blend.sh");
    let made = script.env("POSTGRES_BLEND_PASSWORD", SECRET).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let (blend, url) = (Blend::new(), postgres.url_with("blend", SECRET, "blend"));
    let found = checks(&blend, &[("DATABASE_URL", &url)]).await;
    for aspect in ["address", "login", "version", "role", "durability", "encoding", "connections", "schema"] {
        assert_eq!(verdict(&found, &format!("postgres {aspect}")), "ok", "{aspect}: {found:?}");
    }
    assert_eq!((verdict(&found, "postgres tenant role"), verdict(&found, "postgres clock")), ("ok", "ok"));

    postgres.sql("REVOKE blend_app FROM blend");
    postgres.sql("ALTER DATABASE blend SET synchronous_commit = off");
    postgres.sql("ALTER DATABASE blend OWNER TO postgres; GRANT CONNECT ON DATABASE blend TO blend");
    let found = checks(&blend, &[("DATABASE_URL", &url)]).await;
    assert_eq!(verdict(&found, "postgres tenant role"), "failed");
    assert_eq!(verdict(&found, "postgres durability"), "warning");
    assert_eq!(verdict(&found, "postgres schema"), "failed");
    postgres.sql("ALTER ROLE blend_app BYPASSRLS");
    let found = checks(&blend, &[("DATABASE_URL", &url)]).await;
    assert_eq!(verdict(&found, "postgres tenant role"), "failed");

    let wrong = postgres.url_with("blend", &format!("{SECRET}-not"), "blend");
    let found = checks(&blend, &[("DATABASE_URL", &wrong)]).await;
    assert_eq!(verdict(&found, "postgres login"), "failed");
}

#[tokio::test]
async fn a_rabbitmq_passes_and_missing_permissions_and_alarms_are_found() {
    let user = format!("default_user = blend\ndefault_pass = {SECRET}\ndefault_vhost = blend\n");
    let rabbitmq = RabbitMq::start_with(&user).await;
    let (blend, url) = (Blend::new(), rabbitmq.url_with("blend", SECRET, "blend"));
    let look = async |url: &str| checks(&blend, &[("RABBITMQ_URL", url)]).await;
    let found = look(&url).await;
    for aspect in ["address", "version", "login", "permissions", "confirms"] {
        assert_eq!(verdict(&found, &format!("rabbitmq {aspect}")), "ok", "{aspect}: {found:?}");
    }
    for wrong in [("not-it", "blend"), (SECRET, "nowhere")] {
        let (password, vhost) = wrong;
        let found = look(&rabbitmq.url_with("blend", password, vhost)).await;
        assert_eq!(
            (verdict(&found, "rabbitmq version"), verdict(&found, "rabbitmq login")),
            ("ok", "failed")
        );
    }
    rabbitmq.ctl(&["set_vm_memory_high_watermark", "0.000001"]);
    let found = look(&url).await;
    let confirms = &found.iter().find(|(name, ..)| name == "rabbitmq confirms").unwrap().2;
    assert_eq!(confirms["verdict"], "failed");
    assert!(confirms["found"].as_str().unwrap().contains("stopped publishers"), "{confirms}");
    rabbitmq.ctl(&["set_permissions", "-p", "blend", "blend", "^$", "^$", "^$"]);
    assert_eq!(verdict(&look(&url).await, "rabbitmq permissions"), "failed");
}

/// A closed port, a server that accepts and says nothing, and one that is fine: each gets its own line, in time.
#[tokio::test]
async fn servers_that_are_away_or_silent_hide_nobody() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap();
    let redis = RedisServer::start(&[]).await;
    let postgres = format!("postgres://blend:{SECRET}@{closed}/blend?sslmode=disable");
    let rabbitmq = format!("amqp://blend:{SECRET}@{silent_at}/blend");
    let settings =
        [("DATABASE_URL", postgres.as_str()), ("RABBITMQ_URL", &rabbitmq), ("REDIS_URL", &redis.url())];
    let began = Instant::now();
    let ran = doctor(&Blend::new(), &settings, &["--timeout", "2"]).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for said in [
        format!("{closed} cannot be reached"),
        "correct DATABASE_URL".to_owned(),
        "does not answer within 2 s".to_owned(),
        "EVALSHA works".to_owned(),
        "2 failed".to_owned(),
    ] {
        assert!(ran.stdout.contains(&said), "{said} is not in\n{}", ran.stdout);
    }
}

/// All three silent: they are waited for side by side.
#[tokio::test]
async fn silent_servers_are_waited_for_at_the_same_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let urls = [format!("postgres://b@{at}/b"), format!("redis://{at}"), format!("amqp://{at}/b")];
    let settings = [("DATABASE_URL", urls[0].as_str()), ("REDIS_URL", &urls[1]), ("RABBITMQ_URL", &urls[2])];
    let began = Instant::now();
    let ran = doctor(&Blend::new(), &settings, &["--timeout", "4"]).await;
    assert_eq!(ran.stdout.matches("does not answer within 4 s").count(), 3, "{ran:?}");
    assert!(began.elapsed() < Duration::from_secs(11), "one after the other: {:?}", began.elapsed());
}

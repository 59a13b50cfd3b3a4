//! PostgreSQL as ledger and catalogue need it.

use super::address::Address;
use super::report::{Checks, Verdict};
use crate::ports::clock::Clock;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};
use std::str::FromStr as _;

/// The oldest version whose statements Blend uses, as `server_version_num` counts.
const OLDEST: i64 = 130_000;

/// Connections beside those of the pool: the ledger writer's own, and one for whoever looks at it.
const OTHERS: i64 = 2;

/// Seconds that the server's clock and ours may differ.
const CLOCKS: i64 = 5;

/// One row with everything that is asked. `pg_stat_activity` shows everybody that there are other sessions, if not
/// what they do.
const FACTS: &str = "\
    SELECT current_setting('server_version_num')::bigint AS version, current_setting('server_version') AS named, \
    pg_is_in_recovery() AS replica, current_setting('fsync') AS fsync, \
    current_setting('synchronous_commit') AS commit, current_setting('full_page_writes') AS pages, \
    current_setting('server_encoding') AS encoding, \
    current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint AS most, \
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used, \
    current_user::text AS user, \
    (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS makes_roles, \
    (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'blend_app') AS above_rows, \
    (SELECT pg_has_role(current_user, oid, CASE WHEN current_setting('server_version_num')::bigint >= 160000 \
    THEN 'SET' ELSE 'MEMBER' END) FROM pg_roles WHERE rolname = 'blend_app') AS becomes, \
    current_schema()::text AS schema, \
    has_schema_privilege(current_schema(), 'CREATE') AS creates, \
    to_regclass('_sqlx_migrations') IS NOT NULL AS migrated, \
    extract(epoch FROM clock_timestamp())::bigint AS now";

/// Looks at the server of a url. `connections` is how many the ledger's pool will want.
pub(super) async fn probe(url: &str, connections: u32, clock: &dyn Clock, checks: &mut Checks) {
    let setting = "DATABASE_URL (ledger.url)";
    let address = Address::of(url, 5432);
    let options = match PgConnectOptions::from_str(url) {
        Ok(options) => options.disable_statement_logging(),
        Err(error) => {
            checks.fail("address", address.hide(error), format!("correct {setting}"));
            return;
        }
    };
    let address = address.at(options.get_host(), options.get_port());
    if options.get_socket().is_none() && !options.get_host().starts_with('/') {
        judge_encryption(options.get_ssl_mode(), &address, checks);
        if address.is_reached(setting, checks).await.is_none() {
            return;
        }
    }
    let mut connection = match PgConnection::connect_with(&options).await {
        Ok(connection) => connection,
        Err(error) => {
            let advice =
                format!("correct user, password, database or sslmode in {setting}, or pg_hba.conf there");
            address.refused(error, &advice, checks);
            return;
        }
    };
    checks.ok("login", "accepted");
    match facts(&mut connection).await {
        Ok(facts) => judge(&facts, i64::from(connections), clock.now().seconds(), checks),
        Err(error) => {
            checks.fail("settings", address.hide(error), "let the user read pg_roles and pg_stat_activity");
        }
    }
    // The connection may be gone already, for the reason that was just told.
    connection.close().await.ok();
}

fn judge_encryption(mode: PgSslMode, address: &Address, checks: &mut Checks) {
    let advice =
        "add sslmode=verify-full to DATABASE_URL, with sslrootcert=FILE for an authority of your own";
    match mode {
        PgSslMode::VerifyFull => address.judge_encryption(true, advice, checks),
        PgSslMode::Require | PgSslMode::VerifyCa if !address.is_loopback() => checks.warn(
            "encryption",
            format!("TLS, but nothing proves that it is {address} who answers"),
            advice,
        ),
        PgSslMode::Require | PgSslMode::VerifyCa => address.judge_encryption(true, advice, checks),
        // "allow" and "prefer" do without where the server has none.
        _ => address.judge_encryption(false, advice, checks),
    }
}

/// What the server says of itself and of the user.
#[derive(Clone)]
struct Facts {
    version: i64,
    named: String,
    replica: bool,
    fsync: String,
    commit: String,
    pages: String,
    encoding: String,
    most: i64,
    used: i64,
    user: String,
    /// Whether the user may make the role that Blend works as.
    makes_roles: bool,
    /// Whether that role passes row-level security; none while there is no such role.
    above_rows: Option<bool>,
    /// Whether the user may become that role.
    becomes: bool,
    schema: Option<String>,
    creates: bool,
    migrated: bool,
    now: i64,
}

async fn facts(connection: &mut PgConnection) -> Result<Facts, sqlx::Error> {
    let row = sqlx::query(FACTS).fetch_one(connection).await?;
    Ok(Facts {
        version: row.try_get("version")?,
        named: row.try_get("named")?,
        replica: row.try_get("replica")?,
        fsync: row.try_get("fsync")?,
        commit: row.try_get("commit")?,
        pages: row.try_get("pages")?,
        encoding: row.try_get("encoding")?,
        most: row.try_get("most")?,
        used: row.try_get("used")?,
        user: row.try_get("user")?,
        makes_roles: row.try_get::<Option<bool>, _>("makes_roles")?.unwrap_or_default(),
        above_rows: row.try_get("above_rows")?,
        becomes: row.try_get::<Option<bool>, _>("becomes")?.unwrap_or_default(),
        schema: row.try_get("schema")?,
        creates: row.try_get::<Option<bool>, _>("creates")?.unwrap_or_default(),
        migrated: row.try_get("migrated")?,
        now: row.try_get("now")?,
    })
}

fn judge(facts: &Facts, connections: i64, now: i64, checks: &mut Checks) {
    let failed = Verdict::Failed;
    checks.judge("version", &facts.named, facts.version >= OLDEST, failed, "use PostgreSQL 13 or later");
    let role = if facts.replica { "standby" } else { "primary" };
    checks.judge("role", role, !facts.replica, failed, "point DATABASE_URL (ledger.url) at the primary");
    judge_durability(facts, checks);
    let encoding = &facts.encoding;
    checks.judge(
        "encoding",
        encoding,
        encoding == "UTF8",
        failed,
        "create the database with ENCODING 'UTF8'",
    );
    let (free, wanted) = (facts.most - facts.used, connections + OTHERS);
    checks.judge(
        "connections",
        format!("{} of {} in use", facts.used, facts.most),
        free >= wanted,
        Verdict::Warning,
        format!("{wanted} are wanted by each node: raise max_connections, or lower ledger.max_connections"),
    );
    judge_user(facts, checks);
    let apart = facts.now.saturating_sub(now).abs();
    checks.judge(
        "clock",
        format!("{apart} s from ours"),
        apart <= CLOCKS,
        Verdict::Warning,
        "keep the clocks of both machines set (chrony, systemd-timesyncd)",
    );
}

fn judge_durability(facts: &Facts, checks: &mut Checks) {
    let Facts { fsync, commit, pages, .. } = facts;
    let found = format!("fsync {fsync}, synchronous_commit {commit}, full_page_writes {pages}");
    match (fsync == "on" && pages == "on", commit == "off") {
        (false, _) => checks.fail(
            "durability",
            found,
            "set fsync = on and full_page_writes = on: a power cut would leave a broken ledger",
        ),
        (true, true) => checks.warn(
            "durability",
            found,
            "set synchronous_commit = on; Blend turns it on for itself, other programs may count on the server",
        ),
        (true, false) => checks.ok("durability", found),
    }
}

fn judge_user(facts: &Facts, checks: &mut Checks) {
    let advice = "make the user the owner of the database, or GRANT CREATE ON SCHEMA public to it (from version 15 on only the \
                  owner has it)";
    match (&facts.schema, facts.creates, facts.migrated) {
        (Some(schema), _, true) => {
            checks.ok("schema", format!("{schema}, with tables; blend migrate brings them up to date"));
        }
        (Some(schema), true, false) => checks.ok("schema", format!("{schema}, tables can be made")),
        (Some(schema), false, false) => {
            checks.fail("schema", format!("{schema}, no tables can be made"), advice);
        }
        (None, ..) => checks.fail("schema", "none in the search_path", advice),
    }
    judge_role(facts, checks);
}

/// The role that Blend works as, so that row-level security binds it whoever the user is.
fn judge_role(facts: &Facts, checks: &mut Checks) {
    let user = &facts.user;
    let grant = format!("as an administrator: GRANT blend_app TO \"{user}\"");
    let (aspect, untold) = ("tenant role", "blend_app will be made by the first start");
    match (facts.above_rows, facts.becomes, facts.makes_roles) {
        (Some(true), ..) => checks.fail(
            aspect,
            "blend_app passes row-level security, so the database keeps no tenants apart",
            "as an administrator: ALTER ROLE blend_app NOSUPERUSER NOBYPASSRLS",
        ),
        (Some(false), true, _) => checks.ok(aspect, format!("{user} works as blend_app")),
        (Some(false), false, _) => checks.fail(aspect, format!("{user} may not become blend_app"), grant),
        (None, _, true) => checks.ok(aspect, untold),
        (None, _, false) => checks.fail(
            aspect,
            format!("there is no role blend_app and {user} may make none"),
            format!("as an administrator: CREATE ROLE blend_app NOLOGIN; GRANT blend_app TO \"{user}\""),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            version: 170_002,
            named: "17.2".into(),
            replica: false,
            fsync: "on".into(),
            commit: "on".into(),
            pages: "on".into(),
            encoding: "UTF8".into(),
            most: 97,
            used: 3,
            user: "blend".into(),
            makes_roles: false,
            above_rows: Some(false),
            becomes: true,
            schema: Some("public".into()),
            creates: true,
            migrated: false,
            now: 1_000,
        }
    }

    /// What is not as it should be.
    fn bad(change: impl FnOnce(&mut Facts)) -> Vec<(String, Verdict)> {
        let mut facts = good();
        change(&mut facts);
        let mut checks = Checks::new("pg");
        judge(&facts, 8, 1_000, &mut checks);
        let list = checks.into_list().into_iter().filter(|check| check.verdict != Verdict::Ok);
        list.map(|check| (check.name, check.verdict)).collect()
    }

    #[test]
    fn a_connection_that_can_be_listened_to_or_diverted_is_a_warning() {
        let judged = |url, mode| {
            let mut checks = Checks::new("pg");
            judge_encryption(mode, &Address::of(url, 5432), &mut checks);
            checks.into_list()[0].verdict
        };
        for loose in [PgSslMode::Disable, PgSslMode::Prefer, PgSslMode::Require, PgSslMode::VerifyCa] {
            assert_eq!(judged("postgres://db.example/x", loose), Verdict::Warning, "{loose:?}");
            assert_eq!(judged("postgres://localhost/x", loose), Verdict::Ok, "{loose:?}");
        }
        assert_eq!(judged("postgres://db.example/x", PgSslMode::VerifyFull), Verdict::Ok);
    }

    #[test]
    fn a_server_set_up_for_it_is_fine() {
        assert_eq!(bad(|_| {}), []);
        assert_eq!(bad(|facts| facts.commit = "remote_apply".into()), []);
        assert_eq!(bad(|facts| (facts.creates, facts.migrated) = (false, true)), []);
    }

    #[test]
    fn each_thing_that_is_not_right_is_said() {
        let failed = |aspect: &str| vec![(format!("pg {aspect}"), Verdict::Failed)];
        let warned = |aspect: &str| vec![(format!("pg {aspect}"), Verdict::Warning)];
        assert_eq!(bad(|facts| facts.version = 120_018), failed("version"));
        assert_eq!(bad(|facts| facts.replica = true), failed("role"));
        assert_eq!(bad(|facts| facts.fsync = "off".into()), failed("durability"));
        assert_eq!(bad(|facts| facts.commit = "off".into()), warned("durability"));
        assert_eq!(bad(|facts| facts.encoding = "SQL_ASCII".into()), failed("encoding"));
        assert_eq!(bad(|facts| facts.creates = false), failed("schema"));
        assert_eq!(bad(|facts| facts.schema = None), failed("schema"));
        assert_eq!(bad(|facts| facts.used = 88), warned("connections"));
        assert_eq!(bad(|facts| facts.used = 87), []);
        assert_eq!(bad(|facts| facts.above_rows = Some(true)), failed("tenant role"));
        assert_eq!(bad(|facts| facts.becomes = false), failed("tenant role"));
        assert_eq!(bad(|facts| facts.above_rows = None), failed("tenant role"));
        assert_eq!(bad(|facts| (facts.above_rows, facts.makes_roles) = (None, true)), []);
        assert_eq!(bad(|facts| facts.now = 1_006), warned("clock"));
    }
}

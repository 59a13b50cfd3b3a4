//! Installations that cannot be used: what is wrong is said in a line, with what to do, and the exit code is 1.

use crate::support::process::{Blend, program};
use crate::support::shop::catalogue;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _};
use std::io::Write as _;
use std::net::TcpListener;

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let blend = Blend::new();
    let server = blend.serve().await;
    for command in [&SERVE[..], &["demo", "--listen", "127.0.0.1:0", "--quiet"]] {
        let said = blend.command(command).await.refused();
        assert!(said.contains("is in use by process") && said.contains("(blend serve)"), "{said}");
        assert!(said.contains("--data-dir"), "{said}");
    }
    assert!(blend.command(&["healthcheck"]).await.done().contains("ready"), "the first one goes on");
    assert!(server.sigterm().await.success());
    assert!(blend.serve().await.sigterm().await.success());
}

/// A directory that is held by something that does not serve: commands wait a while for it to end, then name it.
#[tokio::test]
async fn a_directory_that_somebody_keeps_is_refused_with_their_process() {
    let blend = Blend::new();
    std::fs::create_dir_all(blend.data_dir()).unwrap();
    let mut lock = std::fs::File::create(blend.data_dir().join("blend.lock")).unwrap();
    lock.lock().unwrap();
    let pid = std::process::id();
    lock.write_all(json!({ "pid": pid, "command": "import", "listening": null }).to_string().as_bytes())
        .unwrap();
    let named = format!("is in use by process {pid} (blend import)");
    for command in [&SERVE[..], &["tenant", "list"]] {
        let said = blend.command(command).await.refused();
        assert!(said.contains(&named), "{command:?}: {said}");
    }
    drop(lock);
    blend.command(&["tenant", "list"]).await.done();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    // Mode bits do not bind root, so these are places where nobody can write.
    let blend = Blend::new();
    let file = blend.write("a-file", "");
    let below = file.join("data");
    for place in [below.as_path(), file.as_path(), "/proc/blend-data".as_ref(), "/sys/kernel".as_ref()] {
        let blend = Blend::on(place);
        for command in [&SERVE[..], &["migrate"], &["tenant", "list"], &["token", "--role", "super_admin"]] {
            let said = blend.command(command).await.refused();
            assert!(said.contains(place.to_str().unwrap()), "{command:?} on {}: {said}", place.display());
        }
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let blend = Blend::new();
    let said = blend.command(&["serve", "--listen", &address]).await.refused();
    assert!(said.contains(&format!("cannot listen on {address}")) && said.contains("--listen"), "{said}");
    for wrong in ["nowhere", "127.0.0.1", "127.0.0.1:99999"] {
        let said = blend.command(&["serve", "--listen", wrong]).await.refused();
        assert!(said.contains(wrong), "{said}");
    }
    // The directory is free again.
    assert!(blend.serve().await.sigterm().await.success());
}

#[tokio::test]
async fn settings_that_are_wrong_are_named() {
    let blend = Blend::new();
    let files = [
        ("[server]\nmax_conections = 5\n", "max_conections"),
        ("[sever]\nmax_connections = 5\n", "sever"),
        ("[engine]\nshards = 0\n", "engine.shards"),
        ("[engine]\nshards = \"muchos\"\n", "shards"),
        ("[auth]\njwt_secret = \"corto\"\n", "auth.jwt_secret"),
        ("[log]\nlevel = \"info,,=\"\n", "log.level"),
        ("not toml", ""),
    ];
    for (content, key) in files {
        let file = blend.write("blend.toml", content);
        let args = [&SERVE[..], &["--config", file.to_str().unwrap()]].concat();
        let said = blend.command(&args).await.refused();
        assert!(said.contains(key), "{key}: {said}");
    }
    let said = blend.command(&["config", "--config", "/no/such/blend.toml"]).await.refused();
    assert!(said.contains("/no/such/blend.toml"), "{said}");
    for (name, value, key) in
        [("BLEND_SERVER__MAX_CONECTIONS", "5", "max_conections"), ("BLEND_DATADIR", "x", "datadir")]
    {
        let mut command = program(&["config"]);
        command.env(name, value);
        let said = blend.run(command).await.refused();
        assert!(said.contains(key), "{key}: {said}");
    }
}

#[tokio::test]
async fn files_of_a_newer_version_are_left_alone() {
    for file in ["ledger.db", "journal.db", "channels.db"] {
        let blend = Blend::new();
        blend.command(&["migrate"]).await.done();
        let path = blend.data_dir().join(file);
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut connection = options.connect().await.unwrap();
        let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                      VALUES (999, 'from the future', 1, x'00', 0)";
        sqlx::query(insert).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        for command in [&SERVE[..], &["migrate"], &["tenant", "list"]] {
            let said = blend.command(command).await.refused();
            assert!(said.contains(file) && said.contains("newer Blend (schema 999"), "{said}");
            assert!(said.contains("run that version, or restore a backup"), "{said}");
        }
    }
}

#[tokio::test]
async fn files_that_are_no_database_are_named_and_kept() {
    for file in ["ledger.db", "journal.db", "channels.db"] {
        let blend = Blend::new();
        blend.command(&["migrate"]).await.done();
        let path = blend.data_dir().join(file);
        std::fs::write(&path, "this is a shopping list\n".repeat(500)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let said = blend.command(&SERVE).await.refused();
        assert!(said.contains(file), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{file} was touched");
    }
}

#[tokio::test]
async fn books_that_cannot_be_understood_are_refused_without_a_panic() {
    let blend = Blend::new();
    let tenant = blend.tenant("Sur").await;
    blend.import(tenant, catalogue(10), &[]).await.done();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(blend.data_dir().join("ledger.db"));
    let mut connection = options.connect().await.unwrap();
    sqlx::query("UPDATE units SET kind = 'misterio' WHERE sku = 'P01'")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let impatient = blend.write("blend.toml", "[supervision]\nmax_restarts = 1\n");
    for command in [&SERVE[..], &["tenant", "list"], &["migrate"]] {
        let args = [command, &["--config", impatient.to_str().unwrap()]].concat();
        let said = blend.command(&args).await.refused();
        assert!(said.contains("holds a unit kind that this version cannot read"), "{command:?}: {said}");
        assert!(said.lines().last().unwrap().starts_with("blend: "), "{command:?}: {said}");
    }
}

/// Commands do not wait for servers: they say which one is away, where, and what to do, and never its password.
#[tokio::test]
async fn a_server_that_is_away_is_named_by_every_command_that_needs_it() {
    let blend = Blend::new();
    blend.command(&["migrate"]).await.done();
    let catalogue = blend.write("catalogo.csv", catalogue(10));
    let catalogue = catalogue.to_str().unwrap();
    let tenant = "0192f5a0-0000-7000-8000-000000000001";
    let commands: [&[&str]; 6] = [
        &["verify"],
        &["tenant", "list"],
        &["import", "--tenant", tenant, catalogue],
        &["migrate"],
        &["dlq", "ls"],
        &["warmup"],
    ];
    for (name, setting, scheme) in [
        ("PostgreSQL", "DATABASE_URL", "postgres://blend:s3creto@"),
        ("RabbitMQ", "RABBITMQ_URL", "amqp://blend:s3creto@"),
        ("Redis", "REDIS_URL", "redis://:s3creto@"),
    ] {
        let place = format!("127.0.0.1:{}", crate::servers::free_port());
        let mut away = Blend::on(blend.data_dir());
        away.set(setting, &format!("{scheme}{place}"));
        // Hot stock is nothing that the checker reads.
        for command in &commands[usize::from(name == "Redis")..] {
            let said = away.command(command).await.refused();
            for word in [&*format!("{name} at {place}"), "Start it", setting, "blend doctor"] {
                assert!(said.contains(word), "{command:?}: {word} is not in {said}");
            }
            assert!(!said.contains("s3creto"), "{command:?}: {said}");
        }
        // It needs the installation's key and nothing else.
        away.command(&["token", "--role", "super_admin"]).await.done();
    }
}

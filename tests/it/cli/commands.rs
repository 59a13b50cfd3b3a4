//! Commands that do their work.

use crate::support::api::Api;
use crate::support::process::{Blend, program};
use blend::http::Role;
use uuid::Uuid;

#[tokio::test]
async fn a_tenant_is_printed_as_its_id_alone() {
    let blend = Blend::new();
    let printed = blend.command(&["tenant", "create", "Súper Sur", "--trade", "ROPA"]).await.done();
    let id: Uuid = printed.strip_suffix('\n').unwrap().parse().unwrap();
    let second = blend.tenant("Otra").await;
    let listed = blend.command(&["tenant", "list"]).await.done();
    assert_eq!(listed, format!("{id}\tactive\tSúper Sur\n{second}\tactive\tOtra\n"));
    for name in ["", "   ", &"x".repeat(256)] {
        let refusal = blend.command(&["tenant", "create", name]).await.refused();
        assert!(refusal.contains("nombre"), "{refusal}");
    }
}

#[tokio::test]
async fn a_tenant_is_created_through_the_server_that_runs() {
    let blend = Blend::new();
    let before = blend.tenant("Antes").await;
    let server = blend.serve().await;
    let during = blend.tenant("Durante").await;
    let landlord = Api::new(&server.url(), &blend.token(None, Role::SuperAdmin));
    let tenants = landlord.get("/api/v1/admin/tiendas").await;
    let ids: Vec<_> =
        tenants.json.as_array().unwrap().iter().map(|tenant| tenant["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [before.to_string(), during.to_string()]);
    assert_eq!(blend.command(&["tenant", "list"]).await.done().lines().count(), 2);
    let refusal = blend.command(&["tenant", "create", ""]).await.refused();
    assert!(refusal.contains("nombre"), "{refusal}");
    assert!(server.sigterm().await.success());
    assert_eq!(blend.command(&["tenant", "list"]).await.done().lines().count(), 2);
}

#[tokio::test]
async fn a_token_is_printed_alone_and_opens_the_till() {
    let blend = Blend::new();
    let tenant = blend.tenant("Sur").await.to_string();
    let server = blend.serve().await;
    let printed = blend.command(&["token", "--tenant", &tenant, "--role", "vendedor"]).await.done();
    let token = printed.strip_suffix('\n').unwrap();
    assert_eq!((token.split('.').count(), token.lines().count()), (3, 1));
    assert_eq!(Api::new(&server.url(), token).get("/api/v1/productos").await.status, 200);
    let landlord = blend.command(&["token", "--role", "super_admin"]).await.done();
    assert_eq!(Api::new(&server.url(), landlord.trim()).get("/api/v1/admin/tiendas").await.status, 200);
    let refusal = blend.command(&["token", "--role", "cajero"]).await.refused();
    assert!(refusal.contains("--tenant"), "{refusal}");
    for wrong in [["--role", "rey"], ["--ttl", "5"], ["--tenant", "7"]] {
        let ran = blend.command(&[&["token"][..], &wrong].concat()).await;
        assert!(ran.code == Some(2) && ran.stderr.contains(wrong[0]), "{ran:?}");
    }
    // A key of the operator's own comes before the one in the directory.
    let ours = "0123456789abcdef0123456789abcdef";
    let mut command =
        program(&["token", "--tenant", &tenant, "--data-dir", blend.data_dir().to_str().unwrap()]);
    command.env("BLEND_AUTH__JWT_SECRET", ours);
    let foreign = blend.run(command).await.done();
    assert_eq!(Api::new(&server.url(), foreign.trim()).get("/api/v1/productos").await.status, 401);
    assert!(server.sigterm().await.success());
    let server = blend.serve_with(&[("BLEND_AUTH__JWT_SECRET", ours)]).await;
    assert_eq!(Api::new(&server.url(), foreign.trim()).get("/api/v1/productos").await.status, 200);
    assert_eq!(Api::new(&server.url(), token).get("/api/v1/productos").await.status, 401);
}

#[tokio::test]
async fn a_healthcheck_tells_by_its_exit_code() {
    let blend = Blend::new();
    let away = ["healthcheck", "--url", "http://127.0.0.1:1", "--timeout", "2"];
    let refusal = blend.command(&away).await.refused();
    assert!(refusal.contains("http://127.0.0.1:1 does not answer"), "{refusal}");
    let server = blend.serve().await;
    for args in [&["healthcheck"][..], &["healthcheck", "--url", &server.url()]] {
        let said = blend.command(args).await.done();
        assert!(said.contains(r#""status":"ready""#), "{said}");
    }
    let gone = server.url();
    server.sigkill();
    blend.command(&["healthcheck"]).await.refused();
    blend.command(&["healthcheck", "--url", &gone]).await.refused();
}

#[tokio::test]
async fn a_healthcheck_does_not_wait_for_ever() {
    // Accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let refusal = Blend::new().command(&["healthcheck", "--url", &url, "--timeout", "1"]).await.refused();
    assert!(refusal.contains("does not answer"), "{refusal}");
}

#[tokio::test]
async fn the_settings_are_printed_without_the_secret() {
    let blend = Blend::new();
    let file = blend.write("blend.toml", "[server]\nmax_connections = 77\n");
    let mut command = program(&["config", "--config", file.to_str().unwrap()]);
    command
        .env("BLEND_AUTH__JWT_SECRET", "0123456789abcdef0123456789abcdef")
        .env("BLEND_JOURNAL__MAX_MIB", "99");
    let printed = blend.run(command).await.done();
    assert!(!printed.contains("0123456789abcdef"), "{printed}");
    for line in ["jwt_secret = \"***\"", "max_connections = 77", "max_mib = 99", "header_timeout_secs = 5"] {
        assert!(printed.lines().any(|found| found == line), "{line} is not in\n{printed}");
    }
    // What is printed is a file that can be used, once the secret is in it again.
    let again = blend.write("again.toml", printed.replace("***", ""));
    let mut command = program(&["config", "--config", again.to_str().unwrap()]);
    command.env("BLEND_AUTH__JWT_SECRET", "0123456789abcdef0123456789abcdef");
    assert_eq!(blend.run(command).await.done(), printed);
}

#[tokio::test]
async fn migrate_makes_an_installation_and_changes_nothing_the_second_time() {
    let blend = Blend::new();
    for _ in 0..2 {
        let said = blend.command(&["migrate"]).await.done();
        assert!(said.ends_with("is up to date\n"), "{said}");
    }
    let server = blend.serve().await;
    let said = blend.command(&["migrate"]).await.done();
    assert!(said.contains("in use by process") && said.contains("up to date"), "{said}");
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn every_command_explains_itself() {
    let blend = Blend::new();
    let commands: [&[&str]; 14] = [
        &[],
        &["serve"],
        &["demo"],
        &["migrate"],
        &["tenant"],
        &["tenant", "create"],
        &["tenant", "list"],
        &["token"],
        &["import"],
        &["replay"],
        &["verify"],
        &["doctor"],
        &["healthcheck"],
        &["config"],
    ];
    for command in commands {
        let help = blend.run(program(&[command, &["--help"]].concat())).await.done();
        assert!(help.contains("Usage: blend"), "{command:?}: {help}");
        let main = ["serve", "demo", "token", "import", "replay", "doctor"];
        if command.is_empty()
            || command == ["tenant", "create"]
            || command.iter().any(|name| main.contains(name))
        {
            let (_, examples) = help.split_once("Example").unwrap_or_default();
            let shown = |line: &str| {
                line.starts_with("  ") && line.contains("blend ") && line.contains(&command.join(" "))
            };
            assert!(examples.lines().any(shown), "{command:?} has no example:\n{help}");
        }
    }
    let version = blend.run(program(&["--version"])).await.done();
    assert_eq!(version, format!("blend {}\n", env!("CARGO_PKG_VERSION")));
    let nothing = blend.run(program(&[])).await;
    assert!(nothing.code == Some(2) && nothing.stderr.contains("Usage: blend"), "{nothing:?}");
    for wrong in [&["sell"][..], &["serve", "--port", "1"], &["import"], &["replay"]] {
        assert_eq!(blend.run(program(wrong)).await.code, Some(2), "{wrong:?}");
    }
}

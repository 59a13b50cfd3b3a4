//! The demonstration: what somebody sees who starts the program for the first time.

use crate::support::api::Api;
use crate::support::eventually;
use crate::support::process::{Blend, Ran, Server, program};
use std::process::Command;

/// Starts the demonstration and reads what it says, to the last line.
async fn demo(blend: &Blend, args: &[&str]) -> (Server, Vec<String>) {
    let mut command = program(&[&["demo", "--listen", "127.0.0.1:0"], args].concat());
    // Its temporary directory is looked for below.
    let temporary = blend.scratch("tmp");
    std::fs::create_dir(&temporary).unwrap();
    command.env("TMPDIR", temporary);
    let mut server = Server::start(command, blend.scratch("demo.log")).await;
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.ends_with("/ops/actors")) {
        said.push(server.line().await);
    }
    (server, said)
}

#[tokio::test]
async fn customers_come_and_the_page_is_served() {
    let blend = Blend::new();
    let (server, said) = demo(&blend, &[]).await;
    let url = server.url();
    assert!(said.iter().any(|line| line.contains(&format!("Look at it: {url}/"))), "{said:#?}");
    let api = Api::anonymous(&url);
    let live = eventually("somebody buys", async || {
        let live = api.get("/ops/live").await;
        let shown = |part: &str| live.json[part].as_array().is_some_and(|rows| !rows.is_empty());
        let total = live.json["ventas"]["total"].as_u64().unwrap();
        // The parts of the page are taken one after the other: a sale in between is in one and not yet in another.
        (total > 0 && shown("ultimas") && shown("stock")).then_some(live)
    })
    .await;
    assert!(!live.json["actores"].as_array().unwrap().is_empty());
    for (path, kind) in [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")] {
        let asset = api.get(path).await;
        assert!(asset.status == 200 && asset.header("content-type").unwrap().starts_with(kind), "{path}");
        let policy = asset.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!asset.body.is_empty(), "{path}");
    }
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn the_printed_commands_work_as_they_stand() {
    let blend = Blend::new();
    let curl = blend
        .run({
            let mut curl = Command::new("bash");
            curl.args(["-c", "curl --version"]);
            curl
        })
        .await;
    assert_eq!(curl.code, Some(0), "this test runs the printed commands with bash and curl: install them");
    let (server, said) = demo(&blend, &["--quiet"]).await;
    let export = said.iter().find(|line| line.trim_start().starts_with("export TOKEN=")).unwrap();
    // A command may go on over lines that end in a backslash.
    let text = said.join("\n").replace("\\\n", " ");
    let commands: Vec<_> = text.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    let paste = async |line: &str| -> Ran {
        let mut bash = Command::new("bash");
        bash.arg("-c").arg(format!("{export}\n{line}"));
        blend.run(bash).await
    };
    let [scan, sell, stock, legacy, markets, actors] = commands[..] else { panic!("{said:#?}") };
    let scanned = paste(scan).await.done();
    assert!(scanned.contains("\"precio_venta\":") && scanned.contains("\"stock_actual\":"), "{scanned}");
    let sold = paste(sell).await.done();
    assert!(
        sold.starts_with("HTTP/1.1 201") && !sold.to_lowercase().contains("idempotent-replayed"),
        "{sold}"
    );
    let again = paste(sell).await.done();
    assert!(
        again.starts_with("HTTP/1.1 201") && again.to_lowercase().contains("idempotent-replayed: true"),
        "{again}"
    );
    assert_eq!(sold.split("\r\n\r\n").nth(1), again.split("\r\n\r\n").nth(1));
    let left = paste(stock).await.done();
    assert!(left.contains("\"por_ubicacion\":["), "{left}");
    let followed = eventually("the old ERP is followed", async || {
        let status = paste(legacy).await.done();
        status.contains("\"estado\":\"al_dia\"").then_some(status)
    })
    .await;
    assert!(followed.contains("\"saldos\":21"), "{followed}");
    let shown = eventually("both marketplaces show what there is", async || {
        let listed: serde_json::Value = serde_json::from_str(&paste(markets).await.done()).unwrap();
        let clean =
            |connection: &serde_json::Value| connection["pendientes"] == 0 && connection["al_dia"] != 0;
        listed.as_array().unwrap().iter().all(clean).then_some(listed)
    })
    .await;
    assert_eq!(shown.as_array().unwrap().len(), 2, "{shown}");
    let seen = paste(actors).await.done();
    assert!(seen.contains("\"reservation-0\""), "{seen}");
    assert!(server.sigterm().await.success());
}

#[tokio::test]
async fn ctrl_c_ends_it_and_leaves_nothing_behind() {
    let blend = Blend::new();
    let (mut server, _) = demo(&blend, &[]).await;
    let temporary = blend.data_dir().parent().unwrap();
    let left = || -> Vec<_> {
        let tmp = std::fs::read_dir(temporary).unwrap().map(|entry| entry.unwrap().path());
        let tmp = tmp.filter(|path| path.file_name().unwrap().to_string_lossy().ends_with("-tmp"));
        tmp.flat_map(|tmp| std::fs::read_dir(tmp).unwrap()).map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(left().len(), 1, "it is here while it runs");
    server.signal("INT");
    let status = server.ended().await;
    assert!(status.success(), "{status}");
    assert_eq!(left(), Vec::<std::ffi::OsString>::new());
}

#[tokio::test]
async fn a_demonstration_with_a_directory_of_its_own_is_kept_and_found_again() {
    let blend = Blend::new();
    let kept = blend.data_dir().to_str().unwrap().to_owned();
    let args = ["--quiet", "--data-dir", &kept];
    let (server, said) = demo(&blend, &args).await;
    assert!(said.iter().any(|line| line.contains(&format!("Everything is kept in {kept}"))), "{said:#?}");
    assert!(server.sigterm().await.success());
    let (server, _) = demo(&blend, &args).await;
    let landlord = Api::new(&server.url(), &blend.token(None, blend::http::Role::SuperAdmin));
    assert_eq!(landlord.get("/api/v1/admin/tiendas").await.json.as_array().unwrap().len(), 1);
    assert!(server.sigterm().await.success());
    crate::support::ledger::assert_verified(&blend).await;
}

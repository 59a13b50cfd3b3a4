//! What runs Blend elsewhere: compose file, image, unit, alerts, dashboard. Read as text, line by line, so they are
//! written one thing a line.

use crate::none;
use crate::source::{files, rust};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Without comments.
fn lines(path: &str) -> Vec<String> {
    let text = text(path);
    assert!(!text.contains('\t'), "{path} has a tab in it");
    let code = text.lines().map(|line| line.split(" # ").next().unwrap().trim_end());
    code.filter(|line| !line.trim_start().starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
}

/// The services of the compose file, each with its lines.
fn services() -> BTreeMap<String, Vec<String>> {
    let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = lines("docker-compose.yml");
    let inside = all.iter().skip_while(|line| *line != "services:").skip(1);
    let mut name = String::new();
    for line in inside.take_while(|line| line.starts_with(' ')) {
        match line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            Some(header) => name = header.trim_end_matches(':').to_owned(),
            None => services.entry(name.clone()).or_default().push(line.trim_start_matches(' ').to_owned()),
        }
    }
    assert!(services.len() >= 8 && services.contains_key("blend"), "{services:?}");
    services
}

fn value<'a>(service: &'a [String], key: &str) -> Option<&'a str> {
    service.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// The items of a list below a key.
fn items<'a>(service: &'a [String], key: &str) -> Vec<&'a str> {
    let below = service.iter().skip_while(|line| **line != format!("{key}:")).skip(1);
    below.map_while(|line| line.strip_prefix("- ")).map(|item| item.trim_matches('"')).collect()
}

fn setting(key: &str) -> Option<toml::Value> {
    let config: toml::Table = text("config.toml").parse().unwrap();
    match key.split_once('.') {
        Some((section, key)) => config.get(section)?.get(key).cloned(),
        None => config.get(key).cloned(),
    }
}

#[test]
fn ports_are_this_machines_alone() {
    let mut findings = Vec::new();
    let mut published = 0;
    for (name, service) in services() {
        for port in items(&service, "ports") {
            published += 1;
            if !port.starts_with("127.0.0.1:") {
                findings.push(format!("{name} publishes {port} to everybody: begin it with 127.0.0.1:"));
            }
        }
        let host = ["network_mode: host", "privileged: true", "ports: ["];
        findings.extend(
            service.iter().filter(|line| host.contains(&line.as_str())).map(|l| format!("{name}: {l}")),
        );
    }
    none("ports", findings);
    assert!(published >= 8, "only {published} ports were found");
}

#[test]
fn every_service_is_healthy_bounded_and_waits_for_health() {
    let mut findings = Vec::new();
    for (name, service) in services() {
        let once = value(&service, "restart") == Some("\"no\"");
        if !once && !service.iter().any(|line| line == "healthcheck:") {
            findings.push(format!("{name} does not say when it is healthy"));
        }
        for key in ["image", "restart", "mem_limit", "cpus", "logging"] {
            if value(&service, key).is_none() {
                findings.push(format!("{name} has no {key}"));
            }
        }
        if let Some(at) = service.iter().position(|line| line == "depends_on:") {
            for pair in
                service[at + 1..].chunks(2).take_while(|pair| pair[0].ends_with(':') && pair.len() == 2)
            {
                let state = pair[1].strip_prefix("condition: ");
                if state.is_some_and(|state| state != "service_healthy") {
                    findings.push(format!("{name} does not wait until {} is healthy", pair[0]));
                }
                if state.is_none() {
                    break;
                }
            }
        }
    }
    none("services", findings);
    let engine = &services()["blend"];
    let waits = engine.iter().filter(|line| *line == "condition: service_healthy").count();
    assert_eq!(waits, 3, "the engine waits for its three servers");
    assert!(value(engine, "profiles").is_none() && engine.iter().any(|line| line.contains("healthcheck\"]")));
}

#[test]
fn images_are_pinned() {
    let mut images: Vec<String> =
        services().values().filter_map(|service| value(service, "image").map(str::to_owned)).collect();
    let from = lines("Dockerfile").into_iter().filter_map(|line| {
        line.strip_prefix("FROM ").map(|image| image.split(' ').next().unwrap().to_owned())
    });
    images.extend(from);
    let loose = images.iter().filter(|image| {
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        let numbers =
            tag.split(['.', '-']).filter(|part| part.contains(|c: char| c.is_ascii_digit())).count();
        numbers < 2 || tag.contains("latest")
    });
    none("images without a version", loose.cloned().collect());
    assert!(images.contains(&format!("blend:{}", env!("CARGO_PKG_VERSION"))), "{images:?}");
    assert!(text("Dockerfile").contains(&format!("VERSION={}", env!("CARGO_PKG_VERSION"))));
    let toolchain: toml::Table = text("rust-toolchain.toml").parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(images.iter().any(|image| image.starts_with(&format!("rust:{channel}-"))), "{images:?}");
}

/// Every `${NAME...}` of the compose file, with what follows the name.
fn variables() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for part in lines("docker-compose.yml").join("\n").split("${").skip(1) {
        let inner = part.split('}').next().unwrap();
        let end = inner.find(':').unwrap_or(inner.len());
        found.insert((inner[..end].to_owned(), inner[end..].to_owned()));
    }
    found
}

fn is_secret(name: &str) -> bool {
    ["PASS", "SECRET", "TOKEN"].iter().any(|word| name.to_uppercase().contains(word))
}

#[test]
fn d43_secrets_come_from_the_environment() {
    let mut findings = Vec::new();
    for (name, service) in services() {
        for line in &service {
            let literal = line.split_once(": ").is_some_and(|(key, value)| {
                is_secret(key) && !value.starts_with("${") && !value.starts_with('[')
            });
            // user:password@host
            let in_url = line.split("://").skip(1).any(|rest| {
                rest.split_once('@').is_some_and(|(user, _)| {
                    user.split_once(':').is_some_and(|(_, password)| !password.starts_with("${"))
                })
            });
            if literal || in_url {
                findings.push(format!("{name}: {line}"));
            }
        }
        for (at, line) in service.iter().enumerate() {
            if line == "- --requirepass" && !service[at + 1].starts_with("- ${") {
                findings.push(format!("{name}: {}", service[at + 1]));
            }
        }
    }
    for (name, rule) in variables() {
        if is_secret(&name) && !rule.starts_with(":?") {
            findings.push(format!("{name} has a default, or may be empty"));
        }
    }
    for line in lines("deploy/example.env") {
        if line.split_once('=').is_none_or(|(name, value)| is_secret(name) && !value.is_empty()) {
            findings.push(format!("deploy/example.env: {line}"));
        }
    }
    for ignore in [".gitignore", ".dockerignore"] {
        let covered = text(ignore).lines().any(|line| line == "/.env" || line == "*");
        if !covered || text(ignore).contains("!.env") {
            findings.push(format!("{ignore} lets .env through"));
        }
    }
    none("secrets", findings);
}

#[test]
fn the_example_names_what_compose_takes() {
    let told: BTreeSet<String> = text("deploy/example.env")
        .lines()
        .map(|line| line.trim_start_matches('#'))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.to_owned()))
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    let mut taken: BTreeSet<String> = variables().into_iter().map(|(name, _)| name).collect();
    taken.extend(
        lines("docker-compose.yml")
            .iter()
            .filter_map(|line| line.trim().strip_prefix("environment: ").map(str::to_owned)),
    );
    assert_eq!(told, taken);
}

#[test]
fn settings_that_are_set_exist() {
    let mut findings = Vec::new();
    let mut checked = 0;
    for path in ["docker-compose.yml", "Dockerfile", "deploy/example.env", "deploy/systemd/blend.service"] {
        let text = text(path);
        for (at, _) in text.match_indices("BLEND_") {
            let name: String =
                text[at..].chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
            let before = text[..at].chars().next_back();
            let part = before.is_some_and(|c| c.is_ascii_uppercase() || c == '_');
            let key = name["BLEND_".len()..].to_lowercase().replace("__", ".");
            let is_setting = key.contains('.') || key == "data_dir";
            if part || !is_setting || key == "section.key" || name == "BLEND_SECTION__KEY" {
                continue;
            }
            checked += 1;
            if setting(&key).is_none() {
                findings.push(format!("{path}: {name} is no setting ({key})"));
            }
        }
    }
    none("settings", findings);
    assert!(checked >= 8, "only {checked} settings were found");
}

#[test]
fn whoever_stops_it_gives_it_the_time_it_may_take() {
    // The edge ends first, then the actors; each has as long as the setting says.
    let needed = 2 * setting("server.shutdown_timeout_secs").unwrap().as_integer().unwrap();
    let seconds = |text: &str| text.trim_end_matches('s').parse::<i64>().unwrap();
    let compose = seconds(value(&services()["blend"], "stop_grace_period").unwrap());
    let unit = lines("deploy/systemd/blend.service");
    let unit = seconds(unit.iter().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap());
    assert!(
        compose > needed && unit > needed,
        "{compose} s and {unit} s, needed are {needed} s and a little"
    );
}

#[test]
fn what_is_mounted_is_there_and_volumes_have_names() {
    let all = lines("docker-compose.yml");
    let declared: BTreeSet<&str> = all
        .iter()
        .skip_while(|line| *line != "volumes:")
        .filter_map(|line| line.strip_prefix("  "))
        .map(|line| line.trim_end_matches(':'))
        .collect();
    let (mut findings, mut used) = (Vec::new(), BTreeSet::new());
    for (name, service) in services() {
        for mount in items(&service, "volumes") {
            let from = mount.split(':').next().unwrap().to_owned();
            match from.strip_prefix("./") {
                Some(path) if !fs::exists(path).unwrap() => {
                    findings.push(format!("{name}: {path} is not there"))
                }
                Some(_) if !mount.ends_with(":ro") => findings.push(format!("{name} may write {from}")),
                Some(_) => {}
                None => {
                    used.insert(from);
                }
            }
        }
    }
    none("mounts", findings);
    assert_eq!(used.iter().map(String::as_str).collect::<BTreeSet<_>>(), declared);
}

#[test]
fn the_image_is_of_a_user_without_rights_and_says_when_it_is_healthy() {
    let docker = lines("Dockerfile");
    let at = |start: &str| docker.iter().rposition(|line| line.trim_start().starts_with(start));
    let user = docker.iter().rev().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(!user.starts_with('0') && !user.starts_with("root"), "{user}");
    assert!(at("USER ") < at("ENTRYPOINT ") && at("FROM ") < at("USER "), "the last stage has its own user");
    assert!(docker.iter().any(|line| line.contains(r#"CMD ["blend", "healthcheck"]"#)));
    assert!(docker.iter().any(|line| line.contains("--mount=type=cache")) && at("LABEL ").is_some());
    let ignore = text(".dockerignore");
    assert_eq!(ignore.lines().find(|line| !line.starts_with('#')), Some("*"), "nothing but what is named");
    let named: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    none("paths", named.iter().filter(|p| !fs::exists(p).unwrap()).map(|p| (*p).to_owned()).collect());
    for needed in ["src", "migrations", "web", "config.toml", "openapi.json", "Cargo.lock"] {
        assert!(named.contains(&needed), "the build reads {needed}");
    }
}

/// Alerts and panels ask for metrics that the program has.
#[test]
fn metrics_that_are_asked_for_exist() {
    let shipped: String = rust(&["src"]).iter().filter(|s| !s.is_test()).map(|s| s.text.clone()).collect();
    let mut asking = files("deploy/prometheus", "yml");
    asking.extend(files("deploy/grafana/dashboards", "json"));
    assert!(asking.len() >= 3, "{asking:?}");
    let (mut findings, mut checked) = (Vec::new(), BTreeSet::new());
    for path in asking {
        for word in text(&path).split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            if !word.starts_with("blend_") && !word.starts_with("sales_") && !word.starts_with("sale_") {
                continue;
            }
            let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            checked.insert(word.to_owned());
            if !shipped.contains(&format!("\"{}\"", histogram.unwrap_or(word))) {
                findings.push(format!("{path}: {word}"));
            }
        }
    }
    none("metrics that the program does not have", findings);
    for alarming in ["blend_ledger_dead_letters_total", "blend_journal_failures_total", "blend_actor_up"] {
        assert!(checked.contains(alarming), "nobody looks at {alarming}");
    }
}

#[test]
fn alerts_say_how_bad_it_is_and_what_to_do() {
    let rules = text("deploy/prometheus/rules.yml");
    let mut findings = Vec::new();
    for alert in rules.split("- alert: ").skip(1) {
        for part in ["expr: ", "severity: ", "summary: ", "do: "] {
            if alert.matches(part).count() != 1 {
                findings.push(format!("{} has not one {part}", alert.lines().next().unwrap()));
            }
        }
    }
    none("alerts", findings);
}

#[test]
fn the_dashboard_is_one_and_its_panels_ask_for_something() {
    let board: serde_json::Value =
        serde_json::from_str(&text("deploy/grafana/dashboards/blend.json")).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
    let silent = panels.iter().filter(|panel| panel["type"] != "row").filter(|panel| {
        let targets = panel["targets"].as_array();
        targets.is_none_or(|targets| {
            targets.is_empty()
                || targets.iter().any(|target| target["expr"].as_str().is_none_or(str::is_empty))
        })
    });
    none("panels", silent.map(|panel| panel["title"].to_string()).collect());
    let source = text("deploy/grafana/provisioning/datasources/prometheus.yml");
    let uid = panels[1]["datasource"]["uid"].as_str().unwrap();
    assert!(source.contains(&format!("uid: {uid}")), "{uid} is not provisioned");
}

//! What the documents say of the code.

use crate::none;
use crate::source::{Source, files, rust};
use blend::actors::{channels, journal_writer, ledger_writer, legacy_poller, nodes, reservation, webhooks};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const DOCUMENTS: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The cells of every row of the tables below a heading.
fn rows(path: &str, heading: &str) -> Vec<Vec<String>> {
    let text = text(path);
    let mut inside = false;
    let mut rows = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            inside = line.trim_start_matches('#').trim() == heading;
        } else if inside && line.starts_with('|') && !line.starts_with("|---") {
            rows.push(line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect());
        }
    }
    assert!(rows.len() > 1, "{path} has no table below {heading:?}");
    rows.remove(0);
    rows
}

fn quoted(cell: &str) -> String {
    cell.split('`').nth(1).unwrap_or(cell).to_owned()
}

/// The actors that the composition root starts, `N` for a number in a name.
fn actors_in_code() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in rust(&["src/app"]).iter().filter(|source| !source.is_test()) {
        for (at, _) in source.text.match_indices("Spec::new(") {
            let name = source.text[at..].split('"').nth(1).unwrap();
            names.insert(name.replace("{shard}", "N").replace("{suffix}", "").replace("{name}", "NAME"));
        }
    }
    assert!(names.len() >= 3, "{names:?}");
    names
}

fn supervisors_in_code() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in rust(&["src/app"]).iter().filter(|source| !source.is_test()) {
        for call in ["Supervisor::new(\"", ".child(\""] {
            for (at, _) in source.text.match_indices(call) {
                names.insert(source.text[at + call.len()..].split('"').next().unwrap().to_owned());
            }
        }
    }
    names
}

fn capacities() -> BTreeMap<&'static str, usize> {
    BTreeMap::from([
        ("journal", journal_writer::CAPACITY),
        ("reservation-N", reservation::CAPACITY),
        ("ledger", ledger_writer::CAPACITY),
        ("channels", channels::CAPACITY),
        ("webhooks", webhooks::CAPACITY),
        ("legacy-NAME", legacy_poller::CAPACITY),
        ("nodes", nodes::CAPACITY),
    ])
}

#[test]
fn tables_of_actors_name_those_there_are_with_their_mailboxes() {
    let code = actors_in_code();
    assert_eq!(code, capacities().keys().map(|name| (*name).to_owned()).collect(), "see capacities() here");
    for (path, heading) in [("ARCHITECTURE.md", "The actors"), ("README.md", "The supervision tree")] {
        let table = rows(path, heading);
        let named: BTreeSet<String> = table.iter().map(|row| quoted(&row[0])).collect();
        assert_eq!(named, code, "{path}, table below {heading}");
        for row in &table {
            let digits: String =
                row[2].chars().filter(|c| *c != ',').take_while(char::is_ascii_digit).collect();
            assert_eq!(
                digits.parse().ok(),
                capacities().get(quoted(&row[0]).as_str()).copied(),
                "{path}: {row:?}"
            );
        }
    }
    let doc = Source::read("src/actors/mod.rs").text;
    none(
        "not in src/actors/mod.rs",
        code.into_iter().filter(|name| !doc.contains(&format!("`{name}`"))).collect(),
    );
}

/// Drawings name every actor and supervisor and no others: nodes are `id["label"]` for things outside of the tree and
/// `id("name")` for actors and supervisors.
#[test]
fn drawings_show_the_actors_there_are() {
    let text = text("ARCHITECTURE.md");
    let everyone: BTreeSet<String> = actors_in_code().union(&supervisors_in_code()).cloned().collect();
    let mut drawn = BTreeSet::new();
    for block in text.split("```mermaid").skip(1) {
        let block = block.split("```").next().unwrap();
        for (at, _) in block.match_indices("(\"") {
            drawn.insert(block[at + 2..].split(['"', '<']).next().unwrap().to_owned());
        }
    }
    // The shards' supervisor is drawn with its own name, so both lists are exact.
    assert_eq!(drawn, everyone);
}

#[test]
fn the_table_of_bounds_has_the_defaults() {
    let config: toml::Table = text("config.toml").parse().unwrap();
    let mut documented = BTreeSet::new();
    for row in rows("ARCHITECTURE.md", "Every bound") {
        let key = quoted(&row[2]);
        let Some((section, name)) = key.split_once('.') else { continue };
        let value = config.get(section).and_then(|section| section.get(name));
        let value =
            value.unwrap_or_else(|| panic!("{key} is no setting")).to_string().replace([' ', '"'], "");
        let said = row[1].replace([',', ' '], "");
        assert!(said.starts_with(&value.replace(',', "")), "{key} is {value}, the table says {}", row[1]);
        documented.insert(key);
    }
    let bounds = [
        "server",
        "engine",
        "journal",
        "ledger",
        "stock",
        "bus",
        "channels",
        "webhooks",
        "alerts",
        "supervision",
    ]
    .iter()
    .flat_map(|section| {
        let keys = config[*section].as_table().unwrap();
        keys.iter()
            .filter(|(_, value)| !value.is_bool() && !value.is_str())
            .map(move |(key, _)| format!("{section}.{key}"))
    });
    none(
        "settings without a row in the table of bounds",
        bounds.filter(|key| !documented.contains(key)).collect(),
    );
}

#[test]
fn command_lines_in_documents_are_understood() {
    let mut checked = 0;
    let mut findings = Vec::new();
    for path in DOCUMENTS {
        for line in command_lines(&text(path)) {
            checked += 1;
            if let Err(error) = blend::cli::definition().try_get_matches_from(words(&line))
                && error.use_stderr()
            {
                findings.push(format!(
                    "{path}: {line}: {}",
                    error.to_string().lines().next().unwrap_or_default()
                ));
            }
        }
    }
    none("command lines", findings);
    assert!(checked >= 10, "only {checked} command lines were found");
}

/// Lines of code blocks that run `blend`, from that word on.
fn command_lines(document: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for block in document.split("```").skip(1).step_by(2) {
        let shell = ["sh\n", "console\n", "bash\n"].iter().find_map(|language| block.strip_prefix(language));
        for line in shell.unwrap_or_default().replace("\\\n", " ").lines() {
            let line = line.trim();
            let line = line.split_once("=$(").map_or(line, |(_, inner)| inner.trim_end_matches(')'));
            let line = line
                .strip_prefix("cargo run --release -- ")
                .map_or(line.to_owned(), |rest| format!("blend {rest}"));
            if line.starts_with("blend ") {
                let line = line.split(" # ").next().unwrap().trim_end().trim_end_matches('&').trim();
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

/// As a shell takes them apart; a variable is any id.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            (c, _) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    let some = |word: String| {
        if word.starts_with('$') { "0192f5a0-0000-7000-8000-000000000001".into() } else { word }
    };
    words.into_iter().map(some).collect()
}

#[test]
fn paths_in_documents_exist() {
    let mut findings = Vec::new();
    for path in DOCUMENTS {
        for quoted in text(path).split('`').skip(1).step_by(2) {
            let looks_like_one =
                ["src/", "tests/", "benches/", "examples/", "migrations/", "web/", "deploy/"]
                    .iter()
                    .any(|directory| quoted.starts_with(directory));
            if looks_like_one && !quoted.contains([' ', '*', '{']) && !fs::exists(quoted).unwrap() {
                findings.push(format!("{path} names {quoted}"));
            }
        }
    }
    none("paths", findings);
}

#[test]
fn metrics_in_the_readme_are_those_in_the_code() {
    let shipped: String = rust(&["src"]).iter().filter(|s| !s.is_test()).map(|s| s.text.clone()).collect();
    let readme = text("README.md");
    let named = readme.split('`').skip(1).step_by(2);
    let metrics =
        named.filter(|name| name.starts_with("blend_") || name.starts_with("sale")).filter(|name| {
            name.ends_with("_total")
                || name.ends_with("_seconds")
                || name.ends_with("_events")
                || name.ends_with("_depth")
        });
    let metrics: Vec<&str> = metrics.collect();
    assert!(!metrics.is_empty());
    none(
        "unknown metrics",
        metrics.iter().filter(|m| !shipped.contains(*m)).map(|m| (*m).to_owned()).collect(),
    );
}

/// The project speaks of itself: not of what it replaced, nor of how and where it was written.
#[test]
fn no_file_speaks_of_its_making() {
    // Put together here, so that this file may be searched too.
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/tmp", "/wt"),
        concat!("the ori", "ginal"),
        concat!("work", "tree"),
        concat!("sand", "box"),
        concat!("language ", "model"),
        concat!("this ses", "sion"),
        concat!("this ", "issue"),
        concat!("py", "pi"),
        concat!("FIX", "ME"),
    ];
    let ends =
        ["rs", "md", "toml", "sql", "html", "js", "css", "json", "yml", "conf", "sh", "service", "env"];
    let directories = ["src", "tests", "benches", "examples", "migrations", "web", "deploy", ".config"];
    let mut paths: Vec<String> =
        ends.iter().flat_map(|end| directories.map(|dir| files(dir, end))).flatten().collect();
    paths.extend(DOCUMENTS.map(str::to_owned));
    paths.extend(
        ["Cargo.toml", "clippy.toml", "config.toml", "deny.toml", "openapi.json", "test"].map(str::to_owned),
    );
    paths.extend(["Dockerfile", "docker-compose.yml", ".dockerignore"].map(str::to_owned));
    let mut findings = Vec::new();
    for path in paths {
        let lower = text(&path).to_lowercase();
        findings.extend(
            banned
                .iter()
                .filter(|word| lower.contains(&word.to_lowercase()))
                .map(|word| format!("{path}: {word}")),
        );
    }
    none("words", findings);
}

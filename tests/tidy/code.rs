//! Layers, bans, sizes, orphans.

use crate::none;
use crate::source::{Source, files, rust};
use std::collections::BTreeSet;
use std::path::Path;

/// Who may name whom with `crate::`. Everybody may name itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("ports", &["domain"]),
    ("resilience", &["domain", "ports"]),
    ("config", &[]),
    ("telemetry", &["config", "domain", "ports"]),
    ("migrations", &["ports"]),
    ("sqlite", &["migrations", "ports"]),
    ("bus", &["domain", "ports", "resilience", "sqlite"]),
    ("store", &["domain", "migrations", "ports", "resilience", "sqlite"]),
    ("stock", &["domain", "ports", "resilience", "sqlite"]),
    ("channels", &["domain", "ports"]),
    ("erp", &["domain", "ports"]),
    ("actors", &["domain", "ports", "resilience"]),
    ("http", &["actors", "client", "domain", "ports"]),
    ("client", &["domain"]),
    ("load", &["client", "domain"]),
    (
        "app",
        &[
            "actors",
            "bus",
            "channels",
            "config",
            "domain",
            "erp",
            "http",
            "ports",
            "resilience",
            "sqlite",
            "stock",
            "store",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "actors",
            "app",
            "channels",
            "client",
            "config",
            "domain",
            "erp",
            "http",
            "load",
            "ports",
            "telemetry",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

#[test]
fn layers_name_only_those_below_them() {
    let mut findings = Vec::new();
    for source in rust(&["src"]).iter().filter(|source| !source.is_test()) {
        let layer = source.layer();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            findings.push(format!("{}: layer {layer} has no row in the table of layers", source.path));
            continue;
        };
        for (at, named) in named_modules(source.shipped()) {
            if named != layer && !allowed.contains(&named.as_str()) {
                let line = source.line(at);
                findings.push(format!("{}:{line}: {layer} may not name crate::{named}", source.path));
            }
        }
    }
    none("layering (the picture is in src/lib.rs)", findings);
}

/// The modules directly below the crate's root that a text names, alone or in a group.
fn named_modules(code: &str) -> Vec<(usize, String)> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            named.push((at, word(rest)));
            continue;
        };
        let mut depth = 1;
        let mut start = true;
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start = true,
                c if start && depth == 1 && c.is_alphabetic() => {
                    named.push((at, word(&group[offset..])));
                    start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    named.retain(|(_, name)| name.starts_with(char::is_lowercase));
    named
}

/// A text that code may not contain.
struct Ban {
    text: &'static str,
    /// Path prefixes where it may stand.
    except: &'static [&'static str],
    why: &'static str,
    /// Whether tests obey too.
    tests: bool,
}

const BANS: &[Ban] = &[
    Ban {
        text: "do_send(",
        except: &["src/actors/kit/", "benches/"],
        why: "it passes the bound of a mailbox; use Handle::ask, tell, or feedback for what is bounded elsewhere",
        tests: true,
    },
    Ban {
        text: "actix::",
        except: &["src/actors/kit/", "benches/"],
        why: "only the kit knows actix; use Behaviour, Handle, Supervisor",
        tests: true,
    },
    Ban {
        text: "actix_rt::",
        except: &["src/actors/kit/", "src/app/", "src/cli/"],
        why: "only the kit, the composition root and the command line start runtimes and tasks",
        tests: false,
    },
    Ban {
        text: "env::var",
        except: &["src/config/"],
        why: "settings are read once, in config/; take them as values",
        tests: false,
    },
    Ban {
        text: "sqlx::",
        except: &["src/migrations.rs", "src/sqlite/", "src/bus/", "src/store/", "src/app/doctor/postgres.rs"],
        why: "SQL lives in adapters; ask a port (the doctor asks a server about itself, which no port does)",
        tests: false,
    },
    Ban {
        text: "tiberius::",
        except: &["src/erp/"],
        why: "SQL Server is spoken to by one adapter; ask ports::erp",
        tests: true,
    },
    Ban {
        text: "backoff::ExponentialBackoff",
        except: &["src/resilience/backoff.rs"],
        why: "the crate is named in one module; use resilience::backoff::BackoffPolicy",
        tests: true,
    },
    Ban {
        text: "SystemTime::now",
        except: &["src/ports/clock.rs", "src/actors/kit/"],
        why: "take a Clock, so that tests can turn time back (the kit stamps failures for operators only)",
        tests: false,
    },
    Ban {
        text: "unbounded_channel",
        except: &["src/actors/kit/"],
        why: "every queue has a bound (the kit's escalation path is the one exception)",
        tests: false,
    },
    Ban {
        text: "#[allow(",
        except: &[],
        why: "say #[expect(lint, reason = \"...\")]: it complains once it is not needed any more",
        tests: true,
    },
];

#[test]
fn banned_texts_stay_where_they_belong() {
    let mut findings = Vec::new();
    for source in rust(&["src", "tests", "benches", "examples"]) {
        for ban in BANS {
            let excepted = ban.except.iter().any(|prefix| source.path.starts_with(prefix));
            if excepted || (source.is_test() && !ban.tests) {
                continue;
            }
            let code = if ban.tests { source.code.as_str() } else { source.shipped() };
            for (at, _) in code.match_indices(ban.text) {
                findings.push(format!("{}:{}: {}: {}", source.path, source.line(at), ban.text, ban.why));
            }
        }
    }
    none("banned", findings);
}

#[test]
fn floats_stay_with_the_metrics() {
    const WHERE: [&str; 3] = ["src/telemetry/", "src/resilience/backoff.rs", "src/actors/kit/registry.rs"];
    let mut findings = Vec::new();
    for source in rust(&["src"]) {
        if source.is_test() || WHERE.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        let code = source.shipped();
        let words = |c: char| !(c.is_alphanumeric() || c == '_');
        if code.split(words).any(|word| word == "f64" || word == "f32") {
            findings.push(format!("{}: money and quantities are domain::decimal::Decimal", source.path));
        }
    }
    none("floating-point numbers", findings);
}

#[test]
fn filters_do_not_backtrack() {
    let mut findings = Vec::new();
    for source in rust(&["src"]).iter().filter(|source| source.code.contains("Filter<")) {
        for (number, line) in source.code.lines().enumerate() {
            // On a line of its own it continues a chain of filters; an Option's stands behind what it unwraps.
            if line.trim_start().starts_with(".and_then(") {
                findings.push(format!(
                    "{}:{}: use .then(), a rejection tries other routes",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    none("warp filters", findings);
}

/// Files that may be longer than their bound, up to the number given, and why.
const LONG: &[(&str, usize, &str)] = &[
    (
        "src/actors/kit/supervisor.rs",
        430,
        "one state machine: a node, its verdicts and its end are read together",
    ),
    (
        "src/store/sqlite/write.rs",
        520,
        "the statements and the plan that fills them must agree column by column",
    ),
];

#[test]
fn files_are_short_enough_to_read() {
    const SHIPPED: usize = 400;
    const TESTS: usize = 700;
    let mut findings = Vec::new();
    for source in rust(&["src", "tests", "benches", "examples"]) {
        let lines = source.text.lines().count();
        let most = if source.is_test() { TESTS } else { SHIPPED };
        let allowed =
            LONG.iter().find(|(path, ..)| *path == source.path).map_or(most, |(_, lines, _)| *lines);
        if lines > allowed {
            findings.push(format!("{}: {lines} lines, at most {allowed}: split it", source.path));
        }
    }
    for (path, ..) in LONG {
        let there = Path::new(path).exists();
        if !there || Source::read(path).text.lines().count() <= SHIPPED {
            findings.push(format!("{path} is short now: take it off the list of long files"));
        }
    }
    none("file sizes", findings);
}

#[test]
fn every_file_is_part_of_the_program() {
    let mut reached = BTreeSet::new();
    for root in ["src/lib.rs", "src/main.rs", "tests/tidy.rs", "tests/it/main.rs"] {
        reach(root.to_owned(), true, &mut reached);
    }
    let all = ["src", "tests"].iter().flat_map(|directory| files(directory, "rs"));
    let orphans = all.filter(|file| !reached.contains(file));
    none("files that no mod declares", orphans.collect());
}

fn reach(path: String, is_root: bool, reached: &mut BTreeSet<String>) {
    if !reached.insert(path.clone()) {
        return;
    }
    let source = Source::read(&path);
    let (directory, name) = path.rsplit_once('/').unwrap();
    let stem = name.strip_suffix(".rs").unwrap();
    let below = if is_root || stem == "mod" { directory.to_owned() } else { format!("{directory}/{stem}") };
    let lines: Vec<&str> = source.text.lines().collect();
    for (number, code) in source.code.lines().enumerate() {
        let Some(declared) = declaration(code) else { continue };
        let attribute = lines[..number].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        let named =
            attribute.filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]")).next();
        let candidates = match named {
            Some(file) => vec![plain(&format!("{directory}/{file}"))],
            None => vec![format!("{below}/{declared}.rs"), format!("{below}/{declared}/mod.rs")],
        };
        if let Some(found) = candidates.into_iter().find(|file| Path::new(file).exists()) {
            reach(found, false, reached);
        }
    }
}

/// A path without `..`.
fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The name in `mod name;`, whatever its visibility.
fn declaration(line: &str) -> Option<&str> {
    let rest = line.trim().strip_suffix(';')?;
    let (before, name) = rest.rsplit_once("mod ").map(|(before, name)| (before.trim(), name.trim()))?;
    let visibility = before.is_empty() || before.starts_with("pub");
    (visibility && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

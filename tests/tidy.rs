//! The rules that no compiler checks: layers, sizes, bans, and that the documents say what the code does.
//!
//! Everything is read as text from the package's directory, which is where cargo runs tests.

#![expect(clippy::unwrap_used, reason = "a check that cannot go on fails where it stands")]

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/contract.rs"]
mod contract;
#[path = "tidy/deploy.rs"]
mod deploy;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/source.rs"]
mod source;

/// Fails with all findings at once, one a line.
#[track_caller]
fn none(what: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{what}:\n  {}\n", findings.join("\n  "));
}

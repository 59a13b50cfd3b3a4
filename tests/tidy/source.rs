//! Reading source files: which there are, and what of them is code.

use std::fs;
use std::path::Path;

/// A Rust file.
pub struct Source {
    /// Its path from the package's directory, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Without comments, without what stands in string literals, with the same line breaks.
    pub code: String,
}

impl Source {
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), code: strip(&text), text }
    }

    /// Whether all of it is there for tests only.
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let test_file = ["tests.rs", "testing.rs", "fixtures.rs", "contract.rs"].contains(&name)
            || name.ends_with("_tests.rs")
            || self.path.contains("/tests/");
        test_file || !self.path.starts_with("src/")
    }

    /// The code before the file's own test module.
    pub fn shipped(&self) -> &str {
        let end = self
            .code
            .find("#[cfg(test)]\nmod tests {")
            .or(self.code.find("#[cfg(test)]\npub(crate) mod tests {"));
        &self.code[..end.unwrap_or(self.code.len())]
    }

    /// The first segment of the path below `src/`.
    pub fn layer(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or_default();
        below.split(['/', '.']).next().unwrap_or_default()
    }

    /// The number of the line at which a place in `code` stands.
    pub fn line(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }
}

/// Every file below a directory whose name ends in `.extension`, sorted.
pub fn files(directory: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(Path::new(directory), extension, &mut found);
    found.sort();
    found
}

fn collect(directory: &Path, extension: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
}

/// Every Rust file of the directories.
pub fn rust(directories: &[&str]) -> Vec<Source> {
    let paths = directories.iter().flat_map(|directory| files(directory, "rs"));
    paths.map(|path| Source::read(&path)).collect()
}

/// Blanks comments and the insides of string and character literals.
pub fn strip(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let keep_breaks = |from: &[u8], out: &mut Vec<u8>| {
        out.extend(from.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
    };
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if rest.starts_with('"') {
            string(rest.as_bytes())
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            out.push(bytes[at]);
            at += 1;
            while at < bytes.len() && !text.is_char_boundary(at) {
                out.push(bytes[at]);
                at += 1;
            }
            continue;
        }
        keep_breaks(&bytes[at..at + skipped], &mut out);
        at += skipped;
    }
    String::from_utf8(out).unwrap()
}

fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r').or_else(|| rest.strip_prefix("br"))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end)? + end.len();
    Some(rest.len() - body.len() + length)
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            rest[2..].find('\'').map_or(0, |end| end + 3).max(if rest.starts_with("'\\''") { 4 } else { 0 })
        }
        Some(_) => chars.next().filter(|(_, second)| *second == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

#[test]
fn stripping_leaves_code_and_lines() {
    let text = "let a = \"x // y\"; // z\nlet b = 'c'; fn f<'a>() {} /* q\n*/ r#\"a\"b\"# '\\'' \"\\\"\" end";
    let code = strip(text);
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
    for gone in ["//", "x", "z", "q", "\"", "'c'"] {
        assert!(!code.contains(gone), "{gone} in {code}");
    }
    assert!(code.contains("fn f<'a>() {}") && code.ends_with("end"), "{code}");
}

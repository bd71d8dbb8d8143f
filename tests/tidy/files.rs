//! Rules about files: header, name, size, mode, and what a tracked file may mention.

use std::os::unix::fs::PermissionsExt as _;

use crate::{Repository, Violation};

/// Lines of a source file before its unit tests.
const FILE_LINES: usize = 500;
/// Lines of a function, tests excepted.
const FUNCTION_LINES: usize = 60;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "types", "misc", "mod"];

fn violation(file: &str, line: usize, rule: impl Into<String>) -> Violation {
    Violation { file: file.to_owned(), line, rule: rule.into() }
}

/// Every source starts by saying what it is for.
pub(crate) fn headers(repository: &Repository) -> Vec<Violation> {
    repository
        .sources
        .iter()
        .filter(|source| !source.is_generated())
        .filter(|source| {
            let first = source.text.lines().next().unwrap_or_default();
            !first.starts_with("//! ") || first.to_lowercase().contains("placeholder")
        })
        .map(|source| violation(&source.file, 1, "the first line must be `//! …` and say what the file is for"))
        .collect()
}

/// No file is called something that fits everything.
pub(crate) fn names(repository: &Repository) -> Vec<Violation> {
    repository
        .sources
        .iter()
        .filter(|source| {
            let name = source.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
            EMPTY_NAMES.contains(&name)
        })
        .map(|source| violation(&source.file, 1, "this name says nothing (or is mod.rs); name the noun or the step"))
        .collect()
}

/// Files are short enough to be read in one go.
pub(crate) fn sizes(repository: &Repository) -> Vec<Violation> {
    repository
        .sources
        .iter()
        .filter(|source| !source.is_generated())
        .filter(|source| source.tests_from - 1 > FILE_LINES)
        .map(|source| {
            let lines = source.tests_from - 1;
            violation(&source.file, lines, format!("{lines} lines before the tests; {FILE_LINES} at most"))
        })
        .collect()
}

/// Functions are short enough to be seen at once.
pub(crate) fn function_sizes(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &repository.sources {
        let is_test = source.file.starts_with("tests/mesh")
            || source.file.starts_with("tests/lanes")
            || source.file.starts_with("tests/nacos")
            || source.file.starts_with("tests/models")
            || source.file.starts_with("tests/lifecycle")
            || source.file.contains("/tests/");
        if source.is_generated() || is_test {
            continue;
        }
        for function in source.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES) {
            let rule = format!("fn {} has {} lines; {FUNCTION_LINES} at most", function.name, function.lines);
            found.push(violation(&source.file, function.line, rule));
        }
    }
    found
}

/// What begins with `#!` can be run.
pub(crate) fn scripts(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &repository.files {
        let path = repository.root.join(file);
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if !bytes.starts_with(b"#!/") {
            continue;
        }
        let mode = std::fs::metadata(&path).map(|metadata| metadata.permissions().mode()).unwrap_or_default();
        if mode & 0o111 == 0 {
            found.push(violation(file, 1, "a script must be executable"));
        }
    }
    found
}

/// Nothing refers to the machine on which it was written.
pub(crate) fn machine_paths(repository: &Repository) -> Vec<Violation> {
    let forbidden = ["/work", "/root", "/home"].map(|place| format!("{place}/"));
    let mut found = Vec::new();
    for file in &repository.files {
        let Some(text) = repository.text(file) else { continue };
        for (at, line) in text.lines().enumerate() {
            for place in forbidden.iter().filter(|place| line.contains(place.as_str())) {
                found.push(violation(file, at + 1, format!("names a place of one machine: {place}")));
            }
        }
    }
    found
}

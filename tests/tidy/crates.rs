//! Rules about crates: who may depend on whom, where versions stand, and of what there is only one.

use crate::{Repository, Violation};

/// Manifest, and the crates of ours that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("core/Cargo.toml", &[]),
    ("proto/Cargo.toml", &["mesh-core"]),
    ("proxy/Cargo.toml", &["mesh-core", "mesh-proto"]),
    ("controller/Cargo.toml", &["mesh-core", "mesh-proto"]),
    ("injector/Cargo.toml", &["mesh-core"]),
    ("mesh-ctl/Cargo.toml", &["mesh-core", "mesh-proto"]),
    ("examples/demo/app/Cargo.toml", &[]),
    ("tests/Cargo.toml", &["mesh-core", "mesh-proto"]),
    ("tests/bench/Cargo.toml", &["mesh-core", "mesh-proto", "mesh-tests"]),
];
/// What mesh-core must not have: it would let IO, a clock or chance into decisions.
const NOT_IN_CORE: &[&str] = &["tokio", "hyper", "rustls", "tonic", "rand", "reqwest", "socket2", "libc"];
/// Crates whose types cross crate borders, or that carry the wire: one version of each.
const ONCE: &[&str] = &["hyper", "h2", "http", "rustls", "tonic", "prost", "kube", "tokio"];
/// Modules that must not know each other: place, text that must not occur in its code, why.
const MUST_NOT_NAME: &[(&str, &str, &str)] = &[
    ("proxy/src/control", "crate::datapath", "control never uses the data path"),
    ("proxy/src/identity", "crate::datapath", "identity never uses the data path"),
    ("proxy/src/net", "crate::datapath", "the net layer is below the data path"),
    ("proxy/src/net", "crate::control", "the net layer is below control"),
    ("controller/src/index", "tonic::", "the index knows no gRPC"),
    ("controller/src/index", "linkerd2_proxy_api", "the index knows no wire"),
];

fn violation(file: &str, line: usize, rule: impl Into<String>) -> Violation {
    Violation { file: file.to_owned(), line, rule: rule.into() }
}

fn manifests(repository: &Repository) -> impl Iterator<Item = (&str, String)> {
    repository
        .files
        .iter()
        .filter(|file| file.ends_with("Cargo.toml") && file.as_str() != "Cargo.toml")
        .filter_map(|file| Some((file.as_str(), repository.text(file)?)))
}

/// Lines of the tables of dependencies: line number, crate, rest of the line.
fn dependencies(text: &str) -> Vec<(usize, String, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && !line.trim_start().starts_with('#') {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect();
            if !name.is_empty() {
                found.push((at + 1, name.clone(), line[name.len()..].to_owned()));
            }
        }
    }
    found
}

/// No deployable depends on another; core depends on nothing that acts.
pub(crate) fn directions(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, text) in manifests(repository) {
        let Some((_, allowed)) = MAY_USE.iter().find(|(manifest, _)| *manifest == file) else {
            found.push(violation(file, 1, "a crate that tests/tidy/crates.rs does not know; say what it may use"));
            continue;
        };
        for (line, name, _) in dependencies(&text) {
            if name.starts_with("mesh-") && !allowed.contains(&name.as_str()) {
                found.push(violation(file, line, format!("must not depend on {name}; allowed: {allowed:?}")));
            }
            if file == "core/Cargo.toml" && NOT_IN_CORE.contains(&name.as_str()) {
                found.push(violation(file, line, format!("core decides only: no {name} here")));
            }
        }
    }
    found
}

/// Layers inside a crate.
pub(crate) fn modules(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in &repository.sources {
        for (_, text, why) in MUST_NOT_NAME.iter().filter(|(place, _, _)| source.file.starts_with(place)) {
            for (line, _) in source.product_lines().filter(|(_, code)| code.contains(text)) {
                found.push(violation(&source.file, line, format!("names {text}: {why}")));
            }
        }
        if let Some(step) = source.file.strip_prefix("proxy/src/datapath/").and_then(|file| file.strip_suffix(".rs")) {
            found.extend(steps_called_by_step(source, step));
        }
    }
    found
}

const STEPS: &[&str] = &["accept", "detect", "enforce", "lane", "pick", "reach", "relay", "report"];

/// Steps are called by the path of a request, never by each other; types that an earlier step returns may be named.
fn steps_called_by_step(source: &crate::source::Source, step: &str) -> Vec<Violation> {
    if !STEPS.contains(&step) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, code) in source.product_lines() {
        for other in STEPS.iter().filter(|other| **other != step) {
            for prefix in ["datapath::", "super::"] {
                let called = format!("{prefix}{other}::{other}(");
                if code.contains(&called) {
                    found.push(violation(&source.file, line, format!("step {step} calls step {other}")));
                }
            }
        }
    }
    found
}

/// Versions stand in the root manifest.
pub(crate) fn versions(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, text) in manifests(repository) {
        for (line, name, rest) in dependencies(&text) {
            if !rest.contains("workspace = true") {
                found.push(violation(file, line, format!("{name} must say `workspace = true`")));
            }
        }
    }
    found
}

/// One version of what must exist once.
pub(crate) fn duplicates(repository: &Repository) -> Vec<Violation> {
    let lock = repository.text("Cargo.lock").unwrap_or_default();
    ONCE.iter()
        .filter_map(|name| {
            let entry = format!("name = \"{name}\"");
            let lines: Vec<usize> =
                lock.lines().enumerate().filter(|(_, line)| *line == entry).map(|(at, _)| at + 1).collect();
            (lines.len() > 1)
                .then(|| violation("Cargo.lock", lines[1], format!("{} versions of {name}; one allowed", lines.len())))
        })
        .collect()
}

//! Rules about what code and literals may say, and where.

use crate::{Repository, Violation, source::Source};

/// The one place for unsafe code.
const UNSAFE: &[&str] = &["proxy/src/net/sys.rs"];
/// Files that own what they start: each awaits its tasks, or ends them on drain.
const MAY_SPAWN: &[&str] = &[
    "proxy/src/runtime.rs",
    "proxy/src/runtime/down.rs",
    "proxy/src/worker.rs",
    "proxy/src/worker/run.rs",
    // Writes text beside the runtime, and awaits that.
    "proxy/src/control/disk.rs",
    // Drivers of HTTP/2 connections and their streams: they end with the connection.
    "proxy/src/datapath/reach/http2.rs",
    "proxy/src/datapath/serve/http2.rs",
    "controller/src/runtime.rs",
    // A thread that ends with its handles.
    "controller/src/workshop.rs",
    // Writes a file beside the runtime, and awaits that.
    "controller/src/publish/usage.rs",
    "controller/src/sources/file.rs",
    "controller/src/sources/nacos/policies.rs",
    // Among the questions that its source awaits.
    "controller/src/sources/nacos/source/telling.rs",
    "mesh-ctl/src/commands/demo.rs",
    "examples/demo/app/src/main.rs",
];
/// Places that may spawn as a whole: tests of their own life.
const MAY_SPAWN_BELOW: &[&str] =
    &["tests/", "proxy/tests/", "proxy/src/datapath/model_route/tests/", "mesh-ctl/src/commands/demo/"];
/// What starts a task or thread.
const SPAWNS: &[&str] = &[
    "tokio::spawn(",
    "spawn_local(",
    "thread::spawn(",
    "task::spawn(",
    "spawn_blocking(",
    ".spawn_on(",
    "thread::Builder",
];
/// Tables in which settings are named.
const SETTING_TABLES: &[&str] = &["proxy/src/config/variables.rs", "controller/src/config.rs", "mesh-ctl/src/args.rs"];
/// Tables in which metrics are named.
const METRIC_TABLES: &[&str] = &["proxy/src/telemetry/metrics.rs", "controller/src/telemetry/table.rs"];
/// Where a fixed wait is part of polling with a deadline.
const MAY_SLEEP: &[&str] = &["tests/src/wait.rs"];
/// What core must not name.
const NOT_IN_CORE: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "std::fs",
    "TcpStream",
    "UdpSocket",
    "std::env",
    "rand::",
    "tokio::",
    "println!",
];

fn violation(source: &Source, line: usize, rule: impl Into<String>) -> Violation {
    Violation { file: source.file.clone(), line, rule: rule.into() }
}

fn has_word(code: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    code.match_indices(word)
        .any(|(at, _)| boundary(code[..at].chars().next_back()) && boundary(code[at + word.len()..].chars().next()))
}

fn ours(repository: &Repository) -> impl Iterator<Item = &Source> {
    repository.sources.iter().filter(|source| !source.is_generated())
}

/// `unsafe` stands in one file.
pub(crate) fn unsafe_code(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in ours(repository).filter(|source| !UNSAFE.contains(&source.file.as_str())) {
        for (line, _) in source.lines().filter(|(_, code)| has_word(code, "unsafe")) {
            found.push(violation(source, line, format!("unsafe code belongs into {UNSAFE:?}")));
        }
    }
    found
}

/// Tasks start where their owner is.
pub(crate) fn places_of_spawn(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in ours(repository) {
        let file = source.file.as_str();
        if MAY_SPAWN.contains(&file) || MAY_SPAWN_BELOW.iter().any(|place| file.starts_with(place)) {
            continue;
        }
        for (line, code) in source.product_lines() {
            for call in SPAWNS.iter().filter(|call| code.contains(**call)) {
                found.push(violation(source, line, format!("`{call}` in a file that is no owner of tasks")));
            }
        }
    }
    found
}

/// Core decides; it does not act.
pub(crate) fn pure_core(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in ours(repository).filter(|source| source.file.starts_with("core/src/")) {
        for (line, code) in source.product_lines() {
            for word in NOT_IN_CORE.iter().filter(|word| code.contains(**word)) {
                found.push(violation(source, line, format!("core must not name {word}")));
            }
        }
    }
    found
}

/// Settings are named in the tables of settings; the harness and the demo set them from outside.
pub(crate) fn settings(repository: &Repository) -> Vec<Violation> {
    let exempt = |source: &Source| {
        source.is_whole_mesh_test()
            || SETTING_TABLES.contains(&source.file.as_str())
            || source.file.starts_with("mesh-ctl/src/commands/demo")
            // Names of chains, not of settings.
            || source.file == "proxy/src/redirect/iptables.rs"
    };
    named_outside(repository, exempt, "LANEMESH_", "a setting is named in its table only")
}

/// Metrics are named in the tables of metrics.
pub(crate) fn metrics(repository: &Repository) -> Vec<Violation> {
    let exempt = |source: &Source| {
        source.is_whole_mesh_test()
            || METRIC_TABLES.contains(&source.file.as_str())
            || source.file.starts_with("mesh-ctl/src/commands/demo")
    };
    named_outside(repository, exempt, "mesh_", "a metric is named in its table only")
        .into_iter()
        .filter(|violation| violation.rule.contains("_total") || violation.rule.contains("_seconds"))
        .collect()
}

fn named_outside(
    repository: &Repository,
    exempt: impl Fn(&Source) -> bool,
    prefix: &str,
    rule: &str,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in ours(repository).filter(|source| !exempt(source)) {
        for (line, text) in source.literals.iter().filter(|(line, _)| *line < source.tests_from) {
            if text.starts_with(prefix) {
                found.push(violation(source, *line, format!("{text:?}: {rule}")));
            }
        }
    }
    found
}

/// Nothing is left for later.
pub(crate) fn unfinished(repository: &Repository) -> Vec<Violation> {
    let macros = ["todo!", "unimplemented!", "#[ignore", "dbg!"];
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let mut found = Vec::new();
    for source in ours(repository).filter(|source| !source.file.starts_with("tests/tidy")) {
        for (line, code) in source.lines() {
            for text in macros.iter().filter(|text| code.contains(**text)) {
                found.push(violation(source, line, format!("`{text}`")));
            }
            if code.contains("#[allow(") || code.contains("#![allow(") {
                found.push(violation(source, line, "a warning is mended, not silenced"));
            }
        }
        for (at, text) in source.text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| has_word(text, mark)) {
                found.push(violation(source, at + 1, format!("{mark} left in the text")));
            }
        }
    }
    found
}

/// Tests wait for what they want to see, with a deadline, rather than for time to pass.
pub(crate) fn sleeps_in_tests(repository: &Repository) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in ours(repository).filter(|source| !MAY_SLEEP.contains(&source.file.as_str())) {
        let whole = source.is_whole_mesh_test() && !source.file.starts_with("tests/bench");
        for (line, code) in source.lines().filter(|(line, _)| whole || *line >= source.tests_from) {
            if code.contains("thread::sleep") || code.contains("time::sleep(") {
                found.push(violation(source, line, "a test awaits an event, with a deadline (tests/src/wait.rs)"));
            }
        }
    }
    found
}

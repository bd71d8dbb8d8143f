//! The rules of the house that a machine can check. Every violation is reported at once, with file and line.
//!
//! Change a rule together with `ARCHITECTURE.md`.

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/observability.rs"]
mod observability;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::{fmt, path::PathBuf, process::Command};

use source::Source;

/// A broken rule.
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Everything that is tracked, read once.
struct Repository {
    root: PathBuf,
    files: Vec<String>,
    sources: Vec<Source>,
}

impl Repository {
    fn read() -> Repository {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned();
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .expect("git lists the files of the repository");
        assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let files: Vec<String> = String::from_utf8(listed.stdout)
            .expect("file names are UTF-8")
            .lines()
            .filter(|file| root.join(file).is_file())
            .map(str::to_owned)
            .collect();
        let sources = files
            .iter()
            .filter(|file| file.ends_with(".rs"))
            .map(|file| Source::new(file, &std::fs::read_to_string(root.join(file)).expect("a source is UTF-8 text")))
            .collect();
        Repository { root, files, sources }
    }

    /// Text of a tracked file; `None` where it is not text.
    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(file)).ok()
    }
}

fn check(rules: &[fn(&Repository) -> Vec<Violation>]) {
    let repository = Repository::read();
    let violations: Vec<String> =
        rules.iter().flat_map(|rule| rule(&repository)).map(|violation| violation.to_string()).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn crates_depend_only_in_the_allowed_directions() {
    check(&[crates::directions, crates::modules]);
}

#[test]
fn versions_stand_in_the_root_manifest_and_exist_once() {
    check(&[crates::versions, crates::duplicates]);
}

#[test]
fn files_have_a_header_and_an_allowed_name_and_size() {
    check(&[files::headers, files::names, files::sizes, files::function_sizes]);
}

#[test]
fn scripts_are_executable_and_no_file_names_a_machine() {
    check(&[files::scripts, files::machine_paths]);
}

#[test]
fn unsafe_code_stands_in_one_file() {
    check(&[words::unsafe_code]);
}

#[test]
fn tasks_and_threads_start_where_their_owner_is() {
    check(&[words::places_of_spawn]);
}

#[test]
fn core_decides_without_clock_io_or_randomness() {
    check(&[words::pure_core]);
}

#[test]
fn settings_and_metrics_are_named_in_their_tables_only() {
    check(&[words::settings, words::metrics]);
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    check(&[words::unfinished]);
}

#[test]
fn tests_await_events_instead_of_sleeping() {
    check(&[words::sleeps_in_tests]);
}

#[test]
fn rules_and_panels_name_only_what_exists() {
    check(&[observability::names, observability::panels]);
}

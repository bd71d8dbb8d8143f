//! The reference pages are what the tables of metrics and settings say.

use std::{fmt::Write, fs, path::Path};

use clap::CommandFactory;
use mesh_controller::{
    config::Arguments,
    telemetry::{METRICS, Metrics},
};

/// The page must be there as generated; with UPDATE_GENERATED it is written.
fn page(name: &str, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, want).expect("the page can be written");
    }
    let have = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        have == want,
        "docs/reference/{name} is not what the table says; \
         run: UPDATE_GENERATED=1 cargo test -p mesh-controller --test reference"
    );
}

/// A cell must not end its column.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_page_of_metrics_is_the_table() {
    let mut text = "# Metrics of the controller\n\nExposed as OpenMetrics text under `/metrics` of the admin port.\n\n\
                    | name | kind | unit | labels | what it says |\n|---|---|---|---|---|\n"
        .to_owned();
    for row in METRICS {
        let labels = if row.labels.is_empty() { "–".to_owned() } else { cell(row.labels) };
        writeln!(text, "| `{}` | {} | {} | {labels} | {} |", row.name, row.kind, row.unit, cell(row.help)).unwrap();
    }
    page("controller-metrics.md", &text);
}

#[test]
fn the_page_of_settings_is_the_command_line() {
    let mut text = "# Settings of the controller\n\nEach as an argument of `mesh-controller` or in its environment; \
                    the argument wins.\n\n| argument | environment | default | what it says |\n|---|---|---|---|\n"
        .to_owned();
    let command = Arguments::command();
    for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
        let name = argument.get_long().expect("every setting has a long name");
        let env = argument.get_env().map(|env| env.to_string_lossy().into_owned()).unwrap_or_default();
        let default: Vec<_> =
            argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let default = if default.is_empty() { "–".to_owned() } else { default.join(", ") };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(text, "| `--{name}` | `{env}` | {default} | {} |", cell(&help)).unwrap();
    }
    text.push_str("\n`mesh-controller token --service-account NAME` signs a workload's token; see its `--help`.\n");
    page("controller-settings.md", &text);
}

#[test]
fn every_metric_is_exposed_under_its_name() {
    let exposed = Metrics::default().expose();
    for row in METRICS {
        let family = row.name.strip_suffix("_total").unwrap_or(row.name);
        let header = format!("# TYPE {family} {}\n", row.kind);
        assert!(row.name.ends_with("_total") == (row.kind == "counter"), "{}", row.name);
        assert!(exposed.contains(&header) || !row.labels.is_empty(), "{} in {exposed}", row.name);
    }
}

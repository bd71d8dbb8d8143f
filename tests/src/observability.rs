//! The rules and the dashboards of `examples/observability`, read for the tests.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use crate::programs;

/// An expression with the place where it stands.
#[derive(Clone, Debug)]
pub struct Expression {
    /// Rule or panel.
    pub place: String,
    /// PromQL.
    pub text: String,
    /// Templates over the labels of what it yields: annotations of an alert, legend of a panel.
    pub templates: Vec<String>,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name of the series it records, or of the alert.
    pub name: String,
    /// What it evaluates.
    pub expression: Expression,
}

/// Files of rules.
pub const RULES: [&str; 2] = ["lanes.rules.yaml", "models.rules.yaml"];
/// Files of dashboards.
pub const DASHBOARDS: [&str; 2] = ["lanes.dashboard.json", "models-dashboard.json"];

/// Folder of rules and dashboards.
pub fn folder() -> PathBuf {
    programs::repository().join("examples/observability")
}

fn read(file: &str) -> String {
    let path = folder().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every rule of one of [`RULES`].
///
/// # Panics
/// When the file is none of rules.
pub fn rules(file: &str) -> Vec<Rule> {
    let file: Value = serde_yaml_ng::from_str(&read(file)).expect("the rules are YAML");
    let groups = file["groups"].as_array().expect("groups of rules").iter();
    groups.flat_map(|group| group["rules"].as_array().expect("rules of a group")).map(rule).collect()
}

fn rule(rule: &Value) -> Rule {
    let text = |key: &str| rule[key].as_str().map(str::to_owned);
    let name = text("record").or_else(|| text("alert")).expect("a rule records or alerts");
    let annotations = rule["annotations"].as_object().into_iter().flatten();
    let templates = annotations.filter_map(|(_, value)| value.as_str().map(str::to_owned)).collect();
    let text = text("expr").expect("a rule has an expression");
    Rule { expression: Expression { place: format!("rule {name}"), text, templates }, name }
}

/// One of [`DASHBOARDS`].
///
/// # Panics
/// When it is no JSON.
pub fn dashboard(file: &str) -> Value {
    serde_json::from_str(&read(file)).expect("the dashboard is JSON")
}

/// Panels that show something, in order.
///
/// # Panics
/// When the dashboard has no panels.
pub fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every expression of a dashboard: of panels, variables and annotations.
///
/// # Panics
/// When a target has none.
pub fn shown(dashboard: &Value) -> Vec<Expression> {
    let mut found = Vec::new();
    for panel in panels(dashboard) {
        let place = format!("panel {}", panel["title"]);
        for target in panel["targets"].as_array().expect("a panel has targets") {
            let text = |key: &str| target[key].as_str().unwrap_or_else(|| panic!("{place} has no {key}")).to_owned();
            let templates = vec![text("legendFormat")];
            found.push(Expression { place: place.clone(), text: text("expr"), templates });
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
        let templates =
            ["titleFormat", "textFormat"].map(|key| annotation[key].as_str().unwrap_or_default().to_owned());
        let text = annotation["expr"].as_str().unwrap_or_default().to_owned();
        found.push(Expression {
            place: format!("annotation {}", annotation["name"]),
            text,
            templates: templates.into(),
        });
    }
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        // label_values(<expression>, <label>)
        let query = variable["query"]["query"].as_str().and_then(|query| query.strip_prefix("label_values("));
        if let Some((text, label)) = query.and_then(|query| query.trim_end_matches(')').rsplit_once(',')) {
            let templates = vec![format!("{{{{{}}}}}", label.trim())];
            let place = format!("variable {}", variable["name"]);
            found.push(Expression { place, text: text.to_owned(), templates });
        }
    }
    found
}

/// A metric as its reference page describes it.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Labels of a sample.
    pub labels: Vec<String>,
    /// Whether it has buckets.
    pub is_histogram: bool,
}

/// Every metric of a reference page, which the unit tests of its crate hold equal to the table in the code.
///
/// # Panics
/// When the page has no table.
pub fn metrics(page: &str) -> BTreeMap<String, Metric> {
    let path = programs::repository().join("docs/reference").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = || text.lines().filter(|line| line.starts_with('|')).map(cells);
    let columns = rows().next().expect("the page has a table");
    let column = |wanted| columns.iter().position(|name| name == wanted).expect("the table has this column");
    let (of_kind, of_labels) = (column("kind"), column("labels"));
    let metric = |row: Vec<String>| {
        let metric = Metric { labels: labels(&row[of_labels]), is_histogram: row[of_kind] == "histogram" };
        (row[0].trim_matches('`').to_owned(), metric)
    };
    rows().filter(|row| row[0].starts_with('`')).map(metric).collect()
}

fn cells(row: &str) -> Vec<String> {
    row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// `a, b`, or `a: values; b: values`.
fn labels(cell: &str) -> Vec<String> {
    let names: Vec<&str> = if cell.contains(':') {
        cell.split(';').filter_map(|label| label.split(':').next()).collect()
    } else {
        cell.split(',').collect()
    };
    names.into_iter().map(str::trim).filter(|name| !name.is_empty() && *name != "–").map(str::to_owned).collect()
}

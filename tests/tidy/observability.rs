//! Rules about the alert rules and the dashboards of `examples/observability`: every metric, recording rule, label and value
//! that they name must exist.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::{
    lane::{Reason, Source},
    model::model_route::Reason as ModelReason,
    outcome::Outcome,
};
use mesh_tests::{
    observability::{self, Expression, Metric},
    promql::{self, Matcher, Selector},
};
use serde_json::Value;

use crate::{Repository, Violation};

/// Labels that a scrape adds to every target, whoever configures it.
const OF_TARGETS: &[&str] = &["instance", "job"];
/// Series that Prometheus makes itself.
const BUILT_IN: &[(&str, &[&str])] = &[("ALERTS", &["alertname", "alertstate", "severity"])];
/// Every reason; metrics carry none where there was nothing to choose.
const REASONS: [Reason; 8] = Reason::ALL;

/// What there is to be named.
struct Names {
    metrics: BTreeMap<String, Metric>,
    labels: BTreeSet<String>,
}

impl Names {
    fn read() -> Names {
        let mut metrics = observability::metrics("proxy-metrics.md");
        metrics.extend(observability::metrics("controller-metrics.md"));
        let gauge = |labels: Vec<String>| Metric { labels, is_histogram: false };
        for (name, labels) in BUILT_IN {
            metrics.insert((*name).to_owned(), gauge(labels.iter().map(|label| (*label).to_owned()).collect()));
        }
        let more = OF_TARGETS.iter().chain(&["le"]).map(|label| (*label).to_owned());
        let labels: BTreeSet<String> = metrics.values().flat_map(|metric| metric.labels.clone()).chain(more).collect();
        let rules = observability::RULES.into_iter().flat_map(observability::rules);
        let recorded = rules.map(|rule| rule.name).filter(|name| name.contains(':'));
        let every: Vec<String> = labels.iter().cloned().collect();
        metrics.extend(recorded.map(|name| (name, gauge(every.clone()))));
        Names { metrics, labels }
    }

    /// Labels of a series: of the metric itself, or of the histogram that it is a part of.
    fn labels_of(&self, name: &str) -> Option<Vec<String>> {
        if let Some(metric) = self.metrics.get(name) {
            return Some(metric.labels.clone());
        }
        let (whole, le): (_, &[&str]) = match name.strip_suffix("_bucket") {
            Some(whole) => (whole, &["le"]),
            None => (name.strip_suffix("_sum").or_else(|| name.strip_suffix("_count"))?, &[]),
        };
        let histogram = self.metrics.get(whole).filter(|metric| metric.is_histogram)?;
        Some(histogram.labels.iter().map(String::as_str).chain(le.iter().copied()).map(str::to_owned).collect())
    }
}

/// Every name in every expression exists.
pub(crate) fn names(_: &Repository) -> Vec<Violation> {
    let names = Names::read();
    let rules = observability::RULES
        .into_iter()
        .flat_map(|file| observability::rules(file).into_iter().map(move |rule| (file, rule.expression)));
    let shown = observability::DASHBOARDS.into_iter().flat_map(|file| {
        observability::shown(&observability::dashboard(file)).into_iter().map(move |shown| (file, shown))
    });
    rules.chain(shown).flat_map(|(file, expression)| unknown(&names, file, &expression)).collect()
}

fn unknown(names: &Names, file: &str, expression: &Expression) -> Vec<Violation> {
    let named = promql::named(&expression.text);
    let mut problems: Vec<String> = named.selectors.iter().flat_map(|selector| in_selector(names, selector)).collect();
    if named.selectors.is_empty() {
        problems.push("selects nothing".to_owned());
    }
    let templates = expression.templates.iter().flat_map(|template| in_template(template));
    let labels = named.grouped.into_iter().chain(templates);
    problems.extend(labels.filter(|label| !names.labels.contains(label)).map(|label| format!("no label {label}")));
    let violation = |problem| Violation {
        file: format!("examples/observability/{file}"),
        line: 1,
        rule: format!("{}: {problem}", expression.place),
    };
    problems.into_iter().map(violation).collect()
}

fn in_selector(names: &Names, selector: &Selector) -> Vec<String> {
    let Some(labels) = names.labels_of(&selector.name) else {
        return vec![format!("no metric and no recording rule {}", selector.name)];
    };
    let mut problems = Vec::new();
    for matcher in &selector.matchers {
        if !labels.contains(&matcher.label) && !OF_TARGETS.contains(&matcher.label.as_str()) {
            problems.push(format!("{} has no label {}", selector.name, matcher.label));
        }
        problems.extend(unknown_values(&selector.name, matcher));
    }
    problems
}

/// Whether a series is one of calls to models, whose labels `reason` and `source` say something else than those of lanes.
fn is_of_models(series: &str) -> bool {
    ["model:", "mesh_model_", "gen_ai_"].iter().any(|beginning| series.starts_with(beginning))
}

/// Values of labels whose values are a closed list.
fn unknown_values(series: &str, matcher: &Matcher) -> Vec<String> {
    let known: Vec<&str> = match matcher.label.as_str() {
        "reason" if is_of_models(series) => {
            ["success"].into_iter().chain(ModelReason::ALL.into_iter().map(ModelReason::as_str)).collect()
        }
        "source" if is_of_models(series) => vec!["reported", "estimated"],
        "error_type" => {
            ["cancelled"].into_iter().chain(ModelReason::ALL.into_iter().map(ModelReason::as_str)).collect()
        }
        "committed" => vec!["true", "false"],
        "gen_ai_token_type" => vec!["input", "output", "cached"],
        "direction" => vec!["inbound", "outbound"],
        "class" => vec!["none", "1xx", "2xx", "3xx", "4xx", "5xx"],
        "source" => Source::ALL.into_iter().map(Source::label).collect(),
        "outcome" => Outcome::ALL.iter().map(|outcome| outcome.label()).collect(),
        "reason" => REASONS.into_iter().map(Reason::label).collect(),
        _ => return Vec::new(),
    };
    let values: Vec<&str> = if matcher.is_pattern { matcher.value.split('|').collect() } else { vec![&matcher.value] };
    let unknown = values.into_iter().filter(|value| !value.is_empty() && !known.contains(value));
    unknown.map(|value| format!("{} is never {value:?}", matcher.label)).collect()
}

/// Labels in `{{ $labels.service }}` of an alert and `{{service}}` of a legend.
fn in_template(template: &str) -> Vec<String> {
    let parts = template.split("{{").skip(1).filter_map(|part| part.split("}}").next()).map(str::trim);
    let label = |part: &str| part.split('|').next().unwrap_or_default().trim().to_owned();
    let parts = parts.filter(|part| !part.starts_with("$value"));
    parts.map(|part| label(part.strip_prefix("$labels.").unwrap_or(part))).collect()
}

/// A reader sees what a panel shows, and in which unit.
pub(crate) fn panels(_: &Repository) -> Vec<Violation> {
    observability::DASHBOARDS.into_iter().flat_map(panels_of).collect()
}

fn panels_of(file: &str) -> Vec<Violation> {
    let dashboard = observability::dashboard(file);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for panel in observability::panels(&dashboard) {
        let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let mut missing = Vec::new();
        for (what, value) in [
            ("title", &panel["title"]),
            ("description", &panel["description"]),
            ("unit", &panel["fieldConfig"]["defaults"]["unit"]),
        ] {
            if !is_text(value) {
                missing.push(format!("has no {what}"));
            }
        }
        if !seen.insert(panel["id"].as_u64()) {
            missing.push("has the id of another".to_owned());
        }
        found.extend(missing.into_iter().map(|problem| Violation {
            file: format!("examples/observability/{file}"),
            line: 1,
            rule: format!("panel {}: {problem}", panel["title"]),
        }));
    }
    found
}

#[test]
fn invented_metrics_labels_and_values_are_found() {
    let names = Names::read();
    let problems = |text: &str, template: &str| {
        let expression =
            Expression { place: "here".to_owned(), text: text.to_owned(), templates: vec![template.to_owned()] };
        unknown(&names, "file", &expression).len()
    };
    assert_eq!(problems("rate(mesh_requests_total{lane=\"x\"}[5m])", "{{lane}}"), 0);
    assert_eq!(problems("sum by (le) (rate(mesh_request_duration_seconds_bucket{le=\"1\"}[5m]))", "p99"), 0);
    assert_eq!(problems("model:attempts:rate5m{reason=~\"success|stall\"}", "{{target}}"), 0);
    for (text, template) in [
        ("rate(mesh_request_total[5m])", ""),
        ("rate(mesh_requests_total{lanes=\"x\"}[5m])", ""),
        ("rate(mesh_requests_total{outcome=\"sucess\"}[5m])", ""),
        ("rate(mesh_requests_total{reason=~\"missing|unwell\"}[5m])", ""),
        ("mesh_requests_total{reason=\"stall\"}", ""),
        ("mesh_model_attempts_total{reason=\"missing\"}", ""),
        ("mesh_model_tokens_total{source=\"guessed\"}", ""),
        ("mesh_model_tokens_total{gen_ai_token_type=\"total\"}", ""),
        ("mesh_model_fallback_total{committed=\"yes\"}", ""),
        ("gen_ai_client_operation_duration_seconds_bucket{error_type=\"gone\"}", ""),
        ("sum by (services) (mesh_requests_total)", ""),
        ("lane:request:rate5m", ""),
        ("mesh_requests_total_bucket", ""),
        ("mesh_requests_total", "{{ $labels.servce }}"),
    ] {
        assert_eq!(problems(text, template), 1, "{text} {template}");
    }
}

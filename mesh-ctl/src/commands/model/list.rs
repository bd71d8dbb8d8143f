//! `mesh-ctl model list`: every target of every model, as the controller has it, or as a proxy sees it.

use serde_json::{Value, json};

use super::{of_proxy, state, text};
use crate::{
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Format, Text, Tone, plain},
};

/// Lists targets.
///
/// # Errors
/// When controller or proxy cannot be reached, or there is no such model.
pub(super) async fn run(
    controller: &Controller,
    name: Option<&str>,
    admin: Option<&str>,
    format: Format,
) -> Result<Exit, Failure> {
    let mut targets = match admin {
        Some(proxy) => items(&of_proxy(controller, proxy, "/models").await?["items"]),
        None => controller.items("models").await?.iter().flat_map(flattened).collect(),
    };
    if let Some(name) = name {
        targets.retain(|target| is_named(target, name));
        if targets.is_empty() {
            return Err(Failure::plain(format!("there is no model {name}")).advise(
                "`mesh-ctl model list` shows all; `mesh-ctl model explain` finds the pattern that a name fits",
            ));
        }
    }
    let whole = json!({ "items": targets });
    let text = match output::structured(&whole, format)? {
        Some(text) => text,
        None if targets.is_empty() => "no models\n".to_owned(),
        None => shown(&targets, admin.is_some()),
    };
    output::print(&text);
    Ok(Exit::Well)
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn is_named(target: &Value, name: &str) -> bool {
    let model = target["model"].as_str().unwrap_or_default();
    match name.strip_suffix('*') {
        Some(start) => model.starts_with(start),
        None => model == name,
    }
}

/// A route of the console, as one entry per target, with the names that proxies use.
fn flattened(route: &Value) -> Vec<Value> {
    let mut targets = Vec::new();
    for model in items(&route["models"]) {
        for target in items(&model["targets"]) {
            let endpoint = match (target["endpoint"]["url"].as_str(), target["endpoint"]["service"].as_str()) {
                (Some(url), _) => url.to_owned(),
                (None, service) => {
                    let prefix = target["endpoint"]["prefix"].as_str().unwrap_or_default();
                    format!("mesh://{}{prefix}", service.unwrap_or_default())
                }
            };
            targets.push(json!({
                "route": format!("{}.{}", text(route, "name"), text(route, "namespace")),
                "hosts": route["hosts"],
                "model": model["name"],
                "target": target["name"],
                "provider": target["provider"],
                "endpoint": endpoint,
                "targetModel": target["model"],
                "priority": target["priority"],
                "weight": target["weight"],
                "onlyLane": target["lane"],
            }));
        }
    }
    targets
}

const HEADINGS: [&str; 9] =
    ["ROUTE", "HOSTS", "MODEL", "TARGET", "PROVIDER", "TARGET MODEL", "PRIORITY", "WEIGHT", "LANE"];

fn shown(targets: &[Value], has_states: bool) -> String {
    let more: &[&str] = if has_states { &["STATE", "SHARE", "P95", "KEY", "ENDPOINT"] } else { &["ENDPOINT"] };
    let headings: Vec<&str> = HEADINGS.iter().chain(more).copied().collect();
    let row = |target: &Value| {
        let fields = ["route", "hosts", "model", "target", "provider", "targetModel", "priority", "weight", "onlyLane"];
        let mut cells: Vec<Text> = fields.iter().map(|field| plain(text(target, field))).collect();
        if has_states {
            cells.extend([state(target), share(target), p95(target), key(target)]);
        }
        cells.push(plain(text(target, "endpoint")));
        cells
    };
    output::lines(&output::table(&headings, targets.iter().map(row)))
}

/// Share of its weight that a target is worth.
fn share(target: &Value) -> Text {
    let share = target["share"].as_f64().unwrap_or(1.0);
    (format!("{:.0}%", share * 100.0), if share < 0.5 { Tone::Odd } else { Tone::Plain })
}

fn p95(target: &Value) -> Text {
    plain(target["p95"].as_f64().map_or("-".to_owned(), |milliseconds| format!("{milliseconds:.0}ms")))
}

fn key(target: &Value) -> Text {
    match target["credential"].as_str() {
        None => plain("none"),
        Some("readable") => ("readable".to_owned(), Tone::Good),
        Some(problem) => (problem.to_owned(), Tone::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Value {
        json!({
            "namespace": "ai", "name": "chat", "hosts": ["models.internal"],
            "models": [{"name": "chat-large", "targets": [
                {"name": "small", "provider": "vllm", "endpoint": {"service": "small.ai:8000", "prefix": "/v1"},
                 "model": "qwen", "priority": 0, "weight": 1, "lane": null},
                {"name": "gpt", "provider": "openai", "endpoint": {"url": "https://api.openai.com:443"},
                 "model": null, "priority": 1, "weight": 1, "lane": "demo/canary"},
            ]}],
        })
    }

    #[test]
    fn every_target_is_a_line_and_states_are_shown_where_a_proxy_was_asked() {
        let mut targets = flattened(&route());
        let text = shown(&targets, false);
        let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let small = ["chat.ai", "models.internal", "chat-large", "small", "vllm", "qwen", "0", "1", "-"];
        assert_eq!(rows[0], [&small[..], &["mesh://small.ai:8000/v1"]].concat());
        assert_eq!(rows[1][8..], ["demo/canary", "https://api.openai.com:443"]);
        targets[0]["state"] = json!("ready");
        targets[0]["share"] = json!(0.45);
        targets[0]["p95"] = json!(181.02);
        targets[0]["credential"] = json!("readable");
        let text = shown(&targets, true);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[9..], ["ready", "45%", "181ms", "readable", "mesh://small.ai:8000/v1"]);
    }

    #[test]
    fn models_are_found_by_name_or_by_its_beginning() {
        let target = &flattened(&route())[0];
        assert!(is_named(target, "chat-large") && is_named(target, "chat*") && is_named(target, "*"));
        assert!(!is_named(target, "chat") && !is_named(target, "large*"));
    }
}

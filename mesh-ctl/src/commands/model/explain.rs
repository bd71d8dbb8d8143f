//! `mesh-ctl model explain`: the targets of a model in the order in which a request would ask them, and why not the others.

use mesh_core::{model::model_route::Can, model_route::explain::Question};
use serde_json::Value;

use super::{of_proxy, state, text};
use crate::{
    args,
    cluster::Controller,
    exit::{Exit, Failure},
    output::{self, Text, Tone, plain},
};

/// Explains a request.
///
/// # Errors
/// When controller or proxy cannot be reached or know no such model.
pub(super) async fn run(controller: &Controller, asked: &args::ModelExplain) -> Result<Exit, Failure> {
    let query = question(asked)?.to_query();
    let whole = match &asked.admin {
        Some(proxy) => of_proxy(controller, proxy, &format!("/models/explain?{query}")).await?,
        None => controller.read(&format!("/api/v1/models/explain?{query}")).await?,
    };
    let text = match output::structured(&whole, asked.output)? {
        Some(text) => text,
        None => shown(&whole),
    };
    output::print(&text);
    let rows = whole["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(if rows.iter().any(|row| row["chosen"] == true) { Exit::Well } else { Exit::NotWell })
}

fn question(asked: &args::ModelExplain) -> Result<Question, Failure> {
    let can = |needed: bool| if needed { Can::Yes } else { Can::No };
    let question = Question {
        host: asked.host.clone(),
        api: asked.api.map(Into::into),
        tools: can(asked.tools),
        json: can(asked.json),
        vision: can(asked.vision),
        tokens: asked.tokens,
        ..Question::about(&asked.model)
    };
    match &asked.lane {
        Some(lane) => question.in_lane(lane).map_err(|error| Failure::usage(error.to_string())),
        None => Ok(question),
    }
}

fn shown(whole: &Value) -> String {
    let lane = whole["lane"].as_str().map(|lane| format!(", lane {lane}")).unwrap_or_default();
    let head = format!(
        "{}{lane}: model {} of route {} at {}; {} attempts in all, then {}\nstates: {}\n",
        text(whole, "model"),
        text(whole, "virtualModel"),
        text(whole, "route"),
        text(whole, "hosts"),
        text(whole, "attempts"),
        text(whole, "onExhausted"),
        text(whole, "states"),
    );
    let rows = whole["targets"].as_array().into_iter().flatten().map(row);
    let headings = ["ORDER", "TARGET", "STATE", "FIRST", "WHY", "TARGET MODEL", "ENDPOINT"];
    let targets = output::lines(&output::table(&headings, rows));
    let limits: Vec<_> = whole["limits"].as_array().into_iter().flatten().map(limit).collect();
    if limits.is_empty() {
        return format!("{head}\n{targets}");
    }
    let headings = ["LIMIT", "OF", "AMOUNT", "LEFT", "RESETS IN", "THIS REQUEST"];
    format!("{head}\n{targets}\n{}", output::lines(&output::table(&headings, limits)))
}

fn limit(limit: &Value) -> Vec<Text> {
    let resets = limit["resetsIn"].as_f64().map_or("-".to_owned(), |seconds| format!("{seconds:.0}s"));
    let (says, tone) = match (limit["refuses"].as_str(), limit["mode"].as_str()) {
        (None, _) => ("let through".to_owned(), Tone::Good),
        (Some(why), Some("shadow")) => (format!("let through; would refuse: {why}"), Tone::Odd),
        (Some(why), _) => (format!("refused: {why}"), Tone::Bad),
    };
    vec![
        plain(text(limit, "limit")),
        plain(limit["target"].as_str().unwrap_or("callers")),
        plain(text(limit, "amount")),
        plain(text(limit, "remaining")),
        plain(resets),
        (says, tone),
    ]
}

fn row(target: &Value) -> Vec<Text> {
    let tone = match target["order"].as_u64() {
        Some(1) => Tone::Good,
        Some(_) => Tone::Plain,
        None => Tone::Odd,
    };
    vec![
        plain(text(target, "order")),
        (text(target, "target"), tone),
        state(target),
        plain(format!("{}%", text(target, "first"))),
        (text(target, "why"), tone),
        plain(text(target, "model")),
        plain(text(target, "endpoint")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_has_targets_in_order_with_state_and_reason() {
        let whole = json!({
            "model": "chat", "route": "chat.ai", "hosts": ["models.internal"], "virtualModel": "chat", "lane": null,
            "attempts": 3, "onExhausted": "lastError", "states": "as 2 workers see them",
            "targets": [
                {"target": "gpt", "order": 1, "chosen": true, "first": 100, "state": "ready", "why": "first by priority and weight",
                 "model": "gpt-4o", "endpoint": "https://api.openai.com:443"},
                {"target": "small", "order": null, "chosen": false, "first": 0, "state": "resting", "restsFor": 3.5,
                 "reason": "connect", "why": "cannot call tools", "model": "qwen", "endpoint": "mesh://small.ai:8000"},
            ],
        });
        let text = shown(&whole);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "chat: model chat of route chat.ai at models.internal; 3 attempts in all, then lastError");
        assert!(lines[4].starts_with("1      gpt     ready                100%   first by"), "{text}");
        assert!(lines[5].starts_with("-      small   resting 4s: connect  0%     cannot call tools"), "{text}");
        assert_eq!(lines.len(), 6, "no limits, no table of them: {text}");
    }

    #[test]
    fn limits_say_whether_they_would_refuse() {
        let limit = |target: Value, mode: &str, refuses: Value| {
            json!({"target": target, "limit": "requests/1m", "mode": mode, "amount": 60, "remaining": 0, "asked": 1,
                   "resetsIn": 12.4, "refuses": refuses})
        };
        let limits = [
            limit(Value::Null, "enforce", json!("used")),
            limit(Value::Null, "shadow", json!("used")),
            limit(json!("gpt"), "enforce", Value::Null),
        ];
        let text = shown(&json!({"targets": [], "limits": limits}));
        let lines: Vec<Vec<&str>> = text.lines().rev().take(3).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2].join(" "), "requests/1m callers 60 0 12s refused: used");
        assert_eq!(lines[1].join(" "), "requests/1m callers 60 0 12s let through; would refuse: used");
        assert_eq!(lines[0].join(" "), "requests/1m gpt 60 0 12s let through");
    }
}

//! What a virtual model says about attempts: `timers`, `retry`, `hedge`, `escalate`, `onExhausted`.

use std::time::Duration;

use super::positive;
use crate::{
    model::model_route::{Escalate, Hedge, ModelRetry, ModelTimers, OnExhausted, Reason, Word},
    resources::{
        node::{self, Node, Object},
        wording::shortened,
    },
    schema::Schema,
};

/// Most attempts that may be asked for: more would multiply an outage.
const ATTEMPTS_MAX: u64 = 10;

/// Reads `timers` of a model. What is not written is the default, but never more than `total`.
pub(super) fn timers(model: &Object<'_>) -> ModelTimers {
    let default = ModelTimers::default();
    let fields = ["connect", "headers", "firstToken", "idle", "total", "minRemaining"];
    let Some(object) = model.get("timers").and_then(|node| node.object(&fields)) else { return default };
    let total = positive(&object, "total").unwrap_or(default.total);
    let within = |key, default: Duration| {
        let Some(written) = positive(&object, key) else { return default.min(total) };
        if written > total {
            object.problem(key, format!("{written:?} is more than total ({total:?})"));
        }
        written
    };
    let min_remaining = object.get("minRemaining").and_then(|node| node.duration()).unwrap_or(default.min_remaining);
    if min_remaining >= total {
        let message =
            format!("of total ({total:?}) never more than {min_remaining:?} is left: no second target is tried");
        object.problem("minRemaining", message);
    }
    ModelTimers {
        connect: within("connect", default.connect),
        headers: within("headers", default.headers),
        headers_whole: positive(&object, "headers").unwrap_or(total),
        first_token: within("firstToken", default.first_token),
        idle: within("idle", default.idle),
        total,
        min_remaining,
    }
}

/// Reads `retry` of a model.
pub(super) fn retry(model: &Object<'_>, timers: &ModelTimers) -> ModelRetry {
    let default = ModelRetry::default();
    let within_total = default.only_within.min(timers.total);
    let fields = ["attempts", "onlyWithin", "budget", "on"];
    let Some(object) = model.get("retry").and_then(|node| node.object(&fields)) else {
        return ModelRetry { only_within: within_total, ..default };
    };
    let only_within = positive(&object, "onlyWithin");
    if let Some(written) = only_within.filter(|written| *written > timers.total) {
        object.problem("onlyWithin", format!("{written:?} is more than timers.total ({:?})", timers.total));
    }
    let attempts = object.get("attempts").and_then(|node| node.integer(1..=ATTEMPTS_MAX));
    ModelRetry {
        attempts: attempts.map_or(default.attempts, |attempts| attempts as u32),
        only_within: only_within.unwrap_or(within_total),
        budget_percent: object.get("budget").and_then(|node| percent(&node)).unwrap_or(default.budget_percent),
        on: object.get("on").map_or(default.on, |_| reasons(&object)),
    }
}

/// `20%`, or 20.
fn percent(node: &Node<'_>) -> Option<u32> {
    let Some(text) = node.as_text() else { return node.integer(0..=100).map(|percent| percent as u32) };
    let percent = text.strip_suffix('%').and_then(|number| number.parse().ok()).filter(|percent| *percent <= 100);
    if percent.is_none() {
        node.problem(format!("{:?} is no share from 0% to 100%", shortened(text)));
    }
    percent
}

fn reasons(retry: &Object<'_>) -> Vec<Reason> {
    let mut found = Vec::new();
    for node in retry.required_list("on") {
        let Some(reason) = node.choice(Reason::WORDS) else { continue };
        if found.contains(&reason) {
            node.problem(format!("{} stands here twice", reason.as_str()));
        }
        found.push(reason);
    }
    found
}

/// `off`, `after p95`, or `after` and a time span.
pub(super) fn hedge(node: &Node<'_>) -> Option<Hedge> {
    let text = node.text()?;
    let found = match text.strip_prefix("after ") {
        None => (text == "off").then_some(Hedge::Off),
        Some("p95") => Some(Hedge::AfterP95),
        Some(span) => node::duration(span).filter(|span| !span.is_zero()).map(Hedge::After),
    };
    if found.is_none() {
        node.problem(format!("{:?} is not known (allowed: off, after p95, after 500ms)", shortened(&text)));
    }
    found
}

/// Reads `escalate`.
pub(super) fn escalate(node: &Node<'_>) -> Escalate {
    let Some(object) = node.object(&["onLength", "refusals", "json", "schema"]) else { return Escalate::default() };
    let refusals = object.get("refusals").map(|node| node.texts()).unwrap_or_default();
    Escalate {
        on_length: object.get("onLength").and_then(|node| node.boolean()).unwrap_or_default(),
        refusals: refusals.iter().map(|text| text.to_lowercase()).collect(),
        json: object.get("json").map(|node| node.texts()),
        schema: object.get("schema").and_then(|node| schema(&node)),
    }
}

/// A JSON Schema of the keywords that are checked.
fn schema(node: &Node<'_>) -> Option<Schema> {
    let problems = match Schema::new(node.json()?) {
        Ok(schema) => return Some(schema),
        Err(problems) => problems,
    };
    for problem in problems {
        node.problem_at(&problem.path, problem.message);
    }
    None
}

/// `lastError`, or 503 as a number or text.
pub(super) fn on_exhausted(node: &Node<'_>) -> Option<OnExhausted> {
    match node.as_text() {
        Some(_) => node.choice(OnExhausted::WORDS),
        None => node.integer(503..=503).map(|_| OnExhausted::Unavailable),
    }
}

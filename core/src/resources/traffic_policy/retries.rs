//! The part `retries` of a traffic policy.

use std::time::Duration;

use super::measures::{bytes, percent, positive};
use crate::{
    model::policy::{Backoff, Retries, RetryBudget, RetryOn},
    resources::node::{Node, Object},
    retry::{Idempotence, idempotence},
};

/// Most attempts that may be asked for: more would multiply an outage.
const ATTEMPTS_MAX: u64 = 10;
/// Most repeats in a second that a budget may allow anyway.
const PER_SECOND_MAX: u64 = 100_000;
/// Longest pause before a repeat that may be asked for.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Largest body that may be kept for a repeat, bytes.
const BODY_LIMIT_MAX: u64 = 1_048_576;
/// Most methods that may be named.
const METHODS_MAX: usize = 16;

/// Reads `retries`.
pub(super) fn read(node: &Node<'_>) -> Retries {
    let default = Retries::default();
    let fields = ["attempts", "on", "methods", "budget", "backoff", "bodyLimit"];
    let Some(object) = node.object(&fields) else { return default };
    let attempts = object.get("attempts").and_then(|node| node.integer(1..=ATTEMPTS_MAX));
    if attempts == Some(1) {
        for key in fields.into_iter().filter(|key| *key != "attempts" && object.get(key).is_some()) {
            object.problem(key, "has no meaning with one attempt".to_owned());
        }
    }
    Retries {
        attempts: attempts.map_or(default.attempts, |attempts| attempts as u32),
        on: object.get("on").map_or(default.on, |_| on(&object)),
        methods: methods(&object),
        budget: object.get("budget").map_or(default.budget, |node| budget(&node)),
        backoff: object.get("backoff").map_or(default.backoff, |node| backoff(&node)),
        body_limit: object
            .get("bodyLimit")
            .and_then(|node| bytes(&node, 0..=BODY_LIMIT_MAX))
            .unwrap_or(default.body_limit),
    }
}

fn on(object: &Object<'_>) -> Vec<RetryOn> {
    let mut found: Vec<RetryOn> = Vec::new();
    for node in object.required_list("on") {
        // A status may be written as the number that it is.
        let failure = match node.as_text() {
            Some(_) => node.parsed_saying(),
            None => node.integer(400..=599).map(|status| RetryOn::Status(status as u16)),
        };
        let Some(failure) = failure else { continue };
        if found.contains(&failure) {
            node.problem("stands here twice".to_owned());
        }
        found.push(failure);
    }
    found
}

fn methods(object: &Object<'_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for node in object.list("methods") {
        let Some(method) = node.filled_text() else { continue };
        if !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            node.problem(format!("{method:?} is no method in upper case, e.g. POST"));
        } else if method == "CONNECT" {
            node.problem("a tunnel is never repeated".to_owned());
        } else if idempotence(&method) == Idempotence::Idempotent {
            node.problem(format!("{method} is idempotent and repeated anyway; this list is for those that are not"));
        } else if found.contains(&method) {
            node.problem("stands here twice".to_owned());
        }
        found.push(method);
    }
    if found.len() > METHODS_MAX {
        object.problem("methods", format!("{} methods; at most {METHODS_MAX} are allowed", found.len()));
    }
    found
}

fn budget(node: &Node<'_>) -> RetryBudget {
    let default = RetryBudget::default();
    let Some(object) = node.object(&["percent", "minPerSecond"]) else { return default };
    let least = object.get("minPerSecond").and_then(|node| node.integer(0..=PER_SECOND_MAX));
    RetryBudget {
        percent: object.get("percent").and_then(|node| percent(&node, 0..=100)).unwrap_or(default.percent),
        min_per_second: least.map_or(default.min_per_second, |least| least as u32),
    }
}

fn backoff(node: &Node<'_>) -> Backoff {
    let default = Backoff::default();
    let Some(object) = node.object(&["base", "max"]) else { return default };
    let base = positive(&object, "base").unwrap_or(default.base);
    let max = positive(&object, "max");
    if let Some(max) = max
        && max > BACKOFF_MAX
    {
        object.problem("max", format!("is more than {BACKOFF_MAX:?}"));
    }
    // Who writes a longer base alone means at least that.
    let max = max.unwrap_or(default.max.max(base));
    if max < base {
        object.problem("max", format!("is less than base ({base:?})"));
    }
    if base > BACKOFF_MAX {
        object.problem("base", format!("is more than {BACKOFF_MAX:?}"));
    }
    Backoff { base, max }
}

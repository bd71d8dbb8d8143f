//! The parts `loadBalancing` and `warmUp` of a traffic policy.

use std::time::Duration;

use super::measures::percent;
use crate::{
    model::policy::{HashOn, LoadBalancing, WarmUp},
    resources::{
        node::{Node, Object, is_field_name},
        wording::shortened,
    },
};

/// Most places where the key of a request may be looked for.
const HASH_ON_MAX: usize = 8;
/// Longest life of a cookie that is set.
const COOKIE_TTL_MAX: Duration = Duration::from_secs(400 * 86_400);
/// Longest warm-up.
const WARM_UP_MAX: Duration = Duration::from_secs(86_400);
/// Hundredths in one.
const HUNDREDTHS: f64 = 100.0;

/// Reads `loadBalancing`.
pub(super) fn read(node: &Node<'_>) -> Option<LoadBalancing> {
    let object = node.object(&["algorithm", "hashOn"])?;
    let word =
        object.required("algorithm").and_then(|node| node.choice(&LoadBalancing::WORDS.map(|word| (word, word))));
    let is_hashing = matches!(word, Some("ringHash" | "maglev"));
    let on = match (word, object.get("hashOn")) {
        (Some(_), Some(_)) if !is_hashing => {
            object.problem("hashOn", "has a meaning with ringHash and maglev only".to_owned());
            Vec::new()
        }
        (Some(_), None) if is_hashing => {
            let message = "missing: where the key of a request is, e.g. [header:x-user-id] or [sourceIP]";
            object.problem("hashOn", message.to_owned());
            Vec::new()
        }
        (_, Some(_)) => hash_on(&object),
        (_, None) => Vec::new(),
    };
    LoadBalancing::of_word(word?, on)
}

fn hash_on(object: &Object<'_>) -> Vec<HashOn> {
    let nodes = object.required_list("hashOn");
    if nodes.len() > HASH_ON_MAX {
        object.problem("hashOn", format!("{} places; at most {HASH_ON_MAX} are allowed", nodes.len()));
    }
    let mut found: Vec<HashOn> = Vec::new();
    for node in nodes {
        let Some(place) = place(&node) else { continue };
        if found.contains(&place) {
            node.problem("stands here twice".to_owned());
        }
        found.push(place);
    }
    found
}

/// `header:<name>`, `cookie:<name>`, `query:<name>`, `sourceIP`, or `{cookie: <name>, ttl: 1h}`.
fn place(node: &Node<'_>) -> Option<HashOn> {
    let Some(text) = node.as_text() else { return cookie(node) };
    let found = match text.split_once(':') {
        Some(("header", name)) if is_field_name(name) => Some(HashOn::Header(name.to_ascii_lowercase())),
        Some(("cookie", name)) if is_field_name(name) => Some(HashOn::Cookie { name: name.to_owned(), ttl: None }),
        Some(("query", name)) if !name.is_empty() => Some(HashOn::Query(name.to_owned())),
        None if text == "sourceIP" => Some(HashOn::SourceIp),
        Some(_) | None => None,
    };
    if found.is_none() {
        let allowed = "header:<name>, cookie:<name>, query:<name>, sourceIP or {cookie: <name>, ttl: 1h}";
        node.problem(format!("{:?} is no key: expected {allowed}", shortened(text)));
    }
    found
}

fn cookie(node: &Node<'_>) -> Option<HashOn> {
    let object = node.object(&["cookie", "ttl"])?;
    let name = object.required("cookie").and_then(|node| node.filled_text())?;
    if !is_field_name(&name) {
        object.problem("cookie", format!("{:?} is no name of a cookie", shortened(&name)));
    }
    let ttl = object.get("ttl").and_then(|node| node.duration());
    if ttl.is_some_and(|ttl| ttl > COOKIE_TTL_MAX) {
        object.problem("ttl", "is more than 400 days (9600h), which no browser keeps".to_owned());
    }
    Some(HashOn::Cookie { name, ttl })
}

/// Reads `warmUp`: fields, or `off`.
pub(super) fn warm_up(node: &Node<'_>) -> Option<WarmUp> {
    let default = WarmUp::default();
    // YAML 1.1, which Kubernetes reads, takes `off` for false.
    if node.is_text("off") || node.is_false() {
        return None;
    }
    let Some(object) = node.object(&["duration", "curve", "floor", "afterRecovery"]) else { return Some(default) };
    let duration = object.get("duration").and_then(|node| node.duration()).unwrap_or(default.duration);
    if duration > WARM_UP_MAX {
        object.problem("duration", format!("is more than {WARM_UP_MAX:?} (24h)"));
    }
    let curve = object.get("curve").and_then(|node| node.number(1.0..=10.0));
    let found = WarmUp {
        duration,
        curve: curve.map_or(default.curve, |curve| (curve * HUNDREDTHS).round() as u32),
        floor: object.get("floor").and_then(|node| percent(&node, 1..=100)).unwrap_or(default.floor),
        after_recovery: object.get("afterRecovery").and_then(|node| node.boolean()).unwrap_or(default.after_recovery),
    };
    (!duration.is_zero()).then_some(found)
}

//! The part `rateLimits` of a traffic policy.

use std::time::Duration;

use crate::{
    model::{
        model_route::{LimitMode, Word},
        policy::{OnRateStoreDown, RateKey, RateLimit},
    },
    resources::{
        http_route, model_route,
        node::{Node, Object},
        wording::shortened,
    },
};

/// Times over which requests may be counted.
const PER: &[(&str, Duration)] =
    &[("1s", Duration::from_secs(1)), ("1m", Duration::from_secs(60)), ("1h", Duration::from_secs(3_600))];
/// Most requests of a limit.
const REQUESTS_MAX: u64 = 1_000_000_000;
/// Most limits of a policy: each request is held against all of them.
const LIMITS_MAX: usize = 32;

/// Reads `rateLimits`.
pub(super) fn read(spec: &Object<'_>) -> Vec<RateLimit> {
    let nodes = spec.list("rateLimits");
    if nodes.len() > LIMITS_MAX {
        spec.problem("rateLimits", format!("{} limits; at most {LIMITS_MAX} are allowed", nodes.len()));
    }
    let mut found: Vec<RateLimit> = Vec::new();
    for node in nodes {
        let Some(limit) = limit(&node) else { continue };
        if found.iter().any(|other| other.name == limit.name) {
            node.problem(format!("a limit of the name {} is there already", limit.name));
        }
        found.push(limit);
    }
    found
}

fn limit(node: &Node<'_>) -> Option<RateLimit> {
    let object =
        node.object(&["name", "matches", "key", "requests", "per", "burst", "store", "onStoreDown", "mode"])?;
    let name = object.required("name").and_then(|node| node.dns_label());
    let requests = object.required("requests").and_then(|node| node.integer(1..=REQUESTS_MAX));
    let per = object.required("per").and_then(|node| node.choice(PER));
    let burst = object.get("burst").and_then(|node| node.integer(1..=REQUESTS_MAX));
    let store = object.get("store").and_then(|node| model_route::limit_store(&node)).unwrap_or_default();
    let on_store_down = object.get("onStoreDown").and_then(|node| node.choice(OnRateStoreDown::WORDS));
    if on_store_down.is_some() && object.get("store").is_none_or(|node| node.is_text("local")) {
        object.problem("onStoreDown", "has no meaning where every proxy counts for itself".to_owned());
    }
    let matches = object.list("matches").iter().filter_map(http_route::condition).collect();
    let mode = object.get("mode").and_then(|node| node.choice(LimitMode::WORDS)).unwrap_or_default();
    let (key, requests) = (key(&object), requests?);
    if key.contains(&RateKey::Route) && object.get("matches").is_none() {
        object.problem("key", "route tells apart which of matches a request meets: there are none".to_owned());
    }
    Some(RateLimit {
        name: name?,
        matches,
        key,
        requests,
        per: per?,
        burst: burst.unwrap_or(requests),
        on_store_down: on_store_down.unwrap_or_default(),
        store,
        mode,
    })
}

fn key(limit: &Object<'_>) -> Vec<RateKey> {
    let mut found = Vec::new();
    for node in limit.list("key") {
        let Some(part) = key_part(&node) else { continue };
        if found.contains(&part) {
            node.problem("stands here twice".to_owned());
        }
        found.push(part);
    }
    found
}

/// `identity`, `namespace`, `route`, `lane` or `header:<name>`.
fn key_part(node: &Node<'_>) -> Option<RateKey> {
    let text = node.text()?;
    let word = RateKey::WORDS.into_iter().find(|(word, _)| *word == text).map(|(_, part)| part);
    let found = word.or_else(|| model_route::key_header(&text).map(RateKey::Header));
    if found.is_none() {
        let text = shortened(&text);
        node.problem(format!("{text:?} is not known (allowed: identity, namespace, route, lane, header:<name>)"));
    }
    found
}

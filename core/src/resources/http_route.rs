//! Kind `HTTPRoute` of the Gateway API with a Service as parent (GAMMA), and what `GRPCRoute` shares with it.

mod filter;

use std::time::Duration;

pub(super) use filter::filters;

use super::node::{Node, Object};
use crate::model::route::{Filter, PathMatch, RouteMatch, ValueCondition, ValueMatch};

/// What a route says.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Services that it is attached to.
    pub parents: Vec<Reference>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// A Service that a route names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `<name>.<namespace>`.
    pub service: String,
    /// Port; `None` = every port (parents only).
    pub port: Option<u16>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Any of these; empty = every request.
    pub matches: Vec<RouteMatch>,
    /// Changes to requests and responses.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight; `None` = none written: to the parent itself.
    pub backends: Option<Vec<(Reference, u32)>>,
    /// Limit of the whole exchange.
    pub request_timeout: Option<Duration>,
    /// Limit of one attempt.
    pub backend_timeout: Option<Duration>,
    /// Retries.
    pub retry: Option<Retry>,
}

/// Retries that a rule allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Statuses that are repeated.
    pub codes: Vec<u16>,
    /// Attempts after the first.
    pub attempts: u32,
}

/// Attempts after the first unless written.
const RETRY_ATTEMPTS: u32 = 1;
/// Most attempts after the first that may be asked for.
const RETRY_ATTEMPTS_MAX: u64 = 9;
/// Greatest weight (Gateway API).
const WEIGHT_MAX: u64 = 1_000_000;
/// Methods that may be named (Gateway API, HTTPMethod).
const METHODS: &[(&str, &str)] = &[
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("DELETE", "DELETE"),
    ("CONNECT", "CONNECT"),
    ("OPTIONS", "OPTIONS"),
    ("TRACE", "TRACE"),
    ("PATCH", "PATCH"),
];

#[derive(Clone, Copy)]
enum PathKind {
    Exact,
    Prefix,
    Regex,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    Exact,
    Regex,
}

const PATH_KINDS: &[(&str, PathKind)] =
    &[("Exact", PathKind::Exact), ("PathPrefix", PathKind::Prefix), ("RegularExpression", PathKind::Regex)];
const VALUE_KINDS: &[(&str, ValueKind)] = &[("Exact", ValueKind::Exact), ("RegularExpression", ValueKind::Regex)];

/// Reads the specification of an `HTTPRoute`. `hostnames` are read and have no effect: the parent Service is the host.
pub(super) fn read(spec: &Node<'_>, namespace: &str) -> Option<Route> {
    let spec = spec.object(&["parentRefs", "hostnames", "rules"])?;
    spec.get("hostnames").map(|node| node.texts());
    Some(Route {
        parents: parents(&spec, namespace),
        rules: spec.list("rules").iter().filter_map(|node| rule(node, namespace)).collect(),
    })
}

/// Reads `parentRefs`: Services.
pub(super) fn parents(spec: &Object<'_>, namespace: &str) -> Vec<Reference> {
    let fields = ["group", "kind", "name", "namespace", "port", "sectionName"];
    let parent = |node: &Node<'_>| {
        let object = node.object(&fields)?;
        // A parent without kind is a Gateway, which this mesh does not serve.
        if object.required("kind").is_some() {
            is_service(&object);
        }
        reference(&object, namespace)
    };
    spec.required_list("parentRefs").iter().filter_map(parent).collect()
}

fn is_service(object: &Object<'_>) {
    let kind = object.get("kind").and_then(|node| node.text()).unwrap_or_else(|| "Service".to_owned());
    let group = object.get("group").and_then(|node| node.text()).unwrap_or_default();
    if kind != "Service" || !matches!(group.as_str(), "" | "core") {
        object.problem("kind", format!("{kind:?} of group {group:?} is not supported: expected Service of group \"\""));
    }
}

fn reference(object: &Object<'_>, namespace: &str) -> Option<Reference> {
    let name = object.required("name").and_then(|node| node.dns_label());
    let namespace = object.get("namespace").and_then(|node| node.dns_label()).unwrap_or_else(|| namespace.to_owned());
    let port = object.get("port").and_then(|node| node.port());
    Some(Reference { service: format!("{}.{namespace}", name?), port })
}

fn rule(node: &Node<'_>, namespace: &str) -> Option<Rule> {
    let object = node.object(&["name", "matches", "filters", "backendRefs", "timeouts", "retry"])?;
    object.get("name").and_then(|node| node.filled_text());
    let timeouts = object.get("timeouts").and_then(|node| node.object(&["request", "backendRequest"]));
    let timeout = |key| timeouts.as_ref().and_then(|object| object.get(key)?.duration());
    Some(Rule {
        matches: object.list("matches").iter().filter_map(condition).collect(),
        filters: filters(&object),
        backends: backends(&object, namespace),
        request_timeout: timeout("request").filter(|duration| !duration.is_zero()),
        backend_timeout: timeout("backendRequest").filter(|duration| !duration.is_zero()),
        retry: object.get("retry").and_then(|node| retry(&node)),
    })
}

/// Reads `backendRefs`: Services with port and weight.
pub(super) fn backends(rule: &Object<'_>, namespace: &str) -> Option<Vec<(Reference, u32)>> {
    rule.get("backendRefs")?;
    let backend = |node: &Node<'_>| {
        let object = node.object(&["group", "kind", "name", "namespace", "port", "weight"])?;
        is_service(&object);
        object.required("port");
        let weight = object.get("weight").and_then(|node| node.integer(0..=WEIGHT_MAX)).unwrap_or(1);
        Some((reference(&object, namespace)?, weight as u32))
    };
    Some(rule.list("backendRefs").iter().filter_map(backend).collect())
}

/// Reads `{codes, attempts, backoff}`. The pause between attempts is the proxy's own; `backoff` is refused rather than
/// ignored.
fn retry(node: &Node<'_>) -> Option<Retry> {
    let object = node.object(&["codes", "attempts"])?;
    let codes = object.list("codes").into_iter().filter_map(|node| node.integer(400..=599)).map(|code| code as u16);
    let codes = codes.collect();
    let attempts = object.get("attempts").and_then(|node| node.integer(0..=RETRY_ATTEMPTS_MAX));
    Some(Retry { codes, attempts: attempts.map_or(RETRY_ATTEMPTS, |attempts| attempts as u32) })
}

/// Fields of one of `matches`.
pub(super) const CONDITION: &[&str] = &["path", "headers", "queryParams", "method"];

/// Reads one of `matches`.
pub(super) fn condition(node: &Node<'_>) -> Option<RouteMatch> {
    node.object(CONDITION).map(|object| conditions(&object))
}

/// Reads the fields of one of `matches`, beside which others may stand.
pub(super) fn conditions(object: &Object<'_>) -> RouteMatch {
    RouteMatch {
        path: object.get("path").and_then(|node| path(&node)),
        method: object.get("method").and_then(|node| node.choice(METHODS)).map(str::to_owned),
        headers: object.list("headers").iter().filter_map(header).collect(),
        query: object.list("queryParams").iter().filter_map(|node| value(node, Node::filled_text)).collect(),
    }
}

fn path(node: &Node<'_>) -> Option<PathMatch> {
    let object = node.object(&["type", "value"])?;
    let kind = object.get("type").and_then(|node| node.choice(PATH_KINDS)).unwrap_or(PathKind::Prefix);
    let Some(value) = object.get("value") else { return Some(PathMatch::Prefix("/".to_owned())) };
    if let PathKind::Regex = kind {
        return value.pattern().map(PathMatch::Regex);
    }
    let text = value.text()?;
    if !text.starts_with('/') || text.contains("//") || text.split('/').any(|part| matches!(part, "." | "..")) {
        value.problem(format!("{text:?} is no path: it begins with / and has no //, /./ or /../"));
    }
    Some(if let PathKind::Exact = kind { PathMatch::Exact(text) } else { PathMatch::Prefix(text) })
}

/// Reads one of `headers`.
pub(super) fn header(node: &Node<'_>) -> Option<ValueMatch> {
    value(node, Node::field_name)
}

fn value<'a>(node: &Node<'a>, name: impl Fn(&Node<'a>) -> Option<String>) -> Option<ValueMatch> {
    let object = node.object(&["type", "name", "value"])?;
    let kind = object.get("type").and_then(|node| node.choice(VALUE_KINDS)).unwrap_or(ValueKind::Exact);
    let name = object.required("name").and_then(|node| name(&node));
    let value = object.required("value")?;
    let value = match kind {
        ValueKind::Exact => ValueCondition::Exact(value.text()?),
        ValueKind::Regex => ValueCondition::Regex(value.pattern()?),
    };
    Some(ValueMatch { name: name?, value })
}

//! Kind `GRPCRoute` of the Gateway API with a Service as parent (GAMMA): method matches become path matches.

use super::{
    http_route::{self, Route, Rule},
    node::{Node, not_a_pattern},
};
use crate::model::route::{PathMatch, Pattern, RouteMatch};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Regex,
}

const KINDS: &[(&str, Kind)] = &[("Exact", Kind::Exact), ("RegularExpression", Kind::Regex)];

/// Reads the specification.
pub(super) fn read(spec: &Node<'_>, namespace: &str) -> Option<Route> {
    let spec = spec.object(&["parentRefs", "hostnames", "rules"])?;
    spec.get("hostnames").map(|node| node.texts());
    Some(Route {
        parents: http_route::parents(&spec, namespace),
        rules: spec.list("rules").iter().filter_map(|node| rule(node, namespace)).collect(),
    })
}

fn rule(node: &Node<'_>, namespace: &str) -> Option<Rule> {
    let object = node.object(&["name", "matches", "filters", "backendRefs"])?;
    object.get("name").and_then(|node| node.filled_text());
    Some(Rule {
        matches: object.list("matches").iter().filter_map(condition).collect(),
        filters: http_route::filters(&object),
        backends: http_route::backends(&object, namespace),
        request_timeout: None,
        backend_timeout: None,
        retry: None,
    })
}

fn condition(node: &Node<'_>) -> Option<RouteMatch> {
    let object = node.object(&["method", "headers"])?;
    let path = object.get("method").and_then(|node| method(&node));
    let headers = object.list("headers").iter().filter_map(http_route::header).collect();
    Some(RouteMatch { path, method: Some("POST".to_owned()), headers, query: Vec::new() })
}

fn method(node: &Node<'_>) -> Option<PathMatch> {
    let object = node.object(&["type", "service", "method"])?;
    let kind = object.get("type").and_then(|node| node.choice(KINDS)).unwrap_or(Kind::Exact);
    let read = |key| object.get(key).and_then(|node| node.filled_text());
    let (service, method) = (read("service"), read("method"));
    match (kind, service, method) {
        (_, None, None) => {
            node.problem("needs service, method or both".to_owned());
            None
        }
        (Kind::Exact, Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
        (Kind::Exact, Some(service), None) => Some(PathMatch::Prefix(format!("/{service}"))),
        (Kind::Exact, None, Some(method)) => pattern(node, "[^/]+".to_owned(), regex::escape(&method)),
        (Kind::Regex, service, method) => {
            let any = || "[^/]+".to_owned();
            pattern(node, service.unwrap_or_else(any), method.unwrap_or_else(any))
        }
    }
}

fn pattern(node: &Node<'_>, service: String, method: String) -> Option<PathMatch> {
    match Pattern::try_from(format!("/(?:{service})/(?:{method})")) {
        Ok(pattern) => Some(PathMatch::Regex(pattern)),
        Err(error) => {
            node.problem(not_a_pattern(&error));
            None
        }
    }
}

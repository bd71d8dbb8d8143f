//! Which rule of which route a request takes: Gateway API precedence.

mod condition;

pub use condition::{host_rank, matches};

use crate::{
    fields::Fields,
    model::route::{HttpRoute, HttpRule, PathMatch, RouteMatch},
};

/// What routing sees of a request.
pub struct RequestParts<'a> {
    /// Method.
    pub method: &'a str,
    /// Host without port, any case.
    pub host: &'a str,
    /// Path, without query, as sent.
    pub path: &'a str,
    /// Query without `?`, as sent.
    pub query: Option<&'a str>,
    /// Header fields.
    pub fields: &'a dyn Fields,
}

/// The rule that a request takes.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its route.
    pub route: &'a HttpRoute,
    /// The rule.
    pub rule: &'a HttpRule,
}

/// How specific a match is; the greatest wins, the first of equals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    host: usize,
    path: (u8, usize),
    method: bool,
    headers: usize,
    query: usize,
}

/// Finds the most specific rule: exact host before longest suffix, exact path before longest prefix before regex before
/// any path (absent, or the prefix `/`), then method, then number of headers, then number of query parameters, then
/// order (Gateway API, HTTPRouteRule.matches).
pub fn find<'a>(routes: &'a [HttpRoute], parts: &RequestParts<'_>) -> Option<Found<'a>> {
    let mut best: Option<(Rank, Found<'a>)> = None;
    for route in routes {
        let Some(host) = host_rank(&route.hosts, parts.host) else { continue };
        for rule in &route.rules {
            let Some(rank) = rule_rank(rule, host, parts) else { continue };
            if best.as_ref().is_none_or(|(so_far, _)| rank > *so_far) {
                best = Some((rank, Found { route, rule }));
            }
        }
    }
    best.map(|(_, found)| found)
}

/// Rank of the most specific condition of a rule that holds.
fn rule_rank(rule: &HttpRule, host: usize, parts: &RequestParts<'_>) -> Option<Rank> {
    if rule.matches.is_empty() {
        return Some(Rank { host, path: (0, 0), method: false, headers: 0, query: 0 });
    }
    rule.matches.iter().filter(|condition| matches(condition, parts)).map(|condition| rank(condition, host)).max()
}

fn rank(condition: &RouteMatch, host: usize) -> Rank {
    let path = match &condition.path {
        None => (0, 0),
        Some(PathMatch::Prefix(prefix)) if prefix.trim_end_matches('/').is_empty() => (0, 0),
        Some(PathMatch::Regex(pattern)) => (1, pattern.as_str().len()),
        Some(PathMatch::Prefix(prefix)) => (2, prefix.trim_end_matches('/').len()),
        Some(PathMatch::Exact(path)) => (3, path.len()),
    };
    let (headers, query) = (condition.headers.len(), condition.query.len());
    Rank { host, path, method: condition.method.is_some(), headers, query }
}

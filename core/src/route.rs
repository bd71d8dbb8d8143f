//! Which rule of which route a request takes: Gateway API precedence.

mod condition;

pub(crate) use condition::{decoded, without_dot_segments};
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::route::{Distribution, HostMatch, Pattern, RouteTimeouts, ValueCondition, ValueMatch};

    fn rule(matches: Vec<RouteMatch>) -> HttpRule {
        let (filters, timeouts) = (Vec::new(), RouteTimeouts::default());
        HttpRule { matches, filters, backends: Distribution::Empty, timeouts, retry: None }
    }

    fn route(name: &str, hosts: Vec<HostMatch>, matches: Vec<RouteMatch>) -> HttpRoute {
        HttpRoute { name: name.to_owned(), hosts, rules: vec![rule(matches)] }
    }

    fn path(path: PathMatch) -> RouteMatch {
        RouteMatch { path: Some(path), ..RouteMatch::default() }
    }

    fn exact(name: &str, value: &str) -> ValueMatch {
        ValueMatch { name: name.to_owned(), value: ValueCondition::Exact(value.to_owned()) }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    fn parts<'a>(host: &'a str, path: &'a str, fields: &'a dyn Fields) -> RequestParts<'a> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        RequestParts { method: "GET", host, path, query, fields }
    }

    #[test]
    fn the_most_specific_rule_wins_whatever_its_order() {
        let host = |text: &str| vec![HostMatch::Exact(text.to_owned())];
        let suffix = |text: &str| vec![HostMatch::Suffix(text.to_owned())];
        let prefix = |text: &str| path(PathMatch::Prefix(text.to_owned()));
        let by_method = RouteMatch { method: Some("GET".to_owned()), ..prefix("/a") };
        let by_header = RouteMatch { headers: vec![exact("X-User", "al")], ..prefix("/a") };
        let by_query = RouteMatch { query: vec![exact("q", "a b")], ..prefix("/a") };
        let mut routes = vec![
            route("any", vec![], vec![]),
            route("root", vec![], vec![prefix("/")]),
            route("regex", vec![], vec![path(PathMatch::Regex(pattern("/r/[0-9]+")))]),
            route("/a", vec![], vec![prefix("/a")]),
            route("/a/b", vec![], vec![prefix("/a/b/")]),
            route("=/a/b", vec![], vec![path(PathMatch::Exact("/a/b".to_owned()))]),
            route("query", vec![], vec![by_query]),
            route("header", vec![], vec![by_header]),
            route("method", vec![], vec![RouteMatch { method: Some("PUT".to_owned()), ..prefix("/m") }, by_method]),
            route("*.x", suffix("x"), vec![]),
            route("*.y.x", suffix("y.x"), vec![]),
            route("z.y.x", host("Z.y.x"), vec![]),
        ];
        let user: &[(&str, &str)] = &[("x-user", "al")];
        let nobody: &[(&str, &str)] = &[];
        let cases = [
            ("h", "/", &nobody, "any"),
            ("h", "/r/12", &nobody, "regex"),
            ("h", "/r/12/3", &nobody, "any"),
            ("h", "/a/b", &nobody, "=/a/b"),
            ("h", "/a/b/", &nobody, "/a/b"),
            ("h", "/a/bc", &nobody, "method"),
            ("h", "/a", &user, "method"),
            ("h", "/ab", &nobody, "any"),
            ("h", "/a/../r/1", &nobody, "regex"),
            ("q.x", "/a/b", &nobody, "*.x"),
            ("q.y.x", "/a/b", &nobody, "*.y.x"),
            ("y.x", "/", &nobody, "*.x"),
            ("x", "/", &nobody, "any"),
            ("z.Y.x.", "/", &nobody, "z.y.x"),
        ];
        for (host, path, fields, expected) in cases {
            let found = find(&routes, &parts(host, path, fields)).unwrap();
            assert_eq!(found.route.name, expected, "{host} {path}");
        }
        routes.retain(|route| route.name != "method");
        for (path, fields, expected) in
            [("/a?q=a+b", &user, "header"), ("/a?q=a%20b&q=c", &nobody, "query"), ("/a?q=c&q=a+b", &nobody, "/a")]
        {
            assert_eq!(find(&routes, &parts("h", path, fields)).unwrap().route.name, expected, "{path}");
        }
    }

    #[test]
    fn no_rule_is_found_where_none_matches() {
        let fields: &[(&str, &str)] = &[];
        let routes = [route("a", vec![], vec![path(PathMatch::Exact("/a".to_owned()))])];
        assert!(find(&routes, &parts("h", "/b", &fields)).is_none());
        assert!(find(&[], &parts("h", "/b", &fields)).is_none());
    }

    proptest! {
        #[test]
        fn prefixes_match_whole_elements_and_the_longest_wins(
            prefixes in prop::collection::vec("(/[ab]{1,2}){0,3}/?", 1..8),
            asked in "(/[ab]{1,2}){0,4}/?",
        ) {
            let asked = if asked.is_empty() { "/".to_owned() } else { asked };
            let fields: &[(&str, &str)] = &[];
            let routes: Vec<_> = prefixes.iter().map(|text| route(text, vec![], vec![path(PathMatch::Prefix(text.clone()))])).collect();
            let elements = |text: &str| text.trim_end_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
            let fits = |text: &&String| elements(&asked).starts_with(&elements(text));
            let longest = prefixes.iter().filter(fits).map(|text| text.trim_end_matches('/').len()).max();
            let found = find(&routes, &parts("h", &asked, &fields)).map(|found| found.route.name.trim_end_matches('/').len());
            prop_assert_eq!(found, longest);
        }

        #[test]
        fn hostile_requests_never_panic(host in ".{0,20}", path in ".{0,40}", value in any::<Vec<u8>>()) {
            let text = String::from_utf8_lossy(&value);
            let fields: &[(&str, &str)] = &[("x", &text)];
            let all = RouteMatch { path: Some(PathMatch::Regex(pattern(".*"))), method: None, headers: vec![exact("x", "y")], query: vec![exact("q", "y")] };
            let routes = [route("a", vec![HostMatch::Suffix("é".to_owned())], vec![all])];
            prop_assert!(find(&routes, &parts(&host, &path, &fields)).is_none_or(|found| found.route.name == "a"));
        }
    }
}

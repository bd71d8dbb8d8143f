//! Whether a condition of a route holds for a request.

use std::borrow::Cow;

use super::RequestParts;
use crate::model::route::{HostMatch, PathMatch, RouteMatch, ValueCondition, ValueMatch};

/// Rank of an exact host; longer than any suffix.
const EXACT_HOST: usize = usize::MAX;

/// How specifically `hosts` name `host`: greater is more specific, 0 is "any"; `None` = not at all.
pub fn host_rank(hosts: &[HostMatch], host: &str) -> Option<usize> {
    if hosts.is_empty() {
        return Some(0);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let rank = |pattern: &HostMatch| match pattern {
        HostMatch::Exact(name) => host.eq_ignore_ascii_case(name).then_some(EXACT_HOST),
        HostMatch::Suffix(suffix) => ends_with_labels(host, suffix).then_some(suffix.len()),
    };
    hosts.iter().filter_map(rank).max()
}

/// Whether `host` is `suffix` with at least one label before it.
fn ends_with_labels(host: &str, suffix: &str) -> bool {
    let Some(start) = host.len().checked_sub(suffix.len()) else { return false };
    let (before, end) = (&host.as_bytes()[..start], &host.as_bytes()[start..]);
    before.len() > 1 && before.ends_with(b".") && end.eq_ignore_ascii_case(suffix.as_bytes())
}

/// Whether all parts of one condition hold.
pub fn matches(condition: &RouteMatch, parts: &RequestParts<'_>) -> bool {
    condition.method.as_ref().is_none_or(|method| method == parts.method)
        && condition.path.as_ref().is_none_or(|path| path_matches(path, parts.path))
        && condition.headers.iter().all(|header| header_matches(header, parts))
        && condition.query.iter().all(|parameter| query_matches(parameter, parts.query.unwrap_or_default()))
}

fn path_matches(condition: &PathMatch, path: &str) -> bool {
    let path = without_dot_segments(path);
    match condition {
        PathMatch::Exact(exact) => path == exact.as_str(),
        PathMatch::Prefix(prefix) => {
            let prefix = prefix.trim_end_matches('/');
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Regex(pattern) => pattern.matches(&path),
    }
}

/// The path that a server will resolve `path` to (RFC 3986 5.2.4), so that `/public/../admin` is judged as `/admin`;
/// an encoded dot is a dot (6.2.2.2). Everything else stays as sent.
pub(crate) fn without_dot_segments(path: &str) -> Cow<'_, str> {
    if !path.contains("/.") && !path.contains("%2") {
        return Cow::Borrowed(path);
    }
    let plain = path.replace("%2e", ".").replace("%2E", ".");
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = plain.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    Cow::Owned(format!("/{}", kept.join("/")))
}

fn holds(condition: &ValueCondition, value: &[u8]) -> bool {
    match condition {
        ValueCondition::Exact(exact) => value == exact.as_bytes(),
        ValueCondition::Regex(pattern) => std::str::from_utf8(value).is_ok_and(|value| pattern.matches(value)),
    }
}

fn header_matches(condition: &ValueMatch, parts: &RequestParts<'_>) -> bool {
    let mut found = false;
    parts.fields.each(&condition.name, &mut |value| found |= holds(&condition.value, value.trim_ascii()));
    found
}

fn query_matches(condition: &ValueMatch, query: &str) -> bool {
    let mut parameters = query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    let first = parameters.find(|(name, _)| decoded(name) == condition.name.as_bytes());
    first.is_some_and(|(_, value)| holds(&condition.value, &decoded(value)))
}

/// Decodes `%xx` and `+`; what is no valid escape stays as it is.
pub(crate) fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

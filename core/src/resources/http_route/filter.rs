//! Filters of a route's rule. A filter that is not carried out is refused, never ignored.

use super::{Node, Object};
use crate::model::route::{Filter, HeaderChange};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestHeaders,
    ResponseHeaders,
    Redirect,
}

const KINDS: &[(&str, Kind)] = &[
    ("RequestHeaderModifier", Kind::RequestHeaders),
    ("ResponseHeaderModifier", Kind::ResponseHeaders),
    ("RequestRedirect", Kind::Redirect),
];
const STATUSES: &[u64] = &[301, 302, 303, 307, 308];
/// Status of a redirect unless written (Gateway API).
const REDIRECT_STATUS: u16 = 302;

/// Reads `filters` of a rule.
pub(in crate::resources) fn filters(rule: &Object<'_>) -> Vec<Filter> {
    rule.list("filters").iter().filter_map(filter).collect()
}

fn filter(node: &Node<'_>) -> Option<Filter> {
    let object = node.object(&["type", "requestHeaderModifier", "responseHeaderModifier", "requestRedirect"])?;
    let kind = object.required("type").and_then(|node| node.choice(KINDS))?;
    let (field, others) = match kind {
        Kind::RequestHeaders => ("requestHeaderModifier", ["responseHeaderModifier", "requestRedirect"]),
        Kind::ResponseHeaders => ("responseHeaderModifier", ["requestHeaderModifier", "requestRedirect"]),
        Kind::Redirect => ("requestRedirect", ["requestHeaderModifier", "responseHeaderModifier"]),
    };
    for other in others.into_iter().filter(|other| object.get(other).is_some()) {
        object.problem(other, "does not fit the type of this filter".to_owned());
    }
    let content = object.required(field)?;
    match kind {
        Kind::RequestHeaders => header_change(&content).map(Filter::RequestHeaders),
        Kind::ResponseHeaders => header_change(&content).map(Filter::ResponseHeaders),
        Kind::Redirect => redirect(&content),
    }
}

fn header_change(node: &Node<'_>) -> Option<HeaderChange> {
    let object = node.object(&["set", "add", "remove"])?;
    let pairs = |key| object.list(key).iter().filter_map(pair).collect();
    let remove = object.list("remove").iter().filter_map(changeable).collect();
    Some(HeaderChange { remove, set: pairs("set"), add: pairs("add") })
}

fn pair(node: &Node<'_>) -> Option<(String, String)> {
    let object = node.object(&["name", "value"])?;
    let name = object.required("name").and_then(|node| changeable(&node));
    let value = object.required("value")?;
    let text = value.text()?;
    if !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
        value.problem("a header value may not hold control characters".to_owned());
    }
    Some((name?, text))
}

/// Name of a header that a route may change: framing and what the mesh itself sets stay.
fn changeable(node: &Node<'_>) -> Option<String> {
    const FIXED: &[&str] = &["connection", "content-length", "transfer-encoding", "host", "te", "upgrade", "trailer"];
    let name = node.field_name()?;
    if FIXED.contains(&name.as_str()) || name.starts_with("l5d-") || name.starts_with("x-mesh-") {
        node.problem(format!("{name:?} may not be changed: framing and the mesh depend on it"));
    }
    Some(name)
}

fn redirect(node: &Node<'_>) -> Option<Filter> {
    let object = node.object(&["scheme", "hostname", "port", "path", "statusCode"])?;
    let scheme = object.get("scheme").and_then(|node| node.choice(&[("http", "http"), ("https", "https")]));
    let status = object.get("statusCode").and_then(|node| {
        let status = node.integer(300..=399)?;
        if !STATUSES.contains(&status) {
            node.problem(format!("{status} is no redirect: expected 301, 302, 303, 307 or 308"));
        }
        Some(status as u16)
    });
    let path = object.get("path").and_then(|node| {
        let object = node.object(&["type", "replaceFullPath"])?;
        object.required("type").and_then(|node| node.choice(&[("ReplaceFullPath", ())]));
        object.required("replaceFullPath").and_then(|node| node.filled_text())
    });
    Some(Filter::Redirect {
        scheme: scheme.map(str::to_owned),
        host: object.get("hostname").and_then(|node| node.dns_name()),
        port: object.get("port").and_then(|node| node.port()),
        path,
        status: status.unwrap_or(REDIRECT_STATUS),
    })
}

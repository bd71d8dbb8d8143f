//! What inbound and outbound routes share: hosts, matches, header changes ↔ model.

use linkerd2_proxy_api::{
    http_route::{self, header_match, host_match, path_match, query_param_match},
    http_types::{self, http_method},
};
use mesh_core::model::route::{HeaderChange, HostMatch, PathMatch, Pattern, RouteMatch, ValueCondition, ValueMatch};

use super::{Invalid, required};

/// Longest regular expression that is compiled, bytes.
pub const PATTERN_MAX: usize = 4_096;

/// Methods in the order of the wire's numbers.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "HEAD", "TRACE"];

pub(super) fn pattern(field: &'static str, text: String) -> Result<Pattern, Invalid> {
    if text.len() > PATTERN_MAX {
        return Err(Invalid::value(field, format!("{} bytes; at most {PATTERN_MAX} are allowed", text.len())));
    }
    Pattern::try_from(text).map_err(|error| Invalid::value(field, error))
}

fn text(field: &'static str, bytes: Vec<u8>) -> Result<String, Invalid> {
    String::from_utf8(bytes).map_err(|error| Invalid::value(field, error))
}

pub(super) fn host_to_wire(host: &HostMatch) -> http_route::HostMatch {
    let wire = match host {
        HostMatch::Exact(name) => host_match::Match::Exact(name.clone()),
        HostMatch::Suffix(name) => host_match::Match::Suffix(host_match::Suffix {
            reverse_labels: name.rsplit('.').map(str::to_owned).collect(),
        }),
    };
    http_route::HostMatch { r#match: Some(wire) }
}

pub(super) fn host_from_wire(wire: http_route::HostMatch) -> Result<HostMatch, Invalid> {
    Ok(match required("host_match.match", wire.r#match)? {
        host_match::Match::Exact(name) => HostMatch::Exact(name),
        host_match::Match::Suffix(suffix) => {
            let mut labels = suffix.reverse_labels;
            labels.reverse();
            HostMatch::Suffix(labels.join("."))
        }
    })
}

pub(super) fn match_to_wire(condition: &RouteMatch) -> http_route::HttpRouteMatch {
    http_route::HttpRouteMatch {
        path: condition.path.as_ref().map(|path| http_route::PathMatch {
            kind: Some(match path {
                PathMatch::Exact(text) => path_match::Kind::Exact(text.clone()),
                PathMatch::Prefix(text) => path_match::Kind::Prefix(text.clone()),
                PathMatch::Regex(pattern) => path_match::Kind::Regex(pattern.as_str().to_owned()),
            }),
        }),
        headers: condition.headers.iter().map(header_to_wire).collect(),
        query_params: condition.query.iter().map(query_to_wire).collect(),
        method: condition.method.as_deref().map(method_to_wire),
    }
}

pub(super) fn match_from_wire(wire: http_route::HttpRouteMatch) -> Result<RouteMatch, Invalid> {
    let path = match wire.path {
        None => None,
        Some(path) => Some(match required("path_match.kind", path.kind)? {
            path_match::Kind::Exact(text) => PathMatch::Exact(text),
            path_match::Kind::Prefix(text) => PathMatch::Prefix(text),
            path_match::Kind::Regex(text) => PathMatch::Regex(pattern("path_match.regex", text)?),
        }),
    };
    Ok(RouteMatch {
        path,
        method: wire.method.map(method_from_wire).transpose()?,
        headers: wire.headers.into_iter().map(header_from_wire).collect::<Result<_, _>>()?,
        query: wire.query_params.into_iter().map(query_from_wire).collect::<Result<_, _>>()?,
    })
}

pub(super) fn header_to_wire(condition: &ValueMatch) -> http_route::HeaderMatch {
    let value = match &condition.value {
        ValueCondition::Exact(text) => header_match::Value::Exact(text.clone().into_bytes()),
        ValueCondition::Regex(pattern) => header_match::Value::Regex(pattern.as_str().to_owned()),
    };
    http_route::HeaderMatch { name: condition.name.clone(), value: Some(value) }
}

pub(super) fn header_from_wire(wire: http_route::HeaderMatch) -> Result<ValueMatch, Invalid> {
    let value = match required("header_match.value", wire.value)? {
        header_match::Value::Exact(bytes) => ValueCondition::Exact(text("header_match.exact", bytes)?),
        header_match::Value::Regex(text) => ValueCondition::Regex(pattern("header_match.regex", text)?),
    };
    Ok(ValueMatch { name: wire.name, value })
}

fn query_to_wire(condition: &ValueMatch) -> http_route::QueryParamMatch {
    let value = match &condition.value {
        ValueCondition::Exact(text) => query_param_match::Value::Exact(text.clone()),
        ValueCondition::Regex(pattern) => query_param_match::Value::Regex(pattern.as_str().to_owned()),
    };
    http_route::QueryParamMatch { name: condition.name.clone(), value: Some(value) }
}

fn query_from_wire(wire: http_route::QueryParamMatch) -> Result<ValueMatch, Invalid> {
    let value = match required("query_param_match.value", wire.value)? {
        query_param_match::Value::Exact(text) => ValueCondition::Exact(text),
        query_param_match::Value::Regex(text) => ValueCondition::Regex(pattern("query_param_match.regex", text)?),
    };
    Ok(ValueMatch { name: wire.name, value })
}

fn method_to_wire(method: &str) -> http_types::HttpMethod {
    let registered = METHODS.iter().position(|known| *known == method).and_then(|at| i32::try_from(at).ok());
    let wire = match registered {
        Some(number) => http_method::Type::Registered(number),
        None => http_method::Type::Unregistered(method.to_owned()),
    };
    http_types::HttpMethod { r#type: Some(wire) }
}

fn method_from_wire(wire: http_types::HttpMethod) -> Result<String, Invalid> {
    match required("http_method.type", wire.r#type)? {
        http_method::Type::Unregistered(text) => Ok(text),
        http_method::Type::Registered(number) => {
            let known = usize::try_from(number).ok().and_then(|at| METHODS.get(at));
            known.map(|method| (*method).to_owned()).ok_or_else(|| Invalid::value("http_method.registered", number))
        }
    }
}

/// Headers to add, headers to set, names to remove, as every modifier message has them.
pub(super) type Changes = (Option<http_types::Headers>, Option<http_types::Headers>, Vec<String>);

pub(super) fn change_to_wire(change: &HeaderChange) -> Changes {
    let headers = |pairs: &[(String, String)]| http_types::Headers {
        headers: pairs
            .iter()
            .map(|(name, value)| http_types::headers::Header { name: name.clone(), value: value.clone().into_bytes() })
            .collect(),
    };
    (Some(headers(&change.add)), Some(headers(&change.set)), change.remove.clone())
}

pub(super) fn change_from_wire((add, set, remove): Changes) -> Result<HeaderChange, Invalid> {
    let pairs = |headers: Option<http_types::Headers>| {
        let headers = headers.unwrap_or_default().headers.into_iter();
        headers
            .map(|header| Ok((header.name, text("headers.value", header.value)?)))
            .collect::<Result<Vec<_>, Invalid>>()
    };
    Ok(HeaderChange { remove, set: pairs(set)?, add: pairs(add)? })
}

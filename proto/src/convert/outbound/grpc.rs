//! gRPC routes of a target. In the model they are HTTP routes whose paths are `/<service>/<method>`; statuses below 100
//! in their retries are gRPC codes, and failures are told by the HTTP status that corresponds to the code.

use linkerd2_proxy_api::{
    grpc_route::{GrpcFailureInjector, GrpcRouteMatch, GrpcRpcMatch},
    http_route::{Ratio, RequestHeaderModifier},
    outbound::{
        self as wire,
        grpc_route::{Filter as WireFilter, Retry, Rule, filter::Kind, retry::Conditions},
    },
};
use mesh_core::model::route::{Filter, HttpRoute, HttpRule, PathMatch, RouteMatch, RouteRetry};

use super::{
    backend::grpc_route as distribution,
    http::{WHOLE, share, shared, timeouts_from_wire, timeouts_to_wire},
};
use crate::convert::{
    Invalid, metadata, optional_duration, required,
    routes::{
        change_from_wire, change_to_wire, header_from_wire, header_to_wire, host_from_wire, host_to_wire, pattern,
    },
    wire_duration,
};

/// gRPC codes with the HTTP status that says the same (google.rpc.Code; every other code is a 500).
const CODES: [(u32, u16); 8] = [(3, 400), (4, 504), (5, 404), (7, 403), (8, 429), (12, 501), (14, 503), (16, 401)];
/// gRPC code of everything else: INTERNAL.
const INTERNAL: u32 = 13;

/// `None` when the route says something that the message cannot.
pub(super) fn to_wire(route: &HttpRoute, control_namespace: &str) -> Option<wire::GrpcRoute> {
    let rule = |rule: &HttpRule| {
        Some(Rule {
            matches: rule.matches.iter().map(match_to_wire).collect::<Option<_>>()?,
            filters: rule.filters.iter().map(filter_to_wire).collect::<Option<_>>()?,
            backends: Some(distribution::to_wire(&rule.backends, control_namespace)),
            timeouts: timeouts_to_wire(rule.timeouts),
            retry: match &rule.retry {
                Some(retry) => Some(retry_to_wire(retry)?),
                None => None,
            },
            allow_l5d_request_headers: false,
            ..Rule::default()
        })
    };
    Some(wire::GrpcRoute {
        metadata: Some(metadata::resource(metadata::ROUTE_GROUP, "GRPCRoute", &route.name)),
        hosts: route.hosts.iter().map(host_to_wire).collect(),
        rules: route.rules.iter().map(rule).collect::<Option<_>>()?,
    })
}

pub(super) fn from_wire(route: wire::GrpcRoute, control_namespace: &str) -> Result<HttpRoute, Invalid> {
    if route.rules.is_empty() {
        return Err(Invalid::Missing { field: "grpc_route.rules" });
    }
    let rule = |rule: Rule| {
        let backends = required("grpc_route.rules.backends", rule.backends)?;
        let (backends, of_backends) = distribution::from_wire(backends, control_namespace)?;
        let filters = rule.filters.into_iter().chain(shared("grpc_route.rules.backends.filters", of_backends)?);
        Ok(HttpRule {
            matches: rule.matches.into_iter().map(match_from_wire).collect::<Result<_, _>>()?,
            filters: filters.map(filter_from_wire).collect::<Result<_, _>>()?,
            backends,
            timeouts: timeouts_from_wire(rule.timeouts)?,
            retry: rule.retry.map(retry_from_wire).transpose()?,
        })
    };
    Ok(HttpRoute {
        name: metadata::name(&required("grpc_route.metadata", route.metadata)?),
        hosts: route.hosts.into_iter().map(host_from_wire).collect::<Result<_, _>>()?,
        rules: route.rules.into_iter().map(rule).collect::<Result<_, Invalid>>()?,
    })
}

fn match_to_wire(condition: &RouteMatch) -> Option<GrpcRouteMatch> {
    let rpc = match &condition.path {
        None => None,
        Some(PathMatch::Exact(path)) => {
            let (service, method) = path.strip_prefix('/')?.split_once('/')?;
            Some((service, method)).filter(|(service, method)| !service.is_empty() && !method.is_empty())
        }
        Some(PathMatch::Prefix(path)) => {
            let service = path.strip_prefix('/')?;
            Some((service, "")).filter(|(service, _)| !service.is_empty() && !service.contains('/'))
        }
        Some(PathMatch::Regex(_)) => return None,
    };
    let lost = (condition.path.is_some() && rpc.is_none()) || condition.method.is_some() || !condition.query.is_empty();
    (!lost).then(|| GrpcRouteMatch {
        rpc: rpc.map(|(service, method)| GrpcRpcMatch { service: service.to_owned(), method: method.to_owned() }),
        headers: condition.headers.iter().map(header_to_wire).collect(),
    })
}

pub(in crate::convert) fn match_from_wire(wire: GrpcRouteMatch) -> Result<RouteMatch, Invalid> {
    let path = match wire.rpc {
        None => None,
        Some(GrpcRpcMatch { service, method }) => match (service.as_str(), method.as_str()) {
            ("", "") => None,
            (service, "") => Some(PathMatch::Prefix(format!("/{service}"))),
            ("", method) if is_method(method) => {
                Some(PathMatch::Regex(pattern("grpc_rpc_match.method", format!("/[^/]+/{method}"))?))
            }
            ("", method) => return Err(Invalid::value("grpc_rpc_match.method", method)),
            (service, method) => Some(PathMatch::Exact(format!("/{service}/{method}"))),
        },
    };
    let headers = wire.headers.into_iter().map(header_from_wire).collect::<Result<_, _>>()?;
    Ok(RouteMatch { path, method: None, headers, query: Vec::new() })
}

/// A name that means itself in a regular expression.
fn is_method(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn filter_to_wire(filter: &Filter) -> Option<WireFilter> {
    let kind = match filter {
        Filter::RequestHeaders(change) => {
            let (add, set, remove) = change_to_wire(change);
            Kind::RequestHeaderModifier(RequestHeaderModifier { add, set, remove })
        }
        Filter::Fail { status, message, share } => {
            let code = CODES.iter().find(|(_, known)| known == status).map_or(INTERNAL, |(code, _)| *code);
            let ratio = Some(Ratio { numerator: *share, denominator: WHOLE });
            Kind::FailureInjector(GrpcFailureInjector { code, message: message.clone(), ratio })
        }
        Filter::ResponseHeaders(_) | Filter::Redirect { .. } => return None,
    };
    Some(WireFilter { kind: Some(kind) })
}

fn filter_from_wire(filter: WireFilter) -> Result<Filter, Invalid> {
    Ok(match required("grpc_route.rules.filters.kind", filter.kind)? {
        Kind::RequestHeaderModifier(wire) => {
            Filter::RequestHeaders(change_from_wire((wire.add, wire.set, wire.remove))?)
        }
        Kind::FailureInjector(wire) => Filter::Fail {
            status: CODES.iter().find(|(code, _)| *code == wire.code).map_or(500, |(_, status)| *status),
            message: wire.message,
            share: share(wire.ratio)?,
        },
    })
}

fn retry_to_wire(retry: &RouteRetry) -> Option<Retry> {
    let mut conditions = Conditions::default();
    for status in &retry.statuses {
        match status {
            (1, 1) => conditions.cancelled = true,
            (4, 4) => conditions.deadine_exceeded = true,
            (8, 8) => conditions.resource_exhausted = true,
            (13, 13) => conditions.internal = true,
            (14, 14) => conditions.unavailable = true,
            _ => return None,
        }
    }
    Some(Retry {
        max_retries: retry.retries,
        max_request_bytes: u32::try_from(retry.body_limit).unwrap_or(u32::MAX),
        conditions: Some(conditions),
        timeout: retry.try_timeout.map(wire_duration),
        backoff: None,
    })
}

fn retry_from_wire(retry: Retry) -> Result<RouteRetry, Invalid> {
    let conditions = required("retry.conditions", retry.conditions)?;
    let codes = [
        (1, conditions.cancelled),
        (4, conditions.deadine_exceeded),
        (8, conditions.resource_exhausted),
        (13, conditions.internal),
        (14, conditions.unavailable),
    ];
    Ok(RouteRetry {
        retries: retry.max_retries,
        body_limit: usize::try_from(retry.max_request_bytes).unwrap_or(usize::MAX),
        statuses: codes.into_iter().filter(|(_, wanted)| *wanted).map(|(code, _)| (code, code)).collect(),
        try_timeout: optional_duration("retry.timeout", retry.timeout)?,
    })
}

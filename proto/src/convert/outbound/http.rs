//! HTTP routes of a target.

use linkerd2_proxy_api::{
    http_route::{
        HttpFailureInjector, PathModifier, Ratio, RequestHeaderModifier, RequestRedirect, ResponseHeaderModifier,
        Timeouts, path_modifier::Replace,
    },
    http_types::{Scheme, scheme},
    outbound::{
        self as wire,
        http_route::{
            Filter as WireFilter, Retry, Rule, filter::Kind, retry::Conditions, retry::conditions::StatusRange,
        },
    },
};
use mesh_core::model::route::{Filter, HttpRoute, HttpRule, RouteRetry, RouteTimeouts};

use super::backend::http_route as distribution;
use crate::convert::{
    Invalid, metadata, optional_duration, required,
    routes::{change_from_wire, change_to_wire, host_from_wire, host_to_wire, match_from_wire, match_to_wire},
    wire_duration,
};

/// Status of a redirect that names none.
const REDIRECT_STATUS: u32 = 301;
/// A share of all requests, in hundredths of a percent.
pub(super) const WHOLE: u32 = 10_000;

pub(super) fn to_wire(route: &HttpRoute, control_namespace: &str) -> wire::HttpRoute {
    let rule = |rule: &HttpRule| Rule {
        matches: rule.matches.iter().map(match_to_wire).collect(),
        filters: rule.filters.iter().map(filter_to_wire).collect(),
        backends: Some(distribution::to_wire(&rule.backends, control_namespace)),
        timeouts: timeouts_to_wire(rule.timeouts),
        retry: rule.retry.as_ref().map(retry_to_wire),
        allow_l5d_request_headers: false,
        ..Rule::default()
    };
    wire::HttpRoute {
        metadata: Some(metadata::resource(metadata::ROUTE_GROUP, "HTTPRoute", &route.name)),
        hosts: route.hosts.iter().map(host_to_wire).collect(),
        rules: route.rules.iter().map(rule).collect(),
    }
}

pub(super) fn from_wire(route: wire::HttpRoute, control_namespace: &str) -> Result<HttpRoute, Invalid> {
    if route.rules.is_empty() {
        return Err(Invalid::Missing { field: "http_route.rules" });
    }
    let rule = |rule: Rule| {
        let backends = required("http_route.rules.backends", rule.backends)?;
        let (backends, of_backends) = distribution::from_wire(backends, control_namespace)?;
        let filters = rule.filters.into_iter().chain(shared("http_route.rules.backends.filters", of_backends)?);
        Ok(HttpRule {
            matches: rule.matches.into_iter().map(match_from_wire).collect::<Result<_, _>>()?,
            filters: filters.map(filter_from_wire).collect::<Result<_, _>>()?,
            backends,
            timeouts: timeouts_from_wire(rule.timeouts)?,
            retry: rule.retry.map(retry_from_wire).transpose()?,
        })
    };
    Ok(HttpRoute {
        name: metadata::name(&required("http_route.metadata", route.metadata)?),
        hosts: route.hosts.into_iter().map(host_from_wire).collect::<Result<_, _>>()?,
        rules: route.rules.into_iter().map(rule).collect::<Result<_, Invalid>>()?,
    })
}

/// Filters of backends, which the model knows for whole rules only.
pub(super) fn shared<F: PartialEq>(field: &'static str, filters: Vec<Vec<F>>) -> Result<Vec<F>, Invalid> {
    let mut filters = filters.into_iter();
    let first = filters.next().unwrap_or_default();
    if filters.all(|other| other == first) {
        Ok(first)
    } else {
        Err(Invalid::Unsupported { field, what: "different filters for the backends of one rule" })
    }
}

pub(super) fn timeouts_to_wire(timeouts: RouteTimeouts) -> Option<Timeouts> {
    (timeouts != RouteTimeouts::default()).then(|| Timeouts {
        response: timeouts.response.map(wire_duration),
        request: timeouts.request.map(wire_duration),
        idle: timeouts.idle.map(wire_duration),
    })
}

pub(super) fn timeouts_from_wire(timeouts: Option<Timeouts>) -> Result<RouteTimeouts, Invalid> {
    let timeouts = timeouts.unwrap_or_default();
    Ok(RouteTimeouts {
        request: optional_duration("timeouts.request", timeouts.request)?,
        response: optional_duration("timeouts.response", timeouts.response)?,
        idle: optional_duration("timeouts.idle", timeouts.idle)?,
    })
}

fn retry_to_wire(retry: &RouteRetry) -> Retry {
    let range = |(start, end): &(u16, u16)| StatusRange { start: u32::from(*start), end: u32::from(*end) };
    Retry {
        max_retries: retry.retries,
        max_request_bytes: u32::try_from(retry.body_limit).unwrap_or(u32::MAX),
        conditions: Some(Conditions { status_ranges: retry.statuses.iter().map(range).collect() }),
        timeout: retry.try_timeout.map(wire_duration),
        backoff: None,
    }
}

fn retry_from_wire(retry: Retry) -> Result<RouteRetry, Invalid> {
    let number = |number: u32| u16::try_from(number).map_err(|_| Invalid::value("retry.conditions", number));
    let conditions = required("retry.conditions", retry.conditions)?;
    let statuses = conditions.status_ranges.iter().map(|range| Ok((number(range.start)?, number(range.end)?)));
    Ok(RouteRetry {
        retries: retry.max_retries,
        body_limit: usize::try_from(retry.max_request_bytes).unwrap_or(usize::MAX),
        statuses: statuses.collect::<Result<_, Invalid>>()?,
        try_timeout: optional_duration("retry.timeout", retry.timeout)?,
    })
}

fn filter_to_wire(filter: &Filter) -> WireFilter {
    let kind = match filter {
        Filter::RequestHeaders(change) => {
            let (add, set, remove) = change_to_wire(change);
            Kind::RequestHeaderModifier(RequestHeaderModifier { add, set, remove })
        }
        Filter::ResponseHeaders(change) => {
            let (add, set, remove) = change_to_wire(change);
            Kind::ResponseHeaderModifier(ResponseHeaderModifier { add, set, remove })
        }
        Filter::Redirect { scheme, host, port, path, status } => Kind::Redirect(RequestRedirect {
            scheme: scheme.as_deref().map(Scheme::from),
            host: host.clone().unwrap_or_default(),
            path: path.clone().map(|path| PathModifier { replace: Some(Replace::Full(path)) }),
            port: port.map_or(0, u32::from),
            status: u32::from(*status),
        }),
        Filter::Fail { status, message, share } => Kind::FailureInjector(HttpFailureInjector {
            status: u32::from(*status),
            message: message.clone(),
            ratio: Some(Ratio { numerator: *share, denominator: WHOLE }),
        }),
    };
    WireFilter { kind: Some(kind) }
}

fn filter_from_wire(filter: WireFilter) -> Result<Filter, Invalid> {
    Ok(match required("http_route.rules.filters.kind", filter.kind)? {
        Kind::RequestHeaderModifier(wire) => {
            Filter::RequestHeaders(change_from_wire((wire.add, wire.set, wire.remove))?)
        }
        Kind::ResponseHeaderModifier(wire) => {
            Filter::ResponseHeaders(change_from_wire((wire.add, wire.set, wire.remove))?)
        }
        Kind::Redirect(wire) => redirect_from_wire(wire)?,
        Kind::FailureInjector(wire) => Filter::Fail {
            status: status("failure_injector.status", wire.status)?,
            message: wire.message,
            share: share(wire.ratio)?,
        },
    })
}

fn redirect_from_wire(wire: RequestRedirect) -> Result<Filter, Invalid> {
    let scheme = match wire.scheme {
        None => None,
        Some(scheme) => Some(match required("redirect.scheme.type", scheme.r#type)? {
            scheme::Type::Unregistered(text) => text,
            scheme::Type::Registered(number) => match scheme::Registered::try_from(number) {
                Ok(scheme::Registered::Http) => "http".to_owned(),
                Ok(scheme::Registered::Https) => "https".to_owned(),
                Err(error) => return Err(Invalid::value("redirect.scheme", error)),
            },
        }),
    };
    let path = match wire.path {
        None => None,
        Some(path) => match required("redirect.path.replace", path.replace)? {
            Replace::Full(path) => Some(path),
            Replace::Prefix(_) => {
                return Err(Invalid::Unsupported { field: "redirect.path.prefix", what: "replacing a prefix" });
            }
        },
    };
    let port = u16::try_from(wire.port).map_err(|_| Invalid::value("redirect.port", wire.port))?;
    Ok(Filter::Redirect {
        scheme,
        host: Some(wire.host).filter(|host| !host.is_empty()),
        port: Some(port).filter(|port| *port != 0),
        path,
        status: status("redirect.status", if wire.status == 0 { REDIRECT_STATUS } else { wire.status })?,
    })
}

fn status(field: &'static str, number: u32) -> Result<u16, Invalid> {
    let status = u16::try_from(number).ok().filter(|status| (200..600).contains(status));
    status.ok_or_else(|| Invalid::value(field, format!("{number}; allowed are 200 to 599")))
}

/// Share in hundredths of a percent; without a ratio, all.
pub(super) fn share(ratio: Option<Ratio>) -> Result<u32, Invalid> {
    let Some(ratio) = ratio else { return Ok(WHOLE) };
    if ratio.denominator == 0 || ratio.numerator > ratio.denominator {
        let reason = format!("{}/{} is not between 0 and 1", ratio.numerator, ratio.denominator);
        return Err(Invalid::value("failure_injector.ratio", reason));
    }
    let share = u64::from(ratio.numerator) * u64::from(WHOLE) / u64::from(ratio.denominator);
    Ok(u32::try_from(share).unwrap_or(WHOLE))
}

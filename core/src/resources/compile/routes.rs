//! How calls to each service are carried: the routes attached to it, or the default route to itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Domains, Findings,
    workloads::{Built, service_key},
};
use crate::{
    model::{
        route::{
            Backend, Distribution, HttpRoute, HttpRule, OutboundPolicy, OutboundProtocol, RouteRetry, RouteTimeouts,
        },
        service::ServiceKey,
    },
    resources::{
        Resource, Spec,
        http_route::{Reference, Route, Rule},
        services::Protocol,
        world::WorldService,
    },
};

/// How long the first bytes of a connection are awaited before it counts as opaque (Linkerd's figure).
pub(super) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest request body that is kept for a repeat, bytes.
const RETRY_BODY_MAX: usize = 64 << 10;

/// Attaches every route to its parents. A port with routes has no default route: what none matches is answered 404.
pub(super) fn apply(resources: &[&Resource], domains: &Domains, built: &mut Built, findings: &mut Findings) {
    let mut attached: BTreeMap<(String, u16), Vec<HttpRoute>> = BTreeMap::new();
    for resource in resources.iter().copied() {
        let (Spec::HttpRoute(route) | Spec::GrpcRoute(route)) = &resource.spec else { continue };
        check_backends(resource, route, built, findings);
        for (index, parent) in route.parents.iter().enumerate() {
            let path = format!("spec.parentRefs[{index}]");
            let Some(service) = find(resource, &path, parent, built, findings) else { continue };
            let ports = service.ports.iter().filter(|(port, _)| parent.port.is_none_or(|wanted| wanted == **port));
            for (port, target) in ports {
                if matches!(target.protocol, Protocol::Opaque | Protocol::Tls) {
                    let message = format!("port {port} of {} carries bytes, which no route can read", parent.service);
                    built.mismatch((resource, &path), &parent.service, message, findings);
                }
                let backend = |reference: &Reference| backend(reference, built, domains, findings.open);
                let rules = rules(route, &target.key, &backend);
                let name = format!("{}/{}", resource.metadata.namespace, resource.metadata.name);
                let route = HttpRoute { name, hosts: Vec::new(), rules };
                attached.entry((parent.service.clone(), *port)).or_default().push(route);
            }
        }
    }
    for ((label, port), mut routes) in attached {
        routes.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some(target) = built.services.get_mut(&label).and_then(|service| service.ports.get_mut(&port)) {
            target.outbound = Arc::new(policy(&target.key, target.protocol, routes));
        }
    }
}

/// Path of the service that a backend of a route names.
type BackendOf<'b> = &'b dyn Fn(&Reference) -> Option<ServiceKey>;

/// The service that a route names; a problem where it or its port is not there.
fn find<'w>(
    resource: &Resource,
    path: &str,
    reference: &Reference,
    built: &'w Built,
    findings: &mut Findings,
) -> Option<&'w WorldService> {
    let Some(service) = built.services.get(&reference.service) else {
        findings.missing(resource, &format!("{path}.name"), &reference.service);
        return None;
    };
    if let Some(port) = reference.port.filter(|port| !service.ports.contains_key(port)) {
        let known: Vec<String> = service.ports.keys().map(u16::to_string).collect();
        let message = format!("service {} has no port {port}; it has {}", reference.service, known.join(", "));
        built.mismatch((resource, &format!("{path}.port")), &reference.service, message, findings);
    }
    Some(service)
}

fn check_backends(resource: &Resource, route: &Route, built: &Built, findings: &mut Findings) {
    for (rule, content) in route.rules.iter().enumerate() {
        for (index, (backend, _)) in content.backends.iter().flatten().enumerate() {
            let path = format!("spec.rules[{rule}].backendRefs[{index}]");
            find(resource, &path, backend, built, findings);
        }
    }
}

/// Path of the service that a backend names, if there is such a service and port, or may be.
fn backend(reference: &Reference, built: &Built, domains: &Domains, open: bool) -> Option<ServiceKey> {
    let number = reference.port?;
    match built.services.get(&reference.service) {
        Some(service) => service.ports.get(&number).map(|port| port.key.clone()),
        None => open.then(|| service_key(&reference.service, number, domains)),
    }
}

fn rules(route: &Route, parent: &ServiceKey, backend: BackendOf<'_>) -> Vec<HttpRule> {
    let rule = |rule: &Rule| HttpRule {
        matches: rule.matches.clone(),
        filters: rule.filters.clone(),
        backends: match &rule.backends {
            None => itself(parent),
            Some(backends) => distribution(backends, backend),
        },
        timeouts: RouteTimeouts {
            request: rule.request_timeout,
            response: rule.backend_timeout.filter(|_| rule.retry.is_none()),
            idle: None,
        },
        retry: rule.retry.as_ref().map(|retry| RouteRetry {
            retries: retry.attempts,
            body_limit: RETRY_BODY_MAX,
            statuses: retry.codes.iter().map(|code| (*code, *code)).collect(),
            try_timeout: rule.backend_timeout,
        }),
    };
    route.rules.iter().map(rule).collect()
}

fn distribution(backends: &[(Reference, u32)], backend: BackendOf<'_>) -> Distribution {
    let key = |reference: &Reference| backend(reference).map(Backend::Service);
    let weighted = backends.iter().filter(|(_, weight)| *weight > 0);
    let weighted: Vec<_> = weighted.filter_map(|(reference, weight)| Some((key(reference)?, *weight))).collect();
    if weighted.is_empty() { Distribution::Empty } else { Distribution::Weighted(weighted) }
}

/// Everything to the service itself.
pub(super) fn default_policy(key: &ServiceKey, protocol: Protocol) -> OutboundPolicy {
    policy(key, protocol, vec![default_route(key)])
}

/// These routes, in the protocol of the port.
pub(super) fn policy(key: &ServiceKey, protocol: Protocol, routes: Vec<HttpRoute>) -> OutboundPolicy {
    let protocol = match protocol {
        Protocol::Detect => OutboundProtocol::Detect {
            timeout: DETECT_TIMEOUT,
            opaque: itself(key),
            http1: routes.clone(),
            http2: routes,
        },
        Protocol::Http1 => OutboundProtocol::Http1(routes),
        Protocol::Http2 => OutboundProtocol::Http2(routes),
        Protocol::Grpc => OutboundProtocol::Grpc(routes),
        Protocol::Opaque => OutboundProtocol::Opaque(itself(key)),
        Protocol::Tls => OutboundProtocol::Tls(itself(key)),
    };
    OutboundPolicy { protocol }
}

fn itself(key: &ServiceKey) -> Distribution {
    Distribution::FirstAvailable(vec![Backend::Service(key.clone())])
}

fn default_route(key: &ServiceKey) -> HttpRoute {
    let rule = HttpRule {
        matches: Vec::new(),
        filters: Vec::new(),
        backends: itself(key),
        timeouts: RouteTimeouts::default(),
        retry: None,
    };
    HttpRoute { name: "default".to_owned(), hosts: Vec::new(), rules: vec![rule] }
}

//! How calls to each service are carried: the routes attached to it, or the default route to itself.

use std::time::Duration;

use crate::{
    model::{
        route::{Backend, Distribution, HttpRoute, HttpRule, OutboundPolicy, OutboundProtocol, RouteTimeouts},
        service::ServiceKey,
    },
    resources::services::Protocol,
};

/// How long the first bytes of a connection are awaited before it counts as opaque (Linkerd's figure).
pub(super) const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

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

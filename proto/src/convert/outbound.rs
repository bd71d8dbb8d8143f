//! How calls to a target are carried: `outbound.OutboundPolicy` ↔ [`OutboundPolicy`].

mod backend;
pub(super) mod grpc;
mod http;

use std::time::Duration;

use linkerd2_proxy_api::{
    meta::Metadata,
    outbound::{
        self as wire,
        proxy_protocol::{self, Kind},
    },
};
use mesh_core::model::route::{Distribution, HttpRoute, OutboundPolicy, OutboundProtocol};

use super::{Invalid, duration, metadata, required, wire_duration};

/// Requests that wait for a backend in a stock proxy before it pushes back; ours has limits of its own.
const QUEUE_CAPACITY: u32 = 100;
/// How long requests of a stock proxy wait for a backend that has no usable instance.
const FAILFAST: Duration = Duration::from_secs(3);

/// The message. `parent` says what the policy is for, see [`metadata::service`].
pub fn to_wire(policy: &OutboundPolicy, parent: Metadata, control_namespace: &str) -> wire::OutboundPolicy {
    let http = |routes: &[HttpRoute]| routes.iter().map(|route| http::to_wire(route, control_namespace)).collect();
    let http1 = |routes: &[HttpRoute]| proxy_protocol::Http1 { routes: http(routes), failure_accrual: None };
    let http2 = |routes: &[HttpRoute]| proxy_protocol::Http2 { routes: http(routes), failure_accrual: None };
    let opaque = |backends: &Distribution| proxy_protocol::Opaque {
        routes: vec![wire::OpaqueRoute {
            metadata: Some(metadata::implicit(metadata::DEFAULT)),
            rules: vec![wire::opaque_route::Rule {
                backends: Some(backend::opaque_route::to_wire(backends, control_namespace)),
                filters: Vec::new(),
            }],
        }],
    };
    let kind = match &policy.protocol {
        OutboundProtocol::Detect { timeout, opaque: bytes, http1: one, http2: two } => {
            Kind::Detect(proxy_protocol::Detect {
                timeout: Some(wire_duration(*timeout)),
                opaque: Some(opaque(bytes)),
                http1: Some(http1(one)),
                http2: Some(http2(two)),
            })
        }
        OutboundProtocol::Opaque(backends) => Kind::Opaque(opaque(backends)),
        OutboundProtocol::Tls(backends) => Kind::Tls(proxy_protocol::Tls {
            routes: vec![wire::TlsRoute {
                metadata: Some(metadata::implicit(metadata::DEFAULT)),
                snis: Vec::new(),
                rules: vec![wire::tls_route::Rule {
                    backends: Some(backend::tls_route::to_wire(backends, control_namespace)),
                    filters: Vec::new(),
                }],
            }],
        }),
        OutboundProtocol::Http1(routes) => Kind::Http1(http1(routes)),
        OutboundProtocol::Http2(routes) => Kind::Http2(http2(routes)),
        // What gRPC routes of the API cannot say is said as HTTP/2.
        OutboundProtocol::Grpc(routes) => {
            match routes.iter().map(|route| grpc::to_wire(route, control_namespace)).collect() {
                Some(routes) => Kind::Grpc(proxy_protocol::Grpc { routes, failure_accrual: None }),
                None => Kind::Http2(http2(routes)),
            }
        }
    };
    wire::OutboundPolicy { protocol: Some(wire::ProxyProtocol { kind: Some(kind) }), metadata: Some(parent) }
}

/// Reads the message. `control_namespace` is that of the trust domain's Linkerd-style names.
///
/// # Errors
/// Names the field; nothing of the policy is then used.
pub fn from_wire(message: wire::OutboundPolicy, control_namespace: &str) -> Result<OutboundPolicy, Invalid> {
    required("outbound_policy.metadata", message.metadata)?;
    let kind = required("outbound_policy.protocol", message.protocol.and_then(|protocol| protocol.kind))?;
    let http = |routes: Vec<wire::HttpRoute>| -> Result<Vec<HttpRoute>, Invalid> {
        routes.into_iter().map(|route| http::from_wire(route, control_namespace)).collect()
    };
    let protocol = match kind {
        Kind::Detect(detect) => OutboundProtocol::Detect {
            timeout: duration("detect.timeout", required("detect.timeout", detect.timeout)?)?,
            opaque: opaque(required("detect.opaque", detect.opaque)?, control_namespace)?,
            http1: http(required("detect.http1", detect.http1)?.routes)?,
            http2: http(required("detect.http2", detect.http2)?.routes)?,
        },
        Kind::Opaque(bytes) => OutboundProtocol::Opaque(opaque(bytes, control_namespace)?),
        Kind::Tls(proxy_protocol::Tls { routes }) => {
            let rule = one_rule("tls.routes", routes.into_iter().map(|route| (route.metadata, route.rules)))?;
            let backends = required("tls_route.rules.backends", rule.backends)?;
            let (backends, filters) = backend::tls_route::from_wire(backends, control_namespace)?;
            OutboundProtocol::Tls(unless_forbidden(backends, rule.filters, filters))
        }
        Kind::Http1(http1) => OutboundProtocol::Http1(http(http1.routes)?),
        Kind::Http2(http2) => OutboundProtocol::Http2(http(http2.routes)?),
        Kind::Grpc(grpc) => {
            let routes = grpc.routes.into_iter().map(|route| grpc::from_wire(route, control_namespace));
            OutboundProtocol::Grpc(routes.collect::<Result<_, _>>()?)
        }
    };
    Ok(OutboundPolicy { protocol })
}

fn opaque(opaque: proxy_protocol::Opaque, control_namespace: &str) -> Result<Distribution, Invalid> {
    let rule = one_rule("opaque.routes", opaque.routes.into_iter().map(|route| (route.metadata, route.rules)))?;
    let backends = required("opaque_route.rules.backends", rule.backends)?;
    let (backends, filters) = backend::opaque_route::from_wire(backends, control_namespace)?;
    Ok(unless_forbidden(backends, rule.filters, filters))
}

/// The filters of byte streams all say "not allowed".
fn unless_forbidden<F>(backends: Distribution, rule: Vec<F>, backend: Vec<Vec<F>>) -> Distribution {
    let forbidden = !rule.is_empty() || backend.iter().any(|filters| !filters.is_empty());
    if forbidden { Distribution::Empty } else { backends }
}

/// Byte streams have exactly one route with exactly one rule.
fn one_rule<R>(
    field: &'static str,
    mut routes: impl Iterator<Item = (Option<Metadata>, Vec<R>)>,
) -> Result<R, Invalid> {
    let (Some((metadata, rules)), None) = (routes.next(), routes.next()) else {
        return Err(Invalid::value(field, "there must be exactly one route"));
    };
    required(field, metadata)?;
    let mut rules = rules.into_iter();
    match (rules.next(), rules.next()) {
        (Some(rule), None) => Ok(rule),
        _ => Err(Invalid::value(field, "there must be exactly one rule")),
    }
}

#[cfg(test)]
mod tests;

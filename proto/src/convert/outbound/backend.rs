//! Backends and their distributions. The API has one distribution message per kind of route, alike but for the filters;
//! each becomes a module here.

use std::sync::Arc;

use linkerd2_proxy_api::outbound::{
    self as wire,
    backend::{
        BalanceP2c, EndpointDiscovery, Kind,
        balance_p2c::{Load, PeakEwma},
        endpoint_discovery::{self, DestinationGet},
    },
};
use mesh_core::{
    model::{
        route::{Backend, Distribution},
        service::ServiceKey,
    },
    pick,
};

use super::{FAILFAST, QUEUE_CAPACITY};
use crate::convert::{Invalid, duration, endpoint, metadata, required, wire_duration};

/// Longest path of a service that is read, bytes: a host name and a port.
const PATH_MAX: usize = 253 + 6;

fn to_wire(backend: &Backend, control_namespace: &str) -> wire::Backend {
    let (metadata, kind) = match backend {
        Backend::Forward(endpoint) => {
            (metadata::implicit("forward"), Kind::Forward(endpoint::to_wire(endpoint, control_namespace)))
        }
        Backend::Service(key) => (
            metadata::service(key),
            Kind::Balancer(BalanceP2c {
                discovery: Some(EndpointDiscovery {
                    kind: Some(endpoint_discovery::Kind::Dst(DestinationGet { path: key.as_str().to_owned() })),
                }),
                load: Some(Load::PeakEwma(PeakEwma {
                    default_rtt: Some(wire_duration(pick::DEFAULT_ROUND_TRIP)),
                    decay: Some(wire_duration(pick::DECAY)),
                })),
            }),
        ),
    };
    wire::Backend {
        metadata: Some(metadata),
        queue: Some(wire::Queue { capacity: QUEUE_CAPACITY, failfast_timeout: Some(wire_duration(FAILFAST)) }),
        kind: Some(kind),
    }
}

fn from_wire(backend: wire::Backend, control_namespace: &str) -> Result<Backend, Invalid> {
    required("backend.metadata", backend.metadata)?;
    let queue = required("backend.queue", backend.queue)?;
    if queue.capacity == 0 {
        return Err(Invalid::Missing { field: "backend.queue.capacity" });
    }
    let failfast = required("backend.queue.failfast_timeout", queue.failfast_timeout)?;
    duration("backend.queue.failfast_timeout", failfast)?;
    match required("backend.kind", backend.kind)? {
        Kind::Forward(wire) => Ok(Backend::Forward(Arc::new(endpoint::from_wire(wire, control_namespace)?))),
        Kind::Balancer(balancer) => {
            required("backend.balancer.load", balancer.load)?;
            let discovery = balancer.discovery.and_then(|discovery| discovery.kind);
            let endpoint_discovery::Kind::Dst(DestinationGet { path }) =
                required("backend.balancer.discovery.dst", discovery)?;
            if path.is_empty() || path.len() > PATH_MAX {
                let reason = format!("{} bytes; allowed are 1 to {PATH_MAX}", path.len());
                return Err(Invalid::value("backend.balancer.discovery.dst.path", reason));
            }
            Ok(Backend::Service(ServiceKey(path.into())))
        }
    }
}

macro_rules! distribution {
    ($route:ident) => {
        pub(super) mod $route {
            use linkerd2_proxy_api::outbound::$route::{
                Distribution as Wire, Filter, RouteBackend, WeightedRouteBackend,
                distribution::{Empty, FirstAvailable, Kind, RandomAvailable},
            };
            use mesh_core::model::route::{Backend, Distribution};

            use crate::convert::{Invalid, required};

            pub(in crate::convert::outbound) fn to_wire(distribution: &Distribution, control_namespace: &str) -> Wire {
                let backend = |backend: &Backend| RouteBackend {
                    backend: Some(super::to_wire(backend, control_namespace)),
                    ..RouteBackend::default()
                };
                let kind = match distribution {
                    Distribution::Empty => Kind::Empty(Empty {}),
                    Distribution::FirstAvailable(all) if all.is_empty() => Kind::Empty(Empty {}),
                    Distribution::FirstAvailable(all) => {
                        Kind::FirstAvailable(FirstAvailable { backends: all.iter().map(backend).collect() })
                    }
                    Distribution::Weighted(all) if super::weightless(all) => Kind::Empty(Empty {}),
                    Distribution::Weighted(all) => Kind::RandomAvailable(RandomAvailable {
                        backends: all
                            .iter()
                            .map(|(one, weight)| WeightedRouteBackend { backend: Some(backend(one)), weight: *weight })
                            .collect(),
                    }),
                };
                Wire { kind: Some(kind) }
            }

            /// The distribution, and the filters of each backend.
            pub(in crate::convert::outbound) fn from_wire(
                wire: Wire,
                control_namespace: &str,
            ) -> Result<(Distribution, Vec<Vec<Filter>>), Invalid> {
                let mut filters = Vec::new();
                let mut read = |route: RouteBackend| {
                    filters.push(route.filters);
                    super::from_wire(required("route_backend.backend", route.backend)?, control_namespace)
                };
                let distribution = match required("distribution.kind", wire.kind)? {
                    Kind::Empty(_) => Distribution::Empty,
                    Kind::FirstAvailable(FirstAvailable { backends }) => Distribution::FirstAvailable(
                        backends.into_iter().map(&mut read).collect::<Result<_, Invalid>>()?,
                    ),
                    Kind::RandomAvailable(RandomAvailable { backends }) => {
                        let mut weighted = Vec::with_capacity(backends.len());
                        for one in backends {
                            let route = required("weighted_route_backend.backend", one.backend)?;
                            weighted.push((read(route)?, one.weight));
                        }
                        Distribution::Weighted(weighted)
                    }
                };
                Ok((super::normal(distribution), filters))
            }
        }
    };
}

/// No backend could ever be drawn: stock proxies refuse such a message.
fn weightless(backends: &[(Backend, u32)]) -> bool {
    backends.iter().all(|(_, weight)| *weight == 0)
}

fn normal(distribution: Distribution) -> Distribution {
    match distribution {
        Distribution::FirstAvailable(all) if all.is_empty() => Distribution::Empty,
        Distribution::Weighted(all) if weightless(&all) => Distribution::Empty,
        Distribution::Empty | Distribution::FirstAvailable(_) | Distribution::Weighted(_) => distribution,
    }
}

distribution!(http_route);
distribution!(grpc_route);
distribution!(opaque_route);
distribution!(tls_route);

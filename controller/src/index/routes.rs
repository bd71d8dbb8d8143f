//! How calls to a target are carried.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mesh_core::{
    model::{
        endpoint::Endpoint,
        route::{Backend, Distribution, HttpRoute, HttpRule, OutboundPolicy, OutboundProtocol, RouteTimeouts, Target},
        service::ServiceKey,
    },
    resources::services::{AddressCalls, Protocol},
};

use super::{Key, View};

/// How long a proxy waits for the first bytes of a connection to a single instance before it counts as opaque.
const DETECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Policy of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// How calls are carried.
    pub policy: Arc<OutboundPolicy>,
    /// The service and port that the target is or belongs to.
    pub service: ServiceKey,
}

impl View {
    /// Policy of a target, as the caller's namespace sees it: of a service, or pinned to one instance.
    pub fn outbound(&self, target: &Target, caller_namespace: &str) -> Option<Found> {
        match target {
            Target::Authority(host, port) => {
                let candidates = self.candidates(host, caller_namespace);
                let service = candidates.iter().find_map(|label| self.service(label))?;
                let port = service.port(*port)?;
                Some(Found { policy: Arc::clone(&port.outbound), service: port.key.clone() })
            }
            Target::Address(address) => match self.service_at(*address) {
                Some((_, port)) => Some(Found { policy: Arc::clone(&port.outbound), service: port.key.clone() }),
                None => self.of_instance(*address),
            },
        }
    }

    /// Policy of the address of an instance.
    fn of_instance(&self, address: SocketAddr) -> Option<Found> {
        let (service, port, endpoint) = self.instance(address)?;
        let policy = match service.address_calls {
            AddressCalls::Pinned => Arc::new(forward(endpoint, port.protocol)),
            AddressCalls::Service => Arc::clone(&port.outbound),
        };
        Some(Found { policy, service: port.key.clone() })
    }

    /// What to watch in order to know when the answer of [`View::outbound`] may change.
    pub fn outbound_keys(&self, target: &Target, caller_namespace: &str) -> Vec<Key> {
        match target {
            Target::Authority(host, _) => {
                self.candidates(host, caller_namespace).into_iter().map(Key::Service).collect()
            }
            Target::Address(address) => vec![Key::Address(*address)],
        }
    }
}

/// Everything to one instance.
fn forward(endpoint: &Arc<Endpoint>, protocol: Protocol) -> OutboundPolicy {
    let backends = || Distribution::FirstAvailable(vec![Backend::Forward(Arc::clone(endpoint))]);
    let routes = || {
        vec![HttpRoute {
            name: "default".to_owned(),
            hosts: Vec::new(),
            rules: vec![HttpRule {
                matches: Vec::new(),
                filters: Vec::new(),
                backends: backends(),
                timeouts: RouteTimeouts::default(),
                retry: None,
            }],
        }]
    };
    let protocol = match protocol {
        Protocol::Detect => {
            OutboundProtocol::Detect { timeout: DETECT_TIMEOUT, opaque: backends(), http1: routes(), http2: routes() }
        }
        Protocol::Http1 => OutboundProtocol::Http1(routes()),
        Protocol::Http2 => OutboundProtocol::Http2(routes()),
        Protocol::Grpc => OutboundProtocol::Grpc(routes()),
        Protocol::Opaque => OutboundProtocol::Opaque(backends()),
        Protocol::Tls => OutboundProtocol::Tls(backends()),
    };
    OutboundPolicy { protocol }
}

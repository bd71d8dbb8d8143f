//! Instances: `Destination.Get` updates and `WeightedAddr` ↔ [`Endpoint`].

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use linkerd2_proxy_api::{
    destination::{
        self, AddrSet, NoEndpoints, Update, WeightedAddr, WeightedAddrSet,
        protocol_hint::{self, OpaqueTransport},
        tls_identity::{DnsLikeIdentity, Strategy},
        update,
    },
    net::TcpAddress,
};
use mesh_core::{
    identity::Identity,
    model::{
        endpoint::{Endpoint, ProtocolHint},
        lane::LaneRef,
        service::ServiceKey,
    },
    names::labels,
};

use super::{Invalid, required};

/// One update of a service's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These are new, or replace what was known at their address. The first update of a stream is the whole set.
    Add(Vec<Arc<Endpoint>>),
    /// Instances at these addresses are gone.
    Remove(Vec<SocketAddr>),
    /// There is no instance; `exists: false` = no such service.
    Empty {
        /// Whether the service exists.
        exists: bool,
    },
}

impl Change {
    /// Reads an update. `control_namespace` is that of the trust domain's Linkerd-style names.
    ///
    /// # Errors
    /// Names the field; nothing of the update is then used.
    pub fn from_wire(update: Update, control_namespace: &str) -> Result<Self, Invalid> {
        match required("update.update", update.update)? {
            update::Update::Add(WeightedAddrSet { addrs, metric_labels: _ }) => {
                let read = |wire| from_wire(wire, control_namespace).map(Arc::new);
                addrs.into_iter().map(read).collect::<Result<_, _>>().map(Change::Add)
            }
            update::Update::Remove(AddrSet { addrs }) => {
                let read = |wire| address("update.remove.addrs", wire);
                addrs.into_iter().map(read).collect::<Result<_, _>>().map(Change::Remove)
            }
            update::Update::NoEndpoints(NoEndpoints { exists }) => Ok(Change::Empty { exists }),
        }
    }

    /// The message; `service` labels the set.
    pub fn to_wire(&self, service: &ServiceKey, control_namespace: &str) -> Update {
        let update = match self {
            Change::Add(endpoints) => update::Update::Add(WeightedAddrSet {
                addrs: endpoints.iter().map(|endpoint| to_wire(endpoint, control_namespace)).collect(),
                metric_labels: HashMap::from([(labels::SERVICE.to_owned(), service.label().to_owned())]),
            }),
            Change::Remove(addresses) => {
                update::Update::Remove(AddrSet { addrs: addresses.iter().copied().map(TcpAddress::from).collect() })
            }
            Change::Empty { exists } => update::Update::NoEndpoints(NoEndpoints { exists: *exists }),
        };
        Update { update: Some(update) }
    }
}

/// Address out of a message.
///
/// # Errors
/// Names `field` when the address is missing or its port is no port.
pub fn address(field: &'static str, wire: TcpAddress) -> Result<SocketAddr, Invalid> {
    let port = u16::try_from(wire.port).map_err(|_| Invalid::value(field, format!("port {}", wire.port)))?;
    let ip = required(field, wire.ip)?;
    let ip = std::net::IpAddr::try_from(ip).map_err(|error| Invalid::value(field, error))?;
    Ok(SocketAddr::new(ip, port))
}

/// The message for one instance. Labels of the endpoint stay at home: proxies choose by the lanes made from them, and
/// a stock proxy would turn each into a label of its metrics.
pub fn to_wire(endpoint: &Endpoint, control_namespace: &str) -> WeightedAddr {
    WeightedAddr {
        addr: Some(endpoint.address.into()),
        weight: endpoint.weight,
        metric_labels: metric_labels(endpoint),
        tls_identity: endpoint.identity.as_ref().map(|identity| {
            let name = identity.dns_name(control_namespace);
            let server_name = endpoint.server_name.clone().unwrap_or_else(|| name.clone());
            destination::TlsIdentity {
                strategy: Some(Strategy::DnsLikeIdentity(DnsLikeIdentity { name })),
                server_name: Some(DnsLikeIdentity { name: server_name }),
            }
        }),
        protocol_hint: protocol_hint(endpoint),
        authority_override: None,
        http2: None,
        resource_ref: None,
    }
}

fn metric_labels(endpoint: &Endpoint) -> HashMap<String, String> {
    let mut written = HashMap::new();
    if !endpoint.lanes.is_empty() {
        let lanes: Vec<String> = endpoint.lanes.iter().map(ToString::to_string).collect();
        written.insert(labels::LANE.to_owned(), lanes.join(","));
    }
    if let Some(zone) = &endpoint.zone {
        written.insert(labels::ZONE.to_owned(), zone.clone());
    }
    if let Some(since) = endpoint.ready_since {
        written.insert(labels::READY_SINCE.to_owned(), since.to_string());
    }
    if endpoint.draining {
        written.insert(labels::DRAINING.to_owned(), "true".to_owned());
    }
    if !endpoint.healthy {
        written.insert(labels::HEALTHY.to_owned(), "false".to_owned());
    }
    written
}

fn protocol_hint(endpoint: &Endpoint) -> Option<destination::ProtocolHint> {
    let opaque_transport = endpoint.inbound_port.map(|port| OpaqueTransport { inbound_port: u32::from(port) });
    let protocol = match endpoint.hint {
        ProtocolHint::Unknown => None,
        ProtocolHint::Http2 => Some(protocol_hint::Protocol::H2(protocol_hint::H2 {})),
        ProtocolHint::Opaque => Some(protocol_hint::Protocol::Opaque(protocol_hint::Opaque {})),
    };
    (opaque_transport.is_some() || protocol.is_some())
        .then_some(destination::ProtocolHint { opaque_transport, protocol })
}

/// Reads one instance. `control_namespace` is that of the trust domain's Linkerd-style names.
///
/// # Errors
/// Names the field.
pub fn from_wire(wire: WeightedAddr, control_namespace: &str) -> Result<Endpoint, Invalid> {
    let address = address("weighted_addr.addr", required("weighted_addr.addr", wire.addr)?)?;
    let (identity, server_name) = match wire.tls_identity {
        Some(tls) => tls_identity(tls, control_namespace)?,
        None => (None, None),
    };
    let hint = wire.protocol_hint.unwrap_or_default();
    let inbound_port = match hint.opaque_transport {
        Some(OpaqueTransport { inbound_port }) => {
            Some(port("protocol_hint.opaque_transport.inbound_port", inbound_port)?)
        }
        None => None,
    };
    let mut labels: BTreeMap<String, String> = wire.metric_labels.into_iter().collect();
    labels.remove(labels::REVISION);
    Ok(Endpoint {
        address,
        weight: wire.weight,
        identity,
        server_name,
        inbound_port,
        hint: match hint.protocol {
            None => ProtocolHint::Unknown,
            Some(protocol_hint::Protocol::H2(_)) => ProtocolHint::Http2,
            Some(protocol_hint::Protocol::Opaque(_)) => ProtocolHint::Opaque,
        },
        lanes: lanes(&labels.remove(labels::LANE).unwrap_or_default())?,
        zone: labels.remove(labels::ZONE),
        ready_since: labels.remove(labels::READY_SINCE).map(|text| seconds(&text)).transpose()?,
        draining: labels.remove(labels::DRAINING).is_some_and(|text| text == "true"),
        healthy: labels.remove(labels::HEALTHY).is_none_or(|text| text != "false"),
        labels,
    })
}

fn port(field: &'static str, number: u32) -> Result<u16, Invalid> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| Invalid::value(field, format!("{number} is no port")))
}

fn lanes(text: &str) -> Result<Vec<LaneRef>, Invalid> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|error| Invalid::value("metric_labels.lane", error))).collect()
}

fn seconds(text: &str) -> Result<u64, Invalid> {
    text.parse().map_err(|error| Invalid::value("metric_labels.ready_since", error))
}

fn tls_identity(
    tls: destination::TlsIdentity,
    control_namespace: &str,
) -> Result<(Option<Identity>, Option<String>), Invalid> {
    let server_name = tls.server_name.map(|name| name.name).filter(|name| !name.is_empty());
    let (identity, server_name) = match required("tls_identity.strategy", tls.strategy)? {
        Strategy::DnsLikeIdentity(DnsLikeIdentity { name }) => {
            let identity = Identity::parse_dns_name(&name);
            (identity, server_name.unwrap_or(name))
        }
        Strategy::UriLikeIdentity(wire) => {
            (Identity::parse_spiffe(&wire.uri), required("tls_identity.server_name", server_name)?)
        }
    };
    let identity = identity.map_err(|error| Invalid::value("tls_identity.strategy", error))?;
    let own = identity.dns_name(control_namespace);
    Ok((Some(identity), Some(server_name).filter(|name| *name != own)))
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::*;
    use crate::convert::samples;

    proptest! {
        #[test]
        fn an_endpoint_reads_back_as_it_was(endpoint in samples::endpoint()) {
            prop_assert_eq!(from_wire(to_wire(&endpoint, "lanemesh"), "lanemesh"), Ok(endpoint));
        }
    }

    #[test]
    fn a_linkerd_endpoint_with_a_uri_identity_keeps_its_server_name() {
        let wire = WeightedAddr {
            addr: Some("10.0.0.1:80".parse::<SocketAddr>().unwrap().into()),
            tls_identity: Some(destination::TlsIdentity {
                strategy: Some(Strategy::UriLikeIdentity(destination::tls_identity::UriLikeIdentity {
                    uri: "spiffe://d.example/ns/n/sa/s".to_owned(),
                })),
                server_name: Some(DnsLikeIdentity { name: "x.example".to_owned() }),
            }),
            ..WeightedAddr::default()
        };
        let endpoint = from_wire(wire, "linkerd").unwrap();
        assert_eq!(endpoint.server_name.as_deref(), Some("x.example"));
        assert_eq!(endpoint.identity.unwrap().to_string(), "spiffe://d.example/ns/n/sa/s");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let ok = || WeightedAddr {
            addr: Some("10.0.0.1:80".parse::<SocketAddr>().unwrap().into()),
            ..WeightedAddr::default()
        };
        let labelled = |key: &str, value: &str| WeightedAddr {
            metric_labels: HashMap::from([(key.to_owned(), value.to_owned())]),
            ..ok()
        };
        let hint = destination::ProtocolHint {
            protocol: None,
            opaque_transport: Some(OpaqueTransport { inbound_port: 70_000 }),
        };
        let cases = [
            (WeightedAddr { addr: None, ..ok() }, "weighted_addr.addr is missing"),
            (WeightedAddr { addr: Some(TcpAddress { ip: None, port: 1 }), ..ok() }, "weighted_addr.addr is missing"),
            (WeightedAddr { tls_identity: Some(destination::TlsIdentity::default()), ..ok() }, "strategy is missing"),
            (WeightedAddr { protocol_hint: Some(hint), ..ok() }, "inbound_port: 70000 is no port"),
            (labelled("lane", "no-group"), "metric_labels.lane"),
            (labelled("ready_since", "yesterday"), "metric_labels.ready_since"),
        ];
        for (wire, expected) in cases {
            let error = from_wire(wire, "lanemesh").unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
    }
}

//! Kind `Services`: the service list of the file source.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::node::{Node, Object};
use crate::{model::endpoint::WEIGHT_ONE, names};

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Addresses that mean the service as a whole, not one instance: where its name leads callers that are captured.
    pub addresses: Vec<IpAddr>,
    /// Ports that callers write; at least one.
    pub ports: Vec<Port>,
    /// Instances.
    pub endpoints: Vec<Endpoint>,
    /// What a call to the address of an instance is.
    pub address_calls: AddressCalls,
    /// Port that a call to any other port means; `None` = such a call means nothing.
    pub any_port: Option<u16>,
}

/// What a call to the address of a known instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressCalls {
    /// A call to that instance, by the rules of its service.
    #[default]
    Pinned,
    /// A call to its service: the proxy picks among the instances.
    Service,
}

/// A port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Number.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// What is spoken on a port of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Found out from the first bytes.
    #[default]
    Detect,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Bytes.
    Opaque,
    /// The application's own TLS.
    Tls,
}

/// Every protocol by the word for it.
pub(super) const PROTOCOLS: &[(&str, Protocol)] = &[
    ("detect", Protocol::Detect),
    ("http1", Protocol::Http1),
    ("http2", Protocol::Http2),
    ("grpc", Protocol::Grpc),
    ("opaque", Protocol::Opaque),
    ("tls", Protocol::Tls),
];

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Address of the application.
    pub address: SocketAddr,
    /// Port of the service that it serves.
    pub port: u16,
    /// 10,000 = 1.0.
    pub weight: u32,
    /// Failure domain.
    pub zone: Option<String>,
    /// What lane selectors and lane keys look at.
    pub labels: BTreeMap<String, String>,
    /// Name by which its sidecar calls itself; the address unless written.
    pub pod: String,
    /// Who answers; `None` = no sidecar.
    pub identity: Option<Account>,
    /// Inbound port of its sidecar.
    pub inbound_port: u16,
    /// Takes traffic.
    pub enabled: bool,
    /// Takes no new exchanges.
    pub draining: bool,
    /// Unix seconds since when it is ready.
    pub ready_since: Option<u64>,
    /// What its registry says of its health, as far as that is believed.
    pub health: Health,
}

/// What is believed of an instance's health by the word of its registry. Callers' own checks come on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Takes traffic.
    #[default]
    Healthy,
    /// Takes traffic only where nobody else is left.
    Unhealthy,
    /// Takes traffic; the registry's word is worth nothing now, callers have to check by themselves.
    Unknown,
}

/// Service account of an instance; the trust domain is the mesh's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub service_account: String,
}

/// Largest weight that may be written.
const WEIGHT_MAX: f64 = 10_000.0;
/// Latest moment since which an instance may be ready, Unix seconds: milliseconds of our days are beyond it.
const READY_SINCE_MAX: u64 = 100_000_000_000;

/// Reads the list of a document of kind `Services`.
pub(super) fn read(document: &Object<'_>) -> Vec<Service> {
    let list = document.required("services").map(|node| node.list()).unwrap_or_default();
    list.into_iter().filter_map(|node| service(&node)).collect()
}

fn service(node: &Node<'_>) -> Option<Service> {
    let object = node.object(&["name", "namespace", "addresses", "ports", "endpoints"])?;
    let name = object.required("name").and_then(|node| node.dns_label()).unwrap_or_default();
    let namespace = object.get("namespace").and_then(|node| node.dns_label());
    let namespace = namespace.unwrap_or_else(|| names::DEFAULT_NAMESPACE.to_owned());
    let ports: Vec<Port> = object.required_list("ports").iter().filter_map(port).collect();
    for (index, port) in ports.iter().enumerate() {
        if ports[..index].iter().any(|other| other.port == port.port) {
            object.problem("ports", format!("port {} is there twice", port.port));
        }
    }
    let addresses = object.list("addresses").iter().filter_map(|node| node.parsed("an IP address")).collect();
    let endpoints = object.list("endpoints").iter().filter_map(|node| endpoint(node, &namespace, &ports)).collect();
    Some(Service {
        name,
        namespace,
        addresses,
        ports,
        endpoints,
        address_calls: AddressCalls::default(),
        any_port: None,
    })
}

fn port(node: &Node<'_>) -> Option<Port> {
    let object = node.object(&["port", "protocol"])?;
    let port = object.required("port").and_then(|node| node.port());
    let protocol = object.get("protocol").and_then(|node| node.choice(PROTOCOLS)).unwrap_or_default();
    Some(Port { port: port?, protocol })
}

fn endpoint(node: &Node<'_>, namespace: &str, ports: &[Port]) -> Option<Endpoint> {
    let object = node.object(&[
        "address",
        "port",
        "weight",
        "zone",
        "labels",
        "pod",
        "identity",
        "inboundPort",
        "enabled",
        "draining",
        "readySince",
    ])?;
    let address = object.required("address").and_then(|node| node.parsed("an IP address with port, e.g. 127.0.0.1:80"));
    let port = service_port(&object, ports);
    let weight = object.get("weight").and_then(|node| node.number(0.0..=WEIGHT_MAX)).unwrap_or(1.0);
    let identity = object.get("identity").and_then(|node| account(&node, namespace));
    let zone = object.get("zone").and_then(|node| node.text());
    let labels = object.get("labels").map(|node| node.texts_by_key()).unwrap_or_default();
    let pod = object.get("pod").and_then(|node| node.text());
    let inbound_port = object.get("inboundPort").and_then(|node| node.port()).unwrap_or(names::INBOUND_PORT);
    let enabled = object.get("enabled").and_then(|node| node.boolean()).unwrap_or(true);
    let draining = object.get("draining").and_then(|node| node.boolean()).unwrap_or(false);
    let ready_since = object.get("readySince").and_then(|node| node.integer(0..=u64::MAX));
    if ready_since.is_some_and(|seconds| seconds > READY_SINCE_MAX) {
        object.problem("readySince", "is in seconds since 1970; this is too great, as milliseconds are".to_owned());
    }
    let address: SocketAddr = address?;
    Some(Endpoint {
        pod: pod.unwrap_or_else(|| address.to_string()),
        address,
        port: port?,
        weight: (weight * f64::from(WEIGHT_ONE)).round() as u32,
        zone,
        labels,
        identity,
        inbound_port,
        enabled,
        draining,
        ready_since,
        health: Health::default(),
    })
}

/// The service port that an endpoint serves: as written, or the only one.
fn service_port(object: &Object<'_>, ports: &[Port]) -> Option<u16> {
    let numbers = || ports.iter().map(|port| port.port.to_string()).collect::<Vec<_>>().join(", ");
    match (object.get("port"), ports) {
        (Some(node), _) => {
            let number = node.port()?;
            if !ports.iter().any(|port| port.port == number) {
                node.problem(format!("the service has no port {number}; it has {}", numbers()));
            }
            Some(number)
        }
        (None, [only]) => Some(only.port),
        (None, []) => None,
        (None, _) => {
            object.problem("port", format!("missing: the service has several ports ({}); say which", numbers()));
            None
        }
    }
}

fn account(node: &Node<'_>, namespace: &str) -> Option<Account> {
    let object = node.object(&["serviceAccount", "namespace"])?;
    let written = object.get("namespace").and_then(|node| node.dns_label());
    let service_account = object.required("serviceAccount").and_then(|node| node.dns_name());
    Some(Account { namespace: written.unwrap_or_else(|| namespace.to_owned()), service_account: service_account? })
}

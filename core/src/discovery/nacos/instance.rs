//! An instance as registered → an instance of the mesh, and the row that `get endpoints` shows of it. Whatever is wrong in
//! its metadata costs only what the wrong value would have said, never the instance; each such value is noted.

mod metadata;

use std::{fmt, net::SocketAddr};

use serde::{Serialize, Serializer};

use super::{
    Name,
    guard::{Believed, Why},
    list::{BadAddress, DEFAULT_CLUSTER, Host},
};
use crate::{
    model::endpoint::WEIGHT_ONE,
    names,
    resources::services::{Endpoint, Health, Protocol},
};
use metadata::Metadata;

/// Largest weight that Nacos allows.
const WEIGHT_MAX: f64 = 10_000.0;
/// Label of an instance that says its cluster, unless its metadata has one of that name.
pub const CLUSTER_LABEL: &str = "cluster";
/// Service port at which the registered port of the instances stands, whatever its number.
pub const SERVICE_PORT: u16 = 80;
/// Service port at which the instances' `gRPC_port` stands, where they have one.
pub const GRPC_SERVICE_PORT: u16 = 50_051;

/// What is made of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Instances of the mesh: one, or two where it has a `gRPC_port`, or none where it cannot be reached at all.
    pub endpoints: Vec<Endpoint>,
    /// What is spoken at its registered port.
    pub protocol: Protocol,
    /// What people are shown.
    pub row: Row,
    /// What was wrong in its registration.
    pub notes: Vec<Note>,
}

/// What people are shown of an instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// As registered, `<ip>:<port>`.
    pub address: String,
    /// Name of the source.
    pub source: &'static str,
    /// Cluster within the service.
    pub cluster: String,
    /// Failure domain.
    pub zone: Option<String>,
    /// Lane mark: the value of the first lane key that it has.
    pub lane: Option<String>,
    /// As registered.
    pub weight: f64,
    /// As registered.
    pub enabled: bool,
    /// As registered.
    pub healthy: bool,
    /// What is believed of its health.
    pub believed: Believed,
    /// Why that is believed.
    #[serde(serialize_with = "wording")]
    pub why: Why,
    /// Why it takes no traffic; `None` = it does.
    #[serde(serialize_with = "wording_if_any")]
    pub out: Option<Out>,
}

fn wording<S: Serializer>(value: &impl fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn wording_if_any<S: Serializer>(value: &Option<impl fmt::Display>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

/// Why an instance takes no traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// `enabled: false`.
    Disabled,
    /// Weight 0 or less.
    NoWeight,
    /// The registry says that it is unhealthy, and that others are not.
    Unhealthy,
    /// Another registration of the same address, in this cluster, is used.
    Double(String),
    /// Nothing can be reached there.
    Address(BadAddress),
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Out::Disabled => f.write_str("disabled in the registry"),
            Out::NoWeight => f.write_str("weight 0 or less"),
            Out::Unhealthy => f.write_str("unhealthy by the registry's word, while others are healthy"),
            Out::Double(cluster) => write!(f, "registered in cluster {cluster} too, which is used"),
            Out::Address(problem) => problem.fmt(f),
        }
    }
}

/// Something wrong in a registration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Note {
    /// The service, `<service>@@<group>@<namespace>`.
    pub service: String,
    /// `<ip>:<port>` as registered.
    pub instance: String,
    /// Metadata key, or field of the registration.
    pub key: String,
    /// What is wrong with it and what was done about it.
    pub problem: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {} instance {}: {}: {}", self.service, self.instance, self.key, self.problem)
    }
}

/// Makes an instance of the mesh of a registration. `now` is in Unix seconds.
pub fn read(service: &Name, host: &Host, (believed, why): (Believed, Why), now: u64) -> Instance {
    let instance = shown(&host.ip, host.port);
    let mut metadata = Metadata::new(service, instance.clone(), &host.metadata);
    let weight = weight(host, &mut metadata);
    let zone = metadata.zone(&host.cluster);
    let lane = metadata.lane();
    let protocol = metadata.protocol();
    let address = host.address();
    let out = out(&address, host, weight, believed);
    let mut endpoints = Vec::new();
    match address {
        Ok(address) => {
            let grpc = metadata.grpc_port().filter(|port| *port != address.port());
            let endpoint = Endpoint {
                address,
                port: SERVICE_PORT,
                weight,
                zone: zone.clone(),
                pod: metadata.pod().unwrap_or_else(|| address.to_string()),
                identity: metadata.identity(),
                inbound_port: metadata.inbound_port().unwrap_or(names::INBOUND_PORT),
                enabled: host.enabled,
                draining: false,
                ready_since: metadata.ready_since(now),
                health: health(believed),
                labels: metadata.labels(&host.cluster, lane.as_deref()),
            };
            let second = grpc.map(|port| Endpoint {
                address: SocketAddr::new(address.ip(), port),
                port: GRPC_SERVICE_PORT,
                ..endpoint.clone()
            });
            endpoints.push(endpoint);
            endpoints.extend(second);
        }
        Err(problem) => {
            let key = if matches!(problem, BadAddress::Port(_)) { "port" } else { "ip" };
            metadata.note(key, format!("{problem}; the instance is left out"));
        }
    }
    let row = Row {
        address: instance,
        source: super::SOURCE,
        cluster: host.cluster.clone(),
        zone,
        lane,
        weight: host.weight,
        enabled: host.enabled,
        healthy: host.healthy,
        believed,
        why,
        out,
    };
    Instance { endpoints, protocol, row, notes: metadata.notes() }
}

/// Why an instance takes no traffic, if it does not.
fn out(address: &Result<SocketAddr, BadAddress>, host: &Host, weight: u32, believed: Believed) -> Option<Out> {
    match address {
        Err(problem) => Some(Out::Address(problem.clone())),
        Ok(_) if !host.enabled => Some(Out::Disabled),
        Ok(_) if weight == 0 => Some(Out::NoWeight),
        Ok(_) if believed == Believed::Unhealthy => Some(Out::Unhealthy),
        Ok(_) => None,
    }
}

/// What is said of the health of a registration that is not used: its own word.
pub(super) fn believed_of_unused(host: &Host) -> Believed {
    if host.healthy { Believed::Healthy } else { Believed::Unhealthy }
}

/// An address as registered, whatever it is; cut where it is long.
pub(super) fn shown(ip: &str, port: i64) -> String {
    let ip: String = ip.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn health(believed: Believed) -> Health {
    match believed {
        Believed::Healthy => Health::Healthy,
        Believed::Unhealthy => Health::Unhealthy,
        Believed::Unknown => Health::Unknown,
    }
}

/// Weight in the mesh's unit: fractions stay, and what is more than nothing stays more than nothing.
fn weight(host: &Host, metadata: &mut Metadata<'_>) -> u32 {
    let registered = host.weight;
    if registered.is_nan() {
        metadata.note("weight", "is no number; counts as 1".to_owned());
        return WEIGHT_ONE;
    }
    if registered < 0.0 {
        metadata.note("weight", format!("{registered} is less than 0; counts as 0"));
    }
    if registered <= 0.0 {
        return 0;
    }
    if registered > WEIGHT_MAX {
        metadata.note("weight", format!("{registered} is more than {WEIGHT_MAX}; counts as {WEIGHT_MAX}"));
    }
    let scaled = registered.min(WEIGHT_MAX) * f64::from(WEIGHT_ONE);
    (scaled.round() as u32).max(1)
}

/// Zone that a cluster's name stands for; the default cluster says nothing.
pub(super) fn zone_of_cluster(cluster: &str) -> Option<&str> {
    Some(cluster).filter(|cluster| !cluster.is_empty() && *cluster != DEFAULT_CLUSTER)
}

#[cfg(test)]
mod tests;

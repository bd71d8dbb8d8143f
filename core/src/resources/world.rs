//! Everything that a set of resources says, in model types: what the controller's index holds and publishes from.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::Serialize;

use super::{
    services::{AddressCalls, Protocol},
    zone::{Zone, ZoneState},
};
use crate::{
    identity::Identity,
    model::{
        endpoint::Endpoint,
        lane::{LaneGroup, LaneRef},
        model_route::ModelRoute,
        policy::{InboundServer, TrafficPolicy},
        route::OutboundPolicy,
        service::ServiceKey,
    },
};

/// What a set of resources says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct World {
    /// Services by `<name>.<namespace>`.
    pub services: BTreeMap<String, WorldService>,
    /// Workloads by `<namespace>/<pod>`: who runs, in which lanes, and who may call it.
    pub workloads: BTreeMap<String, WorldWorkload>,
    /// Lane groups with their lanes.
    pub groups: Vec<LaneGroup>,
    /// How calls to a service are treated, by `<name>.<namespace>`; absent = the default.
    pub traffic: BTreeMap<String, TrafficPolicy>,
    /// What is said of zones, by their names.
    pub zones: BTreeMap<String, Zone>,
    /// Model routes, ordered by name.
    pub model_routes: Vec<Arc<ModelRoute>>,
}

impl World {
    /// Key of a workload in [`World::workloads`].
    pub fn workload_key(namespace: &str, pod: &str) -> String {
        format!("{namespace}/{pod}")
    }

    /// Names of the zones that are drained.
    pub fn drained_zones(&self) -> BTreeSet<String> {
        let drained = self.zones.values().filter(|zone| match zone.state {
            ZoneState::Drained => true,
            ZoneState::Serving => false,
        });
        drained.map(|zone| zone.zone.clone()).collect()
    }

    /// The service and port that a host in the namespace of the caller means: `name`, `name.namespace`,
    /// `name.namespace.svc` or the whole name in `cluster_domain`; without case.
    pub fn resolve(&self, host: &str, caller_namespace: &str, cluster_domain: &str) -> Option<&WorldService> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let short = host.strip_suffix(cluster_domain).and_then(|rest| rest.strip_suffix(".svc.")).unwrap_or(&host);
        let short = short.strip_suffix(".svc").unwrap_or(short);
        match short.split_once('.') {
            Some(_) => self.services.get(short),
            None => self.services.get(&format!("{short}.{caller_namespace}")),
        }
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorldService {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Addresses that mean the service as a whole; each belongs to one service only.
    pub addresses: Vec<IpAddr>,
    /// Ports by number.
    pub ports: BTreeMap<u16, WorldPort>,
    /// What a call to the address of an instance is.
    pub address_calls: AddressCalls,
    /// Port that a call to any other port means; `None` = such a call means nothing.
    pub any_port: Option<u16>,
}

impl WorldService {
    /// The port that a number means.
    pub fn port(&self, number: u16) -> Option<&WorldPort> {
        self.ports.get(&number).or_else(|| self.ports.get(&self.any_port?))
    }

    /// `<name>.<namespace>`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorldPort {
    /// Path of the service at this port in the Destination API.
    pub key: ServiceKey,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Instances that are enabled, ordered by address; lanes resolved. Those out of traffic have weight 0.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// How callers carry calls to it: its routes, or the default route to itself.
    pub outbound: Arc<OutboundPolicy>,
}

/// A workload (pod) that is an instance of one or more services.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorldWorkload {
    /// Namespace.
    pub namespace: String,
    /// Name by which its sidecar calls itself.
    pub pod: String,
    /// Who it is; `None` = no sidecar.
    pub identity: Option<Identity>,
    /// Failure domain.
    pub zone: Option<String>,
    /// Lanes that it belongs to.
    pub lanes: Vec<LaneRef>,
    /// Services, `<name>.<namespace>`.
    pub services: Vec<String>,
    /// Which of these services each port of its application serves.
    pub served: BTreeMap<u16, Vec<String>>,
    /// Addresses of its application.
    pub addresses: Vec<SocketAddr>,
    /// Policies by port of the application.
    pub inbound: BTreeMap<u16, Arc<InboundServer>>,
}

//! Services, their instances, and the workloads behind them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{Domains, Findings, routes, services::Given};
use crate::{
    identity::Identity,
    model::{endpoint, endpoint::ProtocolHint, lane::LaneRef, service::ServiceKey},
    resources::{
        Resource, World,
        services::{Endpoint, Health, Protocol, Service},
        world::{WorldPort, WorldService, WorldWorkload},
    },
};

/// Services and workloads under construction.
#[derive(Default)]
pub(super) struct Built {
    /// By `<name>.<namespace>`.
    pub(super) services: BTreeMap<String, WorldService>,
    /// By `<namespace>/<pod>`.
    pub(super) workloads: BTreeMap<String, WorldWorkload>,
    /// Services by the addresses that mean them as a whole.
    addresses: BTreeMap<IpAddr, String>,
    /// Services that can change without anybody writing a resource.
    loose: BTreeSet<String>,
    /// Ports of each workload's application.
    pub(super) ports: BTreeMap<String, BTreeMap<u16, PortUse>>,
}

/// What a port of an application is for.
pub(super) struct PortUse {
    /// What is spoken there.
    pub(super) protocol: Protocol,
    /// Services (`<name>.<namespace>`) and their ports that lead there.
    pub(super) serves: Vec<(String, u16)>,
}

/// Which lanes an instance with these labels belongs to, as an instance of the service of this label.
pub(super) type LanesOf<'l> = &'l dyn Fn(&str, &BTreeMap<String, String>) -> Vec<LaneRef>;

pub(super) fn build(given: &[Given<'_>], domains: &Domains, lanes: LanesOf<'_>, findings: &mut Findings) -> Built {
    let mut built = Built::default();
    for given in given {
        let label = given.label();
        built.service(&label, given, domains, findings);
        built.instances(&label, given, domains, lanes, findings);
        for port in built.services.get_mut(&label).into_iter().flat_map(|service| service.ports.values_mut()) {
            port.endpoints.sort_by_key(|endpoint| endpoint.address);
        }
    }
    built
}

/// Path of a service at a port.
pub(super) fn service_key(label: &str, port: u16, domains: &Domains) -> ServiceKey {
    ServiceKey(format!("{label}.svc.{}:{port}", domains.cluster).into())
}

fn instance(endpoint: &Endpoint, domains: &Domains, lanes: Vec<LaneRef>) -> Option<endpoint::Endpoint> {
    let identity = match &endpoint.identity {
        Some(account) => Some(Identity::new(&domains.trust, &account.namespace, &account.service_account).ok()?),
        None => None,
    };
    Some(endpoint::Endpoint {
        address: endpoint.address,
        weight: endpoint.weight,
        inbound_port: identity.as_ref().map(|_| endpoint.inbound_port),
        identity,
        server_name: None,
        hint: ProtocolHint::Unknown,
        lanes,
        zone: endpoint.zone.clone(),
        ready_since: endpoint.ready_since,
        draining: endpoint.draining,
        healthy: match endpoint.health {
            Health::Healthy | Health::Unknown => true,
            Health::Unhealthy => false,
        },
        labels: endpoint.labels.clone(),
    })
}

impl Built {
    /// Reports what does not fit between a resource and a service: no problem where the service can change by itself.
    pub(super) fn mismatch(
        &self,
        (resource, path): (&Resource, &str),
        label: &str,
        message: String,
        findings: &mut Findings,
    ) {
        if self.loose.contains(label) {
            findings.note(resource, path, message);
        } else {
            findings.add(resource, path, message);
        }
    }

    /// The service itself, without instances.
    fn service(&mut self, label: &str, given: &Given<'_>, domains: &Domains, findings: &mut Findings) {
        let service = &given.service;
        let ports = service.ports.iter().map(|port| {
            let key = service_key(label, port.port, domains);
            let outbound = Arc::new(routes::default_policy(&key, port.protocol));
            (port.port, WorldPort { key, protocol: port.protocol, endpoints: Vec::new(), outbound })
        });
        let (name, namespace) = (service.name.clone(), service.namespace.clone());
        let addresses = service.addresses.clone();
        for (at, address) in addresses.iter().enumerate() {
            if let Some(other) = self.addresses.insert(*address, label.to_owned()) {
                let message = format!("{address} means service {other} already");
                given.wrong(&format!("addresses[{at}]"), message, findings);
            }
        }
        if given.is_loose() {
            self.loose.insert(label.to_owned());
        }
        let world = WorldService {
            name,
            namespace,
            addresses,
            ports: ports.collect(),
            address_calls: service.address_calls,
            any_port: service.any_port,
        };
        self.services.insert(label.to_owned(), world);
    }

    fn instances(
        &mut self,
        label: &str,
        given: &Given<'_>,
        domains: &Domains,
        lanes: LanesOf<'_>,
        findings: &mut Findings,
    ) {
        let mut seen = BTreeSet::new();
        for (at, endpoint) in given.service.endpoints.iter().enumerate() {
            let Some(found) = instance(endpoint, domains, lanes(label, &endpoint.labels)) else {
                given.wrong_instance(at, "identity", "makes no identity in this trust domain".to_owned(), findings);
                continue;
            };
            if !seen.insert((endpoint.port, found.address)) {
                let message = format!("{} serves port {} already", found.address, endpoint.port);
                if !given.wrong_instance(at, "address", message, findings) {
                    continue;
                }
            }
            if let Err(message) = self.join(label, &given.service, endpoint, &found)
                && !given.wrong_instance(at, "pod", message, findings)
            {
                continue;
            }
            self.add(label, endpoint, found);
        }
    }

    fn add(&mut self, label: &str, endpoint: &Endpoint, found: endpoint::Endpoint) {
        let port = self.services.get_mut(label).and_then(|service| service.ports.get_mut(&endpoint.port));
        if let Some(port) = port.filter(|_| endpoint.enabled) {
            port.endpoints.push(Arc::new(found));
        }
    }

    /// Makes the instance part of its workload: instances with the same pod name in a namespace are one. The error says
    /// why they cannot be.
    fn join(
        &mut self,
        label: &str,
        service: &Service,
        endpoint: &Endpoint,
        found: &endpoint::Endpoint,
    ) -> Result<(), String> {
        let namespace = endpoint.identity.as_ref().map_or(&service.namespace, |account| &account.namespace);
        let key = World::workload_key(namespace, &endpoint.pod);
        let protocol = service.ports.iter().find(|port| port.port == endpoint.port).map(|port| port.protocol);
        let usage = PortUse { protocol: protocol.unwrap_or_default(), serves: Vec::new() };
        let ports = self.ports.entry(key.clone()).or_default();
        ports.entry(found.address.port()).or_insert(usage).serves.push((label.to_owned(), endpoint.port));
        let workload = self.workloads.entry(key).or_insert_with(|| WorldWorkload {
            namespace: namespace.clone(),
            pod: endpoint.pod.clone(),
            identity: found.identity.clone(),
            zone: found.zone.clone(),
            lanes: Vec::new(),
            services: Vec::new(),
            served: BTreeMap::new(),
            addresses: Vec::new(),
            inbound: BTreeMap::new(),
        });
        for lane in &found.lanes {
            if !workload.lanes.contains(lane) {
                workload.lanes.push(lane.clone());
            }
        }
        if !workload.services.iter().any(|known| known == label) {
            workload.services.push(label.to_owned());
        }
        let served = workload.served.entry(found.address.port()).or_default();
        if !served.iter().any(|known| known == label) {
            served.push(label.to_owned());
        }
        if !workload.addresses.contains(&found.address) {
            workload.addresses.push(found.address);
        }
        if workload.identity == found.identity {
            Ok(())
        } else {
            let pod = &endpoint.pod;
            Err(format!("pod {pod} is there with another identity; one pod has one service account"))
        }
    }
}

//! Services, their instances, and the workloads behind them.

use std::{collections::BTreeMap, sync::Arc};

use super::{Domains, Findings, routes};
use crate::{
    identity::Identity,
    model::{endpoint, endpoint::ProtocolHint, lane::LaneRef, service::ServiceKey},
    resources::{
        Resource, Spec,
        services::{Endpoint, Protocol, Service},
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
    /// Protocol of each port of each workload's application.
    pub(super) ports: BTreeMap<String, BTreeMap<u16, Protocol>>,
}

/// Every service of every document of kind `Services`.
pub(super) fn services<'r>(resources: &'r [Resource]) -> impl Iterator<Item = (&'r Resource, usize, &'r Service)> {
    resources.iter().flat_map(|resource| {
        let list = match &resource.spec {
            Spec::Services(list) => list.as_slice(),
        };
        list.iter().enumerate().map(move |(index, service)| (resource, index, service))
    })
}

/// Which lanes an instance with these labels belongs to, as an instance of the service of this label.
pub(super) type LanesOf<'l> = &'l dyn Fn(&str, &BTreeMap<String, String>) -> Vec<LaneRef>;

pub(super) fn build(resources: &[Resource], domains: &Domains, lanes: LanesOf<'_>, findings: &mut Findings) -> Built {
    let mut built = Built::default();
    for (resource, index, service) in services(resources) {
        let label = format!("{}.{}", service.name, service.namespace);
        if built.services.contains_key(&label) {
            let message = format!("service {label} is there twice");
            findings.add(resource, &format!("services[{index}].name"), message);
            continue;
        }
        let ports = service.ports.iter().map(|port| {
            let path = format!("{label}.svc.{}:{}", domains.cluster, port.port);
            let key = ServiceKey(path.into());
            let outbound = Arc::new(routes::default_policy(&key, port.protocol));
            (port.port, WorldPort { key, protocol: port.protocol, endpoints: Vec::new(), outbound })
        });
        let (name, namespace) = (service.name.clone(), service.namespace.clone());
        let world = WorldService { name, namespace, ports: ports.collect() };
        let world = built.services.entry(label.clone()).or_insert(world);
        for (at, endpoint) in service.endpoints.iter().enumerate() {
            let path = format!("services[{index}].endpoints[{at}]");
            let Some(found) = instance(endpoint, domains, lanes(&label, &endpoint.labels)) else {
                findings.add(resource, &format!("{path}.identity"), "makes no identity".to_owned());
                continue;
            };
            let Some(port) = world.ports.get_mut(&endpoint.port) else { continue };
            join(&mut built.workloads, &mut built.ports, (&label, service, endpoint, port.protocol), &found);
            if endpoint.enabled && port.endpoints.iter().any(|other| other.address == found.address) {
                findings.add(resource, &format!("{path}.address"), format!("{} is there twice", found.address));
            } else if endpoint.enabled {
                port.endpoints.push(Arc::new(found));
            }
        }
        for port in world.ports.values_mut() {
            port.endpoints.sort_by_key(|endpoint| endpoint.address);
        }
    }
    built
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
        ready_since: None,
        draining: endpoint.draining,
        labels: endpoint.labels.clone(),
    })
}

/// Makes the instance part of its workload: instances with the same pod name in a namespace are one.
fn join(
    workloads: &mut BTreeMap<String, WorldWorkload>,
    ports: &mut BTreeMap<String, BTreeMap<u16, Protocol>>,
    (label, service, endpoint, protocol): (&str, &Service, &Endpoint, Protocol),
    found: &endpoint::Endpoint,
) {
    let namespace = endpoint.identity.as_ref().map_or(&service.namespace, |account| &account.namespace);
    let key = crate::resources::World::workload_key(namespace, &endpoint.pod);
    ports.entry(key.clone()).or_default().entry(found.address.port()).or_insert(protocol);
    let workload = workloads.entry(key).or_insert_with(|| WorldWorkload {
        namespace: namespace.clone(),
        pod: endpoint.pod.clone(),
        identity: found.identity.clone(),
        zone: found.zone.clone(),
        lanes: Vec::new(),
        services: Vec::new(),
        addresses: Vec::new(),
        inbound: BTreeMap::new(),
    });
    workload
        .lanes
        .extend(found.lanes.iter().filter(|lane| !workload.lanes.contains(lane)).cloned().collect::<Vec<_>>());
    if !workload.services.iter().any(|known| known == label) {
        workload.services.push(label.to_owned());
    }
    if !workload.addresses.contains(&found.address) {
        workload.addresses.push(found.address);
    }
}

//! Services: names that callers write, instances by address, what changed.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_core::{
    discovery::nacos::name::Spoken,
    model::{endpoint::Endpoint, service::ServiceKey},
    names::DEFAULT_NAMESPACE,
    resources::{
        World,
        services::AddressCalls,
        world::{WorldPort, WorldService},
    },
};

use super::{Key, View, path};

impl View {
    /// Labels (`<name>.<namespace>`) that a host may mean, in the order in which they are tried: as written, or for a
    /// bare name in the caller's namespace and then in the default one.
    pub fn candidates(&self, host: &str, caller_namespace: &str) -> Vec<String> {
        if let Ok(spoken) = Spoken::parse(host) {
            return vec![spoken.label];
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let cluster = format!(".svc.{}", self.domains().cluster);
        let short = host.strip_suffix(&cluster).or_else(|| host.strip_suffix(".svc")).unwrap_or(&host);
        match short.split_once('.') {
            Some((_, namespace)) if namespace.contains('.') => Vec::new(),
            Some(_) => vec![short.to_owned()],
            None if caller_namespace == DEFAULT_NAMESPACE => vec![format!("{short}.{DEFAULT_NAMESPACE}")],
            None => vec![format!("{short}.{caller_namespace}"), format!("{short}.{DEFAULT_NAMESPACE}")],
        }
    }

    /// A service by label.
    pub fn service(&self, label: &str) -> Option<&WorldService> {
        self.world().services.get(label)
    }

    /// A service's port by the path of the Destination API.
    pub fn port(&self, key: &ServiceKey) -> Option<&WorldPort> {
        let (label, number) = path(key)?;
        self.service(label)?.ports.get(&number)
    }

    /// The service and port that an address means as a whole.
    pub fn service_at(&self, address: SocketAddr) -> Option<(&WorldService, &WorldPort)> {
        let service = self.service(self.service_addresses.get(&address.ip())?)?;
        Some((service, service.ports.get(&address.port())?))
    }

    /// The instance at an address, with the service and port it belongs to. Of several services it is the first, in order
    /// of names, of those whose callers use addresses, since whoever calls it so found it there; else the first.
    pub fn instance(&self, address: SocketAddr) -> Option<(&WorldService, &WorldPort, &Arc<Endpoint>)> {
        let places = self.addresses.get(&address)?;
        let services = || places.iter().filter_map(|(label, number)| Some((self.service(label)?, *number)));
        let by_address = |(service, _): &(&WorldService, u16)| service.address_calls == AddressCalls::Service;
        let (service, number) = services().find(by_address).or_else(|| services().next())?;
        let port = service.ports.get(&number)?;
        let endpoint = port.endpoints.iter().find(|endpoint| endpoint.address == address)?;
        Some((service, port, endpoint))
    }
}

/// Instances that callers may get: those with weight. Stock proxies know no weight of 0.
pub fn in_traffic(port: &WorldPort) -> impl Iterator<Item = &Arc<Endpoint>> {
    port.endpoints.iter().filter(|endpoint| endpoint.weight > 0)
}

pub(super) fn addresses(world: &World) -> HashMap<SocketAddr, Vec<(String, u16)>> {
    let mut found: HashMap<SocketAddr, Vec<(String, u16)>> = HashMap::new();
    for (label, service) in &world.services {
        for (number, port) in &service.ports {
            for endpoint in &port.endpoints {
                found.entry(endpoint.address).or_default().push((label.clone(), *number));
            }
        }
    }
    found
}

/// Services by the addresses that mean them as a whole.
pub(super) fn service_addresses(world: &World) -> HashMap<IpAddr, String> {
    let of = |(label, service): (&String, &WorldService)| {
        service.addresses.iter().map(|address| (*address, label.clone())).collect::<Vec<_>>()
    };
    world.services.iter().flat_map(of).collect()
}

pub(super) fn changed(old: &World, new: &World, changed: &mut BTreeSet<Key>) {
    for (label, after) in &new.services {
        let before = old.services.get(label);
        if before != Some(after) {
            told(label, before.into_iter().chain([after]), changed);
        }
    }
    for (label, before) in old.services.iter().filter(|(label, _)| !new.services.contains_key(*label)) {
        told(label, [before], changed);
    }
}

/// What is to be told of a service that was or is like this.
fn told<'s>(label: &str, states: impl IntoIterator<Item = &'s WorldService>, changed: &mut BTreeSet<Key>) {
    changed.insert(Key::Service(label.to_owned()));
    for service in states {
        let endpoints = service.ports.values().flat_map(|port| &port.endpoints);
        changed.extend(endpoints.map(|endpoint| Key::Address(endpoint.address)));
        for address in &service.addresses {
            changed.extend(service.ports.keys().map(|port| Key::Address(SocketAddr::new(*address, *port))));
        }
    }
}

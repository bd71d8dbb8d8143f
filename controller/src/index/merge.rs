//! One world out of those of all sources. Where two say different things about the same thing, the source whose name
//! comes first in the alphabet is right; instances of a service that several sources know are joined.

use std::{collections::btree_map::Entry, sync::Arc};

use mesh_core::resources::{
    World,
    world::{WorldService, WorldWorkload},
};

/// Merges worlds, given in order of their sources' names.
pub fn merge<'w>(worlds: impl IntoIterator<Item = &'w Arc<World>>) -> Arc<World> {
    let mut worlds = worlds.into_iter();
    let Some(first) = worlds.next() else { return Arc::default() };
    let mut merged = Arc::clone(first);
    for world in worlds {
        join(Arc::make_mut(&mut merged), world);
    }
    merged
}

fn join(into: &mut World, from: &World) {
    for (label, service) in &from.services {
        match into.services.entry(label.clone()) {
            Entry::Vacant(free) => drop(free.insert(service.clone())),
            Entry::Occupied(mut known) => join_service(known.get_mut(), service),
        }
    }
    for (key, workload) in &from.workloads {
        match into.workloads.entry(key.clone()) {
            Entry::Vacant(free) => drop(free.insert(workload.clone())),
            Entry::Occupied(mut known) => join_workload(known.get_mut(), workload),
        }
    }
    let known = |name: &_| into.groups.iter().any(|group| &group.name == name);
    let fresh: Vec<_> = from.groups.iter().filter(|group| !known(&group.name)).cloned().collect();
    into.groups.extend(fresh);
    for (label, policy) in &from.traffic {
        into.traffic.entry(label.clone()).or_insert_with(|| policy.clone());
    }
}

fn join_service(into: &mut WorldService, from: &WorldService) {
    let addresses: Vec<_> = from.addresses.iter().filter(|one| !into.addresses.contains(one)).copied().collect();
    into.addresses.extend(addresses);
    for (number, port) in &from.ports {
        match into.ports.entry(*number) {
            Entry::Vacant(free) => drop(free.insert(port.clone())),
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                for endpoint in &port.endpoints {
                    if known.endpoints.iter().all(|other| other.address != endpoint.address) {
                        known.endpoints.push(Arc::clone(endpoint));
                    }
                }
                known.endpoints.sort_by_key(|endpoint| endpoint.address);
            }
        }
    }
}

fn join_workload(into: &mut WorldWorkload, from: &WorldWorkload) {
    let missing = |known: &[String], name: &String| !known.contains(name);
    let services: Vec<_> = from.services.iter().filter(|name| missing(&into.services, name)).cloned().collect();
    into.services.extend(services);
    let lanes: Vec<_> = from.lanes.iter().filter(|lane| !into.lanes.contains(lane)).cloned().collect();
    into.lanes.extend(lanes);
    let addresses: Vec<_> = from.addresses.iter().filter(|one| !into.addresses.contains(one)).copied().collect();
    into.addresses.extend(addresses);
    for (port, server) in &from.inbound {
        into.inbound.entry(*port).or_insert_with(|| Arc::clone(server));
    }
}

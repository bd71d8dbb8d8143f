//! Marks that sidecars leave on what the sources say of their workloads: an instance whose sidecar drains drains, whatever
//! its source says, and it is ready since its sidecar was.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use mesh_core::{
    lifecycle::{Mark, Marks},
    model::endpoint::Endpoint,
    resources::{
        World,
        world::{WorldService, WorldWorkload},
    },
};

/// What the sources say, with the marks; the same where no mark changes anything.
pub(super) fn marked(said: &Arc<World>, marks: &Marks) -> Arc<World> {
    if marks.is_empty() {
        return Arc::clone(said);
    }
    let found = Found::new(said, marks);
    let mut changed: BTreeMap<&String, WorldService> = BTreeMap::new();
    for (label, service) in &said.services {
        let endpoints = || service.ports.values().flat_map(|port| &port.endpoints);
        if !endpoints().any(|endpoint| found.changed(endpoint).is_some()) {
            continue;
        }
        let mut service = service.clone();
        for endpoint in service.ports.values_mut().flat_map(|port| &mut port.endpoints) {
            if let Some(marked) = found.changed(endpoint) {
                *endpoint = Arc::new(marked);
            }
        }
        changed.insert(label, service);
    }
    if changed.is_empty() {
        return Arc::clone(said);
    }
    let mut world = World::clone(said);
    for (label, service) in changed {
        world.services.insert(label.clone(), service);
    }
    Arc::new(world)
}

/// Marks by the addresses of instances.
struct Found<'m> {
    by_address: HashMap<SocketAddr, &'m Mark>,
}

impl<'m> Found<'m> {
    fn new(said: &World, marks: &'m Marks) -> Self {
        let mut by_address = HashMap::new();
        let mut nameless: HashMap<IpAddr, &Mark> = HashMap::new();
        for (key, mark) in marks {
            match said.workloads.get(key) {
                Some(workload) => by_address.extend(workload.addresses.iter().map(|address| (*address, mark))),
                None => drop(nameless.insert(mark.host, mark)),
            }
        }
        if !nameless.is_empty() {
            // A registry knows no names of pods: what nobody named goes by the address of the pod.
            let addresses =
                said.workloads.values().filter(|workload| is_nameless(workload)).flat_map(|one| &one.addresses);
            by_address.extend(addresses.filter_map(|address| Some((*address, *nameless.get(&address.ip())?))));
        }
        Found { by_address }
    }

    /// The instance with its mark, where that makes a difference.
    fn changed(&self, endpoint: &Endpoint) -> Option<Endpoint> {
        let mark = self.by_address.get(&endpoint.address)?;
        let draining = endpoint.draining || mark.draining;
        let ready_since = endpoint.ready_since.max(mark.ready_since);
        let is_other = (draining, ready_since) != (endpoint.draining, endpoint.ready_since);
        is_other.then(|| Endpoint { draining, ready_since, ..endpoint.clone() })
    }
}

/// Whether a workload has no name but the address of its instance.
fn is_nameless(workload: &WorldWorkload) -> bool {
    workload.addresses.iter().any(|address| address.to_string() == workload.pod)
}

#[cfg(test)]
mod tests {
    use mesh_core::resources::{Domains, compile, parse};

    use super::*;

    const SERVICES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: Services
services:
- name: b
  namespace: shop
  ports: [{port: 80}]
  endpoints:
  - {address: '10.0.0.1:8080', pod: b-1, identity: {serviceAccount: b}}
  - {address: '10.0.0.2:8080', pod: b-2, identity: {serviceAccount: b}, readySince: 1800000100}
  - {address: '10.0.0.3:8080', identity: {serviceAccount: b}}
- name: c
  namespace: shop
  ports: [{port: 80}]
  endpoints:
  - {address: '10.0.0.1:9090', pod: c-1}
";

    fn world() -> Arc<World> {
        Arc::new(compile(&parse("", SERVICES).unwrap(), &Domains::default()).unwrap())
    }

    fn mark(draining: bool, last: u8) -> Mark {
        Mark { draining, ready_since: Some(1_800_000_000), host: [10, 0, 0, last].into() }
    }

    /// Address, whether it drains, and since when it is ready, of each instance.
    fn shown(world: &World) -> Vec<String> {
        let ports = world.services.values().flat_map(|service| service.ports.values());
        let shown = |endpoint: &Arc<Endpoint>| {
            let ready = endpoint.ready_since.unwrap_or_default() % 1_000;
            format!("{} {} {ready}", endpoint.address, if endpoint.draining { "drains" } else { "serves" })
        };
        ports.flat_map(|port| &port.endpoints).map(shown).collect()
    }

    #[test]
    fn instances_of_a_workload_drain_with_its_sidecar_and_nobody_else() {
        let world = world();
        let marks = Marks::from([("shop/b-1".to_owned(), mark(true, 1)), ("shop/x".to_owned(), mark(true, 3))]);
        let found = marked(&world, &marks);
        assert_eq!(
            shown(&found),
            ["10.0.0.1:8080 drains 0", "10.0.0.2:8080 serves 100", "10.0.0.3:8080 drains 0", "10.0.0.1:9090 serves 0"]
        );
        let first = &found.services["b.shop"].ports[&80].endpoints[0];
        assert_eq!(first.ready_since, Some(1_800_000_000));
    }

    #[test]
    fn an_instance_is_ready_since_the_later_of_what_its_source_and_its_sidecar_say() {
        let world = world();
        let marks = Marks::from([("shop/b-2".to_owned(), mark(false, 2))]);
        assert!(Arc::ptr_eq(&marked(&world, &marks), &world));
        let later = Mark { ready_since: Some(1_800_000_200), ..mark(false, 2) };
        let found = marked(&world, &Marks::from([("shop/b-2".to_owned(), later)]));
        assert_eq!(shown(&found)[1], "10.0.0.2:8080 serves 200");
    }

    #[test]
    fn without_marks_nothing_is_copied() {
        let world = world();
        assert!(Arc::ptr_eq(&marked(&world, &Marks::new()), &world));
    }
}

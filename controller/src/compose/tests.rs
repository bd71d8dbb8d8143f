//! Tests of what all sources say together.

use std::collections::BTreeMap;

use mesh_core::resources::{
    World,
    mesh_service::Source,
    parse,
    services::{AddressCalls, Endpoint, Health, Port, Protocol, Service},
};
use proptest::prelude::*;

use super::*;

/// Services by number, each with instances by number.
type Sketch = BTreeMap<u8, BTreeSet<u8>>;

fn service(number: u8, endpoints: &BTreeSet<u8>) -> Service {
    let endpoint = |instance: &u8| Endpoint {
        address: format!("127.{number}.0.{instance}:80").parse().unwrap(),
        port: 80,
        weight: 10_000,
        zone: None,
        labels: BTreeMap::new(),
        pod: format!("p{number}-{instance}"),
        identity: None,
        inbound_port: 4143,
        enabled: true,
        draining: false,
        ready_since: None,
        health: Health::default(),
    };
    Service {
        name: format!("s{number}"),
        namespace: "default".to_owned(),
        addresses: Vec::new(),
        ports: vec![Port { port: 80, protocol: Protocol::Detect }],
        endpoints: endpoints.iter().map(endpoint).collect(),
        address_calls: AddressCalls::Service,
        any_port: Some(80),
    }
}

fn registered(number: u8, endpoints: &BTreeSet<u8>) -> Arc<Registered> {
    let name = format!("s{number}");
    let service = service(number, endpoints);
    Arc::new(Registered { source: Source::Nacos, name, namespace: "public".to_owned(), service })
}

fn said() -> Said {
    Said::new(Domains::default(), true)
}

fn register(said: &mut Said, source: &str, sketch: &Sketch) {
    for (number, endpoints) in sketch {
        said.register(&source.into(), format!("s{number}"), Some(registered(*number, endpoints)));
    }
}

fn world(said: &Said) -> World {
    said.compiled().unwrap_or_else(|problems| panic!("{problems:?}")).world
}

fn addresses(world: &World, label: &str, port: u16) -> Vec<String> {
    let service = world.services.get(label).unwrap_or_else(|| panic!("no {label} in {:?}", world.services.keys()));
    service.ports[&port].endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn sketch() -> impl Strategy<Value = Sketch> {
    proptest::collection::btree_map(0..5_u8, proptest::collection::btree_set(0..5_u8, 0..4), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sources_may_speak_in_any_order_and_instances_of_one_service_are_joined(one in sketch(), other in sketch()) {
        let mut forth = said();
        register(&mut forth, "nacos/a", &one);
        register(&mut forth, "nacos/b", &other);
        let mut back = said();
        register(&mut back, "nacos/b", &other);
        register(&mut back, "nacos/a", &one);
        prop_assert_eq!(world(&forth), world(&back));
        let world = world(&forth);
        for number in one.keys().chain(other.keys()) {
            let known = |sketch: &Sketch| sketch.get(number).cloned().unwrap_or_default();
            let all: BTreeSet<u8> = known(&one).union(&known(&other)).copied().collect();
            let expected: Vec<String> = all.iter().map(|instance| format!("127.{number}.0.{instance}:80")).collect();
            prop_assert_eq!(addresses(&world, &format!("s{number}.default"), 80), expected);
        }
    }
}

const FILE: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: Services
services:
- {name: old, ports: [{port: 8080}], endpoints: [{address: '127.9.0.1:8080'}]}
---
apiVersion: lanemesh.io/v1alpha1
kind: MeshService
metadata: {name: order}
spec:
  members:
  - {source: nacos, name: s1}
  - {source: file, name: old}
";

#[test]
fn a_mesh_service_has_the_instances_of_all_members_at_every_port() {
    let mut said = said();
    said.take("file".into(), Arc::new(parse("file", FILE).unwrap()));
    let compiled = said.compiled().unwrap();
    let notes: Vec<String> = compiled.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["file:11: MeshService default/order: spec.members[0].name: nacos knows no service s1 (yet)"]);
    assert_eq!(addresses(&compiled.world, "order.default", 8080), ["127.9.0.1:8080"]);
    register(&mut said, "nacos/a", &Sketch::from([(1, BTreeSet::from([1, 2]))]));
    let world = world(&said);
    let all = ["127.1.0.1:80", "127.1.0.2:80", "127.9.0.1:8080"];
    assert_eq!(addresses(&world, "order.default", 80), all);
    assert_eq!(addresses(&world, "order.default", 8080), all);
    assert_eq!(addresses(&world, "s1.default", 80), all[..2]);
}

#[test]
fn a_member_is_the_service_of_every_registry_that_has_it() {
    let mut said = said();
    said.take("file".into(), Arc::new(parse("file", FILE).unwrap()));
    register(&mut said, "nacos/a", &Sketch::from([(1, BTreeSet::from([1]))]));
    register(&mut said, "nacos/b", &Sketch::from([(1, BTreeSet::from([2]))]));
    let all = ["127.1.0.1:80", "127.1.0.2:80", "127.9.0.1:8080"];
    assert_eq!(addresses(&world(&said), "order.default", 80), all);
    register(&mut said, "nacos/a", &Sketch::from([(1, BTreeSet::new())]));
    assert_eq!(addresses(&world(&said), "order.default", 80), all[1..]);
}

#[test]
fn what_a_registry_says_never_refuses_what_people_wrote() {
    let text = "\
apiVersion: lanemesh.io/v1alpha1
kind: TrafficPolicy
metadata: {name: t}
spec: {service: s1, timeouts: {request: 1s}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: s1, kind: Service, group: ''}]
  rules: [{backendRefs: [{name: s2, port: 80}]}]
";
    let resources = parse("file", text).unwrap();
    let mut said = said();
    let notes = said.compiled_with("file", &resources).unwrap().notes;
    assert_eq!(notes.len(), 3, "{notes:?}");
    said.take("file".into(), Arc::new(resources));
    let mut clashing = Registered::clone(&registered(1, &BTreeSet::from([1])));
    clashing.service.endpoints.push(Endpoint { port: 81, ..clashing.service.endpoints[0].clone() });
    clashing.service.endpoints.push(clashing.service.endpoints[0].clone());
    said.register(&"nacos/a".into(), "s1".to_owned(), Some(Arc::new(clashing)));
    let compiled = said.compiled().unwrap();
    assert!(compiled.world.services["s1.default"].ports[&80].endpoints.len() == 1, "{:?}", compiled.world.services);
    assert!(compiled.notes.iter().any(|note| note.to_string().contains("nacos public/s1")), "{:?}", compiled.notes);
}

#[test]
fn callers_stay_in_their_cluster_of_nacos_unless_a_policy_says_otherwise() {
    let mut clustered = Registered::clone(&registered(1, &BTreeSet::from([1, 2])));
    clustered.service.endpoints[0].zone = Some("hz".to_owned());
    let mut said = said();
    said.register(&"nacos/a".into(), "s1".to_owned(), Some(Arc::new(clustered)));
    said.register(&"nacos/a".into(), "s2".to_owned(), Some(registered(2, &BTreeSet::from([1]))));
    let compiled = world(&said);
    assert!(compiled.traffic["s1.default"].zones.prefer_same);
    assert_eq!(compiled.traffic.len(), 1, "no cluster, nothing to prefer");
    let text = "apiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: t}\nspec: {service: s1}\n";
    said.take("file".into(), Arc::new(parse("file", text).unwrap()));
    assert!(!world(&said).traffic["s1.default"].zones.prefer_same);
}

#[test]
fn without_registries_a_reference_to_nothing_is_a_problem() {
    let text = "apiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: t}\nspec: {service: s1}\n";
    let said = Said::new(Domains::default(), false);
    let problems = said.compiled_with("file", &parse("file", text).unwrap()).unwrap_err();
    assert!(problems[0].message.contains("there is no service s1.default"), "{problems:?}");
}

#[test]
fn an_instance_of_a_registry_has_the_identity_of_the_proxy_at_its_address_and_keeps_it() {
    let mut said = said();
    register(&mut said, "nacos/a", &Sketch::from([(1, BTreeSet::from([1, 2]))]));
    let account = Account { namespace: "shop".to_owned(), service_account: "order".to_owned() };
    let meshed = Meshed { account, pod: "order-1".to_owned(), inbound_port: 4143 };
    let address: IpAddr = "127.1.0.1".parse().unwrap();
    said.mesh(BTreeMap::from([(address, meshed)]));
    let identities = |said: &Said| -> Vec<bool> {
        let world = world(said);
        let endpoints = &world.services["s1.default"].ports[&80].endpoints;
        assert_eq!(world.workloads.contains_key("shop/order-1"), endpoints[0].identity.is_some());
        endpoints.iter().map(|endpoint| endpoint.identity.is_some()).collect()
    };
    assert_eq!(identities(&said), [true, false]);
    said.mesh(BTreeMap::new());
    assert_eq!(identities(&said), [true, false], "its proxy is away, and it is registered");
    register(&mut said, "nacos/a", &Sketch::from([(1, BTreeSet::from([2]))]));
    said.mesh(BTreeMap::new());
    register(&mut said, "nacos/a", &Sketch::from([(1, BTreeSet::from([1, 2]))]));
    assert_eq!(identities(&said), [false, false], "another may have its address by now");
}

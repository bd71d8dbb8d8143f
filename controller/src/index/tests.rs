//! Tests of the index.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::{
    model::route::Target,
    resources::{self, Domains, World},
};
use proptest::prelude::*;

use super::*;

/// Services by number, each with instances by number.
type Sketch = BTreeMap<u8, BTreeSet<u8>>;

fn world(sketch: &Sketch) -> Arc<World> {
    let mut yaml = "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n".to_owned();
    for (service, endpoints) in sketch {
        yaml += &format!("- name: s{service}\n  namespace: demo\n  ports: [{{port: 80}}]\n  endpoints:\n");
        for endpoint in endpoints {
            yaml += &format!("  - {{address: '127.{service}.0.{endpoint}:80', identity: {{serviceAccount: s}}}}\n");
        }
        if endpoints.is_empty() {
            yaml = yaml.trim_end().to_owned() + " []\n";
        }
    }
    if sketch.is_empty() {
        yaml = yaml.trim_end().to_owned() + " []\n";
    }
    let resources = resources::parse("test", &yaml).unwrap_or_else(|problems| panic!("{yaml}{problems:?}"));
    Arc::new(resources::compile(&resources, &Domains::default()).unwrap())
}

fn sketch() -> impl Strategy<Value = Sketch> {
    proptest::collection::btree_map(0..5_u8, proptest::collection::btree_set(0..5_u8, 0..4), 0..5)
}

fn event(sketch: &Sketch) -> Event {
    Event::World(world(sketch))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exactly_what_changed_is_named(before in sketch(), after in sketch()) {
        let mut index = Index::new(Domains::default());
        index.apply(event(&before));
        let changed = index.apply(event(&after));
        for number in 0..5_u8 {
            let differs = before.get(&number) != after.get(&number);
            prop_assert_eq!(changed.contains(&Key::Service(format!("s{number}.demo"))), differs);
        }
        prop_assert!(!changed.contains(&Key::Mesh));
        prop_assert!(index.apply(event(&after)).is_empty(), "the same again changes nothing");
    }

    #[test]
    fn every_instance_is_found_by_its_address(sketch in sketch()) {
        let mut index = Index::new(Domains::default());
        index.apply(event(&sketch));
        let view = index.view();
        for (service, endpoints) in &sketch {
            for endpoint in endpoints {
                let address: SocketAddr = format!("127.{service}.0.{endpoint}:80").parse().unwrap();
                let found = view.outbound(&Target::Address(address), "demo").unwrap();
                prop_assert_eq!(found.service.label(), format!("s{service}.demo"));
            }
        }
    }
}

#[test]
fn names_are_looked_up_as_written_then_near_then_by_default() {
    let view = View::default();
    let cases: &[(&str, &str, &[&str])] = &[
        ("b", "demo", &["b.demo", "b.default"]),
        ("B", "default", &["b.default"]),
        ("b.prod", "demo", &["b.prod"]),
        ("b.prod.svc", "demo", &["b.prod"]),
        ("b.prod.svc.cluster.local", "demo", &["b.prod"]),
        ("b.prod.svc.cluster.local.", "demo", &["b.prod"]),
        ("b.prod.svc.other.domain", "demo", &[]),
        ("www.example.com", "demo", &[]),
    ];
    for (host, namespace, expected) in cases {
        assert_eq!(view.candidates(host, namespace), *expected, "{host} in {namespace}");
    }
}

#[test]
fn anchors_change_what_every_proxy_gets_and_only_when_they_are_others() {
    let mut index = Index::new(Domains::default());
    let anchors = || Event::TrustAnchors(vec![Arc::from(&b"a"[..])]);
    assert_eq!(index.apply(anchors()), BTreeSet::from([Key::Mesh]));
    assert_eq!(index.apply(anchors()), BTreeSet::new());
}

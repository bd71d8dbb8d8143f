//! Tests of what registrations become.

use proptest::prelude::*;

use super::*;
use crate::{model::lane::LaneName, resources::services::Account};

const NOW: u64 = 1_764_000_000;
const WELL: (Believed, Why) = (Believed::Healthy, Why::Registered);

fn host(metadata: &[(&str, &str)]) -> Host {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Host { ip: "10.0.0.1".to_owned(), port: 8_080, metadata, ..Host::default() }
}

fn made(host: &Host) -> Instance {
    read(&Name::new("dev", "pay", "order"), host, WELL, NOW)
}

fn endpoint(metadata: &[(&str, &str)]) -> Endpoint {
    let made = made(&host(metadata));
    assert_eq!(made.notes, [], "{metadata:?}");
    made.endpoints[0].clone()
}

#[test]
fn a_plain_registration_becomes_an_instance_without_sidecar() {
    let made = made(&host(&[]));
    let address: SocketAddr = "10.0.0.1:8080".parse().unwrap();
    let expected = Endpoint {
        address,
        port: SERVICE_PORT,
        weight: WEIGHT_ONE,
        zone: None,
        labels: [(CLUSTER_LABEL.to_owned(), DEFAULT_CLUSTER.to_owned())].into(),
        pod: address.to_string(),
        identity: None,
        inbound_port: names::INBOUND_PORT,
        enabled: true,
        draining: false,
        ready_since: None,
        health: Health::Healthy,
    };
    assert_eq!((made.endpoints, made.notes, made.protocol), (vec![expected], Vec::new(), Protocol::Detect));
    let row = serde_json::to_value(&made.row).unwrap();
    let expected = serde_json::json!({
        "address": "10.0.0.1:8080", "source": "nacos", "cluster": "DEFAULT", "zone": null, "lane": null, "weight": 1.0,
        "enabled": true, "healthy": true, "believed": "healthy", "why": "as the registry says", "out": null,
    });
    assert_eq!(row, expected);
}

#[test]
fn keys_of_a_list_are_looked_for_in_order() {
    let all = [
        ("lanemesh.io/lane", "one"),
        ("lane", "two"),
        ("version", "three"),
        ("tag", "four"),
        ("alicloud.service.tag", "five"),
        ("dubbo.tag", "six"),
    ];
    for first in 0..all.len() {
        let endpoint = endpoint(&all[first..]);
        assert_eq!(endpoint.labels[names::LANE_LABEL], all[first].1, "the lane mark stands under one key");
        assert!(all[first..].iter().all(|(key, value)| endpoint.labels[*key] == *value), "what is registered stays");
    }
    let moments = [("ready_since", "1763999999"), ("timestamp", "1763000000000"), ("startTime", "1762000000")];
    for (first, expected) in [1_763_999_999, 1_763_000_000, 1_762_000_000].into_iter().enumerate() {
        assert_eq!(endpoint(&moments[first..]).ready_since, Some(expected));
    }
    let in_cluster = |cluster: &str, metadata| made(&Host { cluster: cluster.to_owned(), ..host(metadata) });
    assert_eq!(in_cluster("hz-a", &[("zone", "z1")]).endpoints[0].zone.as_deref(), Some("z1"));
    assert_eq!(in_cluster("hz-a", &[("zone", " ")]).endpoints[0].zone.as_deref(), Some("hz-a"));
    assert_eq!(in_cluster("hz-a", &[]).endpoints[0].labels[CLUSTER_LABEL], "hz-a");
    assert_eq!(in_cluster("", &[]).endpoints[0].zone, None);
}

#[test]
fn weights_keep_their_fractions_and_never_become_nothing_by_rounding() {
    for (registered, expected, out) in [
        (1.0, 10_000, None),
        (0.5, 5_000, None),
        (0.000_01, 1, None),
        (f64::MIN_POSITIVE, 1, None),
        (10_000.0, 100_000_000, None),
        (0.0, 0, Some(Out::NoWeight)),
        (-0.0, 0, Some(Out::NoWeight)),
    ] {
        let made = made(&Host { weight: registered, ..host(&[]) });
        assert_eq!((made.endpoints[0].weight, made.row.out, made.notes), (expected, out, Vec::new()), "{registered}");
    }
}

#[test]
fn protocols_are_known_by_the_words_of_several_frameworks() {
    for (metadata, expected) in [
        (&[("protocol", "HTTP")][..], Protocol::Detect),
        (&[("protocol", "dubbo")], Protocol::Opaque),
        (&[("protocol", "tri")], Protocol::Http2),
        (&[("protocol", "grpc")], Protocol::Grpc),
        (&[("protocol", "http"), ("secure", "true")], Protocol::Tls),
        (&[("secure", "false")], Protocol::Detect),
    ] {
        let made = made(&host(metadata));
        assert_eq!((made.protocol, made.notes), (expected, Vec::new()), "{metadata:?}");
    }
}

#[test]
fn a_second_port_for_grpc_is_an_instance_of_its_own() {
    let made = made(&host(&[("gRPC_port", "9090")]));
    let places: Vec<_> = made.endpoints.iter().map(|endpoint| (endpoint.address.to_string(), endpoint.port)).collect();
    assert_eq!(places, [("10.0.0.1:8080".to_owned(), SERVICE_PORT), ("10.0.0.1:9090".to_owned(), GRPC_SERVICE_PORT)]);
    assert_eq!(made.endpoints[0].pod, made.endpoints[1].pod, "of one workload");
    assert_eq!(self::made(&host(&[("gRPC_port", "8080")])).endpoints.len(), 1, "the same port");
}

#[test]
fn an_instance_with_a_sidecar_says_whose_it_is() {
    let endpoint = endpoint(&[
        ("mesh", "lanemesh"),
        ("lanemesh.io/identity", "order.v2.shop"),
        ("lanemesh.io/pod", "order-1"),
        ("lanemesh.io/inbound-port", "14143"),
    ]);
    let account = Account { namespace: "shop".to_owned(), service_account: "order.v2".to_owned() };
    assert_eq!(endpoint.identity, Some(account));
    assert_eq!((endpoint.pod.as_str(), endpoint.inbound_port), ("order-1", 14_143));
}

#[test]
fn out_of_traffic_says_why() {
    let bad = || Host { port: 70_000, ..host(&[]) };
    let cases = [
        (Host { enabled: false, weight: 0.0, ..host(&[]) }, WELL, Out::Disabled),
        (Host { weight: 0.0, ..host(&[]) }, WELL, Out::NoWeight),
        (host(&[]), (Believed::Unhealthy, Why::Registered), Out::Unhealthy),
        (bad(), WELL, Out::Address(BadAddress::Port(70_000))),
    ];
    for (host, believed, expected) in cases {
        let made = read(&Name::new("", "", "a"), &host, believed, NOW);
        assert!(!expected.to_string().is_empty());
        assert_eq!(made.row.out, Some(expected));
    }
}

/// A registration with something wrong, the key at which that is noted, and whether it stays an instance.
fn malformed() -> Vec<(Host, &'static str, bool)> {
    let long = "x".repeat(20_000);
    let with = |ip: &str, port: i64| Host { ip: ip.to_owned(), port, ..host(&[]) };
    vec![
        (Host { weight: f64::NAN, ..host(&[]) }, "weight", true),
        (Host { weight: f64::INFINITY, ..host(&[]) }, "weight", true),
        (Host { weight: 10_001.0, ..host(&[]) }, "weight", true),
        (Host { weight: -1.0, ..host(&[]) }, "weight", true),
        (Host { weight: f64::NEG_INFINITY, ..host(&[]) }, "weight", true),
        (with("10.0.0.1", 0), "port", false),
        (with("10.0.0.1", 70_000), "port", false),
        (with("10.0.0.1", i64::MIN), "port", false),
        (with("order-1.example", 80), "ip", false),
        (with("fe80::1%eth0", 80), "ip", false),
        (with("", 80), "ip", false),
        (host(&[("gRPC_port", "nine")]), "gRPC_port", true),
        (host(&[("gRPC_port", "70000")]), "gRPC_port", true),
        (host(&[("timestamp", "yesterday")]), "timestamp", true),
        (host(&[("timestamp", "99999999999999999999999")]), "timestamp", true),
        (host(&[("timestamp", "4102444800000")]), "timestamp", true),
        (host(&[("startTime", "-1")]), "startTime", true),
        (host(&[("ready_since", "12")]), "ready_since", true),
        (host(&[("lane", "gray lane!")]), "lane", true),
        (host(&[("lanemesh.io/lane", "a/b")]), "lanemesh.io/lane", true),
        (host(&[("zone", "z\u{1b}[31m1")]), "zone", true),
        (host(&[("zone", &long[..300])]), "zone", true),
        (host(&[("big", &long)]), "metadata", true),
        (host(&[("protocol", "carrier-pigeon")]), "protocol", true),
        (host(&[("secure", "maybe")]), "secure", true),
        (host(&[("lanemesh.io/identity", "nobody")]), "lanemesh.io/identity", true),
        (host(&[("lanemesh.io/identity", "UPPER.Case")]), "lanemesh.io/identity", true),
        (host(&[("mesh", "lanemesh")]), "lanemesh.io/identity", true),
        (host(&[("lanemesh.io/pod", "a\nb")]), "lanemesh.io/pod", true),
        (host(&[("lanemesh.io/inbound-port", "0")]), "lanemesh.io/inbound-port", true),
    ]
}

#[test]
fn what_is_malformed_is_noted_with_service_instance_and_key_and_costs_nothing_else() {
    for (host, key, stays) in malformed() {
        let made = made(&host);
        let noted: Vec<_> = made.notes.iter().map(|note| note.key.as_str()).collect();
        assert_eq!(noted, [key], "{host:?}");
        let note = &made.notes[0];
        assert_eq!((note.service.as_str(), note.instance.as_str()), ("order@@pay@dev", made.row.address.as_str()));
        let text = note.to_string();
        assert!(text.len() < 500 && !text.chars().any(char::is_control), "{text}");
        assert_eq!(made.endpoints.len(), usize::from(stays), "{host:?}");
        let sound = endpoint(&[]);
        let Some(found) = made.endpoints.first() else { continue };
        // Everything that the wrong value does not say is as it would be without it.
        let weight = if host.weight.is_nan() { WEIGHT_ONE } else { found.weight };
        let same = Endpoint { weight, labels: sound.labels.clone(), ..found.clone() };
        assert_eq!(same, Endpoint { weight, ..sound }, "{host:?}");
        assert!(!found.labels.contains_key(names::LANE_LABEL));
    }
}

#[test]
fn a_note_of_one_key_leaves_the_others_in_force() {
    let made = made(&host(&[("zone", "\u{7}"), ("lane", "gray"), ("timestamp", "x"), ("startTime", "1762000000")]));
    assert_eq!(made.notes.len(), 2);
    assert_eq!((made.row.lane.as_deref(), made.endpoints[0].ready_since), (Some("gray"), Some(1_762_000_000)));
}

#[test]
fn huge_metadata_loses_its_longest_entries_as_labels_and_nothing_that_decides() {
    let long = "x".repeat(9_000);
    let made = made(&host(&[("a", &long), ("lane", "gray"), ("team", "shop")]));
    let labels: Vec<_> = made.endpoints[0].labels.keys().map(String::as_str).collect();
    assert_eq!(labels, [CLUSTER_LABEL, "lane", names::LANE_LABEL, "team"]);
}

proptest! {
    #[test]
    fn nothing_that_is_registered_panics(
        ip in any::<String>(),
        port in any::<i64>(),
        weight in any::<f64>(),
        cluster in any::<String>(),
        flags in any::<(bool, bool)>(),
        key in prop::sample::select(vec![
            "lane", "version", "zone", "timestamp", "startTime", "protocol", "secure", "gRPC_port", "lanemesh.io/identity",
        ]),
        value in any::<String>(),
        usable in any::<bool>(),
    ) {
        let (enabled, healthy) = flags;
        let ip = if usable { "10.0.0.1".to_owned() } else { ip };
        let metadata = [(key.to_owned(), value)].into();
        let host = Host { ip, port, weight, healthy, enabled, ephemeral: true, cluster, metadata };
        let made = made(&host);
        for endpoint in &made.endpoints {
            prop_assert_eq!(endpoint.weight > 0, host.weight > 0.0 || host.weight.is_nan());
            if let Some(lane) = endpoint.labels.get(names::LANE_LABEL) {
                prop_assert!(lane.parse::<LaneName>().is_ok());
            }
        }
        serde_json::to_string(&made.row).unwrap();
    }
}

//! Tests of services.

use std::time::Duration;

use super::{
    super::{Host, Listing, guard::HOLD},
    *,
};

fn register_all(hosts: Vec<Host>) -> Listed {
    let name = Name::new("", "", "order");
    let mut guard = Guard::new(HOLD);
    let listing = Listing { name: name.clone(), hosts, last_ref_time: 1, reach_protection: false };
    guard.take(listing, Duration::ZERO);
    register(&name, ("order", "default"), &guard, AddressCalls::Service, 1_764_000_000)
}

fn host(number: u8, metadata: &[(&str, &str)]) -> Host {
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Host { ip: format!("10.0.0.{number}"), port: 80, metadata, ..Host::default() }
}

#[test]
fn instances_that_speak_different_things_leave_it_to_the_bytes() {
    let of = |protocols: &[&str]| {
        let instance = |(at, protocol): (usize, &&str)| host(at as u8 + 1, &[("protocol", protocol)]);
        register_all(protocols.iter().enumerate().map(instance).collect()).service.ports
    };
    let speaks = |protocol| vec![Port { port: SERVICE_PORT, protocol }];
    assert_eq!(of(&["grpc", "grpc"]), speaks(Protocol::Grpc));
    assert_eq!(of(&["grpc", "dubbo"]), speaks(Protocol::Detect));
    assert_eq!(of(&[]), speaks(Protocol::Detect));
}

#[test]
fn a_service_has_a_port_for_grpc_where_an_instance_has() {
    let ports = register_all(vec![host(1, &[]), host(2, &[("gRPC_port", "9090")])]).service.ports;
    assert_eq!(ports.last(), Some(&Port { port: GRPC_SERVICE_PORT, protocol: Protocol::Grpc }));
    assert_eq!(ports.len(), 2);
}

#[test]
fn an_address_registered_twice_is_one_instance_and_two_rows() {
    let twin = Host { cluster: "b".to_owned(), weight: 2.0, ..host(1, &[]) };
    let registered = register_all(vec![host(1, &[]), twin]);
    assert_eq!(registered.service.endpoints.len(), 1);
    let outs: Vec<_> = registered.rows.iter().map(|row| row.out.clone()).collect();
    assert_eq!(outs, [None, Some(Out::Double("b".to_owned()))]);
    let text = registered.notes[0].to_string();
    assert!(text.contains("order@@DEFAULT_GROUP@public instance 10.0.0.1:80: clusterName"), "{text}");
}

#[test]
fn one_that_cannot_be_reached_is_a_row_with_the_reason_and_costs_the_others_nothing() {
    let registered = register_all(vec![Host { port: 0, ..host(1, &[]) }, host(2, &[])]);
    assert_eq!(registered.service.endpoints.len(), 1);
    let unusable = serde_json::to_value(&registered.rows[1]).unwrap();
    assert_eq!(unusable["out"], "port 0 is not 1 to 65535");
    assert_eq!(registered.notes.len(), 1);
}

#[test]
fn notes_are_bounded_and_say_how_many_are_left_out() {
    let wrong = |number: u8| host(number, &[("zone", "\u{7}"), ("secure", "maybe")]);
    let registered = register_all((0..100).map(wrong).collect());
    assert_eq!((registered.notes.len(), registered.notes_left_out), (NOTES_MAX, 200 - NOTES_MAX));
    assert_eq!(registered.service.endpoints.len(), 100);
}

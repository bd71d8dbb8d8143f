//! gRPC at the entry: rules on its services, methods and metadata, decided at a gateway and at the sidecar of an entry
//! service.

use std::sync::{Arc, OnceLock};

use mesh_tests::{
    mesh::Mesh,
    pod::PodSpec,
    server::Server,
    wait::{PATIENCE, until},
};

use crate::{
    chain::lane,
    link::{Behaviour, Forward, Idle, Link, Record},
    words::{Protocol, call_once},
};

const GROUP: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: ['*'], entries: [gate, front]}
";
/// Lanes, each with an instance of `a`, and what makes a call one of theirs; the first that fits wins.
const LANES: [(&str, &str); 4] = [
    // A service and its method is the path of the call (gRPC over HTTP/2).
    (
        "method",
        "priority: 40, match: {all: [{on: path, operator: equal, value: /shop.Orders/Create}, \
         {on: method, operator: equal, value: POST}]}",
    ),
    ("service", "priority: 30, match: {any: [{on: path, operator: prefix, value: /shop.Carts/}]}"),
    ("anywhere", "priority: 20, match: {any: [{on: path, operator: regex, value: '/shop\\.[A-Z][a-z]+/Delete'}]}"),
    (
        "metadata",
        "priority: 10, match: {all: [{on: header, name: x-user, operator: in, values: [ann, bob]}, \
         {on: header, name: content-type, operator: prefix, value: application/grpc}]}",
    ),
];
/// A call: path, metadata, the lane that it belongs to.
type Call = (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>);

const CALLS: [Call; 12] = [
    ("/shop.Orders/Create", &[], Some("method")),
    ("/shop.Orders/CreateAll", &[], None),
    ("/shop.orders/Create", &[], None),
    ("/shop.Orders/Create", &[("x-user", "ann")], Some("method")),
    ("/shop.Orders/Read", &[("x-user", "ann")], Some("metadata")),
    ("/shop.Orders/Read", &[("x-user", "eve")], None),
    ("/shop.Orders/Read", &[("x-user", "eve"), ("x-user", "bob")], Some("metadata")),
    ("/shop.Carts/Read", &[], Some("service")),
    ("/shop.Carts/Delete", &[], Some("service")),
    ("/shop.CartsOld/Read", &[], None),
    ("/shop.Orders/Delete", &[], Some("anywhere")),
    ("/other.Orders/Delete", &[], None),
];

/// A gateway, a client, the entry service `front` that calls `a`, and `a` with an instance in each lane.
async fn start() -> (Mesh, Vec<Server>) {
    let mut builder = Mesh::builder()
        .pod(PodSpec::new("gate").of("gate").gateway())
        .pod(PodSpec::new("client"))
        .pod(PodSpec::new("front").of("front").protocol("grpc"))
        .pod(PodSpec::new("a").of("a").protocol("grpc"))
        .resource(GROUP);
    for (name, rule) in LANES {
        let pod = PodSpec::new(&format!("a-{name}")).of("a").account("a").protocol("grpc").label("lane", name);
        builder = builder.pod(pod).resource(&lane(name, &format!(", {rule}")));
    }
    let mesh = builder.start().await;
    let mut applications = Vec::new();
    let of_lanes = LANES.map(|(name, _)| format!("a-{name}"));
    for pod in ["front", "a"].into_iter().chain(of_lanes.iter().map(String::as_str)) {
        let link = Arc::new(Link {
            name: pod.to_owned(),
            outbound: mesh.pod(pod).outbound(),
            next: (pod == "front").then(|| "a".to_owned()),
            timing: Arc::new(|_| Behaviour::Now),
            forward: Arc::new(|_| Forward::Header),
            record: Record::default(),
            idle: Idle::default(),
            worker: OnceLock::new(),
        });
        let handler = move |request| Arc::clone(&link).answer(request);
        applications.push(Server::start(mesh.application(pod), handler).await);
    }
    for (from, host) in [("gate", "a"), ("client", "front")] {
        until(&format!("{host} answers {from}"), PATIENCE, || async {
            call_once(Protocol::Grpc, mesh.pod(from).outbound(), host, "/shop.Any/Thing", &[]).await.ok()
        })
        .await;
    }
    (mesh, applications)
}

#[tokio::test]
async fn calls_of_grpc_are_stained_by_service_method_and_metadata_at_a_gateway_and_at_an_entry_service() {
    let (mesh, _applications) = start().await;
    for (path, metadata, lane) in CALLS {
        let (pod, label) = match lane {
            Some(lane) => (format!("a-{lane}"), lane),
            None => ("a".to_owned(), "-"),
        };
        for (from, host, expected) in [
            ("gate", "a", format!("{pod}[{label}]")),
            // Decided behind the choice of front's instance: the lane begins at the next hop.
            ("client", "front", format!("front[{label}] {pod}[{label}]")),
        ] {
            for _ in 0..3 {
                let answer = call_once(Protocol::Grpc, mesh.pod(from).outbound(), host, path, metadata).await;
                assert_eq!(answer.unwrap(), expected, "{from} {path} {metadata:?}");
            }
        }
    }
}

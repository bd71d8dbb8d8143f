//! Lanes through a chain of four services, where only b and d have instances in the lane: a → b → c → d.

use std::net::SocketAddr;

use http::Method;
use mesh_tests::{
    client::{Version, full, request},
    mesh::Mesh,
    pod::PodSpec,
    server::{self, PROPAGATED, Server},
    wait::{PATIENCE, until},
};

const GROUP: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec:
  services: [\"*\"]
  entries: [a]
";

fn lane(rest: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: canary, namespace: demo}}\nspec: {{group: shop{rest}}}\n"
    )
}

/// The chain with its applications, each copying `propagated` fields.
struct Chain {
    mesh: Mesh,
    applications: Vec<Server>,
}

impl Chain {
    async fn start(lane_rest: &str, propagated: &'static [&'static str]) -> Chain {
        let canary = |service: &str| {
            PodSpec::new(&format!("{service}-canary")).of(service).account(service).label("lane", "canary")
        };
        let mut builder = Mesh::builder().pod(PodSpec::new("client"));
        for service in ["a", "b", "c", "d"] {
            builder = builder.pod(PodSpec::new(service).of(service));
        }
        let builder = builder.pod(canary("b")).pod(canary("d"));
        let mesh = builder.resource(GROUP).resource(&lane(lane_rest)).start().await;
        let mut chain = Chain { mesh, applications: Vec::new() };
        for (pod, next) in [
            ("a", Some("b")),
            ("b", Some("c")),
            ("b-canary", Some("c")),
            ("c", Some("d")),
            ("d", None),
            ("d-canary", None),
        ] {
            chain.application(pod, next, propagated).await;
        }
        chain.mesh.reachable("client", "a").await;
        chain
    }

    async fn application(&mut self, pod: &str, next: Option<&str>, propagated: &'static [&'static str]) {
        let name = pod.to_owned();
        let outbound: SocketAddr = self.mesh.pod(pod).outbound();
        let next = next.map(|host| (outbound, host.to_owned()));
        let handler = move |request| server::link(name.clone(), next.clone(), propagated, request);
        self.applications.push(Server::start(self.mesh.application(pod), handler).await);
    }

    async fn call(&self, headers: &[(&str, &str)]) -> String {
        let answer = self.mesh.get("client", "a", "/", headers).await.unwrap();
        format!("{} {}", answer.status, answer.text())
    }
}

const BASELINE: &str = "200 a[-] b[-] c[-] d[-]";
const CANARY: &str = "200 a[canary] b-canary[canary] c[canary] d-canary[canary]";

#[tokio::test]
async fn request_without_label_goes_to_baseline_everywhere() {
    let chain = Chain::start("", PROPAGATED).await;
    for _ in 0..200 {
        assert_eq!(chain.call(&[]).await, BASELINE);
    }
}

#[tokio::test]
async fn labelled_request_leaves_its_lane_where_there_is_no_instance_and_returns_at_the_next_hop() {
    let chain = Chain::start("", PROPAGATED).await;
    for label in ["canary", "shop/canary"] {
        let came = chain.call(&[("x-mesh-lane", label)]).await.replace("shop/canary", "canary");
        assert_eq!(came, CANARY, "{label}");
    }
}

#[tokio::test]
async fn label_travels_in_baggage_alone() {
    let chain = Chain::start("", &["baggage"]).await;
    for headers in [[("x-mesh-lane", "canary")], [("baggage", "user=1,mesh-lane=canary")]] {
        assert_eq!(chain.call(&headers).await.replace("shop/canary", "canary"), CANARY, "{headers:?}");
    }
}

#[tokio::test]
async fn label_travels_in_the_header_alone() {
    let chain = Chain::start("", &["x-mesh-lane"]).await;
    assert_eq!(chain.call(&[("x-mesh-lane", "canary")]).await.replace("shop/canary", "canary"), CANARY);
}

#[tokio::test]
async fn malformed_or_unknown_label_is_served_by_baseline() {
    let chain = Chain::start("", PROPAGATED).await;
    for label in ["can ary", "", "ca/na/ry", "canary;x=1", "nowhere"] {
        let came = chain.call(&[("x-mesh-lane", label)]).await;
        let pods: Vec<&str> = came.split(' ').skip(1).filter_map(|hop| hop.split('[').next()).collect();
        assert_eq!(pods, ["a", "b", "c", "d"], "{label:?}: {came}");
    }
}

#[tokio::test]
async fn label_is_honoured_over_http2() {
    let chain = Chain::start("", PROPAGATED).await;
    let mut connection = chain.mesh.connection("client", Version::Http2).await.unwrap();
    let get = |headers: &[(&str, &str)]| request(Method::GET, "a", "/", headers, full(""));
    let labelled = connection.send(get(&[("x-mesh-lane", "canary")])).await.unwrap();
    assert_eq!(format!("200 {}", labelled.text()).replace("shop/canary", "canary"), CANARY);
    let plain = connection.send(get(&[])).await.unwrap();
    assert_eq!(format!("200 {}", plain.text()), BASELINE);
}

#[tokio::test]
async fn lane_that_rejects_where_it_has_no_instance_answers_503() {
    let chain = Chain::start(", onMissing: reject", PROPAGATED).await;
    let answer = chain.mesh.get("client", "a", "/", &[("x-mesh-lane", "canary")]).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("x-mesh-error"), "lane_missing");
}

#[tokio::test]
async fn closed_lane_is_ignored_within_seconds_and_opens_again() {
    let chain = Chain::start("", PROPAGATED).await;
    let label = [("x-mesh-lane", "canary")];
    assert_eq!(chain.call(&label).await.replace("shop/canary", "canary"), CANARY);
    for (rest, served) in [(", state: closed", "b"), ("", "b-canary")] {
        chain.mesh.write_source("resources.yaml", &format!("{GROUP}---\n{}", lane(rest)));
        until(&format!("served by {served}"), PATIENCE, || async {
            chain.call(&label).await.contains(&format!(" {served}[")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn lane_instances_never_serve_plain_traffic_while_a_lane_opens_and_closes() {
    let chain = Chain::start("", PROPAGATED).await;
    for round in 0..20 {
        let rest = if round % 2 == 0 { ", state: draft" } else { "" };
        chain.mesh.write_source("resources.yaml", &format!("{GROUP}---\n{}", lane(rest)));
        for _ in 0..20 {
            assert_eq!(chain.call(&[]).await, BASELINE, "round {round}");
        }
    }
}

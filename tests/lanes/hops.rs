//! Which instance serves at each hop of the chain: a request leaves its lane where there is no instance, and returns to it.

use mesh_tests::{
    client::Version,
    wait::{PATIENCE, until},
};

use crate::{
    chain::{self, BASELINE, CANARY, Chain, LABEL},
    link::{Behaviour, Forward},
    words::Protocol,
};

/// The chain with applications that copy the header; `lane` is what the lane says, beginning with a comma.
async fn start(lane: &str) -> Chain {
    let mut chain = Chain::with_lanes(&chain::PODS, "", &[("canary", lane)], &[]).await;
    chain.links(&chain::PODS, Behaviour::Now, std::sync::Arc::new(|_| Forward::Header)).await;
    chain.ready().await;
    chain
}

fn resources(lane: &str) -> String {
    format!("{}---\n{}", chain::group(""), chain::lane("canary", lane))
}

#[tokio::test]
async fn request_without_label_goes_to_baseline_everywhere() {
    let chain = start("").await;
    for _ in 0..200 {
        assert_eq!(chain.get("/", &[]).await, BASELINE);
    }
}

#[tokio::test]
async fn labelled_request_leaves_its_lane_where_there_is_no_instance_and_returns_at_the_next_hop() {
    let chain = start("").await;
    for label in ["canary", "shop/canary"] {
        let came = chain.get("/", &[("x-mesh-lane", label)]).await;
        assert_eq!(came, CANARY, "{label}");
    }
}

#[tokio::test]
async fn malformed_or_unknown_label_is_served_by_baseline() {
    let chain = start("").await;
    for label in ["can ary", "", "ca/na/ry", "canary;x=1", "nowhere"] {
        let came = chain.get("/", &[("x-mesh-lane", label)]).await;
        let pods: Vec<&str> = came.split(' ').filter_map(|hop| hop.split('[').next()).collect();
        assert_eq!(pods, ["a", "b", "c", "d"], "{label:?}: {came}");
    }
}

#[tokio::test]
async fn lane_and_baseline_share_a_connection_of_http2() {
    let chain = start("").await;
    let mut connection = chain.mesh.connection("client", Version::Http2).await.unwrap();
    for _ in 0..10 {
        let labelled = Protocol::Http2.call(&mut connection, "a", "/", &[LABEL]).await.unwrap();
        assert_eq!(labelled.replace("shop/canary", "canary"), CANARY);
        assert_eq!(Protocol::Http2.call(&mut connection, "a", "/", &[]).await.unwrap(), BASELINE);
    }
}

#[tokio::test]
async fn lane_that_rejects_where_it_has_no_instance_answers_503() {
    let chain = start(", onMissing: reject").await;
    let answer = chain.mesh.get("client", "a", "/", &[LABEL]).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("x-mesh-error"), "lane_missing");
}

#[tokio::test]
async fn closed_lane_is_ignored_within_seconds_and_opens_again() {
    let chain = start("").await;
    let label = [LABEL];
    assert_eq!(chain.get("/", &label).await, CANARY);
    for (rest, served) in [(", state: closed", "b"), ("", "b-canary")] {
        chain.mesh.write_source("resources.yaml", &resources(rest));
        until(&format!("served by {served}"), PATIENCE, || async {
            chain.get("/", &label).await.contains(&format!(" {served}[")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn lane_instances_never_serve_plain_traffic_while_a_lane_opens_and_closes() {
    let chain = start("").await;
    for round in 0..20 {
        let rest = if round % 2 == 0 { ", state: draft" } else { "" };
        chain.mesh.write_source("resources.yaml", &resources(rest));
        for _ in 0..20 {
            assert_eq!(chain.get("/", &[]).await, BASELINE, "round {round}");
        }
    }
}

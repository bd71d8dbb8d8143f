//! Guards: a lane that is worse than baseline drains by itself, says why, and counts anew when people take it back.

use mesh_core::lane::guard::Tally;
use mesh_proto::{
    convert::statistics::Level,
    mesh::v1::{LaneStatistics, ProbeNote, proxy_report::Report},
};
use serde_json::{Value, json};

use crate::{
    harness::{Controller, LANES, SERVICES},
    mesh::{Proxy, hello},
};

fn level(lane: Option<&str>, requests: u64, failures: u64) -> Level {
    let mut tally = Tally { requests, failures, ..Tally::default() };
    tally.latency[3] = requests;
    Level { service: "b.demo".to_owned(), lane: lane.map(|lane| lane.parse().unwrap()), tally }
}

fn report(levels: &[Level]) -> Report {
    Report::Lanes(LaneStatistics { levels: levels.iter().map(Level::to_wire).collect() })
}

fn lane(lanes: &Value) -> &Value {
    &lanes["items"][0]["lanes"][0]
}

async fn start(guard: &str) -> (Controller, Proxy) {
    let lanes = format!("{LANES}  guard: {guard}\n");
    let controller = Controller::with(&[("services.yaml", SERVICES), ("lanes.yaml", &lanes)], &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    let channel = controller.proxy("a").await;
    let proxy = Proxy::connect(&channel, Report::Hello(hello("a", "a-1"))).await.unwrap();
    (controller, proxy)
}

#[tokio::test]
async fn lane_that_fails_more_than_baseline_drains_by_itself_and_says_why() {
    let (controller, mut proxy) = start("{window: 60s, minRequests: 50, maxErrorRatio: 0.1}").await;
    proxy.snapshot().await;
    proxy.say(report(&[level(Some("shop/canary"), 49, 49), level(None, 1_000, 10)])).await;
    let path = "/api/v1/lanes";
    let few = controller.until(path, |lanes| lane(lanes)["verdict"] == "49 of 50 requests needed to judge").await;
    assert_eq!(lane(&few)["state"], "active");
    assert!(lane(&few)["traffic"]["lane"]["errorRatio"] == 1.0, "{few}");
    proxy.say(report(&[level(Some("shop/canary"), 51, 0)])).await;
    let drained = controller.until(path, |lanes| lane(lanes)["state"] == "draining").await;
    let reason = "guard: 49.00 % of its requests failed, 1.00 % of baseline's; allowed are 10.00 % more";
    assert_eq!(lane(&drained)["history"][0]["reason"], reason);
    assert_eq!(proxy.snapshot().await.lanes[0].lanes[0].state.label(), "draining");
    controller.until_metric("_lane_guard_breaches_total", "{reason=\"errors\"}", 1).await;
    // Taken back by hand it counts anew: what was reported before drains it no more.
    let order = json!({ "lane": "shop/canary", "verb": "rollback" }).to_string();
    assert_eq!(controller.post("/api/v1/lane", &order).await.0, 200);
    let fresh = |lanes: &Value| lane(lanes)["verdict"] == "0 of 50 requests needed to judge";
    let again = controller.until(path, fresh).await;
    assert_eq!(lane(&again)["state"], "active");
    controller.until_metric("_lane_guard_breaches_total", "{reason=\"errors\"}", 1).await;
    controller.stop().await;
}

#[tokio::test]
async fn lane_as_bad_as_baseline_stays() {
    let (controller, proxy) = start("{minRequests: 10, maxErrorRatio: 0.1, maxLatencyFactor: 2}").await;
    proxy.say(report(&[level(Some("shop/canary"), 100, 30), level(None, 1_000, 300)])).await;
    let lanes = controller.until("/api/v1/lanes", |lanes| lane(lanes)["verdict"] == "within its limits").await;
    assert_eq!(lane(&lanes)["state"], "active");
    controller.stop().await;
}

#[tokio::test]
async fn what_a_proxy_saw_of_a_probe_is_found_by_its_trace() {
    let (controller, proxy) = start("{maxErrorRatio: 0.1}").await;
    let note = ProbeNote { trace: "ab".repeat(16), direction: "inbound".to_owned(), ..ProbeNote::default() };
    proxy.say(Report::Probe(note)).await;
    let path = format!("/api/v1/probes/{}", "ab".repeat(16));
    let found = controller.until(&path, |notes| notes["items"][0]["pod"] == "a-1").await;
    assert_eq!(found["items"][0]["direction"], "inbound");
    assert_eq!(controller.get("/api/v1/probes/other").await.1, json!({ "items": [] }));
    controller.stop().await;
}

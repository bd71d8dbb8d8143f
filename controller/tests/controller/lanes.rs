//! Changes of lanes over the console: their stages, their history, and how fast every connected proxy has them.

use std::time::{Duration, Instant};

use mesh_core::model::lane::LaneState;
use mesh_proto::mesh::v1::{Ack, proxy_report::Report};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    harness::{Controller, LANES, SERVICES},
    mesh::{Proxy, hello},
};

const FILES: &[(&str, &str)] = &[("services.yaml", SERVICES), ("lanes.yaml", LANES)];

async fn ready(files: &[(&str, &str)]) -> Controller {
    let controller = Controller::with(files, &[]).await;
    controller.until("/ready", |answer| answer == "ready\n").await;
    controller
}

async fn change(controller: &Controller, verb: &str) -> (u16, Value) {
    let order = json!({ "lane": "shop/canary", "verb": verb, "reason": format!("test of {verb}") });
    controller.post("/api/v1/lane", &order.to_string()).await
}

async fn set(controller: &Controller, fields: Value) -> (u16, Value) {
    let order = json!({ "lane": "shop/canary", "verb": "set", "fields": fields });
    controller.post("/api/v1/lane", &order.to_string()).await
}

async fn lane(controller: &Controller) -> Value {
    let (_, lanes) = controller.get("/api/v1/lanes").await;
    lanes["items"][0]["lanes"][0].clone()
}

#[tokio::test]
async fn change_of_stage_is_written_in_force_and_known_to_proxies_when_it_is_answered() {
    let controller = ready(FILES).await;
    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    assert_eq!(proxy.snapshot().await.lanes[0].lanes[0].state, LaneState::Active);
    let steps = [
        ("drain", "draining", LaneState::Draining),
        ("promote", "promoted", LaneState::Promoted),
        ("rollback", "draining", LaneState::Draining),
        ("activate", "active", LaneState::Active),
        ("drain", "draining", LaneState::Draining),
        ("close", "closed", LaneState::Closed),
        ("rollback", "draining", LaneState::Draining),
    ];
    for (verb, word, state) in steps {
        let (status, answer) = change(&controller, verb).await;
        assert_eq!((status, &answer["lane"]["state"]), (200, &json!(word)), "{verb}: {answer}");
        assert_eq!(proxy.snapshot().await.lanes[0].lanes[0].state, state, "{verb}");
    }
    let shown = lane(&controller).await;
    let reasons: Vec<_> = shown["history"].as_array().unwrap().iter().map(|past| past["reason"].clone()).collect();
    assert_eq!(reasons, steps.map(|(verb, _, _)| json!(format!("test of {verb}"))));
    assert_eq!(shown["services"][0]["service"], "b.demo");
    // The group, its neighbour in the file, is still there.
    let text = std::fs::read_to_string(controller.files().join("lanes.yaml")).unwrap();
    assert!(text.contains("kind: LaneGroup") && text.contains("creationTimestamp"), "{text}");
    controller.stop().await;
}

#[tokio::test]
async fn change_that_is_not_allowed_says_why_and_changes_nothing() {
    let controller = ready(FILES).await;
    let (status, answer) = change(&controller, "close").await;
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("drain it first"), "{answer}");
    assert_eq!(change(&controller, "rollback").await.0, 409);
    assert_eq!(change(&controller, "explode").await.0, 400);
    let unknown = json!({ "lane": "shop/green", "verb": "drain" }).to_string();
    assert_eq!(controller.post("/api/v1/lane", &unknown).await.0, 404);
    for fields in [json!({}), json!({"selector": {}}), json!({"state": "gone"})] {
        assert_eq!(set(&controller, fields.clone()).await.0, 400, "{fields}");
    }
    let (status, answer) = set(&controller, json!({"percentage": {"value": 250}})).await;
    assert!(status == 422 && answer["problems"][0]["path"] == "Lane demo/canary: spec.percentage.value", "{answer}");
    assert_eq!(lane(&controller).await["state"], "active");
    controller.stop().await;
}

#[tokio::test]
async fn fields_are_set_one_by_one() {
    let controller = ready(FILES).await;
    let rule = json!({"any": [{"on": "header", "name": "x-beta", "operator": "equal", "value": "1"}]});
    let fields =
        json!({"percentage": {"value": 12.5, "key": ["header:x-user"]}, "match": rule, "priority": 3, "ttl": "8h"});
    assert_eq!(set(&controller, fields).await.0, 200);
    assert_eq!(set(&controller, json!({"percentage": {"value": 50}, "state": "draft"})).await.0, 200);
    let shown = lane(&controller).await;
    assert_eq!(
        (&shown["share"]["value"], &shown["priority"], &shown["state"]),
        (&json!(5_000), &json!(3), &json!("draft"))
    );
    assert_eq!(shown["share"]["keys"].as_array().unwrap().len(), 1);
    assert_eq!(shown["history"][0]["state"], "active");
    let life = shown["ends"].as_u64().unwrap() - shown["created"].as_u64().unwrap();
    assert_eq!(life, 8 * 3_600_000);
    controller.stop().await;
}

#[tokio::test]
async fn applied_lane_is_dated_and_keeps_its_date_when_it_is_applied_again() {
    let controller = ready(&[("services.yaml", SERVICES)]).await;
    assert_eq!(controller.post("/api/v1/apply", LANES).await.0, 200);
    let first = lane(&controller).await;
    assert!(first["created"].as_u64().is_some_and(|created| created > 1_600_000_000_000), "{first}");
    let again = LANES.replace("  group: shop", "  group: shop\n  ttl: 1h\n  state: draining");
    assert_eq!(controller.post("/api/v1/apply", &again).await.0, 200);
    let second = lane(&controller).await;
    assert_eq!(second["created"], first["created"]);
    assert_eq!((&second["state"], &second["history"][0]["state"]), (&json!("draining"), &json!("active")));
    controller.stop().await;
}

#[tokio::test]
async fn draining_lane_is_shown_as_closed_once_no_request_can_be_as_old() {
    let lanes = LANES.replace("  services: ['*']", "  services: ['*']\n  maxRequestAge: 50ms");
    let controller = ready(&[("services.yaml", SERVICES), ("lanes.yaml", &lanes)]).await;
    assert_eq!(change(&controller, "drain").await.0, 200);
    let state = |field: &str, lanes: &Value| lanes["items"][0]["lanes"][0][field].clone();
    let lanes = controller.until("/api/v1/lanes", |lanes| state("effectiveState", lanes) == "closed").await;
    assert_eq!(state("state", &lanes), "draining");
    controller.stop().await;
}

/// Proxies that are connected at the same time.
const PROXIES: usize = 50;

#[tokio::test]
async fn rollback_is_acknowledged_by_fifty_connected_proxies_within_a_second() {
    let controller = ready(FILES).await;
    let channel = controller.proxy("b").await;
    let mut proxies = Vec::new();
    for number in 0..PROXIES {
        let report = Report::Hello(hello("b", &format!("b-{number}")));
        let mut proxy = Proxy::connect(&channel, report).await.unwrap();
        proxy.acknowledged().await;
        proxies.push(proxy);
    }
    let mut slowest = Duration::ZERO;
    for verb in ["drain", "rollback", "promote", "rollback"] {
        let begun = Instant::now();
        let (called, ()) = tokio::join!(change(&controller, verb), async {
            for proxy in &mut proxies {
                proxy.acknowledged().await;
            }
        });
        assert_eq!(called.0, 200, "{verb}");
        let all = |table: &Value| {
            let rows = table["items"].as_array().unwrap();
            rows.len() == PROXIES && rows.iter().all(|row| row["appliedRevision"] == row["currentRevision"])
        };
        controller.until("/api/v1/proxies", all).await;
        let took = begun.elapsed();
        eprintln!("{verb}: {PROXIES} stand-in proxies acknowledged {} ms after the call began", took.as_millis());
        slowest = slowest.max(took);
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    controller.stop().await;
}

impl Proxy {
    async fn acknowledged(&mut self) {
        let revision = self.snapshot().await.revision;
        self.say(Report::Ack(Ack { revision })).await;
    }
}

/// Largest message that a proxy reads, bytes.
const MESSAGE_MAX: usize = 64 << 20;
/// Lanes in the group.
const MANY: usize = 1_000;

#[tokio::test]
async fn snapshot_of_a_thousand_lanes_with_rules_is_a_small_message() {
    let mut lanes = LANES.to_owned();
    for number in 0..MANY {
        let rule = format!("{{any: [{{on: header, name: x-user, operator: in, values: [u{number}, v{number}]}}]}}");
        lanes.push_str(&format!(
            "---\napiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: lane-{number}, namespace: demo}}\n\
             spec: {{group: shop, match: {rule}}}\n"
        ));
    }
    let controller = ready(&[("services.yaml", SERVICES), ("lanes.yaml", &lanes)]).await;
    let channel = controller.proxy("b").await;
    let mut proxy = Proxy::connect(&channel, Report::Hello(hello("b", "b-1"))).await.unwrap();
    proxy.acknowledged().await;
    let begun = Instant::now();
    let (called, policy) = tokio::join!(change(&controller, "drain"), proxy.snapshot());
    assert_eq!((called.0, policy.lanes[0].lanes.len()), (200, MANY + 1));
    let size = policy.to_wire().encoded_len();
    eprintln!("{MANY} lanes: {size} bytes per snapshot, {} ms from the call to it", begun.elapsed().as_millis());
    assert!(size < MESSAGE_MAX / 10);
    controller.stop().await;
}

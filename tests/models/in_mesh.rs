//! Targets in the mesh: what their sidecars say in their place, instances, lanes and zones.

use mesh_tests::{
    models::sdk::{Api, Sdk, Told},
    wait::{PATIENCE, until},
};
use serde_json::json;

use crate::world::{CALLER, Instance, Served, Streaming, Virtual, World};

const PLAIN: Instance = Instance { pod: "", zone: None, lane: None };

/// A lane of every service; the caller may label.
const LANES: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: models, namespace: demo}
spec: {services: ['*'], entries: [client]}
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec: {group: models}
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: blue, namespace: demo}
spec: {group: models}
";

fn served(name: &str) -> Virtual {
    Virtual::new(
        name,
        vec![Served::in_mesh(&format!("{name}-a"), "vllm"), Served::outside(&format!("{name}-b"), "openai")],
    )
}

async fn chat(world: &World, model: &str, streaming: Streaming, lane: Option<&str>) -> Told {
    let ask = streaming.of(world.ask(Api::Chat, model));
    Sdk::newest()
        .ask(match lane {
            Some(lane) => ask.header("x-mesh-lane", lane),
            None => ask,
        })
        .await
}

fn who(told: &Told) -> (String, String) {
    told.assert_whole(20);
    (told.header("x-mesh-model-target").to_owned(), told.header("x-mesh-model-attempts").to_owned())
}

async fn attempts(world: &World, target: &str, reason: &str) -> f64 {
    let metrics = world.mesh.pod(CALLER).metrics().await;
    metrics.sum("mesh_model_attempts_total", &[("target", target), ("reason", reason)])
}

#[tokio::test]
async fn an_application_that_takes_no_connection_behind_its_sidecar_counts_as_not_connected_and_rests() {
    let world = World::start(vec![served("m"), served("n")]).await;
    for (model, streaming) in [("m", Streaming::Yes), ("n", Streaming::No)] {
        let first = format!("{model}-a");
        assert_eq!(who(&chat(&world, model, streaming, None).await), (first.clone(), "1".to_owned()));
        world.stand_in.refuse_connections(&first).await;
        let second = (format!("{model}-b"), "2".to_owned());
        assert_eq!(who(&chat(&world, model, streaming, None).await), second);
        assert_eq!(attempts(&world, &first, "connect").await, 1.0, "its reason is no answer of a server");
        let resting = (format!("{model}-b"), "1".to_owned());
        assert_eq!(who(&chat(&world, model, streaming, None).await), resting, "nobody asks who does not connect");
        world.stand_in.take_connections(&first).await;
        until("the first target serves again", PATIENCE, || async {
            let told = chat(&world, model, streaming, None).await;
            (who(&told).0 == first).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_target_s_sidecar_says_of_a_service_without_application_is_named_where_nobody_is_left() {
    let alone = Virtual::new("m", vec![Served::in_mesh("m-a", "vllm")]).with("retry", json!({"attempts": 1}));
    // Orders to the stand-in need a target that listens.
    let world = World::start(vec![alone, served("other")]).await;
    world.stand_in.refuse_connections("m-a").await;
    for streaming in Streaming::BOTH {
        let body = json!({
            "model": "m", "stream": streaming == Streaming::Yes, "messages": [{"role": "user", "content": "one"}],
        });
        let answer = world.post("/v1/chat/completions", &body).await;
        assert_eq!((answer.status, answer.header("x-mesh-error")), (503, "model_connect"), "{}", answer.text());
        let said = answer.json()["error"]["message"].clone();
        assert!(said.as_str().is_some_and(|said| said.contains("connect")), "{said}");
    }
}

#[tokio::test]
async fn another_instance_answers_where_one_takes_no_connection_and_the_target_does_not_rest() {
    let instances = [Instance { pod: "one", ..PLAIN }, Instance { pod: "two", ..PLAIN }];
    let local = Served::in_mesh("local", "vllm").instances(&instances);
    let world = World::start(vec![Virtual::new("m", vec![local, Served::outside("far", "openai")])]).await;
    for _ in 0..10 {
        assert_eq!(who(&chat(&world, "m", Streaming::Yes, None).await), ("local".to_owned(), "1".to_owned()));
    }
    let seen = (world.stand_in.seen_by("one").await.len(), world.stand_in.seen_by("two").await.len());
    assert!(seen.0 > 0 && seen.1 > 0 && seen.0 + seen.1 == 10, "both serve: {seen:?}");
    world.stand_in.refuse_connections("one").await;
    for number in 0..20 {
        let streaming = Streaming::BOTH[number % 2];
        let told = chat(&world, "m", streaming, None).await;
        assert_eq!(who(&told), ("local".to_owned(), "1".to_owned()), "request {number}");
    }
    assert_eq!(attempts(&world, "local", "connect").await, 0.0);
}

#[tokio::test]
async fn a_target_of_a_lane_serves_requests_of_this_lane_alone() {
    let targets = vec![
        Served::in_mesh("next", "vllm").with("lane", json!("models/canary")),
        Served::in_mesh("stable", "vllm"),
        Served::outside("far", "openai"),
    ];
    let world = World::start_among(vec![Virtual::new("m", targets)], |pod| pod, &[LANES]).await;
    for streaming in Streaming::BOTH {
        let of = async |lane: Option<&str>| who(&chat(&world, "m", streaming, lane).await).0;
        assert_eq!(of(None).await, "stable", "{streaming:?}");
        assert_eq!(of(Some("models/canary")).await, "next", "{streaming:?}");
        assert_eq!(of(Some("canary")).await, "next", "{streaming:?}");
        assert_eq!(of(Some("models/blue")).await, "stable", "{streaming:?}");
        assert_eq!(of(Some("nobody/knows")).await, "stable", "{streaming:?}");
    }
    world.stand_in.behave("next", json!({"status": 503})).await;
    let told = chat(&world, "m", Streaming::Yes, Some("models/canary")).await;
    assert_eq!(who(&told), ("stable".to_owned(), "2".to_owned()), "its own target first, then those of everybody");
    world.stand_in.behave("stable", json!({"status": 503})).await;
    let told = chat(&world, "m", Streaming::Yes, None).await;
    assert_eq!(who(&told).0, "far", "the target of a lane is no fallback of others");
}

#[tokio::test]
async fn a_lane_reaches_the_model_through_two_sidecars_and_chooses_its_instance_and_stays_in_the_mesh() {
    let instances = [Instance { pod: "base", ..PLAIN }, Instance { pod: "gray", lane: Some("canary"), ..PLAIN }];
    let local = Served::in_mesh("local", "vllm").instances(&instances);
    let world =
        World::start_among(vec![Virtual::new("m", vec![local, Served::outside("far", "openai")])], |pod| pod, &[LANES])
            .await;
    for streaming in Streaming::BOTH {
        for (lane, pod, label) in [
            (Some("models/canary"), "gray", "canary"),
            (Some("canary"), "gray", "canary"),
            (Some("models/blue"), "base", "blue"),
            (None, "base", ""),
        ] {
            world.stand_in.forget().await;
            assert_eq!(who(&chat(&world, "m", streaming, lane).await).0, "local");
            let seen = world.last_seen(pod).await;
            assert!(seen.header("x-mesh-lane").ends_with(label), "{lane:?}: {seen:?}");
            assert_eq!(seen.header("x-mesh-lane").is_empty(), lane.is_none(), "{lane:?}: {seen:?}");
        }
    }
    for pod in ["base", "gray"] {
        world.stand_in.behave(pod, json!({"status": 500})).await;
    }
    let told = chat(&world, "m", Streaming::Yes, Some("models/canary")).await;
    assert_eq!(who(&told).0, "far");
    let seen = world.last_seen("far").await;
    let leaked = seen.headers.iter().filter(|(name, value)| name.starts_with("x-mesh-") || value.contains("canary"));
    assert_eq!(leaked.collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "strangers learn nothing of lanes");
}

#[tokio::test]
async fn instances_of_the_caller_s_zone_serve_and_those_of_another_where_there_are_none() {
    let near = Instance { pod: "near", zone: Some("z1"), ..PLAIN };
    let far = Instance { pod: "far", zone: Some("z2"), ..PLAIN };
    let local = Served::in_mesh("local", "vllm").instances(&[near, far]);
    let policy = "\
apiVersion: lanemesh.io/v1alpha1
kind: TrafficPolicy
metadata: {name: local, namespace: demo}
spec: {service: local, zones: {preferSame: true}}
";
    let caller = |pod: mesh_tests::pod::PodSpec| pod.of("callers").zone("z1");
    let models = vec![Virtual::new("m", vec![local, Served::outside("elsewhere", "openai")])];
    let world = World::start_among(models, caller, &[policy]).await;
    for number in 0..20 {
        assert_eq!(who(&chat(&world, "m", Streaming::BOTH[number % 2], None).await).0, "local");
    }
    let seen = (world.stand_in.seen_by("near").await.len(), world.stand_in.seen_by("far").await.len());
    assert_eq!(seen, (20, 0), "the caller's own zone");
    world.stand_in.refuse_connections("near").await;
    for number in 0..20 {
        let told = chat(&world, "m", Streaming::BOTH[number % 2], None).await;
        assert_eq!(
            who(&told),
            ("local".to_owned(), "1".to_owned()),
            "request {number}: the other zone before another target"
        );
    }
    assert_eq!(world.stand_in.seen_by("far").await.len(), 20);
}

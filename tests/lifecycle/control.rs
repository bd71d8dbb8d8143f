//! The controller's part: it tells callers who drains, gives the order, and shows how far instances are.

use std::time::{Duration, Instant};

use mesh_tests::{
    client::{self, Version, full, request},
    process::Finished,
    wait::{PATIENCE, until},
};
use serde_json::Value;

use crate::{
    callers::{HOST, Kind},
    world::{World, pod},
};

/// Settings of instances whose callers hear of their end from the controller alone.
const CONTROLLER_ALONE: &[(&str, &str)] = &[("LANEMESH_DRAIN_NOTICES", "controller")];

/// Runs `mesh-ctl` with these arguments against the mesh's controller.
async fn ctl(world: &World, arguments: &[&str]) -> Finished {
    let address = world.mesh.controller_admin().to_string();
    let arguments = ["--controller", &address].into_iter().chain(arguments.iter().copied());
    world.mesh.ctl(arguments).run(&world.mesh.logs(), PATIENCE).await
}

/// Whether callers use an instance, as the sidecar of `a` has it.
async fn usability(world: &World, instance: usize) -> Option<String> {
    let (_, page) = world.mesh.pod("a").fetch("/endpoints").await.ok()?;
    let page: Value = serde_json::from_str(&page).ok()?;
    let address = world.mesh.pod(&pod(instance)).registered().to_string();
    let found = page["items"].as_array()?.iter().find(|item| item["address"] == address.as_str())?;
    found["usability"].as_str().map(str::to_owned)
}

async fn becomes(world: &World, instance: usize, expected: &str) {
    let what = format!("a finds {} {expected}", pod(instance));
    until(&what, PATIENCE, || async { (usability(world, instance).await? == expected).then_some(()) }).await;
}

/// Since when an instance is ready, as the controller has it.
async fn ready_since(world: &World, instance: usize) -> Option<u64> {
    let all = world.mesh.console("/api/v1/endpoints").await.ok()?;
    let found = all["items"].as_array()?.iter().find(|item| item["pod"] == pod(instance).as_str())?;
    found["readySince"].as_u64()
}

/// Kinds of events, oldest first.
async fn happened(world: &World, query: &str) -> Option<Vec<String>> {
    let all = world.mesh.console(&format!("/api/v1/events?{query}")).await.ok()?;
    let kinds = all["items"].as_array()?.iter().filter_map(|item| item["kind"].as_str().map(str::to_owned));
    // A sidecar may be ready before it is heard for the first time.
    Some(kinds.filter(|kind| kind != "not_ready").collect())
}

#[tokio::test]
async fn instance_that_fails_is_shown_as_ejected_with_who_says_so() {
    let mut world = World::start(3, &[]).await;
    world.stop_application(0).await;
    let call = async || {
        world.mesh.get("a", HOST, "/", &[]).await.ok()?;
        let all = world.mesh.console("/api/v1/endpoints/explain?service=b.demo").await.ok()?;
        let found = all["items"].as_array()?.iter().find(|item| item["pod"] == "b0")?.clone();
        (found["state"] == "ejected").then_some(found)
    };
    let found = until("b0 is ejected", PATIENCE, call).await;
    assert_eq!(
        (found["weight"].as_f64(), &found["seenBy"][0]["proxy"]),
        (Some(0.0), &Value::from("demo/a")),
        "{found}"
    );
    assert!(found["since"].is_u64(), "{found}");
    assert_eq!(happened(&world, "service=b.demo&kind=ejected").await.unwrap(), ["ejected"]);
}

#[tokio::test]
async fn controller_alone_is_enough_for_those_who_call_all_the_time() {
    let mut world = World::start(3, CONTROLLER_ALONE).await;
    let callers = world.call(&Kind::ALL, 1, Duration::from_millis(20)).await;
    for instance in 0..3 {
        world.stop(instance).await;
        world.start_again(instance).await;
        if callers.has_failed() {
            break;
        }
    }
    callers.end_without_failure("the controller alone").await;
    assert_eq!(world.markers_heard().await, 0.0);
}

#[tokio::test]
async fn caller_that_calls_seldom_fails_nothing_with_the_controller_alone() {
    let mut world = World::start(2, CONTROLLER_ALONE).await;
    let mut application = client::Connection::open(world.mesh.pod("a").outbound(), Version::Http1).await.unwrap();
    for instance in [0, 1] {
        world.stop(instance).await;
        for _ in 0..3 {
            let answer = application.send(request(http::Method::POST, HOST, "/", &[], full("x"))).await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "1"), "without {}", pod(instance));
        }
        world.start_again(instance).await;
    }
}

#[tokio::test]
async fn instance_drains_for_its_callers_until_it_is_ready_again_and_warms_up_then() {
    let mut world = World::start(3, CONTROLLER_ALONE).await;
    let before = until("the controller knows since when b0 is ready", PATIENCE, || ready_since(&world, 0)).await;
    assert_eq!(usability(&world, 0).await.as_deref(), Some("usable"));
    let ordered = Instant::now();
    assert_eq!(world.post("b0", "/drain?wait=false").await.0, 202);
    becomes(&world, 0, "draining").await;
    println!("a found that b0 drains after {:?}", ordered.elapsed());
    let requests = world.requests(0);
    for _ in 0..30 {
        assert_eq!(world.mesh.get("a", HOST, "/", &[]).await.unwrap().status, 200);
    }
    assert_eq!(world.requests(0), requests, "it was called although it drains");

    // The source never says that it is gone: it drains until it is back.
    world.drain(0).await;
    world.stop_application(0).await;
    world.mesh.pod_mut("b0").proxy().ended(PATIENCE).await;
    assert_eq!(usability(&world, 0).await.as_deref(), Some("draining"));
    world.start_again(0).await;
    becomes(&world, 0, "usable").await;
    let after = until("the controller knows since when b0 is ready", PATIENCE, || ready_since(&world, 0)).await;
    assert!(after > before, "{after} is not later than {before}");
}

#[tokio::test]
async fn order_of_the_controller_drains_a_pod_and_nobody_notices() {
    let mut world = World::start(3, &[]).await;
    let refused = ctl(&world, &["drain", "demo/b9"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output);
    let refused = ctl(&world, &["drain", "b.demo"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", refused.output);
    assert!(refused.output.contains("would have no instance left"), "{}", refused.output);

    let callers = world.call(&[Kind::Http1Get, Kind::Http2, Kind::GrpcUnary], 1, Duration::from_millis(20)).await;
    let began = Instant::now();
    let drained = ctl(&world, &["drain", "demo/b0", "--wait", "--timeout", "20s"]).await;
    assert!(drained.status.success(), "{}", drained.output);
    assert!(drained.output.contains("demo/b0: draining"), "{}", drained.output);
    let shown = ctl(&world, &["endpoints", "b.demo"]).await.output;
    assert_eq!(shown.lines().filter(|line| line.contains(" draining ")).count(), 1, "{shown}");
    assert_eq!(shown.lines().filter(|line| line.contains(" usable ")).count(), 2, "{shown}");
    world.end_sidecar(0, began).await;
    world.stop_application(0).await;
    world.start_again(0).await;
    let expected = ["ready", "drain_ordered", "draining", "drained", "left", "ready"];
    until("every transition of b0 is an event", PATIENCE, || async {
        (happened(&world, "workload=demo/b0").await? == expected).then_some(())
    })
    .await;
    let shown = ctl(&world, &["events", "--pod", "demo/b0", "--kind", "drained"]).await.output;
    assert!(shown.lines().count() == 2 && shown.contains("demo/b0"), "{shown}");
    let requests = world.requests(0);
    until("b0 is called again", PATIENCE, || async { (world.requests(0) > requests).then_some(()) }).await;
    callers.end_without_failure("an order of the controller").await;
}

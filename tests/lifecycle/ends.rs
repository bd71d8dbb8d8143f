//! How a sidecar ends: outbound calls go on until its application is gone, and the exit code is 0 within the grace.

use std::time::{Duration, Instant};

use mesh_tests::{
    client::{self, Version, full, request},
    length,
    wait::{PATIENCE, pace, until},
};

use crate::{
    callers::{HOST, Kind},
    world::{GRACE, World, is_there, pod},
};

/// Calls of an application that shuts down, each on a connection of its own, with pauses in which it holds none.
async fn last_calls(world: &World, count: usize) {
    for number in 0..count {
        let answer = client::post(world.mesh.pod("b0").outbound(), HOST, "/", "x").await;
        let answer = answer.unwrap_or_else(|error| panic!("call {number} of the application: {error:#}"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "1"), "call {number}");
        pace(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn application_that_shuts_down_makes_its_last_calls() {
    let mut world = World::start(2, &[]).await;
    let began = Instant::now();
    // Both are told at the same time; the application closes its port first.
    world.mesh.pod_mut("b0").proxy().signal("TERM");
    world.applications[0] = None;
    last_calls(&world, 20).await;
    let status = world.mesh.pod_mut("b0").proxy().ended(PATIENCE).await;
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn application_that_is_ended_after_the_hook_makes_its_last_calls() {
    let mut world = World::start(2, &[]).await;
    let began = Instant::now();
    world.drain(0).await;
    // It made no call meanwhile, and is told to end only now.
    world.applications[0] = None;
    last_calls(&world, 10).await;
    world.end_sidecar(0, began).await;
}

#[tokio::test]
async fn connection_that_the_application_holds_keeps_its_sidecar() {
    let mut world = World::start(2, &[]).await;
    let outbound = world.mesh.pod("b0").outbound();
    let mut held = client::Connection::open(outbound, Version::Http1).await.unwrap();
    let began = Instant::now();
    world.mesh.pod_mut("b0").proxy().signal("TERM");
    world.applications[0] = None;
    for _ in 0..3 {
        let answer = held.send(request(http::Method::POST, HOST, "/", &[], full("x"))).await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, ""));
        pace(Duration::from_millis(1_500)).await;
    }
    assert!(!world.mesh.pod("b0").sidecar.as_ref().unwrap().has_ended());
    drop(held);
    let status = world.mesh.pod_mut("b0").proxy().ended(PATIENCE).await;
    assert!(status.success() && began.elapsed() < GRACE, "{status} after {:?}", began.elapsed());
}

#[tokio::test]
async fn native_sidecar_serves_until_its_signal_and_ends_soon_after_it() {
    let mut world = World::start(2, &[("LANEMESH_SIDECAR_MODE", "native")]).await;
    world.drain(0).await;
    world.applications[0] = None;
    // It was drained, and no signal came: the application may still call.
    last_calls(&world, 10).await;
    let signalled = Instant::now();
    world.end_sidecar(0, signalled).await;
    assert!(signalled.elapsed() < Duration::from_secs(3), "{:?}", signalled.elapsed());
}

#[tokio::test]
async fn sidecar_of_a_job_ends_when_its_container_says_that_it_has_ended() {
    let mut world = World::start(2, &[]).await;
    let pid = world.mesh.pod_mut("b0").proxy().pid();
    assert!(is_there(pid));
    assert_eq!(world.post("b0", "/shutdown").await.0, 200);
    let began = Instant::now();
    let status = world.mesh.pod_mut("b0").proxy().ended(PATIENCE).await;
    assert!(status.success() && began.elapsed() < Duration::from_secs(5), "{status} after {:?}", began.elapsed());
}

#[tokio::test]
async fn sidecar_with_exchanges_that_never_end_ends_with_0_within_the_grace() {
    let mut world = World::start(2, &[]).await;
    let callers = world.call(&[Kind::Http1Get], 1, Duration::from_millis(10)).await;
    // A request whose body never ends, through a connection of the test's own.
    let outbound = world.mesh.pod("a").outbound();
    let mut stuck = Vec::new();
    for _ in 0..length::of(4, 40) {
        let mut stream = tokio::net::TcpStream::connect(outbound).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nx");
        tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    let before = world.requests(0);
    until("requests arrive", PATIENCE, || async { (world.requests(0) > before).then_some(()) }).await;
    let began = Instant::now();
    world.end_sidecar(0, began).await;
    assert!(world.mesh.pod(&pod(0)).log().contains("drained"), "{}", world.mesh.pod(&pod(0)).log());
    drop(stuck);
    drop(callers);
}

#[tokio::test]
async fn readiness_turns_false_and_says_why_while_everything_is_served() {
    let world = World::start(2, &[]).await;
    assert_eq!(world.post("b0", "/drain?wait=false").await.0, 202);
    let (status, text) = world.mesh.pod("b0").fetch("/ready?verbose").await.unwrap();
    assert_eq!((status, text.as_str()), (503, "not ready\nmissing: draining\n"));
    let answer = world.mesh.get("a", HOST, "/", &[]).await.unwrap();
    assert_eq!(answer.status, 200);
    let metrics = world.mesh.pod("b0").metrics().await;
    assert_eq!(metrics.sum("mesh_draining", &[]), 1.0);
}

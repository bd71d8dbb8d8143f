//! What ends a lane by itself in a whole mesh: its guard, which drains it when too many of its requests fail, and the time
//! that requests under way are given once it drains.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use mesh_tests::{
    client::Body,
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
    wait::{PATIENCE, pace, until},
};

use crate::stages::{change, shown};

/// Requests of user `gray` are the lane's, by a rule at the entry; the lane has an instance of b.
fn resources(group: &str, lane: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: LaneGroup\nmetadata: {{name: shop, namespace: demo}}\n\
         spec: {{services: ['*'], entries: [gate], baseline: untagged{group}}}\n---\n\
         apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: canary, namespace: demo}}\n\
         spec: {{group: shop, match: {{any: [{{on: header, name: x-user, operator: equal, value: gray}}]}}{lane}}}\n"
    )
}

/// Pods of the mesh: all have a proxy.
const PROXIES: usize = 3;
const GRAY: (&str, &str) = ("x-user", "gray");
const LABEL: (&str, &str) = ("x-mesh-lane", "canary");

/// A gateway, and b with an instance in baseline and one in the lane, which fails while `is_ill`.
async fn start(resources: &str) -> (Mesh, Vec<Server>, Arc<AtomicBool>) {
    let canary = PodSpec::new("b-canary").of("b").account("b").label("lane", "canary");
    let builder = Mesh::builder().pod(PodSpec::new("gate").of("gate").gateway()).pod(PodSpec::new("b").of("b"));
    let mesh = builder.pod(canary).resource(resources).start().await;
    let is_ill = Arc::new(AtomicBool::new(false));
    let (mut applications, ill) = (Vec::new(), Arc::clone(&is_ill));
    applications.push(Server::start(mesh.application("b"), |request| answer("b", request)).await);
    let of_lane = move |request| {
        let ill = ill.load(Ordering::SeqCst);
        async move {
            let mut answer = answer("b-canary", request).await;
            if ill {
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            answer
        }
    };
    applications.push(Server::start(mesh.application("b-canary"), of_lane).await);
    mesh.reachable("gate", "b").await;
    (mesh, applications, is_ill)
}

async fn answer(pod: &'static str, incoming: Request<Incoming>) -> Response<Body> {
    server::link(pod.to_owned(), None, &[], incoming).await
}

async fn ask(mesh: &Mesh, field: (&str, &str)) -> String {
    mesh.get("gate", "b", "/", &[field]).await.expect("the gateway answers").text()
}

#[tokio::test]
async fn lane_whose_requests_fail_is_drained_by_its_guard_which_says_why() {
    let limits = ", guard: {window: 10s, minRequests: 40, maxErrorRatio: 0.1}";
    let (mesh, applications, is_ill) = start(&resources("", limits)).await;
    // Both levels are judged once the lane has been in use for five seconds.
    until("a good verdict", PATIENCE, || async {
        let served = (ask(&mesh, GRAY).await, ask(&mesh, ("x-user", "plain")).await);
        assert_eq!((served.0.as_str(), served.1.as_str()), ("b-canary[canary]", "b[-]"));
        (shown(&mesh, "canary").await?["verdict"] == "within its limits").then_some(())
    })
    .await;
    is_ill.store(true, Ordering::SeqCst);
    let fell_ill = Instant::now();
    let lane = until("the guard drains the lane", PATIENCE, || async {
        pace(Duration::from_millis(5)).await;
        for user in [GRAY, ("x-user", "plain")] {
            ask(&mesh, user).await;
        }
        shown(&mesh, "canary").await.filter(|lane| lane["state"] == "draining")
    })
    .await;
    let drained = fell_ill.elapsed();
    let history = lane["history"].as_array().unwrap();
    let last = history.last().unwrap();
    let reason = last["reason"].as_str().unwrap();
    assert!(last["state"] == "active" && reason.starts_with("guard: "), "{history:?}");
    assert!(reason.contains("% of its requests failed") && reason.contains("0.00 % of baseline's"), "{reason}");
    let at_drain = applications[1].seen.requests();
    until("the entry stains no more", PATIENCE, || async { (ask(&mesh, GRAY).await == "b[-]").then_some(()) }).await;
    let before = applications[1].seen.requests();
    let more = before - at_drain;
    for _ in 0..100 {
        assert_eq!(ask(&mesh, GRAY).await, "b[-]");
    }
    assert_eq!(applications[1].seen.requests(), before, "requests at the lane's instance after it was drained");
    println!("drained {drained:?} after it began to fail: {reason}; {more} more at its instance until the entry knew");
    let metrics = mesh.controller_page("/metrics").await.unwrap().1;
    let metrics = mesh_tests::metrics::Metrics::parse(&metrics);
    assert_eq!(metrics.sum("mesh_controller_lane_guard_breaches_total", &[("reason", "errors")]), 1.0);
}

#[tokio::test]
async fn draining_lane_honours_its_label_until_no_request_is_older_than_the_group_allows() {
    const AGE: Duration = Duration::from_secs(4);
    let trust = ", maxRequestAge: 4s";
    let (mut mesh, applications, _) = start(&resources(trust, "")).await;
    mesh.reachable("b", "b").await;
    // Requests that were stained earlier come from inside, with their label.
    let labelled = async |mesh: &Mesh| mesh.get("b", "b", "/", &[LABEL]).await.expect("the sidecar answers").text();
    assert_eq!(labelled(&mesh).await, "b-canary[canary]");
    let ordered = Instant::now();
    let known = change(&mesh, PROXIES, "shop/canary", "drain").await;
    // The end needs no controller.
    mesh.controller.kill();
    let mut honoured = 0;
    let ended = loop {
        let began = ordered.elapsed();
        assert_eq!(ask(&mesh, GRAY).await, "b[-]", "the entry stains no more");
        let served = labelled(&mesh).await;
        if !served.starts_with("b-canary[") {
            break began;
        }
        honoured += 1;
        assert!(began < AGE + Duration::from_secs(2), "the label is honoured after {began:?}");
        pace(Duration::from_millis(5)).await;
    };
    assert!(ended >= AGE - Duration::from_millis(500), "the label is ignored after {ended:?} already");
    let before = applications[1].seen.requests();
    for _ in 0..100 {
        let served = labelled(&mesh).await;
        assert!(served.starts_with("b["), "{served}");
    }
    assert_eq!(applications[1].seen.requests(), before, "requests at the lane's instance after its end");
    println!(
        "drain known after {known:?}; {honoured} labelled requests honoured until {ended:?} after the order, then none"
    );
}

//! `mesh-ctl lane` against a running mesh: what it shows and changes, and a probe that finds where a label is lost.

use std::time::Duration;

use mesh_tests::{
    mesh::Mesh,
    pod::PodSpec,
    server::{self, PROPAGATED, Server},
};
use serde_json::Value;

const RESOURCES: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: ['*'], entries: [a]}
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec: {group: shop}
";
const LIMIT: Duration = Duration::from_secs(30);

/// A chain a → b → c, whose b hands on these fields.
async fn start(by_b: &'static [&'static str]) -> (Mesh, Vec<Server>) {
    let canary = PodSpec::new("c-canary").of("c").account("c").label("lane", "canary");
    let mut builder = Mesh::builder().pod(PodSpec::new("client")).pod(canary);
    for service in ["a", "b", "c"] {
        builder = builder.pod(PodSpec::new(service).of(service));
    }
    let mesh = builder.resource(RESOURCES).start().await;
    let mut applications = Vec::new();
    for (pod, next, fields) in
        [("a", Some("b"), PROPAGATED), ("b", Some("c"), by_b), ("c", None, PROPAGATED), ("c-canary", None, PROPAGATED)]
    {
        let (name, outbound) = (pod.to_owned(), mesh.pod(pod).outbound());
        let next = next.map(|host| (outbound, host.to_owned()));
        let handler = move |request| server::link(name.clone(), next.clone(), fields, request);
        applications.push(Server::start(mesh.application(pod), handler).await);
    }
    mesh.reachable("client", "a").await;
    (mesh, applications)
}

async fn ctl(mesh: &Mesh, line: &str) -> (Option<i32>, String) {
    let line = format!("--controller {} {line}", mesh.controller_admin());
    let done = mesh.ctl(line.split(' ')).run(&mesh.logs(), LIMIT).await;
    (done.status.code(), done.output)
}

async fn probe(mesh: &Mesh) -> (Option<i32>, Value) {
    let via = mesh.pod("client").outbound();
    let line = format!("lane probe shop/canary http://a/ --via {via} --expect a,b,c -o json");
    let (code, output) = ctl(mesh, &line).await;
    let from = output.find('{').unwrap_or_else(|| panic!("{output}"));
    (code, serde_json::from_str(&output[from..]).unwrap_or_else(|error| panic!("{error}: {output}")))
}

#[tokio::test]
async fn lanes_are_listed_changed_and_explained_by_command() {
    let (mesh, _applications) = start(PROPAGATED).await;
    let (code, list) = ctl(&mesh, "lane list").await;
    assert!(code == Some(0) && list.contains("c.demo 1/1") && list.contains("active"), "{list}");
    let (code, said) = ctl(&mesh, "lane drain shop/canary --reason slow").await;
    assert!(code == Some(0) && said.contains("shop/canary is draining now"), "{said}");
    let (_, shown) = ctl(&mesh, "lane show shop/canary").await;
    assert!(shown.contains("history") && shown.contains("slow"), "{shown}");
    assert_eq!(ctl(&mesh, "lane rollback shop/canary").await.0, Some(0));
    let (code, refused) = ctl(&mesh, "lane close shop/canary").await;
    assert!(code == Some(1) && refused.contains("drain it first"), "{refused}");
    assert_eq!(ctl(&mesh, "lane set shop/canary --percentage 12.5 --key header:x-user").await.0, Some(0));
    let (_, list) = ctl(&mesh, "lane list shop").await;
    assert!(list.contains("12.50 %"), "{list}");
    let (code, explained) = ctl(&mesh, "lane explain GET http://a/ -H x-mesh-lane:canary --chain b,c").await;
    assert!(code == Some(0) && explained.contains("shop/canary"), "{explained}");
    let (_, watched) = ctl(&mesh, "lane watch --duration 2s").await;
    assert!(watched.contains("shop/canary active"), "{watched}");
}

#[tokio::test]
async fn probe_follows_a_label_through_applications_that_hand_it_on() {
    let (mesh, _applications) = start(PROPAGATED).await;
    let (code, probe) = probe(&mesh).await;
    assert_eq!((code, &probe["well"]), (Some(0), &Value::Bool(true)), "{probe:#}");
    let last = probe["hops"].as_array().unwrap().iter().find(|hop| hop["service"] == "c.demo").unwrap();
    assert_eq!(last["level"], "shop/canary", "{probe:#}");
}

#[tokio::test]
async fn probe_names_the_application_that_hands_nothing_on() {
    let (mesh, _applications) = start(&[]).await;
    let (code, probe) = probe(&mesh).await;
    assert_eq!(code, Some(1), "{probe:#}");
    assert!(probe["verdict"].as_str().unwrap().starts_with("the label is lost at b:"), "{probe:#}");
}

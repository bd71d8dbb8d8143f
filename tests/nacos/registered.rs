//! Workloads that the controller registers on their behalf: there while their sidecar is, back soon after a server that
//! was lost, and shown with the reason where they are not.

use std::time::Duration;

use mesh_tests::{
    mesh::Mesh,
    metrics::Metrics,
    pod::PodSpec,
    registry::{Data, Registry, Server},
    wait::{PATIENCE, until},
};
use tokio::time::Instant;

use crate::world::{ctl, settings};

on_both_servers! {
    workload_is_registered_again_within_ten_seconds_after_a_lost_server,
}

async fn shown(mesh: &Mesh, words: &[&str]) {
    until(&format!("registrations with {words:?}"), PATIENCE, || async {
        let text = ctl(mesh, &["get", "registrations"]).await.output;
        words.iter().all(|word| text.contains(word)).then_some(())
    })
    .await;
}

async fn counted(mesh: &Mesh, state: &str) -> f64 {
    let (_, text) = mesh.controller_page("/metrics").await.expect("the controller answers");
    let labels = [("source", "nacos/main/public"), ("state", state)];
    Metrics::parse(&text).sum("mesh_controller_registrations", &labels)
}

async fn listed(registry: &Registry, count: usize) {
    let api = registry.open_api().await;
    until(&format!("{count} instances of b in the registry"), PATIENCE, || async {
        (api.instances("b").await.len() == count).then_some(())
    })
    .await;
}

async fn workload_is_registered_again_within_ten_seconds_after_a_lost_server(server: Server) {
    let mut registry = Registry::start(server).await;
    let settings = settings(&registry, "  register: [{services: ['demo/b']}]\n");
    let mut mesh = Mesh::builder().nacos(&settings).pod(PodSpec::new("b").of("b")).start().await;
    let address = mesh.application("b").to_string();
    listed(&registry, 1).await;
    assert_eq!(registry.open_api().await.instances("b").await[0].address(), mesh.application("b"));
    shown(&mesh, &["b@@DEFAULT_GROUP@public", &address, "registered\n"]).await;
    assert_eq!(counted(&mesh, "registered").await, 1.0);

    registry.kill();
    shown(&mesh, &[&address, "failed: Nacos main"]).await;
    assert_eq!((counted(&mesh, "registered").await, counted(&mesh, "failed").await), (0.0, 1.0));
    let check = ctl(&mesh, &["check"]).await;
    assert_eq!(check.status.code(), Some(1), "{}", check.output);
    let is_said = |line: &str| line.starts_with("error") && line.contains("registration") && line.contains(&address);
    assert!(check.output.lines().any(is_said), "{}", check.output);

    registry.start_again(Data::Empty).await;
    let back = Instant::now();
    listed(&registry, 1).await;
    println!("{server:?}: registered again {:?} after the server was ready", back.elapsed());
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    shown(&mesh, &[&address, "registered\n"]).await;

    mesh.pod_mut("b").proxy().kill();
    listed(&registry, 0).await;
    shown(&mesh, &[&address, "its proxy is not connected to this controller"]).await;
    assert_eq!(counted(&mesh, "left_out").await, 1.0);
}

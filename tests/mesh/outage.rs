//! Without controller: traffic goes on, restarted sidecars serve from what they kept, what they kept is used only when it is
//! whole, and who was denied stays denied.

use std::{path::Path, time::Duration};

use mesh_tests::{
    length,
    load::Load,
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
    wait::{PATIENCE, until, until_true},
};
use tokio::time::Instant;

const ONLY_A: &str = "apiVersion: lanemesh.io/v1alpha1
kind: AccessPolicy
metadata: {name: callers-of-b, namespace: demo}
spec: {service: b, allow: [{serviceAccounts: [a, steady]}]}
";

async fn mesh_with_denied_caller() -> (Mesh, Vec<Server>) {
    let mesh = Mesh::builder()
        .pod(PodSpec::new("a"))
        .pod(PodSpec::new("steady"))
        .pod(PodSpec::new("denied"))
        .pod(PodSpec::new("b").of("b"))
        .pod(PodSpec::new("c").of("c"))
        .resource(ONLY_A)
        .start()
        .await;
    let mut applications = Vec::new();
    for name in ["b", "c"] {
        applications.push(Server::start(mesh.application(name), |_| async { server::text("served") }).await);
    }
    for host in ["b", "c"] {
        mesh.reachable("a", host).await;
        mesh.reachable("steady", host).await;
    }
    denied(&mesh).await;
    (mesh, applications)
}

async fn denied(mesh: &Mesh) {
    let answer = mesh.get("denied", "b", "/", &[]).await.unwrap();
    assert_eq!(answer.status, 403, "a denied caller was answered {}: {}", answer.status, answer.text());
}

/// Waits until every sidecar has written its snapshot since `reachable` asked for the last target.
async fn kept_on_disk(mesh: &Mesh, pod: &str, text: &str) {
    let file = mesh.sidecar_state(pod).join("snapshot.json");
    let what = format!("{text} in the snapshot of {pod}");
    until_true(&what, PATIENCE, || std::fs::read_to_string(&file).is_ok_and(|kept| kept.contains(text))).await;
}

#[tokio::test]
async fn nothing_fails_while_the_controller_is_dead_and_sidecars_restart_full_length() {
    let (mut mesh, _applications) = mesh_with_denied_caller().await;
    kept_on_disk(&mesh, "a", "b.demo").await;
    kept_on_disk(&mesh, "denied", "b.demo").await;
    let steady = Load::start(mesh.pod("steady").outbound(), "c");
    mesh.controller.kill();
    let end = Instant::now() + length::of(Duration::from_secs(12), Duration::from_secs(120));
    let mut restarts = 0;
    while Instant::now() < end {
        for pod in ["a", "b", "denied"] {
            mesh.pod_mut(pod).proxy().start_again();
            mesh.pod(pod).ready().await;
            restarts += 1;
            let load = Load::start(mesh.pod("a").outbound(), "b");
            until_true("requests after the restart", PATIENCE, || load.sent() >= 20).await;
            load.end_without_failure(&format!("after restart {restarts}, of {pod}")).await;
            denied(&mesh).await;
        }
    }
    let sent = steady.end_without_failure("beside the restarts").await;
    assert!(sent > 100 && restarts >= 3, "{sent} requests, {restarts} restarts");
    mesh.controller.start_again();
    mesh.controller_ready().await;
    mesh.reachable("a", "b").await;
    denied(&mesh).await;
}

/// Damages a kept file so that it must be refused.
fn damage(file: &Path, how: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    match how {
        "truncated" => bytes.truncate(bytes.len() / 2),
        "bit flipped" => {
            let at = bytes.len() * 2 / 3;
            bytes[at] ^= 1;
        }
        "older version" => {
            let text = String::from_utf8(bytes).unwrap();
            bytes = text.replacen(" v1 ", " v0 ", 1).into_bytes();
        }
        "empty" => bytes.clear(),
        other => panic!("no such damage: {other}"),
    }
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn damaged_snapshot_is_refused_and_lets_nobody_in() {
    let (mut mesh, applications) = mesh_with_denied_caller().await;
    for how in ["truncated", "bit flipped", "older version", "empty"] {
        kept_on_disk(&mesh, "b", "callers-of-b").await;
        mesh.controller.kill();
        mesh.pod_mut("b").proxy().kill();
        damage(&mesh.sidecar_state("b").join("snapshot.json"), how);
        let served = applications[0].seen.requests();
        mesh.pod_mut("b").proxy().start_again();
        until(&format!("{how}: the refusal is counted"), PATIENCE, || async {
            let (status, text) = mesh.pod("b").fetch("/metrics").await.ok()?;
            (status == 200 && text.contains("mesh_state_refused_total 1")).then_some(())
        })
        .await;
        assert!(mesh.pod("b").log().contains("kept state refused"), "{how}: the log says so");
        for caller in ["a", "denied"] {
            let answer = mesh.get(caller, "b", "/", &[]).await.unwrap();
            assert_ne!(answer.status, 200, "{how}: {caller} was let in");
        }
        assert_eq!(applications[0].seen.requests(), served, "{how}: the application was reached");
        mesh.controller.start_again();
        mesh.controller_ready().await;
        mesh.pod("b").ready().await;
        mesh.reachable("a", "b").await;
        denied(&mesh).await;
    }
}

#[tokio::test]
async fn kept_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (mesh, _applications) = mesh_with_denied_caller().await;
    kept_on_disk(&mesh, "a", "b.demo").await;
    let mut places = vec![mesh.sidecar_state("a").join("snapshot.json"), mesh.sidecar_state("a").join("identity.json")];
    places.extend(["root.key", "issuer.key", "token.key"].map(|file| mesh.state().join(file)));
    for place in places {
        let mode = std::fs::metadata(&place).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", place.display());
    }
}

//! Certificates are renewed and trust moves from one authority to another under load, without a failed request and without
//! a restart.

use mesh_tests::{
    length,
    load::Load,
    mesh::Mesh,
    peer::{Authority, Handshake, Leaf, Session},
    pod::{NAMESPACE, PodSpec, TRUST_DOMAIN},
    raw,
    server::{self, Server},
    wait::{PATIENCE, until},
};
use tokio::io::AsyncWriteExt as _;

/// Life of a leaf here: the shortest that the controller signs. Renewed at two thirds.
const LIFE: &str = "--leaf-lifetime=5s";

async fn gauge(mesh: &Mesh, pod: &str, name: &str) -> f64 {
    mesh.pod(pod).metrics().await.sum(name, &[])
}

/// Waits until both sidecars have obtained `more` certificates since now.
async fn renewed(mesh: &Mesh, more: usize) {
    for pod in ["a", "b"] {
        let goal = gauge(mesh, pod, "mesh_certificates_total").await + more as f64;
        for step in 0..more {
            let what = format!("renewal {step} of {pod}");
            let reached = goal - (more - step - 1) as f64;
            until(&what, PATIENCE, || async {
                (gauge(mesh, pod, "mesh_certificates_total").await >= reached).then_some(())
            })
            .await;
        }
    }
}

async fn anchors(mesh: &Mesh, count: f64) {
    for pod in ["a", "b"] {
        until(&format!("{count} trust anchors at {pod}"), PATIENCE, || async {
            (gauge(mesh, pod, "mesh_trust_anchors").await == count).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn renewals_under_load_fail_no_request_full_length() {
    let builder = Mesh::builder().controller_argument(LIFE);
    let mesh = builder.pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b")).start().await;
    let _application = Server::start(mesh.application("b"), |_| async { server::text("served") }).await;
    mesh.reachable("a", "b").await;
    let load = Load::start(mesh.pod("a").outbound(), "b");
    renewed(&mesh, length::of(6, 60)).await;
    let sent = load.end_without_failure("during the renewals").await;
    assert!(sent > 100, "{sent} requests");
    for pod in ["a", "b"] {
        assert_eq!(gauge(&mesh, pod, "mesh_certificate_failures_total").await, 0.0, "{pod}");
    }
}

/// Whether b's sidecar takes a peer whose certificate this authority signed.
async fn takes(mesh: &Mesh, authority: &Authority) -> bool {
    let pod = mesh.pod("b");
    let peer = Handshake::with(authority.sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "a")));
    let Ok(mut stream) = peer.open(pod.inbound(), &pod.server_name(), 8080, Session::Http1).await else { return false };
    // The refusal may already be on its way.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n").await;
    raw::read(&mut stream, raw::LISTEN, |_| false).await.status() == 200
}

#[tokio::test]
async fn trust_moves_from_one_authority_to_another_under_load_and_fails_no_request() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let builder = Mesh::builder().authority(&old).controller_argument(LIFE);
    let mesh = builder.pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b")).start().await;
    let _application = Server::start(mesh.application("b"), |_| async { server::text("served") }).await;
    mesh.reachable("a", "b").await;
    assert!(takes(&mesh, &old).await && !takes(&mesh, &new).await, "only the old authority is trusted");
    let load = Load::start(mesh.pod("a").outbound(), "b");

    mesh.write_state("trust-bundle.pem", &format!("{}{}", old.certificate, new.certificate));
    anchors(&mesh, 2.0).await;
    assert!(takes(&mesh, &old).await && takes(&mesh, &new).await, "both authorities are trusted");

    mesh.write_state("own.pem", &new.certificate);
    mesh.write_state("own.key", &new.key);
    renewed(&mesh, 2).await;

    mesh.write_state("trust-bundle.pem", &new.certificate);
    anchors(&mesh, 1.0).await;
    renewed(&mesh, 1).await;
    assert!(!takes(&mesh, &old).await && takes(&mesh, &new).await, "only the new authority is trusted");
    let sent = load.end_without_failure("while trust moved").await;
    assert!(sent > 100, "{sent} requests");
}

//! Every case of h2spec, in strict mode, against both listeners of a sidecar.

use std::{net::SocketAddr, time::Duration};

use mesh_tests::{
    client::{Version, full},
    forward::{Forwarder, Target},
    mesh::Mesh,
    peer::{Handshake, Leaf, Session},
    pod::{NAMESPACE, PodSpec, TRUST_DOMAIN},
    process::Spec,
    programs,
    server::Server,
};

/// Most cases end at once; some wait for their own timeout.
const LIMIT: Duration = Duration::from_secs(240);
/// Cases that the tool has in strict mode.
const CASES: usize = 146;

async fn mesh_with_application() -> (Mesh, Server) {
    let mesh =
        Mesh::builder().pod(PodSpec::new("a")).pod(PodSpec::new("b").of("b").application_elsewhere()).start().await;
    let application = Server::start(mesh.application("b"), |request| async move {
        let is_head = request.method() == http::Method::HEAD;
        // The answer comes when the request is whole; cases about flow control want more bytes than one window update.
        let _ = http_body_util::BodyExt::collect(request.into_body()).await;
        http::Response::new(full(if is_head { String::new() } else { "x".repeat(1_000) }))
    })
    .await;
    mesh.reachable("a", "b").await;
    let mut warm = mesh.connection("a", Version::Http2).await.unwrap();
    let request = mesh_tests::client::request(http::Method::GET, "b", "/", &[], full(""));
    assert_eq!(warm.send(request).await.unwrap().status, 200);
    (mesh, application)
}

async fn all_cases_pass(mesh: &Mesh, at: SocketAddr) {
    let finished = Spec::new("h2spec", programs::go("h2spec"))
        // The tool takes frames to be at most 16 KiB; ours may be 64 KiB (SETTINGS_MAX_FRAME_SIZE), so that a head that
        // exceeds the limit, in five fields of this length, must be longer than the tool's own default makes it.
        .args([
            "--max-header-length",
            "16000",
            "--strict",
            "--timeout",
            "5",
            "--host",
            &at.ip().to_string(),
            "--port",
            &at.port().to_string(),
        ])
        .run(&mesh.logs(), LIMIT)
        .await;
    let summary = finished.output.lines().rfind(|line| line.contains(" tests, ")).unwrap_or("no summary").to_owned();
    let wanted = format!("{CASES} tests, {CASES} passed, 0 skipped, 0 failed");
    let failures = finished.output.split("Failures:").nth(1).unwrap_or(&finished.output);
    assert_eq!(summary, wanted, "{failures}");
}

#[tokio::test]
async fn outbound_listener_passes_every_case_of_h2spec() {
    let (mesh, _application) = mesh_with_application().await;
    let at = mesh.pod("b").registered();
    let _forwarder = Forwarder::start(at, Target::Plain(mesh.pod("a").outbound())).await;
    all_cases_pass(&mesh, at).await;
}

#[tokio::test]
async fn inbound_listener_passes_every_case_of_h2spec() {
    let (mesh, _application) = mesh_with_application().await;
    let pod = mesh.pod("b");
    let target = Target::Mesh {
        handshake: Handshake::with(mesh.authority().sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "a"))),
        to: pod.inbound(),
        server_name: pod.server_name(),
        port: pod.registered().port(),
        session: Session::Http2,
    };
    let at = pod.registered();
    let _forwarder = Forwarder::start(at, target).await;
    all_cases_pass(&mesh, at).await;
}

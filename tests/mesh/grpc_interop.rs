//! gRPC's own interoperability cases, with the client and the server of gRPC for Go, through two sidecars.

use std::time::Duration;

use mesh_tests::{
    mesh::Mesh,
    pod::{APPLICATION_PORT, PodSpec},
    programs,
    wait::{PATIENCE, until_true},
};

const CASES: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
];

/// One case takes well under a second.
const LIMIT: Duration = Duration::from_secs(30);

async fn all_cases_pass(protocol: &str) {
    let b = PodSpec::new("b").of("b").protocol(protocol);
    let mesh = Mesh::builder().captured().pod(PodSpec::new("a")).pod(b).start().await;
    let port = format!("-port={APPLICATION_PORT}");
    let server = mesh.pod("b").program("server", programs::go("grpc-interop-server")).arg(port).start(&mesh.logs());
    until_true("gRPC server listens", PATIENCE, || mesh.pod("b").listens(APPLICATION_PORT)).await;
    let mut failed = Vec::new();
    for case in CASES {
        let finished = mesh
            .pod("a")
            .program(case, programs::go("grpc-interop-client"))
            .arg(format!("-server_host={}", mesh.pod("b").address))
            .arg(format!("-server_port={APPLICATION_PORT}"))
            .arg(format!("-test_case={case}"))
            .run(&mesh.logs(), LIMIT)
            .await;
        if !finished.status.success() {
            failed.push(format!("{case}: {}", finished.output));
        }
    }
    drop(server);
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), CASES.len(), failed.join("\n"));
    let carried = mesh.pod("b").metrics().await;
    assert!(carried.samples.iter().any(|sample| sample.value > 0.0), "the callee's sidecar carried the calls");
}

#[tokio::test]
async fn grpc_interop_cases_pass_through_two_sidecars_with_detection() {
    all_cases_pass("detect").await;
}

#[tokio::test]
async fn grpc_interop_cases_pass_through_two_sidecars_on_a_grpc_port() {
    all_cases_pass("grpc").await;
}

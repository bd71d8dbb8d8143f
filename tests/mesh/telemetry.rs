//! What the mesh tells: spans to an OpenTelemetry collector, the access log, metrics.

use std::sync::{Arc, Mutex};

use mesh_tests::{
    collector::{Collector, hex},
    mesh::Mesh,
    pod::PodSpec,
    server::{self, Server},
    wait::{PATIENCE, until, until_true},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A mesh whose sidecars export to a collector that starts after them.
async fn mesh() -> (Mesh, Server, Arc<Mutex<Vec<String>>>) {
    // The collector's address must be known before the sidecars start: the block of another reservation.
    let traced = |pod: PodSpec, collector: &str| {
        pod.setting("LANEMESH_OTLP_ENDPOINT", collector).setting("LANEMESH_ACCESS_LOG", "all")
    };
    let block = mesh_tests::addresses::Block::reserve();
    let collector = format!("http://{}:4317", block.address(1));
    let mesh = Mesh::builder()
        .pod(traced(PodSpec::new("a"), &collector))
        .pod(traced(PodSpec::new("b").of("b"), &collector))
        .hold(block)
        .start()
        .await;
    let parents = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&parents);
    let application = Server::start(mesh.application("b"), move |request| {
        let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
        seen.lock().unwrap().push(parent.to_owned());
        async { server::text("served") }
    })
    .await;
    mesh.reachable("a", "b").await;
    (mesh, application, parents)
}

#[tokio::test]
async fn spans_of_both_sidecars_join_the_callers_trace_and_reach_the_collector() {
    let (mesh, _application, parents) = mesh().await;
    let (collector, _serving) = Collector::start((mesh.held(), 4317).into()).await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let spans = until("spans of both sidecars", PATIENCE, || async {
        // Spans that were made before the collector listened may be lost: telemetry never holds traffic up.
        let answer = mesh.get("a", "b", "/traced", &[("traceparent", &traceparent)]).await.ok()?;
        assert_eq!(answer.status, 200);
        let spans = collector.of_trace(TRACE);
        spans.iter().any(|span| spans.iter().any(|child| child.parent_span_id == span.span_id)).then_some(spans)
    })
    .await;
    let first = spans.iter().find(|span| hex(&span.parent_span_id) == PARENT).expect("a span below the caller's");
    let second = spans
        .iter()
        .find(|span| spans.iter().any(|parent| parent.span_id == span.parent_span_id))
        .expect("a span below the first sidecar's");
    assert_ne!(first.span_id, second.span_id);
    for span in [first, second] {
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0, "{span:?}");
        assert!(!span.name.is_empty() && !span.attributes.is_empty(), "{span:?}");
    }
    let told = parents.lock().unwrap().clone();
    let known: Vec<String> = spans.iter().map(|span| format!("00-{TRACE}-{}-01", hex(&span.span_id))).collect();
    assert!(told.iter().any(|parent| known.contains(parent)), "the application continues the trace: {told:?}");
}

#[tokio::test]
async fn traffic_goes_on_without_collector() {
    let (mesh, _application, _parents) = mesh().await;
    for _ in 0..300 {
        let traceparent = format!("00-{TRACE}-{PARENT}-01");
        let answer = mesh.get("a", "b", "/", &[("traceparent", &traceparent)]).await.unwrap();
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn access_log_is_one_json_object_per_exchange_and_names_the_outcome() {
    let (mesh, _application, _parents) = mesh().await;
    assert_eq!(mesh.get("a", "b", "/logged", &[]).await.unwrap().status, 200);
    assert_ne!(mesh.get("a", "nowhere", "/refused", &[]).await.unwrap().status, 200);
    for (path, outcome) in [("/logged", "success"), ("/refused", "no_route")] {
        until_true(&format!("{path} in the log"), PATIENCE, || mesh.pod("a").log().contains(path)).await;
        let log = mesh.pod("a").log();
        let line = log.lines().find(|line| line.contains(path)).expect("just seen");
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["outcome"], outcome, "{line}");
    }
}

#[tokio::test]
async fn metrics_count_exchanges_once_on_each_side() {
    let (mesh, _application, _parents) = mesh().await;
    let count = |pod: &'static str, direction: &'static str| {
        let mesh = &mesh;
        async move {
            let labels = [("direction", direction), ("outcome", "success")];
            mesh.pod(pod).metrics().await.sum("mesh_requests_total", &labels)
        }
    };
    // The call that showed that b is reachable may be counted after its answer was read.
    let before = until("that call is counted", PATIENCE, || async {
        let counts = (count("a", "outbound").await, count("b", "inbound").await);
        (counts.0 >= 1.0 && counts.1 >= 1.0).then_some(counts)
    })
    .await;
    for _ in 0..50 {
        assert_eq!(mesh.get("a", "b", "/", &[]).await.unwrap().status, 200);
    }
    until("both sides have counted", PATIENCE, || async {
        let after = (count("a", "outbound").await, count("b", "inbound").await);
        (after.0 - before.0 >= 50.0 && after.1 - before.1 >= 50.0).then_some(())
    })
    .await;
    assert_eq!(count("a", "outbound").await - before.0, 50.0);
    assert_eq!(count("b", "inbound").await - before.1, 50.0);
}

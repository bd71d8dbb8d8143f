//! Seeing lanes: the rules of `examples/observability` in `promtool`, and those of lanes with their dashboard in a real
//! Prometheus that scrapes a real mesh.

use std::net::SocketAddr;

use mesh_tests::{
    client::{self, Version},
    mesh::Mesh,
    observability,
    pod::PodSpec,
    process::{Process, Spec},
    programs,
    server::{self, PROPAGATED, Server},
    wait::{PATIENCE, until},
};
use serde_json::Value;
use tempfile::TempDir;

const LANES: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: [\"*\"], entries: [a]}
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec: {group: shop}
";
/// Requests between two looks at what Prometheus knows.
const BETWEEN_LOOKS: usize = 10;
/// Panels that show nothing while nothing is wrong.
const EMPTY_WHEN_WELL: &[&str] = &[
    "Leaks (10 min)",
    "Instances not used like others",
    "Ejections",
    "Escapes",
    "Refused",
    "Fallback for want of health",
    "Escapes and refusals",
    "Leaks",
];

#[tokio::test]
async fn promtool_takes_the_rules_and_their_unit_tests_pass() {
    let logs = TempDir::new().unwrap();
    for arguments in [
        ["check", "rules", "lanes.rules.yaml"],
        ["test", "rules", "lanes.test.yaml"],
        ["check", "rules", "models.rules.yaml"],
        ["test", "rules", "models.test.yaml"],
    ] {
        let promtool = Spec::new("promtool", programs::system("promtool")).args(arguments);
        let finished = promtool.in_directory(observability::folder()).run(logs.path(), PATIENCE).await;
        assert!(finished.status.success(), "{arguments:?}: {}", finished.output);
    }
}

/// A Prometheus that scrapes the sidecars of a mesh every second and evaluates the rules of lanes.
struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    fn start(mesh: &Mesh, pods: &[&str], folder: &TempDir) -> Prometheus {
        let address = SocketAddr::new(mesh.address(200), 9_090);
        let targets: Vec<String> = pods.iter().map(|pod| target(mesh, pod)).collect();
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n- job_name: \
             mesh\n  static_configs:\n{}",
            observability::folder().join("lanes.rules.yaml").display(),
            targets.concat(),
        );
        let file = folder.path().join("prometheus.yaml");
        std::fs::write(&file, configuration).unwrap();
        let process = Spec::new("prometheus", programs::system("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .start(folder.path());
        Prometheus { address, _process: process }
    }

    /// Samples of an instant query; an error of the query fails the test.
    async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        let answer = client::get(self.address, Version::Http1, "prometheus", &path, &[]).await.ok()?;
        let answer: Value = serde_json::from_str(&answer.text()).ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        Some(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// The one value of a query that yields exactly one.
    async fn value(&self, query: &str) -> Option<f64> {
        match self.query(query).await?.as_slice() {
            [sample] => sample["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }
}

fn target(mesh: &Mesh, pod: &str) -> String {
    format!("  - {{targets: [\"{}\"], labels: {{pod: {pod}}}}}\n", mesh.pod(pod).admin())
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// client → a → b → c, where b has an instance in the lane; client → lossy → c, whose application hands on nothing.
async fn mesh() -> (Mesh, Vec<Server>) {
    let mut builder = Mesh::builder().pod(PodSpec::new("client")).resource(LANES);
    for service in ["a", "b", "c", "lossy"] {
        builder = builder.pod(PodSpec::new(service).of(service));
    }
    let canary = PodSpec::new("b-canary").of("b").account("b").label("lane", "canary");
    let mesh = builder.pod(canary).start().await;
    let mut applications = Vec::new();
    let chain: [(&str, Option<&str>, &'static [&'static str]); 5] = [
        ("a", Some("b"), PROPAGATED),
        ("b", Some("c"), PROPAGATED),
        ("b-canary", Some("c"), PROPAGATED),
        ("c", None, PROPAGATED),
        ("lossy", Some("c"), &[]),
    ];
    for (pod, next, propagated) in chain {
        let next = next.map(|host| (mesh.pod(pod).outbound(), host.to_owned()));
        let handler = move |request| server::link(pod.to_owned(), next.clone(), propagated, request);
        applications.push(Server::start(mesh.application(pod), handler).await);
    }
    mesh.reachable("client", "a").await;
    mesh.reachable("client", "lossy").await;
    (mesh, applications)
}

async fn traffic(mesh: &Mesh) {
    for _ in 0..BETWEEN_LOOKS {
        for (host, headers) in
            [("a", &[][..]), ("a", &[("x-mesh-lane", "canary")]), ("lossy", &[("x-mesh-lane", "canary")])]
        {
            let answer = mesh.get("client", host, "/", headers).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn rules_and_dashboard_show_a_lane_of_a_real_mesh() {
    let (mesh, _applications) = mesh().await;
    let folder = TempDir::new().unwrap();
    let pods = ["client", "a", "b", "b-canary", "c", "lossy"];
    let prometheus = Prometheus::start(&mesh, &pods, &folder);
    let (mesh, prometheus) = (&mesh, &prometheus);
    for (query, least, most) in [
        ("sum(lane:requests:rate5m{service=\"b.demo\", lane=~\"(shop/)?canary\", level=\"shop/canary\"})", 0.01, 1e6),
        ("sum(lane:fallback_ratio:rate5m{service=\"c.demo\", reason=\"missing\"})", 0.99, 1.01),
        ("workload:lane_propagation_loss:ratio{pod=\"lossy\"}", 0.99, 1.0),
        ("workload:lane_propagation_loss:ratio{pod=\"a\"}", 0.0, 0.1),
        ("lane:error_ratio_over_baseline:rate5m{service=\"b.demo\", level=\"shop/canary\"}", 0.0, 0.0),
        ("lane:latency_p99_to_baseline:ratio{service=\"b.demo\", level=\"shop/canary\"}", 0.001, 1e6),
    ] {
        until(&format!("{query} from {least} to {most}"), 2 * PATIENCE, || async {
            traffic(mesh).await;
            prometheus.value(query).await.filter(|value| (least..=most).contains(value))
        })
        .await;
    }
    assert_eq!(prometheus.query("lane:leaks:increase10m > 0").await.unwrap(), Vec::<Value>::new());
    assert_eq!(prometheus.query("lane:escapes:rate2m").await.unwrap(), Vec::<Value>::new());
    let dashboard = observability::dashboard("lanes.dashboard.json");
    for shown in observability::shown(&dashboard) {
        let query = chosen(&shown.text);
        let samples = prometheus.query(&query).await.unwrap_or_else(|| panic!("{}: no answer", shown.place));
        let is_empty = EMPTY_WHEN_WELL.iter().any(|title| shown.place == format!("panel \"{title}\""));
        if shown.place.starts_with("panel") && !is_empty {
            assert!(!samples.is_empty(), "{} shows nothing: {query}", shown.place);
        }
    }
}

/// The query with what a reader has chosen: the group, and all services and lanes.
fn chosen(query: &str) -> String {
    query.replace("$group", "shop").replace("$service", ".+").replace("$lane", ".+")
}

//! Which instances serve a lane's requests at a hop when the lane's own are absent, fail their health check, are ejected
//! or drain, for everything that a lane can say about it; and lanes whose only instance dies under load.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use mesh_tests::{
    client::{self, Version},
    mesh::Mesh,
    pod::PodSpec,
    server::{Server, text},
    wait::{PATIENCE, pace, until},
};
use tokio::{task::JoinSet, time::Instant};

const GROUP: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec:
  services: [\"*\"]
  entries: [client]
";

fn lane(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: Lane\nmetadata: {{name: {name}, namespace: demo}}\n\
         spec: {{group: shop, selector: {{labels: {{gray: \"yes\"}}}}{rest}}}\n"
    )
}

fn traffic(service: &str, rest: &str) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {service}, namespace: demo}}\n\
         spec: {{service: {service}{rest}}}\n"
    )
}

/// An application that answers with its name, and can be made ill.
struct Application {
    _server: Server,
    is_ill: Arc<AtomicBool>,
}

impl Application {
    /// While ill, it answers 503 to whatever `falls_ill` says.
    async fn start(mesh: &Mesh, pod: &str, falls_ill: fn(&str) -> bool) -> Application {
        let is_ill = Arc::new(AtomicBool::new(false));
        let (name, ill) = (pod.to_owned(), Arc::clone(&is_ill));
        let server = Server::start(mesh.application(pod), move |request| {
            let mut answer = text(name.clone());
            if ill.load(Ordering::SeqCst) && falls_ill(request.uri().path()) {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            std::future::ready(answer)
        });
        Application { _server: server.await, is_ill }
    }

    fn fall_ill(&self) {
        self.is_ill.store(true, Ordering::SeqCst);
    }
}

async fn call(mesh: &Mesh, host: &str, lane: Option<&str>) -> String {
    let label = lane.map(|lane| ("x-mesh-lane", lane));
    let answer = mesh.get("client", host, "/", label.as_slice()).await.expect("the sidecar answers");
    match answer.status {
        200 => answer.text(),
        status => format!("{status} {}", answer.header("x-mesh-error")),
    }
}

/// Usability of every instance of a service, as the client's sidecar sees it, by address.
async fn usability(mesh: &Mesh, service: &str) -> Vec<(String, String)> {
    let (_, page) = mesh.pod("client").fetch("/endpoints").await.expect("the admin port answers");
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let items = page["items"].as_array().expect("a list").iter();
    let prefix = format!("{service}.demo.");
    items
        .filter(|item| text(&item["service"]).starts_with(&prefix))
        .map(|item| (text(&item["address"]), text(&item["usability"])))
        .collect()
}

async fn until_usability(mesh: &Mesh, service: &str, pod: &str, expected: &str) {
    let address = mesh.pod(pod).registered().to_string();
    until(&format!("{pod} is {expected}"), PATIENCE, || async {
        let found = usability(mesh, service).await;
        found.iter().any(|(at, usability)| *at == address && usability == expected).then_some(())
    })
    .await;
}

fn gray(service: &str, number: u8) -> PodSpec {
    PodSpec::new(&format!("{service}-gray-{number}")).of(service).account(service).label("gray", "yes")
}

/// What the lanes say: name, rest of the specification.
const LANES: &[(&str, &str)] = &[
    ("ff", ", onMissing: fallback, onUnhealthy: fallback, minHealthy: 2"),
    ("fs", ", onMissing: fallback, onUnhealthy: stay, minHealthy: 2"),
    ("fr", ", onMissing: fallback, onUnhealthy: reject, minHealthy: 2"),
    ("rf", ", onMissing: reject, onUnhealthy: fallback, minHealthy: 2"),
    ("rs", ", onMissing: reject, onUnhealthy: stay, minHealthy: 2"),
    ("rr", ", onMissing: reject, onUnhealthy: reject, minHealthy: 2"),
];

/// A mesh with a service for each reason why a lane's instances may not serve.
async fn every_reason() -> (Mesh, Vec<Application>) {
    let mut builder = Mesh::builder().pod(PodSpec::new("client")).resource(GROUP);
    for (name, rest) in LANES {
        builder = builder.resource(&lane(name, rest));
    }
    builder = builder.resource(&traffic(
        "failing",
        ", healthCheck: {http: {path: /healthz}, interval: 200ms, unhealthyThreshold: 2, healthyThreshold: 1}",
    ));
    for service in ["absent", "failing", "ejected", "draining"] {
        builder = builder.pod(PodSpec::new(service).of(service));
    }
    for service in ["failing", "ejected", "draining"] {
        builder = builder.pod(gray(service, 1)).pod(gray(service, 2));
    }
    let mesh = builder.start().await;
    let mut applications = Vec::new();
    for service in ["absent", "failing", "ejected", "draining"] {
        applications.push(Application::start(&mesh, service, |_| false).await);
    }
    for service in ["failing", "ejected", "draining"] {
        for number in 1..=2 {
            let falls_ill = if service == "failing" { |path: &str| path == "/healthz" } else { |_: &str| true };
            applications.push(Application::start(&mesh, &format!("{service}-gray-{number}"), falls_ill).await);
        }
    }
    for service in ["absent", "failing", "ejected", "draining"] {
        mesh.reachable("client", service).await;
    }
    (mesh, applications)
}

#[tokio::test]
async fn each_reason_and_each_rule_of_a_lane_leads_to_the_instance_that_it_says() {
    let (mesh, applications) = every_reason().await;
    for service in ["failing", "ejected", "draining"] {
        for (lane, _) in LANES {
            let served = call(&mesh, service, Some(lane)).await;
            assert!(served.starts_with(&format!("{service}-gray-")), "{service} {lane} while all is well: {served}");
        }
    }
    let [_, _, _, _, failing_1, failing_2, ejected_1, ..] = &applications[..] else { panic!("ten applications") };
    failing_1.fall_ill();
    failing_2.fall_ill();
    for number in 1..=2 {
        until_usability(&mesh, "failing", &format!("failing-gray-{number}"), "failing_health").await;
    }
    ejected_1.fall_ill();
    until("an ejection", PATIENCE, || async {
        call(&mesh, "ejected", Some("fs")).await;
        let address = mesh.pod("ejected-gray-1").registered().to_string();
        let found = usability(&mesh, "ejected").await;
        found.contains(&(address, "ejected".to_owned())).then_some(())
    })
    .await;
    let services = std::fs::read_to_string(mesh.source().join("services.yaml")).expect("the harness wrote it");
    let drained = ["draining-gray-1", "draining-gray-2"].iter().fold(services, |text, pod| {
        text.replace(&format!("    pod: {pod}\n"), &format!("    pod: {pod}\n    draining: true\n"))
    });
    mesh.write_source("services.yaml", &drained);
    for number in 1..=2 {
        until_usability(&mesh, "draining", &format!("draining-gray-{number}"), "draining").await;
    }
    let mut cells = 0;
    for (lane, _) in LANES {
        let absent = if lane.starts_with('f') { "absent" } else { "503 lane_missing" };
        assert_eq!(call(&mesh, "absent", Some(lane)).await, absent, "absent {lane}");
        for (service, members) in [
            ("failing", &["failing-gray-1", "failing-gray-2"][..]),
            ("ejected", &["ejected-gray-2"]),
            ("draining", &["draining-gray-1", "draining-gray-2"]),
        ] {
            let expected = match &lane[1..] {
                "f" => &[service][..],
                "s" => members,
                _ => &["503 lane_unhealthy"],
            };
            for _ in 0..5 {
                let served = call(&mesh, service, Some(lane)).await;
                assert!(expected.contains(&served.as_str()), "{service} {lane}: {served}, expected {expected:?}");
            }
            cells += 1;
        }
        cells += 1;
    }
    for service in ["absent", "failing", "ejected", "draining"] {
        assert_eq!(call(&mesh, service, None).await, service, "plain traffic");
    }
    let metrics = mesh.pod("client").metrics().await;
    for service in ["failing", "ejected", "draining"] {
        let labels =
            [("service", &*format!("{service}.demo")), ("lane", "ff"), ("level", "baseline"), ("reason", "unhealthy")];
        assert_eq!(metrics.sum("mesh_requests_total", &labels), 5.0, "{service}");
    }
    assert_eq!(metrics.sum("mesh_endpoint_ejections_total", &[("service", "ejected.demo")]), 1.0);
    assert_eq!(metrics.sum("mesh_endpoints_unusable", &[("reason", "failing_health")]), 2.0);
    for pod in ["failing-gray-1", "ejected-gray-2", "draining-gray-1"] {
        assert_eq!(mesh.pod(pod).metrics().await.sum("mesh_lane_leaks_total", &[]), 0.0, "leaks at {pod}");
    }
    println!("{cells} cells");
}

/// One answered request of a load.
#[derive(Clone, Debug)]
struct Seen {
    began: Instant,
    served: String,
}

/// A load of labelled requests, each answer with the moment at which its request began.
struct Load {
    seen: Arc<Mutex<Vec<Seen>>>,
    _clients: JoinSet<()>,
}

/// Clients of a load.
const CLIENTS: usize = 8;

impl Load {
    fn start(mesh: &Mesh, version: Version) -> Load {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (to, seen) = (mesh.pod("client").outbound(), Arc::clone(&seen));
            clients.spawn(async move {
                loop {
                    let began = Instant::now();
                    let served = match client::get(to, version, "b", "/", &[("x-mesh-lane", "canary")]).await {
                        Ok(answer) if answer.status == 200 => answer.text(),
                        Ok(answer) => format!("{} {}", answer.status, answer.text()),
                        Err(error) => format!("{error:#}"),
                    };
                    seen.lock().expect("no panic while held").push(Seen { began, served });
                    pace(Duration::from_millis(5)).await;
                }
            });
        }
        Load { seen, _clients: clients }
    }

    /// Answers of requests that began after `moment`, in order of their beginning.
    fn since(&self, moment: Instant) -> Vec<Seen> {
        let mut seen = self.seen.lock().expect("no panic while held").clone();
        seen.retain(|one| one.began >= moment);
        seen.sort_by_key(|one| one.began);
        seen
    }

    /// Waits until so many requests that began after `moment` are answered.
    async fn more(&self, moment: Instant, count: usize) -> Vec<Seen> {
        until(&format!("{count} more answers"), PATIENCE, || async {
            let seen = self.since(moment);
            (seen.len() >= count).then_some(seen)
        })
        .await
    }

    /// Waits until every client is served by `pod`.
    async fn served_by(&self, pod: &str) {
        until(&format!("{pod} serves"), PATIENCE, || async {
            let seen = self.since(Instant::now() - Duration::from_millis(300));
            (seen.len() >= CLIENTS && seen.iter().all(|one| one.served == pod)).then_some(())
        })
        .await;
    }
}

/// `b` with one instance in baseline and one in the lane `canary`.
async fn single(policy: &str) -> (Mesh, Vec<Application>) {
    let builder = Mesh::builder()
        .pod(PodSpec::new("client"))
        .pod(PodSpec::new("b").of("b"))
        .pod(PodSpec::new("b-canary").of("b").account("b").label("gray", "yes"));
    let mesh = builder.resource(GROUP).resource(&lane("canary", "")).resource(&traffic("b", policy)).start().await;
    let applications =
        vec![Application::start(&mesh, "b", |_| false).await, Application::start(&mesh, "b-canary", |_| true).await];
    mesh.reachable("client", "b").await;
    (mesh, applications)
}

const POLICY: &str = ", timeouts: {connect: 500ms, responseHeaders: 500ms}, outlierDetection: {baseEjectionTime: 1s}";
/// With [`POLICY`]: five clients wait at most once for a connection and once for an answer.
const DETECTION: Duration = Duration::from_millis(1_500);

/// Breaks the lane's only instance by `signal` under load, and mends it again.
async fn instance_breaks_and_returns(version: Version, signal: &str) {
    let (mut mesh, _applications) = single(POLICY).await;
    let load = Load::start(&mesh, version);
    load.served_by("b-canary").await;
    let broken = Instant::now();
    mesh.pod_mut("b-canary").proxy().signal(signal);
    until_usability(&mesh, "b", "b-canary", "ejected").await;
    let detected = broken.elapsed();
    let later = load.more(broken + DETECTION, 400).await;
    let failed_before = load.since(broken).iter().filter(|one| !one.served.starts_with('b')).count();
    let wrong: Vec<_> = later.iter().filter(|one| one.served != "b").collect();
    assert!(wrong.is_empty(), "{} of {} after the detection interval: {:?}", wrong.len(), later.len(), wrong.first());
    println!("{signal} {version:?}: ejected after {detected:?}, {failed_before} failed, then {} by b", later.len());
    match signal {
        "STOP" => mesh.pod_mut("b-canary").proxy().signal("CONT"),
        _ => {
            mesh.pod_mut("b-canary").proxy().ended(PATIENCE).await;
            mesh.pod_mut("b-canary").proxy().start_again();
            mesh.pod("b-canary").ready().await;
        }
    }
    load.served_by("b-canary").await;
    let returned = Instant::now();
    let after = load.more(returned, 200).await;
    assert!(
        after.iter().all(|one| one.served == "b-canary"),
        "{:?}",
        after.iter().find(|one| one.served != "b-canary")
    );
}

#[tokio::test]
async fn lane_whose_only_instance_is_killed_falls_back_and_returns() {
    instance_breaks_and_returns(Version::Http1, "KILL").await;
}

#[tokio::test]
async fn lane_whose_only_instance_is_killed_falls_back_and_returns_over_http2() {
    instance_breaks_and_returns(Version::Http2, "KILL").await;
}

#[tokio::test]
async fn lane_whose_only_instance_falls_silent_falls_back_and_returns() {
    instance_breaks_and_returns(Version::Http1, "STOP").await;
}

#[tokio::test]
async fn lane_whose_only_instance_falls_silent_falls_back_and_returns_over_http2() {
    instance_breaks_and_returns(Version::Http2, "STOP").await;
}

#[tokio::test]
async fn lane_whose_instance_is_up_and_down_changes_its_level_seldom() {
    let (mesh, applications) = single(POLICY).await;
    let load = Load::start(&mesh, Version::Http1);
    load.served_by("b-canary").await;
    let begun = Instant::now();
    // Up and down every half second, for ten seconds.
    for round in 0..20 {
        applications[1].is_ill.store(round % 2 == 0, Ordering::SeqCst);
        pace(Duration::from_millis(500)).await;
    }
    let seen = load.since(begun);
    let levels: Vec<bool> = seen.iter().map(|one| one.served == "b").collect();
    let ejections = mesh.pod("client").metrics().await.sum("mesh_endpoint_ejections_total", &[("service", "b.demo")]);
    let by_baseline = levels.iter().filter(|is_baseline| **is_baseline).count();
    println!("{} requests, {by_baseline} by baseline, {ejections} ejections in 10 s of flapping", seen.len());
    // 1 s, 2 s, 3 s, … out: four ejections fill ten seconds.
    assert!((1.0..=5.0).contains(&ejections), "{ejections} ejections");
    applications[1].is_ill.store(false, Ordering::SeqCst);
    load.served_by("b-canary").await;
}

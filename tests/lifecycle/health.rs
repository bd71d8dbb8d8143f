//! Active health checks: instances that flip, a sidecar that is dead, many callers that share probing, no controller.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use mesh_tests::{
    addresses::Block,
    length,
    load::Load,
    mesh::Mesh,
    pod::PodSpec,
    server::{Server, text},
    wait::{PATIENCE, pace, until, until_true},
};
use tokio::time::Instant;

use crate::{callers::HOST, standins::StandIn};

/// Path of probes.
pub(crate) const HEALTH: &str = "/healthz";
/// What a caller has on top of an interval to know of a change.
const GRACE: Duration = Duration::from_secs(1);

/// A policy that probes `b` so often, by so many of its callers.
fn policy(interval: Duration, shared_by: usize) -> String {
    format!(
        "apiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: b, namespace: demo}}\n\
         spec: {{service: b, healthCheck: {{http: {{path: {HEALTH}}}, interval: {}ms, timeout: 500ms, \
         unhealthyThreshold: 1, healthyThreshold: 1, sharedBy: {shared_by}}}}}\n",
        interval.as_millis()
    )
}

/// An application that counts probes of it, and can be made ill.
struct Application {
    _server: Server,
    is_ill: Arc<AtomicBool>,
    probes: Arc<Mutex<Vec<Instant>>>,
    calls: Arc<Mutex<usize>>,
}

impl Application {
    async fn start(address: SocketAddr) -> Application {
        let (is_ill, probes, calls) =
            (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Instant>>>::default(), Arc::default());
        let (ill, probed, called) = (Arc::clone(&is_ill), Arc::clone(&probes), Arc::<Mutex<usize>>::clone(&calls));
        let server = Server::start(address, move |request| {
            let mut answer = text("here");
            if request.uri().path() == HEALTH {
                probed.lock().expect("no panic while held").push(Instant::now());
                if ill.load(Ordering::SeqCst) {
                    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
            } else {
                *called.lock().expect("no panic while held") += 1;
            }
            std::future::ready(answer)
        });
        Application { _server: server.await, is_ill, probes, calls }
    }

    fn is_ill(&self, ill: bool) {
        self.is_ill.store(ill, Ordering::SeqCst);
    }

    fn calls(&self) -> usize {
        *self.calls.lock().expect("no panic while held")
    }

    /// Probes since then.
    fn probes(&self, since: Instant) -> usize {
        self.probes.lock().expect("no panic while held").iter().filter(|at| **at >= since).count()
    }
}

/// Instances that a pod's sidecar finds unhealthy.
async fn failing(mesh: &Mesh, pod: &str) -> BTreeSet<SocketAddr> {
    let (_, page) = mesh.pod(pod).fetch("/endpoints").await.expect("the admin port answers");
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let items = page["items"].as_array().expect("a list").iter();
    let ill = items.filter(|item| item["usability"] == "failing_health");
    ill.filter_map(|item| item["address"].as_str()?.parse().ok()).collect()
}

/// Waits until the sidecars of these pods find exactly these instances unhealthy, and says how long it took.
async fn known(what: &str, mesh: &Mesh, pods: &[String], ill: &BTreeSet<SocketAddr>, limit: Duration) -> Duration {
    let began = Instant::now();
    until(what, limit, || async {
        for pod in pods {
            if failing(mesh, pod).await != *ill {
                return None;
            }
        }
        Some(())
    })
    .await;
    began.elapsed()
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

/// Two instances of `b` with sidecars, and the caller `a`.
async fn pair(interval: Duration) -> (Mesh, Vec<Application>) {
    let mut builder = Mesh::builder().resource(&policy(interval, 3)).pod(PodSpec::new("a"));
    for name in names("b", 2) {
        builder = builder.pod(PodSpec::new(&name).of(HOST).account("b"));
    }
    let mesh = builder.start().await;
    let mut applications = Vec::new();
    for name in names("b", 2) {
        applications.push(Application::start(mesh.application(&name)).await);
    }
    mesh.reachable("a", HOST).await;
    (mesh, applications)
}

#[tokio::test]
async fn instance_that_flips_ten_times_is_known_within_an_interval_and_a_second_and_no_call_fails() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let (mesh, applications) = pair(INTERVAL).await;
    let pods = ["a".to_owned()];
    let address = mesh.pod("b0").registered();
    let began = Instant::now();
    let load = Load::start(mesh.pod("a").outbound(), HOST);
    for flip in 0..10 {
        let ill = flip % 2 == 0;
        applications[0].is_ill(ill);
        let expected = if ill { BTreeSet::from([address]) } else { BTreeSet::new() };
        known(&format!("flip {flip}"), &mesh, &pods, &expected, INTERVAL + GRACE).await;
        let (before, sent) = ([applications[0].calls(), applications[1].calls()], load.sent());
        if ill {
            until_true("calls while it is ill", PATIENCE, || load.sent() > sent + 50).await;
            // One may have been on its way when the change came.
            assert!(applications[0].calls() <= before[0] + 1, "flip {flip}: an ill instance is called");
        } else {
            until_true("calls after it is well", PATIENCE, || applications[0].calls() > before[0] + 5).await;
        }
    }
    let intervals = began.elapsed().div_duration_f64(INTERVAL);
    load.end_without_failure("while an instance flips").await;
    for application in &applications {
        let probes = application.probes(began);
        assert!(probes as f64 <= intervals + 1.0, "{probes} probes by one caller in {intervals:.1} intervals");
    }
}

#[tokio::test]
async fn application_whose_sidecar_is_dead_is_unhealthy() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let (mut mesh, applications) = pair(INTERVAL).await;
    let pods = ["a".to_owned()];
    let address = mesh.pod("b0").registered();
    known("both are well", &mesh, &pods, &BTreeSet::new(), PATIENCE).await;
    mesh.pod_mut("b0").proxy().kill();
    known("a dead sidecar", &mesh, &pods, &BTreeSet::from([address]), INTERVAL + GRACE).await;
    let before = applications[0].calls();
    let load = Load::start(mesh.pod("a").outbound(), HOST);
    until_true("calls", PATIENCE, || load.sent() > 100).await;
    load.end_without_failure("beside a dead sidecar").await;
    assert_eq!(applications[0].calls(), before, "its application is up, and not called");
    mesh.pod_mut("b0").proxy().start_again();
    mesh.pod("b0").ready().await;
    known("its sidecar is back", &mesh, &pods, &BTreeSet::new(), INTERVAL + GRACE).await;
}

/// Instances without sidecar, so that probes of all callers cost little; callers with sidecars, and stand-ins.
struct Crowd {
    mesh: Mesh,
    sidecars: Vec<String>,
    standins: Vec<StandIn>,
    applications: Vec<Application>,
}

impl Crowd {
    async fn start(sidecars: usize, standins: usize, instances: usize, interval: Duration, shared_by: usize) -> Crowd {
        let block = Block::reserve();
        let plaintext = SocketAddr::from((block.address(1), 8087));
        let mut builder = Mesh::builder()
            .hold(block)
            .controller_argument(&format!("--plaintext-loopback={plaintext}"))
            .resource(&policy(interval, shared_by));
        let (callers, called) = (names("a", sidecars), names("b", instances));
        for name in &callers {
            builder = builder.pod(PodSpec::new(name).setting("LANEMESH_WORKERS", "2"));
        }
        for name in &called {
            builder = builder.pod(PodSpec::new(name).of(HOST).account("b").plain());
        }
        let mesh = builder.start().await;
        let mut applications = Vec::new();
        for name in &called {
            applications.push(Application::start(mesh.application(name)).await);
        }
        for name in &callers {
            mesh.reachable(name, HOST).await;
        }
        let standins = names("standin", standins).into_iter().map(|name| StandIn::start(name, plaintext, interval));
        let standins: Vec<_> = standins.collect();
        for standin in &standins {
            until_true("a stand-in is answered", PATIENCE, || standin.is_answered()).await;
        }
        Crowd { mesh, sidecars: callers, standins, applications }
    }

    /// Waits until every caller finds exactly these instances unhealthy.
    async fn known(&self, what: &str, ill: &BTreeSet<SocketAddr>, limit: Duration) -> Duration {
        let began = Instant::now();
        known(what, &self.mesh, &self.sidecars, ill, limit).await;
        let left = limit.saturating_sub(began.elapsed());
        until_true(what, left, || self.standins.iter().all(|standin| standin.failing() == *ill)).await;
        began.elapsed()
    }

    fn address(&self, instance: usize) -> SocketAddr {
        self.mesh.pod(&format!("b{instance}")).registered()
    }
}

#[tokio::test]
async fn many_callers_probe_each_instance_three_times_an_interval_at_most_and_all_know_in_time_full_length() {
    const INTERVAL: Duration = Duration::from_secs(2);
    const SHARED_BY: usize = 3;
    let (sidecars, standins, instances, flips) = length::of((3, 7, 5, 4), (5, 95, 50, 10));
    let crowd = Crowd::start(sidecars, standins, instances, INTERVAL, SHARED_BY).await;
    // Who came last has taken over its part by then.
    pace(INTERVAL * 2).await;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for flip in 0..flips {
        let (instance, is_ill) = (flip / 2 % instances, flip % 2 == 0);
        crowd.applications[instance].is_ill(is_ill);
        let ill = if is_ill { BTreeSet::from([crowd.address(instance)]) } else { BTreeSet::new() };
        slowest = slowest.max(crowd.known(&format!("flip {flip}"), &ill, INTERVAL + GRACE).await);
    }
    pace((INTERVAL * 5).saturating_sub(began.elapsed())).await;
    let intervals = began.elapsed().div_duration_f64(INTERVAL);
    let probes: Vec<usize> = crowd.applications.iter().map(|application| application.probes(began)).collect();
    let most = (SHARED_BY as f64 * (intervals + 1.0)).floor() as usize;
    println!("{probes:?} probes in {intervals:.1} intervals, at most {most}; all knew of a flip after {slowest:?}");
    assert!(probes.iter().all(|count| (1..=most).contains(count)), "{probes:?} in {intervals:.1} intervals");
}

#[tokio::test]
async fn everyone_probes_for_himself_without_a_controller_and_shares_again_with_one() {
    const INTERVAL: Duration = Duration::from_secs(1);
    let mut crowd = Crowd::start(3, 0, 2, INTERVAL, 1).await;
    let shared = |crowd: &Crowd| {
        let since = Instant::now() - INTERVAL * 4;
        crowd.applications.iter().all(|application| (2..=5).contains(&application.probes(since)))
    };
    until_true("one caller probes each instance", PATIENCE, || shared(&crowd)).await;
    crowd.mesh.controller.kill();
    let alone = |crowd: &Crowd| {
        let since = Instant::now() - INTERVAL * 4;
        crowd.applications.iter().all(|application| application.probes(since) >= 9)
    };
    until_true("all three probe each instance", PATIENCE, || alone(&crowd)).await;
    for is_ill in [true, false] {
        crowd.applications[0].is_ill(is_ill);
        let ill = if is_ill { BTreeSet::from([crowd.address(0)]) } else { BTreeSet::new() };
        crowd.known("a flip without a controller", &ill, INTERVAL + GRACE).await;
    }
    crowd.mesh.controller.start_again();
    crowd.mesh.controller_ready().await;
    until_true("one caller probes each instance again", PATIENCE * 2, || shared(&crowd)).await;
}

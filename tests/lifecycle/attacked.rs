//! Two sidecars that are attacked while good clients call through both of them: what nobody may notice, and what the
//! sidecars may take meanwhile.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mesh_tests::{
    client::{self, Version},
    load::Load,
    mesh::Mesh,
    metrics::Metrics,
    peer::{Handshake, Leaf},
    pod::{NAMESPACE, PodSpec, TRUST_DOMAIN},
    server::Server,
    wait::{PATIENCE, pace, until},
};
use tokio::task::JoinHandle;

use crate::{
    applications,
    callers::{Callers, HOST, Kind},
};

/// Pods whose sidecars are attacked: that of the callers, and that of the service.
pub(crate) const ATTACKED: [&str; 2] = ["a", "b"];
/// There is one instance, which bears what the attackers' requests take of it: what is shown is the sidecars.
const POLICY: &str = "\
apiVersion: lanemesh.io/v1alpha1
kind: TrafficPolicy
metadata: {name: b, namespace: demo}
spec: {service: b, limits: {connections: 16384, requests: 16384}}";
/// Pause of each good client between two requests: with the load of new connections they are about 200 a second.
const PAUSE: Duration = Duration::from_millis(25);
/// Good clients are answered so often a second at least, on a machine on which much else runs.
const RATE_MIN: u64 = 20;
/// How long a sidecar may be busy after an attack, on a machine on which much else runs, …
const BUSY_MAX: Duration = Duration::from_secs(20);
/// … and how long it is looked at to see that it is not.
const LOOK: Duration = Duration::from_millis(300);
/// Ticks of processor time (10 ms each) that an idle sidecar may take in that time.
const IDLE_TICKS: u64 = 3;
/// Between two looks at the memory of a sidecar.
const MEMORY_PAUSE: Duration = Duration::from_millis(20);

/// The mesh under attack.
pub(crate) struct Attacked {
    pub(crate) mesh: Mesh,
    _application: Server,
}

impl Attacked {
    /// Callers beside `a` and the service `b`, both sidecars with these settings, started under these words.
    pub(crate) async fn start(settings: &[(&str, &str)], under: impl Fn(&str) -> Vec<String>) -> Attacked {
        let spec = |name: &str| {
            let spec = PodSpec::new(name).under(&under(name));
            settings.iter().fold(spec, |spec, (name, value)| spec.setting(name, *value))
        };
        let mesh = Mesh::builder().pod(spec("a")).pod(spec("b").of(HOST)).resource(POLICY).start().await;
        let application = applications::start(mesh.application("b")).await;
        let attacked = Attacked { mesh, _application: application };
        let outbound = attacked.mesh.pod("a").outbound();
        until("the service answers", PATIENCE, || async {
            client::get(outbound, Version::Http1, HOST, "/", &[]).await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        attacked
    }

    /// A mesh peer that the policy of `b` lets in.
    pub(crate) fn peer(&self) -> Handshake {
        Handshake::with(self.mesh.authority().sign(&Leaf::of(TRUST_DOMAIN, NAMESPACE, "a")))
    }

    /// What a sidecar counts.
    pub(crate) async fn metrics(&self, pod: &str) -> Metrics {
        self.mesh.pod(pod).metrics().await
    }

    /// How often a sidecar shed something for this reason.
    pub(crate) async fn shed(&self, pod: &str, reason: &str) -> f64 {
        self.metrics(pod).await.sum("mesh_shed_total", &[("reason", reason)])
    }

    /// What a sidecar shed, by reason.
    pub(crate) async fn shed_all(&self, pod: &str) -> Vec<(String, f64)> {
        let samples = self.metrics(pod).await.samples.into_iter();
        let shed = samples.filter(|sample| sample.name == "mesh_shed_total" && sample.value > 0.0);
        shed.map(|sample| (sample.labels.get("reason").cloned().unwrap_or_default(), sample.value)).collect()
    }

    /// Attacks while good clients call: none of their requests fails, no sidecar takes more memory than `memory` MiB, and
    /// all are idle again when it is over.
    pub(crate) async fn bears(&self, when: &str, memory: u64, attack: impl Future<Output = ()>) {
        self.bears_nearly(when, (memory, 0.0), attack).await;
    }

    /// As [`Attacked::bears`], where so great a part of the good requests may fail.
    pub(crate) async fn bears_nearly(&self, when: &str, (memory, lost): (u64, f64), attack: impl Future<Output = ()>) {
        let outbound = self.mesh.pod("a").outbound();
        let kinds = [Kind::Http1Get, Kind::Http1Post, Kind::Http2];
        let callers = Callers::start(None, outbound, &kinds, 1, PAUSE);
        let load = Load::start(outbound, HOST);
        let watched = ATTACKED.map(|pod| self.watch_memory(pod));
        let began = Instant::now();
        attack.await;
        let seconds = began.elapsed().as_secs();
        let kept: usize = callers.end_with_at_most(lost, when).await.values().sum();
        let answered = (kept + load.end_with_at_most(lost, when).await) as u64;
        assert!(answered >= seconds * RATE_MIN, "{when}: only {answered} answers in {seconds} s");
        let memory_used = watched.map(Watched::end);
        eprintln!("{when}: {answered} answers in {seconds} s, memory (KiB) {memory_used:?}");
        for (pod, used) in ATTACKED.iter().zip(memory_used) {
            assert!(used <= memory * 1024, "{when}: the sidecar of {pod} took {used} KiB");
        }
        for pod in ATTACKED {
            self.is_idle(pod, when).await;
        }
    }

    fn pid(&self, pod: &str) -> u32 {
        let sidecar = self.mesh.pod(pod).sidecar.as_ref().expect("it has a sidecar");
        assert!(!sidecar.has_ended(), "the sidecar of {pod} ended");
        sidecar.pid()
    }

    /// Waits until a sidecar hardly takes the processor any more.
    async fn is_idle(&self, pod: &str, when: &str) {
        let (pid, began) = (self.pid(pod), Instant::now());
        loop {
            let before = ticks(pid);
            pace(LOOK).await;
            let used = ticks(pid) - before;
            if used <= IDLE_TICKS {
                return;
            }
            assert!(began.elapsed() < BUSY_MAX, "{when}: the sidecar of {pod} is still busy: {used} ticks in {LOOK:?}");
        }
    }

    fn watch_memory(&self, pod: &str) -> Watched {
        let (pid, most) = (self.pid(pod), Arc::new(AtomicU64::new(0)));
        let noted = Arc::clone(&most);
        let watching = tokio::spawn(async move {
            loop {
                noted.fetch_max(resident(pid), Ordering::Relaxed);
                pace(MEMORY_PAUSE).await;
            }
        });
        Watched { most, watching }
    }
}

/// The most memory that a process took.
struct Watched {
    most: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl Watched {
    fn end(self) -> u64 {
        self.watching.abort();
        self.most.load(Ordering::Relaxed)
    }
}

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|figure| figure.parse().ok()).unwrap_or_default()
}

/// Processor time of a process, user and system, in ticks (fields 14 and 15 of `/proc/<pid>/stat`, proc(5)).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11)).into_iter().flatten();
    fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

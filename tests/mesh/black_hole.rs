//! A lane's only instance behind a black hole: packets between it and its caller are dropped, so that nothing is refused,
//! reset or closed. What was under way may fail; what comes later is served by the next level within one detection
//! interval, with every time limit at its default; the instance returns once the hole is gone.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request};
use hyper::body::Incoming;
use mesh_tests::{
    client::{Connection, Version, full, request},
    mesh::Mesh,
    netns::Inside,
    pod::PodSpec,
    programs,
    server::{Server, text},
    wait::{PATIENCE, pace, until, until_true},
};
use tokio::time::Instant;

/// Limits of time are the defaults; what was ejected is tried again soon, so that the test sees it return.
const RESOURCES: &str = "apiVersion: lanemesh.io/v1alpha1
kind: LaneGroup
metadata: {name: shop, namespace: demo}
spec: {services: ['*'], entries: [client]}
---
apiVersion: lanemesh.io/v1alpha1
kind: Lane
metadata: {name: canary, namespace: demo}
spec: {group: shop}
---
apiVersion: lanemesh.io/v1alpha1
kind: TrafficPolicy
metadata: {name: b, namespace: demo}
spec:
  service: b
  outlierDetection: {baseEjectionTime: 2s}
  # All that the lane is sent fails at once, which is more than the default budget repeats.
  retries: {budget: {percent: 100, minPerSecond: 100}}
";
/// How long it may take until the caller's sidecar knows: HTTP/2 asks a silent peer after 2 s and waits 3 s.
const DETECTION: Duration = Duration::from_secs(5);
/// Longest time for an attempt to connect, and for what leads from one level to the next: no request takes longer than
/// detection and this.
const CONNECT: Duration = Duration::from_secs(2);
/// The same for a request that the instance has acknowledged and works on when the hole opens: there is nothing that could
/// be sent in vain, until the kernel asks after 10 s, and twice more.
const DETECTION_AT_WORK: Duration = Duration::from_secs(16);
/// On this path the lane's instance works for ever.
const SLOW: &str = "/slow";
/// Between two requests of the load, whether the earlier are answered or not.
const PAUSE: Duration = Duration::from_millis(20);

/// One request that ended.
#[derive(Clone, Debug)]
struct Seen {
    began: Instant,
    took: Duration,
    method: Method,
    served: String,
}

/// Requests of the lane in a steady stream, half of them repeatable.
struct Load {
    seen: Arc<Mutex<Vec<Seen>>>,
    sent: Arc<Mutex<Vec<Instant>>>,
    _inside: Inside,
}

impl Load {
    fn start(mesh: &Mesh, version: Version) -> Load {
        let (seen, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (into, begun) = (Arc::clone(&seen), Arc::clone(&sent));
        let to = mesh.pod("client").outbound();
        let inside = Inside::run(&space(mesh, "client"), move || async move {
            for number in 0u64.. {
                let into = Arc::clone(&into);
                let began = Instant::now();
                begun.lock().expect("no panic while held").push(began);
                tokio::spawn(async move {
                    let method = if number.is_multiple_of(2) { Method::GET } else { Method::POST };
                    let served = call(to, version, method.clone(), "/").await;
                    let seen = Seen { began, took: began.elapsed(), method, served };
                    into.lock().expect("no panic while held").push(seen);
                });
                pace(PAUSE).await;
            }
        });
        Load { seen, sent, _inside: inside }
    }

    /// Answers of requests that began in this time; `None` while one of them is not answered.
    fn between(&self, from: Instant, to: Instant) -> Option<Vec<Seen>> {
        let sent = self.sent.lock().expect("no panic while held");
        let begun = sent.iter().filter(|began| **began >= from && **began < to).count();
        let is_over = sent.last().is_some_and(|began| *began >= to);
        let mut seen = self.seen.lock().expect("no panic while held").clone();
        seen.retain(|one| one.began >= from && one.began < to);
        seen.sort_by_key(|one| one.began);
        (is_over && seen.len() == begun).then_some(seen)
    }

    /// Waits until every request is answered that began in this time.
    async fn all(&self, from: Instant, length: Duration) -> Vec<Seen> {
        let to = from + length;
        let limit = to.saturating_duration_since(Instant::now()) + PATIENCE;
        until("all answers", limit, || async { self.between(from, to) }).await
    }

    /// Waits until this pod serves all requests of half a second, and says since when.
    async fn served_by(&self, pod: &str) -> Instant {
        let length = Duration::from_millis(500);
        until(&format!("{pod} serves"), PATIENCE, || async {
            let from = Instant::now().checked_sub(2 * length)?;
            let seen = self.between(from, from + length)?;
            (seen.len() > 10 && seen.iter().all(|one| one.served == pod)).then_some(from)
        })
        .await
    }
}

/// Who serves a request of the lane, or why nobody does.
async fn call(to: SocketAddr, version: Version, method: Method, path: &str) -> String {
    let answered = async {
        let mut connection = Connection::open(to, version).await?;
        connection.send(request(method, "b", path, &[("x-mesh-lane", "canary")], full(""))).await
    };
    match answered.await {
        Ok(answer) if answer.status == 200 => answer.text(),
        Ok(answer) => format!("{} {}", answer.status, answer.text()),
        Err(error) => format!("{error:#}"),
    }
}

/// A request on which the lane's instance works; who served it at last, and how long that took.
struct AtWork {
    served: Arc<Mutex<Option<(String, Duration)>>>,
    _inside: Inside,
}

impl AtWork {
    async fn begin(mesh: &Mesh, version: Version, is_asked: &AtomicBool) -> AtWork {
        let served = Arc::new(Mutex::new(None));
        let (to, into) = (mesh.pod("client").outbound(), Arc::clone(&served));
        let inside = Inside::run(&space(mesh, "client"), move || async move {
            let began = Instant::now();
            let by = call(to, version, Method::GET, SLOW).await;
            *into.lock().expect("no panic while held") = Some((by, began.elapsed()));
        });
        until_true("the lane's instance works", PATIENCE, || is_asked.load(Ordering::SeqCst)).await;
        AtWork { served, _inside: inside }
    }

    async fn end(&self) -> (String, Duration) {
        until("an answer to what was worked on", PATIENCE, || async {
            self.served.lock().expect("no panic while held").clone()
        })
        .await
    }
}

fn space(mesh: &Mesh, pod: &str) -> String {
    mesh.pod(pod).namespace.clone().expect("pods are namespaces")
}

/// The namespace of a pod, in which packets from and to another one are dropped until this is.
struct Hole(String);

impl Hole {
    fn open(mesh: &Mesh, at: &str, toward: &str) -> Hole {
        let peer = mesh.pod(toward).address;
        let hole = Hole(space(mesh, at));
        hole.nft(&format!(
            "table ip hole {{
               chain from {{ type filter hook prerouting priority raw; ip saddr {peer} drop; }}
               chain to {{ type filter hook output priority raw; ip daddr {peer} drop; }}
             }}"
        ));
        hole
    }

    fn nft(&self, rules: &str) {
        let done = Command::new(programs::system("ip")).args(["netns", "exec", &self.0, "nft", rules]).output();
        let done = done.expect("ip can be run");
        assert!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        self.nft("delete table ip hole");
    }
}

/// `b` with one instance in baseline and one in the lane `canary`, all pods in namespaces.
async fn start() -> (Mesh, Vec<Inside>, Arc<AtomicBool>) {
    let canary = PodSpec::new("b-canary").of("b").account("b").label("lane", "canary");
    let builder = Mesh::builder().captured().pod(PodSpec::new("client")).pod(PodSpec::new("b").of("b")).pod(canary);
    let mesh = builder.resource(RESOURCES).start().await;
    let is_asked = Arc::new(AtomicBool::new(false));
    let application = |pod: &'static str| {
        let (address, is_asked) = (mesh.application(pod), Arc::clone(&is_asked));
        Inside::run(&space(&mesh, pod), move || async move {
            let answer = move |request: Request<Incoming>| {
                let is_slow = pod == "b-canary" && request.uri().path() == SLOW;
                is_asked.fetch_or(is_slow, Ordering::SeqCst);
                async move { if is_slow { std::future::pending().await } else { text(pod) } }
            };
            let _server = Server::start(address, answer).await;
            std::future::pending().await
        })
    };
    let applications = ["b", "b-canary"].map(application).into();
    (mesh, applications, is_asked)
}

fn counted(seen: &[Seen]) -> BTreeMap<&str, usize> {
    let mut counted = BTreeMap::new();
    for one in seen {
        *counted.entry(one.served.as_str()).or_default() += 1;
    }
    counted
}

async fn falls_back_and_returns(version: Version) {
    let (mesh, _applications, is_asked) = start().await;
    let load = Load::start(&mesh, version);
    load.served_by("b-canary").await;
    let at_work = AtWork::begin(&mesh, version, &is_asked).await;
    // Until then the kernel has acknowledged it, too.
    load.all(Instant::now(), Duration::from_millis(500)).await;
    let broken = Instant::now();
    let hole = Hole::open(&mesh, "b-canary", "client");
    // Several time outs of the ejection: 2, 4 and 6 s.
    let meanwhile = load.all(broken, DETECTION).await;
    let later = load.all(broken + DETECTION, Duration::from_secs(8)).await;
    let longest = meanwhile.iter().map(|one| one.took).max().unwrap_or_default();
    let failed = meanwhile.iter().filter(|one| !one.served.starts_with('b')).count();
    println!("{version:?}: of {} meanwhile {failed} failed, the longest took {longest:?}", meanwhile.len());
    let repeatable = |one: &&Seen| one.method == Method::GET && one.served != "b" && one.served != "b-canary";
    assert_eq!(meanwhile.iter().find(repeatable).map(|one| &one.served), None, "what may be repeated is served");
    assert!(longest < DETECTION + CONNECT, "a request was held for {longest:?}");
    assert_eq!(counted(&later), BTreeMap::from([("b", later.len())]), "after the detection interval");
    let slowest = later.iter().map(|one| one.took).max().unwrap_or_default();
    let ejections = mesh.pod("client").metrics().await.sum("mesh_endpoint_ejections_total", &[("service", "b.demo")]);
    println!("{version:?}: {} later all by b, the slowest took {slowest:?}; {ejections} ejections", later.len());
    assert!((1.0..=4.0).contains(&ejections), "{ejections} ejections");
    let (served, took) = at_work.end().await;
    println!("{version:?}: what was worked on was served by {served} after {took:?}");
    assert!(served == "b" && took < DETECTION_AT_WORK, "{served} after {took:?}");
    drop(hole);
    let returned = load.served_by("b-canary").await;
    let after = load.all(returned, Duration::from_secs(2)).await;
    assert_eq!(counted(&after), BTreeMap::from([("b-canary", after.len())]), "it returned for good");
}

#[tokio::test]
async fn lane_whose_only_instance_is_cut_off_falls_back_and_returns() {
    falls_back_and_returns(Version::Http1).await;
}

#[tokio::test]
async fn lane_whose_only_instance_is_cut_off_falls_back_and_returns_over_http2() {
    falls_back_and_returns(Version::Http2).await;
}

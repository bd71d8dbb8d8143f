//! The share of new instances while they warm up, measured at applications that callers reach through real sidecars, with
//! every algorithm. One and three callers here; fifty in simulated time (`core/tests/warm_up.rs`).

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use mesh_tests::{
    client::{Connection, Version, full, request},
    length,
    mesh::Mesh,
    pod::PodSpec,
    server::{Server, text},
    wait::{PATIENCE, pace, until},
};
use tokio::{task::JoinSet, time::Instant};

/// Each is a service of that name.
const ALGORITHMS: [&str; 6] = ["peakEwma", "leastRequest", "roundRobin", "random", "ringHash", "maglev"];
/// Instances of each service in the end.
const INSTANCES: usize = 10;
/// How far a share may be from the curve.
const POINTS: f64 = 0.03;
/// Parts of a warm-up that are looked at one by one.
const PARTS: usize = 2;
/// Requests by which a part is judged, at least.
const ENOUGH: usize = 300;
/// What chance may add, standard deviations of a share that so many requests are drawn by.
const CHANCE: f64 = 3.0;
/// First port of the instances.
const PORT: u16 = 9_000;

struct World {
    mesh: Mesh,
    callers: usize,
    length: Duration,
    /// By algorithm.
    instances: Vec<Vec<Server>>,
}

fn host(algorithm: &str) -> String {
    algorithm.to_lowercase()
}

impl World {
    async fn start(callers: usize, length: Duration) -> World {
        // One worker each: every worker is a caller of its own.
        let spec = |caller| PodSpec::new(&pod(caller)).setting("LANEMESH_WORKERS", "1");
        let builder = (0..callers).fold(Mesh::builder(), |builder, caller| builder.pod(spec(caller)));
        let mesh = builder.start().await;
        let mut instances = Vec::new();
        for algorithm in 0..ALGORITHMS.len() {
            let mut servers = Vec::new();
            for instance in 0..INSTANCES {
                let port = PORT + (algorithm * INSTANCES + instance) as u16;
                servers.push(Server::start((mesh.address(200), port).into(), |_| async { text("") }).await);
            }
            instances.push(servers);
        }
        World { mesh, callers, length, instances }
    }

    /// Has every service have its first so many instances, and waits until every caller sees them.
    async fn set(&self, count: usize) {
        let mut yaml = "apiVersion: lanemesh.io/v1alpha1\nkind: Services\nservices:\n".to_owned();
        let mut policies = String::new();
        for (algorithm, servers) in ALGORITHMS.iter().zip(&self.instances) {
            let host = host(algorithm);
            let endpoints = if count == 0 { " []" } else { "" };
            let _ = write!(yaml, "- name: {host}\n  namespace: demo\n  ports: [{{port: 80, protocol: http1}}]\n");
            let _ = writeln!(yaml, "  endpoints:{endpoints}");
            for server in &servers[..count] {
                let _ = write!(yaml, "  - address: {}\n    port: 80\n", server.address);
            }
            let hash =
                if algorithm.ends_with("Hash") || *algorithm == "maglev" { ", hashOn: [header:x-key]" } else { "" };
            let _ = write!(
                policies,
                "---\napiVersion: lanemesh.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {host}, namespace: \
                 demo}}\nspec:\n  service: {host}\n  warmUp: {{duration: {}ms}}\n  loadBalancing: {{algorithm: \
                 {algorithm}{hash}}}\n",
                self.length.as_millis()
            );
        }
        self.mesh.write_source("warm-up.yaml", &(yaml + &policies));
        for caller in 0..self.callers {
            until("the caller sees the instances", PATIENCE, || async {
                let (_, page) = self.mesh.pod(&pod(caller)).fetch("/endpoints").await.ok()?;
                let page: serde_json::Value = serde_json::from_str(&page).ok()?;
                let known = page["items"].as_array()?.len();
                // Nobody asks for what has not been called yet.
                (known == 0 || known == count * ALGORITHMS.len()).then_some(())
            })
            .await;
        }
    }

    async fn reachable(&self) {
        for caller in 0..self.callers {
            for algorithm in ALGORITHMS {
                self.mesh.reachable(&pod(caller), &host(algorithm)).await;
            }
        }
    }

    /// Requests that each instance has got, by algorithm.
    fn counts(&self) -> Vec<Vec<usize>> {
        self.instances.iter().map(|servers| servers.iter().map(|server| server.seen.requests()).collect()).collect()
    }

    /// Shares of the instances from `old` on, by algorithm, in each of so many parts of the warm-up that begins now, and of
    /// how many requests.
    async fn shares(&self, old: usize, parts: usize) -> Vec<Vec<(f64, usize)>> {
        let mut found = vec![Vec::new(); ALGORITHMS.len()];
        let begun = Instant::now();
        for part in 1..=parts {
            let before = self.counts();
            let end = begun + self.length.mul_f64(part as f64 / PARTS as f64);
            pace(end.saturating_duration_since(Instant::now())).await;
            for (algorithm, (before, after)) in before.iter().zip(self.counts()).enumerate() {
                let got: Vec<usize> = before.iter().zip(after).map(|(before, after)| after - before).collect();
                let all: usize = got.iter().sum();
                assert!(all >= ENOUGH, "{}: only {all} requests to judge by", ALGORITHMS[algorithm]);
                found[algorithm].push((got[old..].iter().sum::<usize>() as f64 / all as f64, all));
            }
        }
        println!("{} callers, {old} old ones: {found:.4?}", self.callers);
        found
    }

    /// Callers of every service until the set is dropped, each with a key of its own for every request.
    fn call(&self, stop: &Arc<AtomicBool>) -> JoinSet<()> {
        let mut callers = JoinSet::new();
        for caller in 0..self.callers {
            let to = self.mesh.pod(&pod(caller)).outbound();
            for algorithm in ALGORITHMS {
                let stop = Arc::clone(stop);
                callers.spawn(async move {
                    let host = host(algorithm);
                    let mut connection = Connection::open(to, Version::Http1).await.expect("the sidecar listens");
                    while !stop.load(Ordering::Relaxed) {
                        let key: u64 = rand::random();
                        let fields = [("x-key", format!("{key:x}"))];
                        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
                        let answer = connection.send(request(Method::GET, &host, "/", &fields, full(""))).await;
                        let answer = answer.unwrap_or_else(|error| panic!("{algorithm}: {error:#}"));
                        assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
                    }
                });
            }
        }
        callers
    }
}

fn pod(caller: usize) -> String {
    format!("a{caller}")
}

/// What `new` of `all` should have in a part: the curve of the default policy, `t` squared and 2 % at least.
fn curve(new: f64, all: f64, part: usize) -> f64 {
    const STEPS: usize = 100;
    let share = |step: usize| {
        let passed = (part as f64 + step as f64 / STEPS as f64) / PARTS as f64;
        let weight = (passed * passed).max(0.02);
        new * weight / (all - new + new * weight)
    };
    (0..STEPS).map(share).sum::<f64>() / STEPS as f64
}

/// Whether an algorithm is judged here. Peak EWMA goes by how fast answers come: where a mesh and its tests share two
/// cores, and for as long as a shortened warm-up lasts, chance in that outweighs age.
fn is_judged(algorithm: &str) -> bool {
    algorithm != "peakEwma" || length::of(false, true)
}

fn assert_shares(what: &str, found: &[Vec<(f64, usize)>], expected: impl Fn(usize) -> f64) {
    for (algorithm, parts) in ALGORITHMS.iter().zip(found).filter(|(algorithm, _)| is_judged(algorithm)) {
        for (part, (found, all)) in parts.iter().enumerate() {
            let expected = expected(part);
            let place = format!("{what}, {algorithm}, part {part} ({all} requests)");
            let chance = CHANCE * (expected * (1.0 - expected) / *all as f64).sqrt();
            assert!((found - expected).abs() <= POINTS + chance, "{place}: {found} instead of {expected}");
        }
    }
}

async fn follows(callers: usize) {
    let length = length::of(Duration::from_secs(8), Duration::from_secs(120));
    let world = World::start(callers, length).await;
    let stop = Arc::new(AtomicBool::new(false));
    // Nine that are all there when the callers begin: nobody is new.
    world.set(9).await;
    world.reachable().await;
    let calling = world.call(&stop);
    world.set(10).await;
    let found = world.shares(9, PARTS / 2).await;
    assert_shares("1 of 10", &found, |part| curve(1.0, 10.0, part));
    // It restarts while it warms up, and begins again.
    world.set(9).await;
    world.set(10).await;
    let found = world.shares(9, PARTS).await;
    assert_shares("1 of 10 after its restart", &found, |part| curve(1.0, 10.0, part));
    // Five that leave and come are half of all.
    world.set(5).await;
    world.set(10).await;
    let found = world.shares(5, PARTS / 2).await;
    assert_shares("5 of 10", &found, |_| 0.5);
    stop.store(true, Ordering::Relaxed);
    calling.join_all().await;
    // The first of all is alone, whatever its age.
    world.set(0).await;
    world.set(1).await;
    world.reachable().await;
    let stop = Arc::new(AtomicBool::new(false));
    let calling = world.call(&stop);
    let found = world.shares(0, PARTS / 2).await;
    assert_shares("0 to 1", &found, |_| 1.0);
    stop.store(true, Ordering::Relaxed);
    calling.join_all().await;
}

#[tokio::test]
async fn one_caller_gives_new_instances_the_share_of_the_curve_full_length() {
    follows(1).await;
}

#[tokio::test]
async fn three_callers_give_new_instances_the_share_of_the_curve_full_length() {
    follows(3).await;
}

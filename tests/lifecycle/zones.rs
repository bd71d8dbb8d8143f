//! Zones: one that loses capacity spills in proportion and gets its calls back without a herd; one that is drained gets none,
//! and nobody who calls notices. Shares are counted at the instances.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use mesh_tests::{
    client::{Version, full, request},
    load::Load,
    mesh::Mesh,
    pod::PodSpec,
    server::{Server, text},
    wait::{PATIENCE, until, until_true},
};

use crate::callers::HOST;

const ZONES: [&str; 3] = ["za", "zb", "zc"];
/// Longest run of a command.
const LIMIT: Duration = Duration::from_secs(30);

/// A caller in each zone, and instances of one service, without sidecars, in all of them.
struct World {
    mesh: Mesh,
    instances: BTreeMap<String, Server>,
}

fn instance(zone: &str, number: usize) -> String {
    format!("{zone}{number}")
}

fn caller(zone: &str) -> String {
    format!("caller-{zone}")
}

impl World {
    /// So many instances in each zone, called by this policy.
    async fn start(each: usize, policy: &str) -> World {
        let mut builder = Mesh::builder();
        if !policy.is_empty() {
            builder = builder.resource(policy);
        }
        for zone in ZONES {
            let spec = PodSpec::new(&caller(zone)).of("callers").zone(zone).setting("LANEMESH_WORKERS", "1");
            builder = builder.pod(spec);
            for number in 0..each {
                builder = builder.pod(PodSpec::new(&instance(zone, number)).of(HOST).zone(zone).plain());
            }
        }
        let mut world = World { mesh: builder.start().await, instances: BTreeMap::new() };
        for zone in ZONES {
            for number in 0..each {
                world.start_instance(zone, number).await;
            }
        }
        for zone in ZONES {
            world.mesh.reachable(&caller(zone), HOST).await;
        }
        world
    }

    async fn start_instance(&mut self, zone: &str, number: usize) {
        let name = instance(zone, number);
        let server = Server::start(self.mesh.application(&name), |_| std::future::ready(text("x"))).await;
        self.instances.insert(name, server);
    }

    async fn stop_instance(&mut self, zone: &str, number: usize) {
        self.instances.remove(&instance(zone, number)).expect("it runs").stop().await;
    }

    /// Waits until every caller knows how many instances cannot be used.
    async fn all_know(&self, unusable: usize) {
        for zone in ZONES {
            let pod = self.mesh.pod(&caller(zone));
            until("the callers know who is down", PATIENCE, || async {
                let seen = pod.metrics().await.sum("mesh_endpoints_unusable", &[("reason", "failing_health")]);
                (seen == unusable as f64).then_some(())
            })
            .await;
        }
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        self.instances.iter().map(|(name, server)| (name.clone(), server.seen.requests())).collect()
    }

    /// So many requests of each caller, all of which must succeed; how many each instance got.
    async fn measure(&self, requests: usize) -> Measured {
        let before = self.counts();
        let call = async |zone: &str| {
            let mut connection =
                self.mesh.connection(&caller(zone), Version::Http1).await.expect("the sidecar listens");
            for number in 0..requests {
                let sent = connection.send(request(Method::GET, HOST, "/", &[], full(""))).await;
                let answer = sent.unwrap_or_else(|error| panic!("request {number} from {zone}: {error:#}"));
                assert_eq!(answer.status, 200, "request {number} from {zone}: {}", answer.text());
            }
        };
        tokio::join!(call(ZONES[0]), call(ZONES[1]), call(ZONES[2]));
        let counts = self.counts().into_iter().map(|(name, count)| (name.clone(), count - before[&name])).collect();
        Measured { counts, total: 3 * requests }
    }

    async fn ctl(&self, line: &str) -> (Option<i32>, String) {
        let line = format!("--controller {} {line}", self.mesh.controller_admin());
        let done = self.mesh.ctl(line.split(' ')).run(&self.mesh.logs(), LIMIT).await;
        (done.status.code(), done.output)
    }
}

#[derive(Debug)]
struct Measured {
    counts: BTreeMap<String, usize>,
    total: usize,
}

impl Measured {
    fn of_zone(&self, zone: &str) -> usize {
        self.counts.iter().filter(|(name, _)| name.starts_with(zone)).map(|(_, count)| count).sum()
    }

    /// The most that one instance got, as a multiple of what each would get of `usable` ones.
    fn greatest(&self, usable: usize) -> f64 {
        let most = self.counts.values().max().copied().unwrap_or(0);
        most as f64 * usable as f64 / self.total as f64
    }
}

/// Probes alone say who is down; turns, so that only the draw of zones is by chance.
const PREFERRING: &str = "apiVersion: lanemesh.io/v1alpha1
kind: TrafficPolicy
metadata: {name: b, namespace: demo}
spec:
  service: b
  loadBalancing: {algorithm: roundRobin}
  warmUp: off
  healthCheck: {tcp: {}, interval: 200ms, timeout: 200ms, unhealthyThreshold: 1, healthyThreshold: 1}
  outlierDetection: {consecutiveGatewayFailures: 0, consecutiveLocalOriginFailures: 0}
  zones: {preferSame: true}
";

/// Part of its own callers' requests that a zone of ten serves when it has lost so many, and two others of ten none.
fn expected(lost: usize) -> f64 {
    let (left, share) = ((10 - lost) as f64, (30 - lost) as f64 / 3.0);
    (left / (0.7 * share)).min(1.0)
}

#[tokio::test]
async fn a_zone_that_loses_capacity_spills_in_proportion_and_gets_its_calls_back_without_a_herd() {
    const REQUESTS: usize = 600;
    let mut world = World::start(10, PREFERRING).await;
    for lost in 0..=10 {
        if lost > 0 {
            world.stop_instance("za", lost - 1).await;
        }
        world.all_know(lost).await;
        let measured = world.measure(REQUESTS).await;
        let (own, others) = (measured.of_zone("za"), [measured.of_zone("zb"), measured.of_zone("zc")]);
        let (part, greatest) = (own as f64 / REQUESTS as f64, measured.greatest(30 - lost));
        println!("{lost} of 10 lost: own zone {part:.3} (expected {:.3}), greatest {greatest:.2}", expected(lost));
        assert!((part - expected(lost)).abs() < 0.07, "{lost} lost: {part} of {}: {measured:?}", expected(lost));
        assert!(greatest < 1.5, "{lost} lost: {greatest} x the fair share: {measured:?}");
        let spilled = (REQUESTS - own) as f64 / 2.0;
        for other in others {
            let taken = other as f64 - REQUESTS as f64;
            assert!((taken - spilled).abs() < 0.07 * REQUESTS as f64, "{lost} lost: {taken} of {spilled}: {others:?}");
        }
    }
    for number in 0..10 {
        world.start_instance("za", number).await;
    }
    // Counted anew from here: servers that were started again begin at nothing.
    let (mut parts, mut greatest) = (Vec::new(), 0.0_f64);
    while parts.last().is_none_or(|part| *part < 0.999) {
        let measured = world.measure(REQUESTS / 6).await;
        parts.push(measured.of_zone("za") as f64 * 6.0 / REQUESTS as f64);
        // While it comes back, the others carry what they did before, when they were 20.
        greatest = greatest.max(measured.greatest(20));
        assert!(parts.len() < 2_000, "{parts:?}");
    }
    println!("{} batches until it had everything, greatest {greatest:.2}; parts {parts:.2?}", parts.len());
    let herd = parts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0_f64, f64::max);
    assert!(parts[0] < 0.5 && herd < 0.5, "the zone got its calls back at once: {parts:?}");
    assert!(greatest < 1.5, "{greatest} x the fair share while it came back");
    world.all_know(0).await;
}

#[tokio::test]
async fn traffic_of_a_zone_moves_away_and_back_by_one_command_and_nothing_fails() {
    let mut world = World::start(2, "").await;
    let load: Vec<Load> =
        ZONES.iter().map(|zone| Load::start(world.mesh.pod(&caller(zone)).outbound(), HOST)).collect();
    let (code, listed) = world.ctl("zone list").await;
    assert!(
        code == Some(0) && listed.contains("za") && listed.contains("3/3") && listed.contains("33.3 %"),
        "{listed}"
    );
    let (code, said) = world.ctl("zone drain za --reason power").await;
    assert!(code == Some(0) && said.contains("zone za is drained now"), "{said}");
    until("nobody calls the drained zone", PATIENCE, || async {
        (world.measure(50).await.of_zone("za") == 0).then_some(())
    })
    .await;
    let (_, listed) = world.ctl("zone list").await;
    let line = listed.lines().find(|line| line.starts_with("za")).unwrap_or_default();
    assert!(line.contains("drained") && line.contains(" 0.0 %") && line.contains("power"), "{listed}");
    let (_, shares) = world.ctl("zone list b.demo").await;
    assert!(shares.contains("50.0 %") && shares.contains("drained"), "{shares}");
    // Kept by the source: another controller on it says the same, and proxies stay as they are.
    world.mesh.controller.signal("TERM");
    world.mesh.controller.ended(PATIENCE).await;
    world.mesh.controller.start_again();
    world.mesh.controller_ready().await;
    until("the controller that was started again knows it", PATIENCE, || async {
        let zones = world.mesh.console("/api/v1/zones").await.ok()?;
        let zones = zones["items"].as_array()?.clone();
        zones.iter().any(|zone| zone["zone"] == "za" && zone["state"] == "drained").then_some(())
    })
    .await;
    assert_eq!(world.measure(50).await.of_zone("za"), 0);
    let (code, said) = world.ctl("zone restore za").await;
    assert!(code == Some(0) && said.contains("zone za is serving now"), "{said}");
    let mut parts: Vec<f64> = Vec::new();
    while parts.last().is_none_or(|part| *part < 0.25) {
        let measured = world.measure(50).await;
        parts.push(measured.of_zone("za") as f64 / measured.total as f64);
        assert!(parts.len() < 2_000, "{parts:?}");
    }
    println!("parts of the restored zone: {parts:.2?}");
    for load in load {
        assert!(load.end_without_failure("a zone is drained and restored").await > 100);
    }
    let (code, refused) = world.ctl("zone drain nowhere").await;
    assert!(code == Some(1) && refused.contains("zones are: za, zb, zc"), "{refused}");
}

#[tokio::test]
async fn a_proxy_that_restarts_without_a_controller_leaves_a_drained_zone_alone() {
    let mut world = World::start(2, "").await;
    assert_eq!(world.ctl("zone drain zb").await.0, Some(0));
    until("nobody calls the drained zone", PATIENCE, || async {
        (world.measure(20).await.of_zone("zb") == 0).then_some(())
    })
    .await;
    let kept = world.mesh.sidecar_state(&caller("za")).join("snapshot.json");
    until_true("the sidecar keeps what it was told", PATIENCE, || {
        std::fs::read_to_string(&kept).unwrap_or_default().contains(r#""drained_zones":["zb"]"#)
    })
    .await;
    world.mesh.controller.signal("TERM");
    world.mesh.controller.ended(PATIENCE).await;
    world.mesh.pod_mut(&caller("za")).proxy().start_again();
    world.mesh.pod(&caller("za")).ready().await;
    world.mesh.reachable(&caller("za"), HOST).await;
    assert_eq!(world.measure(50).await.of_zone("zb"), 0);
}
